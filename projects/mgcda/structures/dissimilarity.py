# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""What a sample of a dissimilarity network holds: an image, the maps of frozen networks, and their ten channels.

========== ================ ==============================================================
channels   as packed, uint8 as the network reads them, float32
========== ================ ==============================================================
0-2        image, BGR       RGB, ``(x - mean) / std``
3-5        synthesis, BGR   the same
6          train ids        as they are, 255 = unknown
7-9        maps, 0..255     entropy, perceptual difference and distance in [0, 1]
========== ================ ==============================================================

Samples without maps have channels 0-2 only.
"""
from collections.abc import Sequence

import torch
from torch import Tensor

#: Kinds of maps in the order of their channels, after the image.
MAP_KINDS: tuple[str, ...] = ('synthesis', 'semantic', 'entropy', 'perceptual', 'distance')
#: Kinds that every dissimilarity network reads, and those that some do without.
REQUIRED_KINDS, UNCERTAINTY_KINDS = MAP_KINDS[:2], MAP_KINDS[2:]
#: Kinds that one network makes, at its size: the generator, the segmenter.
KINDS_OF_ONE_SIZE = (('synthesis', 'perceptual'), ('semantic', 'entropy', 'distance'))

IMAGE, SYNTHESIS, SEMANTIC, UNCERTAINTY = slice(0, 3), slice(3, 6), slice(6, 7), slice(7, 10)
NUM_CHANNELS = UNCERTAINTY.stop
#: What uncertainty maps, and all maps, are multiplied by to fill 0..255.
UNCERTAINTY_SCALE = 255
MAP_SCALES = {kind: UNCERTAINTY_SCALE if kind in UNCERTAINTY_KINDS else 1 for kind in MAP_KINDS}

#: Mean and standard deviation of ImageNet's R, G and B in 0..255.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


def check_kinds(name: str, kinds: Sequence[str]) -> tuple[str, ...]:
    """The kinds in the order of their channels.

    Raises:
        ValueError: An unknown kind, or one that every network reads is missing; the message starts with ``name``.
    """
    if not set(REQUIRED_KINDS) <= set(kinds) <= set(MAP_KINDS):
        raise ValueError(f'{name} must hold {REQUIRED_KINDS} and may hold {UNCERTAINTY_KINDS}, got {tuple(kinds)}')
    return tuple(kind for kind in MAP_KINDS if kind in kinds)


def split_channels(inputs: Tensor, num_classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Split the network's input (N, 10, H, W) by content.

    Returns:
        tuple: image (N, 3, H, W), synthesis (N, 3, H, W), one-hot semantic map (N, num_classes, H, W), all zeros where
        the class is unknown, and uncertainty maps (N, 3, H, W).
    """
    one_hot = one_hot_labels(inputs[:, SEMANTIC].long(), num_classes).to(inputs.dtype)
    return inputs[:, IMAGE], inputs[:, SYNTHESIS], one_hot, inputs[:, UNCERTAINTY]


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
