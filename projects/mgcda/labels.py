# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Label values that every data set, model and metric of the package shares.

Targets of anomaly segmentation hold ``NORMAL``, ``ANOMALY`` and ``IGNORE`` and
nothing else. Cityscapes ids are those of the public ``cityscapesScripts``.
"""

import numpy as np

NORMAL = 0
ANOMALY = 1
IGNORE = 255
#: An outlier among train ids, in the labels of segmentors that train with outliers.
OUTLIER = 254

#: Label ids of Cityscapes in the order of their train ids 0..18.
CITYSCAPES_TRAIN_LABEL_IDS: tuple[int, ...] = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
#: Label ids of Cityscapes that have no train id (void and rare classes).
CITYSCAPES_VOID_LABEL_IDS: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)
#: Void label ids whose pixels are anomalies by default: 4 static, 5 dynamic.
VOID_CLASS_ANOMALY_IDS: tuple[int, ...] = (4, 5)
#: Void label ids whose pixels are anomalies in SynBoost's public code, "borders, static or big objects" without the ego
#: vehicle: 0 unlabeled, 2 rectification border, 3 out of roi, 4 static, 29 caravan, 30 trailer.
SYNBOOST_VOID_IDS: tuple[int, ...] = (0, 2, 3, 4, 29, 30)
#: Number of semantic classes of Cityscapes.
NUM_CITYSCAPES_CLASSES = len(CITYSCAPES_TRAIN_LABEL_IDS)
#: Train id of a pixel without a class.
UNKNOWN_TRAIN_ID = 255

CITYSCAPES_CLASSES: tuple[str, ...] = ('road', 'sidewalk', 'building', 'wall', 'fence', 'pole', 'traffic light',
                                       'traffic sign', 'vegetation', 'terrain', 'sky', 'person', 'rider', 'car',
                                       'truck', 'bus', 'train', 'motorcycle', 'bicycle')

#: Classes and colours of anomaly targets, the METAINFO of every anomaly data set.
ANOMALY_METAINFO = dict(classes=('normal', 'anomaly'), palette=[[40, 40, 40], [230, 60, 30]])


def label_id_to_train_id() -> np.ndarray:
    """Lookup table (256,) uint8 from Cityscapes label ids to train ids, 255 for every id without one."""
    table = np.full(256, UNKNOWN_TRAIN_ID, np.uint8)
    table[list(CITYSCAPES_TRAIN_LABEL_IDS)] = np.arange(NUM_CITYSCAPES_CLASSES, dtype=np.uint8)
    return table
