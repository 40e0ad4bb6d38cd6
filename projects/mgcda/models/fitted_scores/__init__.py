# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .fitted_score import FittedScore
from .flow_nll import FlowNLL
from .knn import KNN
from .mahalanobis import Mahalanobis
from .react import ReAct
from .score_fitter import ScoreFitter
from .sml import SML

__all__ = ['FittedScore', 'FlowNLL', 'KNN', 'Mahalanobis', 'ReAct', 'SML', 'ScoreFitter']
