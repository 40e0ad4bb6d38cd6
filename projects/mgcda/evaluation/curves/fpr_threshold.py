# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.

import numpy as np
import torch

from .score_histogram import ScoreHistogram


class FPRThreshold:
    """The threshold at which a given part of normal pixels is taken for anomalies.

    Pixels are counted in the bins of :class:`ScoreHistogram`, as :class:`PixelCurve` counts them, whatever their
    number. Anomaly pixels are not needed.

    Example:
        >>> threshold = FPRThreshold()
        >>> threshold.update(np.array([0.1, 0.2, 0.3, 0.4]))
        >>> value, fpr = threshold.compute(0.25)
        >>> 0.3 <= value < 0.4, fpr  # one of four is above it
        (True, 0.25)
    """

    def __init__(self) -> None:
        # Its steps are those of anomaly pixels: normal ones take their place.
        self._pixels = ScoreHistogram()
        self._largest = -np.inf

    @property
    def num_normal(self) -> int:
        """Number of pixels so far."""
        return self._pixels.num_anomaly

    def update(self, scores: np.ndarray) -> None:
        """Add the scores of normal pixels, floats of any shape, compared as float32.

        Raises:
            ValueError: If one of them is NaN.
        """
        scores = np.ascontiguousarray(scores, np.float32).reshape(-1) + 0  # -0 becomes 0
        if np.isnan(scores).any():
            raise ValueError(f'scores must not be NaN, got {np.count_nonzero(np.isnan(scores))} NaN')
        if scores.size:
            self._largest = max(self._largest, float(scores.max()))
            self._pixels.add(torch.empty(0), torch.from_numpy(scores))

    def compute(self, fpr: float) -> tuple[float, float]:
        """Threshold, and the part of the pixels with a score above it: at most ``fpr``, short of it by a bin at most.

        Where many pixels have one score, none of them is above the threshold if all of them were too many.

        Raises:
            ValueError: If ``fpr`` is not between 0 and 1, or there are no pixels.
        """
        if not 0 < fpr < 1:
            raise ValueError(f'fpr must be between 0 and 1, got {fpr}')
        if not self.num_normal:
            raise ValueError('there are no normal pixels')
        above, lowest = 0, None
        for steps in self._pixels.steps():
            counts = above + np.cumsum(steps.anomalies)
            number = int(np.searchsorted(counts / self.num_normal, fpr, side='right'))
            if number:
                above, lowest = int(counts[number - 1]), float(steps.threshold[number - 1])
            if number < len(counts):
                break
        if lowest is None:
            return self._largest, 0.0
        return float(np.nextafter(np.float32(lowest), np.float32(-np.inf))), above / self.num_normal
