# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Losses of outlier pixels, for segmentors that train with outliers."""
from mmseg.registry import MODELS
from torch import Tensor, nn

from mgcda.labels import OUTLIER

from .reduction import ALL_PIXELS, OWN_PIXELS, check_loss_name, check_reduction, masked_mean, single_or_double


def max_entropy_loss(seg_logits: Tensor, outlier_mask: Tensor, reduction: str = OWN_PIXELS) -> Tensor:
    r"""Cross-entropy of the uniform distribution and the predicted one, averaged over the outlier pixels.

    .. math:: L = -\frac{1}{|O|} \sum_{p \in O} \frac{1}{C} \sum_c \ln p_c

    It is ln C where all classes are equally likely, and larger elsewhere.

    ``seg_logits``: float (N, C, H, W). ``outlier_mask``: O, bool (N, H, W). ``reduction``: ``'own_pixels'``, or
    ``'all_pixels'`` to divide by N H W C instead of by the number of outliers. Returns a scalar, float32 (float64 of
    float64); 0 with a graph without outliers.
    """
    seg_logits = single_or_double(seg_logits)
    cross_entropy = seg_logits.logsumexp(1) - seg_logits.mean(1)
    if check_reduction(reduction) == ALL_PIXELS:
        return cross_entropy.masked_fill(~outlier_mask, 0).sum() / seg_logits.numel()
    return masked_mean(cross_entropy, outlier_mask)


@MODELS.register_module()
class MaxEntropyLoss(nn.Module):
    r"""Raise the entropy of the softmax on outliers, :func:`max_entropy_loss` of the pixels labelled ``OUTLIER``.

    From "Entropy Maximization and Meta Classification for Out-of-Distribution Detection in Semantic Segmentation" (Chan
    et al., ICCV 2021), whose loss is :math:`(1 - \lambda) L_{CE} + \lambda L` with :math:`\lambda = 0.9`:
    ``loss_decode=[dict(type='PixelCrossEntropyLoss', loss_weight=0.1), dict(type='MaxEntropyLoss')]``. By default both
    are averages over pixels of their own, so that outliers weigh as much where they are few. The authors' code divides
    the sums of both by the number of all pixels and classes: ``reduction='all_pixels'`` of both losses.

    Args:
        loss_weight (float): :math:`\lambda`, factor of the loss. Defaults to 0.9.
        loss_name (str): Name in the logs; starts with 'loss_'. Defaults to 'loss_max_entropy'.
        reduction (str): 'own_pixels', the mean over the outliers, or 'all_pixels', their sum over the number of pixels
            in the batch times that of classes. Defaults to 'own_pixels'.

    Raises:
        ValueError: If ``loss_name`` starts otherwise, or ``reduction`` is another.
    """

    def __init__(self,
                 loss_weight: float = 0.9,
                 loss_name: str = 'loss_max_entropy',
                 reduction: str = OWN_PIXELS) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.reduction = check_reduction(reduction)
        self.loss_name = check_loss_name(loss_name)

    def forward(self, seg_logits: Tensor, seg_label: Tensor, ignore_index: int = 255, **kwargs) -> Tensor:
        """``seg_logits``: float (N, C, H, W); ``seg_label``: int64 (N, H, W). Returns a scalar."""
        return self.loss_weight * max_entropy_loss(seg_logits, seg_label == OUTLIER, self.reduction)
