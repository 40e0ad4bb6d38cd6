# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import digamma, gammaln
from torch.distributions import Dirichlet, kl_divergence

from mgcda.scores import build_score
from mgcda.scores.dirichlet import (
    concentrations,
    dirichlet_entropy,
    dirichlet_kl_divergence,
    dirichlet_mutual_information,
)

TARGETS = torch.tensor([1., 30., 4.], dtype=torch.float64).view(1, 3, 1, 1)
NAMES = ('differential_entropy', 'dirichlet_mutual_information')


def as_maps(values):
    """(M, C) -> (1, C, 1, M)."""
    return torch.as_tensor(values).t()[None, :, None]


def reference_information(alphas):
    """float64 NumPy, (..., C), straight from the formula."""
    total = alphas.sum(-1, keepdims=True)
    mean = alphas / total
    return -(mean * (np.log(mean) - digamma(alphas + 1) + digamma(total + 1))).sum(-1)


@pytest.mark.parametrize('scale, shift', [(1, 0), (5, 0), (2, 6), (2, -9)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.float64])
def test_scores_agree_with_float64(scale, shift, dtype):
    generator = torch.Generator().manual_seed(1)
    logits = (scale * torch.randn(2, 19, 5, 7, generator=generator) + shift).to(dtype)
    alphas = logits.double().exp().permute(0, 2, 3, 1)
    expected = dict(
        differential_entropy=Dirichlet(alphas).entropy(),
        dirichlet_mutual_information=torch.from_numpy(reference_information(alphas.numpy())))
    for name, values in expected.items():
        scores = build_score(name)(dict(seg_logits=logits))
        assert scores.dtype == torch.float32
        torch.testing.assert_close(scores.double(), values, rtol=2e-5, atol=1e-7)


def test_entropy_of_extreme_concentrations():
    # SciPy has asymptotic formulas for the beta distribution, that is C = 2.
    alphas = np.array([[1e-12, 1e-12], [1e-12, 1e12], [1e-3, 1e9], [2., 1e6], [1e6, 1e6], [1e9, 2e9], [1e12, 1e12]])
    expected = stats.beta(alphas[:, 0], alphas[:, 1]).entropy()
    entropy = dirichlet_entropy(as_maps(alphas).float())[0, 0].numpy()
    trusted = np.isfinite(expected) & (alphas.min(1) >= 1)
    assert trusted.sum() == 4
    np.testing.assert_allclose(entropy[trusted], expected[trusted], rtol=2e-6)
    # Towards 0 the density is that of two points: -1 / alpha for each of them.
    assert entropy[0] == pytest.approx(-1e12, rel=1e-5) and entropy[1] == pytest.approx(-1e12, rel=1e-5)


def test_information_of_extreme_concentrations():
    large = torch.full((1, 19, 1, 1), 1e9)
    assert dirichlet_mutual_information(large).item() == pytest.approx(18 / (2 * 19e9), rel=1e-5)
    small = torch.full((1, 19, 1, 1), 1e-9)
    assert dirichlet_mutual_information(small).item() == pytest.approx(np.log(19), rel=1e-5)
    certain = as_maps(np.array([[1e12, 1e-12, 1e-12]])).float()
    assert 0 <= dirichlet_mutual_information(certain).item() < 1e-10


def test_scores_agree_with_samples():
    alphas = np.array([0.7, 3.0, 12.0])
    drawn = np.random.default_rng(0).dirichlet(alphas, 200000)
    logits = as_maps(np.log(alphas)[None])
    entropy = -stats.dirichlet(alphas).logpdf(drawn.T).mean()
    mean = drawn.mean(0)
    information = -(mean * np.log(mean)).sum() + (drawn * np.log(drawn)).sum(1).mean()
    assert build_score('differential_entropy')(dict(seg_logits=logits)).item() == pytest.approx(entropy, abs=0.01)
    assert build_score('dirichlet_mutual_information')(dict(seg_logits=logits)).item() == pytest.approx(
        information, abs=0.001)


