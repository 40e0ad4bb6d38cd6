# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from .operating_points import Steps

# Anomaly pixels that are looked at together: bounds the memory of what is derived from them.
_BLOCK = 2**20


class ExactScores:
    """The float32 scores of all pixels, on the CPU: 4 bytes a pixel, sorted in place when steps are asked for."""

    def __init__(self) -> None:
        self._normal, self._anomaly = np.empty(0, np.float32), np.empty(0, np.float32)

    def __setstate__(self, state: dict[str, np.ndarray]) -> None:
        """Copy the arrays: unpickled ones do not own their data, so that they cannot grow in place."""
        self.__dict__.update({name: array.copy() for name, array in state.items()})

    @property
    def num_normal(self) -> int:
        return self._normal.size

    @property
    def num_anomaly(self) -> int:
        return self._anomaly.size

    def add(self, normal: Tensor, anomaly: Tensor) -> None:
        """Add pixels by their scores, float32 (P,) and (Q,), without NaN and negative zeros."""
        _append(self._normal, normal.cpu().numpy())
        _append(self._anomaly, anomaly.cpu().numpy())

    def merge(self, other: 'ExactScores') -> None:
        """Add the pixels of another, which stays as it is."""
        for own, more in ((self._normal, other._normal), (self._anomaly, other._anomaly)):
            _append(own, more.copy() if own is more else more)

    def steps(self) -> Iterator[Steps]:
        """All distinct scores of anomaly pixels, descending."""
        normal, anomaly = self._normal, self._anomaly
        normal.sort()
        anomaly.sort()
        end = anomaly.size
        while end:
            start = int(np.searchsorted(anomaly, anomaly[max(end - _BLOCK, 0)]))
            thresholds, counts = np.unique(anomaly[start:end], return_counts=True)
            below = np.searchsorted(normal, thresholds)
            not_above = np.searchsorted(normal, thresholds, side='right')
            yield Steps(thresholds[::-1], counts[::-1], (not_above - below)[::-1], (normal.size - not_above)[::-1],
                        np.ones(counts.size, bool))
            end = start


def _append(array: np.ndarray, more: np.ndarray) -> None:
    """Grow an array in place: large ones are remapped by the system rather than copied."""
    size = array.size
    array.resize(size + more.size, refcheck=False)
    array[size:] = more
