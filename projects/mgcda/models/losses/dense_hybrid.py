# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
r"""DenseHybrid (Grcic, Bevandic and Segvic, ECCV 2022): the losses of its three predictions.

The C class logits s of a pixel are logarithms of an unnormalised joint density, :math:`\hat p(y, x) = \exp s_y`, so
that :math:`\ln \hat p(x) = \ln \sum_y \exp s_y` is that of the data. Two further logits, of inlier and outlier, give
the data-set posterior :math:`P(d \mid x)`. Labels (N, H, W) are classes, ``mgcda.labels.OUTLIER`` or ``ignore_index``.
The functions keep the type of what they get.
"""
from typing import Optional

import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from .reduction import check_loss_name, known_and_outliers, masked_mean, single_or_double


def known_cross_entropy(seg_logits: Tensor, seg_label: Tensor, ignore_index: int = 255) -> Tensor:
    r"""Mean of :math:`-\ln P(y \mid x)` over the known pixels, of ``seg_logits`` (N, C, H, W); a scalar."""
    known, _ = known_and_outliers(seg_label, ignore_index)
    return masked_mean(F.cross_entropy(seg_logits, seg_label.masked_fill(~known, 0), reduction='none'), known)


def data_likelihood_loss(seg_logits: Tensor,
                         seg_label: Tensor,
                         inlier_weight: float = 0.0,
                         ignore_index: int = 255) -> Tensor:
    r"""Mean of :math:`\ln \hat p(x)` over the outliers less ``inlier_weight`` times that over the known pixels.

    ``inlier_weight=1`` is the negative log-likelihood of inliers less that of outliers, in which the normalising
    constant cancels out. Returns a scalar, unbounded.
    """
    known, outlier = known_and_outliers(seg_label, ignore_index)
    log_density = seg_logits.logsumexp(1)
    loss = masked_mean(log_density, outlier)
    return loss - inlier_weight * masked_mean(log_density, known) if inlier_weight else loss


def dataset_posterior_loss(outlier_logits: Tensor,
                           seg_label: Tensor,
                           balanced: bool = False,
                           ignore_index: int = 255) -> Tensor:
    """Cross-entropy of ``outlier_logits`` (N, 2, H, W), of inlier and outlier, over all pixels that are not ignored.

    ``balanced``: the mean over the known pixels plus that over the outliers, instead of one over both; a scalar.
    """
    known, outlier = known_and_outliers(seg_label, ignore_index)
    terms = F.cross_entropy(outlier_logits, outlier.long(), reduction='none')
    if balanced:
        return masked_mean(terms, known) + masked_mean(terms, outlier)
    return masked_mean(terms, known | outlier)


@MODELS.register_module()
class DenseHybridLoss(nn.Module):
    r"""Training loss of DenseHybrid (Grcic, Bevandic and Segvic, ECCV 2022).

    .. math:: L = L_{cls} + \beta L_x + \beta_d L_d

    of :func:`known_cross_entropy`, :func:`data_likelihood_loss` and :func:`dataset_posterior_loss`. The defaults are
    those of the authors' training code. It minimises the data likelihood of outliers only, as that of known pixels has
    no upper bound (the expectation over inliers in the paper's derivation is ``inlier_weight=1``), and averages the
    posterior over all pixels (the paper's expectations over inliers and outliers are ``balanced_posterior=True``).
    Unlike in the code, the posterior does not take ignored pixels for inliers, and the detached mean of the logits that
    the code adds to the likelihood, which has no gradient, is left out.

    Args:
        likelihood_weight (float): :math:`\beta`. Defaults to 0.03.
        inlier_weight (float): Weight of the likelihood of known pixels in :math:`L_x`. Defaults to 0.
        posterior_weight (float): :math:`\beta_d`, ten times :math:`\beta` in the code. Defaults to 0.3.
        balanced_posterior (bool): Whether inliers and outliers count alike in :math:`L_d`. Defaults to False.
        loss_weight (float): Factor of the loss. Defaults to 1.
        loss_name (str): Name in the logs; starts with 'loss_'. Defaults to 'loss_dense_hybrid'.

    Raises:
        ValueError: If a weight is negative, or ``loss_name`` starts otherwise.
    """

    def __init__(self,
                 likelihood_weight: float = 0.03,
                 inlier_weight: float = 0.0,
                 posterior_weight: float = 0.3,
                 balanced_posterior: bool = False,
                 loss_weight: float = 1.0,
                 loss_name: str = 'loss_dense_hybrid') -> None:
        super().__init__()
        weights = dict(
            likelihood_weight=likelihood_weight, inlier_weight=inlier_weight, posterior_weight=posterior_weight)
        for name, value in weights.items():
            if not value >= 0:
                raise ValueError(f'{name} must be at least 0, got {value}')
        self.likelihood_weight = likelihood_weight
        self.inlier_weight = inlier_weight
        self.posterior_weight = posterior_weight
        self.balanced_posterior = balanced_posterior
        self.loss_weight = loss_weight
        self.loss_name = check_loss_name(loss_name)

    def forward(self,
                seg_logits: Tensor,
                seg_label: Tensor,
                outlier_logits: Optional[Tensor] = None,
                ignore_index: int = 255,
                **kwargs) -> Tensor:
        """Loss of ``seg_logits``, float (N, C, H, W), and ``seg_label``, int64 (N, H, W); a scalar.

        ``outlier_logits``: float (N, 2, H, W); without them the posterior's term is left to a loss of its own.

        Raises:
            ValueError: If the shapes do not agree.
        """
        for name, logits in (('seg_logits', seg_logits), ('outlier_logits', outlier_logits)):
            if logits is not None and (logits.dim() != 4 or logits[:, 0].shape != seg_label.shape):
                raise ValueError(f'{name} must be (N, channels, H, W) of the N, H and W of seg_label '
                                 f'{tuple(seg_label.shape)}, got {tuple(logits.shape)}')
        if outlier_logits is not None and outlier_logits.size(1) != 2:
            raise ValueError('outlier_logits must have two channels, of inlier and outlier, '
                             f'got {tuple(outlier_logits.shape)}')
        seg_logits = single_or_double(seg_logits)
        loss = known_cross_entropy(seg_logits, seg_label, ignore_index)
        loss = loss + self.likelihood_weight * data_likelihood_loss(seg_logits, seg_label, self.inlier_weight,
                                                                    ignore_index)
        if outlier_logits is not None:
            outlier_logits = single_or_double(outlier_logits)
            loss = loss + self.posterior_weight * dataset_posterior_loss(outlier_logits, seg_label,
                                                                         self.balanced_posterior, ignore_index)
        return self.loss_weight * loss
