# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from mgcda.labels import IGNORE, OUTLIER

from .reduction import ALL_PIXELS, OWN_PIXELS, check_loss_name, check_reduction, single_or_double

OUTLIER_LABELS = ('ignore', 'last_class')


@MODELS.register_module()
class PixelCrossEntropyLoss(nn.Module):
    r"""Cross-entropy, averaged over the valid pixels of a batch.

    .. math:: L = \frac{\sum_p w_{y_p} \left(-\log p_{y_p}\right)}{\max(\sum_p w_{y_p}, \epsilon)}

    over the pixels :math:`p` with :math:`y_p \ne` ``ignore_index``, with the class weights :math:`w` (1 without). A
    batch that is ignored altogether gives 0, with a graph. With weights this is PyTorch's weighted mean, SynBoost's;
    that of MMSegmentation divides by the number of pixels. Unlike :class:`mmseg.models.CrossEntropyLoss` it never waits
    for the device.

    Outliers, label ``mgcda.labels.OUTLIER``, are ignored, too, or are a class of their own: that of a head with C + 1
    channels, the void class (Blum et al., IJCV 2021), which the score ``void_class`` reads.

    Args:
        class_weight (Sequence[float], optional): A weight a class; SynBoost trains with
            (1.54843156, 8.03912212). None weighs all the same, unless ``ClassWeightHook`` sets weights from the
            training data.
        loss_weight (float): Factor of the loss. Defaults to 1.
        loss_name (str): Name in the logs; starts with 'loss_'. Defaults to 'loss_ce'.
        outliers (str): What outliers are: 'ignore', or 'last_class' for the last channel of the logits.
        reduction (str): 'own_pixels', the mean above, or 'all_pixels', the sum over the number of all pixels in the
            batch times that of channels, as :class:`MaxEntropyLoss` has it. Defaults to 'own_pixels'.

    Raises:
        ValueError: If ``loss_name``, ``outliers`` or ``reduction`` is another.
    """

    def __init__(self,
                 class_weight: Sequence[float] | None = None,
                 loss_weight: float = 1.0,
                 loss_name: str = 'loss_ce',
                 outliers: str = 'ignore',
                 reduction: str = OWN_PIXELS) -> None:
        super().__init__()
        if outliers not in OUTLIER_LABELS:
            raise ValueError(f'outliers must be one of {OUTLIER_LABELS}, got {outliers!r}')
        weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        self.register_buffer('class_weight', weight, persistent=False)
        #: Weights (256,) of the labels by :meth:`set_pixel_counts`. No buffer: a moving average of the model, which is
        #: made before they are known, has as many buffers as the model.
        self.label_weight: Tensor | None = None
        self.loss_weight = loss_weight
        self.loss_name = check_loss_name(loss_name)
        self.outliers = outliers
        self.reduction = check_reduction(reduction)

    @torch.no_grad()
    def set_pixel_counts(self, counts: Tensor) -> None:
        r"""Weigh class c by :math:`1 / \ln(1.02 + s_c)`, with its share :math:`s_c` of the pixels that count.

        ``counts``: float (256,), numbers of pixels of each label; those that the loss ignores do not count.
        """
        counted = torch.ones_like(counts, dtype=torch.bool)
        counted[IGNORE] = False
        counted[OUTLIER] = self.outliers != 'ignore'
        counts = counts.double() * counted
        self.label_weight = (counted / (1.02 + counts / counts.sum()).log()).float()

    def _weights(self, num_channels: int) -> Tensor | None:
        """Weights (num_channels,) of the channels of the logits."""
        if self.label_weight is None:
            return self.class_weight
        if self.outliers == 'ignore':
            return self.label_weight[:num_channels]
        return torch.cat([self.label_weight[:num_channels - 1], self.label_weight[OUTLIER:OUTLIER + 1]])

    def forward(self, seg_logits: Tensor, seg_label: Tensor, ignore_index: int = 255, **kwargs) -> Tensor:
        """``seg_logits``: float (N, C, H, W); ``seg_label``: int64 (N, H, W). Returns a scalar."""
        seg_logits = single_or_double(seg_logits)
        outlier_label = ignore_index if self.outliers == 'ignore' else seg_logits.size(1) - 1
        seg_label = seg_label.masked_fill(seg_label == OUTLIER, outlier_label)
        class_weight = self._weights(seg_logits.size(1))
        if class_weight is not None:
            class_weight = class_weight.to(seg_logits)
        total = F.cross_entropy(seg_logits, seg_label, weight=class_weight, ignore_index=ignore_index, reduction='sum')
        if self.reduction == ALL_PIXELS:
            return self.loss_weight * total / seg_logits.numel()
        valid = seg_label != ignore_index
        if class_weight is None:
            count = valid.sum().clamp(min=1)
        else:
            weights = class_weight[seg_label.where(valid, torch.zeros_like(seg_label))]
            count = (weights * valid).sum().clamp(min=torch.finfo(torch.float32).eps)
        return self.loss_weight * total / count
