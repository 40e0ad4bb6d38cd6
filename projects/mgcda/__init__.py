# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Road anomaly segmentation for MMSegmentation. Importing the package registers all its components.

It also has all checkpoints loaded safely, whatever they are loaded by (:mod:`mgcda.utils.checkpoints`).
"""
from . import datasets, engine, evaluation, models, scores
from .utils.checkpoints import allow_mmengine_checkpoints, register_loaders
from .version import __version__

allow_mmengine_checkpoints()
register_loaders()

__all__ = ['__version__']
