# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Curves pooled over a data set, without any framework around them."""
from .component_curve import ComponentCurve
from .fpr_threshold import FPRThreshold
from .pixel_curve import MODES, PROTOCOLS, PixelCurve

__all__ = ['MODES', 'PROTOCOLS', 'ComponentCurve', 'FPRThreshold', 'PixelCurve']
