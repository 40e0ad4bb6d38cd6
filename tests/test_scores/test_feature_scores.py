# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Scores of a layer's features share all that happens to the logits, and are never mistaken for them."""
import copy

import pytest
import tiny_components  # noqa: F401
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mgcda.scores import Score

HEAD = dict(type='FCNHead', in_channels=4, channels=6, num_convs=1, num_classes=5, norm_cfg=None)
SLIDE = dict(mode='slide', crop_size=(16, 16), stride=(8, 10))


class FirstFeature(Score):
    """The first feature, at half the layer's resolution."""
    needs = ('features', )

    def __init__(self, layer, name='first'):
        self.layers, self.name = (layer, ), name

    def __call__(self, outputs):
        return F.avg_pool2d(outputs['features'][0], 2)[:, 0]


def build(cascade=False, head=HEAD, test_cfg=dict(mode='whole'), **kwargs):
    torch.manual_seed(0)
    if cascade:
        refine = dict(HEAD, type='OCRHead', ocr_channels=4, norm_cfg=dict(type='BN'))
        del refine['num_convs']
        kwargs.update(type='CascadeAnomalySegmentor', num_stages=2, decode_head=[head, refine])
    else:
        kwargs.update(type='AnomalySegmentor', decode_head=head)
    cfg = dict(backbone=dict(type='TinyBackbone', channels=4), test_cfg=test_cfg, **kwargs)
    return MODELS.build(ConfigDict(copy.deepcopy(cfg))).eval()


def set_scores(model, *scores):
    model.scores = {score.name: score for score in scores}
    model.score_names = tuple(model.scores)
    return model


def image(height=24, width=36, batch=1):
    return 255 * torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def predict(model, inputs, **meta):
    meta = dict(dict(ori_shape=tuple(inputs.shape[-2:]), img_shape=tuple(inputs.shape[-2:])), **meta)
    with torch.no_grad():
        return model.predict(inputs, [SegDataSample(metainfo=meta) for _ in inputs])


def first_feature(model, inputs):
    with torch.no_grad():
        small = F.avg_pool2d(model.backbone(inputs)[0], 2)[:, :1]
        return F.interpolate(small, size=inputs.shape[-2:], mode='bilinear', align_corners=False)


@pytest.mark.parametrize('cascade', [False, True])
def test_maps_stand_beside_scores_of_logits_and_leave_predictions_alone(cascade):
    plain, inputs = build(cascade, score='msp'), image(batch=2)
    score, = plain.scores.values()
    model = set_scores(build(cascade, score='msp'), FirstFeature('backbone.conv'), score)
    expected, results = predict(plain, inputs, ori_shape=(30, 40)), predict(model, inputs, ori_shape=(30, 40))
    maps = F.interpolate(first_feature(model, inputs), size=(30, 40), mode='bilinear', align_corners=False)
    for index, (one, other) in enumerate(zip(results, expected)):
        assert one.score_names == ('first', 'msp')
        assert one.seg_logits.data.shape == (5, 30, 40) and torch.equal(one.seg_logits.data, other.seg_logits.data)
        assert torch.equal(one.pred_sem_seg.data, other.pred_sem_seg.data)
        assert torch.equal(one.anomaly_scores.data[1:], other.anomaly_scores.data)
        torch.testing.assert_close(one.anomaly_scores.data[0], maps[index, 0])
        assert one.seg_logits.data.untyped_storage().nbytes() == 5 * 30 * 40 * 4  # saved results hold no map either


@pytest.mark.parametrize('cascade', [False, True])
def test_sliding_windows_are_averaged(cascade):
    inputs = image()
    plain, model = (build(cascade, test_cfg=SLIDE, score='msp') for _ in range(2))
    set_scores(model, FirstFeature('backbone.conv'))
    total, count = torch.zeros(24, 36), torch.zeros(24, 36)
    for top in (0, 8):
        for left in (0, 10, 20):
            rows, columns = slice(top, top + 16), slice(left, left + 16)
            total[rows, columns] += first_feature(model, inputs[..., rows, columns])[0, 0]
            count[rows, columns] += 1
    result, expected = predict(model, inputs)[0], predict(plain, inputs)[0]
    torch.testing.assert_close(result.anomaly_scores.data[0], total / count)
    assert torch.equal(result.seg_logits.data, expected.seg_logits.data)
    assert model.out_channels == 5


def test_padding_and_flips_are_undone():
    inputs = image()
    model = set_scores(build(score='msp'), FirstFeature('backbone.conv'))
    whole = first_feature(model, inputs)[0, 0]
    result = predict(
        model, inputs, ori_shape=(20, 33), img_padding_size=(0, 3, 0, 4), flip=True, flip_direction='horizontal')[0]
    torch.testing.assert_close(result.anomaly_scores.data[0], whole[:20, :33].flip(1))


def test_one_channel_heads_keep_their_prediction():
    head = dict(HEAD, num_classes=2, out_channels=1, threshold=0.5)
    plain = build(head=head)
    model = set_scores(build(head=head), FirstFeature('backbone.conv'))
    result, expected = predict(model, image())[0], predict(plain, image())[0]
    assert torch.equal(result.pred_sem_seg.data, expected.pred_sem_seg.data)
    assert torch.equal(result.seg_logits.data, expected.seg_logits.data)


def test_nothing_is_hooked_where_no_score_needs_features(monkeypatch):
    model = build(score='msp')
    monkeypatch.setattr(torch.nn.Module, 'register_forward_hook', None)
    assert predict(model, image())[0].anomaly_scores.shape == (24, 36)


def test_hooks_are_gone_after_a_prediction():
    model = set_scores(build(score='msp'), FirstFeature('backbone.conv'))
    predict(model, image())
    assert not model.backbone.conv._forward_hooks


@pytest.mark.parametrize('layer, match', [
    ('backbone.con', r"no layer 'backbone.con'; near it are \['backbone.conv'"),
    ('stem', r"near it are \[.*'decode_head'"),
    ('', 'no layer'),
    (3, 'must have `layers`'),
])
def test_unknown_layers_are_refused_when_the_model_is_built(layer, match):
    with pytest.raises(ValueError, match=match):
        build(scores=['msp', FirstFeature(layer)])


def test_scores_of_features_and_logits_at_once_are_refused():
    score = FirstFeature('backbone.conv')
    score.needs = ('features', 'seg_logits')
    with pytest.raises(ValueError, match="'features' alone"):
        build(score=score)


def test_several_maps_need_a_way_to_combine_them():

    class TwoFeatures(FirstFeature):
        num_maps = 2

        def __call__(self, outputs):
            return outputs['features'][0][:, :2]

    with pytest.raises(NotImplementedError, match="'first' returns 2 maps and must implement combine"):
        predict(build(score=TwoFeatures('backbone.conv')), image())


def test_layers_without_a_map_are_refused():
    with pytest.raises(ValueError, match='gives a tuple'):
        predict(build(score=FirstFeature('backbone')), image())
    model = build(score=FirstFeature('auxiliary_head.conv_seg'), auxiliary_head=HEAD)
    with pytest.raises(ValueError, match="'auxiliary_head.conv_seg' is not run on each image"):
        predict(model, image())
