# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .hooks import *
from .loops import ResumableEpochTrainLoop, ResumableIterTrainLoop
