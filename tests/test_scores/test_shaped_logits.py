# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""ReAct and ASH: against NumPy, beside other scores in a model, and refused."""
import copy

import numpy as np
import pytest
import tiny_components  # noqa: F401
import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score
from tiny_components import write_tiny_run

from mgcda.scores import ASH, ReAct, build_score
from mgcda.scores.fitting.score_file import write_fitted

HEAD = dict(
    type='FCNHead', in_channels=4, channels=16, num_convs=1, num_classes=5, norm_cfg=dict(type='BN'), dropout_ratio=0.5)
SLIDE = dict(mode='slide', crop_size=(16, 16), stride=(8, 10))
CLASSES = tuple('abcde')


def build(cascade=False, head=HEAD, test_cfg=dict(mode='whole'), seed=0, **kwargs):
    if cascade:
        refine = dict(head, type='OCRHead', ocr_channels=4)
        del refine['num_convs']
        kwargs.update(type='CascadeAnomalySegmentor', num_stages=2, decode_head=[head, refine])
    else:
        kwargs.update(type='AnomalySegmentor', decode_head=head)
    cfg = dict(backbone=dict(type='TinyBackbone', channels=4), test_cfg=test_cfg, **kwargs)
    model = MODELS.build(ConfigDict(copy.deepcopy(cfg))).eval()
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=1.0 if 'conv_seg' in name else 0.5)
    return model


def image(height=24, width=36, batch=1, seed=1):
    return 255 * torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def predict(model, inputs, **meta):
    meta = dict(dict(ori_shape=tuple(inputs.shape[-2:]), img_shape=tuple(inputs.shape[-2:])), **meta)
    with torch.no_grad():
        return model.predict(inputs, [SegDataSample(metainfo=meta) for _ in inputs])


def features_of(model, inputs, classifier='decode_head.conv_seg'):
    """Features (N, D, h, w) in front of the classifier."""
    kept = []
    handle = model.get_submodule(classifier).register_forward_pre_hook(lambda module, args: kept.append(args[0]))
    predict(model, inputs)
    handle.remove()
    return kept[-1]


def fit(path, model, classifier='decode_head.conv_seg', **settings):
    """Write a ReAct of a model; the sample of its features, (M, D)."""
    score = ReAct(classifier=classifier, **settings)
    for seed in (1, 2):
        inputs = image(seed=seed)
        score.update(dict(features=(features_of(model, inputs, classifier), )), torch.zeros(1, 24, 36), f'{seed}')
    score.finish()
    write_fitted(path, score, model, CLASSES, 'street.py', 2)
    return score.samples['valid'].vectors


def reference_shape(features, variant, percentile):
    """float64 ASH of features (D, h, w), pixel by pixel."""
    shaped = np.zeros_like(features, dtype=np.float64)
    num = features.shape[0]
    num_kept = num - int(np.round(num * percentile / 100))
    for y, x in np.ndindex(*features.shape[1:]):
        pixel = features[:, y, x].astype(np.float64)
        best = np.argsort(-pixel, kind='stable')[:num_kept]
        shaped[best, y, x] = pixel[best]
        if variant == 'b':
            shaped[best, y, x] = pixel.sum() / num_kept
        elif variant == 's' and pixel[best].sum() > 0:
            shaped[best, y, x] = pixel[best] * np.exp(pixel.sum() / pixel[best].sum())
    return shaped


def reference_energy(features, conv):
    """float64 energy (h, w) of the logits of features (D, h, w)."""
    weight, bias = conv.weight[:, :, 0, 0].detach().double().numpy(), conv.bias.detach().double().numpy()
    return -logsumexp(np.einsum('cd,dhw->chw', weight, features) + bias[:, None, None], axis=0)


# The shaping


@pytest.mark.parametrize('variant', ['p', 'b', 's'])
@pytest.mark.parametrize('percentile', [0, 35, 65, 90, None])
def test_ash_shapes_each_pixel_as_the_reference(variant, percentile):
    features = torch.randn(2, 5, 6, 10, generator=torch.Generator().manual_seed(0)).abs()
    score = ASH(variant, percentile)
    default = dict(p=60, b=65, s=90)[variant]
    assert score.percentile == (default if percentile is None else percentile)
    for one, shaped in zip(features.numpy(), score.shape(features).numpy()):
        expected = reference_shape(one.transpose(2, 0, 1), variant, score.percentile)
        np.testing.assert_allclose(shaped.transpose(2, 0, 1), expected, rtol=1e-5)


