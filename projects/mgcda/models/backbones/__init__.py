# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .espnetv2 import ESPNetv2
from .vgg import VGGPyramid

__all__ = ['ESPNetv2', 'VGGPyramid']
