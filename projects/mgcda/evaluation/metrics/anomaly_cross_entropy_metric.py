# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.dist import all_gather_object
from mmengine.evaluator import BaseMetric
from mmseg.registry import METRICS

from mgcda.labels import ANOMALY, NORMAL

from .anomaly_metric import DEFAULT_DATASET_NAME

#: Key of the results; of a name with 'loss' in it MMEngine would log the mean over all validations so far.
KEY = 'cross_entropy'


@METRICS.register_module(name=['AnomalyCrossEntropyMetric', 'AnomalyLoss'])
class AnomalyCrossEntropyMetric(BaseMetric):
    r"""Cross-entropy of the logit margin on test images, for schedules and checkpoints that follow a validation loss.

    With the margin :math:`m` of the anomaly logit over the normal one and the class weights :math:`w_0, w_1`, an image
    has the value

    .. math:: \frac{\sum_p w_{y_p} \ln(1 + e^{-(2 y_p - 1) m_p})}{\sum_p w_{y_p}}

    over the pixels p with label 0 or 1, which is the cross-entropy of a binary segmentor at the original image size.
    Results are means over the images of each benchmark, keyed ``FS_Static/cross_entropy``. Images without such pixels,
    and those whose labels are classes, do not count. Use together with :class:`AnomalyMetric`, which validates samples.
    ``AnomalyLoss``, its former name, is registered too.

    Args:
        class_weight: Weights of normal and anomaly.
        score: Name of the margin among several scores, 'logit_margin'. None: the model has one score, which is the
            margin.
        prefix: Put in front of all keys.

    Raises:
        ValueError: If there are not two weights, or they are not positive; if a sample lacks the score or its labels,
            or no sample counts.
    """

    default_prefix = ''

    def __init__(self,
                 class_weight: Sequence[float] = (1.0, 1.0),
                 score: str | None = None,
                 prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        if len(class_weight) != 2 or min(class_weight) <= 0:
            raise ValueError(f'class_weight must be two positive numbers, of normal and anomaly, got {class_weight}')
        self.class_weight = tuple(class_weight)
        self.score = score

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Add the images of a batch; ``data_samples`` are the model's, as dicts."""
        for sample in data_samples:
            if sample.get('label_classes'):
                continue
            name, img_path = sample.get('dataset_name') or DEFAULT_DATASET_NAME, str(sample.get('img_path'))
            names = tuple(sample.get('score_names') or (None, )) if 'anomaly_scores' in sample else ()
            if self.score not in names or 'gt_sem_seg' not in sample:
                raise ValueError(f'{img_path}: the sample has no labels, or not the score {self.score!r}; it has the '
                                 f'scores {names}')
            margin = sample['anomaly_scores']['data'][names.index(self.score)].float()
            label = sample['gt_sem_seg']['data'][0]
            total = weights = 0.0
            for target, sign, weight in ((NORMAL, 1, self.class_weight[0]), (ANOMALY, -1, self.class_weight[1])):
                chosen = margin[label == target]
                total += weight * F.softplus(sign * chosen).double().sum().item()
                weights += weight * chosen.numel()
            if weights:
                self.results.append((name, img_path, total / weights))

    def evaluate(self, size: int) -> dict[str, float]:
        """Mean of each benchmark over the images of all ranks, the same on every rank."""
        rows = {row[:2]: row[2] for part in all_gather_object(self.results) for row in part}
        self.results.clear()
        return self.compute_metrics([(*key, value) for key, value in sorted(rows.items())])

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Means of rows (benchmark, image, value), by benchmark."""
        if not results:
            raise ValueError('no image has pixels of known labels: there is no cross-entropy')
        by_name: dict[str, list[float]] = {}
        for name, _, value in results:
            by_name.setdefault(name, []).append(value)
        return {
            '/'.join(filter(None, (self.prefix, name, KEY))): sum(values) / len(values)
            for name, values in by_name.items()
        }
