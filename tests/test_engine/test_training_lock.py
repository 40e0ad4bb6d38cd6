# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import multiprocessing
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from tiny_components import write_tiny_run

from mgcda.engine.training_lock import hold_training_folder, release_training_folder
from mgcda.utils.folder_lock import FolderInUse, FolderLock

FORK = multiprocessing.get_context('fork')


def hold(folder: Path, ready, worker: bool) -> None:
    hold_training_folder(folder)
    if worker:  # as those of a dataloader, which outlive it for seconds
        child = FORK.Process(target=time.sleep, args=(60, ))
        child.start()
        ready.send(child.pid)
    ready.send(True)
    time.sleep(60)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Callable[..., multiprocessing.Process]]:
    """``other(folder)`` has another process hold a folder; with ``worker``, a child of it lives on."""
    pids = []

    def start(folder: Path, worker: bool = False) -> multiprocessing.Process:
        ours, theirs = FORK.Pipe()
        process = FORK.Process(target=hold, args=(folder, theirs, worker))
        process.start()
        pids.append(process.pid)
        if worker:
            pids.append(ours.recv())
        assert ours.recv() is True
        return process

    yield start
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def test_a_second_training_is_refused_and_told_of_the_first(tmp_path, load_tool, monkeypatch, other) -> None:
    monkeypatch.setenv('LOCAL_RANK', '0')
    config, work = write_tiny_run(tmp_path), tmp_path / 'work'
    first = other(work)
    there = sorted(os.listdir(work))
    words = (rf'{work} is in use by another training \(host {re.escape(socket.gethostname())}, process {first.pid}, '
             r'since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\): wait for it, end it, or give this one another --work-dir')
    for resume in ([], ['--resume']):
        with pytest.raises(FolderInUse, match=words):
            load_tool('tools/train.py').main([str(config), '--work-dir', str(work), *resume])
    assert sorted(os.listdir(work)) == there
    cfg = Config.fromfile(config)
    cfg.work_dir = str(work)
    with pytest.raises(FolderInUse, match=words):  # as MMSegmentation's own tools start it
        Runner.from_cfg(cfg).train()


@pytest.mark.parametrize('worker', [False, True])
def test_the_folder_of_a_killed_training_is_taken_over(tmp_path, other, worker) -> None:
    process = other(tmp_path, worker)
    with pytest.raises(FolderInUse):
        hold_training_folder(tmp_path)
    process.kill()
    process.join()
    hold_training_folder(tmp_path)
    hold_training_folder(tmp_path)  # the same process may do so again
    release_training_folder(tmp_path)


def test_a_folder_that_was_given_up_is_free(tmp_path, other) -> None:
    hold_training_folder(tmp_path)
    release_training_folder(tmp_path)
    other(tmp_path)
    with pytest.raises(FolderInUse):
        hold_training_folder(tmp_path)


def test_locks_of_one_process_exclude_each_other(tmp_path) -> None:
    with FolderLock(tmp_path / 'folder/.lock', 'another study'):
        with pytest.raises(FolderInUse, match=rf'folder is in use by another study \(host .*, process {os.getpid()}, '):
            FolderLock(tmp_path / 'folder/.lock', 'another study')
    FolderLock(tmp_path / 'folder/.lock', 'another study').release()


def test_a_lock_file_is_a_file_of_ones_own(tmp_path) -> None:
    victim, link = tmp_path / 'victim', tmp_path / 'run/.training.lock'
    victim.write_text('precious')
    link.parent.mkdir()
    link.symlink_to(victim)
    with pytest.raises(OSError, match=r'\.training\.lock cannot be opened to hold .* it must be a file, no link'):
        hold_training_folder(link.parent)
    assert victim.read_text() == 'precious'
    link.unlink()
    (link.parent / '.x.99999999.tmp').mkdir()  # not what a killed run left
    hold_training_folder(link.parent)
    release_training_folder(link.parent)
    link.unlink()
    link.mkdir()
    with pytest.raises(IsADirectoryError, match='it must be a file'):
        hold_training_folder(link.parent)
