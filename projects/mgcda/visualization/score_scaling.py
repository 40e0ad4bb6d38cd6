# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""From anomaly scores of any unit to the numbers from 0 to 1 that are coloured."""
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

HeatRange = str | Sequence[float]


class ScoreScaling(NamedTuple):
    """How scores become heat.

    ``kind``: 'sigmoid', the probability of log-odds; 'fixed', linear from ``low`` (0) to ``high`` (1), clipped;
    'image', linear from the median to the largest of the finite scores of each image, so that half of it stays dark.
    """
    kind: str
    low: float = 0.
    high: float = 1.

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Heat of scores: float (H, W), larger = more anomalous, to float32 (H, W) in [0, 1]."""
        scores = scores.astype(np.float32, copy=False)
        if self.kind == 'sigmoid':
            return 0.5 * (1 + np.tanh(0.5 * scores))
        low, high = self.low, self.high
        if self.kind == 'image':
            finite = scores[np.isfinite(scores)]
            low, high = (np.median(finite), finite.max()) if finite.size else (0., 1.)
        clipped = np.clip(scores, low, high)
        return (clipped - low) / max(high - low, np.finfo(np.float32).tiny)


def scaling_of(score_range: str | Sequence[float | str] | None,
               num_classes: int,
               heat_range: HeatRange = 'auto') -> ScoreScaling:
    """The scaling that is asked for, or by 'auto' the one that suits a score.

    Args:
        score_range: ``range`` of a :class:`mgcda.scores.Score`: 'log_odds' passes a sigmoid, two bounds are kept, and
            by None each image is scaled by itself.
        num_classes: C of the bound 'ln C'.
        heat_range: 'auto', 'sigmoid', 'image', or the two scores that become 0 and 1.

    Raises:
        ValueError: The range is none of these.
    """
    if not isinstance(heat_range, str):
        try:
            low, high = map(float, heat_range)
        except (TypeError, ValueError):
            low, high = math.nan, math.nan
        if not -math.inf < low < high < math.inf:
            raise ValueError('heat_range must be two finite numbers, the smaller one first, '
                             f"or 'auto', 'sigmoid' or 'image', got {heat_range!r}")
        return ScoreScaling('fixed', low, high)
    if heat_range in ('sigmoid', 'image'):
        return ScoreScaling(heat_range)
    if heat_range != 'auto':
        raise ValueError(f"heat_range must be 'auto', 'sigmoid', 'image' or two numbers, got {heat_range!r}")
    if score_range is None:
        return ScoreScaling('image')
    if score_range == 'log_odds':
        return ScoreScaling('sigmoid')
    low, high = (math.log(num_classes) if bound == 'ln C' else float(bound) for bound in score_range)
    return ScoreScaling('fixed', low, high)
