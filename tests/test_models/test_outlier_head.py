# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Logits of outliers behind those of the classes, layers that are tuned alone, and taps named by config."""
import copy

import pytest
import tiny_components  # noqa: F401
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mgcda.labels import OUTLIER
from mgcda.models.layers import OutlierClassifier
from mgcda.scores import Score

HEAD = dict(
    type='FCNHead',
    in_channels=4,
    channels=6,
    num_convs=1,
    num_classes=5,
    norm_cfg=dict(type='BN'),
    loss_decode=dict(type='PixelCrossEntropyLoss', outliers='last_class'))
TWO_HEADS = dict(
    decode_head=dict(HEAD, loss_decode=dict(type='OutlierHeadLoss')),
    outlier_head=dict(num_logits=2),
    score='outlier_posterior')
VOID = dict(outlier_head=dict(num_logits=1), score='void_class')
SLIDE = dict(mode='slide', crop_size=(16, 16), stride=(8, 10))


def build(**kwargs):
    torch.manual_seed(0)
    cfg = dict(
        type='AnomalySegmentor',
        backbone=dict(type='TinyBackbone', channels=4),
        decode_head=HEAD,
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[0.] * 3, std=[1.] * 3),
        test_cfg=dict(mode='whole'))
    model = MODELS.build(ConfigDict(copy.deepcopy({**cfg, **kwargs})))
    model.init_weights()
    return model


def image(height=24, width=36, batch=2):
    return 255 * torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def samples(batch=2, size=(24, 36)):
    label = torch.randint(0, 5, (batch, 1, *size), generator=torch.Generator().manual_seed(2))
    label[:, :, :6], label[:, :, -4:] = OUTLIER, 255
    return [
        SegDataSample(metainfo=dict(ori_shape=size, img_shape=size, domain=i % 2), gt_sem_seg=PixelData(data=label[i]))
        for i in range(batch)
    ]


def predict(model, inputs):
    with torch.no_grad():
        return model.eval().predict(inputs, samples(len(inputs), tuple(inputs.shape[-2:])))


def all_logits(model, inputs):
    """Of classes and of outliers, at the resolution of the images."""
    with torch.no_grad():
        logits = model.eval().decode_head(model.backbone(inputs))
        return F.interpolate(logits, size=inputs.shape[-2:], mode='bilinear', align_corners=False)


@pytest.mark.parametrize('norm_cfg', [None, dict(type='BN')])
def test_predictions_are_of_the_classes(norm_cfg):
    scores = ['msp', 'void_class', 'energy', 'ODIN', dict(type='ASH', name='ASH')]
    model = build(outlier_head=dict(num_logits=1, norm_cfg=norm_cfg), scores=scores)
    inputs = image()
    logits = all_logits(model, inputs)
    assert logits.shape == (2, 6, 24, 36)
    for index, sample in enumerate(predict(model, inputs)):
        classes, void = logits[index, :5], logits[index, 5]
        torch.testing.assert_close(sample.seg_logits.data, classes)
        assert torch.equal(sample.pred_sem_seg.data[0], sample.seg_logits.data.argmax(0))
        assert sample.anomaly_scores.data.shape == (5, 24, 36)
        torch.testing.assert_close(sample.anomaly_scores.data[0], 1 - classes.softmax(0).amax(0))
        torch.testing.assert_close(sample.anomaly_scores.data[1], void - classes.logsumexp(0))
        assert sample.anomaly_scores.data[4].unique().numel() > 1
        # nothing but the classes is kept in memory with saved results
        assert sample.seg_logits.data.untyped_storage().nbytes() == 5 * 24 * 36 * 4


def test_sliding_windows_average_the_outlier_logits():
    inputs = image()
    window, whole = build(test_cfg=SLIDE, **VOID), build(**VOID)
    assert window.state_dict().keys() == whole.state_dict().keys()
    scores = predict(window, inputs)[0].anomaly_scores.data
    whole_scores = predict(whole, inputs)[0].anomaly_scores.data
    assert scores.shape == (1, 24, 36) and not torch.equal(scores, whole_scores)
    torch.testing.assert_close(scores[0, :6, :8], whole_scores[0, :6, :8], rtol=0.02, atol=0.02)


