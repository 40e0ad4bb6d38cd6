# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_scores_are_measured_against_a_forward_pass(tmp_path: Path, repo_root: Path) -> None:
    names = ['msp', 'SML', 'ASH', 'kNN', 'NLL']
    command = [
        sys.executable,
        str(repo_root / 'tools/analysis_tools/benchmark.py'), 'scores',
        str(repo_root / 'configs/espnetv2/espnetv2_cityscapes-1024x512.py'), '--size', '128', '256', '--rounds', '1',
        '--scores', *names, '--channels', '16', '--json',
        str(tmp_path / 'figures.json')
    ]
    env = dict(os.environ, OMP_NUM_THREADS='1')
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    figures = json.loads((tmp_path / 'figures.json').read_text())
    assert list(figures['scores']) == names and figures['model_ms'] > 0
    for name, row in figures['scores'].items():
        assert row['share'] == row['ms'] / figures['model_ms'] and name in run.stdout
