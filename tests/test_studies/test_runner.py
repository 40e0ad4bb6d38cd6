# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import threading
from pathlib import Path

import pytest
import torch

from mgcda.studies import Job, Pool, Stage, find_slots
from mgcda.studies.runner import hardware


def test_hardware_is_that_of_the_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'get_device_name', 'GPU of index {}'.format)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '5,7')
    assert find_slots(None) == [['5'], ['7']]
    assert hardware(['7']) == '1 x GPU of index 1' and hardware(['1', '2']) == 'GPUs 1, 2'
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
    assert hardware(['0', '1']) == '2 x GPU of index 0'


def test_runs_of_several_gpus_use_the_launcher() -> None:
    pool = Pool([['0', '1'], ['2', '3']], print)
    stage = Stage('train', ('tools/train.py', 'c.py', '--work-dir', 'w', '--cfg-options', 'a=1'))
    assert pool._command(stage, ['2', '3']) == [
        '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', 'tools/train.py', 'c.py', '--work-dir',
        'w', '--launcher', 'pytorch', '--cfg-options', 'a=1'
    ]
    assert pool._environment(['2', '3'])['CUDA_VISIBLE_DEVICES'] == '2,3'


def test_stopping_ends_the_wait_for_another_process(tmp_path: Path) -> None:
    pool, job = Pool([[]], print), Job('step', tmp_path / 'step', ())
    thread = threading.Thread(target=pool.run, args=([job], ), kwargs=dict(wait=True))
    with job.claimed():
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        pool.stop()
        thread.join(30)
        assert not thread.is_alive() and not pool.failed
