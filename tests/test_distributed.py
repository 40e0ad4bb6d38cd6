# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Two real processes over gloo do together what one process does alone."""
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from tiny_dissimilarity import ROOT, assert_identical, mdat_hook, quick_runs, recorder_of
from tiny_systems import NO_DROPOUT, SYSTEMS, build_system, write_tiny_systems

from mgcda.structures import MAP_KINDS

SEEDINGS = {'same_seed': False, 'own_seed': True}
NUM_ITERS = 3
DDP = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)


def load_config(config: Path, work_dir: Path, **options: Any) -> Config:
    cfg = Config.fromfile(str(config))
    cfg.merge_from_dict({
        'work_dir': str(work_dir),
        'experiment_name': work_dir.name,
        'log_level': 'ERROR',
        'train_cfg.max_iters': NUM_ITERS,
        'default_hooks.checkpoint.interval': 2,
        **options
    })
    cfg.custom_hooks.append(dict(type='TinyRecorder'))
    return cfg


def run_rank(rank: int, folder: str) -> None:
    """One of the two processes."""
    os.environ['LOCAL_RANK'] = str(rank)
    torch.distributed.init_process_group('gloo', f'file://{folder}/init', rank=rank, world_size=2)
    with quick_runs():
        outcome = dict(train_and_test(Path(folder)), systems=train_systems(Path(folder), world_size=2))
        torch.save(outcome, f'{folder}/rank_{rank}.pth')
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def train_and_test(folder: Path) -> dict[str, Any]:
    """Train with either seeding, resume the latter run, and test it; what was recorded."""
    outcome = {}
    for name, diff_rank_seed in SEEDINGS.items():
        options = {
            'launcher': 'pytorch',
            'model_wrapper_cfg': DDP,
            'randomness': dict(seed=3, diff_rank_seed=diff_rank_seed)
        }
        runner = Runner.from_cfg(load_config(folder / 'tiny_mgcda.py', folder / name, **options))
        runner.train()
        recorder = recorder_of(runner)
        outcome[name] = dict(seed=runner.seed, initial=recorder.initial, rows=recorder.rows)
    resumed = Runner.from_cfg(
        load_config(
            folder / 'tiny_mgcda.py',
            folder / 'resumed',
            resume=True,
            load_from=str(folder / 'own_seed/iter_2.pth'),
            **options))
    resumed.train()
    outcome['resumed'] = recorder_of(resumed).rows
    tested = Runner.from_cfg(
        load_config(
            folder / 'tiny_mgcda.py',
            folder / 'tested',
            load_from=str(folder / f'own_seed/iter_{NUM_ITERS}.pth'),
            **options))
    outcome['results'] = tested.test()
    return outcome


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the data lies and where two processes have trained and tested."""
    folder = write_tiny_systems(tmp_path_factory.mktemp('distributed'))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('CUDA_VISIBLE_DEVICES', '')
        patch.setenv('OMP_NUM_THREADS', '1')
        torch.multiprocessing.spawn(run_rank, (str(folder), ), nprocs=2)
    with quick_runs():
        yield folder


@pytest.fixture(scope='module')
def ranks(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f'rank_{rank}.pth') for rank in range(2)]


@pytest.fixture(params=list(SEEDINGS))
def runs(request: pytest.FixtureRequest, ranks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each rank recorded of one training."""
    assert (ranks[0][request.param]['seed'] != ranks[1][request.param]['seed']) == SEEDINGS[request.param]
    return [rank[request.param] for rank in ranks]


def test_both_ranks_keep_the_same_network_and_classifiers(runs) -> None:
    assert_identical(runs[1]['initial'], runs[0]['initial'])
    before = runs[0]['initial']
    for first, second in zip(*(run['rows'] for run in runs), strict=True):
        assert_identical(second['players'], first['players'])
        assert_identical(second['gradients'], first['gradients'])
        for role, weights in first['players'].items():
            assert [key for key, value in weights.items() if torch.equal(value, before[role][key])] == []
        before = first['players']
    assert len(runs[0]['rows']) == NUM_ITERS


