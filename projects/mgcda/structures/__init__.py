# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .dissimilarity import MAP_KINDS, REQUIRED_KINDS, UNCERTAINTY_KINDS, one_hot_labels
from .resampling import RESAMPLINGS, check_resampling, resize_field, resize_images, resize_nearest

__all__ = [
    'MAP_KINDS', 'REQUIRED_KINDS', 'RESAMPLINGS', 'UNCERTAINTY_KINDS', 'check_resampling', 'one_hot_labels',
    'resize_field', 'resize_images', 'resize_nearest'
]
