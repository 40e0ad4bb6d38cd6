# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from tiny_dissimilarity import HEIGHT, ROOT, WIDTH, quick_runs, write_tiny_checkpoint, write_tiny_mgcda

from mgcda.apis import inference_model, init_model


@pytest.fixture(scope='module')
def tiny(tmp_path_factory) -> Path:
    """Folder of a tiny MGCDA with a checkpoint as a training leaves it, training-only weights included."""
    folder = tmp_path_factory.mktemp('tiny')
    write_tiny_checkpoint(write_tiny_mgcda(folder), folder / 'epoch_1.pth')
    return folder


@pytest.fixture(scope='module')
def entropy_config(tmp_path_factory) -> Path:
    """The toy segmenter's entropy; it reads images at another size than they have."""
    path = tmp_path_factory.mktemp('entropy') / 'entropy.py'
    path.write_text(f"_base_ = ['{ROOT}/configs/toy/entropy.py']\n")
    return path


def test_scores_and_segmentation_of_mgcda(tiny) -> None:
    model = init_model(str(tiny / 'tiny_mgcda.py'), str(tiny / 'epoch_1.pth'))
    image = tiny / 'road_anomaly/frames/1.jpg'
    scores, segmentation = inference_model(model, str(image))
    assert scores.shape == (HEIGHT, WIDTH) and scores.dtype == np.float32 and scores.std() > 0
    assert segmentation.dtype == np.uint8 and segmentation.max() < 19
    pixels = torch.from_numpy(cv2.imread(str(image))).permute(2, 0, 1)[None].float()
    expected = model.frozen.segmenter.predict((pixels.flip(1) - model.frozen.mean) / model.frozen.std)
    np.testing.assert_array_equal(segmentation, expected[0].pred_sem_seg.data[0].numpy())


def test_scores_are_those_of_a_test_run(tiny, tmp_path) -> None:
    cfg = Config.fromfile(tiny / 'tiny_mgcda.py')
    cfg.load_from, cfg.work_dir = str(tiny / 'epoch_1.pth'), str(tmp_path)
    cfg.test_evaluator.update(output_dir=str(tmp_path / 'maps'), keep_results=True)
    cfg.log_level = 'WARNING'
    with quick_runs():
        Runner.from_cfg(cfg).test()
    model = init_model(cfg, str(tiny / 'epoch_1.pth'))
    maps = sorted((tmp_path / 'maps/RoadAnomaly').glob('*.npy'))
    assert len(maps) == 3
    for path in maps:
        scores = inference_model(model, str(tiny / f'road_anomaly/frames/{path.stem}.jpg')).anomaly_scores
        np.testing.assert_array_equal(scores, np.load(path))


def test_a_head_of_nineteen_classes_gives_the_segmentation(entropy_config, tmp_path) -> None:
    cv2.imwrite(str(tmp_path / 'a.png'), np.random.default_rng(0).integers(0, 256, (50, 90, 3), np.uint8))
    torch.manual_seed(0)
    model = init_model(str(entropy_config))
    torch.nn.init.normal_(model.decode_head.conv_seg.weight)
    scores, segmentation = inference_model(model, str(tmp_path / 'a.png'))
    assert scores.shape == segmentation.shape == (50, 90)
    assert np.unique(segmentation).size > 1 and segmentation.max() < 19 and scores.min() >= 0


def test_what_is_wrong_is_named(tiny, entropy_config, tmp_path) -> None:
    model = init_model(str(entropy_config))
    with pytest.raises(FileNotFoundError, match='none.png'):
        inference_model(model, str(tmp_path / 'none.png'))
    with pytest.raises(ValueError, match='entropy.py has no pipeline in test_dataloader.dataset'):
        init_model(str(entropy_config), cfg_options=dict(test_dataloader=None))
    with pytest.raises(ValueError, match='EncoderDecoder is no anomaly segmentor'):
        init_model(str(ROOT / 'configs/toy/segmenter.py'))
    with pytest.raises(ValueError, match='the checkpoint does not fit the model'):
        init_model(str(entropy_config), str(tiny / 'epoch_1.pth'))
