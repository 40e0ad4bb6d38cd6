# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_components  # noqa: F401
import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

import mgcda  # noqa: F401


def network(channels: int = 4, num_classes: int = 5, mean: float = 100.0) -> dict:
    return dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[mean] * 3, std=[50.0] * 3, bgr_to_rgb=True),
        backbone=dict(type='TinyBackbone', channels=channels),
        decode_head=dict(
            type='FCNHead',
            in_channels=channels,
            channels=4,
            num_convs=1,
            num_classes=num_classes,
            norm_cfg=dict(type='BN')),
        test_cfg=dict(mode='whole'))


@pytest.fixture
def write(tmp_path: Path):
    """Write a network's config and checkpoint; returns the member and the network."""

    def write(name: str, seed: int, **kwargs: Any) -> tuple:
        cfg = network(**kwargs)
        torch.manual_seed(seed)
        model = MODELS.build(ConfigDict(cfg)).eval()
        (tmp_path / f'{name}.py').write_text(f'model = {cfg!r}\n')
        torch.save(dict(state_dict=model.state_dict()), tmp_path / f'{name}.pth')
        return dict(config=str(tmp_path / f'{name}.py'), checkpoint=str(tmp_path / f'{name}.pth')), model

    return write


def build(members: list, **kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    cfg = dict(network(), type='EnsembleAnomalySegmentor', members=members, scores=['mutual_information', 'msp'])
    return MODELS.build(ConfigDict(dict(cfg, **kwargs))).eval()


def cascade() -> dict:
    head = network()['decode_head']
    refined = dict(type='OCRHead', in_channels=4, channels=4, ocr_channels=4, num_classes=5, norm_cfg=dict(type='BN'))
    return dict(type='CascadeEnsembleAnomalySegmentor', num_stages=2, decode_head=[head, refined])


@pytest.mark.parametrize('kwargs', [dict(), cascade()])
def test_networks_are_averaged(write, kwargs: dict) -> None:
    (first, one), (second, two) = write('one', 1), write('two', 2, channels=6)
    model = build([first, second], **kwargs)
    inputs = torch.rand(1, 3, 16, 24)
    metas = [dict(img_shape=(16, 24), ori_shape=(20, 30))]
    with torch.no_grad():
        result = model.predict(inputs, [SegDataSample(metainfo=metas[0])])[0]
        logits = torch.cat([member.inference(inputs, metas) for member in (model, one, two)])
    p = nn.functional.interpolate(logits, (20, 30), mode='bilinear').double().softmax(1)
    mean, expected = p.mean(0), torch.special.entr(p).sum(1).mean(0)
    information = torch.special.entr(mean).sum(0) - expected
    assert information.max() > 1e-3
    np.testing.assert_allclose(result.anomaly_scores.data, torch.stack([information, 1 - mean.amax(0)]), atol=2e-6)


def test_members_are_frozen_and_never_saved(write) -> None:
    model = build([write('one', 1)[0]])
    assert set(model.state_dict()) == set(MODELS.build(ConfigDict(network())).state_dict())
    assert not any(param.requires_grad for param in model.members[0].parameters())
    assert not model.train().members[0].training


def test_wrong_members_are_refused(write) -> None:
    with pytest.raises(ValueError, match='members must name at least one more network'):
        build([])
    with pytest.raises(ValueError, match=r'members\[1\] has 4 classes, the model 5'):
        build([write('one', 1)[0], write('two', 2, num_classes=4)[0]])
    with pytest.raises(ValueError, match=r'members\[0\] normalises images in another way: .* another mean'):
        build([write('other', 1, mean=90.0)[0]])
    with pytest.raises(FileNotFoundError, match=r'members\[0\]: config nowhere.py does not exist'):
        build([dict(config='nowhere.py', checkpoint=None)])
    with pytest.raises(ValueError, match=r'members\[0\]: .*two.* does not fit the model'):
        build([dict(config=write('one', 1)[0]['config'], checkpoint=write('two', 2, channels=6)[0]['checkpoint'])])
