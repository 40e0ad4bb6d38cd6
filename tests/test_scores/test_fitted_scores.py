# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Scores with statistics of training data: against NumPy and SciPy, in parts, in a model, and refused."""
import copy

import numpy as np
import pytest
import tiny_components  # noqa: F401
import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from scipy import ndimage
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import roc_auc_score

from mgcda.scores import SML, Mahalanobis, build_score
from mgcda.scores.fitting.score_file import fingerprint, write_fitted

CLASSES = ('road', 'car', 'sky')


def street_logits(num=4, size=(24, 30), seed=0):
    """Logits (N, 3, H, W) of smooth regions, which differ in mean and spread by class, and labels (N, H, W)."""
    rng = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(rng.standard_normal((num, 3, *size)), (0, 0, 3, 3)) * 20
    logits = fields * np.array([1, 2, 3])[:, None, None] + np.array([3, 2, 0])[:, None, None]
    labels = logits.argmax(1)
    labels[:, :3] = 255
    return torch.from_numpy(logits).float(), torch.from_numpy(labels)


def reference_statistics(logits, labels=None):
    """Mean and standard deviation of the largest logits by predicted class, from all pixels at once."""
    logits = logits.double().numpy()
    largest, classes = logits.max(1), logits.argmax(1)
    if labels is not None:
        largest, classes = largest[labels.numpy() != 255], classes[labels.numpy() != 255]
    groups = [largest[classes == index] for index in range(3)]
    return np.array([group.mean() for group in groups]), np.array([group.std() for group in groups])


def reference_sml(logits, mean, std, widths=(), smoothing=False, dilation=6, sigma=1.0):
    """float64 SML of one image (3, H, W), pixel by pixel."""
    logits = logits.double().numpy()
    classes = logits.argmax(0)
    scores = -(logits.max(0) - mean[classes]) / std[classes]
    cross = ndimage.generate_binary_structure(2, 1)
    boundary = ndimage.grey_dilation(
        classes, footprint=cross, mode='nearest') != ndimage.grey_erosion(
            classes, size=3, mode='nearest')
    for width in widths:
        reach = width // 2 - 1
        inside = ndimage.binary_dilation(boundary, cross, iterations=reach) if reach else boundary
        before, outside = np.pad(scores, 1, mode='edge'), np.pad(~inside, 1, mode='edge')
        for y, x in np.argwhere(inside):
            window, counts = before[y:y + 3, x:x + 3], outside[y:y + 3, x:x + 3]
            if counts.any():
                scores[y, x] = window[counts].mean()
    if smoothing:
        kernel = np.exp(-0.5 * (np.arange(-3, 4) / sigma)**2)
        kernel = np.outer(kernel, kernel) / kernel.sum()**2
        padded = np.pad(scores, 3 * dilation, mode='edge')
        height, width = scores.shape
        scores = sum(kernel[i, j] * padded[i * dilation:i * dilation + height, j * dilation:j * dilation + width]
                     for i in range(7) for j in range(7))
    return scores


def fitted_sml(**settings):
    score = SML(**settings)
    logits, labels = street_logits()
    score.update(dict(seg_logits=logits), labels)
    score.finish()
    return score


@pytest.mark.parametrize('ignore_void', [False, True])
def test_sml_statistics_are_those_of_all_pixels(ignore_void):
    logits, labels = street_logits()
    score = fitted_sml(ignore_void=ignore_void)
    mean, std = reference_statistics(logits, labels if ignore_void else None)
    np.testing.assert_allclose(score.mean.numpy(), mean, rtol=1e-6)
    np.testing.assert_allclose(score.std.numpy(), std, rtol=1e-6)


