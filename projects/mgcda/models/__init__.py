# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from . import data_preprocessor, frozen_maps  # noqa: F401
from .ash import ASH  # noqa: F401
from .backbones import *  # noqa: F401,F403
from .decode_heads import *  # noqa: F401,F403
from .discriminators import *  # noqa: F401,F403
from .fitted_scores import *  # noqa: F401,F403
from .generators import *  # noqa: F401,F403
from .losses import *  # noqa: F401,F403
from .odin import ODIN  # noqa: F401
from .segmentors import *  # noqa: F401,F403
from .synboost_ensemble import SynBoostEnsemble  # noqa: F401
