# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import itertools

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models import FCNHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from scipy.ndimage import gaussian_filter
from scipy.special import log_softmax, logsumexp
from torch.autograd import gradcheck

from mgcda.labels import OUTLIER
from mgcda.models.losses.pebal import (
    PEBALLoss,
    abstention_penalty,
    energy_margin_loss,
    energy_smoothness,
    energy_sparsity,
    known_energy,
    pixel_abstention_loss,
)

FORMULAS = dict(
    penalty_sigma=0,
    outlier_target='abstention',
    outlier_weight=1,
    separate_images=False,
    smoothness='absolute',
    smoothness_weight=.2,
    sparsity='absolute',
    sparsity_weight=.3)
LABELS = ('mixed', 'known', 'outliers', 'ignored', 'one_clean_image')


def blurred(penalty, sigma):
    return np.stack([gaussian_filter(p, sigma, mode='mirror', truncate=3) if sigma else p for p in penalty])


def reference(logits,
              label,
              penalty_sigma=1,
              min_penalty=1e-6,
              outlier_target='known',
              outlier_weight=.1,
              separate_images=True,
              energy_weight=.1,
              m_in=-12,
              m_out=-6,
              smoothness='squared',
              smoothness_weight=3e-7,
              sparsity='outlier_norm',
              sparsity_weight=5e-5):
    """float64, pixel by pixel, from the formulas."""
    logits = logits.astype(np.float64)
    num_known = logits.shape[1] - 1
    energy = -logsumexp(logits[:, :num_known], axis=1)
    penalty = np.maximum(blurred(energy**2, penalty_sigma), min_penalty)
    log_f = log_softmax(logits, axis=1)
    known, outlier, margin_in, margin_out, absolute = {False: [], True: []}, [], [], [], []
    for n, y, x in np.ndindex(*label.shape):
        pixel, e = label[n, y, x], energy[n, y, x]
        if pixel == 255:
            continue
        absolute.append(abs(e))
        share = log_f[n, -1, y, x] - np.log(penalty[n, y, x])
        if pixel == OUTLIER:
            classes = range(num_known) if outlier_target == 'known' else [num_known]
            outlier.append(-np.mean([np.logaddexp(log_f[n, c, y, x], share) for c in classes]))
            margin_out.append(max(0, m_out - e)**2)
        else:
            mixed = separate_images and OUTLIER in label[n]
            known[mixed].append(-np.logaddexp(log_f[n, pixel, y, x], share))
            margin_in.append(max(0, e - m_in)**2)
    abstention = sum(np.mean(terms) for terms in known.values() if terms)
    abstention += outlier_weight * (np.mean(outlier) if outlier else 0)
    margins = np.mean([np.mean(terms) for terms in (margin_in, margin_out) if terms] or [0])
    steps = []
    for n, y, x in np.ndindex(*label.shape):
        for y2, x2 in ((y + 1, x), (y, x + 1)):
            if y2 < label.shape[1] and x2 < label.shape[2] and 255 not in (label[n, y, x], label[n, y2, x2]):
                steps.append(energy[n, y, x] - energy[n, y2, x2])
    steps = np.array(steps)
    smooth = (steps**2).sum() / 2 if smoothness == 'squared' else np.abs(steps).sum() / max(len(absolute), 1)
    norm = np.sqrt((energy[label == OUTLIER]**2).sum())
    sparse = norm if sparsity == 'outlier_norm' else np.mean(absolute or [0])
    return abstention + energy_weight * margins + smoothness_weight * smooth + sparsity_weight * sparse


def make_batch(kind='mixed', scale=6., num_known=4, size=(5, 7)):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, scale, (2, num_known + 1, *size))
    label = rng.integers(0, num_known, (2, *size))
    draw = rng.random(label.shape)
    label[draw < .3] = OUTLIER if kind in ('mixed', 'one_clean_image') else 255
    label[draw > .8] = 255
    if kind == 'one_clean_image':
        label[0][label[0] == OUTLIER] = 1
    elif kind == 'outliers':
        label[label != 255] = OUTLIER
    elif kind == 'ignored':
        label[:] = 255
    return logits, label


