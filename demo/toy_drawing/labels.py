# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Ids of the toy scenes: the label ids of Cityscapes, and one for anomalies."""
EGO, BORDER, OUTSIDE, STATIC_ID, DYNAMIC_ID, GROUND, ROAD, SIDEWALK, PARKING, RAILS = range(1, 11)
BUILDING, WALL, FENCE, GUARD_RAIL, BRIDGE, POLE, LIGHT, SIGN = 11, 12, 13, 14, 15, 17, 19, 20
VEGETATION, TERRAIN, SKY, PERSON, RIDER, CAR, TRUCK, BUS = 21, 22, 23, 24, 25, 26, 27, 28
TRAILER, TRAIN, MOTORCYCLE, BICYCLE = 30, 31, 32, 33
#: Id of an anomaly in a test scene; no label id of Cityscapes.
ANOMALY_ID = 99
