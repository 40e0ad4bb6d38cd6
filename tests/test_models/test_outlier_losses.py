# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from scipy.special import log_softmax
from torch.distributions import Dirichlet, kl_divergence

from mgcda.labels import IGNORE, OUTLIER
from mgcda.models.losses import max_entropy_loss, target_concentrations

NUM_CLASSES = 5
LOSSES = [
    dict(type='PixelCrossEntropyLoss'),
    dict(type='PixelCrossEntropyLoss', outliers='last_class'),
    dict(type='PixelCrossEntropyLoss', outliers='last_class', class_weight=[1., 2., 1., 1., 3.]),
    dict(type='MaxEntropyLoss'),
    dict(type='DirichletPriorLoss'),
    dict(type='DirichletPriorLoss', reverse=True),
]
#: Which of them count pixels of classes and of outliers.
COUNTS = [(True, False), (True, True), (True, True), (False, True), (True, True), (True, True)]


def batch(dtype=torch.float32):
    """Logits (2, 5, 6, 7), and labels of classes 0..3, outliers and ignored pixels."""
    generator = torch.Generator().manual_seed(0)
    logits = (2 * torch.randn(2, NUM_CLASSES, 6, 7, generator=generator)).to(dtype)
    label = torch.randint(NUM_CLASSES - 1, (2, 6, 7), generator=generator)
    label[:, :2] = OUTLIER
    label[0, 4:] = IGNORE
    return logits, label


def test_cross_entropy_leaves_outliers_out():
    logits, label = batch()
    loss = MODELS.build(LOSSES[0])(logits, label)
    without = label.where(label != OUTLIER, torch.tensor(IGNORE))
    expected = F.cross_entropy(logits.double(), without, ignore_index=IGNORE)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert (label == OUTLIER).any()  # the caller's labels stay as they are


@pytest.mark.parametrize('class_weight', [None, [1., 2., 1., 1., 3.]])
def test_cross_entropy_with_a_class_of_outliers(class_weight):
    logits, label = batch()
    loss = MODELS.build(dict(LOSSES[1], class_weight=class_weight))(logits, label)
    weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float64)
    as_class = label.where(label != OUTLIER, torch.tensor(NUM_CLASSES - 1))
    expected = F.cross_entropy(logits.double(), as_class, weight=weight, ignore_index=IGNORE)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.float64])
def test_max_entropy_agrees_with_float64(dtype):
    logits, label = batch(dtype)
    outliers = logits.double().permute(0, 2, 3, 1)[label == OUTLIER].numpy()
    expected = -log_softmax(outliers, axis=1).mean()
    loss = MODELS.build(LOSSES[3])(logits, label)
    assert loss.item() == pytest.approx(0.9 * expected, rel=1e-6)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    undecided = torch.full_like(logits, 3)
    assert max_entropy_loss(undecided, label == OUTLIER).item() == pytest.approx(np.log(NUM_CLASSES), rel=1e-6)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.float64])
def test_all_pixels_is_the_mean_over_the_tensor_of_targets(dtype):
    """As in the public code of meta-OoD: targets of 0.1 for the class of a pixel, of 0.9 / C for all of an outlier."""
    logits, label = batch(dtype)
    settings = dict(reduction='all_pixels')
    losses = [
        MODELS.build(dict(type='PixelCrossEntropyLoss', loss_weight=0.1, **settings)),
        MODELS.build(dict(type='MaxEntropyLoss', **settings))
    ]
    targets = np.zeros((2, 6, 7, NUM_CLASSES))
    known = (label != OUTLIER) & (label != IGNORE)
    targets[known] = 0.1 * np.eye(NUM_CLASSES)[label[known]]
    targets[label == OUTLIER] = 0.9 / NUM_CLASSES
    expected = -(targets * log_softmax(logits.double().permute(0, 2, 3, 1).numpy(), axis=-1)).mean()
    assert sum(loss(logits, label).item() for loss in losses) == pytest.approx(expected, rel=1e-6)
    nothing = torch.full_like(label, IGNORE)
    assert all(loss(logits.requires_grad_(), nothing).requires_grad and loss(logits, nothing) == 0 for loss in losses)
    for kind in ('PixelCrossEntropyLoss', 'MaxEntropyLoss'):
        with pytest.raises(ValueError, match="reduction must be 'own_pixels' or 'all_pixels', got 'mean'"):
            MODELS.build(dict(type=kind, reduction='mean'))


def test_targets():
    label = torch.tensor([[[2, OUTLIER]]])
    targets = target_concentrations(label, num_classes=4, precision=100, smoothing=0.02)
    np.testing.assert_allclose(targets[0, :, 0, 0], [2, 2, 94, 2], rtol=1e-6)
    np.testing.assert_array_equal(targets[0, :, 0, 1], [1, 1, 1, 1])
    with pytest.raises(ValueError, match='smoothing must be in'):
        target_concentrations(label, num_classes=4, precision=100, smoothing=0.25)
    # The targets of reverse training: 101 and 1.
    targets = target_concentrations(label, num_classes=4, precision=104, smoothing=1 / 104)
    np.testing.assert_allclose(targets[0, :, 0, 0], [1, 1, 101, 1], rtol=1e-5)


