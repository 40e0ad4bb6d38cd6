# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import csv
import io
import logging
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import torch
from mmengine.dist import all_gather_object, all_reduce, broadcast_object_list, gather_object, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmseg.registry import METRICS
from prettytable import PrettyTable
from torch import Tensor
from torch.nn import functional as F

from mgcda.files import write_file
from mgcda.labels import ANOMALY, IGNORE, NORMAL

from .components import ComponentCurve
from .curves import PixelCurve
from .results import write_results
from .score_maps import KeptFrames, ScoreMapFolder

#: Name of the benchmark of samples that name none.
DEFAULT_DATASET_NAME = 'anomaly'
#: Least sizes, in pixels, of predicted and of ground-truth components: those of SegmentMeIfYouCan's anomaly track ...
ANOMALY_TRACK = dict(min_pred_area=500, min_gt_area=100)
#: ... and of its obstacle track.
OBSTACLE_TRACK = dict(min_pred_area=50, min_gt_area=10)
#: Sizes by data set; SegmentMeIfYouCan's own but for RoadAnomaly and FS_Static, which it does not evaluate.
COMPONENT_SIZES = dict(
    RoadAnomaly21=ANOMALY_TRACK,
    RoadAnomaly=ANOMALY_TRACK,
    FS_LostAndFound=ANOMALY_TRACK,
    FS_Static=ANOMALY_TRACK,
    RoadObstacle21=OBSTACLE_TRACK,
    LostAndFound_test=OBSTACLE_TRACK,
    LostAndFound_testNoKnown=OBSTACLE_TRACK)
#: Benchmark and image path: what makes a sample distinct.
SampleName = Tuple[str, str]


