# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models import FCNHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from scipy.special import log_softmax, logsumexp
from torch.autograd import gradcheck

from mgcda.labels import OUTLIER
from mgcda.models.losses import (
    DenseHybridLoss,
    OutlierHeadLoss,
    data_likelihood_loss,
    dataset_posterior_loss,
    known_cross_entropy,
)

LABELS = ('mixed', 'known', 'outliers', 'ignored')


def together(logits, outlier_logits):
    """What a head with an outlier head gives."""
    return torch.cat([torch.as_tensor(logits), torch.as_tensor(outlier_logits)], dim=1)


def mean(values):
    return np.mean(values) if len(values) else 0.


def reference(logits,
              outlier_logits,
              label,
              likelihood_weight=.03,
              inlier_weight=0,
              posterior_weight=.3,
              balanced_posterior=False):
    """float64, pixel by pixel, from the formulas."""
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    log_density = logsumexp(logits.astype(np.float64), axis=1)
    posterior = log_softmax(outlier_logits.astype(np.float64), axis=1)
    known, outlier = (label != 255) & (label != OUTLIER), label == OUTLIER
    loss = mean([-log_p[n, label[n, y, x], y, x] for n, y, x in zip(*np.nonzero(known))])
    loss += likelihood_weight * (mean(log_density[outlier]) - inlier_weight * mean(log_density[known]))
    terms = -posterior[:, 0][known], -posterior[:, 1][outlier]
    return loss + posterior_weight * (
        mean(terms[0]) + mean(terms[1]) if balanced_posterior else mean(np.concatenate(terms)))


def make_batch(kind='mixed', scale=3., num_known=4, size=(5, 7)):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, scale, (2, num_known, *size))
    outlier_logits = rng.normal(0, scale, (2, 2, *size))
    label = rng.integers(0, num_known, (2, *size))
    draw = rng.random(label.shape)
    if kind == 'mixed':
        label[draw < .3] = OUTLIER
    elif kind == 'outliers':
        label[:] = OUTLIER
    label[draw > (.8 if kind != 'ignored' else -1)] = 255
    return logits, outlier_logits, label


@pytest.mark.parametrize('kind', LABELS)
@pytest.mark.parametrize('options', [
    dict(),
    dict(inlier_weight=1, balanced_posterior=True),
    dict(likelihood_weight=2, inlier_weight=.5, posterior_weight=.7)
])
def test_agrees_with_float64(kind, options):
    logits, outlier_logits, label = make_batch(kind)
    expected = reference(logits, outlier_logits, label, **options)
    loss, target, values = DenseHybridLoss(**options), torch.tensor(label), together(logits, outlier_logits)
    assert loss(values, target, weight=None, ignore_index=255).item() == pytest.approx(expected, rel=1e-12)
    single = loss(values.float(), target)
    assert single.dtype == torch.float32 and single.shape == ()
    assert single.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize('kind', LABELS)
@pytest.mark.parametrize('options', [dict(), dict(posterior_weight=.7, balanced_posterior=True)])
def test_outlier_head_is_without_the_likelihood(kind, options):
    logits, outlier_logits, label = make_batch(kind)
    expected = reference(logits, outlier_logits, label, **{'posterior_weight': .2, **options}, likelihood_weight=0)
    loss, values = OutlierHeadLoss(**options), together(logits, outlier_logits)
    assert loss(values, torch.tensor(label)).item() == pytest.approx(expected, rel=1e-12)
    assert loss(values.half(), torch.tensor(label)).dtype == torch.float32


@pytest.mark.parametrize('kind', LABELS)
@pytest.mark.parametrize('options', [dict(), dict(inlier_weight=1, balanced_posterior=True)])
def test_gradients(kind, options):
    logits, outlier_logits, label = make_batch(kind, num_known=3, size=(3, 4))
    loss, label = DenseHybridLoss(**options), torch.tensor(label)
    values = torch.tensor(logits, requires_grad=True), torch.tensor(outlier_logits, requires_grad=True)
    assert gradcheck(lambda seg, binary: loss(together(seg, binary), label), values)


