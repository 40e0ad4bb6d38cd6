# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Losses of outlier pixels, for segmentors that train with outliers."""
from mmseg.registry import MODELS
from torch import Tensor, nn

from mgcda.labels import OUTLIER
from .reduction import check_loss_name, masked_mean, single_or_double


def max_entropy_loss(seg_logits: Tensor, outlier_mask: Tensor) -> Tensor:
    r"""Cross-entropy of the uniform distribution and the predicted one, averaged over the outlier pixels.

    .. math:: L = -\frac{1}{|O|} \sum_{p \in O} \frac{1}{C} \sum_c \ln p_c

    It is ln C where all classes are equally likely, and larger elsewhere.

    ``seg_logits``: float (N, C, H, W). ``outlier_mask``: O, bool (N, H, W). Returns a scalar, float32 (float64 of
    float64); 0 with a graph without outliers.
    """
    seg_logits = single_or_double(seg_logits)
    return masked_mean(seg_logits.logsumexp(1) - seg_logits.mean(1), outlier_mask)


@MODELS.register_module()
class MaxEntropyLoss(nn.Module):
    r"""Raise the entropy of the softmax on outliers, :func:`max_entropy_loss` of the pixels labelled ``OUTLIER``.

    From "Entropy Maximization and Meta Classification for Out-of-Distribution Detection in Semantic Segmentation" (Chan
    et al., ICCV 2021), whose loss is :math:`(1 - \lambda) L_{CE} + \lambda L` with :math:`\lambda = 0.9`:
    ``loss_decode=[dict(type='PixelCrossEntropyLoss', loss_weight=0.1), dict(type='MaxEntropyLoss')]``. Both are
    averages over pixels of their own; the authors' code divides the sums of both by the number of all pixels instead.

    Args:
        loss_weight (float): :math:`\lambda`, factor of the loss. Defaults to 0.9.
        loss_name (str): Name in the logs; starts with 'loss_'. Defaults to 'loss_max_entropy'.

    Raises:
        ValueError: If ``loss_name`` starts otherwise.
    """

    def __init__(self, loss_weight: float = 0.9, loss_name: str = 'loss_max_entropy') -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.loss_name = check_loss_name(loss_name)

    def forward(self, seg_logits: Tensor, seg_label: Tensor, ignore_index: int = 255, **kwargs) -> Tensor:
        """``seg_logits``: float (N, C, H, W); ``seg_label``: int64 (N, H, W). Returns a scalar."""
        return self.loss_weight * max_entropy_loss(seg_logits, seg_label == OUTLIER)
