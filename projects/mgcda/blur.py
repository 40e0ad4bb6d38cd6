# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import math

import torch.nn.functional as F
from torch import Tensor


def gaussian_blur(maps: Tensor, sigma: float) -> Tensor:
    """Smooth float maps (N, H, W) by a Gaussian of ``sigma`` pixels, cut off at 3 ``sigma``, mirrored at borders.

    ``sigma=1`` has 7 x 7 taps. The type is kept, in autocast too, and nothing is rounded to TF32, unlike in a
    convolution. A ``sigma`` of 0 returns the maps.

    Raises:
        ValueError: If ``sigma`` is negative, or the maps are too small to be mirrored.
    """
    if not 0 <= sigma < math.inf:
        raise ValueError(f'sigma must be a number of at least 0, got {sigma}')
    radius = round(3 * sigma)
    if min(maps.shape[-2:]) <= radius:
        raise ValueError(f'sigma={sigma} needs maps of more than {radius} pixels in height and width, '
                         f'got {tuple(maps.shape)}')
    if radius == 0:
        return maps
    taps = [math.exp(-0.5 * (offset / sigma)**2) for offset in range(-radius, radius + 1)]
    total = sum(taps)
    padded = F.pad(maps[None], [radius] * 4, mode='reflect')[0]
    for dim in (-2, -1):
        size = maps.size(dim)
        padded = sum(tap / total * padded.narrow(dim, start, size) for start, tap in enumerate(taps))
    return padded
