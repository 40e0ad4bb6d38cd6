# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .dinov2 import DINOv2
from .espnetv2 import ESPNetv2
from .vgg import VGGPyramid

__all__ = ['DINOv2', 'ESPNetv2', 'VGGPyramid']
