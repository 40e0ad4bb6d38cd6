# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Densities of layers: against known distributions, combined, in parts, in files, in a model, and refused."""
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from scipy.stats import multivariate_normal
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from tiny_components import write_tiny_run

from mgcda.scores import FlowNLL, build_score, flow_nll
from mgcda.scores.fitting.score_file import read_fitted, write_fitted

SMALL = dict(num_steps=4, hidden_channels=16, num_iters=100, batch_size=128, lr=1e-2, noise=0.02)
NUM = 4000


def as_map(vectors):
    """Vectors (M, D) as features (1, D, M / 50, 50)."""
    return torch.as_tensor(vectors).float().T.reshape(1, -1, len(vectors) // 50, 50)


def fitted(layers, outliers=None, **settings):
    """A score fitted on vectors (M, D) of each layer, and on others as void pixels."""
    names = [f'layer{index}' for index in range(len(layers))]
    score = FlowNLL(names, **dict(SMALL, **settings))
    for vectors, label in ((layers, 0), (outliers, 255)):
        if vectors is not None:
            features = tuple(map(as_map, vectors))
            score.update(dict(features=features), torch.full((1, *features[0].shape[-2:]), label), str(label))
    score.finish()
    return score


def scores_of(score, *layers):
    return score(dict(features=tuple(map(as_map, layers)))).flatten().double().numpy()


class Mixture:
    """Three Gaussians in the plane, or one that is narrow and correlated in four dimensions, far from 0."""

    def __init__(self, single=False):
        if single:
            factor = np.array([[2., 0, 0, 0], [3, 1, 0, 0], [-1, .5, .3, 0], [0, 1, 0, 5]])
            self.parts = [multivariate_normal([10, -200, 0, 1000], factor @ factor.T)]
        else:
            self.parts = [
                multivariate_normal(mean, np.diag(variance))
                for mean, variance in (([-30, 0], [100, 25]), ([30, 10], [36, 100]), ([0, 40], [64, 64]))
            ]

    def draw(self, num, seed):
        rng = np.random.default_rng(seed)
        kind = rng.integers(0, len(self.parts), num)
        draws = np.stack([part.rvs(num, random_state=rng) for part in self.parts])
        return draws[kind, np.arange(num)]

    def nll(self, vectors):
        return -np.log(np.mean([part.pdf(vectors) for part in self.parts], axis=0))


@pytest.mark.parametrize('single, tolerance', [(False, 0.1), (True, 0.05)])
def test_recovers_known_densities_in_nats(single, tolerance):
    mixture = Mixture(single)
    score = fitted([mixture.draw(20000, 0)], num_iters=400, batch_size=256, num_steps=6)
    held_out = mixture.draw(20000, 1)
    gap = scores_of(score, held_out) - mixture.nll(held_out)
    assert 0 < gap.mean() < tolerance  # the Kullback-Leibler divergence


def test_auroc_of_two_classes_comes_close_to_the_optimum():
    # Anomalies are uniform over the plane, so the likelihood ratio grows with the true negative log-likelihood.
    mixture = Mixture()
    score = fitted([mixture.draw(20000, 0)], num_iters=300)
    points = np.concatenate([mixture.draw(10000, 1), np.random.default_rng(2).uniform(-80, 80, (10000, 2))])
    truth = np.repeat([0, 1], 10000)
    best, found = (roc_auc_score(truth, values) for values in (mixture.nll(points), scores_of(score, points)))
    assert best > 0.9 and best - 0.01 < found <= best + 0.001


@pytest.fixture(scope='module')
def two_layers():
    """Two layers of Gaussians, and anomalies that show in the first, in the second, or in both."""

    def draw(seed, first=0, second=0, num=NUM):
        rng = np.random.default_rng(seed)
        return rng.standard_normal((num, 3)) + first, 100 * (rng.standard_normal((num, 2)) + second)

    return draw


def test_maximum_finds_what_shows_in_one_layer_only(two_layers):
    train, normal, first, second = (two_layers(0), two_layers(1), two_layers(2, first=4), two_layers(3, second=5))
    anomalous = [np.concatenate(pair) for pair in zip(first, second)]
    truth = np.repeat([0, 1], [NUM, 2 * NUM])
    points = [np.concatenate(pair) for pair in zip(normal, anomalous)]
    score = fitted(train, combine='maximum')
    found = roc_auc_score(truth, scores_of(score, *points))
    single = [roc_auc_score(truth, scores_of(fitted([layer]), part)) for layer, part in zip(train, points)]
    assert found > 0.98 and max(single) < 0.8


def test_minimum_asks_for_what_shows_in_all_layers(two_layers):
    # The first layer alone takes what is odd in it for anomalies, which are odd in both.
    train, odd, anomalous = two_layers(0), two_layers(1, first=4), two_layers(2, first=4, second=5)
    truth, points = np.repeat([0, 1], NUM), [np.concatenate(pair) for pair in zip(odd, anomalous)]
    found = {
        combine: roc_auc_score(truth, scores_of(fitted(train, combine=combine), *points))
        for combine in ('minimum', 'maximum')
    }
    assert found['minimum'] > 0.95 and found['maximum'] < found['minimum'] - 0.1


def test_logistic_regression_learns_from_void_pixels(two_layers):
    # Void pixels show in the second layer only.
    train, void, normal, anomalous = (two_layers(seed, second=shift)
                                      for seed, shift in ((0, 0), (1, 3), (2, 0), (3, 3)))
    score = fitted(train, void, combine='logistic_regression')
    truth, points = np.repeat([0, 1], NUM), [np.concatenate(pair) for pair in zip(normal, anomalous)]
    logits = scores_of(score, *points)
    nlls = np.stack([flow.nll(torch.as_tensor(part).float()).numpy() for flow, part in zip(score.flows, points)], 1)
    areas = [roc_auc_score(truth, column) for column in nlls.T]
    assert areas[0] < 0.55 < 0.9 < roc_auc_score(truth, logits) and roc_auc_score(truth, logits) > areas[1] - 0.01
    assert np.mean((logits > 0) == truth) > 0.85  # both classes weigh alike
    # scikit-learn on the NLLs of the sample, which are the same at another scale.
    sample = [np.concatenate(pair) for pair in zip(train, void)]
    sample = np.stack([flow.nll(torch.as_tensor(part).float()).numpy() for flow, part in zip(score.flows, sample)], 1)
    shift, scale = sample[:NUM].mean(0), sample[:NUM].std(0)
    reference = LogisticRegression(class_weight='balanced').fit((sample - shift) / scale, truth)
    np.testing.assert_allclose(logits, reference.decision_function((nlls - shift) / scale), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize('combine', ['minimum', 'maximum'])
def test_layers_of_other_sizes_are_resized_to_the_largest(two_layers, monkeypatch, combine):
    score = fitted(two_layers(0), combine=combine)
    features = torch.randn(2, 3, 6, 8), 100 * torch.randn(2, 2, 3, 4)
    scores = score(dict(features=features))
    assert scores.shape == (2, 6, 8)
    for image in range(2):
        maps = [
            flow.nll(part[image].flatten(1).T).view(1, 1, *part.shape[-2:])
            for flow, part in zip(score.flows, features)
        ]
        maps[1] = torch.nn.functional.interpolate(maps[1], (6, 8), mode='bilinear')
        extreme = getattr(torch, combine)
        expected = extreme(maps[0] - score.mean_nll[0], maps[1] - score.mean_nll[1])[0, 0]
        torch.testing.assert_close(scores[image], expected, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(flow_nll, 'CHUNK', 7)
    torch.testing.assert_close(score(dict(features=features)), scores, rtol=1e-5, atol=1e-5)


def test_half_precision_and_outliers_give_finite_float32(two_layers):
    score = fitted(two_layers(0), combine='minimum')
    generator = torch.Generator().manual_seed(0)
    features = tuple(torch.randn(1, dim, 4, 4, generator=generator).half() for dim in (3, 2))
    plain = score(dict(features=tuple(part.float() for part in features)))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        scores = score(dict(features=features))
    assert scores.dtype == torch.float32 and torch.equal(scores, plain)
    far = score(dict(features=tuple(part.sign() * 65504 for part in features)))
    assert far.isfinite().all() and far.min() > scores.max()


def test_constant_channels_do_no_harm():
    vectors = np.random.default_rng(0).standard_normal((NUM, 3))
    with_flat = np.concatenate([vectors, np.full((NUM, 1), 0.3), np.zeros((NUM, 1))], axis=1)
    points = np.concatenate([vectors[:2000], 3 * vectors[2000:]])
    flat = np.concatenate([points, np.full((NUM, 1), 0.3), np.zeros((NUM, 1))], axis=1)
    truth = np.repeat([0, 1], 2000)
    pairs = (vectors, points), (with_flat, flat)
    areas = [roc_auc_score(truth, scores_of(fitted([train]), test)) for train, test in pairs]
    assert areas[1] > areas[0] - 0.01


@pytest.mark.parametrize('parts', [2, 5])
def test_merged_parts_equal_one_pass(two_layers, parts):
    settings = dict(SMALL, sample_size=500, num_iters=20, combine='minimum')
    batches = [(two_layers(index, num=200), 255 if index % 3 == 2 else 0) for index in range(10)]
    scores = [FlowNLL(['a', 'b'], **settings) for _ in range(parts + 1)]
    for index, (vectors, label) in enumerate(batches):
        for score in (scores[0], scores[1 + index % parts]):
            score.update(dict(features=tuple(map(as_map, vectors))), torch.full((1, 4, 50), label), str(index))
    whole, merged = scores[0], scores[-1]
    for other in scores[1:-1]:
        merged.merge(other)
    state = torch.get_rng_state()
    whole.finish()
    merged.finish()
    assert torch.equal(torch.get_rng_state(), state)
    parameters = merged.parameters()
    assert set(parameters) == set(whole.parameters()) and 'weights' in parameters
    for key, value in whole.parameters().items():
        torch.testing.assert_close(parameters[key], value, rtol=1e-6, atol=1e-6)
    other = FlowNLL(['a', 'b'], **dict(settings, seed=1))
    other.load_state(whole.state())
    other.finish()
    assert not torch.equal(other.mean_nll, whole.mean_nll)


def test_training_that_fails_is_said(two_layers):
    with pytest.raises(ValueError, match="the flow of 'layer0' is not finite .* smaller lr than 1e"):
        fitted([1e3 * two_layers(0)[0]], lr=1e30, num_iters=40)


def test_training_that_gets_worse_is_warned_of(monkeypatch):
    messages = []
    monkeypatch.setattr(flow_nll, 'print_log', lambda message, **kwargs: messages.append((message, kwargs)))
    few = np.random.default_rng(0).standard_normal((50, 8))
    fitted([few], num_iters=60)
    assert 'does worse on held-out pixels' in messages[-1][0] and messages[-1][1]['level'] == 30
    assert 'layer0: ' in messages[0][0] and '0 of 60 iterations' in messages[0][0] and len(messages) == 7


# In a model


def build(score):
    torch.manual_seed(0)
    return MODELS.build(
        ConfigDict(
            type='AnomalySegmentor',
            backbone=dict(type='TinyBackbone', channels=3),
            decode_head=dict(type='FCNHead', in_channels=3, channels=2, num_convs=1, num_classes=2, norm_cfg=None),
            test_cfg=dict(mode='whole'),
            score=score)).eval()


def predict(model):
    inputs = 255 * torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return model.predict(inputs, [SegDataSample(metainfo=dict(ori_shape=(20, 24), img_shape=(20, 24)))])[0]


LAYERS = ('backbone.conv', 'decode_head.conv_seg:input')


def write(path, two_layers, void=True):
    score = FlowNLL(LAYERS, combine='minimum', **dict(SMALL, num_iters=5))
    batches = [(two_layers(0), 0), (two_layers(1, second=2), 255)]
    for vectors, label in batches[:1 + void]:
        score.update(dict(features=tuple(map(as_map, vectors))), torch.full((1, NUM // 50, 50), label))
    score.finish()
    write_fitted(str(path), score, build('msp'), ('road', 'car'), 'street.py', 2)
    return score


def test_files_serve_all_combinations(two_layers, tmp_path):
    path = str(tmp_path / 'flow.pth')
    score = write(path, two_layers)
    assert set(FlowNLL.parameter_names) <= set(read_fitted(path)['state'])
    points = two_layers(5, num=100)
    for combine in ('minimum', 'maximum', 'logistic_regression'):
        cfg = dict(type='FlowNLL', layers=list(LAYERS), combine=combine, fitted=path, **dict(SMALL, num_iters=5))
        twin = build_score(cfg)
        assert twin.shares_statistics(score) and not twin.shares_statistics(FlowNLL(LAYERS[:1]))
        state = torch.get_rng_state()
        twin.prepare(build('msp'))
        assert torch.equal(torch.get_rng_state(), state)
        score.settings['combine'] = combine
        np.testing.assert_array_equal(scores_of(twin, *points), scores_of(score, *points))
        assert all(torch.equal(value, twin.parameters()[key]) for key, value in score.parameters().items())
        result = predict(build(cfg)).anomaly_scores.data
        assert result.shape == (1, 20, 24) and result.isfinite().all() and result.dtype == torch.float32


def test_files_of_other_fits_are_refused(two_layers, tmp_path):
    path = tmp_path / 'flow.pth'
    write(path, two_layers, void=False)
    cfg = dict(type='FlowNLL', layers=LAYERS, combine='minimum', fitted=str(path), **dict(SMALL, num_iters=5))
    predict(build(cfg))
    with pytest.raises(ValueError, match="flow.pth was fitted on images without void pixels.*combine='minimum'"):
        predict(build(dict(cfg, combine='logistic_regression')))
    with pytest.raises(ValueError, match=r'with layers=.*conv_seg:input.*, the score has layers=.*conv_seg.\):'):
        predict(build(dict(cfg, layers=['backbone.conv', 'decode_head.conv_seg'])))
    with pytest.raises(ValueError, match='with num_steps=4, the score has num_steps=5'):
        predict(build(dict(cfg, num_steps=5)))
    content = torch.load(path, weights_only=True)
    del content['state']['flows.1.mean']
    torch.save(content, path)
    with pytest.raises(ValueError, match='flow.pth are damaged: .*mean'):
        predict(build(cfg))


@pytest.mark.parametrize('settings, match', [
    (dict(combine='sum'), "combine must be None, 'minimum', 'maximum' or 'logistic_regression', got 'sum'"),
    (dict(), "2 layers need combine='minimum', 'maximum' or 'logistic_regression'"),
    (dict(layers=[]), 'at least'),
    (dict(layers='backbone.conv'), 'at least'),
    (dict(combine='minimum', num_steps=0), 'must be positive'),
    (dict(combine='minimum', lr=0), 'must be positive'),
    (dict(combine='minimum', noise=-1), 'not negative'),
    (dict(combine='minimum', sample_size=0), 'sample_size'),
])
def test_wrong_settings_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        FlowNLL(**dict(dict(layers=['a', 'b']), **settings))


def test_wrong_data_is_refused(two_layers):
    with pytest.raises(ValueError, match='has no void pixels'):
        fitted(two_layers(0), combine='logistic_regression')
    with pytest.raises(ValueError, match='cannot be fitted on 5 pixels'):
        fitted([two_layers(0, num=50)[0]], sample_size=5)
    score = fitted(two_layers(0), combine='minimum', num_iters=5)
    with pytest.raises(ValueError, match=r'reads 2 map\(s\)'):
        score(dict(features=(torch.zeros(1, 3, 4, 4), )))
    with pytest.raises(ValueError, match=r'fitted on features of \[3, 2\] channels, the layers .* give \[3, 4\]'):
        score(dict(features=(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, 4))))
    with pytest.raises(ValueError, match='not finite'):
        score.update(
            dict(features=(torch.full((1, 3, 4, 4), float('inf')), torch.zeros(1, 2, 4, 4))), torch.zeros(1, 4, 4))


def test_fit_and_prediction_through_the_tool(tmp_path: Path, load_tool, forget_runs, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    write_tiny_run(tmp_path, num_images=4)
    settings = 'num_steps=2, hidden_channels=4, num_iters=10, batch_size=32'
    (tmp_path / 'leaf.py').write_text(f"""
_base_ = './tiny.py'
layers = ['backbone.conv', 'decode_head.conv_seg:input']
flow = dict(type='FlowNLL', {settings})
model = dict(type='AnomalySegmentor', scores=[
    dict(flow, layers=layers, combine='minimum', name='minimum', fitted='flow.pth'),
    dict(flow, layers=layers, combine='logistic_regression', name='regression', fitted='flow.pth'),
    dict(flow, layers=layers[:1], name='single', fitted='single.pth')])
""")
    (tmp_path / 'test.py'
     ).write_text("_base_ = './leaf.py'\ntest_evaluator = dict(_delete_=True, type='AnomalyMetric', prefix='Tiny')\n")
    model = MODELS.build(Config.fromfile(tmp_path / 'leaf.py').model)
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=('road', 'rest')))), 'model.pth')
    label = np.zeros((16, 16), np.uint8)
    label[:8, :4], label[8:] = 255, 1
    for path in (tmp_path / 'data/label').iterdir():
        cv2.imwrite(str(path), label)
    forget_runs()
    written = load_tool('tools/fit_scores.py').main(['leaf.py', 'model.pth'])
    assert list(written.values()) == [['flow.pth'], ['single.pth']] and 'weights' in read_fitted('flow.pth')['state']
    assert not os.path.exists('flow.pth.partial0')
    forget_runs()
    results = load_tool('tools/test.py').main(['test.py', 'model.pth', '--work-dir', 'work'])
    assert {'minimum', 'regression', 'single'} <= {part for key in results for part in key.split('/')}
