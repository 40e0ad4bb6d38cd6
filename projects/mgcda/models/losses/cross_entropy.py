# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from typing import Optional, Sequence

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class PixelCrossEntropyLoss(nn.Module):
    r"""Cross-entropy, averaged over the valid pixels of a batch.

    .. math:: L = \frac{\sum_p w_{y_p} \left(-\log p_{y_p}\right)}{\max(\sum_p w_{y_p}, \epsilon)}

    over the pixels :math:`p` with :math:`y_p \ne` ``ignore_index``, with the class weights :math:`w` (1 without). A
    batch that is ignored altogether gives 0, with a graph. Unlike :class:`mmseg.models.CrossEntropyLoss` it never
    waits for the device.

    Args:
        class_weight (Sequence[float], optional): A weight a class; SynBoost trains with (1.548, 8.039).
        loss_weight (float): Factor of the loss. Defaults to 1.
        loss_name (str): Name in the logs; starts with 'loss_'. Defaults to 'loss_ce'.
    """

    def __init__(self,
                 class_weight: Optional[Sequence[float]] = None,
                 loss_weight: float = 1.0,
                 loss_name: str = 'loss_ce') -> None:
        super().__init__()
        if not loss_name.startswith('loss_'):
            raise ValueError(f"loss_name must start with 'loss_', got {loss_name!r}")
        weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        self.register_buffer('class_weight', weight, persistent=False)
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(self, seg_logits: Tensor, seg_label: Tensor, ignore_index: int = 255, **kwargs) -> Tensor:
        """``seg_logits``: float (N, C, H, W); ``seg_label``: int64 (N, H, W). Returns a scalar."""
        seg_logits = seg_logits.float()
        total = F.cross_entropy(
            seg_logits, seg_label, weight=self.class_weight, ignore_index=ignore_index, reduction='sum')
        valid = seg_label != ignore_index
        if self.class_weight is None:
            count = valid.sum().clamp(min=1)
        else:
            weights = self.class_weight[seg_label.where(valid, torch.zeros_like(seg_label))]
            count = (weights * valid).sum().clamp(min=torch.finfo(torch.float32).eps)
        return self.loss_weight * total / count
