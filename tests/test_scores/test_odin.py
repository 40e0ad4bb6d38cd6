# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""ODIN against finite differences, and what it leaves alone."""
from typing import Any

import numpy as np
import pytest
import tiny_components  # noqa: F401
import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from scipy.special import log_softmax
from torch import Tensor, nn

from mgcda.scores import ODIN

HEAD = dict(type='FCNHead', in_channels=4, channels=6, num_convs=1, num_classes=5, norm_cfg=None)
SIZE = (8, 12)
STD = (50.0, 60.0, 70.0)


def build(kind: str = 'AnomalySegmentor', **kwargs: Any) -> nn.Module:
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


def perturbed(model: nn.Module, inputs: Tensor, **settings: float) -> Tensor:
    """Inputs as ODIN passes them on, by the model's own logits."""
    score = ODIN(**settings)
    score.prepare(model)
    metas = [dict(img_shape=tuple(inputs.shape[-2:]))]
    return score.perturb(inputs, lambda x: model.encode_decode(x, metas))


def test_the_step_raises_the_confidence_as_finite_differences_say() -> None:
    model, inputs, temperature = build(score='msp').double(), image().double(), 10.0

    def confidence(x: Tensor) -> float:
        with torch.no_grad():
            logits = model.decode_head(model.extract_feat(x))
            logits = nn.functional.interpolate(logits, SIZE, mode='bilinear', align_corners=False)
        return log_softmax(logits.numpy() / temperature, axis=1).max(1).sum()

    shift = (perturbed(model, inputs, temperature=temperature, epsilon=0.01) - inputs).numpy()
    np.testing.assert_allclose(np.abs(shift), 255 * 0.01 / np.reshape(STD, (1, 3, 1, 1)) * np.ones(SIZE), rtol=1e-6)
    delta, rng = 1e-5, np.random.default_rng(0)
    for channel, row, column in rng.integers((3, *SIZE), size=(20, 3)):
        step = torch.zeros_like(inputs)
        step[0, channel, row, column] = delta
        slope = (confidence(inputs + step) - confidence(inputs - step)) / (2 * delta)
        assert abs(slope) > 1e-7 and np.sign(shift[0, channel, row, column]) == np.sign(slope)
    assert confidence(inputs + torch.from_numpy(shift)) > confidence(inputs)


@pytest.mark.parametrize('kind', ['AnomalySegmentor', 'CascadeAnomalySegmentor'])
def test_score_is_that_of_the_perturbed_image_and_classes_are_not(kind: str) -> None:
    inputs, plain = image(batch=2), build(kind, score=dict(type='msp', temperature=1000.0))
    unmoved, moved = dict(type='ODIN', epsilon=0.0, name='unmoved'), dict(type='ODIN', epsilon=0.01, name='moved')
    model = build(kind, scores=['energy', unmoved, moved])
    shifted = perturbed(plain, inputs, epsilon=0.01)
    assert not torch.equal(shifted, inputs)
    results = zip(predict(model, inputs), predict(plain, inputs), predict(plain, shifted))
    for result, expected, expected_moved in results:
        assert result.score_names == ('energy', 'unmoved', 'moved')
        assert torch.equal(result.seg_logits.data, expected.seg_logits.data)
        assert torch.equal(result.pred_sem_seg.data, expected.pred_sem_seg.data)
        torch.testing.assert_close(result.anomaly_scores.data[1], expected.anomaly_scores.data[0])
        torch.testing.assert_close(result.anomaly_scores.data[2], expected_moved.anomaly_scores.data[0])
        logits = expected_moved.seg_logits.data.double().numpy() / 1000
        np.testing.assert_allclose(
            result.anomaly_scores.data[2], 1 - np.exp(log_softmax(logits, axis=0)).max(0), rtol=1e-6)
    assert all(param.grad is None for param in model.parameters())


def test_every_window_is_perturbed_and_images_do_not_mix() -> None:
    slide = dict(mode='slide', crop_size=(8, 8), stride=(8, 4))
    inputs = image(batch=2)
    model = build(test_cfg=slide, score=dict(type='ODIN', epsilon=0.05))
    plain = build(score='msp')
    with torch.no_grad():
        metas = [dict(img_shape=(8, 8))]
        windows = [
            plain.encode_decode(perturbed(plain, inputs[..., left:left + 8], epsilon=0.05), metas) for left in (0, 4)
        ]
    logits = torch.cat([windows[0][..., :4], (windows[0][..., 4:] + windows[1][..., :4]) / 2, windows[1][..., 4:]], 3)
    results = torch.cat([result.anomaly_scores.data for result in predict(model, inputs)])
    torch.testing.assert_close(results, 1 - (logits / 1000).softmax(1).amax(1))
    torch.testing.assert_close(predict(model, inputs[:1])[0].anomaly_scores.data[0], results[0])


@pytest.mark.parametrize('settings, name', [
    (dict(), 'ODIN'),
    (dict(epsilon=0.01), 'ODIN(T=1000,epsilon=0.01)'),
    (dict(temperature=1.0), 'ODIN(T=1,epsilon=0.0014)'),
])
def test_names_say_what_differs(settings: dict, name: str) -> None:
    assert ODIN(**settings).name == name


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match='temperature must be positive'):
        build(score=dict(type='ODIN', temperature=0))
    with pytest.raises(ValueError, match='epsilon not negative'):
        build(score=dict(type='ODIN', epsilon=-1.0))
    model = build(decode_head=dict(HEAD, num_classes=2, out_channels=1, threshold=0.5), score='ODIN')
    with pytest.raises(ValueError, match='one channel'):
        predict(model, image())
    with pytest.raises(ValueError, match='no scores of features or inputs: leave out ODIN'):
        build('MCDropoutAnomalySegmentor', decode_head=dict(HEAD, dropout_ratio=0.5), score='ODIN')
