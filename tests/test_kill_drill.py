# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Trainings and studies that are killed again and again, with one checkpoint kept, end as if nothing had happened.

``MGCDA_KILLS=20 pytest tests/test_kill_drill.py -m slow -s`` kills each as often.
"""
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kill_drill import arm, outcome
from mmengine.config import Config
from tiny_dissimilarity import ROOT, assert_identical, quick_runs, write_tiny_mgcda

KILLS = int(os.environ.get('MGCDA_KILLS', 4))
OPTIONS = {
    'train_cfg.max_iters': 12,
    'train_cfg.val_interval': 2,
    'default_hooks.checkpoint.interval': 1,
    'default_hooks.checkpoint.max_keep_ckpts': 1,
    'default_hooks.checkpoint.save_best': 'RoadAnomaly/AP',
    'default_hooks.checkpoint.rule': 'greater',
    'log_level': 'ERROR',
    'optim_wrapper.optimizer.lr': 0.02
}
VALIDATION = """
custom_imports = dict(imports=['mgcda', 'tiny_dissimilarity', 'kill_drill'], allow_failed_imports=False)
val_dataloader = test_dataloader
val_evaluator = test_evaluator
val_cfg = dict(type='ValLoop')
"""
pytestmark = pytest.mark.slow


@pytest.fixture
def config(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    path = write_tiny_mgcda(tmp_path)
    path.write_text(path.read_text() + VALIDATION)
    with quick_runs():
        yield path


def after(seconds: float, process_group: int) -> None:
    """Kill a process and its children some time from now, if they live so long."""

    def kill() -> None:
        try:
            os.killpg(process_group, signal.SIGKILL)
        except ProcessLookupError:
            pass

    timer = threading.Timer(seconds, kill)
    timer.daemon = True
    timer.start()


def report(what: str, kills: list[str], starts: int) -> None:
    print(f'\n{what}: {len(kills)} kills in {starts} starts: {", ".join(kills)}')


def test_training(config, tmp_path, load_tool, forget_runs) -> None:
    """Aimed kills and random ones take turns."""
    main = load_tool('tools/train.py').main
    words = ['--cfg-options', *(f'{key}={value}' for key, value in OPTIONS.items())]
    main([str(config), '--work-dir', str(tmp_path / 'whole'), *words])
    whole, chance, kills, starts = outcome(tmp_path / 'whole'), random.Random(0), [], 0
    assert [name for name in whole['names'] if name.endswith('.pth')][1:] == ['iter_12.pth']
    work = tmp_path / 'run'
    while True:
        aimed = starts % 2 == 0
        event, share, seconds = chance.randrange(24), chance.random(), chance.uniform(0.3, 4)
        there = bool(list(work.glob('iter_*.pth')))
        child = os.fork()
        if child == 0:
            try:
                os.setsid()
                if len(kills) < KILLS and aimed:
                    arm(event, share)
                elif len(kills) < KILLS:
                    after(seconds, os.getpid())
                forget_runs()
                main([str(config), '--work-dir', str(work), '--resume', *words])
                os._exit(0)
            finally:
                os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        starts += 1
        assert status in (0, -signal.SIGKILL)
        left = [torch.load(path, weights_only=True)['meta']['iter'] for path in work.glob('iter_*.pth')]
        assert left or not there
        if status:
            kills.append(f'{f"step {event}" if aimed else f"{seconds:.1f} s"} at {max(left, default=0)}')
        if len(kills) >= KILLS and not status:
            break
        if not status:  # it came to its end: once more from the start
            assert_identical(outcome(work), whole)
            work = tmp_path / f'run{starts}'
    report('training', kills, starts)
    assert_identical(outcome(work), whole)


def study_outcome(folder: Path) -> dict[str, Any]:
    results = json.loads((folder / 'row/seed0/test/results.json').read_text())
    return dict(
        outcome(folder / 'row/seed0'),
        results=json.dumps(results['data_sets']),
        table=(folder / 'study.md').read_text())


def test_study(config, tmp_path) -> None:
    options = {key: value for key, value in OPTIONS.items() if key != 'log_level'}
    environment = {
        **os.environ, 'OMP_NUM_THREADS': '1',
        'PYTHONPATH': f'{ROOT}/projects:{ROOT}/tests',
        'CUDA_VISIBLE_DEVICES': ''
    }

    def start(folder: Path, kill_at: str = '', seconds: float = 0.) -> int:
        """Run the study until it ends or all of its processes are killed."""
        row = dict(name='row', config=str(config), options=options)
        Config(dict(work_dir=str(folder), rows=[row])).dump('study.py')
        armed = dict(environment, KILL_DRILL=kill_at) if kill_at else environment
        with open(tmp_path / 'study.log', 'a') as log:
            process = subprocess.Popen([sys.executable, str(ROOT / 'tools/run_study.py'), 'study.py'],
                                       env=armed,
                                       stdout=log,
                                       stderr=log,
                                       start_new_session=True)
        if seconds:
            begun = time.time()
            while not list(folder.rglob('vis_data')) and process.poll() is None and time.time() - begun < 300:
                time.sleep(0.1)
            after(seconds, process.pid)
        return process.wait(600)

    assert start(tmp_path / 'whole') == 0, (tmp_path / 'study.log').read_text()[-3000:]
    whole, chance, kills, starts = study_outcome(tmp_path / 'whole'), random.Random(1), [], 0
    while len(kills) < KILLS:
        aimed = starts % 2 == 0
        event, share, seconds = chance.randrange(24), chance.random(), chance.uniform(0., 6.)
        folder = tmp_path / 'run'
        status = start(folder, f'{event},{share}' if aimed else '', 0. if aimed else seconds)
        starts += 1
        assert status in (0, -signal.SIGKILL), (tmp_path / 'study.log').read_text()[-3000:]
        if status:
            kills.append(f'step {event}' if aimed else f'{seconds:.1f} s')
        else:
            assert json.loads((folder / 'row/seed0/state.json').read_text()).keys() == {'train', 'test'}
            folder.rename(tmp_path / f'done{starts}')
    if starts and (tmp_path / 'run').is_dir():
        assert start(tmp_path / 'run') == 0, (tmp_path / 'study.log').read_text()[-3000:]
        (tmp_path / 'run').rename(tmp_path / 'done')
    report('study', kills, starts)
    for folder in tmp_path.glob('done*'):
        assert_identical(study_outcome(folder), whole)
