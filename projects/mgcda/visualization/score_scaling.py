# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""From anomaly scores of any unit to the numbers from 0 to 1 that are coloured."""
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

#: Scores that are log-odds of an anomaly.
LOG_ODDS = frozenset({'logit_margin', 'void_class', 'outlier_posterior'})
#: Scores from 0 to 1, and from 0 to ln C of C classes.
UNIT_RANGE = frozenset({'msp', 'margin'})
ENTROPY_RANGE = frozenset({'entropy', 'predictive_entropy', 'expected_entropy'})

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


def scaling_of(scorer: Any | None, num_classes: int, heat_range: HeatRange = 'auto') -> ScoreScaling:
    """The scaling that is asked for, or the one that suits a score.

    By 'auto', log-odds (among them the logit margin of a binary head) pass a sigmoid, scores of a known range keep it
    (0 to 1 of ``msp`` and ``margin``, 0 to ln C of entropies, 0 to the sum of its weights of ``SynBoostEnsemble``), and
    all others are scaled in each image by itself.

    Args:
        scorer: As of ``mgcda.scores``; None is the logit margin.
        num_classes: C.
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
    name = 'logit_margin' if scorer is None else getattr(getattr(scorer, 'function', type(scorer)), '__name__', '')
    if name in LOG_ODDS:
        return ScoreScaling('sigmoid')
    if name in UNIT_RANGE:
        return ScoreScaling('fixed')
    if name in ENTROPY_RANGE:
        return ScoreScaling('fixed', 0., math.log(num_classes))
    if name == 'SynBoostEnsemble':
        return ScoreScaling('fixed', 0., sum(scorer.weights))
    return ScoreScaling('image')
