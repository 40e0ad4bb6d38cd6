# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from . import data_preprocessor, frozen_maps
from .ash import ASH
from .backbones import *
from .decode_heads import *
from .discriminators import *
from .fitted_scores import *
from .generators import *
from .losses import *
from .odin import ODIN
from .segmentors import *
from .synboost_ensemble import SynBoostEnsemble