def test_ash_by_hand():
    features = torch.tensor([4., 1, 3, 2])  # of 4, round(4 * 0.4) = 2 are pruned
    for variant, expected in (('p', [4, 0, 3, 0]), ('b', [5, 0, 5, 0]), ('s', [4, 0, 3, 0])):
        scale = np.exp(10 / 7) if variant == 's' else 1
        shaped = ASH(variant, 40).shape(features)
        torch.testing.assert_close(shaped, scale * torch.tensor(expected).float())
    five = torch.tensor([1., 2, 3, 4, 5])  # round(2.5) = 2 are pruned
    assert ASH('p', 50).shape(five).tolist() == [0, 0, 3, 4, 5]


def test_ash_of_activations_without_a_sum_is_finite():
    features = torch.zeros(3, 10)  # of which two are kept
    features[1] = -1
    features[2, :2] = torch.tensor([1., -1000])
    for variant in 'pbs':
        shaped = ASH(variant, 80).shape(features)
        assert shaped.isfinite().all() and not shaped[0].any()


def test_ash_keeps_the_first_of_equal_activations():
    features = torch.tensor([0., 2, 0, 5, 0, 0, 2, 0, 0, 0])
    assert ASH('b', 80).shape(features).tolist() == [0, 4.5, 0, 4.5, 0, 0, 0, 0, 0, 0]
    assert ASH('p', 80).shape(features).tolist() == [0, 2, 0, 5, 0, 0, 0, 0, 0, 0]
    assert ASH('b', 50).shape(features).nonzero().flatten().tolist() == [0, 1, 2, 3, 6]


def test_react_threshold_is_the_percentile_of_all_sampled_activations(tmp_path):
    sample = fit(tmp_path / 'react.pth', build(score='msp'))
    assert sample.shape == (2 * 24 * 36, 16)
    model = build(score='msp')
    for percentile, expected in ((90, np.percentile(sample.numpy().astype(np.float64),
                                                    90)), (12.5, np.percentile(sample.numpy().astype(np.float64),
                                                                               12.5)), (100, np.inf)):
        score = ReAct(percentile, fitted=str(tmp_path / 'react.pth'))
        score.prepare(model)
        assert score.threshold == pytest.approx(expected, rel=1e-6)


# In a model


