# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, gather_object
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmseg.registry import METRICS
from prettytable import PrettyTable
from torch import Tensor

from mgcda.labels import ANOMALY, IGNORE, NORMAL

from .score_evaluation import COMPONENT_SIZES, EvaluationSettings, ScoreEvaluation, on_main
from .segmentation_quality import SegmentationQuality

#: Name of the benchmark of samples that name none.
DEFAULT_DATASET_NAME = 'anomaly'
#: Benchmark and image path, which make a sample distinct, and whether its score maps were written.
CountedSample = tuple[str, str, bool]


@METRICS.register_module()
class AnomalyMetric(BaseMetric):
    """AP, FPR95, AUROC and F1 of anomaly scores, pooled over the valid pixels of each benchmark; components; mIoU.

    Reads of each sample ``anomaly_scores`` (1, H, W), float, larger = more anomalous; ``gt_sem_seg`` (1, H, W) with
    0 normal, 1 anomaly, 255 ignored; ``img_path``; and ``dataset_name``, the benchmark that it counts for. Results are
    keyed by benchmark (``RoadAnomaly/AP``), in percent, unrounded. ``save_best='RoadAnomaly/AP'`` of mmengine's
    CheckpointHook needs ``rule='greater'``, as it cannot tell from the name.

    A model with several scores gives ``anomaly_scores`` (S, H, W) and their S ``score_names``. Each score is evaluated
    by itself: keyed ``RoadAnomaly/energy/AP``, a row of the table, a folder ``<output_dir>/energy`` of its own.

    Where labels are classes, in samples with ``label_classes`` (:class:`ClassLabelDataset`), ``pred_sem_seg`` counts
    and scores do not: ``Cityscapes/mIoU``, ``Cityscapes/mAcc`` and ``Cityscapes/aAcc`` as MMSegmentation defines them,
    always at full size. They are given once, and written to the ``results.json`` of every score.

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
        size: (height, width) that scores (bilinear) and labels (nearest) are brought to before anything is counted, as
            in SynBoost's own evaluation at (256, 512). Results are then keyed ``RoadAnomaly@256x512/AP``, since they
            cannot be compared with those at full size.
        ood_index: Label value or values that are anomalies, where labels are class indices instead of 0, 1, 255; all
            others are normal but for ``ignore_index``.
        ignore_index: Label value or values that are ignored.
        format_only: Write score maps and score nothing, as for images whose labels are hidden.
        output_dir: Folder for the score maps, ``<output_dir>/<dataset_name>/<image stem>.npy`` (H, W), and for
            ``results.json`` (values with their bounds, and curves). There are no maps of samples with
            ``label_classes``, unless by ``format_only``.
        keep_results: Whether anything is left in ``output_dir``; if not, nothing is written.
        score_dtype: Type of the score maps, 'float32' or 'float16'; None: no maps, only results.
        prefix: Put in front of all keys.

    Raises:
        ValueError: If an argument is wrong; if a sample lacks scores or labels, their sizes differ, a value is outside
            the above, its labels are hidden, or it is counted twice or not at all; if a benchmark has pixels of one
            kind only; if the model predicts other classes than the labels have.
    """

    default_prefix = ''

    def __init__(self,
                 mode: str = 'streaming',
                 protocol: str = 'fishyscapes',
                 recalls: Sequence[float] = (0.95, ),
                 components: bool | dict[str, dict] | None = None,
                 per_image: bool = False,
                 size: tuple[int, int] | None = None,
                 ood_index: int | Sequence[int] | None = None,
                 ignore_index: int | Sequence[int] = IGNORE,
                 format_only: bool = False,
                 output_dir: str | None = None,
                 keep_results: bool = True,
                 score_dtype: str | None = 'float32',
                 prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        if not isinstance(components, (bool, dict, type(None))):
            raise ValueError(f'components must be True, or a dict of data sets and their sizes, got {components!r}')
        self.settings = EvaluationSettings(
            mode=mode,
            protocol=protocol,
            recalls=recalls,
            components=COMPONENT_SIZES if components is True else components or {},
            all_components=components is True,
            size=size,
            per_image=per_image,
            score_dtype=score_dtype)
        self.output_dir = output_dir if keep_results else None
        if (format_only or per_image) and self.output_dir is None:
            raise ValueError(f'{"format_only" if format_only else "per_image"} needs an output_dir, and keep_results')
        if format_only and score_dtype is None:
            raise ValueError('format_only needs a score_dtype: without score maps nothing would be written')
        self._keeps_maps = self.output_dir is not None and score_dtype is not None
        self.format_only = format_only
        self.ood_index = _values(ood_index)
        self.ignore_index = _values(ignore_index)
        self._reset()

    def _reset(self) -> None:
        self._evaluations: dict[str, ScoreEvaluation] = {}
        self._quality = SegmentationQuality()
        self._samples: list[CountedSample] = []
        self._seen: set = set()

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Add the pixels of a batch; ``data_samples`` are the model's, as dicts."""
        for sample in data_samples:
            name = sample.get('dataset_name') or DEFAULT_DATASET_NAME
            img_path = str(sample.get('img_path'))
            if (name, img_path) in self._seen:
                raise ValueError(f'{img_path} was counted twice for {name}')
            try:
                scores, score_names = self._scores_of(sample)
                evaluations = [self._evaluation(score_name) for score_name in score_names]
                if not self.format_only:
                    self._count(sample, name, img_path, scores, evaluations)
            except (TypeError, ValueError) as error:
                raise ValueError(f'{img_path}: {error}') from error
            writes_maps = self.format_only or not sample.get('label_classes')
            if writes_maps:
                for evaluation, score in zip(evaluations, scores.unsqueeze(1)):
                    evaluation.write_map(name, img_path, score)
            self._seen.add((name, img_path))
            self._samples.append((name, img_path, writes_maps and self._keeps_maps))

    def _count(self, sample: dict, name: str, img_path: str, scores: Tensor,
               evaluations: Sequence[ScoreEvaluation]) -> None:
        """Add a sample of a benchmark to the evaluation of its scores (S, H, W), or of its predicted classes."""
        if sample.get('label_classes'):
            predictions = _map_of(sample, 'pred_sem_seg', 'is the model a segmentor?')
            self._quality.count(name, sample, _labels_of(sample, name, 'pred_sem_seg', predictions))
            return
        labels = self._targets(_labels_of(sample, name, 'anomaly_scores', scores))
        for evaluation, score in zip(evaluations, scores.unsqueeze(1)):
            evaluation.count(name, img_path, score, labels)

    def _evaluation(self, score_name: str) -> ScoreEvaluation:
        """The evaluation of a score; '' stands for that of a model with one."""
        if score_name not in self._evaluations:
            folder = None if self.output_dir is None else Path(self.output_dir, score_name)
            self._evaluations[score_name] = ScoreEvaluation(self.settings, folder)
        return self._evaluations[score_name]

    def _scores_of(self, sample: dict) -> tuple[Tensor, Sequence[str]]:
        """Scores (S, H, W) and their S names."""
        score_names = sample.get('score_names') or ('', )
        scores = _map_of(sample, 'anomaly_scores', 'is the model an anomaly segmentor?', len(score_names))
        if self._evaluations and set(score_names) != set(self._evaluations):
            raise ValueError(f'it has the scores {list(score_names)}, images before it have {list(self._evaluations)}')
        return scores, score_names

    def _targets(self, labels: Tensor) -> Tensor:
        """Labels of 0, 1, 255."""
        if self.ood_index is not None:
            target = torch.isin(labels, self.ood_index.to(labels.device)).to(labels) * (ANOMALY - NORMAL) + NORMAL
        elif self.ignore_index.tolist() != [IGNORE]:
            target = labels.clone()
        else:
            return labels
        target[torch.isin(labels, self.ignore_index.to(labels.device))] = IGNORE
        return target

    def evaluate(self, size: int) -> dict[str, float]:
        """Merge all ranks and compute the results, the same on every rank.

        Args:
            size: Number of samples of the test set.
        """
        try:
            return self._evaluate(size)
        finally:
            self._reset()

    def _evaluate(self, size: int) -> dict[str, float]:
        samples = gather_object(self._samples)
        num_images = on_main(lambda: _count_samples([sample for part in samples for sample in part], size))
        if self.format_only:
            return {}
        # A rank may have had no image.
        score_names = list(dict.fromkeys(name for part in all_gather_object(list(self._evaluations)) for name in part))
        quality = self._quality.compute()
        results: dict[tuple[str, str], dict[str, float]] = {}
        for score_name in score_names:
            values = self._evaluation(score_name).compute(num_images, quality)
            results.update({(name, score_name): result for name, result in values.items()})
        results = dict(sorted(results.items(), key=lambda item: (item[0][0], score_names.index(item[0][1]))))
        of_classes = {(name, ''): entry['metrics'] for name, entry in quality.items()}
        for title, rows in (('Anomaly segmentation', results), ('Semantic segmentation', of_classes)):
            if rows:
                print_log(f'{title}, in %\n{_table(rows)}', logger='current')
        return {
            '/'.join(filter(None, (self.prefix, name, score_name, key))): value
            for (name, score_name), result in {
                **results,
                **of_classes
            }.items()
            for key, value in result.items() if not _is_bound(key)
        }

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Not used: :meth:`evaluate` merges curves, not lists of results."""
        raise NotImplementedError('AnomalyMetric.evaluate computes the metrics')


def _table(results: dict[tuple[str, str], dict[str, float]]) -> PrettyTable:
    """Results by benchmark and score; half the width of the bounds is given where it shows in the digits."""
    keys = list(dict.fromkeys(key for result in results.values() for key in result if not _is_bound(key)))
    keys = [key for key in keys if not key.startswith('component_F1_')]
    several = any(score_name for _, score_name in results)
    table = PrettyTable(['data set'] + ['score'] * several + keys)
    for (name, score_name), result in results.items():
        row = []
        for key in keys:
            spread = (result.get(f'{key}_upper', 0) - result.get(f'{key}_lower', 0)) / 2
            text = f'{result[key]:.{4 if key == "F1_threshold" else 2}f}' if key in result else '-'
            row.append(f'{text} ±{spread:.2f}' if spread >= 0.005 else text)
        table.add_row([name] + [score_name] * several + row)
    return table


def _is_bound(key: str) -> bool:
    return key.endswith(('_lower', '_upper'))


def _map_of(sample: dict, key: str, hint: str, num_maps: int = 1) -> Tensor:
    """Tensor (num_maps, H, W) of a field of a sample."""
    data = sample.get(key, {}).get('data')
    if data is None:
        raise ValueError(f'the sample has no {key}; {hint}')
    if data.dim() != 3 or data.size(0) != num_maps:
        raise ValueError(f'{key} must be ({num_maps}, H, W), got {tuple(data.shape)}')
    return data


def _labels_of(sample: dict, name: str, key: str, predicted: Tensor) -> Tensor:
    """Labels (1, H, W) of a sample of a benchmark, of the size of what is predicted under the key."""
    if sample.get('labels_hidden'):
        raise ValueError(f'the labels of this split of {name} are hidden, it must not be scored here; write its score '
                         'maps with format_only=True and submit them to the benchmark')
    labels = _map_of(sample, 'gt_sem_seg', 'does the test pipeline load annotations?')
    if predicted.shape[1:] != labels.shape[1:]:
        raise ValueError(f'{key} has the size {tuple(predicted.shape[1:])}, the label {tuple(labels.shape[1:])}; they '
                         'must be of one size')
    return labels


def _values(index: int | Sequence[int] | None) -> Tensor | None:
    """Label values as a tensor."""
    if index is None:
        return None
    return torch.as_tensor([index] if isinstance(index, int) else list(index), dtype=torch.int64)


def _count_samples(samples: Sequence[CountedSample], size: int) -> dict[str, int]:
    """Images of each benchmark; every sample of the test set must have been counted once, into files of its own."""
    twice = [sample for sample, count in Counter(samples).items() if count > 1]
    if twice:
        name, img_path, _ = twice[0]
        raise ValueError(f'{len(twice)} samples were counted twice, the first is {img_path} of {name}; '
                         'with several ranks the test sampler needs round_up=False')
    # Each rank sees its own files alone.
    images: dict[tuple[str, str], str] = {}
    for name, img_path, has_maps in samples:
        first = images.setdefault((name, Path(img_path).stem), img_path) if has_maps else img_path
        if first != img_path:
            raise ValueError(f'the score maps of {first} and {img_path} of {name} would be one file')
    num_images = Counter(name for name, _, _ in samples)
    if len(samples) != size:
        counts = ', '.join(f'{count} of {name}' for name, count in sorted(num_images.items()))
        raise ValueError(f'the test set has {size} samples, {len(samples)} were counted ({counts or "none"})')
    return dict(num_images)