@pytest.mark.parametrize('settings', [
    dict(boundary_widths=(), smoothing=False),
    dict(smoothing=False),
    dict(boundary_widths=(4, 2), smoothing=False),
    dict(boundary_widths=()),
    dict(boundary_widths=(), dilation=2, sigma=2.0),
    dict(),
])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_sml_agrees_with_float64(settings, dtype):
    score = fitted_sml(**settings)
    logits = street_logits(seed=1, size=(40, 52))[0].to(dtype)
    scores = score(dict(seg_logits=logits))
    assert scores.shape == (4, 40, 52) and scores.dtype == torch.float32
    given = dict(dict(boundary_widths=(8, 6, 4, 2), smoothing=True), **settings)
    for image, result in zip(logits, scores):
        expected = reference_sml(image, *reference_statistics(street_logits()[0]), given.pop('boundary_widths', ()),
                                 **given)
        np.testing.assert_allclose(result.numpy(), expected, rtol=2e-5, atol=2e-5)
        given = dict(dict(boundary_widths=(8, 6, 4, 2), smoothing=True), **settings)


def test_sml_of_a_class_that_was_never_predicted_is_that_of_all():
    score = SML(boundary_widths=(), smoothing=False)
    logits = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    logits[:, 3] = -50
    score.update(dict(seg_logits=logits), torch.zeros(2, 8, 8))
    score.finish()
    largest = logits.double().amax(1)
    assert score.mean[3].item() == pytest.approx(largest.mean().item(), rel=1e-6)
    assert score.std[3].item() == pytest.approx(largest.std(unbiased=False).item(), rel=1e-6)
    assert score(dict(seg_logits=logits.flip(1))).isfinite().all()


def mixture(num, seed=0, anomalies=0):
    """Features (1, 3, 1, M) of three Gaussians of one covariance, labels (1, 1, M) with void, and the true moments."""
    rng = np.random.default_rng(seed)
    means = np.array([[0., 0, 0], [40, 0, 5], [0, 40, -5]]) + 1000  # far from 0: sums of squares would cancel
    factor = np.array([[1., 0, 0], [2, 1, 0], [-1, .5, .3]])
    labels = rng.integers(0, 3, num)
    features = means[labels] + rng.standard_normal((num, 3)) @ factor.T
    labels[::7] = 255
    return (torch.from_numpy(features.T).float().view(1, 3, 1,
                                                      -1), torch.from_numpy(labels).view(1, 1,
                                                                                         -1), means, factor @ factor.T)


def fitted_mahalanobis(num=20000, parts=1, **settings):
    features, labels, _, _ = mixture(num)
    scores = []
    for part in range(parts):
        scores.append(Mahalanobis('backbone.conv', **settings))
        scores[-1].update(dict(features=features[..., part::parts]), labels[..., part::parts])
    for other in scores[1:]:
        scores[0].merge(other)
    scores[0].finish()
    return scores[0]


def test_mahalanobis_recovers_the_mixture():
    score, (_, _, means, covariance) = fitted_mahalanobis(200000), mixture(1)
    moments = score.moments
    np.testing.assert_allclose(moments.means.numpy(), means, atol=0.05)
    np.testing.assert_allclose(moments.scatter.numpy() / moments.counts.sum().item(), covariance, atol=0.1)


@pytest.mark.parametrize('shrinkage', [0, 0.1])
def test_mahalanobis_agrees_with_scikit_learn(shrinkage):
    score = fitted_mahalanobis(shrinkage=shrinkage)
    noise = torch.randn(60, generator=torch.Generator().manual_seed(0))
    features, labels, _, _ = mixture(20000)
    features, labels = features[0, :, 0].T.double().numpy(), labels.flatten().numpy()
    means = [features[labels == index].mean(0) for index in range(3)]
    rest = np.concatenate([features[labels == index] - means[index] for index in range(3)])
    covariance = EmpiricalCovariance(assume_centered=True).fit(rest).covariance_
    covariance = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / 3 * np.eye(3)
    inverse, points = np.linalg.inv(covariance), mixture(60, seed=5)[0] + 3 * noise
    expected = [min(mahalanobis(point, mean, inverse) for mean in means)**2 for point in points[0, :, 0].T.numpy()]
    scores = score(dict(features=points.view(1, 3, 6, 10)))
    assert scores.shape == (1, 6, 10) and scores.dtype == torch.float32
    np.testing.assert_allclose(scores.flatten().numpy(), expected, rtol=2e-3, atol=2e-3)


def test_scores_are_float32_also_under_autocast():
    for score, outputs in ((fitted_sml(), dict(seg_logits=street_logits(seed=1)[0])),
                           (fitted_mahalanobis(1000), dict(features=mixture(50, seed=2)[0]))):
        expected = score(outputs)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            assert torch.equal(score(outputs), expected)