def test_ranks_see_data_and_random_numbers_of_their_own(runs) -> None:
    for first, second in zip(*(run['rows'] for run in runs), strict=True):
        assert first['domains'] == second['domains'] == [0, 0, 1, 1]
        assert not torch.equal(first['random_state'], second['random_state'])
        assert first['losses']['loss'] != second['losses']['loss']
    # 5 streets, 2 a domain and rank: the first four draws of a domain are of one pass.
    for domain in (slice(0, 2), slice(2, 4)):
        assert len({name for run in runs for name in run['rows'][0]['files'][domain]}) == 4


def reference_losses(model: torch.nn.Module, classifiers: torch.nn.ModuleDict, row: dict[str, Any]) -> tuple:
    """Losses of the network and of the classifiers on one rank's batch, the adversarial ones written from eq. 2."""
    own = [row['tau'] if domain == 0 else 1 - row['tau'] for domain in row['domains']]
    rivals = []

    def distance(pred: torch.Tensor, labels: list[float]) -> torch.Tensor:
        return sum((one - label).square().mean() for one, label in zip(pred, labels)) / (len(labels) // 2)

    def align(taps: dict[str, torch.Tensor], domains: list[int]) -> dict[str, torch.Tensor]:
        inputs = dict(feature=taps['features'], output=1 / (1 + (-taps['anomaly_logit']).exp()))
        rivals.extend(distance(classifiers[stage](value.detach()), own) for stage, value in inputs.items())
        return {
            f'loss_{stage}': weight * distance(classifiers[stage](inputs[stage]), [1 - label for label in own])
            for stage, weight in (('feature', 0.04), ('output', 0.06))
        }

    model.set_alignment(align)
    torch.set_rng_state(row['random_state'])
    data = dict(inputs=list(row['inputs']), data_samples=row['data_samples'])
    losses = model(**model.data_preprocessor(data, training=True), mode='loss')
    return sum(losses.values()), sum(rivals)


def test_gradients_are_those_of_the_mean_of_the_ranks_losses(folder, runs, monkeypatch) -> None:
    runner = Runner.from_cfg(load_config(folder / 'tiny_mgcda.py', folder / 'reference'))
    hook, model = mdat_hook(runner), runner.model
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    hook.before_run(runner)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    weights = next(hook for hook in runner.hooks if type(hook).__name__ == 'ClassWeightHook')
    weights.before_run(runner)
    weights.before_train(runner)
    model.load_state_dict(runs[0]['initial']['model'])
    hook.discriminators.load_state_dict(runs[0]['initial']['mdat'])
    hook.discriminators.requires_grad_(True)
    model.train()

    results = [reference_losses(model, hook.discriminators, with_samples(run['rows'][0])) for run in runs]
    for run, (loss, _) in zip(runs, results):
        torch.testing.assert_close(loss.detach(), run['rows'][0]['losses']['loss'], rtol=1e-6, atol=0)
    total, rival = ((a + b) / 2 for a, b in zip(*results))
    for role, value, module in (('model', total, model), ('mdat', rival, hook.discriminators)):
        params = [param for param in module.parameters() if param.requires_grad]
        expected = torch.autograd.grad(value, params, retain_graph=True)
        actual = [grad for grad in runs[0]['rows'][0]['gradients'][role] if grad is not None]
        assert len(actual) == len(expected) > 5
        # A bias in front of an instance norm has no gradient but rounding errors, which do not count.
        rounding = 1e-6 * max(grad.norm() for grad in expected)
        for one, other in zip(actual, expected):
            assert (one - other).norm() < 1e-4 * other.norm() + rounding
        assert sum(bool(grad.norm() > 100 * rounding) for grad in expected) > 0.8 * len(expected)


def with_samples(row: dict[str, Any]) -> dict[str, Any]:
    """A recorded row with its batch as the network takes it."""
    samples = []
    for target, domain in zip(row['targets'], row['domains']):
        sample = SegDataSample(gt_sem_seg=PixelData(data=target.clone()))
        sample.set_metainfo(dict(domain=domain))
        samples.append(sample)
    return dict(row, data_samples=samples)


def test_two_ranks_resume_to_the_bit(ranks) -> None:
    for rank in ranks:
        assert [row['iteration'] for row in rank['resumed']] == [2]
        assert_identical(rank['resumed'], rank['own_seed']['rows'][2:])


def test_two_ranks_test_as_one(folder, ranks) -> None:
    assert_identical(ranks[1]['results'], ranks[0]['results'])
    runner = Runner.from_cfg(
        load_config(
            folder / 'tiny_mgcda.py', folder / 'alone', load_from=str(folder / f'own_seed/iter_{NUM_ITERS}.pth')))
    alone = runner.test()
    assert len(runner.test_dataloader.dataset) % 2 == 1
    assert {'RoadAnomaly/AP', 'RoadAnomaly/FPR95', 'Fishyscapes/AP', 'Fishyscapes/AUROC'} <= set(alone)
    assert_identical(ranks[0]['results'], alone)


# Systems that train with outliers.

#: Losses that are means over pixels: where each rank has as many of each kind, two ranks do what one does with the
#: doubled batch. PEBAL has sums over the batch, GMMSeg draws pixels of each rank, and pasted objects differ in size.
OF_MEANS = ('void_class', 'max_entropy', 'dirichlet', 'outlier_head', 'dense_hybrid')


def train_systems(folder: Path, world_size: int) -> dict[str, Any]:
    """Train each system, on one rank those OF_MEANS with the doubled batch; what was recorded."""
    outcome = {}
    for name in SYSTEMS if world_size == 2 else OF_MEANS:
        options: dict[str, Any] = {
            **NO_DROPOUT, 'train_cfg.max_iters': NUM_ITERS,
            'randomness.seed': 3,
            'optim_wrapper.optimizer': dict(_delete_=True, type='SGD', lr=0.1)
        }
        cfg = Config.fromfile(str(folder / f'{name}.py'))
        if name in OF_MEANS:  # void pixels alone: each of the tiny streets has as many
            options['train_dataloader.dataset.datasets'] = [cfg.void_class]
        num_domains = len(options.get('train_dataloader.dataset.datasets', cfg.train_dataloader.dataset.datasets))
        for key, value in (('batch_size', 4), ('sampler.batch_size', 4), ('sampler.num_per_domain', 4 // num_domains)):
            options[f'train_dataloader.{key}'] = value * 2 // world_size
        if world_size == 2:
            options.update(launcher='pytorch', model_wrapper_cfg=DDP)
        if name == 'gmmseg':  # its mixtures are buffers, which MMDistributedDataParallel sends to nobody
            options['randomness.diff_rank_seed'] = True
        runner = build_system(folder, name, folder / f'{name}_{world_size}', **options)
        runner.train()
        recorder = recorder_of(runner)
        outcome[name] = dict(initial=recorder.initial, rows=recorder.rows)
    return outcome


@pytest.mark.parametrize('name', SYSTEMS)
def test_both_ranks_keep_the_same_system(ranks, name: str) -> None:
    """Weights, mixtures and their memory; frozen layers stay as they were."""
    first, second = (rank['systems'][name] for rank in ranks)
    assert_identical(second['initial'], first['initial'])
    assert len(first['rows']) == NUM_ITERS
    for one, other in zip(first['rows'], second['rows'], strict=True):
        assert_identical(other['players'], one['players'])
        assert not torch.equal(one['inputs'], other['inputs'])
    before, after = first['initial']['model'], first['rows'][-1]['players']['model']
    moved = {key for key, value in after.items() if not torch.equal(value, before[key])}
    expected = set(after)
    if 'pebal' in name:
        tuned = ('decode_head.fusion_conv', 'decode_head.conv_seg', 'train_only')
        expected = {key for key in after if key.startswith(tuned)}
    assert moved == expected


def test_memory_of_mixtures_holds_pixels_of_both_ranks(ranks) -> None:
    state = ranks[0]['systems']['gmmseg']['rows'][-1]['players']['model']
    assert state['decode_head.mixtures.num_seen'].tolist() == [2 * NUM_ITERS * 10] * 19
    assert (state['decode_head.mixtures.num_steps'] > 0).all()


@pytest.fixture(scope='module')
def alone(folder: Path, forget_runs) -> dict[str, Any]:
    """What one process records of the doubled batch."""
    forget_runs()
    return train_systems(folder, world_size=1)


@pytest.mark.parametrize('name', OF_MEANS)
def test_two_ranks_train_as_one_with_the_doubled_batch(ranks, alone, name: str) -> None:
    first, second = (rank['systems'][name]['rows'] for rank in ranks)
    whole = alone[name]
    assert_identical(whole['initial'], ranks[0]['systems'][name]['initial'])
    for row, *parts in zip(whole['rows'], first, second, strict=True):
        assert row['files'] == [file for part in parts for file in part['files']]
        mean = sum(part['losses']['loss'] for part in parts) / 2
        torch.testing.assert_close(row['losses']['loss'], mean, rtol=1e-5, atol=0)
        torch.testing.assert_close(parts[0]['players'], row['players'], rtol=1e-4, atol=1e-6)
        assert parts[0]['losses']['loss'] != parts[1]['losses']['loss']


# The launchers, as a user calls them.


def launch(folder: Path, *command: Any) -> str:
    """Run a command without a GPU and return what it printed."""
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        port = str(sock.getsockname()[1])
    env = dict(
        os.environ,
        PORT=port,
        PYTHON=sys.executable,
        CUDA_VISIBLE_DEVICES='',
        OMP_NUM_THREADS='1',
        PYTHONPATH=os.pathsep.join([str(ROOT / 'projects'), str(ROOT / 'tests')]))
    env.pop('LOCAL_RANK', None)
    process = subprocess.run([str(part) for part in command],
                             cwd=folder,
                             env=env,
                             stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT,
                             text=True,
                             timeout=300)
    assert process.returncode == 0, process.stdout[-4000:]
    return process.stdout


def scores_in(work_dir: Path) -> dict[str, float]:
    """Results that the newest test below ``work_dir`` logged."""
    path = max(work_dir.glob('*/*.json'), key=lambda path: path.stat().st_mtime)
    return json.loads(path.read_text())


@pytest.mark.slow
def test_launchers_train_resume_and_test_on_two_processes(folder, tmp_path) -> None:
    config, work = folder / 'tiny_mgcda.py', tmp_path / 'work'
    train = ['bash', ROOT / 'tools/dist_train.sh', config, 2]
    launch(tmp_path, *train, '--work-dir', work)
    launch(tmp_path, *train, '--work-dir', tmp_path / 'resumed', '--resume', '--cfg-options',
           f'load_from={work}/iter_3.pth')
    whole, resumed = (torch.load(path / 'iter_6.pth') for path in (work, tmp_path / 'resumed'))
    for part in ('state_dict', 'optimizer', 'param_schedulers', 'mdat'):
        assert_identical(resumed[part], whole[part], part)

    printed = launch(tmp_path, 'bash', ROOT / 'tools/dist_test.sh', config, work / 'iter_6.pth', 2, '--work-dir',
                     tmp_path / 'two')
    assert 'RoadAnomaly' in printed
    launch(tmp_path, sys.executable, ROOT / 'tools/test.py', config, work / 'iter_6.pth', '--work-dir',
           tmp_path / 'one')
    two, one = ({
        key: value
        for key, value in scores_in(tmp_path / name).items() if '/' in key
    } for name in ('two', 'one'))
    assert len(one) >= 6
    assert_identical(two, one)


@pytest.mark.slow
def test_two_processes_share_the_making_of_maps(folder, tmp_path) -> None:
    images = folder / 'cityscapes/leftImg8bit/train'
    tool = [ROOT / 'tools/dataset_converters/make_maps.py', folder / 'tiny_mgcda.py', images]
    launch_two = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', 2]
    printed = launch(tmp_path, *launch_two, *tool, tmp_path / 'two', '--launcher', 'pytorch', '--workers', 1)
    # The sum over the ranks: had an image been made twice, there would be more than five.
    assert re.search(r'5 of 5 images.*, 0 were there already', printed)
    assert '0 of 5 images' in launch(tmp_path, *launch_two, *tool, tmp_path / 'two', '--launcher', 'pytorch')
    launch(tmp_path, sys.executable, *tool, tmp_path / 'one', '--workers', 0)
    two, one = ({
        str(path.relative_to(out)): path.read_bytes()
        for path in out.rglob('*') if path.is_file()
    } for out in (tmp_path / 'two', tmp_path / 'one'))
    assert len(one) == 5 * len(MAP_KINDS) + 1
    assert two == one
