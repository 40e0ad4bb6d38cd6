# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Multi-source domain adversarial training: labels and losses (MGCDA, section 3.3)."""
from collections.abc import Sequence

import torch
from mmengine.registry import FUNCTIONS
from mmseg.registry import MODELS
from torch import Tensor, nn

from .reduction import single_or_double

VOID_CLASS = 0
ANOMALY_MIX = 1
Domains = Sequence[int] | Tensor


@FUNCTIONS.register_module()
def dynamic_domain_label(progress: float, tau_base: float = 1.0) -> float:
    r"""Domain label of VoidClass, smoothed as training goes on (MGCDA, eq. 1).

    .. math:: \tau = \tau_b - (\tau_b - 0.5) \frac{i}{\max i}

    ``progress``: i / max i, in [0, 1]. ``tau_base``: :math:`\tau_b`, in [0.5, 1]. Returns tau, in [0.5, tau_base];
    1 - tau is AnomalyMix's label.

    Raises:
        ValueError: If an argument is outside its range.
    """
    if not 0 <= progress <= 1:
        raise ValueError(f'progress must be in [0, 1], got {progress}')
    if not 0.5 <= tau_base <= 1:
        raise ValueError(f'tau_base must be in [0.5, 1], got {tau_base}')
    return tau_base - (tau_base - 0.5) * progress


def domains_to(domains: Domains, pred: Tensor) -> Tensor:
    """Check ``domains`` (N,) against the batch of ``pred`` and bring it to its device without waiting for it."""
    if len(domains) != len(pred):
        raise ValueError(f'domains must name one domain for each of the {len(pred)} maps, got {len(domains)}')
    if isinstance(domains, Tensor):
        return domains.to(pred.device, non_blocking=True)
    unknown = sorted(set(domains) - {VOID_CLASS, ANOMALY_MIX})
    if unknown:
        raise ValueError(f'domains must be {VOID_CLASS} (VoidClass) or {ANOMALY_MIX} (AnomalyMix), got {unknown}')
    on_host = torch.tensor([int(domain) for domain in domains], dtype=torch.int64)
    return on_host.pin_memory().to(pred.device, non_blocking=True) if pred.is_cuda else on_host.to(pred.device)


def _paired_squared_error(pred: Tensor, domains: Domains, label_v: float, label_a: float,
                          valid: Tensor | None) -> Tensor:
    """Mean over VoidClass maps of (pred - label_v)^2 plus mean over AnomalyMix maps of (pred - label_a)^2."""
    if pred.dim() != 4 or pred.size(1) != 1:
        raise ValueError(f'pred must have the shape (N, 1, h, w), got {tuple(pred.shape)}')
    if valid is not None and valid.shape != pred.shape:
        raise ValueError(f'valid must have the shape of pred, {tuple(pred.shape)}, got {tuple(valid.shape)}')
    domains = domains_to(domains, pred)
    pred = single_or_double(pred)
    is_void = domains == VOID_CLASS
    is_mix = domains == ANOMALY_MIX
    label = torch.full_like(is_void, label_a, dtype=pred.dtype).masked_fill(is_void, label_v).view(-1, 1, 1, 1)
    error = (pred - label).square().flatten(1)  # (N, 1, h, w) -> (N, h * w)
    if valid is None:
        error = error.mean(1)
    else:
        valid = valid.flatten(1)
        num_valid = valid.sum(1)
        error = error.masked_fill(~valid, 0).sum(1) / num_valid.clamp(min=1)
        is_void, is_mix = is_void & (num_valid > 0), is_mix & (num_valid > 0)
    return sum((error * member).sum() / member.sum().clamp(min=1) for member in (is_void, is_mix))


def multi_source_adversarial_loss(pred: Tensor, domains: Domains, tau: float, valid: Tensor | None = None) -> Tensor:
    r"""Pull two domains together (MGCDA, eq. 2).

    .. math:: L = \frac{1}{N} \sum (P_V - Y_A)^2 + (P_A - Y_V)^2

    ``pred``: P, float (N, 1, h, w), unbounded. ``domains``: int (N,), a list or a tensor, 0 = VoidClass,
    1 = AnomalyMix. ``tau``: Y_V, the label of VoidClass, in [0.5, 1]; Y_A = 1 - tau. The mean over the maps of one
    domain plus the mean over those of the other; the term of a domain that the batch lacks is 0. ``valid``: bool
    (N, 1, h, w), the positions that count; by default all. A map's error is the mean over them, and a map without any
    does not count. Returns a scalar, float32 (float64 of float64).

    Raises:
        ValueError: If ``pred`` or ``valid`` has another shape, or ``domains`` another length or, of a list, other
            values; the values of a tensor are not looked at, which would wait for the device, and maps of other
            domains count for nothing.
    """
    return _paired_squared_error(pred, domains, 1 - tau, tau, valid)


def domain_classifier_loss(pred: Tensor, domains: Domains, tau: float, valid: Tensor | None = None) -> Tensor:
    r"""Tell two domains apart: what the classifier minimises against eq. 2 of MGCDA.

    .. math:: L = \frac{1}{N} \sum (P_V - Y_V)^2 + (P_A - Y_A)^2

    Arguments, reduction, return value and errors are those of :func:`multi_source_adversarial_loss`.
    """
    return _paired_squared_error(pred, domains, tau, 1 - tau, valid)


@MODELS.register_module()
class MultiSourceAdversarialLoss(nn.Module):
    """:func:`multi_source_adversarial_loss` as a module."""

    def forward(self, pred: Tensor, domains: Domains, tau: float, valid: Tensor | None = None) -> Tensor:
        """Loss of the maps ``pred`` (N, 1, h, w), a scalar."""
        return multi_source_adversarial_loss(pred, domains, tau, valid)


@MODELS.register_module()
class DomainClassifierLoss(nn.Module):
    """:func:`domain_classifier_loss` as a module."""

    def forward(self, pred: Tensor, domains: Domains, tau: float, valid: Tensor | None = None) -> Tensor:
        """Loss of the maps ``pred`` (N, 1, h, w), a scalar."""
        return domain_classifier_loss(pred, domains, tau, valid)