def test_half_precision_is_computed_in_single():
    logits, outlier_logits, label = map(torch.tensor, make_batch())
    half = together(logits, outlier_logits).half().requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        loss = DenseHybridLoss()(half, label)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, DenseHybridLoss()(half.float(), label))
    loss.backward()
    assert half.grad.isfinite().all() and half.grad.any()


@pytest.mark.parametrize('kind', LABELS)
@pytest.mark.parametrize('scale', [0, 1e4, 6e4])
def test_extreme_logits_stay_finite(kind, scale):
    logits, outlier_logits, label = make_batch(kind)
    values = (together(logits, outlier_logits).sign() * scale).half().requires_grad_()
    for options in (dict(), dict(inlier_weight=1, balanced_posterior=True)):
        loss = DenseHybridLoss(**options)(values, torch.tensor(label))
        assert loss.isfinite()
        assert not torch.autograd.grad(loss, values)[0].isnan().any()
        if kind == 'ignored':
            assert loss == 0


def test_worked_by_hand():
    # Known pixel: p_y = 1/4, log-density ln 4. Outlier: log-density ln 6, P(outlier) = 3/4. The last one is ignored.
    logits = torch.tensor([[0., np.log(3)], [np.log(3), np.log(3)], [5, 5]]).T.reshape(1, 2, 1, 3)
    binary = torch.tensor([[0., 0], [0, np.log(3)], [9, 9]]).T.reshape(1, 2, 1, 3)
    label = torch.tensor([[[0, OUTLIER, 255]]])
    assert known_cross_entropy(logits, label).item() == pytest.approx(np.log(4))
    assert data_likelihood_loss(logits, label).item() == pytest.approx(np.log(6))
    assert data_likelihood_loss(logits, label, inlier_weight=1).item() == pytest.approx(np.log(6 / 4))
    posterior = np.log(2) + np.log(4 / 3)
    assert dataset_posterior_loss(binary, label).item() == pytest.approx(posterior / 2)
    assert dataset_posterior_loss(binary, label, balanced=True).item() == pytest.approx(posterior)
    expected = np.log(4) + .03 * np.log(6) + .15 * posterior
    assert DenseHybridLoss()(together(logits, binary), label).item() == pytest.approx(expected)
    assert DenseHybridLoss(loss_weight=2)(together(logits, binary), label).item() == pytest.approx(2 * expected)


def test_stands_in_a_head_of_mmseg():
    head = FCNHead(in_channels=6, channels=6, num_convs=1, num_classes=4, loss_decode=dict(type='DenseHybridLoss'))
    logits, outlier_logits, label = make_batch()
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.tensor(y)[None])) for y in label]
    values = together(logits, outlier_logits)
    losses = head.loss_by_feat(values, samples)
    assert losses['loss_dense_hybrid'].item() == pytest.approx(DenseHybridLoss()(values, torch.tensor(label)).item())


def test_bad_input():
    for options, message in ((dict(likelihood_weight=-1), 'likelihood_weight must be at least 0'),
                             (dict(posterior_weight=float('nan')), 'posterior_weight must'),
                             (dict(loss_name='hybrid'), "loss_name must start with 'loss_'")):
        with pytest.raises(ValueError, match=message):
            MODELS.build(dict(type='DenseHybridLoss', **options))
        if 'likelihood_weight' not in options:
            with pytest.raises(ValueError, match=message):
                MODELS.build(dict(type='OutlierHeadLoss', **options))
    label = torch.zeros(1, 5, 5).long()
    for shape in ((1, 5, 4, 5), (1, 3, 5, 5), (5, 5, 5)):
        with pytest.raises(ValueError, match=r'seg_logits must be \(N, C \+ 2, H, W\).*num_logits=2'):
            DenseHybridLoss()(torch.zeros(shape), label)
