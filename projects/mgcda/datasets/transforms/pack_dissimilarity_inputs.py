# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData
from mmseg.registry import TRANSFORMS
from mmseg.structures import SegDataSample

from mgcda.structures import MAP_KINDS


@TRANSFORMS.register_module()
class PackDissimilarityInputs(BaseTransform):
    """Pack image and maps into one tensor.

    ``inputs``: uint8 (10, H, W): image BGR 0-2, synthesis BGR 3-5, semantic 6, entropy 7, perceptual 8, distance 9;
    without maps (3, H, W), the image alone. ``data_samples``: SegDataSample with ``gt_sem_seg`` int64 (1, H, W) where
    there is a label, and as metainfo those of ``meta_keys`` that exist.

    Raises:
        ValueError: some maps but not all, or a map of another size than the image.
    """

    def __init__(
        self,
        meta_keys: Sequence[str] = ('img_path', 'seg_map_path', 'ori_shape', 'img_shape', 'pad_shape', 'scale_factor',
                                    'flip', 'flip_direction', 'reduce_zero_label', 'domain', 'dataset_name',
                                    'labels_hidden', 'label_classes')
    ) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        """Replace the results by ``dict(inputs, data_samples)``."""
        sample = SegDataSample()
        if 'gt_seg_map' in results:
            label = torch.from_numpy(np.ascontiguousarray(results['gt_seg_map'])).long()
            sample.gt_sem_seg = PixelData(data=label[None])
        sample.set_metainfo({key: results[key] for key in self.meta_keys if key in results})
        return dict(inputs=self._stack(results), data_samples=sample)

    @staticmethod
    def _stack(results: dict) -> torch.Tensor:
        """Image and maps as uint8 (10, H, W) or (3, H, W)."""
        image = results['img']
        present = [kind for kind in MAP_KINDS if kind in results]
        if present and len(present) != len(MAP_KINDS):
            missing = [kind for kind in MAP_KINDS if kind not in present]
            raise ValueError(f'image {results.get("img_path")} has the maps {present} but not {missing}')
        planes = [image] + [results[kind] for kind in present]
        for kind, plane in zip(present, planes[1:]):
            if plane.shape[:2] != image.shape[:2]:
                raise ValueError(f'{kind} map of image {results.get("img_path")} has the shape {plane.shape[:2]}, the '
                                 f'image {image.shape[:2]}; bring them to one size with ResizeDissimilarityInputs')
        channels = sum(plane.shape[2] if plane.ndim == 3 else 1 for plane in planes)
        stacked = np.empty((channels, *image.shape[:2]), image.dtype)
        start = 0
        for plane in planes:
            plane = plane[..., None] if plane.ndim == 2 else plane
            stacked[start:start + plane.shape[2]] = plane.transpose(2, 0, 1)
            start += plane.shape[2]
        return torch.from_numpy(stacked)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(meta_keys={self.meta_keys})'
