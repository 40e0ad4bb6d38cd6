# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .anomaly_dataset import AnomalyDataset
from .anomaly_mix import AnomalyMixDataset
from .class_labels import ClassLabelDataset
from .coco_objects import CocoObjects
from .composite import CompositeDataset
from .fishyscapes import FishyscapesDataset
from .lost_and_found import LostAndFoundDataset
from .maps import map_file, map_files
from .multi_domain import MultiDomainDataset
from .negative_images import NegativeImageDataset
from .randomness import SampleKey, keyed_random
from .road_anomaly import RoadAnomalyDataset
from .samplers import DomainBalancedSampler
from .smiyc import SMIYCDataset
from .synboost import SynBoostDataset
from .transforms import *
from .void_class import VoidClassDataset

__all__ = [
    'AnomalyDataset', 'AnomalyMixDataset', 'ClassLabelDataset', 'CocoObjects', 'CompositeDataset',
    'DomainBalancedSampler', 'FishyscapesDataset', 'LostAndFoundDataset', 'MultiDomainDataset', 'NegativeImageDataset',
    'RoadAnomalyDataset', 'SMIYCDataset', 'SampleKey', 'SynBoostDataset', 'VoidClassDataset', 'keyed_random',
    'map_file', 'map_files'
]
