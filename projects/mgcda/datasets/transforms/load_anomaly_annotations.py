# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from mgcda.structures import resize_nearest

from ..image_io import read_plane
from ..pairing import HIDDEN_LABELS

# Marks label values that the data set does not know; no target has this value.
_OUTSIDE = 253


def to_target(label: np.ndarray, label_map: dict[int, int], path: str) -> np.ndarray:
    """Map the values of a label file to targets, such as 0, 1 and 255.

    Args:
        label: (H, W), integers.
        label_map: value in the file -> target.
        path: the file, for the message.

    Returns:
        Target uint8 (H, W).

    Raises:
        ValueError: a value outside ``label_map``; the message names all of them.
    """
    if label.dtype == np.uint8:
        table = np.full(256, _OUTSIDE, np.uint8)
        table[list(label_map)] = list(label_map.values())
        target = cv2.LUT(label, table)
        if not (target == _OUTSIDE).any():
            return target
    values = np.unique(label).tolist()
    wrong = sorted(set(values) - set(label_map))
    if wrong:
        raise ValueError(f'label file {path} holds the values {wrong}; this data set knows {sorted(label_map)} only')
    return to_target(label.astype(np.uint8), label_map, path)


@TRANSFORMS.register_module()
class LoadAnomalyAnnotations(BaseTransform):
    """Load ``seg_map_path`` into ``gt_seg_map``, uint8 (H, W) with 0, 1 and 255, by the sample's ``label_map``.

    Where the data set's targets are classes they are indices of these, 254 for outliers and 255.

    Args:
        keep_label_ids: also keep the values as stored, in ``label_ids``, for PasteObjects.
        resize: bring a label of another size to the image's (nearest centre) instead of refusing it.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is damaged, holds a value outside ``label_map`` or differs in size from the image; the
            labels of the sample are hidden, as those of a benchmark's test set.
    """

    def __init__(self, keep_label_ids: bool = False, resize: bool = False) -> None:
        self.keep_label_ids = keep_label_ids
        self.resize = resize

    def transform(self, results: dict) -> dict:
        """Add ``gt_seg_map`` and name it in ``seg_fields``."""
        if results.get('labels_hidden'):
            raise ValueError(f'image {results["img_path"]} of {results.get("dataset_name")} has no public label, and '
                             f'none is read: {HIDDEN_LABELS}; leave LoadAnomalyAnnotations out of its pipeline')
        path = results['seg_map_path']
        label = read_plane(path)
        target = to_target(label, results['label_map'], path)
        label = label.astype(np.uint8, copy=False)
        shape = results.get('ori_shape', target.shape)
        if target.shape != tuple(shape[:2]):
            if not self.resize:
                raise ValueError(f'label file {path} is {target.shape[1]}x{target.shape[0]}, but its image '
                                 f'{results["img_path"]} is {shape[1]}x{shape[0]}; they must be of one size')
            target, label = (resize_nearest(plane, tuple(shape[:2])) for plane in (target, label))
        results['gt_seg_map'] = target
        results['seg_fields'].append('gt_seg_map')
        if self.keep_label_ids:
            results['label_ids'] = label
            results['seg_fields'].append('label_ids')
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(keep_label_ids={self.keep_label_ids}, resize={self.resize})'