@pytest.mark.parametrize('kind', LABELS)
@pytest.mark.parametrize('options', [
    dict(), FORMULAS,
    dict(smoothness_weight=.2, sparsity_weight=.3, energy_weight=1, m_in=-9, m_out=-3),
    dict(penalty_sigma=0, min_penalty=1.5, outlier_weight=2, energy_weight=0),
    dict(separate_images=False, outlier_target='abstention')
])
def test_agrees_with_float64(kind, options):
    logits, label = make_batch(kind)
    expected = reference(logits, label, **options)
    loss = PEBALLoss(**options)
    label = torch.tensor(label)
    assert loss(torch.tensor(logits), label).item() == pytest.approx(expected, rel=1e-10)
    single = loss(torch.tensor(logits, dtype=torch.float32), label)
    assert single.dtype == torch.float32 and single.shape == ()
    assert single.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert 2 * single == PEBALLoss(loss_weight=2, **options)(torch.tensor(logits, dtype=torch.float32), label)


@pytest.mark.parametrize('kind', LABELS)
@pytest.mark.parametrize('options', [dict(), dict(smoothness_weight=.2, sparsity_weight=.3), FORMULAS])
def test_gradients(kind, options):
    logits, label = make_batch(kind, scale=2, num_known=2, size=(4, 5))
    loss, label = PEBALLoss(**options), torch.tensor(label)
    assert gradcheck(lambda values: loss(values, label), torch.tensor(logits, requires_grad=True))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype):
    logits, label = make_batch()
    logits, label = torch.tensor(logits).to(dtype), torch.tensor(label)
    half = logits.clone().requires_grad_()
    with torch.autocast('cpu', dtype):
        loss = PEBALLoss()(half, label)
    assert loss.dtype == torch.float32 and torch.equal(loss, PEBALLoss()(logits.float(), label))
    loss.backward()
    assert half.grad.dtype == dtype and half.grad.isfinite().all() and half.grad.any()


@pytest.mark.parametrize('kind', LABELS)
@pytest.mark.parametrize('options', [dict(), FORMULAS])
@pytest.mark.parametrize('scale', [0, 1e4, 6e4])
def test_extreme_logits_stay_finite(kind, options, scale):
    logits, label = make_batch(kind)
    logits = torch.tensor(np.sign(logits) * scale, dtype=torch.float16).requires_grad_()
    loss = PEBALLoss(**options)(logits, torch.tensor(label))
    assert loss.isfinite()
    grad, = torch.autograd.grad(loss, logits)
    assert not grad.isnan().any()


