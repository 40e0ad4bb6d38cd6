# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import json
import os

from mmseg.registry import DATASETS

from mgcda.labels import ANOMALY, NORMAL

from .anomaly_dataset import IMAGE_SUFFIXES, AnomalyDataset
from .pairing import find_layout

_LAYOUTS = {
    'official': dict(
        data_prefix=dict(img_path='frames', seg_map_path='frames'),
        seg_map_suffix='.labels/labels_semantic.png',
        label_map={
            0: NORMAL,
            2: ANOMALY
        }),
    'original': dict(
        data_prefix=dict(img_path='original', seg_map_path='labels'),
        seg_map_suffix='.png',
        label_map={
            0: NORMAL,
            1: ANOMALY
        }),
    'images': dict(
        data_prefix=dict(img_path='images', seg_map_path='labels_masks'),
        seg_map_suffix='.png',
        label_map={
            0: NORMAL,
            1: ANOMALY,
            2: ANOMALY
        }),
}


@DATASETS.register_module()
class RoadAnomalyDataset(AnomalyDataset):
    """RoadAnomaly (Lis et al. 2019): 60 images of 1280x720.

    Layout ``'official'``: ``frames/NAME.{jpg,png}`` and ``frames/NAME.labels/labels_semantic.png`` with 0 normal and
    2 anomaly; where ``data_root`` has a ``frame_list.json``, only its frames count. Two common repackagings: layout
    ``'original'``, ``original/NAME.jpg`` and ``labels/NAME.png`` with 0 and 1; layout ``'images'``,
    ``images/NAME.jpg`` and ``labels_masks/NAME.png`` with 0 normal, 1 or 2 anomaly.

    Args:
        layout: ``'official'``, ``'original'``, ``'images'``, or ``'auto'``: the first of them whose folder of images
            is there.

    Raises:
        ValueError, FileNotFoundError: wrong layout or frame list; as :class:`AnomalyDataset`.
    """

    DEFAULT_NAME = 'RoadAnomaly'
    RECURSIVE = False
    NUM_IMAGES = {('RoadAnomaly', ''): 60}

    def __init__(self, data_root: str = '', layout: str = 'auto', **kwargs) -> None:
        if layout == 'auto':
            layout = find_layout(data_root, _LAYOUTS)
        if layout not in _LAYOUTS:
            raise ValueError(f"layout must be 'official', 'original', 'images' or 'auto', got {layout!r}")
        self.layout = layout
        kwargs = {**_LAYOUTS[layout], 'img_suffix': IMAGE_SUFFIXES, **kwargs}
        super().__init__(data_root=data_root, **kwargs)

    def listed_names(self) -> list[str] | None:
        """Names in ``ann_file``, else in the official ``frame_list.json``, else None."""
        path = os.path.join(self.data_root or '', 'frame_list.json')
        if self.ann_file or self.layout != 'official' or not os.path.isfile(path):
            return super().listed_names()
        try:
            with open(path, encoding='utf-8') as file:
                frames = json.load(file)
        except ValueError as error:
            raise ValueError(f'{path} is not valid JSON: {error}') from error
        if not isinstance(frames, list) or not frames or not all(isinstance(frame, str) for frame in frames):
            raise ValueError(f'{path} must hold a list of image names')
        return [os.path.splitext(frame)[0] if frame.endswith(IMAGE_SUFFIXES) else frame for frame in frames]
