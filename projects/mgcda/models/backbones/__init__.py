# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .vgg import VGGPyramid

__all__ = ['VGGPyramid']
