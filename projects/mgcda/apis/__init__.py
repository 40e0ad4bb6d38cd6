# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .anomaly_inferencer import AnomalyInferencer
from .anomaly_result import AnomalyResult
from .boxes import find_boxes
from .calibration import Calibration, calibrate
from .inference import init_model

__all__ = ['AnomalyInferencer', 'AnomalyResult', 'Calibration', 'calibrate', 'find_boxes', 'init_model']
