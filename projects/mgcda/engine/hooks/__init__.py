# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .checkpoint_guard_hook import CheckpointGuardHook
from .invalid_loss_hook import InvalidLossHook
from .keyed_random_hook import KeyedRandomHook
from .mdat_hook import MDATHook
from .synthesis_visualization_hook import SynthesisVisualizationHook

__all__ = ['CheckpointGuardHook', 'InvalidLossHook', 'KeyedRandomHook', 'MDATHook', 'SynthesisVisualizationHook']
