# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mgcda.labels import IGNORE

from ..base import Score
from .fitted_score import PADDED, FittedScore

UNKNOWN_INFERENCE = ('{} does not call its scores once for each image and window, as whole and sliding inference of '
                     'MMSegmentation do: outputs and labels cannot be paired')


class ScoreFitter:
    """Gather the statistics of all fitted scores of an anomaly segmentor, in one forward pass for each batch.

    The outputs are those of prediction: logits at the original image size, features of the whole image or of each
    sliding window (where windows overlap, pixels count once a window).

    Args:
        model (AnomalyMixin): In evaluation mode.

    ``scores``: the fitted scores of the model, by name; of several that share their statistics, the first.
    ``files``: what ``fitted`` says of each and of those that share its statistics.

    Raises:
        ValueError: If the model has none.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.scores: dict[str, FittedScore] = {}
        self.files: dict[str, list[str]] = {}
        for name, score in model.scores.items():
            if isinstance(score, FittedScore):
                first = next((key for key, other in self.scores.items() if other.shares_statistics(score)), name)
                self.scores.setdefault(first, score)
                files = self.files.setdefault(first, [])
                if score.fitted is not None and score.fitted not in files:
                    files.append(score.fitted)
        if not self.scores:
            raise ValueError(f'{type(model).__name__} has no fitted score, its scores are {list(model.scores)}: name '
                             "one in the config, such as score=dict(type='SML', fitted='work_dirs/sml.pth')")

    @torch.no_grad()
    def update(self, data: dict) -> None:
        """Add a batch of a dataloader, with its labels as ``gt_sem_seg``.

        Raises:
            ValueError: If labels are missing, hold a value that is no class, or belong to a flipped image.
            RuntimeError: If the model calls its scores more or less often than there are images or windows.
        """
        data = self.model.data_preprocessor(data, training=False)
        inputs, samples = data['inputs'], data['data_samples']
        labels = [self._labels_of(sample) for sample in samples]
        paths = [str(sample.metainfo.get('img_path')) for sample in samples]
        images = list(zip(labels, paths))
        windows = []
        if self.model.feature_scores:
            windows = [(window, f'{" ".join(paths)} {index}')
                       for index, window in enumerate(self._windows(inputs, samples, labels))]
        observers = {
            name: _Observer(score, windows if 'features' in score.needs else images)
            for name, score in self.scores.items()
        }
        with self.model.scoring_with(observers):
            self.model.predict(inputs, samples)
        if any(next(observer.calls, None) is not None for observer in observers.values()):
            raise RuntimeError(UNKNOWN_INFERENCE.format(type(self.model).__name__))

    def _labels_of(self, sample: SegDataSample) -> Tensor:
        """Labels (1, H, W) of a sample."""
        path = sample.metainfo.get('seg_map_path') or sample.metainfo.get('img_path')
        if 'gt_sem_seg' not in sample:
            raise ValueError(f'{path} has no labels: scores are fitted with a pipeline that loads class labels')
        if sample.metainfo.get('flip'):
            raise ValueError(f'{path} was flipped: scores are fitted with a pipeline that does not augment')
        labels = sample.gt_sem_seg.data
        wrong = labels[(labels >= self.model.num_classes) & (labels != IGNORE)]
        if len(wrong):
            raise ValueError(f'the labels of {path} hold {int(wrong.max())}, the model has {self.model.num_classes} '
                             'classes: is LabelIdToTrainId missing in the pipeline?')
        return labels

    def _windows(self, inputs: Tensor, samples: Sequence[SegDataSample], labels: Sequence[Tensor]) -> Iterator[Tensor]:
        """Labels (N, h, w) of what each pass of the network sees, in the order of inference."""
        size = tuple(inputs.shape[-2:])
        batch = torch.cat([_padded(label, sample, size) for label, sample in zip(labels, samples)])
        test_cfg = self.model.test_cfg
        if test_cfg.get('mode', 'whole') == 'whole':
            yield batch
            return
        if getattr(self.model, 'work_size', None) is not None:
            raise ValueError('scores of features cannot be fitted with sliding windows and a work_size')
        for rows in _spans(size[0], test_cfg['crop_size'][0], test_cfg['stride'][0]):
            for columns in _spans(size[1], test_cfg['crop_size'][1], test_cfg['stride'][1]):
                yield batch[:, rows, columns]


class _Observer(Score):
    """Adds the outputs that it sees, with the labels and the key of each call, to a score's statistics."""

    def __init__(self, score: FittedScore, calls: Iterable[tuple[Tensor, str]]) -> None:
        self.score, self.needs, self.layers = score, score.needs, score.layers
        self.calls = iter(calls)

    def __call__(self, outputs: dict[str, Any]) -> Tensor:
        call = next(self.calls, None)
        if call is None:
            raise RuntimeError(UNKNOWN_INFERENCE.format('the model'))
        self.score.update(outputs, *call)
        values = outputs['seg_logits'] if 'seg_logits' in self.needs else outputs['features'][0]
        return values.new_zeros(len(values), *values.shape[-2:])


def _padded(labels: Tensor, sample: SegDataSample, size: tuple[int, int]) -> Tensor:
    """Labels (1, H, W) at the size of the network's inputs, -1 where those are padded."""
    meta = sample.metainfo
    left, right, top, bottom = meta.get('img_padding_size', meta.get('padding_size', (0, 0, 0, 0)))
    inner = (size[0] - top - bottom, size[1] - left - right)
    labels = F.interpolate(labels[None].float(), size=inner, mode='nearest-exact')[0]
    return F.pad(labels, (left, right, top, bottom), value=PADDED)


def _spans(length: int, crop: int, stride: int) -> list[slice]:
    """The windows of MMSegmentation's sliding inference along one axis."""
    last = max(length - crop, 0)
    starts = [min(index * stride, last) for index in range(-(-last // stride) + 1)]
    return [slice(start, min(start + crop, length)) for start in starts]