@pytest.mark.parametrize('norm_cfg', [None, dict(type='BN')])
def test_weights_of_the_segmenter_alone_load(norm_cfg):
    plain = build(score='msp')
    model = build(outlier_head=dict(num_logits=2, norm_cfg=norm_cfg), score='outlier_posterior')
    missing, unexpected = model.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and missing and all('decode_head.conv_seg.outliers.' in name for name in missing)
    inputs = image()
    for one, other in zip(predict(model, inputs), predict(plain, inputs)):
        torch.testing.assert_close(one.seg_logits.data, other.seg_logits.data)


def test_initialisation_spares_the_normalisation():
    norm, relu, conv = build(
        outlier_head=dict(num_logits=2, norm_cfg=dict(type='BN')), score='dense_hybrid').decode_head.conv_seg.outliers
    assert (norm.weight == 1).all() and (norm.bias == 0).all() and conv.weight.std() > 0.05


@pytest.mark.parametrize('kwargs', [VOID, TWO_HEADS])
def test_losses_get_all_channels_and_all_weights_their_gradient(kwargs):
    model = build(**kwargs).train()
    losses = model.loss(image(), samples())
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert all(param.grad is not None and param.grad.any() for param in model.parameters() if param.dim() > 1)


def test_tuned_layers_alone_train():
    model = build(tuned=['decode_head.conv_seg'], **VOID)
    trainable = {name for name, param in model.named_parameters() if param.requires_grad}
    assert trainable == {
        f'decode_head.conv_seg.{name}'
        for name in ('weight', 'bias', 'outliers.0.weight', 'outliers.0.bias')
    }
    model.train()
    assert model.training and not model.decode_head.convs[0].bn.training and model.decode_head.conv_seg.training
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    model.loss(image(), samples())['decode.loss_ce'].backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == trainable


def train_only():
    return dict(
        projector=dict(type='Projector', in_channels=6, channels=(8, 8)), contrast=dict(type='CACLLoss', num_anchors=4))


@pytest.mark.parametrize(('kwargs', 'tap', 'logit'), [
    (VOID, dict(score='void_class', threshold=-4.), lambda z: 4 + z[:, 5:] - z[:, :5].logsumexp(1, keepdim=True)),
    (TWO_HEADS, dict(score='outlier_posterior', threshold=-4.), lambda z: 4 + z[:, 6:] - z[:, 5:6]),
    (VOID, dict(score='energy', threshold=-9.), lambda z: 9 - z[:, :5].logsumexp(1, keepdim=True)),
])
def test_taps_read_a_host_by_config(kwargs, tap, logit):
    plain = build(**kwargs)
    model = build(taps=dict(tap, features='backbone.conv'), train_only=train_only(), **kwargs)
    assert set(model.state_dict()) - set(plain.state_dict()) == {
        name
        for name in model.state_dict() if name.startswith('train_only.')
    }
    model.load_state_dict(plain.state_dict(), strict=False)
    seen = {}

    def alignment(taps, domains):
        seen.update(taps, domains=domains)
        return dict(loss_mda_feature=taps['features'].mean(), loss_mda_output=taps['anomaly_logit'].sigmoid().mean())

    model.eval().set_alignment(alignment)
    inputs = image()
    losses = model.loss(inputs, samples())
    assert {'decode.' + model.decode_head.loss_decode.loss_name, 'loss_mda_feature', 'loss_mda_output',
            'loss_cacl'} <= set(losses)
    assert losses['loss_cacl'] > 0  # outliers are its anomalies
    features, = plain.eval().backbone(inputs)
    torch.testing.assert_close(seen['features'], features)
    torch.testing.assert_close(seen['anomaly_logit'], logit(plain.decode_head((features, ))))
    assert seen['embedding'].shape == (2, 6, 24, 36) and seen['domains'] == [0, 1]
    gradient, = torch.autograd.grad(losses['loss_mda_output'] + losses['loss_cacl'], model.backbone.conv.weight)
    assert gradient.any()

    model.switch_to_deploy()
    assert model.state_dict().keys() == plain.state_dict().keys()
    for one, other in zip(predict(model, inputs), predict(plain, inputs)):
        assert torch.equal(one.anomaly_scores.data, other.anomaly_scores.data)


