# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .anomaly_mixin import AnomalyMixin
from .anomaly_segmentor import AnomalySegmentor, CascadeAnomalySegmentor
from .dissimilarity_segmentor import DissimilaritySegmentor

__all__ = ['AnomalyMixin', 'AnomalySegmentor', 'CascadeAnomalySegmentor', 'DissimilaritySegmentor']
