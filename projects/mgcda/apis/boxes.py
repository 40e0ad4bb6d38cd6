# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Boxes of what a score map says is anomalous."""
from typing import Any

import cv2
import numpy as np
from scipy import ndimage

from mgcda.labels import CITYSCAPES_CLASSES

_ROAD = CITYSCAPES_CLASSES.index('road')


def find_boxes(scores: np.ndarray,
               threshold: float,
               min_area: int = 1,
               near: np.ndarray | None = None) -> list[dict[str, Any]]:
    """8-connected components of the pixels above a threshold, those of the largest scores first.

    Args:
        scores: float32 (H, W), larger = more anomalous.
        threshold: Pixels with a score above it count, compared as float32.
        min_area: Size in pixels of the smallest component that counts.
        near: Bool (H, W); only components with one of these pixels count.

    Returns:
        list: For each component a dict of numbers, as JSON holds them: ``box`` [x, y, width, height], its upper left
        pixel and size; ``area`` in pixels; ``mean_score`` and ``max_score`` over its pixels.
    """
    num_ids, ids, stats, _ = cv2.connectedComponentsWithStats(
        (scores > np.float32(threshold)).astype(np.uint8), connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= min_area
    kept[0] = False
    if near is not None:
        kept &= np.bincount(ids[near], minlength=num_ids) > 0
    numbers = np.flatnonzero(kept)
    if not numbers.size:
        return []
    inside = ids > 0  # few pixels, which the maxima are sorted for
    values, components = scores[inside], ids[inside]
    means, maxima = (measure(values, components, numbers) for measure in (ndimage.mean, ndimage.maximum))
    boxes = [
        dict(
            box=stats[number, [cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP, cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].tolist(),
            area=int(stats[number, cv2.CC_STAT_AREA]),
            mean_score=float(mean),
            max_score=float(maximum)) for number, mean, maximum in zip(numbers, means, maxima)
    ]
    return sorted(boxes, key=lambda box: -box['max_score'])


def near_road(segmentation: np.ndarray) -> np.ndarray:
    """Bool (H, W): predicted road, and what lies within a hundredth of the image's height of it.

    ``segmentation``: Cityscapes train ids (H, W).
    """
    reach = max(round(segmentation.shape[0] / 100), 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.dilate((segmentation == _ROAD).astype(np.uint8), kernel) > 0
