# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .spade import SPADE

__all__ = ['SPADE']
