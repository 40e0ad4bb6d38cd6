# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""A run in one go and one that was broken off and resumed are the same to the last bit."""
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from tiny_dissimilarity import assert_identical, quick_runs, recorder_of, write_tiny_mgcda

#: What a checkpoint says of the time and place of its run; the version holds the commit of the working directory.
OF_THE_RUN = ('time', 'cfg', 'experiment_name', 'mmengine_version')
#: By epoch: 5 streets, 2 a batch, make three batches an epoch.
BY_EPOCH = {
    'train_cfg': dict(_delete_=True, type='ResumableEpochTrainLoop', max_epochs=2, val_interval=1000),
    'train_dataloader.sampler.infinite': False,
    'log_processor.by_epoch': True,
}


@HOOKS.register_module()
class TinyStop(Hook):
    """Breaks a run off, as Ctrl-C does, before its iteration ``at`` (counted from 0)."""

    def __init__(self, at: int) -> None:
        self.at = at

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict = None) -> None:
        if runner.iter == self.at:
            raise KeyboardInterrupt


@pytest.fixture(scope='module')
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with quick_runs():
        yield write_tiny_mgcda(tmp_path_factory.mktemp('resume'))


def train(config: Path, work_dir: Path, *hooks: dict, num_workers: int = 2, **options: Any) -> tuple[list[dict], dict]:
    """Train; what was recorded of each iteration, and the last checkpoint."""
    cfg = Config.fromfile(str(config))
    cfg.merge_from_dict({
        'work_dir': str(work_dir),
        'log_level': 'ERROR',
        'train_dataloader.num_workers': num_workers,
        'train_dataloader.persistent_workers': num_workers > 0,
        **copy.deepcopy(options)
    })
    cfg.custom_hooks += [dict(type='TinyRecorder'), *hooks]
    runner = Runner.from_cfg(cfg)
    runner.train()
    last = (work_dir / 'last_checkpoint').read_text()
    return recorder_of(runner).rows, torch.load(last, weights_only=True)


def assert_same_run(resumed: tuple[list[dict], dict], whole: tuple[list[dict], dict], first: int) -> None:
    """Compare all that was recorded of each iteration, and all that was saved at last."""
    (rows, checkpoint), (expected_rows, expected) = resumed, whole
    assert [row['iteration'] for row in rows] == list(range(first, len(expected_rows)))
    assert_identical(rows, expected_rows[first:])
    assert set(checkpoint) == set(expected) >= {'state_dict', 'optimizer', 'param_schedulers'}
    for part in ('state_dict', 'optimizer', 'param_schedulers', 'mdat', 'class_weights'):
        assert_identical(checkpoint.get(part), expected.get(part), part)
    meta, expected_meta = ({
        key: value
        for key, value in part['meta'].items() if key not in OF_THE_RUN
    } for part in (checkpoint, expected))
    assert meta == expected_meta and meta['iter'] == len(expected_rows)


def assert_it_moves(rows: list[dict]) -> None:
    """A run without flips, pasted objects, dropout or sampled pixels would show little by being the same."""
    assert {flip for row in rows for flip in row['flips']} == {False, True}
    assert all((row['targets'][index] == 1).any() for row in rows for index in (2, 3))
    for name in ('inputs', 'random_state', 'tau', 'rates'):
        assert len({str(torch.as_tensor(row[name]).tolist()) for row in rows}) == len(rows), name
    assert all(row['losses'][f'loss_{name}'] > 0 for row in rows for name in ('cacl', 'mda_feature', 'mda_output'))


def test_iterations(config: Path, tmp_path: Path, forget_runs) -> None:
    """2n in one go; n, broken off, and n more from the work dir's latest checkpoint; all with two workers."""
    whole = train(config, tmp_path / 'whole')
    assert len(whole[0]) == 6 and 'mdat' in whole[1]
    assert_it_moves(whole[0])
    forget_runs()
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / 'parts', dict(type='TinyStop', at=4))
    assert (tmp_path / 'parts/iter_3.pth').is_file() and not (tmp_path / 'parts/iter_6.pth').exists()
    forget_runs()
    # The fourth iteration was done after the checkpoint, and is done again.
    assert_same_run(train(config, tmp_path / 'parts', resume=True), whole, 3)


def test_epochs_from_the_middle_of_one(config: Path, tmp_path: Path, forget_runs) -> None:
    """Iteration 4 of 6 lies inside the second epoch; the number of workers does not matter, nor a seed of its own."""
    options = {**BY_EPOCH, 'default_hooks.checkpoint.interval': 4}
    whole = train(config, tmp_path / 'whole', num_workers=0, **options)
    assert len(whole[0]) == 6
    assert_it_moves(whole[0])
    for epoch in (0, 3):
        streets = [name for row in whole[0][epoch:epoch + 3] for name in row['files'][:2]]
        assert len(streets) == 6 and len(set(streets)) == 5
    forget_runs()
    resumed = train(
        config,
        tmp_path / 'resumed',
        resume=True,
        load_from=str(tmp_path / 'whole/iter_4.pth'),
        randomness=dict(seed=8),
        **options)
    assert_same_run(resumed, whole, 4)


def test_another_seed_is_another_run(config: Path, tmp_path: Path, forget_runs) -> None:
    """The comparisons above can fail: a run whose random numbers differ has no iteration in common."""
    runs = []
    for seed in (3, 4):
        forget_runs()
        runs.append(
            train(
                config, tmp_path / str(seed), num_workers=0, randomness=dict(seed=seed),
                **{'train_cfg.max_iters': 2})[0])
    for one, other in zip(*runs):
        with pytest.raises(AssertionError):
            assert_identical(one, other)
        assert one['losses']['loss'] != other['losses']['loss']
