# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Nearest neighbours of features among those of training data."""
import cv2
import numpy as np
import pytest
import tiny_components  # noqa: F401
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score
from tiny_components import write_tiny_run

from mgcda.models import AnomalySegmentor
from mgcda.scores import KNN, build_score, knn

MEANS = np.array([[0., 0], [4, 1], [-3, 3]])
WEIGHTS = np.array([0.6, 0.3, 0.1])


def maps(vectors, height=1):
    """Features (1, D, h, w) of vectors (M, D)."""
    return torch.from_numpy(np.ascontiguousarray(vectors.T)).float().view(1, vectors.shape[1], height, -1)


def fitted(vectors, parts=1, **settings):
    scores = [KNN('layer', **settings) for _ in range(parts)]
    for index, features in enumerate(maps(vectors).chunk(8, dim=3)):
        scores[index % parts].update(dict(features=features), torch.zeros(1, *features.shape[-2:]), f'{index}.png')
    for other in scores[1:]:
        scores[0].merge(other)
    scores[0].finish()
    return scores[0]


def mixture(num, rng):
    return MEANS[rng.choice(3, num, p=WEIGHTS)] + rng.standard_normal((num, 2))


def reference(sample, points, k, metric, reduction):
    """float64 scores of points (M, D), from all distances."""
    distances = np.sort(cdist(points.astype(np.float64), sample.astype(np.float64), metric), axis=1)[:, :k]
    if reduction == 'mean':
        return distances.mean(1)
    return distances[:, -1] if reduction == 'kth' else -np.log(np.exp(-distances).mean(1))


@pytest.mark.parametrize('metric', ['euclidean', 'cosine'])
@pytest.mark.parametrize('reduction', ['mean', 'kth', 'density'])
@pytest.mark.parametrize('k', [1, 7])
def test_it_agrees_with_all_distances(metric, reduction, k, monkeypatch):
    monkeypatch.setattr(knn, 'CHUNK', 13)
    rng = np.random.default_rng(0)
    sample, points = rng.standard_normal((300, 5)) + 20, rng.standard_normal((60, 5)) * 3 + 20
    score = fitted(sample, k=k, metric=metric, reduction=reduction, sample_size=300)
    scores = score(dict(features=maps(points, height=6)))
    assert scores.shape == (1, 6, 10) and scores.dtype == torch.float32
    sample, points = sample.astype(np.float32), points.astype(np.float32)
    expected = reference(sample, points, k, metric, reduction)
    np.testing.assert_allclose(scores.flatten().numpy(), expected, rtol=1e-4, atol=2e-7)


def test_batches_are_scored_image_by_image():
    rng = np.random.default_rng(1)
    score = fitted(rng.standard_normal((100, 4)))
    features = torch.from_numpy(rng.standard_normal((3, 4, 5, 6))).float()
    together = score(dict(features=features))
    assert together.shape == (3, 5, 6)
    for one, part in zip(together, features.split(1)):
        torch.testing.assert_close(one[None], score(dict(features=part)))


@pytest.mark.parametrize('reduction', ['mean', 'kth', 'density'])
def test_it_ranks_as_the_density_of_a_mixture(reduction):
    rng = np.random.default_rng(2)
    score = fitted(mixture(20_000, rng), k=100, metric='euclidean', reduction=reduction)
    points = rng.uniform(-6, 7, (400, 2))
    density = sum(weight * stats.multivariate_normal(mean).pdf(points) for weight, mean in zip(WEIGHTS, MEANS))
    points, density = points[density > 1e-4], density[density > 1e-4]  # of fewer neighbours, distances say little
    found = score(dict(features=maps(points))).flatten().numpy()
    assert stats.spearmanr(-found, density).statistic > 0.985


def test_auroc_of_two_classes_comes_close_to_the_optimum():
    # Anomalies are uniform on a square, so that the best score is the density of the mixture.
    rng = np.random.default_rng(3)
    score = fitted(mixture(20_000, rng), k=20, metric='euclidean')
    points = np.concatenate([mixture(4000, rng), rng.uniform(-8, 9, (4000, 2))])
    truth = np.repeat([0, 1], 4000)
    density = sum(weight * stats.multivariate_normal(mean).pdf(points) for weight, mean in zip(WEIGHTS, MEANS))
    best = roc_auc_score(truth, -density)
    found = roc_auc_score(truth, score(dict(features=maps(points))).flatten().numpy())
    assert best - 0.005 < found < best + 0.001 and best > 0.9


def test_cosine_does_not_see_the_length():
    rng = np.random.default_rng(4)
    sample, points = rng.standard_normal((100, 4)), rng.standard_normal((50, 4))
    score = fitted(sample, metric='cosine')
    expected = score(dict(features=maps(points)))
    torch.testing.assert_close(score(dict(features=maps(1000 * points))), expected)
    assert 0 <= expected.min() and expected.max() <= 2
    zeros = score(dict(features=torch.zeros(1, 4, 1, 2)))
    torch.testing.assert_close(zeros, torch.full((1, 1, 2), 0.5))


