# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .pix2pixhd_generator import Pix2PixHDGenerator
from .resynthesizer import Resynthesizer
from .spade_generator import SPADEGenerator

__all__ = ['Pix2PixHDGenerator', 'Resynthesizer', 'SPADEGenerator']
