# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Losses of a segmentor with an outlier head: two logits of each pixel, of inlier and outlier, behind the class logits.

Labels (N, H, W) are classes, ``mgcda.labels.OUTLIER`` or ``ignore_index``. The functions keep the type of what they
get.
"""
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from .reduction import check_loss_name, known_and_outliers, masked_mean, single_or_double


def known_cross_entropy(seg_logits: Tensor, seg_label: Tensor, ignore_index: int = 255) -> Tensor:
    r"""Mean of :math:`-\ln P(y \mid x)` over the known pixels, of ``seg_logits`` (N, C, H, W); a scalar."""
    known, _ = known_and_outliers(seg_label, ignore_index)
    return masked_mean(F.cross_entropy(seg_logits, seg_label.masked_fill(~known, 0), reduction='none'), known)


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
class OutlierHeadLoss(nn.Module):
    r"""Loss of the two-head network of Bevandic et al. (GCPR 2019).

    .. math:: L = L_{cls} + w L_{od}

    of :func:`known_cross_entropy` and :func:`dataset_posterior_loss`. The default w is that of their later "Dense
    outlier detection and open-set recognition based on training with noisy negative images" (2021), without its
    auxiliary loss.

    Args:
        posterior_weight (float): w. Defaults to 0.2.
        balanced_posterior (bool): Whether inliers and outliers count alike in :math:`L_{od}`. Defaults to False.
        loss_weight (float): Factor of the loss. Defaults to 1.
        loss_name (str): Name in the logs; starts with 'loss_'. Defaults to 'loss_outlier_head'.

    Raises:
        ValueError: If a weight is negative, or ``loss_name`` starts otherwise.
    """

    def __init__(self,
                 posterior_weight: float = 0.2,
                 balanced_posterior: bool = False,
                 loss_weight: float = 1.0,
                 loss_name: str = 'loss_outlier_head') -> None:
        super().__init__()
        if not posterior_weight >= 0:
            raise ValueError(f'posterior_weight must be at least 0, got {posterior_weight}')
        self.posterior_weight = posterior_weight
        self.balanced_posterior = balanced_posterior
        self.loss_weight = loss_weight
        self.loss_name = check_loss_name(loss_name)

    def forward(self, seg_logits: Tensor, seg_label: Tensor, ignore_index: int = 255, **kwargs) -> Tensor:
        """``seg_logits``: float (N, C + 2, H, W), the last two of inlier and outlier; ``seg_label``: int64 (N, H, W).

        Returns a scalar.

        Raises:
            ValueError: If the shapes do not agree.
        """
        if seg_logits.dim() != 4 or seg_logits.size(1) < 4 or seg_logits[:, 0].shape != seg_label.shape:
            raise ValueError('seg_logits must be (N, C + 2, H, W) of the N, H and W of seg_label '
                             f'{tuple(seg_label.shape)}, got {tuple(seg_logits.shape)}: set '
                             'model.outlier_head=dict(num_logits=2)')
        seg_logits = single_or_double(seg_logits)
        class_logits, outlier_logits = seg_logits[:, :-2], seg_logits[:, -2:]
        posterior = dataset_posterior_loss(outlier_logits, seg_label, self.balanced_posterior, ignore_index)
        loss = self.class_loss(class_logits, seg_label, ignore_index) + self.posterior_weight * posterior
        return self.loss_weight * loss

    def class_loss(self, class_logits: Tensor, seg_label: Tensor, ignore_index: int) -> Tensor:
        """Loss of the class logits (N, C, H, W), a scalar."""
        return known_cross_entropy(class_logits, seg_label, ignore_index)
