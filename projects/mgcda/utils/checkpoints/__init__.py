# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .fit import ALWAYS_FORGIVEN, TEST_FORGIVEN, check_overlap, load_weights
from .reading import UnsafeCheckpoint, checkpoint_bytes, read_checkpoint, weights_of
from .safe_types import allow_mmengine_checkpoints
from .sources import check_checkpoint_file, load_checkpoint, register_loaders

__all__ = [
    'ALWAYS_FORGIVEN', 'TEST_FORGIVEN', 'UnsafeCheckpoint', 'allow_mmengine_checkpoints', 'check_checkpoint_file',
    'check_overlap', 'checkpoint_bytes', 'load_checkpoint', 'load_weights', 'read_checkpoint', 'register_loaders',
    'weights_of'
]
