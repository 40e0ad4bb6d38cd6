# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .resampling import RESAMPLINGS, check_resampling, resize_field, resize_images, resize_nearest

__all__ = ['RESAMPLINGS', 'check_resampling', 'resize_field', 'resize_images', 'resize_nearest']
