# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .cross_entropy import PixelCrossEntropyLoss
from .gan_losses import FeatureMatchingLoss, HingeGANLoss, VGGPerceptualLoss

__all__ = ['FeatureMatchingLoss', 'HingeGANLoss', 'PixelCrossEntropyLoss', 'VGGPerceptualLoss']
