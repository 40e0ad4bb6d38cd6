# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .alignment_mixin import AlignmentMixin
from .anomaly_mixin import AnomalyMixin
from .anomaly_segmentor import AnomalySegmentor, CascadeAnomalySegmentor
from .anomaly_tta import AnomalyTTAModel
from .dissimilarity_segmentor import DissimilaritySegmentor
from .ensemble_segmentor import CascadeEnsembleAnomalySegmentor, EnsembleAnomalySegmentor
from .mc_dropout_segmentor import CascadeMCDropoutAnomalySegmentor, MCDropoutAnomalySegmentor

__all__ = [
    'AlignmentMixin', 'AnomalyMixin', 'AnomalySegmentor', 'AnomalyTTAModel', 'CascadeAnomalySegmentor',
    'CascadeEnsembleAnomalySegmentor', 'CascadeMCDropoutAnomalySegmentor', 'DissimilaritySegmentor',
    'EnsembleAnomalySegmentor', 'MCDropoutAnomalySegmentor'
]
