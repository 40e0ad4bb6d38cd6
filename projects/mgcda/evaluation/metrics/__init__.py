# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .anomaly_cross_entropy_metric import AnomalyCrossEntropyMetric
from .anomaly_metric import AnomalyMetric

__all__ = ['AnomalyCrossEntropyMetric', 'AnomalyMetric']
