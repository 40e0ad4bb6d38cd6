# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""From counted pixels to AP, AUROC, FPR and F1, each with its lower and upper bound.

Pixels come as *steps* of descending score. What is known of the pixels inside a step is one of two things: they all
have the same score (a tie), or nothing, and then every order of them is possible. A value is the same for all orders
up to that of the steps' inside, so the best and the worst inner order bound it.
"""
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Steps(NamedTuple):
    """Consecutive steps of descending score that hold anomaly pixels; arrays (S,), S >= 1.

    ``threshold``: float32, the pixels of this step and all before it are those with a score of at least this.
    ``anomalies``, ``normals``: int64, pixels of the step, at least one anomaly. ``above``: int64, normal pixels of
    higher score than all of the step. ``tied``: bool, whether all pixels of the step have the same score.
    """

    threshold: np.ndarray
    anomalies: np.ndarray
    normals: np.ndarray
    above: np.ndarray
    tied: np.ndarray


class Interval(NamedTuple):
    """A value between certified bounds."""

    lower: float
    value: float
    upper: float


#: Relative error of a float64 sum that bounds allow for, far above what occurs.
ROUNDING = 1e-12
#: Rule -> what it asks of the recall TPR at level r.
FPR_RULES = {
    'reaching': 'the first threshold with TPR >= r',
    'exceeding': 'the first threshold with TPR > r',
    'closest': 'the threshold with the smallest |TPR - r|, the lowest such threshold short of the next anomaly',
}


def summarise(blocks: Iterable[Steps], num_normal: int, num_anomaly: int, recalls: tuple[float, ...],
              fpr_rule: str) -> tuple[dict[str, Interval], float]:
    r"""AP, FPR at each recall, AUROC and the best F1, in percent, and the threshold of the best F1.

    With T anomaly and F normal pixels up to a step, of A and N in all, and a step of a anomaly and n normal pixels:

    .. math::

        AP = \frac{1}{A} \sum a \frac{T}{T + F}, \qquad AUROC = \frac{1}{AN} \sum a (N - F + n / 2), \qquad
        F1 = \max \frac{2T}{T + F + A}

    for ties. For a step of unknown order, the term of AP lies between the order "normal pixels first, anomalies one by
    one" and "anomalies first, all at once":

    .. math:: a - F \ln \frac{T + F + 1/2}{T - a + F + 1/2} \;\le\; \cdot \;\le\; a \frac{T}{T + F - n}

    (the sum :math:`\sum_j F / (T - a + F + j)` of the former is at most that integral, as 1/x is convex).

    Args:
        blocks: All steps that hold anomalies, in descending order.
        num_normal, num_anomaly: Pixels of either kind, at least one.
        recalls: Levels r of the true positive rate, in (0, 1).
        fpr_rule: A key of :data:`FPR_RULES`.
    """
    average_precision: tuple[list[float], list[float]] = ([], [])
    wins, undecided = 0, 0
    best_f1, best_f1_upper, best_threshold = -1.0, -1.0, math.inf
    crossings = [_Crossing(_needed(recall, num_anomaly, fpr_rule == 'exceeding')) for recall in recalls]
    found = 0
    for steps in blocks:
        count = steps.anomalies
        after = found + np.cumsum(count)
        before = after - count
        found = int(after[-1])
        end = steps.above + steps.normals
        loose = ~steps.tied
        tie = count * (after / (after + end))
        low, high = tie, tie
        ties = count * steps.normals
        wins += 2 * int(np.sum(count * (num_normal - end))) + int(ties[steps.tied].sum())
        f1 = 2 * after / (after + end + num_anomaly)
        f1_upper = f1
        if loose.any():
            low = np.where(loose, count - end * np.log1p(count / (before + end + 0.5)), tie)
            high = np.where(loose, count * (after / (after + steps.above)), tie)
            undecided += 2 * int(ties[loose].sum())
            f1_upper = np.where(loose, 2 * after / (after + steps.above + num_anomaly), f1)
        for sums, terms in zip(average_precision, (low, high)):
            sums.append(float(np.sum(terms)))
        at = int(np.argmax(f1))
        if f1[at] > best_f1:
            best_f1, best_threshold = float(f1[at]), float(steps.threshold[at])
        best_f1_upper = max(best_f1_upper, float(f1_upper.max()))
        for crossing in crossings:
            crossing.feed(steps, before, after)

    ap_low, ap_high = (100 * math.fsum(sums) / num_anomaly for sums in average_precision)
    pairs = 2 * num_normal * num_anomaly
    # Sums of float64 may err by their rounding; all other bounds are quotients of integers, and exact.
    results = dict(AP=Interval(ap_low * (1 - ROUNDING), (ap_low + ap_high) / 2, min(ap_high * (1 + ROUNDING), 100.0)))
    for recall, crossing in zip(recalls, crossings):
        false_positives = crossing.false_positives(recall, num_anomaly, fpr_rule == 'closest')
        results[fpr_key(recall)] = Interval(*(100 * count / num_normal for count in false_positives))
    results['AUROC'] = Interval(100 * (wins / pairs), 100 * ((2 * wins + undecided) / (2 * pairs)),
                                100 * ((wins + undecided) / pairs))
    results['F1'] = Interval(100 * best_f1, 100 * best_f1, 100 * best_f1_upper)
    return results, best_threshold


def fpr_key(recall: float) -> str:
    """Name of the false positive rate at a recall: 'FPR95' at 0.95."""
    return f'FPR{100 * recall:.6g}'


def sample_curve(blocks: Iterable[Steps], num_normal: int, num_anomaly: int, max_points: int) -> dict[str, np.ndarray]:
    """At most about ``2 * max_points`` points of the curves, evenly over recall and false positive rate.

    Returns:
        dict: ``threshold``, descending, and ``recall``, ``precision``, ``fpr`` in [0, 1], of the pixels with a score of
        at least the threshold; float64 (P,).
    """
    parts, found, last_cell = [], 0, np.array([[-1, -1]])
    for steps in blocks:
        after = found + np.cumsum(steps.anomalies)
        found = int(after[-1])
        end = steps.above + steps.normals
        recall, fpr = after / num_anomaly, end / num_normal
        cells = np.concatenate([last_cell, np.stack([recall, fpr], 1) * max_points // 1])
        kept = (cells[1:] != cells[:-1]).any(1)
        kept[-1] |= found == num_anomaly
        last_cell = cells[-1:]
        points = np.stack([steps.threshold.astype(np.float64), recall, after / (after + end), fpr])
        parts.append(points[:, kept])
    return dict(zip(('threshold', 'recall', 'precision', 'fpr'), np.concatenate(parts, 1)))


def _needed(recall: float, num_anomaly: int, strictly: bool) -> int:
    """Fewest anomaly pixels whose share of all, as a float, is at least (``strictly``: more than) the recall."""

    def enough(count: int) -> bool:
        return count / num_anomaly > recall if strictly else count / num_anomaly >= recall

    count = int(recall * num_anomaly)
    while count > 0 and enough(count - 1):
        count -= 1
    while not enough(count):
        count += 1
    return count


class _Crossing:
    """The step in which a number of found anomaly pixels is reached, and the one after it."""

    def __init__(self, needed: int) -> None:
        self.needed = needed
        self.step: dict[str, int] | None = None
        self.next: dict[str, int] | None = None

    def feed(self, steps: Steps, before: np.ndarray, after: np.ndarray) -> None:
        """Look at the next block of steps."""
        index = 0
        if self.step is None:
            index = int(np.searchsorted(after, self.needed))
            if index == len(after):
                return
            self.step = _step(steps, before, index)
            index += 1
        if self.next is None and index < len(after):
            self.next = _step(steps, before, index)

    def false_positives(self, recall: float, num_anomaly: int, closest: bool) -> Interval:
        """Normal pixels that are taken for anomalies at the recall."""
        step, following = self.step, self.next
        low, high = step['above'], step['above'] + step['normals']
        inside = low + step['normals'] * (self.needed - step['before']) / step['anomalies']
        if not closest:
            return Interval(high, high, high) if step['tied'] else Interval(low, inside, high)
        # Between two anomalies, the threshold goes down to just above the lower one; the last is taken as it is.
        until, at_most = high, high
        if following is not None:
            until = following['above']
            at_most = until if following['tied'] else until + following['normals']
        if not step['tied']:
            return Interval(low, inside, at_most)
        reached = (step['before'] + step['anomalies']) / num_anomaly
        below = step['before'] / num_anomaly
        if (step['before'] or low) and abs(below - recall) < abs(reached - recall):
            return Interval(low, low, low)
        return Interval(until, (until + at_most) / 2, at_most)


def _step(steps: Steps, before: np.ndarray, index: int) -> dict[str, int]:
    """One step as numbers."""
    return dict(
        before=int(before[index]),
        anomalies=int(steps.anomalies[index]),
        normals=int(steps.normals[index]),
        above=int(steps.above[index]),
        tied=bool(steps.tied[index]))
