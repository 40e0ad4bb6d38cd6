# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import math

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.registry import FUNCTIONS
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from .fitting.sample_score import VALID, SampleScore

#: So many pixels at a time are looked up.
CHUNK = 1 << 14
METRICS = ('euclidean', 'cosine')
REDUCTIONS = ('mean', 'kth', 'density')


@FUNCTIONS.register_module()
class KNN(SampleScore):
    r"""Distance of features from the nearest ones of training pixels (Blum et al., IJCV 2021; Sun et al., ICML 2022).

    With the distances :math:`d_1 \le \dots \le d_k` of a pixel's features to the k nearest of a sample of the training
    pixels, found exactly by scikit-learn on the CPU:

    ===========  ============================================  ============================================
    ``mean``     :math:`\frac{1}{k} \sum_i d_i`
    ``kth``      :math:`d_k`                                   as Sun et al.
    ``density``  :math:`-\ln \frac{1}{k} \sum_i \exp(-d_i)`    the kernel of Mandelbaum and Weinshall, 2017
    ===========  ============================================  ============================================

    The public code of Blum et al. lacks their "kNN embedding density": layer, k, metric, reduction and sample size are
    choices of this implementation.

    Args:
        layer (str): The layer whose features (N, D, h, w) are read, such as 'decode_head.conv_seg:input'.
        k (int): Number of neighbours. Defaults to 10.
        metric (str): 'cosine', one minus the cosine, in [0, 2], as Sun et al. normalise features; a vector of zeros is
            0 from others of zeros and 1/2 from all else. Or 'euclidean'. Defaults to 'cosine'.
        reduction (str): See above. Defaults to 'mean'.
        sample_size (int): Training pixels that are kept, at most. Time grows with it. Defaults to 20000.
        seed (int): Of the sample. Defaults to 0.
        fitted (str, optional): See :class:`FittedScore`. Defaults to None.

    Raises:
        ValueError: If a setting is none of these; if there are fewer pixels than k, or features of another length.
    """
    fit_settings = ('layer', *SampleScore.fit_settings)

    def __init__(self,
                 layer: str,
                 k: int = 10,
                 metric: str = 'cosine',
                 reduction: str = 'mean',
                 sample_size: int = 20_000,
                 seed: int = 0,
                 fitted: str | None = None) -> None:
        if metric not in METRICS or reduction not in REDUCTIONS:
            raise ValueError(f'metric must be one of {METRICS} and reduction one of {REDUCTIONS}, got {metric!r} and '
                             f'{reduction!r}')
        if not 1 <= k <= sample_size:
            raise ValueError(f'k must be in [1, sample_size], got {k} with a sample_size of {sample_size}')
        super().__init__([layer], sample_size, seed, fitted, layer=layer, k=k, metric=metric, reduction=reduction)

    def _finish(self) -> None:
        vectors, k = self.samples[VALID].vectors, self.settings['k']
        if len(vectors) < k:
            raise ValueError(f'score {self.name!r} has a sample of {len(vectors)} pixels, k is {k}: fit it on more '
                             'images, or lower k')
        self.neighbors = NearestNeighbors(n_neighbors=k, algorithm='brute').fit(self._points(vectors))

    def _score(self, values: list[Tensor]) -> Tensor:
        features, = values
        if [features.shape[1]] != self.dims:
            raise ValueError(f'score {self.name!r} was fitted on features of {self.dims[0]} channels, layer '
                             f'{self.layers[0]!r} gives {features.shape[1]}')
        vectors = features.permute(0, 2, 3, 1).flatten(0, 2)  # (N, D, h, w) -> (N * h * w, D)
        scores = torch.cat([self._score_vectors(chunk) for chunk in vectors.split(CHUNK)])
        return scores.to(features).view(len(features), *features.shape[-2:])

    def _score_vectors(self, vectors: Tensor) -> Tensor:
        """Scores (M,) on the CPU of vectors (M, D)."""
        distances = torch.from_numpy(self.neighbors.kneighbors(self._points(vectors))[0]).double()
        if self.settings['metric'] == 'cosine':
            distances = distances.square() / 2  # |x - y|^2 = 2 - 2 cos for vectors of length 1
        if self.settings['reduction'] == 'mean':
            return distances.mean(1)
        if self.settings['reduction'] == 'kth':
            return distances[:, -1]
        return math.log(self.settings['k']) - torch.logsumexp(-distances, 1)

    def _points(self, vectors: Tensor) -> np.ndarray:
        """Vectors (M, D) among which the Euclidean distance ranks as the metric does."""
        return (F.normalize(vectors) if self.settings['metric'] == 'cosine' else vectors).detach().cpu().numpy()
