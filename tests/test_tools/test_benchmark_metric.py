# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import json
import subprocess
import sys
import time

import numpy as np
import pytest

SIZE = (64, 128)


@pytest.fixture(scope='module')
def tool(load_tool):
    return load_tool('tools/analysis_tools/benchmark.py').metric


def test_frames_are_the_same_for_all_and_look_like_scores(tool):
    frames = list(tool.make_frames(3, (256, 512), seed=1))
    assert all(np.array_equal(*pair) for pair in zip(frames[1], tool.make_frame(1, 1, (256, 512))))
    scores, labels = (np.stack(arrays) for arrays in zip(*frames))
    assert scores.dtype == np.float32 and set(np.unique(labels)) == {0, 1, 255}
    assert 0.005 < (labels == 1).mean() < 0.15 and 0.02 < (labels == 255).mean() < 0.3
    assert not np.array_equal(scores[0], scores[1])


def test_methods_measure_the_same_pixels(tool):
    rows = [tool.measure(method, 3, SIZE, 0, 'cpu', time.perf_counter) for method in tool.METHODS]
    for row in rows:
        assert row['seconds'] > 0 and row['mb'] >= 0
        assert (row['num_pixels'], row['num_anomaly']) == (rows[0]['num_pixels'], rows[0]['num_anomaly'])
        for key in tool.VALUES:
            assert row['values'][key] == pytest.approx(rows[2]['values'][key], abs=0.01)


@pytest.mark.slow
def test_command(repo_root, tmp_path):
    path = tmp_path / 'figures.json'
    output = subprocess.run([
        sys.executable, 'tools/analysis_tools/benchmark.py', 'metric', '--frames', '2', '--size', '64', '128',
        '--model', 'configs/deeplabv3plus/deeplabv3plus_r101-d8_cityscapes-512x1024.py', '--cfg-options',
        'model.backbone.depth=50', '--rounds', '1', '--json',
        str(path)
    ],
                            cwd=repo_root,
                            check=True,
                            capture_output=True,
                            text=True).stdout
    figures = json.loads(path.read_text())
    assert figures['streaming']['times'] == figures['scikit-learn']['seconds'] / figures['streaming']['seconds']
    assert figures['exact']['bytes'] * figures['exact']['num_pixels'] == pytest.approx(1e6 * figures['exact']['mb'])
    assert figures['model']['share'] == figures['model']['metric_ms'] / figures['model']['model_ms']
    assert all(abs(figures['exact - scikit-learn'][key]) < 1e-9 for key in ('AP', 'FPR95', 'AUROC'))
    assert output.count(' wanted: ') == 5
