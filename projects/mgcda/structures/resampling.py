# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
r"""How image, labels and maps are brought to another size: the one rule for files and for maps made online.

Pixel centres are aligned everywhere: pixel :math:`i` of :math:`n` lies at :math:`(i + 0.5) / n` of the side. With
``resampling='smooth'``, the default,

- labels and the semantic map take the source pixel whose centre is nearest, :math:`\lfloor (i + 0.5) m / n \rfloor` of
  :math:`m`, the right or lower one of two as near: at most half a source pixel off;
- synthesis and uncertainty maps are interpolated bilinearly, and antialiased where they shrink (the triangle filter of
  Pillow's ``BILINEAR``), as thin ridges of entropy would otherwise be hit or missed;
- the image is interpolated bilinearly between four pixels, as OpenCV and the stock ``Resize`` do.

``resampling='nearest'`` takes the nearest centre for all of them, as SynBoost's public code does (Pillow's
``NEAREST``); the synthesis then stays as the generator made it where that is the size to bring it to.
"""

from typing import TypeVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .dissimilarity import UNCERTAINTY_KINDS

RESAMPLINGS = ('smooth', 'nearest')
#: Maps that are interpolated; all fields but these and the image hold classes.
_SMOOTH_MAPS = ('synthesis', *UNCERTAINTY_KINDS)
_Array = TypeVar('_Array', np.ndarray, Tensor)


def check_resampling(resampling: str) -> str:
    """Return a known rule.

    Raises:
        ValueError: If it is none of ``RESAMPLINGS``.
    """
    if resampling not in RESAMPLINGS:
        raise ValueError(f'resampling must be one of {RESAMPLINGS}, got {resampling!r}')
    return resampling


def resize_field(field: str, x: _Array, size: tuple[int, int], resampling: str = 'smooth') -> _Array:
    """Bring a field of a sample to another size.

    Args:
        field: 'img', a kind of map, or the name of a label.
        x: Array (H, W) or (H, W, C), or tensor (N, C, H, W), floating point where it is interpolated. Arrays of
            interpolated maps are uint8 and are rounded.
        size: (H, W).
        resampling: One of ``RESAMPLINGS``.

    Returns:
        The same type and dtype; ``x`` itself where it has that size.
    """
    if _size_of(x) == tuple(size):
        return x
    if check_resampling(resampling) == 'nearest' or field not in ('img', *_SMOOTH_MAPS):
        return resize_nearest(x, size)
    if field == 'img':
        if isinstance(x, Tensor):
            return F.interpolate(x, size=tuple(size), mode='bilinear', align_corners=False)
        return cv2.resize(x, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    if isinstance(x, Tensor):
        return resize_images(x, size)
    planes = torch.from_numpy(np.ascontiguousarray(x[..., None] if x.ndim == 2 else x)).permute(2, 0, 1)[None]
    resized = resize_images(planes.float(), size).round_().to(torch.uint8)[0].permute(1, 2, 0).numpy()
    return resized[..., 0] if x.ndim == 2 else np.ascontiguousarray(resized)


def resize_nearest(x: _Array, size: tuple[int, int]) -> _Array:
    """Take the source pixels whose centres are nearest; arrays (H, W[, C]) and tensors (..., H, W)."""
    if isinstance(x, Tensor):
        for dim, target in ((-2, size[0]), (-1, size[1])):
            if x.shape[dim] != target:
                x = x.index_select(dim, _nearest(torch.arange(target, device=x.device), x.shape[dim]))
        return x
    for axis, target in ((0, size[0]), (1, size[1])):
        if x.shape[axis] != target:
            x = x.take(_nearest(np.arange(target), x.shape[axis]), axis)
    return x


def resize_images(x: Tensor, size: tuple[int, int], interpolation: str = 'bilinear') -> Tensor:
    """Interpolate as Pillow does, antialiased where it makes smaller.

    Args:
        x: Float (N, C, H, W), for 'bicubic' in 0..255.
        size: (H, W).
        interpolation: 'bilinear', or 'bicubic' (a = -0.5), which Pillow runs along rows, then along columns, with what
            leaves 0..255 cut off after each.
    """
    if _size_of(x) == tuple(size):
        return x
    if interpolation != 'bicubic':
        return F.interpolate(x, size=tuple(size), mode=interpolation, align_corners=False, antialias=True)
    for step in ((x.shape[-2], size[1]), tuple(size)):
        x = F.interpolate(x, size=step, mode='bicubic', align_corners=False, antialias=True).clamp(0, 255)
    return x


def _nearest(index: _Array, source: int) -> _Array:
    """floor((i + 0.5) * source / target), in whole numbers."""
    return (2 * index + 1) * source // (2 * len(index))


def _size_of(x: _Array) -> tuple[int, int]:
    height, width = x.shape[-2:] if isinstance(x, Tensor) else x.shape[:2]
    return height, width
