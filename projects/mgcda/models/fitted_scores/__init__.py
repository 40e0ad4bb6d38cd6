# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .fitted_score import FittedScore
from .mahalanobis import Mahalanobis
from .score_fitter import ScoreFitter
from .sml import SML

__all__ = ['FittedScore', 'Mahalanobis', 'SML', 'ScoreFitter']
