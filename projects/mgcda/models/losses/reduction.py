# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""What losses share: their names, sets of pixels, and means over them."""

import torch
from torch import Tensor

from mgcda.labels import OUTLIER

#: What the sum of a loss over pixels is divided by: the pixels that it sums up, or, as in meta-OoD's public code, which
#: takes the mean over the whole tensor of its targets, all pixels of the batch times the number of channels.
OWN_PIXELS, ALL_PIXELS = 'own_pixels', 'all_pixels'


def check_loss_name(loss_name: str) -> str:
    """The name of a loss in the logs; ValueError where it does not start with 'loss_', which MMEngine sums up."""
    if not loss_name.startswith('loss_'):
        raise ValueError(f"loss_name must start with 'loss_', got {loss_name!r}")
    return loss_name


def check_reduction(reduction: str) -> str:
    """The reduction; ValueError where it is none."""
    if reduction not in (OWN_PIXELS, ALL_PIXELS):
        raise ValueError(f'reduction must be {OWN_PIXELS!r} or {ALL_PIXELS!r}, got {reduction!r}')
    return reduction


def single_or_double(logits: Tensor) -> Tensor:
    """float64 as it is, any other type as float32: no loss is computed in half precision."""
    return logits if logits.dtype == torch.float64 else logits.float()


def known_and_outliers(seg_label: Tensor, ignore_index: int = 255) -> tuple[Tensor, Tensor]:
    """Masks (N, H, W) of the pixels of known classes and of outliers (``mgcda.labels.OUTLIER``)."""
    outlier = seg_label == OUTLIER
    return (seg_label != ignore_index) & ~outlier, outlier


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the ``values`` where ``mask`` is true, 0 with a graph where it never is. Does not wait for the device."""
    return values.masked_fill(~mask, 0).sum() / mask.sum().clamp(min=1)
