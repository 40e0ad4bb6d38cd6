# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Pixel curves pooled over a data set, without any framework around them."""
from typing import Dict, List, Union

import numpy as np
import torch

from mgcda.labels import ANOMALY, IGNORE, NORMAL

ArrayLike = Union[np.ndarray, torch.Tensor]

MODES = ('exact', )
#: True positive rate at which FPR95 reads the false positive rate.
RECALL = 0.95


class PixelCurve:
    r"""Average precision, FPR95 and AUROC of all valid pixels of a data set, by Fishyscapes' protocol.

    Pixels with a score of at least a threshold t are taken for anomalies; thresholds are the distinct scores, in
    descending order, so that pixels of equal score count together:

    .. math::

        AP = \sum_n (R_n - R_{n-1}) P_n, \qquad
        FPR95 = FPR(t^*), \; t^* = \max \{t : TPR(t) \ge 0.95\}, \qquad
        AUROC = P(s_a > s_n) + \tfrac{1}{2} P(s_a = s_n)

    ``mode='exact'`` keeps the float32 score of each valid pixel, 4 bytes a pixel, and sorts once in
    :meth:`compute`. The result depends neither on the order of the updates nor on how they were split and merged.

    Args:
        mode: How pixels are kept; 'exact'.

    Raises:
        ValueError: If ``mode`` is unknown.

    Example:
        >>> curve = PixelCurve()
        >>> curve.update(np.array([0.9, 0.8, 0.1, 0.5]), np.array([1, 0, 0, 255]))
        >>> curve.compute()
        {'AP': 100.0, 'FPR95': 0.0, 'AUROC': 100.0}
    """

    def __init__(self, mode: str = 'exact') -> None:
        if mode not in MODES:
            raise ValueError(f'mode must be one of {MODES}, got {mode!r}')
        self.mode = mode
        self._normal: List[np.ndarray] = []
        self._anomaly: List[np.ndarray] = []

    @property
    def num_normal(self) -> int:
        """Number of normal pixels so far."""
        return sum(part.size for part in self._normal)

    @property
    def num_anomaly(self) -> int:
        """Number of anomaly pixels so far."""
        return sum(part.size for part in self._anomaly)

    def update(self, scores: ArrayLike, labels: ArrayLike) -> None:
        """Add pixels.

        Args:
            scores: Floats or integers of any shape, larger = more anomalous; compared as float32, infinities allowed.
            labels: Integers or bools of the same shape: 0 normal, 1 anomaly, 255 ignored.

        Raises:
            ValueError: If the shapes differ, a label is none of 0, 1, 255, or the score of a valid pixel is NaN.
            TypeError: If the labels are not integers.
        """
        scores, labels = _to_numpy(scores), _to_numpy(labels)
        if scores.shape != labels.shape:
            raise ValueError(f'scores and labels must have the same shape, got {scores.shape} and {labels.shape}')
        if labels.dtype.kind not in 'biu':
            raise TypeError(f'labels must be integers, got {labels.dtype}')
        if scores.dtype.kind not in 'biuf':
            raise TypeError(f'scores must be real numbers, got {scores.dtype}')
        normal, anomaly = labels == NORMAL, labels == ANOMALY
        num_known = np.count_nonzero(normal) + np.count_nonzero(anomaly) + np.count_nonzero(labels == IGNORE)
        if num_known != labels.size:
            unknown = np.setdiff1d(labels, (NORMAL, ANOMALY, IGNORE))[:5].tolist()
            raise ValueError(f'labels must be {NORMAL}, {ANOMALY} or {IGNORE}, got {unknown}')
        with np.errstate(over='ignore'):
            parts = [scores[mask].astype(np.float32) for mask in (normal, anomaly)]
        num_nan = sum(int(np.isnan(part).sum()) for part in parts)
        if num_nan:
            raise ValueError(f'scores must not be NaN, got {num_nan} NaN at valid pixels')
        for store, part in zip((self._normal, self._anomaly), parts):
            if part.size:
                store.append(part)

    def merge(self, other: 'PixelCurve') -> None:
        """Add all pixels of another curve of the same mode, which stays as it is."""
        if not isinstance(other, PixelCurve):
            raise TypeError(f'other must be a PixelCurve, got {type(other).__name__}')
        if other.mode != self.mode:
            raise ValueError(f'curves of different modes cannot be merged: {self.mode!r} and {other.mode!r}')
        normal, anomaly = list(other._normal), list(other._anomaly)
        self._normal += normal
        self._anomaly += anomaly

    def compute(self) -> Dict[str, float]:
        """AP, FPR95 and AUROC in percent, unrounded.

        Raises:
            ValueError: If there is no normal or no anomaly pixel: the curve is undefined then.
        """
        num_normal, num_anomaly = self.num_normal, self.num_anomaly
        if not num_normal or not num_anomaly:
            raise ValueError('AP, FPR95 and AUROC need normal and anomaly pixels, '
                             f'got {num_normal} normal and {num_anomaly} anomaly pixels')
        normal = self._sorted(self._normal)
        # Only thresholds at which recall rises add to AP, and only such a one can be FPR95's.
        thresholds, counts = np.unique(self._sorted(self._anomaly), return_counts=True)
        below = np.searchsorted(normal, thresholds, side='left').astype(np.int64)
        not_above = np.searchsorted(normal, thresholds, side='right').astype(np.int64)

        true_positives = np.cumsum(counts[::-1])
        false_positives = (num_normal - below)[::-1]
        precision = true_positives / (true_positives + false_positives)
        average_precision = float(np.sum(precision * (counts[::-1] / num_anomaly)))
        at_recall = int(np.argmax(true_positives / num_anomaly >= RECALL))
        # Integers throughout, so that the area is exact up to its last division.
        doubled_area = int(np.sum(counts * (below + not_above)))
        return dict(
            AP=100 * average_precision,
            FPR95=100 * int(false_positives[at_recall]) / num_normal,
            AUROC=100 * (doubled_area / (2 * num_normal * num_anomaly)))

    @staticmethod
    def _sorted(parts: List[np.ndarray]) -> np.ndarray:
        """Sort the pixels, and keep them as one sorted part instead of copies."""
        if len(parts) > 1:
            parts[:] = [np.concatenate(parts)]
        # Adding zero turns -0 into 0: equal values must not be told apart.
        values = parts[0]
        values += 0
        values.sort()
        return values


def _to_numpy(values: ArrayLike) -> np.ndarray:
    """Array on the CPU; bfloat16, which NumPy lacks, becomes float32."""
    if isinstance(values, torch.Tensor):
        values = values.detach()
        if values.dtype == torch.bfloat16:
            values = values.float()
        return values.cpu().numpy()
    return np.asarray(values)
