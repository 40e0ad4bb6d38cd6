# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.

from .class_labels import ClassLabelDataset
from .fishyscapes import FishyscapesDataset
from .lost_and_found import LostAndFoundDataset
from .road_anomaly import RoadAnomalyDataset
from .smiyc import SMIYCDataset


def official_num_images() -> dict[str, int]:
    """Images with public labels of the complete test sets, by the name that results are reported under."""
    numbers = {}
    for kind in (RoadAnomalyDataset, FishyscapesDataset, SMIYCDataset, LostAndFoundDataset, ClassLabelDataset):
        # Benchmarks that have a validation set keep the labels of all other splits to themselves.
        hides = any(split == 'val' for _, split in kind.NUM_IMAGES)
        numbers.update({name: count for (name, split), count in kind.NUM_IMAGES.items() if split == 'val' or not hides})
    return numbers
