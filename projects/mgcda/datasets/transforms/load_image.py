# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmseg.registry import TRANSFORMS

from ..image_io import read_image, read_overlay


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """Load ``img_path`` into ``img``, BGR uint8 (H, W, 3); files that are cut off or damaged are refused.

    Where the sample has an ``overlay_path``, that overlay is added to the image (Fishyscapes Static).

    Takes the arguments of mmcv's LoadImageFromFile except ``ignore_empty`` and the file client's: an image that cannot
    be read is always an error.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is truncated, damaged or no image; an overlay of another size.
    """

    def __init__(self, to_float32: bool = False, color_type: str = 'color', imdecode_backend: str = 'cv2') -> None:
        super().__init__(to_float32=to_float32, color_type=color_type, imdecode_backend=imdecode_backend)

    def transform(self, results: dict) -> dict | None:
        """Add ``img``, ``img_shape`` and ``ori_shape``."""
        image = read_image(results['img_path'], self.color_type, self.imdecode_backend)
        if 'overlay_path' in results:
            image = self._add(image, read_overlay(results['overlay_path']), results)
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    @staticmethod
    def _add(image: np.ndarray, overlay: np.ndarray, results: dict) -> np.ndarray:
        """clip(image + overlay, 0, 255)."""
        if overlay.shape != image.shape:
            raise ValueError(f'overlay {results["overlay_path"]} has the shape {overlay.shape}, but its image '
                             f'{results["img_path"]} {image.shape}')
        return np.clip(image + overlay, 0, 255).astype(np.uint8)
