# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Train a model: ``python tools/train.py CONFIG``. Takes the arguments of MMSegmentation's."""
import argparse
import os
import sys
from collections.abc import Sequence

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import Runner

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'projects'))
from mgcda.engine.latest_checkpoint import find_latest_checkpoint
from mgcda.engine.launch import (
    add_common_arguments,
    build_runner,
    export_local_rank,
    guard_checkpoints,
    is_first_process,
    load_config,
    prepare_launcher,
    stop_processes,
)
from mgcda.engine.training_lock import hold_training_folder, release_training_folder
from mgcda.utils.checkpoints import check_checkpoint_file


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model')
    add_common_arguments(parser)
    parser.add_argument(
        '--resume',
        action='store_true',
        help='go on from the latest checkpoint in the work dir, if there is one, or from a load_from of --cfg-options')
    parser.add_argument('--amp', action='store_true', help='train in mixed precision (needs a GPU)')
    args = parser.parse_args(argv)
    export_local_rank(args)
    return args


def enable_amp(cfg: Config) -> None:
    """Have the optimizer wrapper train in mixed precision.

    Raises:
        ValueError: There is no GPU, or the wrapper is of a type that has no such twin.
    """
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if kind == 'AmpOptimWrapper':
        print_log('The config trains in mixed precision already', logger='current')
        return
    if kind != 'OptimWrapper':
        raise ValueError(f'--amp needs optim_wrapper.type to be OptimWrapper, got {kind}')
    if not torch.cuda.is_available():
        raise ValueError('--amp needs a GPU, and there is none')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def resume_from_work_dir(cfg: Config) -> None:
    """Go on from the newest whole checkpoint in the work dir; where there is none, start, from ``load_from`` if any.

    The runner by itself would take a ``load_from`` of the config for what to resume from.
    """
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    latest = find_latest_checkpoint(cfg.work_dir, hook.get('out_dir'))
    if latest is not None:
        cfg.load_from = str(latest)
    else:
        cfg.resume = False
        check_load_from(cfg)


def check_load_from(cfg: Config) -> None:
    if cfg.get('load_from'):
        check_checkpoint_file(cfg.load_from)


def main(argv: Sequence[str] | None = None) -> Runner:
    args = parse_args(argv)
    cfg = load_config(args, required=('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'))
    if args.amp:
        enable_amp(cfg)
    cfg.resume = args.resume
    from_work_dir = args.resume and not (args.cfg_options or {}).get('load_from')
    if not from_work_dir:
        check_load_from(cfg)
    if is_first_process(cfg.launcher):  # before anything is written there
        hold_training_folder(cfg.work_dir)
    try:
        if from_work_dir:
            resume_from_work_dir(cfg)
        return train(cfg)
    finally:
        release_training_folder(cfg.work_dir)


def train(cfg: Config) -> Runner:
    guard_checkpoints(cfg)
    prepare_launcher(cfg)
    runner = build_runner(cfg)
    runner.train()
    stop_processes()
    return runner


if __name__ == '__main__':
    main()
