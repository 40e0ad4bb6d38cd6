# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import torch
from torch import Tensor


def one_hot_labels(semantic: Tensor, num_classes: int, unknown_channel: bool = False) -> Tensor:
    """Train ids to a one-hot map, without a host-device sync.

    ``semantic``: integer (N, H, W) or (N, 1, H, W) of train ids. Every value that is no train id (255 by
    convention) is unknown: all zeros, or a channel of its own, the last, with ``unknown_channel``. Returns float32
    (N, ``num_classes`` [+ 1], H, W).

    Raises:
        TypeError: If ``semantic`` is not of an integer type.
        ValueError: If ``semantic`` has another shape.
    """
    if semantic.is_floating_point() or semantic.is_complex() or semantic.dtype == torch.bool:
        raise TypeError(f'semantic must hold integer train ids, got {semantic.dtype}')
    if semantic.dim() == 3:
        semantic = semantic.unsqueeze(1)
    if semantic.dim() != 4 or semantic.shape[1] != 1:
        raise ValueError(f'semantic must be (N, H, W) or (N, 1, H, W), got {tuple(semantic.shape)}')
    semantic = semantic.long()
    known = (semantic >= 0) & (semantic < num_classes)
    # Unknown pixels point at one channel more, which is cut off unless it is asked for.
    index = torch.where(known, semantic, num_classes)
    one_hot = semantic.new_zeros((semantic.shape[0], num_classes + 1, *semantic.shape[-2:]), dtype=torch.float32)
    one_hot.scatter_(1, index, 1.0)
    return one_hot if unknown_channel else one_hot[:, :num_classes]
