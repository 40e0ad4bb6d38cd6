# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import os
from collections.abc import Sequence

from mmseg.registry import DATASETS

from mgcda.labels import (
    ANOMALY,
    CITYSCAPES_TRAIN_LABEL_IDS,
    CITYSCAPES_VOID_LABEL_IDS,
    IGNORE,
    NORMAL,
    NUM_CITYSCAPES_CLASSES,
    OUTLIER,
    SYNBOOST_VOID_IDS,
    VOID_CLASS_ANOMALY_IDS,
)

from .anomaly_dataset import AnomalyDataset

BINARY, CLASSES = 'binary', 'classes'
#: Sets of void ids that ``anomaly_ids`` may name.
NAMED_VOID_IDS: dict[str, tuple[int, ...]] = dict(objects=VOID_CLASS_ANOMALY_IDS, synboost=SYNBOOST_VOID_IDS)
CITYSCAPES_IMAGE_SUFFIXES = ('_leftImg8bit.png', '_leftImg8bit.jpg')


def cityscapes_label_map(anomaly_ids: str | Sequence[int],
                         ignore_ids: Sequence[int] | None = None,
                         targets: str = BINARY) -> dict[int, int]:
    """Table from Cityscapes label ids to targets.

    Args:
        anomaly_ids: ids that become 1, or 254 among classes; or a name of them, ``'objects'`` (4 static, 5 dynamic) or
            ``'synboost'`` (0, 2, 3, 4, 29, 30, as in SynBoost's public code).
        ignore_ids: ids that become 255; by default every id without a train id that is no anomaly. All others
            become 0, or their train id.
        targets: ``'binary'``, or ``'classes'``, where an id without a train id that is no anomaly is always ignored.

    Raises:
        ValueError: ids that Cityscapes does not have, or that are anomaly and ignored at once; an unknown name.
    """
    if isinstance(anomaly_ids, str):
        if anomaly_ids not in NAMED_VOID_IDS:
            raise ValueError(f'anomaly_ids must be label ids or one of {sorted(NAMED_VOID_IDS)}, got {anomaly_ids!r}')
        anomaly_ids = NAMED_VOID_IDS[anomaly_ids]
    known = set(CITYSCAPES_TRAIN_LABEL_IDS) | set(CITYSCAPES_VOID_LABEL_IDS)
    anomalies = set(anomaly_ids)
    ignored = set(CITYSCAPES_VOID_LABEL_IDS) - anomalies if ignore_ids is None else set(ignore_ids)
    for name, ids in (('anomaly_ids', anomalies), ('ignore_ids', ignored)):
        if ids - known:
            raise ValueError(f'{name} must be label ids of Cityscapes (0..33), got {sorted(ids - known, key=str)}')
    if anomalies & ignored:
        raise ValueError(f'label ids {sorted(anomalies & ignored)} are both in anomaly_ids and in ignore_ids')
    if targets == BINARY:
        return {i: ANOMALY if i in anomalies else IGNORE if i in ignored else NORMAL for i in sorted(known)}
    classes = {i: train_id for train_id, i in enumerate(CITYSCAPES_TRAIN_LABEL_IDS) if i not in ignored}
    return {i: OUTLIER if i in anomalies else classes.get(i, IGNORE) for i in sorted(known)}


def anomaly_target(targets: str) -> int:
    """What pixels of anomalies become: 1 among ``'binary'`` targets, 254 among ``'classes'``.

    Raises:
        ValueError: other targets.
    """
    if targets not in (BINARY, CLASSES):
        raise ValueError(f'targets must be {BINARY!r} or {CLASSES!r}, got {targets!r}')
    return ANOMALY if targets == BINARY else OUTLIER


@DATASETS.register_module()
class VoidClassDataset(AnomalyDataset):
    """Cityscapes, with the objects of its void classes as anomalies (training domain 0).

    Args:
        anomaly_ids: label ids of ``gtFine`` that are anomalies, or the name of such a set: ``'objects'``, the default,
            is 4 (static) and 5 (dynamic), the void classes that are objects; ``'synboost'`` is 0, 2, 3, 4, 29 and 30,
            as in SynBoost's public code, which are mostly the borders of images.
        ignore_ids: label ids that are ignored; by default every other id without a train id.
        targets: ``'binary'``: 0, 1 and 255. ``'classes'``, for segmentors that train with outliers: train ids, 254 for
            the pixels of anomalies, and 255.

    Raises:
        ValueError: other targets; as :func:`cityscapes_label_map`.
        FileNotFoundError, ValueError: as :class:`AnomalyDataset`.
    """

    DEFAULT_NAME = 'VoidClass'
    DEFAULT_DOMAIN = 0
    NUM_IMAGES = {('VoidClass', 'train'): 2975, ('VoidClass', 'val'): 500}

    def __init__(self,
                 anomaly_ids: str | Sequence[int] = 'objects',
                 ignore_ids: Sequence[int] | None = None,
                 targets: str = BINARY,
                 data_prefix: dict = dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
                 img_suffix: str | Sequence[str] = CITYSCAPES_IMAGE_SUFFIXES,
                 seg_map_suffix: str = '_gtFine_labelIds.png',
                 **kwargs) -> None:
        self.split = os.path.basename(os.path.normpath(data_prefix['img_path']))
        if 'label_map' in kwargs:
            raise ValueError(f'{type(self).__name__} takes no label_map: set anomaly_ids and ignore_ids')
        self.targets = targets
        self.anomaly_target = anomaly_target(targets)
        super().__init__(
            data_prefix=data_prefix,
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            label_map=cityscapes_label_map(anomaly_ids, ignore_ids, targets),
            **kwargs)

    @property
    def allowed_targets(self) -> tuple[int, ...]:
        """What labels become."""
        return super().allowed_targets if self.targets == BINARY else (*range(NUM_CITYSCAPES_CLASSES), OUTLIER, IGNORE)
