# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import os
from collections.abc import Sequence

from mmseg.registry import DATASETS

from mgcda.labels import CITYSCAPES_CLASSES, CITYSCAPES_VOID_LABEL_IDS, UNKNOWN_TRAIN_ID, label_id_to_train_id

from .anomaly_dataset import AnomalyDataset
from .void_class import CITYSCAPES_IMAGE_SUFFIXES

#: Format of the labels -> what their file names end on in Cityscapes.
_LABEL_SUFFIXES = dict(label_ids='_gtFine_labelIds.png', train_ids='_gtFine_labelTrainIds.png')


@DATASETS.register_module()
class ClassLabelDataset(AnomalyDataset):
    """Images with the 19 classes of Cityscapes as labels, of which :class:`AnomalyMetric` reports the mIoU.

    It stands beside anomaly benchmarks in one ConcatDataset, with the same pipeline: targets are train ids 0..18 and
    255, and the ``label_classes`` of its samples say so.

    Args:
        label_format: ``'label_ids'``, those of Cityscapes as it is downloaded, 0..33 and 255, or ``'train_ids'``, 0..18
            and 255, as MMSegmentation's converter writes them.
        data_prefix, img_suffix, seg_map_suffix: as of :class:`AnomalyDataset`; by default those of Cityscapes'
            validation set, in PNG or JPEG, and of the label format.

    Raises:
        ValueError: an unknown label format, or file names of the other one; FileNotFoundError, ValueError: as
            :class:`AnomalyDataset`.
    """

    DEFAULT_NAME = 'Cityscapes'
    NUM_IMAGES = {('Cityscapes', 'val'): 500}
    LABEL_CLASSES = CITYSCAPES_CLASSES

    def __init__(self,
                 label_format: str = 'label_ids',
                 data_prefix: dict = dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
                 img_suffix: str | Sequence[str] = CITYSCAPES_IMAGE_SUFFIXES,
                 seg_map_suffix: str | None = None,
                 **kwargs) -> None:
        if label_format not in _LABEL_SUFFIXES:
            raise ValueError(f'label_format must be one of {tuple(_LABEL_SUFFIXES)}, got {label_format!r}')
        if seg_map_suffix in [suffix for name, suffix in _LABEL_SUFFIXES.items() if name != label_format]:
            raise ValueError(f'files {seg_map_suffix} hold no {label_format}: set the other label_format, which needs '
                             'no seg_map_suffix')
        if 'label_map' in kwargs:
            raise ValueError(f'{type(self).__name__} takes no label_map: set label_format')
        self.split = os.path.basename(os.path.normpath(data_prefix['img_path']))
        super().__init__(
            data_prefix=data_prefix,
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix or _LABEL_SUFFIXES[label_format],
            label_map=_label_map(label_format),
            **kwargs)


def _label_map(label_format: str) -> dict[int, int]:
    """Table from the values of a format to train ids."""
    num_classes = len(CITYSCAPES_CLASSES)
    if label_format == 'train_ids':
        return {**{value: value for value in range(num_classes)}, UNKNOWN_TRAIN_ID: UNKNOWN_TRAIN_ID}
    values = range(num_classes + len(CITYSCAPES_VOID_LABEL_IDS))
    return {value: int(label_id_to_train_id()[value]) for value in (*values, UNKNOWN_TRAIN_ID)}
