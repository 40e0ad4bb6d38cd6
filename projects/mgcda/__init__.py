# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Road anomaly segmentation for MMSegmentation. Importing the package registers all its components."""
from . import datasets, engine, evaluation, models, scores  # noqa: F401
from .checkpoint_safety import allow_mmengine_checkpoints
from .version import __version__

allow_mmengine_checkpoints()

__all__ = ['__version__']
