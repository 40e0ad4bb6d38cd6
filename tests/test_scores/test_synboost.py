# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""SynBoost's ensemble, worked out by hand and inside the segmentor."""
import numpy as np
import pytest
import tiny_components  # noqa: F401
import tiny_dissimilarity  # noqa: F401
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from scipy.special import softmax

from mgcda.scores import SynBoostEnsemble, build_score, logit_margin

HEAD = dict(
    type='DissimilarityDecodeHead',
    in_channels=(4, 8),
    feature_strides=(1, 2),
    fusion_channels=(6, 8),
    semantic_channels=(3, 4),
    decoder_channels=(5, 6),
    spade_channels=4)
SIZE, ORIGINAL = (16, 24), (24, 36)
OTHER = (0.4, 0.3, 0.2, 0.1)


def inputs(batch=2):
    generator = torch.Generator().manual_seed(1)
    semantic = torch.randint(0, 19, (batch, 1, *SIZE), generator=generator).float()
    return torch.cat(
        [torch.randn(batch, 6, *SIZE, generator=generator), semantic,
         torch.rand(batch, 3, *SIZE, generator=generator)],
        dim=1)


def build(**kwargs):
    torch.manual_seed(0)
    return MODELS.build(
        ConfigDict(
            dict(
                type='DissimilaritySegmentor',
                backbone=dict(type='TinyPyramid', channels=(4, 8)),
                decode_head=HEAD,
                test_cfg=dict(mode='whole'),
                **kwargs))).eval()


@pytest.mark.parametrize('weights', [None, OTHER])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_it_mixes_probability_and_maps(weights, dtype):
    x, logits = inputs().to(dtype), (30 * torch.randn(2, 2, *SIZE)).to(dtype)
    score = build_score(dict(type='SynBoostEnsemble', **({} if weights is None else dict(weights=weights))))
    mixed = score(dict(inputs=x, seg_logits=logits))
    assert mixed.dtype == torch.float32 and mixed.shape == (2, *SIZE)
    w = weights or (0.75, 0.25, 0, 0)
    maps = x.double().numpy()
    expected = w[0] * softmax(logits.double().numpy(), axis=1)[:, 1]
    for weight, channel in zip(w[1:], (7, 8, 9)):
        expected = expected + weight * maps[:, channel]
    np.testing.assert_allclose(mixed, expected, atol=1e-6)


def test_names_tell_the_weights():
    assert build_score('SynBoostEnsemble').name == 'SynBoostEnsemble'
    assert SynBoostEnsemble(OTHER).name == 'SynBoostEnsemble(0.4,0.3,0.2,0.1)'
    assert build_score(dict(type='SynBoostEnsemble', name='ensemble')).name == 'ensemble'


def test_beside_the_margin_in_one_pass_of_the_network():
    """The margin is that of a model without scores; the ensemble is mixed at the network's size, then resized."""
    alone, both = build(), build(scores=['logit_margin', dict(type='SynBoostEnsemble', weights=OTHER)])
    x = inputs()
    samples = [SegDataSample(metainfo=dict(ori_shape=ORIGINAL, img_shape=SIZE)) for _ in x]
    with torch.no_grad():
        single, several = alone.predict(x, samples), both.predict(x, [sample.clone() for sample in samples])
        logits = alone.encode_decode(x, [dict(img_shape=SIZE)] * 2)
    mixed = SynBoostEnsemble(OTHER)(dict(inputs=x, seg_logits=logits))
    expected = F.interpolate(mixed[:, None], ORIGINAL, mode='bilinear', align_corners=False)
    for i in range(2):
        assert several[i].score_names == ('logit_margin', 'SynBoostEnsemble(0.4,0.3,0.2,0.1)')
        scores = several[i].anomaly_scores.data
        torch.testing.assert_close(scores[:1], single[i].anomaly_scores.data)
        torch.testing.assert_close(scores[1:], expected[i])
        torch.testing.assert_close(several[i].seg_logits.data, single[i].seg_logits.data)


def test_wrong_settings_and_models_are_refused():
    for weights in ((0.75, 0.25), (0, 0, 0, 0), (1, -1, 0, 0)):
        with pytest.raises(ValueError, match='weights must be 4 numbers'):
            SynBoostEnsemble(weights)
    with pytest.raises(ValueError, match='from inputs of 10 channels, got 3'):
        SynBoostEnsemble()(dict(inputs=inputs()[:, :3], seg_logits=torch.zeros(2, 2, *SIZE)))
    with pytest.raises(ValueError, match='needs the two logits of a binary head'):
        logit_margin(torch.zeros(2, 19, *SIZE))
    segmenter = MODELS.build(
        ConfigDict(
            dict(
                type='AnomalySegmentor',
                backbone=dict(type='TinyBackbone', channels=4),
                score='SynBoostEnsemble',
                decode_head=dict(type='FCNHead', in_channels=4, channels=6, num_convs=1, num_classes=5, norm_cfg=None),
                test_cfg=dict(mode='whole')))).eval()
    with pytest.raises(ValueError, match='this one has 5 classes'):
        segmenter.inference(torch.randn(1, 3, *SIZE), [dict(img_shape=SIZE)])
