# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Whatever happens while a checkpoint is written, a run resumes to the bit."""
import hashlib
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kill_drill import arm, outcome
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from test_loops import VALIDATION, build
from tiny_dissimilarity import assert_identical, quick_runs

from mgcda.engine.hooks import DurableCheckpointHook


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Runner, '_log_env', lambda *args: None)  # asks compilers for their versions
    with quick_runs():
        yield


@HOOKS.register_module(name='FullDisk', force=True)
class FullDisk(Hook):
    """Files hold 2,000 bytes at most from the checkpoint of iteration ``at`` on, or from its best one on."""

    def __init__(self, at: int, best: bool = False) -> None:
        self.at, self.best = at, best

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if checkpoint['meta']['iter'] >= self.at and self.best == ('optimizer' not in checkpoint):
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))


@pytest.fixture
def unlimited() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def make(folder: Path,
         resume: bool = False,
         loop: str = 'ResumableIterTrainLoop',
         stop: int = 6,
         hooks: tuple = (),
         **checkpoint: Any) -> Runner:
    """A run that validates and saves every second iteration, keeps one checkpoint and the best."""
    hook = dict(type='CheckpointHook', by_epoch=False, interval=2, max_keep_ckpts=1, save_best='val/loss', rule='less')
    runner = build(
        folder,
        infinite=True,
        stop=stop,
        val_interval=2,
        default_hooks=dict(checkpoint=dict(hook, **checkpoint)),
        **VALIDATION)
    runner._resume = resume
    for entry in hooks:
        runner.register_hook(HOOKS.build(entry), priority='LOW')
    return runner


def in_child(function: Callable[[], None]) -> int:
    """Run a function in a forked process; how that ended, as of ``os.waitstatus_to_exitcode``."""
    child = os.fork()
    if child == 0:
        try:
            function()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def names(folder: Path) -> list:
    return sorted(path.name for path in folder.iterdir() if path.suffix in ('.pth', '.tmp'))


def test_it_takes_the_place_of_the_stock_one() -> None:
    assert type(HOOKS.build(dict(type='CheckpointHook'))) is DurableCheckpointHook
    assert MMENGINE_HOOKS.get('mmengine.CheckpointHook') is CheckpointHook


@pytest.mark.slow
def test_a_kill_at_any_moment_costs_nothing(tmp_path) -> None:
    """The n-th start is killed at the n-th moment of its writing; where it is resumed, it makes up for all."""
    make(tmp_path / 'whole').train()
    whole = outcome(tmp_path / 'whole')
    assert len([name for name in whole['names'] if name.startswith('best_')]) == 1 and 'iter_6.pth' in whole['names']

    def start(event: int) -> None:
        arm(event, 0.5)
        make(tmp_path / 'run', resume=True).train()

    for event in range(200):
        before = list((tmp_path / 'run').glob('iter_*.pth'))
        status = in_child(lambda: start(event))
        if status == 0:
            break
        assert status == -signal.SIGKILL
        whole_ones = [torch.load(path, weights_only=True) for path in (tmp_path / 'run').glob('iter_*.pth')]
        assert whole_ones or not before
    assert 10 < event < 200
    assert_identical(outcome(tmp_path / 'run'), whole)


@pytest.mark.parametrize('best', [False, True])
def test_a_full_disk_keeps_what_is_there(tmp_path, best, unlimited) -> None:
    """Be it full at the second checkpoint, or at the first that is best."""
    with pytest.raises(OSError, match='File too large'):
        make(tmp_path, hooks=(dict(type='FullDisk', at=2 if best else 4, best=best), )).train()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    left = [name for name in os.listdir(tmp_path) if name.endswith(('.pth', '.tmp'))]
    assert 'iter_2.pth' in left and len(left) == (1 if best else 2)
    make(tmp_path / 'whole').train()
    make(tmp_path, resume=True).train()
    assert_identical(outcome(tmp_path), outcome(tmp_path / 'whole'))


def test_runs_of_epochs_make_up_for_the_last_validation(tmp_path) -> None:
    """The checkpoint of the last epoch was written, the validation after it was not done."""
    settings = dict(by_epoch=True, interval=1, save_best='val/loss', rule='less')
    runs = {name: build_epochs(tmp_path / name, settings) for name in ('whole', 'cut')}
    runs['whole'].train()
    runs['cut'].register_hook(HOOKS.build(dict(type='StopAtValidation', epoch=2)))
    with pytest.raises(KeyboardInterrupt):
        runs['cut'].train()
    build_epochs(tmp_path / 'cut', settings, resume=True).train()
    assert_identical(outcome(tmp_path / 'cut'), outcome(tmp_path / 'whole'))