@pytest.mark.parametrize('cascade', [False, True])
def test_predictions_agree_with_the_reference_and_leave_the_rest_alone(cascade, tmp_path):
    classifier = 'decode_head.1.conv_seg' if cascade else 'decode_head.conv_seg'
    plain, inputs = build(cascade, score='energy'), image(batch=2, seed=3)
    fitted = str(tmp_path / 'react.pth')
    sample = fit(fitted, plain, classifier)
    ashes = [dict(type='ASH', variant=variant, classifier=classifier) for variant in 'pbs']
    react = dict(type='ReAct', classifier=classifier, fitted=fitted, name='react')
    model = build(cascade, scores=[react, 'energy', *ashes])
    results, expected = predict(model, inputs), predict(plain, inputs)
    features, conv = features_of(plain, inputs, classifier).numpy(), plain.get_submodule(classifier)
    threshold = np.percentile(sample.numpy(), 90)
    for result, other, own in zip(results, expected, features):
        assert result.score_names == ('react', 'energy', 'ASH-P@60', 'ASH-B@65', 'ASH-S@90')
        assert torch.equal(result.seg_logits.data, other.seg_logits.data)
        assert torch.equal(result.pred_sem_seg.data, other.pred_sem_seg.data)
        assert torch.equal(result.anomaly_scores.data[1], other.anomaly_scores.data[0])
        shaped = [
            np.minimum(own.astype(np.float64), threshold), own,
            *(reference_shape(own, *pair) for pair in (('p', 60), ('b', 65), ('s', 90)))
        ]
        assert result.anomaly_scores.data.dtype == torch.float32
        for scores, part in zip(result.anomaly_scores.data.numpy(), shaped):
            np.testing.assert_allclose(scores, reference_energy(part, conv), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('cascade', [False, True])
@pytest.mark.parametrize('test_cfg', [dict(mode='whole'), SLIDE])
def test_nothing_clipped_and_nothing_pruned_is_the_plain_score(cascade, test_cfg, tmp_path):
    classifier = 'decode_head.1.conv_seg' if cascade else 'decode_head.conv_seg'
    fitted = str(tmp_path / 'react.pth')
    fit(fitted, build(cascade, score='msp'), classifier)
    pair = [dict(type='ReAct', percentile=100, fitted=fitted), dict(type='ASH', variant='p', percentile=0)]
    scores = []
    for score in ('energy', 'entropy', dict(type='energy', temperature=2.0)):
        scores += [score, *(dict(cfg, classifier=classifier, score=score) for cfg in pair)]
    model = build(cascade, test_cfg=test_cfg, scores=scores)
    # The features are half as large as the logits, which are padded, flipped and then resized to the original image.
    for head in [model.decode_head[1], model.backbone] if cascade else [model.backbone]:
        head.register_forward_hook(lambda module, args, output: tuple(F.avg_pool2d(part, 2) for part in output)
                                   if isinstance(output, tuple) else output)
    result = predict(
        model, image(), ori_shape=(30, 47), img_padding_size=(0, 3, 0, 4), flip=True,
        flip_direction='horizontal')[0].anomaly_scores.data
    assert result.shape == (9, 30, 47)
    for start in (0, 3, 6):
        for other in (1, 2):
            torch.testing.assert_close(result[start + other], result[start], rtol=1e-5, atol=1e-5)
    assert model.out_channels == 5


def test_test_time_augmentation_averages(tmp_path):
    fitted = str(tmp_path / 'react.pth')
    scores = [dict(type='ReAct', fitted=fitted), 'ASH']
    model = build(scores=scores[1:])
    fit(fitted, model)
    model = build(scores=scores)
    tta = MODELS.build(dict(type='AnomalyTTAModel', module=model))
    inputs, meta = image(), dict(ori_shape=(24, 36), img_shape=(24, 36), img_path='0.png')
    metas = [meta, dict(meta, flip=True, flip_direction='horizontal')]
    views = [inputs, inputs.flip(3)]
    with torch.no_grad():
        single = [model.predict(view, [SegDataSample(metainfo=meta)])[0] for view, meta in zip(views, metas)]
        first, second = (sample.anomaly_scores.data.clone() for sample in single)
        merged = tta.merge_preds([single])[0]
    torch.testing.assert_close(merged.anomaly_scores.data, (first + second) / 2)
    assert not torch.equal(first, second)


def test_half_precision_gives_float32_scores(tmp_path):
    fitted = str(tmp_path / 'react.pth')
    fit(fitted, build(score='msp'))
    model = build(scores=[dict(type='ReAct', fitted=fitted), *(dict(type='ASH', variant=variant) for variant in 'pbs')])
    expected = predict(model, image())[0].anomaly_scores.data
    with torch.autocast('cpu', dtype=torch.bfloat16):
        result = predict(model, image())[0].anomaly_scores.data
    assert result.dtype == torch.float32 and result.isfinite().all()
    # Features of 8 bits are pruned elsewhere here and there.
    assert ((result - expected).abs() < 0.05 * expected.abs() + 0.1).float().mean() > 0.9
    score, features = model.scores['ASH-S@90'], features_of(model, image())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = score(dict(features=(features.half(), )))
    assert half.dtype == torch.float32
    assert torch.equal(half, score(dict(features=(features.half().float(), ))))


def test_weights_of_the_classifier_are_those_of_the_model_that_predicts(tmp_path):
    model = build(score='ASH')
    first = predict(model, image())[0].anomaly_scores.data
    twin = copy.deepcopy(model)
    with torch.no_grad():
        model.decode_head.conv_seg.bias += 1
    torch.testing.assert_close(predict(model, image())[0].anomaly_scores.data, first - 1)
    assert torch.equal(predict(twin, image())[0].anomaly_scores.data, first)


def test_react_is_fitted_by_the_tool(tmp_path, load_tool, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tiny_run(tmp_path, num_images=3)
    (tmp_path / 'leaf.py').write_text("""
_base_ = './tiny.py'
model = dict(type='AnomalySegmentor', scores=[
    'energy', dict(type='ReAct', sample_size=300, fitted='react.pth'), dict(type='ASH', variant='b'),
    dict(type='ReAct', percentile=50, score='msp', sample_size=300, fitted='react.pth')])
""")
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile('leaf.py').model).eval()
    torch.save(dict(state_dict=model.state_dict()), 'model.pth')
    files = load_tool('tools/fit_scores.py').main(['leaf.py', 'model.pth'])
    assert files == {'ReAct(sample_size=300)': ['react.pth']}
    content = torch.load('react.pth', weights_only=True)
    assert content['state']['valid.count'] == 3 * 256 and content['state']['valid.vectors'].shape == (300, 4)
    result = predict(model, image(16, 16))[0]
    assert result.anomaly_scores.data.shape == (4, 16, 16)
    assert result.score_names[3] == 'ReAct(sample_size=300,percentile=50,score=msp)'
    model.scores['ReAct(sample_size=300)'].settings['seed'] = 1
    model.train().eval()
    with pytest.raises(ValueError, match='with seed=0, the score has seed=1'):
        predict(model, image(16, 16))


def test_clipping_finds_what_a_few_large_activations_hide():
    # 32 channels of normal pixels are |N(0, 1)|; anomalies have three of them ten times as large.
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 32, 60, 60, generator=generator).abs()
    features[2, :3] *= 10
    model = torch.nn.Module()
    model.num_classes, model.conv = 4, torch.nn.Conv2d(32, 4, 1)
    torch.nn.init.uniform_(model.conv.weight, 0.9, 1.1, generator=generator)
    score = ReAct(classifier='conv')
    score.update(dict(features=(features[:1], )), torch.zeros(1, 60, 60))
    score.finish()
    score.prepare(model)
    truth = np.repeat([0, 1], 3600)
    with torch.no_grad():
        clipped = score.combine(score(dict(features=(features[1:], ))))
        plain = build_score('energy')(dict(seg_logits=model.conv(features[1:])))
    best = roc_auc_score(truth, -features[1:].clamp(max=score.threshold).sum(1).flatten())
    assert roc_auc_score(truth, plain.flatten()) < 0.05
    # All four classes weigh the channels almost alike, so that the energy is about the sum of the activations.
    assert abs(roc_auc_score(truth, clipped.flatten()) - best) < 0.02


