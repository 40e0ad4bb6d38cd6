# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Semantic maps with objects of a wrong class, the training data of Image Resynthesis and of SynBoost.

A discrepancy network needs pairs of an image and a resynthesis that disagree somewhere. "Detecting the Unexpected via
Image Resynthesis" (Lis et al., ICCV 2019) gives a random half of the objects in the ground truth another class and
makes the resynthesis from that. "Pixel-wise Anomaly Detection in Complex Driving Scenes" (SynBoost, Di Biase et al.,
CVPR 2021) does so to any part of the objects, mostly to frequent classes, and counts void pixels as anomalies, too.
"""
import hashlib
from collections.abc import Sequence

import cv2
import numpy as np

from mgcda.labels import ANOMALY, IGNORE, NORMAL, NUM_CITYSCAPES_CLASSES, UNKNOWN_TRAIN_ID

#: Label ids of Cityscapes whose objects are told apart in ``instanceIds`` and that have a train id: person, rider, car,
#: truck, bus, train, motorcycle, bicycle.
THING_LABEL_IDS = (24, 25, 26, 27, 28, 31, 32, 33)
#: How often SynBoost's public code draws each class for a swapped object, by train id: of the classes other than the
#: object's own, car seven times, road and person three times as often as most; pole, traffic light, sky, train never.
SYNBOOST_CLASS_WEIGHTS = (3, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0, 3, 1, 7, 1, 1, 0, 1, 1)


def name_generator(seed: int, name: str) -> np.random.Generator:
    """Generator whose numbers depend on the seed and the name of a sample alone."""
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], 'little')])


def find_instances(label_ids: np.ndarray, instance_ids: np.ndarray | None = None, min_area: int = 0) -> np.ndarray:
    """Number the objects of the thing classes.

    Args:
        label_ids: (H, W), label ids of Cityscapes (``*_gtFine_labelIds.png``).
        instance_ids: (H, W), ``1000 * label id + number`` where objects are told apart (``*_gtFine_instanceIds.png``);
            groups of objects, which hold a label id alone, do not count. None takes the connected components of a
            class, 8-connected, as its objects: those that touch are one.
        min_area: smaller objects are left out, pixels.

    Returns:
        (H, W) int32: 0 = no object, else 1, 2, ... in the order of the objects' first pixels, row by row; hence the
        same objects have the same numbers wherever they come from.

    Raises:
        ValueError: the two maps differ in size.
    """
    if instance_ids is None:
        found = _components(label_ids)
    elif instance_ids.shape != label_ids.shape:
        raise ValueError(f'instance ids of the size {instance_ids.shape} do not fit label ids of {label_ids.shape}')
    else:
        found = np.where(np.isin(instance_ids // 1000, THING_LABEL_IDS), instance_ids, 0)
    values, first, inverse, areas = np.unique(found, return_index=True, return_inverse=True, return_counts=True)
    kept = np.flatnonzero((values > 0) & (areas >= min_area))
    numbers = np.zeros(len(values), np.int32)
    numbers[kept[np.argsort(first[kept])]] = np.arange(1, len(kept) + 1)
    return numbers[inverse].reshape(label_ids.shape)


def _components(label_ids: np.ndarray) -> np.ndarray:
    """Connected components of each thing class, numbered from 1 over all of them; (H, W) int32."""
    found, count = np.zeros(label_ids.shape, np.int32), 0
    for thing in np.intersect1d(label_ids, THING_LABEL_IDS):
        num_labels, components = cv2.connectedComponents((label_ids == thing).astype(np.uint8), connectivity=8)
        found[components > 0] = components[components > 0] + count
        count += num_labels - 1
    return found


def swap_classes(train_ids: np.ndarray,
                 instances: np.ndarray,
                 fraction: float,
                 rng: np.random.Generator,
                 weights: Sequence[float] | None = None) -> np.ndarray:
    """Give a part of the objects another class.

    Args:
        train_ids: (H, W) uint8, train ids, 255 = unknown.
        instances: (H, W), 0 = no object, else its number, as :func:`find_instances` returns them.
        fraction: of the objects that is swapped, rounded down to a number of objects, in [0, 1].
        rng: draws the objects, without replacement, and for each one of the 18 other classes.
        weights: how likely each of the 19 classes is to be drawn, up to a factor; None: all as likely.

    Returns:
        (H, W) uint8: the train ids with the swapped objects.

    Raises:
        ValueError: there are not 19 weights, or an object has no other class that could be drawn.
    """
    first = np.unique(instances, return_index=True)[1][int((instances == 0).any()):]
    chosen = rng.permutation(len(first))[:int(len(first) * fraction)]
    old = train_ids.reshape(-1)[first[chosen]]
    classes = np.full(len(first) + 1, UNKNOWN_TRAIN_ID, np.uint8)  # of the objects by number; unknown = not swapped
    classes[chosen + 1] = _other_classes(old, rng, weights)
    swapped = classes[instances]
    return np.where(swapped == UNKNOWN_TRAIN_ID, train_ids, swapped)


def _other_classes(old: np.ndarray, rng: np.random.Generator, weights: Sequence[float] | None) -> np.ndarray:
    """A class for each object that is not its ``old`` one, both (K,) train ids."""
    if weights is None:
        new = rng.integers(NUM_CITYSCAPES_CLASSES - 1, size=len(old))
        return new + (new >= old)
    if len(weights) != NUM_CITYSCAPES_CLASSES:
        raise ValueError(f'weights must be {NUM_CITYSCAPES_CLASSES} numbers, one a class, got {len(weights)}')
    share = np.tile(np.asarray(weights, np.float64), (len(old), 1))
    share[np.arange(len(old)), old] = 0
    if (share.sum(1) <= 0).any() or (share < 0).any():
        raise ValueError(f'weights must not be negative, and two of them positive at least, got {tuple(weights)}')
    return np.array([rng.choice(NUM_CITYSCAPES_CLASSES, p=row / row.sum()) for row in share], np.int64)


def swap_target(train_ids: np.ndarray, swapped: np.ndarray, void: np.ndarray | None = None) -> np.ndarray:
    """Target (H, W) uint8 of a swapped map: 1 where the class is wrong, 255 where the true one is unknown, else 0.

    Where ``void`` (H, W), bool, is true, it is 1, too.
    """
    target = np.where(swapped != train_ids, ANOMALY, NORMAL).astype(np.uint8)
    target[train_ids == UNKNOWN_TRAIN_ID] = IGNORE
    if void is not None:
        target[void] = ANOMALY
    return target
