# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .curves import ComponentCurve, PixelCurve
from .metrics import AnomalyCrossEntropyMetric, AnomalyMetric

__all__ = ['AnomalyCrossEntropyMetric', 'AnomalyMetric', 'ComponentCurve', 'PixelCurve']
