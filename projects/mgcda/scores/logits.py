# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
r"""Anomaly scores from the outputs of a segmenter.

Score functions are pure: batch first, float32 inside and out, **larger = more anomalous**. Those of class logits take
``seg_logits``, float (N, C, H, W) of any precision, unbounded, C >= 2, and return (N, H, W). With the softmax
probabilities p of a pixel, sorted in descending order as p_1, p_2, ...:

=============  =====================================  ==========
``msp``        :math:`1 - p_1`                        [0, 1)
``entropy``    :math:`-\sum_c p_c \ln p_c`, in nats   [0, ln C]
``margin``     :math:`1 - (p_1 - p_2)`                [0, 1]
``max_logit``  :math:`-\max_c z_c`                    unbounded
``energy``     :math:`-T \ln \sum_c \exp(z_c / T)`    unbounded
=============  =====================================  ==========

Of segmentors that are trained for it there are :func:`logit_margin` of binary heads, :func:`differential_entropy` and
:func:`dirichlet_mutual_information` of prior networks, :func:`pebal`, and those that read ``outlier_logits`` besides:
:func:`void_class`, :func:`outlier_posterior` and :func:`dense_hybrid`.

Of several predictions for an image (``MCDropoutAnomalySegmentor``) there are :func:`predictive_entropy`,
:func:`expected_entropy` and :func:`mutual_information`.

The first three of the table are computed from the probabilities of the classes that are not the largest one, so that
they keep ranking pixels where :math:`p_1` is 1 to rounding.
"""
import torch
import torch.nn.functional as F
from torch import Tensor

from . import dirichlet
from .blur import gaussian_blur
from .function_score import score_function


