# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import math
from numbers import Integral, Real

import cv2
import numpy as np
import torch

from mgcda.labels import ANOMALY, IGNORE, NORMAL

ArrayLike = np.ndarray | torch.Tensor

#: Values of tau in percent, the ends of the keys ``F1_25`` ... ``F1_75``.
TAU_PERCENTS = tuple(range(25, 80, 5))
#: The float64 values that SMIYC's code compares with. Its 0.60 lies one rounding above 3/5.
TAUS = np.linspace(0.25, 0.75, len(TAU_PERCENTS))


class ComponentCurve:
    r"""sIoU, PPV and F1 of connected components, by the rule of SegmentMeIfYouCan (Chan et al., NeurIPS 2021).

    A pixel is predicted where its score is above the threshold and its label is not 255. Components are 8-connected.
    First predicted components of less than ``min_pred_area`` pixels are dropped, then ground-truth components of less
    than ``min_gt_area`` pixels become void: their pixels leave the predicted components too. Of what is left, with K a
    ground-truth component, P the union of the predicted components that touch K, A all other ground-truth components,
    and Q a predicted component:

    .. math::

        sIoU(K) = \frac{|K \cap P|}{|(K \cup P) \setminus A|}, \qquad
        PPV(Q) = \frac{|Q \cap (K_1 \cup K_2 \cup \dots)|}{|Q|}, \qquad
        F1_\tau = \frac{2 TP}{2 TP + FN + FP}

    with TP the number of K of sIoU >= tau, FN that of sIoU < tau, FP the number of Q of PPV < tau, all over the data
    set. F1 is the mean over tau = 0.25, 0.30, ..., 0.75; sIoU and PPV are means over all components of the data set.

    Per component, two integers are kept (16 bytes), and sums are exact before they are rounded: the result depends
    neither on the order of the updates nor on how they were split and merged.

    Two corners of SMIYC's public code: a value of exactly 3/5 is below its tau of 0.60, whose float64 is
    0.6000000000000001, and it is here. Its size rule also voids what is *no* anomaly if that has less than
    ``min_gt_area`` pixels in an image; here it applies to anomalies only.

    Args:
        threshold: Pixels with a score above it are predicted; compared as float32, like the scores.
        min_pred_area: Size in pixels of the smallest predicted component that counts; SMIYC: 500 for RoadAnomaly21, 50
            for RoadObstacle21 and LostAndFound.
        min_gt_area: Size in pixels of the smallest ground-truth component that counts; SMIYC: 100 and 10.

    Raises:
        TypeError: If the threshold is no number or an area no integer.
        ValueError: If the threshold is NaN or an area negative.

    Example:
        >>> curve = ComponentCurve(threshold=0.5, min_pred_area=1, min_gt_area=1)
        >>> curve.update(np.array([[0.9, 0.8, 0.1, 0.9]]), np.array([[0, 1, 1, 255]]))
        >>> result = curve.compute()  # one of three pixels is found, by a component that is half right
        >>> round(result['sIoU'], 2), result['PPV'], result['F1_25'], result['F1_50']
        (33.33, 50.0, 100.0, 0.0)
    """

    def __init__(self, threshold: float, min_pred_area: int, min_gt_area: int) -> None:
        if not isinstance(threshold, Real) or isinstance(threshold, bool):
            raise TypeError(f'threshold must be a number, got {threshold!r}')
        if math.isnan(threshold):
            raise ValueError('threshold must not be NaN')
        for name, area in (('min_pred_area', min_pred_area), ('min_gt_area', min_gt_area)):
            if not isinstance(area, Integral) or isinstance(area, bool):
                raise TypeError(f'{name} must be an integer, got {area!r}')
            if area < 0:
                raise ValueError(f'{name} must not be negative, got {area}')
        self.threshold = float(threshold)
        self.min_pred_area = int(min_pred_area)
        self.min_gt_area = int(min_gt_area)
        # A frame each: (2, number of components) int64, numerators and denominators of the ratios.
        self._siou: list[np.ndarray] = []
        self._ppv: list[np.ndarray] = []

    @property
    def num_gt(self) -> int:
        """Number of ground-truth components so far."""
        return sum(part.shape[1] for part in self._siou)

    @property
    def num_pred(self) -> int:
        """Number of predicted components so far."""
        return sum(part.shape[1] for part in self._ppv)

    def update(self, scores: ArrayLike, labels: ArrayLike) -> None:
        """Add a frame.

        Args:
            scores: Floats or integers (H, W), larger = more anomalous; compared as float32, infinities allowed.
            labels: Integers or bools (H, W): 0 normal, 1 anomaly, 255 ignored.

        Raises:
            ValueError: If the maps are not (H, W) or their shapes differ, a label is none of 0, 1, 255, or the score of
                a valid pixel is NaN.
            TypeError: If the labels are not integers or the scores not real numbers.
        """
        scores, labels = _to_numpy(scores), _to_numpy(labels)
        if scores.ndim != 2 or scores.shape != labels.shape or not scores.size:
            raise ValueError('scores and labels must be maps (H, W) of the same shape, '
                             f'got {scores.shape} and {labels.shape}')
        if labels.dtype.kind not in 'biu':
            raise TypeError(f'labels must be integers, got {labels.dtype}')
        if scores.dtype.kind not in 'biuf':
            raise TypeError(f'scores must be real numbers, got {scores.dtype}')
        anomaly, ignored = labels == ANOMALY, labels == IGNORE
        if not ((labels == NORMAL) | anomaly | ignored).all():
            unknown = np.setdiff1d(labels, (NORMAL, ANOMALY, IGNORE))[:5].tolist()
            raise ValueError(f'labels must be {NORMAL}, {ANOMALY} or {IGNORE}, got {unknown}')
        with np.errstate(over='ignore'):
            scores, threshold = scores.astype(np.float32, copy=False), np.float32(self.threshold)
        num_nan = np.count_nonzero(np.isnan(scores) & ~ignored)
        if num_nan:
            raise ValueError(f'scores must not be NaN, got {num_nan} NaN at valid pixels')

        pred_ids, num_pred, _ = _components((scores > threshold) & ~ignored, self.min_pred_area)
        gt_ids, num_gt, gt_areas = _components(anomaly, self.min_gt_area)
        valid = (pred_ids > 0) & ((gt_ids > 0) | ~anomaly)
        pred_ids, gt_ids = pred_ids[valid].astype(np.int64), gt_ids[valid].astype(np.int64)
        hit = gt_ids > 0
        pred_areas = np.bincount(pred_ids, minlength=num_pred + 1)
        pred_hits = np.bincount(pred_ids[hit], minlength=num_pred + 1)
        gt_hits = np.bincount(gt_ids[hit], minlength=num_gt + 1)
        # What predicted components have outside the ground truth counts for each component that they touch.
        touching_gt, touching_pred = np.divmod(np.unique(gt_ids[hit] * (num_pred + 1) + pred_ids[hit]), num_pred + 1)
        unions = gt_areas.astype(np.int64)
        np.add.at(unions, touching_gt, (pred_areas - pred_hits)[touching_pred])
        # A predicted component may lie wholly on ground truth that became void.
        left = pred_areas > 0
        self._siou.append(np.stack([gt_hits, unions])[:, 1:])
        self._ppv.append(np.stack([pred_hits, pred_areas])[:, left])

    def merge(self, other: 'ComponentCurve') -> None:
        """Add all components of another curve of the same settings, which stays as it is."""
        if not isinstance(other, ComponentCurve):
            raise TypeError(f'other must be a ComponentCurve, got {type(other).__name__}')
        for name in ('threshold', 'min_pred_area', 'min_gt_area'):
            if getattr(other, name) != getattr(self, name):
                raise ValueError(f'curves of different {name} cannot be merged: '
                                 f'{getattr(self, name)} and {getattr(other, name)}')
        siou, ppv = list(other._siou), list(other._ppv)
        self._siou += siou
        self._ppv += ppv

    def compute(self) -> dict[str, float]:
        """sIoU, PPV, F1 and F1_25, F1_30, ..., F1_75 in percent, unrounded.

        What is undefined is NaN: sIoU without ground-truth components, PPV without predicted components (as where
        nothing is predicted; F1 is 0 then), and F1 where there are neither.
        """
        siou, ppv = _ratios(self._siou), _ratios(self._ppv)
        f1 = []
        for tau in TAUS:
            num_tp = int(np.sum(siou >= tau))
            num_errors = int(np.sum(siou < tau)) + int(np.sum(ppv < tau))
            f1.append(200 * num_tp / (2 * num_tp + num_errors) if num_tp + num_errors else math.nan)
        return dict(
            sIoU=100 * _mean(siou),
            PPV=100 * _mean(ppv),
            F1=_mean(f1),
            **{
                f'F1_{percent}': value
                for percent, value in zip(TAU_PERCENTS, f1)
            })


def _components(mask: np.ndarray, min_area: int) -> tuple[np.ndarray, int, np.ndarray]:
    """Ids (H, W) from 1 on of the 8-connected components of at least ``min_area``, their number, and areas by id."""
    num_ids, ids, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= min_area
    kept[0] = False
    new_ids = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    areas = np.concatenate([[0], stats[kept, cv2.CC_STAT_AREA]])
    return new_ids[ids], len(areas) - 1, areas


def _ratios(parts: list[np.ndarray]) -> np.ndarray:
    """Quotients (number of components,) float64."""
    if not parts:
        return np.zeros(0)
    numerators, denominators = np.concatenate(parts, axis=1)
    return numerators / denominators


def _mean(values: np.ndarray | list[float]) -> float:
    """Mean of a sum that is exact before it is rounded; NaN without values."""
    return math.fsum(values) / len(values) if len(values) else math.nan


def _to_numpy(values: ArrayLike) -> np.ndarray:
    """Array on the CPU; bfloat16, which NumPy lacks, becomes float32."""
    if isinstance(values, torch.Tensor):
        values = values.detach()
        if values.dtype == torch.bfloat16:
            values = values.float()
        return values.cpu().numpy()
    return np.asarray(values)