def test_binary_heads_are_hosts_with_their_own_targets():
    head = dict(HEAD, num_classes=2, out_channels=2, loss_decode=dict(type='PixelCrossEntropyLoss'))
    model = build(decode_head=head, taps=dict(score='logit_margin', threshold=-9.), train_only=train_only())
    batch = samples()
    for sample in batch:
        label = sample.gt_sem_seg.data
        sample.gt_sem_seg.data = label.masked_fill(label < 5, 0).masked_fill(label == OUTLIER, 1)
    assert model.loss(image(), batch)['loss_cacl'] > 0


def test_one_of_several_outputs_is_a_tap():
    model = build(taps=dict(score='void_class', features='backbone[-1]'), train_only=train_only(), **VOID)
    seen, inputs = {}, image()
    model.eval().set_alignment(lambda taps, domains: seen.update(taps) or {})
    model.loss(inputs, samples())
    assert torch.equal(seen['features'], model.backbone(inputs)[-1])
    model = build(taps=dict(score='void_class', features='backbone[2]'), train_only=train_only(), **VOID)
    with pytest.raises(ValueError, match=r"'backbone\[2\]' \(TinyBackbone\) gives a tuple of 1, of which there is no"):
        model.loss(image(), samples())


def test_score_of_inputs_and_logits_is_made_at_the_resolution_of_the_network():

    class Mixed(Score):
        needs, name = ('inputs', 'seg_logits'), 'mixed'

        def __call__(self, outputs):
            return outputs['inputs'].mean(1) + outputs['seg_logits'].softmax(1)[:, 0]

    model, inputs = build(**VOID), image()
    model.scores = dict(mixed=Mixed())
    scores = predict(model, inputs)[0].anomaly_scores.data
    expected = inputs[0].mean(0) + all_logits(model, inputs)[0, :5].softmax(0)[0]
    torch.testing.assert_close(scores[0], expected)


def test_bad_settings():
    plain = dict(score='msp')
    for kwargs, message in (
        (dict(score='void_class'), "score 'void_class' needs logits of outliers: set model.outlier_head"),
        (dict(VOID, outlier_head=dict(num_logits=2)), "'void_class' and outlier_head.num_logits=2 do not go together"),
        (dict(VOID, outlier_head=dict(num_logits=0)), 'num_logits must be at least 1'),
        (dict(plain, tuned=['decode_head.conv_sag']), "no layer 'decode_head.conv_sag'.*conv_seg"),
        (dict(plain, taps=dict(score='msp', features='backbone.layer4')), "no layer 'backbone.layer4'"),
        (dict(plain, taps=dict(score='ODIN')), 'taps.score must be a score of logits'),
    ):
        with pytest.raises(ValueError, match=message):
            build(**kwargs)
    gmm = dict(HEAD, type='GMMSegformerHead', in_channels=[4], in_index=[0])
    del gmm['num_convs']
    with pytest.raises(ValueError, match='GMMSegformerHead'):
        build(decode_head=gmm, **VOID)
    with pytest.raises(ValueError, match='MCDropoutAnomalySegmentor has no logits of outliers'):
        build(type='MCDropoutAnomalySegmentor', **{**VOID, 'score': 'predictive_entropy'})
    frozen = build(tuned=['decode_head.conv_seg'], taps=dict(score='void_class'), train_only=train_only(), **VOID)
    with pytest.raises(ValueError, match=r"nothing that trains lies in front of 'backbone\[-1\]'"):
        frozen.loss(image(), samples())
    with pytest.raises(ValueError, match='num_logits'):
        OutlierClassifier(torch.nn.Conv2d(3, 5, 1), 0)
