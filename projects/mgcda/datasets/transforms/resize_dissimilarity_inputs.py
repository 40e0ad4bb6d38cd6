# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.

from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from mgcda.structures import check_resampling, resize_field


@TRANSFORMS.register_module()
class ResizeDissimilarityInputs(BaseTransform):
    """Bring image, labels and maps, each of whatever size it has, to one size in one step.

    The rule is that of :mod:`mgcda.structures.resampling`, which the segmentor follows for maps that it makes online.
    The stock ``Resize`` takes OpenCV's nearest neighbour for labels and maps, whose corners are aligned: up to half a
    target pixel beside the image.

    Args:
        scale: (W, H), as of the stock ``Resize`` without ``keep_ratio``; None: the size of the image.
        resampling: 'smooth', or 'nearest', SynBoost's rule.

    Raises:
        ValueError: ``resampling`` is unknown, ``scale`` is no pair of positive integers.
    """

    def __init__(self, scale: tuple[int, int] | None = None, resampling: str = 'smooth') -> None:
        if scale is not None and not (isinstance(scale, (list, tuple)) and len(scale) == 2
                                      and all(isinstance(side, int) and side > 0 for side in scale)):
            raise ValueError(f'scale must be (W, H), two positive integers, or None, got {scale!r}')
        self.scale = None if scale is None else tuple(scale)
        self.resampling = check_resampling(resampling)

    def transform(self, results: dict) -> dict:
        """Resize ``img`` and all ``seg_fields``; note ``img_shape``, ``scale`` and ``scale_factor`` (W, H)."""
        height, width = results['img'].shape[:2]
        size = (height, width) if self.scale is None else self.scale[::-1]
        for field in ('img', *results.get('seg_fields', ())):
            results[field] = resize_field(field, results[field], size, self.resampling)
        results.update(
            img_shape=size, scale=size[::-1], scale_factor=(size[1] / width, size[0] / height), keep_ratio=False)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(scale={self.scale}, resampling={self.resampling!r})'