# Refused


@pytest.mark.parametrize('cfg, match', [
    (dict(type='ASH', variant='r'), r"variant must be one of \['p', 'b', 's'\], got 'r'"),
    (dict(type='ASH', percentile=100), r'\[0, 100\), got 100'),
    (dict(type='ASH', percentile=-1), r'\[0, 100\), got -1'),
    (dict(type='ReAct', percentile=0), r'\(0, 100\], got 0'),
    (dict(type='ReAct', percentile=101), r'\(0, 100\], got 101'),
    (dict(type='ReAct', sample_size=0), 'sample_size must be positive'),
    (dict(type='ASH', score='none'), "unknown score 'none'"),
    (dict(type='ASH', score='mutual_information'), "needs a score of class logits that is not fitted.*'mutual_inform"),
    (dict(type='ReAct', score='SML'), "that is not fitted, such as 'energy', got 'SML'"),
    (dict(type='ReAct', score='ASH'), "got 'ASH-S@90', which needs .*features"),
])
def test_wrong_settings_are_refused(cfg, match):
    with pytest.raises(ValueError, match=match):
        build_score(cfg)


def test_names_say_what_differs():
    assert ASH().name == 'ASH-S@90' and ASH('b', 62.5, score='msp').name == 'ASH-B@62.5(msp)'
    assert ReAct().name == 'ReAct'
    assert ReAct(score=dict(type='energy', temperature=2.0)).name == 'ReAct(score=energy(temperature=2.0))'
    assert ReAct().shares_statistics(ReAct(80, 'msp')) and not ReAct().shares_statistics(ReAct(classifier='a'))


@pytest.mark.parametrize('kind', ['ReAct', 'ASH'])
def test_classifiers_that_do_not_exist_are_refused_when_the_model_is_built(kind):
    with pytest.raises(ValueError, match=r"no layer 'decode_head.conv_sgg'; near it are \['decode_head.conv_seg'"):
        build(score=dict(type=kind, classifier='decode_head.conv_sgg'))
    with pytest.raises(ValueError, match=r"no layer 'decode_head.conv_seg'; near it are .*'decode_head.1.conv_seg'"):
        build(cascade=True, score=kind)


@pytest.mark.parametrize('kind', ['ReAct', 'ASH'])
@pytest.mark.parametrize('classifier', ['backbone.conv', 'decode_head.convs', 'decode_head.convs.0.conv'])
def test_classifiers_of_other_kinds_are_refused(kind, classifier):
    with pytest.raises(
            ValueError,
            match=f"{kind} needs a classifier that is a 1x1 nn.Conv2d to the 5 classes of the "
            f"model, '{classifier}' is"):
        predict(build(score=dict(type=kind, classifier=classifier)), image())


@pytest.mark.parametrize('kind', ['ReAct', 'ASH'])
def test_one_channel_heads_are_refused(kind):
    head = dict(HEAD, num_classes=2, out_channels=1, threshold=0.5)
    with pytest.raises(ValueError, match=r'to the 2 classes of the model, .* is Conv2d\(16, 1, kernel_size=\(1, 1\)'):
        predict(build(head=head, score=kind), image())


def test_react_that_is_not_fitted_and_ash_that_leaves_nothing_are_refused():
    with pytest.raises(ValueError, match="'ReAct' is not fitted: run tools/fit_scores.py"):
        predict(build(score='ReAct'), image())
    with pytest.raises(ValueError, match="'ASH-S@99' leaves none of the 16 channels in front of 'decode_head.conv_s"):
        predict(build(score=dict(type='ASH', percentile=99)), image())
