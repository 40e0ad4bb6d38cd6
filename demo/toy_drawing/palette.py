# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""What all things share: their type and the colours that they are made of."""
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .canvas import Pen

Rng = np.random.Generator
VIVID = ((190, 40, 45), (30, 90, 170), (235, 190, 40), (40, 130, 80), (240, 240, 235), (30, 32, 38), (120, 60, 130),
         (225, 110, 40), (90, 150, 190), (150, 120, 90))
CLOTHES = ((40, 45, 70), (30, 30, 34), (120, 40, 40), (200, 190, 170), (60, 90, 120), (90, 100, 80), (180, 60, 90),
           (230, 225, 220), (110, 80, 60), (210, 160, 60))
SKIN = ((235, 190, 160), (200, 150, 115), (140, 95, 70), (95, 65, 50))
PAINT = ((200, 202, 205), (30, 32, 36), (120, 125, 130), (235, 235, 235), (150, 25, 30), (30, 60, 120), (70, 80, 75),
         (170, 150, 120), (60, 90, 60))
GLASS = (45, 58, 70)
TYRE = (24, 24, 26)


class Thing(NamedTuple):
    """How to draw a flat thing, and its size in metres."""
    draw: Callable[[Pen, Rng], None]
    width: float
    height: float
