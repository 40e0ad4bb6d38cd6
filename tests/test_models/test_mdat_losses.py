# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
import torch

from mgcda.models.losses import (
    DomainClassifierLoss,
    MultiSourceAdversarialLoss,
    domain_classifier_loss,
    dynamic_domain_label,
    multi_source_adversarial_loss,
)


def reference(pred, domains, label_of_void, label_of_mix):
    """Eq. 2 image by image in float64."""
    sums, counts = {0: 0., 1: 0.}, {0: 0, 1: 0}
    for image, domain in zip(pred.astype(np.float64), domains):
        label = label_of_void if domain == 0 else label_of_mix
        sums[domain] += ((image - label)**2).sum() / image.size
        counts[domain] += 1
    return sum(sums[d] / counts[d] for d in (0, 1) if counts[d])


@pytest.mark.parametrize('progress, tau_base, expected', [(0, 1., 1.), (1, 1., .5), (.5, 1., .75), (.25, .8, .725),
                                                          (.7, .5, .5)])
def test_label(progress, tau_base, expected):
    assert dynamic_domain_label(progress, tau_base) == pytest.approx(expected)


@pytest.mark.parametrize('kwargs', [
    dict(progress=-.1),
    dict(progress=1.1),
    dict(progress=0, tau_base=.4),
    dict(progress=0, tau_base=1.2),
    dict(progress=float('nan'))
])
def test_label_refuses(kwargs):
    with pytest.raises(ValueError, match='must be in'):
        dynamic_domain_label(**kwargs)


@pytest.mark.parametrize('domains', [[0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
@pytest.mark.parametrize('tau', [1., .7, .5])
@pytest.mark.parametrize('as_tensor', [False, True])
def test_losses_against_reference(domains, tau, as_tensor):
    rng = np.random.default_rng(0)
    pred = rng.normal(.5, 3, (4, 1, 5, 7))
    given = torch.tensor(domains) if as_tensor else domains
    for function, module, labels in ((multi_source_adversarial_loss, MultiSourceAdversarialLoss(), (1 - tau, tau)),
                                     (domain_classifier_loss, DomainClassifierLoss(), (tau, 1 - tau))):
        expected = reference(pred, domains, *labels)
        single = torch.tensor(pred, dtype=torch.float32, requires_grad=True)
        loss = function(single, given, tau)
        assert loss.shape == () and loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected, rel=1e-5)
        double = function(torch.tensor(pred), given, tau)
        assert double.dtype == torch.float64 and double.item() == pytest.approx(expected, rel=1e-14)
        assert module(single, given, tau).item() == loss.item()
        loss.backward()
        label = np.where(np.array(domains) == 0, labels[0], labels[1])[:, None, None, None]
        count = np.array([domains.count(d) for d in domains])[:, None, None, None]
        np.testing.assert_allclose(single.grad.numpy(), 2 * (pred - label) / (35 * count), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('loss', [MultiSourceAdversarialLoss(), DomainClassifierLoss()])
def test_only_valid_positions_count(loss):
    torch.manual_seed(0)
    pred, domains = torch.randn(4, 1, 3, 5, dtype=torch.float64, requires_grad=True), [0, 0, 1, 1]
    valid = torch.ones(4, 1, 3, 5, dtype=torch.bool)
    assert torch.equal(loss(pred, domains, .8, valid), loss(pred, domains, .8))
    valid[:, :, 1:] = False  # what is left is a map of its own
    valid[1] = False  # and this image counts for nothing
    expected = loss(pred[[0, 2, 3], :, :1], [0, 1, 1], .8)
    torch.testing.assert_close(loss(pred, domains, .8, valid), expected)
    gradient, = torch.autograd.grad(loss(pred, domains, .8, valid), pred)
    assert not gradient[~valid].any() and gradient[valid].all()
    nothing = loss(pred, domains, .8, torch.zeros_like(valid))
    nothing.backward()
    assert nothing.item() == 0 and not pred.grad.any()
    with pytest.raises(ValueError, match='valid must have the shape'):
        loss(pred, domains, .8, valid[:, 0])


def test_two_sides_meet_at_half():
    pred = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    assert multi_source_adversarial_loss(pred, [0, 1], .5) == domain_classifier_loss(pred, [0, 1], .5)


def test_half_precision_is_computed_in_single():
    pred = torch.full((2, 1, 64, 64), 300.).half()  # 300^2 is beyond half precision
    assert multi_source_adversarial_loss(pred, [0, 1], 1.).item() == pytest.approx(300**2 + 299**2)


def test_empty_batch_has_a_graph():
    pred = torch.zeros(0, 1, 4, 4, requires_grad=True)
    loss = multi_source_adversarial_loss(pred, [], 1.)
    loss.backward()
    assert loss.item() == 0 and pred.grad.shape == pred.shape


@pytest.mark.parametrize('shape, domains, message', [((2, 1, 4, 4), [0], 'one domain for each of the 2'),
                                                     ((2, 1, 4, 4), [0, 2], r'got \[2\]'),
                                                     ((2, 3, 4, 4), [0, 1], r'\(N, 1, h, w\)')])
def test_losses_refuse(shape, domains, message):
    with pytest.raises(ValueError, match=message):
        multi_source_adversarial_loss(torch.zeros(shape), domains, 1.)
