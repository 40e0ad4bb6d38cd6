# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import math

import torch.nn.functional as F
from torch import Tensor


def gaussian_blur(maps: Tensor,
                  sigma: float,
                  kernel_size: int | None = None,
                  dilation: int = 1,
                  padding: str = 'reflect') -> Tensor:
    """Smooth float maps (N, H, W) by a Gaussian whose taps sum up to 1.

    The type is kept, in autocast too, and nothing is rounded to TF32, unlike in a convolution.

    Args:
        maps: (N, H, W).
        sigma: standard deviation in taps; 0 returns the maps.
        kernel_size: number of taps each way, odd; None cuts off at 3 ``sigma``, 7 taps for ``sigma=1``.
        dilation: distance of the taps in pixels.
        padding: 'reflect' or 'replicate', at the borders.

    Raises:
        ValueError: If ``sigma`` is negative, or the maps are too small to be mirrored.
    """
    if not 0 <= sigma < math.inf:
        raise ValueError(f'sigma must be a number of at least 0, got {sigma}')
    radius = round(3 * sigma) if kernel_size is None else kernel_size // 2
    reach = radius * dilation
    if padding == 'reflect' and min(maps.shape[-2:]) <= reach:
        raise ValueError(f'sigma={sigma} needs maps of more than {reach} pixels in height and width, '
                         f'got {tuple(maps.shape)}')
    if radius == 0 or sigma == 0:
        return maps
    taps = [math.exp(-0.5 * (offset / sigma)**2) for offset in range(-radius, radius + 1)]
    total = sum(taps)
    padded = F.pad(maps[None], [reach] * 4, mode=padding)[0]
    for dim in (-2, -1):
        size = maps.size(dim)
        padded = sum(tap / total * padded.narrow(dim, index * dilation, size) for index, tap in enumerate(taps))
    return padded
