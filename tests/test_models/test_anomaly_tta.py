# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import tiny_components  # noqa: F401
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mgcda  # noqa: F401


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    module = dict(
        type='AnomalySegmentor',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[100.0] * 3, std=[50.0] * 3, bgr_to_rgb=True),
        backbone=dict(type='TinyBackbone', channels=4),
        decode_head=dict(type='FCNHead', in_channels=4, channels=4, num_convs=1, num_classes=5),
        scores=['msp', 'energy'],
        test_cfg=dict(mode='whole'))
    return MODELS.build(ConfigDict(type='AnomalyTTAModel', module=module)).eval()


def test_scores_of_augmented_images_are_averaged(model, repo_root) -> None:
    pipeline = Config.fromfile(repo_root / 'configs/_base_/datasets/benchmarks.py').tta_pipeline
    augmentations = pipeline[1]['transforms']
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    start = dict(img=image, img_shape=(64, 96), ori_shape=(64, 96), img_path='0.png', dataset_name='Own')

    def augmented(resizes: list, flips: list) -> dict:
        steps = [[resize for resize in resizes], [flip for flip in flips], augmentations[3]]
        return Compose([dict(type='TestTimeAug', transforms=steps)])(dict(start))

    def scores(data: dict) -> torch.Tensor:
        with torch.no_grad():
            return model.test_step(pseudo_collate([data]))[0].anomaly_scores.data

    single = [scores(augmented([resize], [flip])) for resize in augmentations[0] for flip in augmentations[1]]
    assert len(single) == 6
    merged = model.test_step(pseudo_collate([augmented(augmentations[0], augmentations[1])]))[0]
    torch.testing.assert_close(merged.anomaly_scores.data, torch.stack(single).mean(0))
    assert merged.anomaly_scores.data.shape == (2, 64, 96)
    assert merged.score_names == ('msp', 'energy') and merged.dataset_name == 'Own' and merged.ori_shape == (64, 96)
    assert not torch.equal(single[0], single[1])


@pytest.mark.parametrize('threshold', [0.3, 0.6])
def test_sigmoid_heads_keep_their_threshold(model, threshold: float) -> None:
    cfg = dict(
        type='AnomalySegmentor',
        backbone=dict(type='TinyBackbone', channels=4),
        decode_head=dict(
            type='FCNHead', in_channels=4, channels=4, num_convs=1, num_classes=2, out_channels=1, threshold=threshold),
        test_cfg=dict(mode='whole'))
    tta = MODELS.build(ConfigDict(type='AnomalyTTAModel', module=cfg)).eval()
    margins = torch.tensor([[[-1.0, 0.2, 3.0]], [[-0.6, 0.6, -0.8]]])  # two augmented images of 1 x 3 pixels
    samples = []
    for margin in margins:
        sample = SegDataSample(metainfo=dict(ori_shape=(1, 3), img_shape=(1, 3), img_path='0.png'))
        samples += tta.module.postprocess_result(margin[None, None], [sample])
    merged = tta.merge_preds([samples])[0]
    expected = margins.double().sigmoid().mean(0) > threshold
    assert torch.equal(merged.pred_sem_seg.data, expected[None].long())
    torch.testing.assert_close(merged.anomaly_scores.data, margins.mean(0)[None])


def test_every_data_set_gets_the_pipeline(load_tool: Callable[[str], ModuleType], repo_root) -> None:
    cfg = Config.fromfile(repo_root / 'configs/mgcda_cityscapes.py')
    load_tool('tools/test.py').enable_tta(cfg)
    datasets = cfg.test_dataloader.dataset.datasets
    assert len(datasets) == 3 and 'pipeline' not in cfg.test_dataloader.dataset
    augmentations = [step['type'] for branch in cfg.tta_pipeline[1]['transforms'] for step in branch]
    assert augmentations.count('RandomFlip') == 2 and 'Resize' not in augmentations  # the work size is fixed
    assert all(dataset.pipeline == cfg.tta_pipeline for dataset in datasets)
    assert cfg.model.type == 'AnomalyTTAModel' and cfg.model.module.type == 'DissimilaritySegmentor'