@METRICS.register_module()
class AnomalyMetric(BaseMetric):
    """AP, FPR95, AUROC and F1 of anomaly scores, pooled over the valid pixels of each benchmark; component metrics.

    Reads of each sample ``anomaly_scores`` (1, H, W), float, larger = more anomalous; ``gt_sem_seg`` (1, H, W) with
    0 normal, 1 anomaly, 255 ignored; ``img_path``; and ``dataset_name``, the benchmark that it counts for. Results are
    keyed by benchmark (``RoadAnomaly/AP``), in percent, unrounded. ``save_best='RoadAnomaly/AP'`` of mmengine's
    CheckpointHook needs ``rule='greater'``, as it cannot tell from the name.

    Pixels are reduced as they come, on the device where the scores are, and histograms instead of images are merged
    across ranks. Every sample must be counted once: with several ranks the sampler needs ``round_up=False``.

    Args:
        mode: How pixels are kept, 'streaming' or 'exact'; see :class:`PixelCurve`.
        protocol: Whose rules count, 'fishyscapes', 'smiyc', 'rba', 'densehybrid' or 'pebal'; see :class:`PixelCurve`.
        recalls: Levels of recall at which the false positive rate is read.
        components: Whether to add ``sIoU``, ``PPV`` and ``component_F1`` (the mean, and at each tau as
            ``component_F1_25`` ...). True takes the sizes of :data:`COMPONENT_SIZES`; a dict names data sets with
            ``dict(min_pred_area=..., min_gt_area=...)`` and, if wanted, a ``threshold``. Without one the threshold is
            that of the best pixel F1 of the data set, SegmentMeIfYouCan's rule: then scores are kept in a temporary
            folder for a second pass, some 4 bytes a pixel (see :class:`KeptFrames`).
        per_image: Whether to write the values of each image to ``<output_dir>/per_image.csv``; they are empty where an
            image has pixels of one kind only. Benchmarks pool pixels: a mean over images is another quantity.
        size: (height, width) that scores (bilinear) and labels (nearest) are brought to before anything is counted, as in
            SynBoost's own evaluation at (256, 512). Results are then keyed ``RoadAnomaly@256x512/AP``, since they cannot
            be compared with those at full size.
        ood_index: Label value or values that are anomalies, where labels are class indices instead of 0, 1, 255; all
            others are normal but for ``ignore_index``.
        ignore_index: Label value or values that are ignored.
        format_only: Write score maps and score nothing, as for images whose labels are hidden.
        output_dir: Folder for the score maps, ``<output_dir>/<dataset_name>/<image stem>.npy`` (H, W), and for
            ``results.json`` (values with their bounds, and curves).
        keep_results: Whether anything is left in ``output_dir``; if not, nothing is written.
        score_dtype: Type of the score maps, 'float32' or 'float16'; None: no maps, only results.
        prefix: Put in front of all keys.

    Raises:
        ValueError: If an argument is wrong; if a sample lacks scores or labels, their sizes differ, a value is outside
            the above, its labels are hidden, or it is counted twice or not at all; if a benchmark has pixels of one
            kind only.
    """

    default_prefix = ''

    def __init__(self,
                 mode: str = 'streaming',
                 protocol: str = 'fishyscapes',
                 recalls: Sequence[float] = (0.95, ),
                 components: Union[bool, Dict[str, dict], None] = None,
                 per_image: bool = False,
                 size: Optional[Tuple[int, int]] = None,
                 ood_index: Union[int, Sequence[int], None] = None,
                 ignore_index: Union[int, Sequence[int]] = IGNORE,
                 format_only: bool = False,
                 output_dir: Optional[str] = None,
                 keep_results: bool = True,
                 score_dtype: Optional[str] = 'float32',
                 prefix: Optional[str] = None) -> None:
        super().__init__(prefix=prefix)
        PixelCurve(mode, protocol, recalls)
        self.mode, self.protocol, self.recalls = mode, protocol, tuple(recalls)
        self.components = COMPONENT_SIZES if components is True else components or {}
        for name, settings in self.components.items():
            _check_component_settings(name, settings)
        self.size = None if size is None else tuple(size)
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise ValueError(f'size must be (height, width), got {size!r}')
        if self.size is not None and self.components:
            raise ValueError('component metrics count pixels at full size: leave out size or components')
        self.output_dir = output_dir if keep_results else None
        if score_dtype is not None:
            ScoreMapFolder('', score_dtype)
        self.score_dtype = score_dtype
        if (format_only or per_image) and self.output_dir is None:
            raise ValueError(f'{"format_only" if format_only else "per_image"} needs an output_dir, and keep_results')
        if format_only and score_dtype is None:
            raise ValueError('format_only needs a score_dtype: without score maps nothing would be written')
        self.all_components = components is True
        self.per_image = per_image
        self.format_only = format_only
        self.ood_index = _values(ood_index)
        self.ignore_index = _values(ignore_index)
        self._reset()

    def _reset(self) -> None:
        self._curves: Dict[str, PixelCurve] = {}
        self._component_curves: Dict[str, ComponentCurve] = {}
        self._kept = KeptFrames() if self.components else None
        self._samples: List[SampleName] = []
        self._seen: set = set()
        self._image_rows: List[dict] = []
        keeps_maps = self.output_dir is not None and self.score_dtype is not None
        self._maps = ScoreMapFolder(self.output_dir, self.score_dtype) if keeps_maps else None

    # Samples

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Add the pixels of a batch; ``data_samples`` are the model's, as dicts."""
        for sample in data_samples:
            name = sample.get('dataset_name') or DEFAULT_DATASET_NAME
            img_path = str(sample.get('img_path'))
            if (name, img_path) in self._seen:
                raise ValueError(f'{img_path} was counted twice for {name}')
            scores = _map_of(sample, 'anomaly_scores', img_path, 'is the model an anomaly segmentor?')
            if not self.format_only:
                labels = self._labels_of(sample, scores, name, img_path)
                try:
                    self._count(name, img_path, scores, labels)
                except (TypeError, ValueError) as error:
                    raise ValueError(f'{img_path}: {error}') from error
            self._seen.add((name, img_path))
            self._samples.append((name, img_path))
            if self._maps is not None:
                self._maps.write(scores, name, img_path)

    def _labels_of(self, sample: dict, scores: Tensor, name: str, img_path: str) -> Tensor:
        """Labels (1, H, W) of 0, 1, 255, of the size of the scores."""
        if sample.get('labels_hidden'):
            raise ValueError(f'{img_path}: the labels of this split of {name} are hidden, it must not be scored here; '
                             'write its score maps with format_only=True and submit them to the benchmark')
        labels = _map_of(sample, 'gt_sem_seg', img_path, 'does the test pipeline load annotations?')
        if scores.shape != labels.shape:
            raise ValueError(f'{img_path}: anomaly_scores are {tuple(scores.shape)}, '
                             f'the label is {tuple(labels.shape)}; scores must have the size of the label')
        if self.ood_index is not None:
            target = torch.isin(labels, self.ood_index.to(labels)).to(labels) * (ANOMALY - NORMAL) + NORMAL
        elif self.ignore_index.tolist() != [IGNORE]:
            target = labels.clone()
        else:
            return labels
        target[torch.isin(labels, self.ignore_index.to(labels))] = IGNORE
        return target

    def _count(self, name: str, img_path: str, scores: Tensor, labels: Tensor) -> None:
        """Add the pixels of a sample to all that is asked for."""
        if self.size is not None:
            name = f'{name}@{self.size[0]}x{self.size[1]}'
            scores = F.interpolate(scores[None].float(), self.size, mode='bilinear', align_corners=False)[0]
            labels = F.interpolate(labels[None].double(), self.size, mode='nearest-exact')[0].to(labels)
        if name not in self._curves:
            self._curves[name] = self._new_curve()
        self._curves[name].update(scores, labels)
        if self.all_components and name not in self.components:
            raise ValueError(f'components=True knows the sizes of {", ".join(self.components)}, not of {name}; use '
                             f'components={{{name!r}: dict(min_pred_area=500, min_gt_area=100)}}')
        if name in self.components:
            settings = self.components[name]
            if settings.get('threshold') is None:
                self._kept.keep(name, scores[0], labels[0])
            else:
                self._component_curves.setdefault(name, ComponentCurve(**settings)).update(scores[0], labels[0])
        if self.per_image:
            self._image_rows.append(self._values_of_image(name, img_path, scores, labels))

    def _new_curve(self, mode: Optional[str] = None) -> PixelCurve:
        return PixelCurve(mode or self.mode, self.protocol, self.recalls)

    def _values_of_image(self, name: str, img_path: str, scores: Tensor, labels: Tensor) -> dict:
        """A row of ``per_image.csv``."""
        curve = self._new_curve('exact')
        curve.update(scores, labels)
        row = dict(data_set=name, img_path=img_path, num_normal=curve.num_normal, num_anomaly=curve.num_anomaly)
        return {**row, **(curve.compute() if curve.num_normal and curve.num_anomaly else {})}

    # Results

    def evaluate(self, size: int) -> Dict[str, float]:
        """Merge all ranks and compute the results, the same on every rank.

        Args:
            size: Number of samples of the test set.
        """
        try:
            return self._evaluate(size)
        finally:
            self._reset()

    def _evaluate(self, size: int) -> Dict[str, float]:
        samples = gather_object(self._samples)
        _on_main(lambda: _check_samples([name for part in samples for name in part], size))
        if self.format_only:
            return {}
        curves = self._merged_curves()
        values = _on_main(lambda: {name: _compute(name, curve) for name, curve in curves.items()})
        components = self._merged_components({name: result['F1_threshold'] for name, result in values.items()})
        image_rows = gather_object(self._image_rows)

        def finish() -> Dict[str, float]:
            for name, curve in components.items():
                values[name].update({key if key in ('sIoU', 'PPV') else f'component_{key}': value
                                     for key, value in curve.compute().items()})
            print_log(f'Anomaly segmentation, in %\n{_table(values)}', logger='current')
            if self.output_dir is not None:
                self._write_results(values, curves, [name for part in samples for name, _ in part])
            if self.per_image:
                self._write_image_rows([row for part in image_rows for row in part])
            keys = {name: [key for key in result if not _is_bound(key)] for name, result in values.items()}
            return {f'{name}/{key}': values[name][key] for name in values for key in keys[name]}

        metrics = _on_main(finish)
        return {f'{self.prefix}/{key}': value for key, value in metrics.items()} if self.prefix else metrics

    def compute_metrics(self, results: list) -> Dict[str, float]:
        """Not used: :meth:`evaluate` merges curves, not lists of results."""
        raise NotImplementedError('AnomalyMetric.evaluate computes the metrics')

    def _merged_curves(self) -> Dict[str, PixelCurve]:
        """Curves of all ranks together, by benchmark; complete on the main process."""
        names = sorted(set().union(*all_gather_object(list(self._curves))))
        merged = {}
        for name in names:
            curve = self._curves.pop(name, None) or self._new_curve()
            if curve.reducible:
                curve.reduce(all_reduce)
                merged[name] = curve
            else:
                merged.update(_gathered(name, curve))
        return merged

    def _merged_components(self, thresholds: Dict[str, float]) -> Dict[str, ComponentCurve]:
        """Component curves of all ranks together, by benchmark; on the main process."""
        merged: Dict[str, ComponentCurve] = {}
        for name in thresholds:
            if name not in self.components:
                continue
            curve = self._component_curves.get(name)
            if curve is None:
                curve = ComponentCurve(**{'threshold': thresholds[name], **_without_none(self.components[name])})
                for scores, labels in self._kept.frames(name):
                    curve.update(scores, labels)
            merged.update(_gathered(name, curve))
        return merged

    def _write_results(self, values: Dict[str, dict], curves: Dict[str, PixelCurve], names: List[str]) -> None:
        """Write ``results.json``."""
        num_images = Counter(names)
        data_sets = {
            name: dict(
                num_images=num_images[name.split('@')[0]],
                num_normal=curve.num_normal,
                num_anomaly=curve.num_anomaly,
                metrics=values[name],
                curve=curve.curve())
            for name, curve in curves.items()
        }
        write_results(
            Path(self.output_dir, 'results.json'), dict(protocol=self.protocol, mode=self.mode, data_sets=data_sets))

    def _write_image_rows(self, rows: List[dict]) -> None:
        """Write ``per_image.csv``, sorted."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        buffer = io.StringIO(newline='')
        writer = csv.DictWriter(buffer, columns, lineterminator='\n')
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: (row['data_set'], row['img_path'])))
        write_file(Path(self.output_dir, 'per_image.csv'), buffer.getvalue().encode())


def _on_main(function: Callable[[], Any]) -> Any:
    """Result of a function of the main process, on all of them.

    An error is raised on all of them, too: one that waits for a result would wait for ever.
    """
    outcome: List[Any] = [None]
    if is_main_process():
        try:
            outcome = [function()]
        except (OSError, ValueError) as error:
            outcome = [error]
    broadcast_object_list(outcome)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def _gathered(name: str, curve: Any) -> Dict[str, Any]:
    """The curves of all ranks merged, by name; on the main process alone."""
    parts = gather_object(curve)
    if not is_main_process():
        return {}
    for part in parts[1:]:
        parts[0].merge(part)
    return {name: parts[0]}


def _compute(name: str, curve: PixelCurve) -> Dict[str, float]:
    """Values of a benchmark; warnings and errors name it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        try:
            values = curve.compute()
        except ValueError as error:
            raise ValueError(f'{name}: {error}') from error
    for warning in caught:
        print_log(f'{name}: {warning.message}', logger='current', level=logging.WARNING)
    return values


