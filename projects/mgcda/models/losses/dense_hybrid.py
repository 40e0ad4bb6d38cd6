# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
r"""DenseHybrid (Grcic, Bevandic and Segvic, ECCV 2022): the losses of its three predictions.

The C class logits s of a pixel are logarithms of an unnormalised joint density, :math:`\hat p(y, x) = \exp s_y`, so
that :math:`\ln \hat p(x) = \ln \sum_y \exp s_y` is that of the data. Two further logits, of inlier and outlier, give
the data-set posterior :math:`P(d \mid x)`: those of an outlier head.
"""
from mmseg.registry import MODELS
from torch import Tensor

from .outlier_head import OutlierHeadLoss
from .reduction import known_and_outliers, masked_mean


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


@MODELS.register_module()
class DenseHybridLoss(OutlierHeadLoss):
    r"""Training loss of DenseHybrid (Grcic, Bevandic and Segvic, ECCV 2022).

    .. math:: L = L_{cls} + \beta L_x + \beta_d L_d

    of :func:`known_cross_entropy`, :func:`data_likelihood_loss` and :func:`dataset_posterior_loss`; ``seg_logits`` are
    (N, C + 2, H, W), the last two of inlier and outlier. The defaults are those of the authors' training code. It
    minimises the data likelihood of outliers only, as that of known pixels has no upper bound (the expectation over
    inliers in the paper's derivation is ``inlier_weight=1``), and averages the posterior over all pixels (the paper's
    expectations over inliers and outliers are ``balanced_posterior=True``). Unlike in the code, the posterior does not
    take ignored pixels for inliers, and the detached mean of the logits that the code adds to the likelihood, which has
    no gradient, is left out.

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
        super().__init__(posterior_weight, balanced_posterior, loss_weight, loss_name)
        for name, value in (('likelihood_weight', likelihood_weight), ('inlier_weight', inlier_weight)):
            if not value >= 0:
                raise ValueError(f'{name} must be at least 0, got {value}')
        self.likelihood_weight = likelihood_weight
        self.inlier_weight = inlier_weight

    def class_loss(self, class_logits: Tensor, seg_label: Tensor, ignore_index: int) -> Tensor:
        """Cross-entropy and data likelihood of the class logits (N, C, H, W), a scalar."""
        likelihood = data_likelihood_loss(class_logits, seg_label, self.inlier_weight, ignore_index)
        return super().class_loss(class_logits, seg_label, ignore_index) + self.likelihood_weight * likelihood