def test_half_precision_gives_float32():
    rng = np.random.default_rng(5)
    score, features = fitted(rng.standard_normal((100, 4))), maps(rng.standard_normal((50, 4))).half()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        scores = score(dict(features=features))
    assert scores.dtype == torch.float32 and torch.equal(scores, score(dict(features=features.float())))


@pytest.mark.parametrize('parts', [2, 5])
def test_merged_parts_equal_one_pass(parts):
    vectors = np.random.default_rng(6).standard_normal((900, 3))
    whole, merged = fitted(vectors, sample_size=100), fitted(vectors, parts, sample_size=100)
    assert whole.num_pixels == merged.num_pixels == 900 and len(whole.samples['valid'].vectors) == 100
    for key, value in whole.parameters().items():
        assert torch.equal(merged.parameters()[key], value)
    points = maps(vectors[:50])
    assert torch.equal(whole(dict(features=points)), merged(dict(features=points)))


def test_k_metric_and_reduction_need_no_fit_of_their_own():
    score = KNN('layer')
    assert score.shares_statistics(KNN('layer', k=3, metric='euclidean', reduction='kth'))
    others = KNN('other'), KNN('layer', seed=1), KNN('layer', sample_size=50)
    assert not any(score.shares_statistics(other) for other in others)
    assert set(score.parameter_names) == set(fitted(np.eye(20)).parameters())


@pytest.mark.parametrize('settings, match', [
    (dict(metric='l1'), "metric must be one of .*got 'l1'"),
    (dict(reduction='max'), "reduction one of .*'max'"),
    (dict(k=0), r'k must be in \[1, sample_size\], got 0'),
    (dict(k=9, sample_size=8), 'got 9 with a sample_size of 8'),
    (dict(sample_size=0), 'sample_size'),
])
def test_wrong_settings_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        build_score(dict(type='KNN', layer='layer', **settings))


def test_wrong_data_is_refused():
    with pytest.raises(ValueError, match='a sample of 9 pixels, k is 10'):
        fitted(np.eye(9))
    with pytest.raises(ValueError, match="fitted on features of 3 channels, layer 'layer' gives 4"):
        fitted(np.ones((20, 3)))(dict(features=torch.zeros(1, 4, 2, 2)))
    with pytest.raises(ValueError, match='is not fitted'):
        KNN('layer')(dict(features=torch.zeros(1, 4, 2, 2)))


def test_it_is_fitted_by_the_tool_and_scores_in_a_model(tmp_path, load_tool, forget_runs, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tiny_run(tmp_path, num_images=3)
    label = np.full((16, 16), 255, np.uint8)
    label[:8] = 1
    cv2.imwrite(str(tmp_path / 'data/label/1.png'), label)
    (tmp_path / 'leaf.py').write_text("""
_base_ = './tiny.py'
model = dict(type='AnomalySegmentor', scores=[
    'msp',
    dict(type='KNN', layer='backbone.conv', k=3, metric='euclidean', sample_size=500, fitted='knn.pth', name='near'),
    dict(type='KNN', layer='backbone.conv', k=5, sample_size=500, fitted='knn.pth', name='angle')])
""")
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile('leaf.py').model).eval()
    assert isinstance(model, AnomalySegmentor)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=('road', 'rest')))), 'model.pth')
    files = load_tool('tools/fit_scores.py').main(['leaf.py', 'model.pth'])
    assert files == {'near': ['knn.pth']}
    content = torch.load('knn.pth', weights_only=True)
    assert content['state']['valid.count'] == 2 * 256 + 128 and content['state']['valid.vectors'].shape == (500, 4)

    image = cv2.imread(str(tmp_path / 'data/img/0.png'))[..., ::-1].astype(np.float32)
    inputs = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
    with torch.no_grad():
        result = model.predict(inputs, [SegDataSample(metainfo=dict(ori_shape=(16, 16), img_shape=(16, 16)))])[0]
        points = model.backbone(inputs)[0][0].flatten(1).T.numpy()
    assert result.score_names == ('msp', 'near', 'angle')
    sample = content['state']['valid.vectors'].numpy()
    for index, (k, metric) in enumerate([(3, 'euclidean'), (5, 'cosine')], start=1):
        np.testing.assert_allclose(
            result.anomaly_scores.data[index].flatten().numpy(),
            reference(sample, points, k, metric, 'mean'),
            rtol=1e-3,
            atol=1e-6)

    with torch.no_grad():
        model.backbone.conv.bias[0] += 1e-6
    model.train()
    with pytest.raises(ValueError, match='knn.pth was fitted by leaf.py with other weights'):
        model.eval().predict(inputs, [SegDataSample(metainfo=dict(ori_shape=(16, 16), img_shape=(16, 16)))])
    with pytest.raises(ValueError, match="with layer='backbone.conv', the score has layer='backbone'"):
        build_score(dict(type='KNN', layer='backbone', sample_size=500, fitted='knn.pth')).prepare(model)
