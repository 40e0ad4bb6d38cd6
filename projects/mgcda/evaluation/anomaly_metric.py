# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import io
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.dist import broadcast_object_list, gather_object, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmseg.registry import METRICS
from prettytable import PrettyTable

from mgcda.files import write_file
from .curves import PixelCurve

#: Name of the benchmark of samples that name none.
DEFAULT_DATASET_NAME = 'anomaly'
#: Benchmark and image path: what makes a sample distinct.
SampleName = Tuple[str, str]


@METRICS.register_module()
class AnomalyMetric(BaseMetric):
    """AP, FPR95 and AUROC of anomaly scores, pooled over the valid pixels of each benchmark.

    Reads of each sample ``anomaly_scores`` (1, H, W), float, larger = more anomalous; ``gt_sem_seg`` (1, H, W) with
    0 normal, 1 anomaly, 255 ignored; ``img_path``; and ``dataset_name``, the benchmark that it counts for. Results are
    keyed by benchmark (``RoadAnomaly/AP``), in percent, unrounded. ``save_best='RoadAnomaly/AP'`` of mmengine's
    CheckpointHook needs ``rule='greater'``, as it cannot tell from the name.

    Pixels are reduced as they come, and curves instead of images are merged across ranks. Every sample must be counted
    once: with several ranks the sampler needs ``round_up=False``.

    Args:
        mode: How :class:`PixelCurve` keeps the pixels.
        output_dir: Folder for the score maps, ``<output_dir>/<dataset_name>/<image stem>.npy``, float32 (H, W).
        keep_results: Whether score maps are left in ``output_dir``; if not, none is written.
        prefix: Put in front of all keys.

    Raises:
        ValueError: If a sample lacks scores or labels, their sizes differ, a value is outside the above, a sample is
            counted twice or not at all, or a benchmark has pixels of one kind only.
    """

    default_prefix = ''

    def __init__(self,
                 mode: str = 'exact',
                 output_dir: Optional[str] = None,
                 keep_results: bool = True,
                 prefix: Optional[str] = None) -> None:
        super().__init__(prefix=prefix)
        PixelCurve(mode)
        self.mode = mode
        self.output_dir = output_dir
        self.keep_results = keep_results
        self._reset()

    def _reset(self) -> None:
        self._curves: Dict[str, PixelCurve] = {}
        self._samples: List[SampleName] = []
        self._seen: set = set()
        self._written: Dict[Path, str] = {}

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Add the pixels of a batch; ``data_samples`` are the model's, as dicts."""
        for sample in data_samples:
            name = sample.get('dataset_name') or DEFAULT_DATASET_NAME
            img_path = str(sample.get('img_path'))
            scores = _map_of(sample, 'anomaly_scores', img_path, 'is the model an anomaly segmentor?')
            labels = _map_of(sample, 'gt_sem_seg', img_path, 'does the test pipeline load annotations?')
            if scores.shape != labels.shape:
                raise ValueError(f'{img_path}: anomaly_scores are {tuple(scores.shape)}, '
                                 f'the label is {tuple(labels.shape)}; scores must have the size of the label')
            if (name, img_path) in self._seen:
                raise ValueError(f'{img_path} was counted twice for {name}')
            try:
                self._curves.setdefault(name, PixelCurve(self.mode)).update(scores, labels)
            except (TypeError, ValueError) as error:
                raise ValueError(f'{img_path}: {error}') from error
            self._seen.add((name, img_path))
            self._samples.append((name, img_path))
            if self.output_dir is not None and self.keep_results:
                self._write(scores, name, img_path)

    def _write(self, scores: torch.Tensor, name: str, img_path: str) -> None:
        """Write a score map under a temporary name first, so that no half a file is ever left."""
        path = Path(self.output_dir, name, f'{Path(img_path).stem}.npy')
        if path in self._written:
            raise ValueError(f'{self._written[path]} and {img_path} would both be written to {path}')
        self._written[path] = img_path
        buffer = io.BytesIO()
        np.save(buffer, scores[0].detach().float().cpu().numpy())
        write_file(path, buffer.getvalue())

    def evaluate(self, size: int) -> Dict[str, float]:
        """Merge all ranks and compute the results, the same on every rank.

        Args:
            size: Number of samples of the test set.
        """
        parts = gather_object((self._curves, self._samples))
        outcome: List[Any] = [None]
        if is_main_process():
            # An error must reach all ranks: one that waits for a result would wait for ever.
            try:
                outcome = [self._evaluate(parts, size)]
            except ValueError as error:
                outcome = [error]
        broadcast_object_list(outcome)
        self._reset()
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    def _evaluate(self, parts: Sequence[tuple], size: int) -> Dict[str, float]:
        _check_samples([sample for _, samples in parts for sample in samples], size)
        curves: Dict[str, PixelCurve] = {}
        for part, _ in parts:
            for name, curve in part.items():
                curves.setdefault(name, PixelCurve(self.mode)).merge(curve)
        metrics = self.compute_metrics(sorted(curves.items()))
        return {f'{self.prefix}/{key}': value for key, value in metrics.items()} if self.prefix else metrics

    def compute_metrics(self, results: Sequence[Tuple[str, PixelCurve]]) -> Dict[str, float]:
        """Results of named curves, and a table of them in the log."""
        metrics: Dict[str, float] = {}
        table: Optional[PrettyTable] = None
        for name, curve in results:
            try:
                values = curve.compute()
            except ValueError as error:
                raise ValueError(f'{name}: {error}') from error
            table = table or PrettyTable(['data set', *values])
            table.add_row([name, *(f'{value:.2f}' for value in values.values())])
            metrics.update({f'{name}/{key}': value for key, value in values.items()})
        print_log(f'Anomaly segmentation, in %\n{table}', logger='current')
        return metrics


def _map_of(sample: dict, key: str, img_path: str, hint: str) -> torch.Tensor:
    """Tensor (1, H, W) of a field of a sample."""
    data = sample.get(key, {}).get('data')
    if data is None:
        raise ValueError(f'{img_path}: the sample has no {key}; {hint}')
    if data.dim() != 3 or data.size(0) != 1:
        raise ValueError(f'{img_path}: {key} must be (1, H, W), got {tuple(data.shape)}')
    return data


def _check_samples(samples: Sequence[SampleName], size: int) -> None:
    """Every sample of the test set must have been counted once."""
    twice = [sample for sample, count in Counter(samples).items() if count > 1]
    if twice:
        name, img_path = twice[0]
        raise ValueError(f'{len(twice)} samples were counted twice, the first is {img_path} of {name}; '
                         'with several ranks the test sampler needs round_up=False')
    if len(samples) != size:
        counts = ', '.join(f'{count} of {name}' for name, count in sorted(Counter(name for name, _ in samples).items()))
        raise ValueError(f'the test set has {size} samples, {len(samples)} were counted ({counts or "none"})')
