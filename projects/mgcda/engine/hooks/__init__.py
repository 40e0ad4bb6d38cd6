# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .anomaly_visualization_hook import AnomalyVisualizationHook
from .checkpoint_guard_hook import CheckpointGuardHook
from .class_weight_hook import ClassWeightHook
from .durable_checkpoint_hook import DurableCheckpointHook
from .invalid_loss_hook import InvalidLossHook
from .keyed_random_hook import KeyedRandomHook
from .mdat_hook import MDATHook
from .synthesis_visualization_hook import SynthesisVisualizationHook

__all__ = [
    'AnomalyVisualizationHook', 'CheckpointGuardHook', 'ClassWeightHook', 'DurableCheckpointHook', 'InvalidLossHook',
    'KeyedRandomHook', 'MDATHook', 'SynthesisVisualizationHook'
]