@pytest.mark.parametrize('parts', [2, 7])
def test_merged_parts_equal_one_pass(parts):
    whole, merged = fitted_mahalanobis(), fitted_mahalanobis(parts=parts)
    for key, value in whole.state().items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(merged.state()[key], value, rtol=1e-9, atol=1e-9)
    logits, labels = street_logits(num=7)
    whole, pieces = SML(), [SML() for _ in range(parts)]
    whole.update(dict(seg_logits=logits), labels)
    for index, piece in enumerate(pieces):
        if index < parts - 1:  # the last has seen nothing
            piece.update(dict(seg_logits=logits[index::parts - 1]), labels[index::parts - 1])
    for piece in pieces[1:]:
        pieces[0].merge(piece)
    for key, value in whole.state().items():
        torch.testing.assert_close(pieces[0].state()[key], value, rtol=1e-9, atol=1e-9)
    pieces[-1].merge(pieces[0])
    pieces[-1].finish()
    twin = SML()
    twin.load_state(pieces[0].state())
    twin.finish()
    assert torch.equal(twin.mean, pieces[-1].mean) and torch.equal(twin.std, pieces[-1].std)


def test_labels_take_the_size_of_the_features_by_nearest_neighbour():
    labels = torch.full((1, 12, 18), 255)
    labels[:, 1::3, 1::3] = torch.arange(24).view(4, 6) % 3  # the centres of the cells
    features = torch.arange(24.).view(1, 1, 4, 6) % 3 + torch.tensor([0.1, -0.1]).repeat(12).view(4, 6)
    score = Mahalanobis('layer')
    score.update(dict(features=features), labels)
    assert score.moments.counts.tolist() == [8, 8, 8]
    np.testing.assert_allclose(score.moments.means[:, 0].numpy(), [0, 1, 2], atol=1e-6)


def test_auroc_of_two_classes_comes_close_to_the_optimum():
    # Normal N(0, I), anomalous N(0, 9 I) in 8 dimensions: the likelihood ratio grows with the squared norm.
    generator = torch.Generator().manual_seed(0)
    normal, test = (torch.randn(1, 8, 100, 100, generator=generator) for _ in range(2))
    anomalous = 3 * torch.randn(1, 8, 100, 100, generator=generator)
    mix = torch.randn(8, 8, generator=generator)
    mixed = [torch.einsum('ij,njhw->nihw', mix, part) for part in (normal, test, anomalous)]
    score = Mahalanobis('layer')
    score.update(dict(features=mixed[0]), torch.zeros(1, 100, 100))
    score.finish()
    truth = np.repeat([0, 1], 10000)
    best = roc_auc_score(truth, torch.cat([part.square().sum(1).flatten() for part in (test, anomalous)]))
    found = roc_auc_score(truth, torch.cat([score(dict(features=part)).flatten() for part in mixed[1:]]))
    assert best - 0.001 < found <= best + 0.001 and best > 0.9


def test_sml_finds_what_max_logit_hides_in_the_spread_of_the_classes():
    # Two classes with largest logits N(5, 1) and N(20, 4^2); anomalies lie 3 deviations lower.
    rng = np.random.default_rng(0)

    def logits(shift):
        classes = rng.integers(0, 2, (1, 100, 100))
        largest = np.where(classes, 20 + 4 * (rng.standard_normal(classes.shape) - shift),
                           5 + rng.standard_normal(classes.shape) - shift)
        return torch.from_numpy(np.stack([np.where(classes, -30, largest), np.where(classes, largest, -30)], 1)).float()

    score = SML(boundary_widths=(), smoothing=False)
    score.update(dict(seg_logits=logits(0)), torch.zeros(1, 100, 100))
    score.finish()
    maps = [
        torch.cat([one(dict(seg_logits=part)).flatten() for part in (logits(0), logits(3))])
        for one in (score, build_score('max_logit'))
    ]
    found, plain = (roc_auc_score(np.repeat([0, 1], 10000), values) for values in maps)
    assert abs(found - 0.98305) < 0.003 and plain < 0.9  # the optimum is Phi(3 / sqrt(2))


