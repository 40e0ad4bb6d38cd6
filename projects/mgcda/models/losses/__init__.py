# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .cacl import CACLLoss, cross_domain_contrast, sample_anomaly_aware
from .cross_entropy import PixelCrossEntropyLoss
from .dirichlet import DirichletPriorLoss, target_concentrations
from .gan_losses import FeatureMatchingLoss, HingeGANLoss, LeastSquaresGANLoss, VGGPerceptualLoss
from .mdat import (DomainClassifierLoss, MultiSourceAdversarialLoss, domain_classifier_loss, dynamic_domain_label,
                   multi_source_adversarial_loss)
from .outlier_exposure import MaxEntropyLoss, max_entropy_loss

__all__ = [
    'CACLLoss', 'DirichletPriorLoss', 'DomainClassifierLoss', 'FeatureMatchingLoss', 'HingeGANLoss',
    'LeastSquaresGANLoss', 'MaxEntropyLoss', 'MultiSourceAdversarialLoss', 'PixelCrossEntropyLoss', 'VGGPerceptualLoss',
    'cross_domain_contrast', 'domain_classifier_loss', 'dynamic_domain_label', 'max_entropy_loss',
    'multi_source_adversarial_loss', 'sample_anomaly_aware', 'target_concentrations'
]
