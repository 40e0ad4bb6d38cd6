# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from typing import Any

import numpy as np
import pytest
import tiny_components  # noqa: F401
import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from scipy.special import log_softmax
from torch import nn

import mgcda  # noqa: F401

NAMES = ('predictive_entropy', 'expected_entropy', 'mutual_information', 'msp')


def build(dropout_ratio: float = 0.5, **kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    return MODELS.build(
        ConfigDict(
            type='MCDropoutAnomalySegmentor',
            backbone=dict(type='TinyBackbone', channels=4),
            decode_head=dict(
                type='FCNHead',
                in_channels=4,
                channels=4,
                num_convs=1,
                num_classes=5,
                norm_cfg=dict(type='BN'),
                dropout_ratio=dropout_ratio),
            test_cfg=dict(mode='whole'),
            **{
                'scores': list(NAMES),
                **kwargs
            })).eval()


def samples(number: int) -> list[SegDataSample]:
    return [SegDataSample(metainfo=dict(img_shape=(16, 24), ori_shape=(20, 30))) for _ in range(number)]


def test_passes_are_averaged() -> None:
    model = build(num_passes=6)
    inputs = 255 * torch.rand(2, 3, 16, 24)
    with torch.no_grad():
        torch.manual_seed(3)
        results = model.predict(inputs, samples(2))
        torch.manual_seed(3)
        logits = [model.inference(inputs, [sample.metainfo for sample in samples(2)]) for _ in range(6)]
    assert not torch.equal(logits[0], logits[1])
    logits = [nn.functional.interpolate(one, (20, 30), mode='bilinear').double().numpy() for one in logits]
    logs = np.stack([log_softmax(one, axis=1) for one in logits])
    mean = np.exp(logs).mean(0)
    expected = (-np.exp(logs) * logs).sum(2).mean(0)
    predictive = -(mean * np.log(mean)).sum(1)
    reference = np.stack([predictive, expected, predictive - expected, 1 - mean.max(1)], 1)
    for i, result in enumerate(results):
        assert result.score_names == NAMES
        np.testing.assert_allclose(result.anomaly_scores.data.numpy(), reference[i], atol=2e-6)
        np.testing.assert_allclose(result.seg_logits.data.exp().numpy(), mean[i], atol=1e-6)
        np.testing.assert_array_equal(result.pred_sem_seg.data[0].numpy(), mean[i].argmax(0))
    assert reference[:, 2].min() > -1e-12 and reference[:, 2].max() > 0.01


def test_only_dropout_stays_active() -> None:
    model = build(dropout_ratio=0.1)
    active = {type(module) for module in model.modules() if module.training and not list(module.children())}
    assert active == {nn.Dropout2d}
    statistics = model.decode_head.convs[0].norm.running_mean.clone()
    model.predict(torch.rand(1, 3, 16, 24))
    assert torch.equal(statistics, model.decode_head.convs[0].norm.running_mean)
    assert model.train().decode_head.convs[0].norm.training


def test_ratio_may_be_replaced() -> None:
    with torch.no_grad():
        certain = build(num_passes=4, dropout_ratio=1e-9).predict(torch.rand(1, 3, 16, 24))[0]
        doubtful = build(num_passes=4).predict(torch.rand(1, 3, 16, 24))[0]
    assert certain.anomaly_scores.data[2].max() < 1e-6 < doubtful.anomaly_scores.data[2].max()


def test_wrong_models_are_refused() -> None:
    with pytest.raises(ValueError, match='no dropout layer with a ratio above 0'):
        build(dropout_ratio=0)
    with pytest.raises(ValueError, match='num_passes must be at least 1'):
        build(num_passes=0)
    with pytest.raises(ValueError, match='MCDropoutAnomalySegmentor needs a head of several classes'):
        MODELS.build(
            ConfigDict(
                type='MCDropoutAnomalySegmentor',
                backbone=dict(type='TinyBackbone', channels=4),
                decode_head=dict(type='FCNHead', in_channels=4, channels=4, num_convs=1, num_classes=2),
                test_cfg=dict(mode='whole')))
    model = MODELS.build(
        ConfigDict(
            type='AnomalySegmentor',
            backbone=dict(type='TinyBackbone', channels=4),
            decode_head=dict(type='FCNHead', in_channels=4, channels=4, num_convs=1, num_classes=5),
            score='mutual_information',
            test_cfg=dict(mode='whole'))).eval()
    with pytest.raises(ValueError, match="'mutual_information' needs the outputs .*mean_entropy"):
        model.predict(torch.rand(1, 3, 16, 24))


def test_cascades_have_their_own_kind() -> None:
    torch.manual_seed(0)
    head = dict(type='FCNHead', in_channels=4, channels=4, num_convs=1, num_classes=5, norm_cfg=None, dropout_ratio=0.5)
    refine = dict(head, type='OCRHead', ocr_channels=4, norm_cfg=dict(type='BN'))
    del refine['num_convs']
    model = MODELS.build(
        ConfigDict(
            type='CascadeMCDropoutAnomalySegmentor',
            num_stages=2,
            num_passes=3,
            score='mutual_information',
            backbone=dict(type='TinyBackbone', channels=4),
            decode_head=[head, refine],
            test_cfg=dict(mode='whole'))).eval()
    with torch.no_grad():
        result, = model.predict(255 * torch.rand(1, 3, 16, 24), samples(1))
    assert result.anomaly_scores.shape == (20, 30) and result.anomaly_scores.data.max() > 1e-4