@pytest.mark.parametrize('reverse', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.float64])
def test_dirichlet_agrees_with_torch(reverse, dtype):
    logits, label = batch(dtype)
    loss = MODELS.build(
        dict(
            type='DirichletPriorLoss',
            precision=200,
            smoothing=0.03,
            outlier_weight=0.7,
            reverse=reverse,
            loss_weight=0.5))(logits, label)
    sums, counts = [0., 0.], [0, 0]
    for n, y, x in np.ndindex(*label.shape):
        value = label[n, y, x].item()
        if value == IGNORE:
            continue
        target = torch.ones(NUM_CLASSES, dtype=torch.float64)
        if value != OUTLIER:
            target[:] = 6
            target[value] = 200 - 6 * (NUM_CLASSES - 1)
        pair = Dirichlet(target), Dirichlet(logits[n, :, y, x].double().exp())
        sums[value == OUTLIER] += kl_divergence(*reversed(pair) if reverse else pair).item()
        counts[value == OUTLIER] += 1
    assert loss.item() == pytest.approx(0.5 * (sums[0] / counts[0] + 0.7 * sums[1] / counts[1]), rel=1e-5)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize('reverse', [False, True])
def test_dirichlet_is_least_at_its_targets(reverse):
    _, label = batch()
    targets = target_concentrations(label.where(label != IGNORE, torch.tensor(0)), NUM_CLASSES, 1000., 0.01)
    logits = targets.double().log().requires_grad_()
    loss = MODELS.build(dict(type='DirichletPriorLoss', reverse=reverse))(logits, label)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6) and logits.grad.abs().max() < 1e-4


@pytest.mark.parametrize('cfg', LOSSES[3:])
def test_gradients(cfg):
    logits, label = batch(torch.float64)
    loss = MODELS.build(cfg)
    logits, label = logits[:, :, 1:5, :2].clone().requires_grad_(), label[:, 1:5, :2]
    assert set(label.unique().tolist()) >= {OUTLIER, IGNORE}
    assert torch.autograd.gradcheck(lambda values: loss(values, label), logits)


@pytest.mark.parametrize('cfg, counts', zip(LOSSES, COUNTS))
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize('kind', ['classes', 'outliers', 'ignored'])
def test_batches_of_one_kind(cfg, counts, dtype, kind):
    logits, label = batch(dtype)
    label = dict(
        classes=label % (NUM_CLASSES - 1),
        outliers=torch.full_like(label, OUTLIER),
        ignored=torch.full_like(label, IGNORE))[kind]
    logits.requires_grad_()
    loss = MODELS.build(cfg)(logits, label)
    loss.backward()
    counted = dict(classes=counts[0], outliers=counts[1], ignored=False)[kind]
    assert loss.isfinite() and logits.grad.isfinite().all()
    assert (loss > 0) == counted and (logits.grad.abs().sum() > 0) == counted


@pytest.mark.parametrize('cfg', LOSSES)
def test_ignored_pixels_have_no_gradient(cfg):
    logits, label = batch()
    logits.requires_grad_()
    MODELS.build(cfg)(logits, label).backward()
    gradient = logits.grad.abs().sum(1)
    assert (gradient[label == IGNORE] == 0).all()
    assert gradient[label == OUTLIER].any() == (cfg != LOSSES[0])


@pytest.mark.parametrize('cfg', LOSSES)
def test_is_the_same_under_autocast(cfg):
    logits, label = batch()
    loss = MODELS.build(cfg)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        under_autocast = loss(logits, label)
    assert under_autocast.dtype == torch.float32
    torch.testing.assert_close(under_autocast, loss(logits, label))


@pytest.mark.parametrize('cfg', LOSSES)
def test_never_reads_values(cfg):
    # Tensors without data: what would wait for a device to know a value or a shape fails.
    logits, label = (values.to('meta') for values in batch())
    assert MODELS.build(cfg).to('meta')(logits, label).shape == ()


@pytest.mark.parametrize('cfg, message', [
    (dict(type='PixelCrossEntropyLoss', outliers='void'), 'outliers must be one of'),
    (dict(type='MaxEntropyLoss', loss_name='entropy'), 'loss_name'),
    (dict(type='DirichletPriorLoss', loss_name='entropy'), 'loss_name'),
    (dict(type='DirichletPriorLoss', precision=0), 'precision must be above 0'),
    (dict(type='DirichletPriorLoss', smoothing=0), 'smoothing must be in'),
    (dict(type='DirichletPriorLoss', outlier_weight=-1), 'outlier_weight must be at least 0'),
])
def test_refuses_options(cfg, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(cfg)


def test_smoothing_must_suit_the_classes():
    with pytest.raises(ValueError, match='5 classes'):
        MODELS.build(dict(type='DirichletPriorLoss', smoothing=0.2))(*batch())


@pytest.mark.parametrize('loss_decode', [
    [dict(type='PixelCrossEntropyLoss', loss_weight=0.1),
     dict(type='MaxEntropyLoss')],
    [dict(type='PixelCrossEntropyLoss', outliers='last_class')],
    [dict(type='PixelCrossEntropyLoss'),
     dict(type='DirichletPriorLoss', loss_weight=0.001)],
])
def test_in_a_decode_head(loss_decode):
    torch.manual_seed(0)
    head = MODELS.build(
        dict(
            type='FCNHead',
            in_channels=8,
            channels=8,
            num_convs=1,
            num_classes=NUM_CLASSES,
            norm_cfg=None,
            loss_decode=loss_decode))
    _, label = batch()
    samples = [SegDataSample(gt_sem_seg=PixelData(data=plane[None])) for plane in label]
    losses = head.loss((torch.randn(2, 8, 3, 4), ), samples, None)
    names = {loss.loss_name for loss in head.loss_decode}
    assert set(losses) == names | {'acc_seg'} and all(losses[name] > 0 for name in names)
    assert 0 <= losses['acc_seg'].item() <= 100
    sum(losses[name] for name in names).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in head.parameters())
