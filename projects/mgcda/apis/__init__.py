# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .inference import AnomalyResult, inference_model, init_model

__all__ = ['AnomalyResult', 'inference_model', 'init_model']
