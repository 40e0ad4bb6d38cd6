# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from .operating_points import Steps

#: Quantiles of the anomaly pixels of a frame, and as many of its normal pixels, that are its thresholds.
NUM_QUANTILES = 384


class FrameQuantiles:
    """Pixels counted between quantiles of their own frame, as SegmentMeIfYouCan's benchmark code of 2023-08 does.

    Scores are rounded to float16. The thresholds of a frame are 384 quantiles of its anomaly pixels, 384 of its normal
    pixels, and one below and one above all of them; pixels of all frames are pooled over the thresholds of all frames.
    Some 12 kB a frame. Departures: equal thresholds of several frames always count together, while the public code
    leaves out the highest one, so that its AP depends there on the order of the frames; and the outer thresholds lie
    outside of all scores also where float16 cannot tell them apart.
    """

    def __init__(self) -> None:
        self._frames: list[np.ndarray] = []  # (3, T): threshold, anomaly pixels and normal pixels from it to the next

    @property
    def num_normal(self) -> int:
        return int(sum(frame[2].sum() for frame in self._frames))

    @property
    def num_anomaly(self) -> int:
        return int(sum(frame[1].sum() for frame in self._frames))

    def add(self, normal: Tensor, anomaly: Tensor) -> None:
        """Add the pixels of one frame by their scores, float32 (P,) and (Q,), without NaN.

        Raises:
            ValueError: If a score is outside the range of float16.
        """
        with np.errstate(over='ignore'):
            kinds = [scores.cpu().numpy().astype(np.float16) for scores in (anomaly, normal)]
        scores = np.concatenate(kinds)
        if not scores.size:
            return
        low, high = float(scores.min()), float(scores.max())
        if not np.isfinite(low) or not np.isfinite(high):
            raise ValueError("protocol 'smiyc' compares scores in float16: they must lie in [-65504, 65504]")
        edges = [np.array([low - 1, high + 1])]
        edges += [np.quantile(kind, np.linspace(0, 1, min(NUM_QUANTILES, kind.size))) for kind in kinds if kind.size]
        edges = np.unique(np.concatenate(edges))
        anomalies, normals = (np.histogram(kind, edges)[0] for kind in kinds)
        self._frames.append(np.stack([edges[:-1].astype(np.float64), anomalies, normals]))

    def merge(self, other: 'FrameQuantiles') -> None:
        """Add the frames of another, which stays as it is."""
        self._frames += list(other._frames)

    def steps(self) -> Iterator[Steps]:
        """The thresholds of all frames that let anomaly pixels in, descending."""
        frames = np.concatenate(self._frames, 1)
        thresholds, inverse = np.unique(frames[0], return_inverse=True)
        anomalies, normals = (np.bincount(inverse, counts).astype(np.int64)[::-1] for counts in frames[1:])
        above = np.cumsum(normals) - normals
        kept = anomalies > 0
        yield Steps(thresholds[::-1][kept], anomalies[kept], normals[kept], above[kept], np.ones(kept.sum(), bool))
