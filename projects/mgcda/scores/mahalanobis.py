# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.

import torch
from mmengine.registry import FUNCTIONS
from torch import Tensor

from .fitting.fitted_score import valid
from .fitting.moment_score import MomentScore

#: So many pixels at a time are turned to float64.
CHUNK = 1 << 15


@FUNCTIONS.register_module()
class Mahalanobis(MomentScore):
    r"""Squared distance of features from the nearest class (Lee et al., NeurIPS 2018).

    With the features :math:`x` of a pixel, the means of the classes by label and the covariance :math:`\Sigma` around
    them, which the classes share,

    .. math:: s = \min_c (x - \mu_c)^T \Sigma_\lambda^{-1} (x - \mu_c), \qquad
              \Sigma_\lambda = (1 - \lambda) \Sigma + \lambda \frac{\mathrm{tr} \Sigma}{D} I.

    Args:
        layer (str): The layer whose features (N, D, h, w) are read, such as 'backbone.layer4'.
        shrinkage (float): :math:`\lambda` in [0, 1], which keeps the inverse stable where features are constant or
            depend on each other. Defaults to 1e-4.
        fitted (str, optional): See :class:`FittedScore`. Defaults to None.

    Raises:
        ValueError: If ``shrinkage`` is not in [0, 1]; when fitted, if the covariance has no inverse.
    """
    needs = ('features', )
    fit_settings = ('layer', )
    shared_scatter = True

    def __init__(self, layer: str, shrinkage: float = 1e-4, fitted: str | None = None) -> None:
        if not 0 <= shrinkage <= 1:
            raise ValueError(f'shrinkage must be in [0, 1], got {shrinkage}')
        super().__init__(fitted, layer=layer, shrinkage=shrinkage)
        self.layers = (layer, )

    def _add(self, values: list[Tensor], labels: Tensor, key: str) -> None:
        features, = values
        mask = valid(labels)
        vectors = features.permute(0, 2, 3, 1)[mask]  # (N, D, h, w) -> (M, D)
        moments = self._moments(features.shape[1])
        for chunk, classes in zip(vectors.split(CHUNK), labels[mask].split(CHUNK)):
            if len(chunk):
                moments.update(chunk, classes)

    def _finish(self) -> None:
        moments = self.moments
        known = moments.counts > 0
        means, total = moments.means[known], moments.counts.sum()
        covariance = moments.scatter / total
        shrinkage, dim = self.settings['shrinkage'], len(covariance)
        ridge = shrinkage * covariance.trace() / dim
        covariance = (1 - shrinkage) * covariance + ridge * torch.eye(dim).to(covariance)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if failed:
            raise ValueError(f'score {self.name!r} cannot be fitted: the covariance of {int(total)} pixels has no '
                             'inverse: take more images, or a larger shrinkage')
        whitening = torch.linalg.solve_triangular(factor, torch.eye(dim).to(factor), upper=False)
        center = moments.counts[known] @ means / total
        self.center = center.float()
        self.whitening = whitening.float()
        self.means = ((means - center) @ whitening.T).float()

    def _score(self, values: list[Tensor]) -> Tensor:
        features, = values
        if features.shape[1] != len(self.center):
            raise ValueError(f'score {self.name!r} was fitted on features of {len(self.center)} channels, layer '
                             f'{self.layers[0]!r} gives {features.shape[1]}')
        if self.center.device != features.device:
            self.center, self.whitening, self.means = (
                value.to(features.device) for value in (self.center, self.whitening, self.means))
        # Products of matrices, as convolutions may round to TF32 on a GPU: (N, D, H, W) -> (N, D, H * W).
        white = self.whitening @ (features - self.center[:, None, None]).flatten(2)
        # |z - m|^2 = |z|^2 - 2 z m + |m|^2
        rest = (self.means.square().sum(1)[:, None] - 2 * (self.means @ white)).amin(1)
        return (white.square_().sum(1) + rest).clamp(min=0).unflatten(1, features.shape[-2:])
