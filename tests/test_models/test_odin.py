# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""ODIN against finite differences, and what it leaves alone."""
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from scipy.special import log_softmax
from torch import Tensor, nn

import mgcda  # noqa: F401
import tiny_components  # noqa: F401

HEAD = dict(type='FCNHead', in_channels=4, channels=6, num_convs=1, num_classes=5, norm_cfg=None)
SIZE = (8, 12)
METAS = [dict(img_shape=SIZE, ori_shape=SIZE)]
STD = (50.0, 60.0, 70.0)


def build(kind: str = 'ODINAnomalySegmentor', **kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    if kind.startswith('Cascade'):
        refine = dict(HEAD, type='OCRHead', ocr_channels=4, norm_cfg=dict(type='BN'))
        del refine['num_convs']
        kwargs.update(num_stages=2, decode_head=[HEAD, refine])
    cfg = dict(
        type=kind,
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[100, 110, 120], std=list(STD)),
        backbone=dict(type='TinyBackbone', channels=4),
        test_cfg=dict(mode='whole'))
    return MODELS.build(ConfigDict({**cfg, 'decode_head': HEAD, **kwargs})).eval()


def image(batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def predict(model: nn.Module, inputs: Tensor) -> list:
    with torch.no_grad():
        return model.predict(inputs, [SegDataSample(metainfo=dict(ori_shape=SIZE, img_shape=SIZE)) for _ in inputs])


def test_the_step_raises_the_confidence_as_finite_differences_say() -> None:
    model, inputs, temperature = build(temperature=10.0, epsilon=0.01), image().double(), 10.0
    model.double()

    def confidence(x: Tensor) -> float:
        with torch.no_grad():
            logits = model.decode_head(model.extract_feat(x))
            logits = nn.functional.interpolate(logits, SIZE, mode='bilinear', align_corners=False)
        return log_softmax(logits.numpy() / temperature, axis=1).max(1).sum()

    shift = (model.perturb(inputs, METAS) - inputs).numpy()
    np.testing.assert_allclose(np.abs(shift), 255 * 0.01 / np.reshape(STD, (1, 3, 1, 1)) * np.ones(SIZE), rtol=1e-6)
    delta, rng = 1e-5, np.random.default_rng(0)
    for channel, row, column in rng.integers((3, *SIZE), size=(20, 3)):
        step = torch.zeros_like(inputs)
        step[0, channel, row, column] = delta
        slope = (confidence(inputs + step) - confidence(inputs - step)) / (2 * delta)
        assert abs(slope) > 1e-7 and np.sign(shift[0, channel, row, column]) == np.sign(slope)
    assert confidence(inputs + torch.from_numpy(shift)) > confidence(inputs)


@pytest.mark.parametrize('kind', ['AnomalySegmentor', 'CascadeAnomalySegmentor'])
def test_score_is_that_of_the_perturbed_image(kind: str) -> None:
    score, inputs = dict(type='msp', temperature=1000.0), image(batch=2)
    plain, model = build(kind, score=score), build(kind.replace('Anomaly', 'ODINAnomaly'), epsilon=0.01)
    assert model.scorers['msp(temperature=1000.0)']
    perturbed = model.perturb(inputs, 2 * METAS)
    assert not torch.equal(perturbed, inputs)
    for result, expected in zip(predict(model, inputs), predict(plain, perturbed)):
        assert torch.equal(result.anomaly_scores.data, expected.anomaly_scores.data)
        logits = expected.seg_logits.data.double().numpy() / 1000
        np.testing.assert_allclose(result.anomaly_scores.data[0], 1 - np.exp(log_softmax(logits, axis=0)).max(0),
                                   rtol=1e-6)
    assert all(param.grad is None for param in model.parameters())
    unperturbed = build(kind.replace('Anomaly', 'ODINAnomaly'), epsilon=0)
    assert torch.equal(predict(unperturbed, inputs)[0].seg_logits.data, predict(plain, inputs)[0].seg_logits.data)


def test_every_window_is_perturbed_and_images_do_not_mix() -> None:
    slide = dict(mode='slide', crop_size=(8, 8), stride=(8, 4))
    score, inputs = dict(type='msp', temperature=1000.0), image(batch=2)
    model, plain = build(test_cfg=slide, epsilon=0.05), build('AnomalySegmentor', score=score)
    with torch.no_grad():
        metas = [dict(img_shape=(8, 8))]
        windows = [plain.encode_decode(model.perturb(inputs[..., left:left + 8], metas), metas) for left in (0, 4)]
    expected = torch.cat([windows[0][..., :4], (windows[0][..., 4:] + windows[1][..., :4]) / 2, windows[1][..., 4:]], 3)
    results = predict(model, inputs)
    torch.testing.assert_close(torch.stack([result.seg_logits.data for result in results]), expected)
    assert torch.equal(predict(model, inputs[:1])[0].anomaly_scores.data, results[0].anomaly_scores.data)


@pytest.mark.parametrize('kwargs, match', [
    (dict(temperature=0), 'temperature must be positive'),
    (dict(epsilon=-1.0), 'epsilon not negative'),
    (dict(decode_head=dict(HEAD, num_classes=2, out_channels=1, threshold=0.5)), 'several classes'),
])
def test_wrong_settings_are_refused(kwargs: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        build(**kwargs)
