# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.dist import all_gather_object, all_reduce
from mmseg.evaluation import IoUMetric
from torch import Tensor

from mgcda.labels import IGNORE

METRICS = ('mIoU', 'mAcc', 'aAcc')
# Pixels that are counted together: IoUMetric counts in float32, which is exact up to here.
_BLOCK = 2**24


class SegmentationQuality:
    """Mean IoU and accuracies of predicted classes, pooled over the images of each data set.

    Areas are counted and divided by MMSegmentation's ``IoUMetric``, but summed up as integers, so that the order of the
    images and the number of processes do not matter. Classes that neither labels nor predictions have do not count.
    """

    def __init__(self) -> None:
        self._classes: dict[str, tuple[str, ...]] = {}
        self._areas: dict[str, Tensor] = {}

    def count(self, name: str, sample: dict, labels: Tensor) -> None:
        """Add an image of a data set.

        Args:
            name: Data set.
            sample: Its ``label_classes`` name the classes; its ``pred_sem_seg`` is (1, H, W), and ``seg_logits``, where
                it has any, (C, H, W).
            labels: (1, H, W), indices of classes, or 255, which is ignored.

        Raises:
            ValueError: If the model predicts other classes, or a label is none of them.
        """
        classes = tuple(sample['label_classes'])
        predictions = sample['pred_sem_seg']['data']
        logits = sample.get('seg_logits', {}).get('data')
        num_predicted = len(logits) if logits is not None else max(len(classes), int(predictions.max()) + 1)
        if num_predicted != len(classes):
            hint = ', normal and anomaly' if num_predicted == 2 else ''
            raise ValueError(f'{name} has labels of {len(classes)} classes, but the model predicts '
                             f'{num_predicted}{hint}: its mIoU is not defined; leave {name} out')
        unknown = labels[(labels < 0) | (labels >= len(classes)) & (labels != IGNORE)].unique()
        if unknown.numel():
            raise ValueError(f'labels of {name} must be 0..{len(classes) - 1} or {IGNORE}, got {unknown.tolist()}')
        if self._classes.setdefault(name, classes) != classes:
            raise ValueError(f'images of {name} before it have labels of other classes')
        blocks = zip(predictions.flatten().split(_BLOCK), labels.to(predictions).flatten().split(_BLOCK))
        areas = sum(torch.stack(IoUMetric.intersect_and_union(*block, len(classes), IGNORE)).long() for block in blocks)
        self._areas[name] = self._areas[name] + areas if name in self._areas else areas

    def compute(self) -> dict[str, dict]:
        """Values of all ranks together, by data set, the same on every rank.

        Returns:
            Data set -> ``num_pixels``, those with a label; ``metrics`` (``mIoU``, ``mAcc``, ``aAcc``) and ``IoU``
            (class -> value), in percent; NaN is the IoU of a class that does not occur.

        Raises:
            ValueError: If a data set has no labelled pixel.
        """
        classes: dict[str, tuple[str, ...]] = {}
        for of_rank in all_gather_object(self._classes):
            classes.update(of_rank)
        results = {}
        for name in sorted(classes):
            areas = torch.zeros(4, len(classes[name]), dtype=torch.int64)
            if name in self._areas:
                areas += self._areas[name]
            all_reduce(areas)
            results[name] = _values(name, classes[name], areas)
        return results


def _values(name: str, classes: Sequence[str], areas: Tensor) -> dict:
    """Values of areas (4, C): intersections, unions, predictions, labels."""
    if not areas[3].any():
        raise ValueError(f'{name}: not one pixel of its labels has a class, so that its mIoU is not defined')
    ratios = IoUMetric.total_area_to_metrics(*areas.double())
    means = (np.nanmean(ratios['IoU']), np.nanmean(ratios['Acc']), ratios['aAcc'])
    return dict(
        num_pixels=int(areas[3].sum()),
        metrics={
            metric: 100 * float(value)
            for metric, value in zip(METRICS, means)
        },
        IoU={
            label: 100 * float(value)
            for label, value in zip(classes, ratios['IoU'])
        })
