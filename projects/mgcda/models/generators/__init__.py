# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .resynthesizer import Resynthesizer
from .spade_generator import SPADEGenerator

__all__ = ['Resynthesizer', 'SPADEGenerator']