def _table(values: Dict[str, Dict[str, float]]) -> PrettyTable:
    """Results of all benchmarks; half the width of the bounds is given where it shows in the digits."""
    keys = list(dict.fromkeys(key for result in values.values() for key in result if not _is_bound(key)))
    table = PrettyTable(['data set', *(key for key in keys if not key.startswith('component_F1_'))])
    for name, result in values.items():
        row = []
        for key in table.field_names[1:]:
            spread = (result.get(f'{key}_upper', 0) - result.get(f'{key}_lower', 0)) / 2
            text = f'{result[key]:.{4 if key == "F1_threshold" else 2}f}' if key in result else '-'
            row.append(f'{text} ±{spread:.2f}' if spread >= 0.005 else text)
        table.add_row([name, *row])
    return table


def _is_bound(key: str) -> bool:
    return key.endswith(('_lower', '_upper'))


def _map_of(sample: dict, key: str, img_path: str, hint: str) -> Tensor:
    """Tensor (1, H, W) of a field of a sample."""
    data = sample.get(key, {}).get('data')
    if data is None:
        raise ValueError(f'{img_path}: the sample has no {key}; {hint}')
    if data.dim() != 3 or data.size(0) != 1:
        raise ValueError(f'{img_path}: {key} must be (1, H, W), got {tuple(data.shape)}')
    return data


def _values(index: Union[int, Sequence[int], None]) -> Optional[Tensor]:
    """Label values as a tensor."""
    if index is None:
        return None
    return torch.as_tensor([index] if isinstance(index, int) else list(index), dtype=torch.int64)


def _without_none(settings: dict) -> dict:
    return {key: value for key, value in settings.items() if value is not None}


def _check_component_settings(name: str, settings: dict) -> None:
    """Refuse settings that ComponentCurve would not take, before anything is counted."""
    known, needed = {'threshold', 'min_pred_area', 'min_gt_area'}, {'min_pred_area', 'min_gt_area'}
    if not isinstance(settings, dict) or not needed <= set(settings) <= known:
        raise ValueError(f'components[{name!r}] must be a dict of min_pred_area, min_gt_area and, if wanted, threshold, '
                         f'got {settings!r}')
    ComponentCurve(**{'threshold': 0.0, **_without_none(settings)})


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
