# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadNegativeAnnotations(BaseTransform):
    """Label an image of NegativeImageDataset: ``gt_seg_map``, uint8 (H, W), full of the sample's ``anomaly_target``.

    Where the data set has ``objects``, their pixels in the image alone are outliers, and all others its ``background``,
    255 by default. Such images must be loaded as COCO's masks lie, with
    ``LoadImage(color_type='color_ignore_orientation')``.

    Raises:
        ValueError: a sample of another data set; objects whose mask is broken or of another size than the image.
    """

    def transform(self, results: dict) -> dict:
        """Add ``gt_seg_map`` and name it in ``seg_fields``."""
        if 'anomaly_target' not in results:
            raise ValueError('LoadNegativeAnnotations needs a NegativeImageDataset; the labels of others are read by '
                             'LoadAnomalyAnnotations')
        target, objects = results.pop('anomaly_target'), results.pop('objects')
        shape = results['img'].shape[:2]
        label = np.full(shape, target if objects is None else results.pop('background'), np.uint8)
        for index in results.pop('object_indices', ()):
            mask = objects.mask(index)
            if mask.shape != shape:
                raise ValueError(f'image {results["img_path"]} is {shape[1]}x{shape[0]}, but its masks in '
                                 f'{objects.ann_file} are {mask.shape[1]}x{mask.shape[0]}; load it with '
                                 "LoadImage(color_type='color_ignore_orientation')")
            label[mask > 0] = target
        results['gt_seg_map'] = label
        results['seg_fields'].append('gt_seg_map')
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
