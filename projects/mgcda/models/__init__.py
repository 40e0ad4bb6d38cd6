# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from . import data_preprocessor, frozen_maps
from .backbones import *
from .decode_heads import *
from .discriminators import *
from .generators import *
from .losses import *
from .segmentors import *
