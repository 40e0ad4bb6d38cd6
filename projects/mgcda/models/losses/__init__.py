# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .cacl import CACLLoss, cross_domain_contrast, sample_anomaly_aware
from .cross_entropy import PixelCrossEntropyLoss
from .dense_hybrid import DenseHybridLoss, data_likelihood_loss
from .dirichlet import DirichletPriorLoss, target_concentrations
from .gan_losses import FeatureMatchingLoss, HingeGANLoss, LeastSquaresGANLoss, VGGPerceptualLoss
from .mdat import (
    DomainClassifierLoss,
    MultiSourceAdversarialLoss,
    domain_classifier_loss,
    dynamic_domain_label,
    multi_source_adversarial_loss,
)
from .outlier_exposure import MaxEntropyLoss, max_entropy_loss
from .outlier_head import OutlierHeadLoss, dataset_posterior_loss, known_cross_entropy
from .pebal import (
    PEBALLoss,
    abstention_penalty,
    energy_margin_loss,
    energy_smoothness,
    energy_sparsity,
    known_energy,
    pixel_abstention_loss,
)

__all__ = [
    'CACLLoss', 'DenseHybridLoss', 'DirichletPriorLoss', 'DomainClassifierLoss', 'FeatureMatchingLoss', 'HingeGANLoss',
    'LeastSquaresGANLoss', 'MaxEntropyLoss', 'MultiSourceAdversarialLoss', 'OutlierHeadLoss', 'PEBALLoss',
    'PixelCrossEntropyLoss', 'VGGPerceptualLoss', 'abstention_penalty', 'cross_domain_contrast', 'data_likelihood_loss',
    'dataset_posterior_loss', 'domain_classifier_loss', 'dynamic_domain_label', 'energy_margin_loss',
    'energy_smoothness', 'energy_sparsity', 'known_cross_entropy', 'known_energy', 'max_entropy_loss',
    'multi_source_adversarial_loss', 'pixel_abstention_loss', 'sample_anomaly_aware', 'target_concentrations'
]
