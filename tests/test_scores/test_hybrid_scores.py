# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Scores of the void class, of an outlier head, of PEBAL and of DenseHybrid."""
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import log_softmax, logsumexp

from mgcda.scores import build_score


def make_logits(channels, dtype=torch.float32, scale=8.):
    return (scale * torch.randn(2, channels, 9, 11, generator=torch.Generator().manual_seed(channels))).to(dtype)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize('sigma', [0, 1, 2.5])
def test_pebal_agrees_with_float64(dtype, sigma):
    logits = make_logits(6, dtype)
    scores = build_score(dict(type='pebal', sigma=sigma))(dict(seg_logits=logits))
    expected = -logsumexp(logits.double().numpy(), axis=1)
    if sigma:
        expected = np.stack([gaussian_filter(e, sigma, mode='mirror', radius=round(3 * sigma)) for e in expected])
    assert scores.shape == (2, 9, 11) and scores.dtype == torch.float32
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-5, atol=1e-5)
    if sigma == 1:
        assert torch.equal(scores, build_score('pebal')(dict(seg_logits=logits)))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.float64])
def test_log_odds_of_outliers_agree_with_float64(dtype):
    logits, void, outlier_logits = make_logits(5, dtype), make_logits(1, dtype), make_logits(2, dtype)
    scores = build_score('void_class')(dict(seg_logits=logits, outlier_logits=void))
    posterior = log_softmax(np.concatenate([logits.double().numpy(), void.double().numpy()], axis=1), axis=1)
    expected = posterior[:, -1] - logsumexp(posterior[:, :-1], axis=1)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-5, atol=1e-5)
    scores = build_score('outlier_posterior')(dict(outlier_logits=outlier_logits))
    posterior = log_softmax(outlier_logits.double().numpy(), axis=1)
    np.testing.assert_allclose(scores.numpy(), posterior[:, 1] - posterior[:, 0], rtol=1e-5, atol=1e-5)
    assert scores.shape == (2, 9, 11) and scores.dtype == torch.float32


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.float64])
def test_dense_hybrid_agrees_with_float64(dtype):
    logits, outlier_logits = make_logits(5, dtype), make_logits(2, dtype)
    scores = build_score('dense_hybrid')(dict(seg_logits=logits, outlier_logits=outlier_logits))
    posterior = log_softmax(outlier_logits.double().numpy(), axis=1)[:, 1]
    assert scores.shape == (2, 9, 11) and scores.dtype == torch.float32
    np.testing.assert_allclose(
        scores.numpy(), posterior - logsumexp(logits.double().numpy(), axis=1), rtol=1e-5, atol=1e-5)


def test_log_odds_tell_probabilities_of_one_apart():
    void = torch.tensor([40., 50.]).view(1, 1, 1, 2)
    scores = build_score('void_class')(dict(seg_logits=torch.zeros(1, 2, 1, 2), outlier_logits=void))[0, 0]
    assert scores[1] - scores[0] == 10


def test_dense_hybrid_grows_with_either_part():
    seg_logits = torch.tensor([[1., 0], [1, 0], [-4, -5]]).T.reshape(1, 2, 1, 3)
    outlier_logits = torch.tensor([[0., 0], [0, 2], [0, 2]]).T.reshape(1, 2, 1, 3)
    scores = build_score('dense_hybrid')(dict(seg_logits=seg_logits, outlier_logits=outlier_logits))[0, 0]
    assert scores[0] < scores[1] < scores[2]


def test_extreme_logits_stay_finite():
    for sign in (1, -1):
        logits = sign * torch.tensor([1e4, -1e4, 0]).view(1, 3, 1, 1).expand(1, 3, 5, 5)
        assert build_score('pebal')(dict(seg_logits=logits)).isfinite().all()
        outputs = dict(seg_logits=logits, outlier_logits=logits[:, :2])
        assert build_score('dense_hybrid')(outputs).isfinite().all()
        assert build_score('void_class')(dict(outputs, outlier_logits=logits[:, :1])).isfinite().all()


def test_bad_input():
    with pytest.raises(ValueError, match='at least two classes'):
        build_score('pebal')(dict(seg_logits=torch.zeros(1, 1, 5, 5)))
    with pytest.raises(ValueError, match='sigma must be'):
        build_score(dict(type='pebal', sigma=-1))(dict(seg_logits=torch.zeros(1, 3, 5, 5)))
    with pytest.raises(ValueError, match=r"needs the outputs \['outlier_logits'\]"):
        build_score('dense_hybrid')(dict(seg_logits=torch.zeros(1, 3, 5, 5)))
    with pytest.raises(ValueError, match='outlier_logits must be'):
        build_score('dense_hybrid')(dict(seg_logits=torch.zeros(1, 3, 5, 5), outlier_logits=torch.zeros(1, 1, 5, 5)))
    for name, number in (('void_class', 2), ('outlier_posterior', 1)):
        with pytest.raises(ValueError, match='outlier_logits must be'):
            build_score(name)(dict(seg_logits=torch.zeros(1, 3, 5, 5), outlier_logits=torch.zeros(1, number, 5, 5)))
