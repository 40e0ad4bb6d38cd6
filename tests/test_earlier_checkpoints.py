# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints that version 0.1.0 wrote, and the configs in them, still load: what they gave then, they give now.

`fixtures` holds iteration 3 of 6 of the run of `tiny_dissimilarity`, with narrower layers, and the same as published.
"""
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from tiny_dissimilarity import assert_identical, quick_runs, recorder_of, write_tiny_mgcda

from mgcda.apis import AnomalyInferencer

FIXTURES = Path(__file__).parent / 'fixtures'
TRAINING, PUBLISHED = FIXTURES / 'tiny_mgcda_iter_3.pth', FIXTURES / 'tiny_mgcda-9b856994.pth'


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[Path, Config]:
    """The configs in the checkpoints; the data sets and frozen networks that they name lie in the working folder."""
    monkeypatch.chdir(tmp_path)
    write_tiny_mgcda(Path('.'))
    return {
        path: Config.fromstring(torch.load(path, weights_only=True)['meta']['cfg'], '.py')
        for path in (TRAINING, PUBLISHED)
    }


def test_a_training_resumes(stored: dict[Path, Config]) -> None:
    cfg = stored[TRAINING]
    cfg.merge_from_dict(dict(load_from=str(TRAINING), resume=True))
    with quick_runs():
        runner = Runner.from_cfg(cfg)
        runner.train()
    recorder, checkpoint = recorder_of(runner), torch.load(TRAINING, weights_only=True)
    assert_identical(recorder.initial['model'], dict(checkpoint['state_dict']))
    classifiers = checkpoint['mdat']['discriminators']
    initial = {f'{stage}.{key}': value for stage, state in classifiers.items() for key, value in state.items()}
    assert_identical(recorder.initial['mdat'], initial)
    assert [row['iteration'] for row in recorder.rows] == [3, 4, 5]
    # Of the run's own code, on data of today: the masks of scaled objects are aligned with their pixels since.
    noted = dict(
        cacl=[0.216383, 0.224095, 0.233208],
        mda_feature=[0.00567602, 0.00287337, 0.00118563],
        mda_output=[0.00799484, 0.00377484, 0.00125074])
    for name, losses in noted.items():
        assert [float(row['losses'][f'loss_{name}']) for row in recorder.rows] == pytest.approx(losses, rel=0.01)


def test_a_published_model_scores(stored: dict[Path, Config]) -> None:
    inferencer = AnomalyInferencer(stored[PUBLISHED], str(PUBLISHED), device='cpu')
    image = (np.arange(32 * 48 * 3) * 7 % 256).astype(np.uint8).reshape(32, 48, 3)
    scores = inferencer(image)['predictions'][0].anomaly_scores
    assert [scores.mean(), scores.std(), scores[16, 20]] == pytest.approx([0.0587, 0.7924, 0.8565], abs=2e-3)
