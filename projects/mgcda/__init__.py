# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Road anomaly segmentation for MMSegmentation. Importing the package registers all its components.

It also has all checkpoints loaded safely, whatever they are loaded by (:mod:`mgcda.checkpoint_loading`).
"""
from . import datasets, engine, evaluation, models, scores
from .checkpoint_loading import register_loaders
from .checkpoint_safety import allow_mmengine_checkpoints
from .version import __version__

allow_mmengine_checkpoints()
register_loaders()

__all__ = ['__version__']
