# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""What command-line tools share: arguments, checks of the config, launching with and without a GPU."""
import argparse
import os
import os.path as osp
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.dist import init_dist, is_distributed
from mmengine.logging import print_log
from mmengine.registry import HOOKS, RUNNERS
from mmengine.runner import Runner

from mgcda.utils.configs import check_keys, read_config

# Hooks that the runner registers by itself, unless the config says None.
RUNNER_HOOKS = frozenset({'runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint'})
# What the launchers set, by the names of torch.distributed.
RANKS = dict(
    slurm=dict(RANK='SLURM_PROCID', WORLD_SIZE='SLURM_NTASKS', LOCAL_RANK='SLURM_LOCALID'),
    mpi=dict(RANK='OMPI_COMM_WORLD_RANK', WORLD_SIZE='OMPI_COMM_WORLD_SIZE', LOCAL_RANK='OMPI_COMM_WORLD_LOCAL_RANK'))


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that training, testing and fitting share."""
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir', help="folder for logs and checkpoints; default: the config's, else work_dirs/NAME")
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='entries that replace those of the config: key=value, a.b.c=value, key="[1,2]" or key=1,2; nested lists '
        'and tuples in quotation marks and without spaces: key="[(1,2),(3,4)]"')
    parser.add_argument(
        '--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none', help='what started the processes')
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help='set by launchers of old; LOCAL_RANK takes precedence')


def export_local_rank(args: argparse.Namespace) -> None:
    """Set LOCAL_RANK from ``--local-rank``, unless the launcher has set it."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))


def load_config(args: argparse.Namespace, required: Sequence[str]) -> Config:
    """The config with the command line applied to it, checked.

    Raises:
        FileNotFoundError: No such config.
        ValueError: A required key is missing, or one looks like a misspelt key of the runner.
    """
    cfg = read_config(args.config, args.cfg_options)
    check_keys(cfg, args.config)
    missing = [key for key in required if cfg.get(key) is None]
    if missing:
        raise ValueError(f'{args.config} has no {", ".join(missing)}, which {osp.basename(sys.argv[0])} needs')
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(args.config))[0])
    return cfg


def guard_checkpoints(cfg: Config) -> None:
    """Have checkpoints of another architecture refused, where the config imports mgcda but does not ask for it."""
    hooks = cfg.get('custom_hooks') or []
    registered = HOOKS.get('mmseg.CheckpointGuardHook') or HOOKS.get('CheckpointGuardHook')
    if registered and not any('CheckpointGuardHook' in str(hook.get('type')) for hook in hooks):
        cfg.custom_hooks = [*hooks, dict(type='mmseg.CheckpointGuardHook')]


def prepare_launcher(cfg: Config) -> None:
    """Without a GPU, start gloo (mmengine's own start needs a GPU) and have the model wrapped for the CPU.

    Raises:
        ValueError: The launcher did not start this process.
    """
    check_launcher(cfg.launcher)
    if cfg.launcher == 'none' or torch.cuda.is_available():
        return
    start_gloo(cfg.launcher, cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout', 1800))
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False))
    wrapper.update(cfg.get('model_wrapper_cfg') or {})
    wrapper['device_ids'] = None
    cfg.model_wrapper_cfg = wrapper
    if cfg.get('sync_bn') is not None or replace_sync_bn(cfg.model):
        print_log('SyncBN needs GPUs: each process uses plain BN on its own batch', logger='current')
        cfg.sync_bn = None


def start_gloo(launcher: str, timeout: int = 1800) -> None:
    """Start the process group of a launcher over gloo, unless there is one; ``timeout`` in seconds."""
    if launcher != 'none' and not torch.distributed.is_initialized():
        export_ranks(launcher)
        torch.distributed.init_process_group('gloo', timeout=timedelta(seconds=timeout))


def start_processes(launcher: str) -> None:
    """Start the process group of the launcher: NCCL where there is a GPU, gloo elsewhere."""
    check_launcher(launcher)
    if not torch.cuda.is_available():
        start_gloo(launcher)
    elif launcher != 'none' and not is_distributed():
        init_dist(launcher)


def stop_processes() -> None:
    """Wait for the other processes and close the group.

    A process that left early, while rank 0 still writes, would make the launcher end all of them.
    """
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def check_launcher(launcher: str) -> None:
    """Refuse a launcher that did not start this process.

    Raises:
        ValueError: A variable that it sets is not there.
    """
    missing = [name for name in RANKS.get(launcher, {}).values() if name not in os.environ]
    if missing:
        raise ValueError(f'--launcher {launcher} needs {", ".join(missing)} in the environment: start the tool by '
                         f'{"srun" if launcher == "slurm" else "mpirun"}, which sets it, or leave --launcher out')


def is_first_process(launcher: str) -> bool:
    """Whether this process is rank 0 of what the launcher started, also before they are joined."""
    check_launcher(launcher)
    if launcher == 'none':
        return True
    return os.environ.get(RANKS.get(launcher, dict(RANK='RANK'))['RANK'], '0') == '0'


def export_ranks(launcher: str) -> None:
    """Name rank, world size and the address of rank 0 as torch.distributed expects them; torchrun has done so."""
    env = os.environ
    if launcher not in RANKS:
        return
    check_launcher(launcher)
    ranks = {name: env[variable] for name, variable in RANKS[launcher].items()}
    env.update(ranks)
    env.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in env:
        env['MASTER_ADDR'] = first_slurm_host(env['SLURM_NODELIST']) if launcher == 'slurm' else '127.0.0.1'


def first_slurm_host(node_list: str) -> str:
    """First host of a Slurm node list such as ``node[3-5]``."""
    listing = subprocess.run(['scontrol', 'show', 'hostnames', node_list], check=True, capture_output=True, text=True)
    return listing.stdout.split()[0]


def replace_sync_bn(node: Any) -> bool:
    """Replace SyncBN by BN everywhere in a model's config; True where there was one."""
    replaced = False
    if isinstance(node, (dict, ConfigDict)):
        if node.get('type') in ('SyncBN', 'MMSyncBN'):
            node['type'] = 'BN'
            replaced = True
        children: Iterable[Any] = node.values()
    else:
        children = node if isinstance(node, (list, tuple)) else ()
    for child in children:
        replaced = replace_sync_bn(child) or replaced
    return replaced


def leave_out_hooks(cfg: Config) -> None:
    """Drop the hooks that are None; the runner does so with its own alone, and refuses others."""
    hooks = cfg.get('default_hooks') or {}
    for name in [name for name, hook in hooks.items() if hook is None and name not in RUNNER_HOOKS]:
        hooks.pop(name)


def build_runner(cfg: Config) -> Runner:
    """The runner of a config, without the hooks that are None."""
    leave_out_hooks(cfg)
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def unwrap(model: torch.nn.Module) -> torch.nn.Module:
    """The model inside wrappers for parallel runs and for test-time augmentation."""
    while hasattr(model, 'module') and isinstance(model.module, torch.nn.Module):
        model = model.module
    return model