def test_energy_of_zero_has_a_bounded_loss():
    # Two classes with logits of -ln 2 have an energy of 0.
    logits = torch.full((1, 3, 4, 4), -np.log(2)).requires_grad_()
    loss = PEBALLoss()(logits, torch.full((1, 4, 4), OUTLIER))
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()
    certain = torch.tensor([-50., -50, 0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    options = dict(penalty_sigma=0, energy_weight=0, smoothness_weight=0, sparsity_weight=0, min_penalty=1)
    for label, logits in itertools.product((0, OUTLIER), (certain, torch.zeros(1, 3, 4, 4))):
        # From a penalty of 1 on, no loss is negative.
        assert PEBALLoss(**options)(logits, torch.full((1, 4, 4), label)) >= 0


def test_nothing_counts_where_all_is_ignored():
    logits, label = make_batch('ignored')
    logits = torch.tensor(logits, requires_grad=True)
    for options in (dict(), FORMULAS):
        loss = PEBALLoss(**options)(logits, torch.tensor(label))
        loss.backward()
        assert loss == 0 and not logits.grad.any()


def test_ignored_pixels_matter_only_through_the_blurred_penalty():
    logits, label = map(torch.tensor, make_batch('mixed'))
    changed = torch.where((label == 255)[:, None], logits + torch.randn(logits.shape), logits)
    loss = PEBALLoss(penalty_sigma=0, smoothness_weight=.1, sparsity_weight=.1)
    assert torch.equal(loss(logits, label), loss(changed, label))
    other = torch.where(label == 255, 77, label)
    assert torch.equal(loss(logits, other, ignore_index=77), loss(logits, label))


def test_worked_by_hand():
    # Probabilities 1/4, 1/4, 1/2 and an energy of -ln 2, squared 0.480453.
    logits = torch.tensor([0., 0, np.log(2)]).view(1, 3, 1, 1)
    label = torch.zeros(1, 1, 1, dtype=torch.int64)
    energy = known_energy(logits)
    assert energy.item() == pytest.approx(-0.693147, rel=1e-5)
    penalty = abstention_penalty(energy, sigma=0)
    assert penalty.item() == pytest.approx(0.480453, rel=1e-5)
    loss = pixel_abstention_loss(logits, label, penalty)
    assert loss.item() == pytest.approx(-np.log(1 / 4 + 1 / 2 / 0.480453), rel=1e-5)
    assert energy_margin_loss(energy, label).item() == pytest.approx((12 - 0.693147)**2, rel=1e-5)
    assert energy_margin_loss(energy, label + OUTLIER).item() == 0
    step = torch.tensor([[[1., 4.], [3., 4.]]])
    label = torch.tensor([[[OUTLIER, 0], [OUTLIER, 255]]])
    assert energy_smoothness(step, label).item() == (9 + 4) / 2
    assert energy_smoothness(step, label, 'absolute').item() == pytest.approx((3 + 2) / 3)
    assert energy_sparsity(step, label).item() == pytest.approx(10**.5)
    assert energy_sparsity(step, label, 'absolute').item() == pytest.approx(8 / 3)


def test_penalty_passes_gradients_unless_detached():
    logits, label = make_batch()
    options = dict(energy_weight=0, smoothness_weight=0, sparsity_weight=0)
    passed, detached, fixed = (torch.tensor(logits, requires_grad=True) for _ in range(3))
    label = torch.tensor(label)
    PEBALLoss(**options)(passed, label).backward()
    PEBALLoss(detach_penalty=True, **options)(detached, label).backward()
    pixel_abstention_loss(fixed, label, abstention_penalty(known_energy(torch.tensor(logits)))).backward()
    torch.testing.assert_close(detached.grad, fixed.grad)
    assert not torch.allclose(passed.grad, detached.grad)


def test_descent_separates_outliers():
    logits, label = make_batch(scale=1., size=(8, 8))
    logits, label = torch.tensor(logits, requires_grad=True), torch.tensor(label)
    optimizer = torch.optim.Adam([logits], lr=.1)
    loss_module = PEBALLoss()
    for _ in range(200):
        optimizer.zero_grad()
        loss_module(logits, label).backward()
        optimizer.step()
    energy = known_energy(logits.detach())
    assert energy[label == OUTLIER].min() > energy[(label != OUTLIER) & (label != 255)].max()


def test_stands_in_a_head_of_mmseg():
    head = FCNHead(in_channels=6, channels=6, num_convs=1, num_classes=5, loss_decode=dict(type='PEBALLoss'))
    logits, label = make_batch()
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.tensor(y)[None])) for y in label]
    logits, label = torch.tensor(logits), torch.tensor(label)
    losses = head.loss_by_feat(logits, samples)
    assert losses['loss_pebal'].item() == pytest.approx(PEBALLoss()(logits, label).item())


def test_bad_input():
    for options, message in ((dict(outlier_target='void'), 'outlier_target must be one of'),
                             (dict(smoothness='tv'), 'smoothness must be one of'), (dict(sparsity=''), 'sparsity must'),
                             (dict(energy_weight=-1),
                              'energy_weight must be at least 0'), (dict(min_penalty=0), 'min_penalty must be above 0'),
                             (dict(m_in=-3), 'm_in must be at most m_out'), (dict(loss_name='pebal'),
                                                                             'loss_name must')):
        with pytest.raises(ValueError, match=message):
            MODELS.build(dict(type='PEBALLoss', **options))
    with pytest.raises(ValueError, match='at least two known classes'):
        PEBALLoss()(torch.zeros(1, 2, 5, 5), torch.zeros(1, 5, 5).long())
    with pytest.raises(ValueError, match='seg_label must be'):
        PEBALLoss()(torch.zeros(1, 3, 5, 5), torch.zeros(1, 1, 5, 5).long())
    with pytest.raises(ValueError, match='more than 3 pixels'):
        PEBALLoss()(torch.zeros(1, 3, 3, 5), torch.zeros(1, 3, 5).long())