def test_a_validation_that_brought_no_best_is_made_up_for_once(tmp_path) -> None:
    settings = dict(by_epoch=True, interval=1, save_best='val/loss', rule='less')
    for stop in (1, 2):
        build_epochs(tmp_path, settings, resume=stop > 1, stop=stop).train()
    worse = [torch.load(path, weights_only=True)['message_hub'] for path in tmp_path.glob('epoch_*.pth')]
    assert len(list(tmp_path.glob('best_*epoch_1.pth'))) == 1 and not list(tmp_path.glob('best_*epoch_2.pth'))
    assert not [key for hub in worse for key in hub['runtime_info'] if key.startswith('val')]  # they are logged
    counts = []
    for _ in range(2):
        runner = build_epochs(tmp_path, settings, resume=True)
        counter = HOOKS.build(dict(type='CountValidations'))
        runner.register_hook(counter)
        runner.train()
        counts.append(counter.count)
    assert counts == [1, 0]


@HOOKS.register_module(name='CountValidations', force=True)
class CountValidations(Hook):
    count = 0

    def before_val(self, runner: Runner) -> None:
        self.count += 1


@HOOKS.register_module(name='StopAtValidation', force=True)
class StopAtValidation(Hook):

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def before_val(self, runner: Runner) -> None:
        if runner.epoch == self.epoch:
            raise KeyboardInterrupt


def build_epochs(folder: Path, checkpoint: dict, resume: bool = False, stop: int = 2) -> Runner:
    runner = build(
        folder,
        by_epoch=True,
        stop=stop,
        val_interval=1,
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', **checkpoint)),
        **VALIDATION)
    runner._resume = resume
    return runner


def test_what_a_killed_run_left_is_removed(tmp_path) -> None:
    other = f'.score.pth.{os.getppid()}.tmp'  # which is running
    for name in ('.iter_4.pth.99999999.tmp', f'.last_checkpoint.{os.getpid()}.tmp', '.mine.tmp', 'mine.tmp', other):
        (tmp_path / name).touch()
    make(tmp_path, stop=2).train()
    left = {name for name in os.listdir(tmp_path) if name.endswith('.tmp')}
    assert left == {'.mine.tmp', 'mine.tmp', other}


def test_the_best_is_known_where_the_folder_was_moved(tmp_path) -> None:
    make(tmp_path / 'whole').train()
    make(tmp_path / 'first', stop=2).train()
    (tmp_path / 'first').rename(tmp_path / 'moved')
    make(tmp_path / 'moved', resume=True).train()
    assert outcome(tmp_path / 'moved')['names'] == outcome(tmp_path / 'whole')['names']


def test_a_run_that_goes_on_elsewhere_leaves_the_first_alone(tmp_path) -> None:
    make(tmp_path / 'first', stop=2).train()
    before = names(tmp_path / 'first')
    runner = make(tmp_path / 'second', resume=True)
    runner._load_from = str(tmp_path / 'first/iter_2.pth')
    runner.train()
    assert names(tmp_path / 'first') == before and 'iter_6.pth' in names(tmp_path / 'second')


def test_published_files_have_the_hash_of_their_bytes(tmp_path) -> None:
    make(tmp_path, stop=2, published_keys=['meta', 'state_dict']).train()
    published = sorted(tmp_path.glob('*-????????.pth'))
    assert len(published) == 2  # the last and the best
    for path in published:
        assert hashlib.sha256(path.read_bytes()).hexdigest()[:8] == path.stem[-8:]
        assert set(torch.load(path, weights_only=True)) == {'meta', 'state_dict'}


def test_the_runner_alone_resumes_from_the_newest_whole_one(tmp_path) -> None:
    """As MMSegmentation's own tools start it."""
    make(tmp_path / 'whole').train()
    make(tmp_path / 'run', stop=4, max_keep_ckpts=2).train()
    (tmp_path / 'run/iter_4.pth').write_bytes((tmp_path / 'run/iter_4.pth').read_bytes()[:-500])
    runner = make(tmp_path / 'run', resume=True)
    runner.train()
    assert runner._load_from.endswith('run/iter_2.pth')
    state, expected = (torch.load(tmp_path / name / 'iter_6.pth', weights_only=True) for name in ('run', 'whole'))
    assert_identical(state['state_dict'], expected['state_dict'])
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'empty/last_checkpoint').touch()
    runner = make(tmp_path / 'empty', resume=True, stop=2)
    runner.train()
    assert not runner._resume and 'iter_2.pth' in names(tmp_path / 'empty')
