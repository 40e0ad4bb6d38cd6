# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .anomaly_loss import AnomalyLoss
from .anomaly_metric import AnomalyMetric
from .components import ComponentCurve
from .curves import PixelCurve

__all__ = ['AnomalyLoss', 'AnomalyMetric', 'ComponentCurve', 'PixelCurve']