# In a model


def build(**kwargs):
    torch.manual_seed(0)
    return MODELS.build(
        ConfigDict(
            type='AnomalySegmentor',
            backbone=dict(type='TinyBackbone', channels=4),
            decode_head=dict(type='FCNHead', in_channels=4, channels=6, num_convs=1, num_classes=3, norm_cfg=None),
            test_cfg=dict(mode='whole'),
            **kwargs)).eval()


def predict(model):
    with torch.no_grad():
        inputs = 255 * torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(3))
        return model.predict(inputs, [SegDataSample(metainfo=dict(ori_shape=(20, 24), img_shape=(20, 24)))])[0]


@pytest.fixture
def files(tmp_path):
    """Files of both scores, fitted for ``build()``."""
    generator = torch.Generator().manual_seed(0)
    distance = Mahalanobis('backbone.conv')
    distance.update(dict(features=torch.randn(1, 4, 9, 9, generator=generator)), torch.zeros(1, 9, 9))
    paths = {}
    for score in (fitted_sml(), distance):
        paths[type(score).__name__] = str(tmp_path / f'{type(score).__name__}.pth')
        write_fitted(paths[type(score).__name__], score, build(score='msp'), CLASSES, 'street.py', 4)
    return paths


def cfgs(files):
    return [
        dict(type='SML', fitted=files['SML']),
        dict(type='Mahalanobis', layer='backbone.conv', fitted=files['Mahalanobis'], name='distance')
    ]


def test_fitted_scores_are_built_by_name_and_score_in_a_model(files):
    model = build(scores=['msp', *cfgs(files)])
    result = predict(model)
    assert result.score_names == ('msp', 'SML', 'distance') and result.anomaly_scores.data.shape == (3, 20, 24)
    torch.testing.assert_close(result.anomaly_scores.data[1],
                               fitted_sml()(dict(seg_logits=result.seg_logits.data[None]))[0])
    twin = predict(copy.deepcopy(model))
    assert torch.equal(twin.anomaly_scores.data, result.anomaly_scores.data)
    # How the score is made of the statistics may be changed.
    plain = predict(build(score=dict(type='SML', smoothing=False, boundary_widths=[], fitted=files['SML'])))
    mean, std = reference_statistics(street_logits()[0])
    np.testing.assert_allclose(
        plain.anomaly_scores.data[0].numpy(), reference_sml(plain.seg_logits.data, mean, std), rtol=1e-4, atol=1e-4)


def test_other_weights_are_refused_also_after_training_and_loading(files):
    model = build(scores=cfgs(files))
    predict(model)
    good = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        model.backbone.conv.bias[0] += 1e-6
    model.train()
    with pytest.raises(ValueError, match='SML.pth was fitted by street.py with other weights.*fit_scores.py'):
        predict(model.eval())
    other = copy.deepcopy(model.state_dict())
    model.load_state_dict(good)
    predict(model)
    model.load_state_dict(other)
    with pytest.raises(ValueError, match='other weights'):
        predict(model)


def test_fingerprint_sees_every_weight_and_nothing_of_training():
    model = build(
        score='msp', train_only=dict(projector=dict(type='Projector', in_channels=4), contrast=dict(type='CACLLoss')))
    plain = build(score='energy')
    plain.load_state_dict(model.state_dict())
    assert fingerprint(model) == fingerprint(plain)
    seen = {fingerprint(plain)}
    for parameter in plain.parameters():
        with torch.no_grad():
            parameter.view(-1)[-1] += 1
        seen.add(fingerprint(plain))
    assert len(seen) == 1 + len(list(plain.parameters()))
    assert fingerprint(plain.half()) not in seen


@pytest.mark.parametrize('change, match', [
    (dict(layer='decode_head.convs'), "with layer='backbone.conv', the score has layer='decode_head.convs'"),
    (dict(type='SML'), 'holds a fitted Mahalanobis, the score is SML'),
])
def test_files_of_other_scores_and_layers_are_refused(files, change, match):
    cfg = dict(dict(type='Mahalanobis', layer='backbone.conv', fitted=files['Mahalanobis']), **change)
    if cfg['type'] == 'SML':
        del cfg['layer']
    with pytest.raises(ValueError, match=match):
        predict(build(score=cfg))