def test_flat_is_most_anomalous_by_entropy():
    flat = torch.zeros(1, 19, 1, 1)
    score = build_score('differential_entropy')
    most = score(dict(seg_logits=flat)).item()
    assert most == pytest.approx(-gammaln(19), rel=1e-6)
    for direction in torch.randn(20, 1, 19, 1, 1, generator=torch.Generator().manual_seed(2)):
        assert score(dict(seg_logits=flat + direction)).item() < most


def test_less_evidence_is_more_anomalous():
    # The same class probabilities of ever fewer observations, above those of a flat distribution.
    logits = torch.tensor([5., 3., 2.]).log().view(1, 3, 1, 1) + torch.tensor([8., 4., 2., 0.])
    for name in ('differential_entropy', 'dirichlet_mutual_information'):
        scores = build_score(name)(dict(seg_logits=logits))[0, 0]
        assert (scores.diff() > 0).all(), name


@pytest.mark.parametrize('name', NAMES)
def test_extreme_logits_stay_finite(name):
    logits = torch.tensor([1e4, -1e4, 0.0]).view(1, 3, 1, 1)
    for values in (logits, -logits, logits.roll(1, 1), logits.half()):
        scores = build_score(name)(dict(seg_logits=values))
        assert scores.isfinite().all() and scores.dtype == torch.float32
    with pytest.raises(ValueError, match='at least two classes'):
        build_score(name)(dict(seg_logits=torch.zeros(1, 1, 2, 2)))


@pytest.mark.parametrize('shift', [-8, 0, 2, 8])
def test_divergence_agrees_with_torch(shift):
    generator = torch.Generator().manual_seed(4)
    alphas = (2 * torch.randn(40, 19, generator=generator, dtype=torch.float64) + shift).exp()
    betas = 1 + 800 * torch.rand(40, 19, generator=generator, dtype=torch.float64)**4
    for first, second in ((alphas, betas), (betas, alphas)):
        divergence = dirichlet_kl_divergence(as_maps(first).float(), as_maps(second).float())[0, 0].double()
        torch.testing.assert_close(divergence, kl_divergence(Dirichlet(first), Dirichlet(second)), rtol=5e-5, atol=1e-3)
    assert dirichlet_kl_divergence(as_maps(alphas), as_maps(alphas)).abs().max() < 1e-6


def test_divergence_agrees_with_samples():
    alphas, betas = np.array([1.5, 4.0, 9.0]), np.array([3.0, 1.0, 5.0])
    drawn = np.random.default_rng(1).dirichlet(alphas, 200000).T
    sampled = (stats.dirichlet(alphas).logpdf(drawn) - stats.dirichlet(betas).logpdf(drawn)).mean()
    divergence = dirichlet_kl_divergence(as_maps(alphas[None]), as_maps(betas[None])).item()
    assert divergence == pytest.approx(sampled, abs=0.02)


@pytest.mark.parametrize('function', [
    dirichlet_entropy, dirichlet_mutual_information,
    lambda alphas: dirichlet_kl_divergence(alphas, TARGETS.expand_as(alphas)),
    lambda alphas: dirichlet_kl_divergence(TARGETS.expand_as(alphas), alphas)
])
def test_gradients(function):
    # Concentrations on both sides of 10, where the series begin.
    logits = torch.linspace(-3, 6, 24, dtype=torch.float64).view(2, 3, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: function(concentrations(values)), logits)


@pytest.mark.parametrize('function', [
    dirichlet_entropy, lambda alphas: dirichlet_kl_divergence(alphas, torch.ones_like(alphas)),
    lambda alphas: dirichlet_kl_divergence(torch.ones_like(alphas), alphas)
])
def test_gradients_of_extreme_logits_stay_finite(function):
    logits = torch.tensor([-1e4, -29., -10., 10., 29., 1e4]).view(1, 6, 1, 1).requires_grad_()
    function(concentrations(logits)).sum().backward()
    assert logits.grad.isfinite().all() and logits.grad[0, 1:5].abs().min() > 0
