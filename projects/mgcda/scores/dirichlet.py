# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
r"""Dirichlet distributions over class probabilities, which prior networks predict (Malinin and Gales, NeurIPS 2018).

``alphas``: concentrations, positive float (N, C, H, W); what is computed of them is (N, H, W), in their precision. With
:math:`\alpha_0 = \sum_c \alpha_c`. The differences of large terms in the usual formulas are worked out, so that float32
serves from concentrations of 1e-13 to 1e13, where those of :class:`torch.distributions.Dirichlet` lose all digits.
"""
import math

import torch
from torch import Tensor

#: Logits are clamped to +-MAX_LOGIT: the functions of their exponentials, and the gradients, stay finite in float32.
MAX_LOGIT = 30.0
#: From here on asymptotic series are exact to float32.
_LARGE = 10.0


def concentrations(seg_logits: Tensor) -> Tensor:
    r"""Concentrations :math:`\alpha_c = \exp(z_c)` of logits (N, C, H, W), clamped to +-30."""
    return seg_logits.clamp(-MAX_LOGIT, MAX_LOGIT).exp()


def dirichlet_entropy(alphas: Tensor) -> Tensor:
    r"""Differential entropy, in nats, in (-inf, -ln (C - 1)!]: largest where all concentrations are 1.

    .. math:: \ln B(\alpha) + (\alpha_0 - C)\,\psi(\alpha_0) - \sum_c (\alpha_c - 1)\,\psi(\alpha_c)

    computed as :math:`\sum_c h(\alpha_c) - h(\alpha_0) - (C - 1)\,\psi(\alpha_0)` with the entropy h of a gamma
    distribution.
    """
    total = alphas.sum(1)
    # Class by class: the terms of all classes at once would be further copies of the map.
    of_classes = sum(_gamma_entropy(plane) for plane in alphas.unbind(1))
    return of_classes - _gamma_entropy(total) - (alphas.size(1) - 1) * total.digamma()


def dirichlet_mutual_information(alphas: Tensor) -> Tensor:
    r"""Mutual information of the class and the class probabilities, in nats, in [0, ln C].

    .. math:: -\sum_c \frac{\alpha_c}{\alpha_0} \left(\ln \frac{\alpha_c}{\alpha_0} - \psi(\alpha_c + 1)
        + \psi(\alpha_0 + 1)\right)

    computed as :math:`\sum_c \frac{\alpha_c}{\alpha_0} (d(\alpha_c) - d(\alpha_0))` with :math:`d(x) = \psi(x + 1) -
    \ln x`.
    """
    total = alphas.sum(1)
    of_total = _digamma_excess(total)
    information = sum(plane / total * (_digamma_excess(plane) - of_total) for plane in alphas.unbind(1))
    return information.clamp(min=0)  # rounding


def dirichlet_kl_divergence(alphas: Tensor, betas: Tensor) -> Tensor:
    r"""Kullback-Leibler divergence KL(Dir(:math:`\alpha`) || Dir(:math:`\beta`)), in nats.

    .. math:: \ln B(\beta) - H(\alpha) - \sum_c (\beta_c - 1) (\psi(\alpha_c) - \psi(\alpha_0))

    with the entropy H of :func:`dirichlet_entropy`. ``betas``: of the shape of ``alphas``. In float32 digits are
    lost where both are far below 1.
    """
    log_beta_function = betas.lgamma().sum(1) - betas.sum(1).lgamma()
    expected_log = alphas.digamma() - alphas.sum(1, keepdim=True).digamma()
    return log_beta_function - dirichlet_entropy(alphas) - ((betas - 1) * expected_log).sum(1)


def _gamma_entropy(shape: Tensor) -> Tensor:
    """Entropy of a gamma distribution of scale 1."""
    is_large = shape > _LARGE
    small, large = shape.masked_fill(is_large, 1), shape.masked_fill(~is_large, _LARGE)
    inverse = 1 / large
    remainder = inverse * (1 / 3 + inverse * (1 / 12 + inverse * (1 / 90 - inverse / 120)))
    series = 0.5 * (math.log(2 * math.pi * math.e) + large.log()) - remainder
    return torch.where(is_large, series, small + small.lgamma() + (1 - small) * small.digamma())


def _digamma_excess(values: Tensor) -> Tensor:
    """digamma(x + 1) - ln x."""
    is_large = values > _LARGE
    small, large = values.masked_fill(is_large, 1), values.masked_fill(~is_large, _LARGE)
    inverse = 1 / large
    series = inverse * (1 / 2 - inverse * (1 / 12 - inverse.square() / 120))
    return torch.where(is_large, series, (small + 1).digamma() - small.log())
