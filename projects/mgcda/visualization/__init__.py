# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Pictures of anomaly scores; pure functions of arrays, without models and without a framework around them."""
from .heat_maps import blend_heat, colour_heat, draw_boxes, draw_contours
from .score_scaling import ScoreScaling, scaling_of
from .window import check_window, show_image

__all__ = [
    'ScoreScaling', 'blend_heat', 'check_window', 'colour_heat', 'draw_boxes', 'draw_contours', 'scaling_of',
    'show_image'
]
