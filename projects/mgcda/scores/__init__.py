# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Anomaly scores: functions of logits, and detectors that read layers, change the input or are fitted on training data.

All are a :class:`Score`, which :func:`build_score` builds. A function joins by :func:`score_function`, a class as a
subclass of :class:`Score` that registers into mmengine's ``FUNCTIONS``.
"""
from .ash import ASH
from .base import Score
from .builder import build_score, build_scores
from .fitting import FittedScore, ScoreFitter
from .flow_nll import FlowNLL
from .function_score import FunctionScore, score_function
from .knn import KNN
from .logits import (
    dense_hybrid,
    differential_entropy,
    dirichlet_mutual_information,
    energy,
    entropy,
    expected_entropy,
    logit_margin,
    margin,
    max_logit,
    msp,
    mutual_information,
    outlier_posterior,
    pebal,
    predictive_entropy,
    void_class,
)
from .mahalanobis import Mahalanobis
from .odin import ODIN
from .react import ReAct
from .sml import SML
from .synboost import SynBoostEnsemble

__all__ = [
    'ASH', 'FittedScore', 'FlowNLL', 'FunctionScore', 'KNN', 'Mahalanobis', 'ODIN', 'ReAct', 'SML', 'Score',
    'ScoreFitter', 'SynBoostEnsemble', 'build_score', 'build_scores', 'dense_hybrid', 'differential_entropy',
    'dirichlet_mutual_information', 'energy', 'entropy', 'expected_entropy', 'logit_margin', 'margin', 'max_logit',
    'msp', 'mutual_information', 'outlier_posterior', 'pebal', 'predictive_entropy', 'score_function', 'void_class'
]
