# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .domain_classifier import DomainClassifier
from .patch_discriminator import MultiScalePatchDiscriminator, PatchDiscriminator

__all__ = ['DomainClassifier', 'MultiScalePatchDiscriminator', 'PatchDiscriminator']
