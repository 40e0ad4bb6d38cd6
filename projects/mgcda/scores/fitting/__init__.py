# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .fitted_score import FittedScore
from .score_fitter import ScoreFitter

__all__ = ['FittedScore', 'ScoreFitter']
