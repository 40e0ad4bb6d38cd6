# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .gaussian_mixture import ClassGaussianMixtures
from .outlier_classifier import OutlierClassifier
from .projector import Projector
from .spade import SPADE

__all__ = ['ClassGaussianMixtures', 'OutlierClassifier', 'Projector', 'SPADE']
