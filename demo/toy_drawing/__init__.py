# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Drawing of the toy data sets; ``toy_streets.py`` beside this folder lays the pictures out on disk."""
from .labels import ANOMALY_ID
from .objects import OBJECTS
from .pictures import draw_country, draw_lost_cargo, draw_objects, draw_street

__all__ = ['ANOMALY_ID', 'OBJECTS', 'draw_country', 'draw_lost_cargo', 'draw_objects', 'draw_street']