def test_other_classes_are_refused(files):
    model = build(scores=cfgs(files))
    model.dataset_meta = dict(classes=('normal', 'anomaly'))  # those of the benchmark, not of the segmenter
    predict(model)
    model = build(scores=cfgs(files))
    model.dataset_meta = dict(classes=('road', 'sky', 'car'))
    with pytest.raises(ValueError, match=r"for 3 classes \['road', 'car', 'sky'\], the model has 3: \['road', 'sky'"):
        predict(model)
    write_fitted(files['SML'], fitted_sml(), build(score='msp'), ('road', 'car'), 'street.py', 4)
    with pytest.raises(ValueError, match='for 2 classes .*, the model has 3'):
        predict(build(scores=cfgs(files)))


def test_scores_that_are_not_fitted_are_refused(tmp_path):
    with pytest.raises(ValueError, match="'SML' is not fitted: run tools/fit_scores.py"):
        predict(build(score='SML'))
    with pytest.raises(ValueError, match='is not fitted'):
        SML()(dict(seg_logits=torch.zeros(1, 3, 4, 4)))
    with pytest.raises(FileNotFoundError, match='none.pth does not exist: python tools/fit_scores.py'):
        predict(build(score=dict(type='SML', fitted=str(tmp_path / 'none.pth'))))
    with pytest.raises(ValueError, match='no pixel'):
        SML().finish()
    score = Mahalanobis('layer')
    score.update(dict(features=torch.ones(1, 2, 3, 3)), torch.full((1, 3, 3), 255))
    with pytest.raises(ValueError, match='no pixel'):
        score.finish()


@pytest.mark.parametrize('content, match', [
    (b'text', 'is no fitted score, or is damaged'),
    (dict(state_dict={}), 'no fitted score of this version'),
    (dict(format='mgcda fitted score 1', type='SML'), "damaged: .*'settings'"),
])
def test_damaged_files_are_named(tmp_path, content, match):
    path = tmp_path / 'sml.pth'
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match=f'sml.pth.*{match}|{match}'):
        predict(build(score=dict(type='SML', fitted=str(path))))


@pytest.mark.parametrize('cfg, error, match', [
    (dict(type='SML', boundary_widths=(3, )), ValueError, 'even'),
    (dict(type='SML', kernel_size=4), ValueError, 'odd'),
    (dict(type='SML', width=3), TypeError, "score 'SML'.*width"),
    (dict(type='Mahalanobis'), TypeError, "score 'Mahalanobis'.*layer"),
    (dict(type='Mahalanobis', layer='x', shrinkage=2), ValueError, 'shrinkage'),
])
def test_wrong_settings_are_refused(cfg, error, match):
    with pytest.raises(error, match=match):
        build_score(cfg)


def test_wrong_data_is_refused():
    score = SML()
    with pytest.raises(ValueError, match='labels'):
        score.update(dict(seg_logits=torch.zeros(1, 3, 4, 4)), torch.zeros(2, 4, 4))
    with pytest.raises(ValueError, match='not finite'):
        score.update(dict(seg_logits=torch.full((1, 3, 4, 4), float('nan'))), torch.zeros(1, 4, 4))
    score.update(dict(seg_logits=torch.zeros(1, 3, 4, 4)), torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match='all largest logits are equal'):
        score.finish()
    with pytest.raises(ValueError, match='fitted on 3 classes'):
        fitted_sml()(dict(seg_logits=torch.zeros(1, 4, 4, 4)))
    distance = fitted_mahalanobis(100)
    with pytest.raises(ValueError, match='features of 3 channels'):
        distance(dict(features=torch.zeros(1, 2, 4, 4)))
    with pytest.raises(ValueError, match='length 3'):
        distance.update(dict(features=torch.zeros(1, 2, 4, 4)), torch.zeros(1, 4, 4))
    flat = Mahalanobis('layer', shrinkage=0)
    flat.update(dict(features=torch.ones(1, 2, 4, 4)), torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match='no inverse'):
        flat.finish()