@score_function('seg_logits', range=(0, 1))
def msp(seg_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Maximum softmax probability, 1 - p_1 (Hendrycks and Gimpel, ICLR 2017), of logits over a temperature.

    Raises:
        ValueError: If ``temperature`` is not positive.
    """
    _check_temperature(temperature)
    return _other_probabilities(seg_logits if temperature == 1 else _checked(seg_logits) / temperature).sum(1)


@score_function('seg_logits', range=(0, 'ln C'))
def entropy(seg_logits: Tensor) -> Tensor:
    """Entropy of the softmax, in nats, in [0, ln C]."""
    others = _other_probabilities(seg_logits)
    rest = others.sum(1)
    # Class by class: the terms of all classes at once would be another copy of the logits.
    return sum(torch.special.entr(plane) for plane in others.unbind(1)) - (1 - rest) * torch.log1p(-rest)


@score_function('seg_logits', range=(0, 1))
def margin(seg_logits: Tensor) -> Tensor:
    """Softmax distance, one minus the gap of the two largest probabilities (SynBoost, CVPR 2021)."""
    others = _other_probabilities(seg_logits)
    return (others.sum(1) + others.amax(1)).clamp(max=1)


@score_function('seg_logits')
def max_logit(seg_logits: Tensor) -> Tensor:
    """Negative largest logit (Hendrycks et al., ICML 2022)."""
    return -_checked(seg_logits).amax(1)


@score_function('seg_logits')
def energy(seg_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Free energy (Liu et al., NeurIPS 2020).

    Raises:
        ValueError: If ``temperature`` is not positive.
    """
    _check_temperature(temperature)
    seg_logits = _checked(seg_logits)
    largest = seg_logits.amax(1)
    # Class by class: all of them at once would be another copy of the logits.
    rest = sum(torch.exp((plane - largest) / temperature) for plane in seg_logits.unbind(1))
    return -(largest + temperature * rest.log())


@score_function('seg_logits', range='log_odds')
def logit_margin(seg_logits: Tensor) -> Tensor:
    """Anomaly logit less the normal one, of the logits (N, 2, H, W) of a binary head, unbounded.

    What such a segmentor gives without a score; by this name it may stand beside others.

    Raises:
        ValueError: If there are not two logits.
    """
    if seg_logits.dim() != 4 or seg_logits.size(1) != 2:
        raise ValueError('logit_margin needs the two logits of a binary head, (N, 2, H, W), got '
                         f'{tuple(seg_logits.shape)}')
    normal, anomaly = seg_logits.float().unbind(1)
    return anomaly - normal


@score_function('seg_logits', 'outlier_logits', range='log_odds')
def void_class(seg_logits: Tensor, outlier_logits: Tensor) -> Tensor:
    """Log-odds ln(p / (1 - p)) of the class C + 1, that of outliers (Blum et al., IJCV 2021), unbounded.

    They rank pixels as its probability p does, also where that is 0 or 1 to rounding. ``outlier_logits``: float (N, 1,
    H, W).

    Raises:
        ValueError: If ``outlier_logits`` have another shape.
    """
    return _outlier_channels(outlier_logits, 1)[0] - _checked(seg_logits).logsumexp(1)


@score_function('outlier_logits', range='log_odds')
def outlier_posterior(outlier_logits: Tensor) -> Tensor:
    """Log-odds of outlier against inlier, of a head of its own (Bevandic et al., GCPR 2019), unbounded.

    ``outlier_logits``: float (N, 2, H, W), of inlier and outlier.

    Raises:
        ValueError: If ``outlier_logits`` have another shape.
    """
    inlier, outlier = _outlier_channels(outlier_logits, 2)
    return outlier - inlier


@score_function('seg_logits')
def differential_entropy(seg_logits: Tensor) -> Tensor:
    """Differential entropy of the Dirichlet distribution of concentrations exp(z_c) (Malinin and Gales, NeurIPS 2018).

    In nats, in (-inf, -ln (C - 1)!]. The logits are clamped to +-30.
    """
    return dirichlet.dirichlet_entropy(dirichlet.concentrations(_checked(seg_logits)))


@score_function('seg_logits')
def dirichlet_mutual_information(seg_logits: Tensor) -> Tensor:
    """Mutual information of class and class probabilities under that distribution (Malinin and Gales, NeurIPS 2018).

    In nats, in [0, ln C]. The logits are clamped to +-30.
    """
    return dirichlet.dirichlet_mutual_information(dirichlet.concentrations(_checked(seg_logits)))


@score_function('seg_logits')
def pebal(seg_logits: Tensor, sigma: float = 1.0) -> Tensor:
    """Free energy of the classes, without abstention (PEBAL, ECCV 2022), unbounded.

    Smoothed by a Gaussian of ``sigma`` pixels, as by the authors' code; 0 for none.

    Raises:
        ValueError: If ``sigma`` is negative, or the maps are too small for it.
    """
    return gaussian_blur(energy(seg_logits), sigma)


@score_function('seg_logits', 'outlier_logits')
def dense_hybrid(seg_logits: Tensor, outlier_logits: Tensor) -> Tensor:
    r"""Hybrid score :math:`\ln P(d_{out} \mid x) - \ln \hat p(x)` (DenseHybrid, ECCV 2022), unbounded.

    The data-set posterior is the softmax of ``outlier_logits``, float (N, 2, H, W), of inlier and outlier; the
    logarithm of the unnormalised density is the log-sum-exp of ``seg_logits``.

    Raises:
        ValueError: If ``outlier_logits`` have another shape.
    """
    return energy(seg_logits) + F.logsigmoid(outlier_posterior(outlier_logits))


@score_function('mean_probabilities', range=(0, 'ln C'))
def predictive_entropy(mean_probabilities: Tensor) -> Tensor:
    """Entropy of the mean of several predicted distributions, in nats (Mukhoti and Gal, 2018).

    ``mean_probabilities``: (N, C, H, W), those of ``MCDropoutAnomalySegmentor``.
    """
    return torch.special.entr(mean_probabilities.float()).sum(1)


@score_function('mean_entropy', range=(0, 'ln C'))
def expected_entropy(mean_entropy: Tensor) -> Tensor:
    """Mean of the entropies of several predicted distributions, (N, H, W), in nats: what is ambiguous in the data."""
    return mean_entropy.float()


@score_function('mean_probabilities', 'mean_entropy')
def mutual_information(mean_probabilities: Tensor, mean_entropy: Tensor) -> Tensor:
    """Predictive less expected entropy, in nats, in [0, ln C]: what the model does not know (Mukhoti and Gal, 2018)."""
    return (predictive_entropy(mean_probabilities) - mean_entropy.float()).clamp(min=0)


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f'temperature must be positive, got {temperature}')


def _checked(seg_logits: Tensor) -> Tensor:
    """Class logits (N, C, H, W) in float32."""
    if seg_logits.dim() != 4 or seg_logits.size(1) < 2:
        raise ValueError('seg_logits must be (N, C, H, W) with at least two classes, '
                         f'got {tuple(seg_logits.shape)}')
    return seg_logits.float()


def _outlier_channels(outlier_logits: Tensor, number: int) -> tuple[Tensor, ...]:
    """Planes (N, H, W), float32, of the logits of outliers, of which there must be a number."""
    if outlier_logits.dim() != 4 or outlier_logits.size(1) != number:
        raise ValueError(f'outlier_logits must be (N, {number}, H, W), got {tuple(outlier_logits.shape)}')
    return outlier_logits.float().unbind(1)


def _other_probabilities(seg_logits: Tensor) -> Tensor:
    """Softmax (N, C, H, W) with the largest probability of each pixel set to zero."""
    probabilities = _checked(seg_logits).softmax(1)
    largest = probabilities.max(1, keepdim=True).indices  # much faster than argmax on a CPU
    if probabilities.requires_grad:
        return probabilities.scatter(1, largest, 0)
    return probabilities.scatter_(1, largest, 0)
