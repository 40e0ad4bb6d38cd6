# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import csv
import io
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, all_reduce, broadcast_object_list, gather_object, is_main_process
from mmengine.logging import print_log
from torch import Tensor
from torch.nn import functional as F

from mgcda.utils.files import write_file

from ..curves import ComponentCurve, PixelCurve
from ..results import write_results
from ..score_maps import ScoreMapFolder
from .kept_frames import KeptFrames

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


@dataclass(frozen=True)
class EvaluationSettings:
    """What is counted of a score; see :class:`AnomalyMetric`.

    Raises:
        ValueError: If a setting is wrong.
    """

    mode: str
    protocol: str
    recalls: Sequence[float]
    components: dict[str, dict]
    all_components: bool
    size: tuple[int, int] | None
    per_image: bool
    score_dtype: str | None

    def __post_init__(self) -> None:
        self.new_curve()
        for name, settings in self.components.items():
            _check_component_settings(name, settings)
        if self.size is not None and not (isinstance(self.size,
                                                     (list, tuple)) and len(self.size) == 2 and min(self.size) > 0):
            raise ValueError(f'size must be (height, width), got {self.size!r}')
        if self.size is not None and self.components:
            raise ValueError('component metrics count pixels at full size: leave out size or components')
        if self.score_dtype is not None:
            ScoreMapFolder('', self.score_dtype)

    @property
    def suffix(self) -> str:
        """What the names of benchmarks end on where they are counted at a reduced size."""
        return '' if self.size is None else f'@{self.size[0]}x{self.size[1]}'

    def new_curve(self, mode: str | None = None) -> PixelCurve:
        """A curve without pixels."""
        return PixelCurve(mode or self.mode, self.protocol, self.recalls)


class ScoreEvaluation:
    """Evaluation of one score on all benchmarks.

    Args:
        settings: What is counted.
        folder: Folder for score maps, ``results.json`` and ``per_image.csv``; None: nothing is written.
    """

    def __init__(self, settings: EvaluationSettings, folder: Path | None) -> None:
        self.settings = settings
        self.folder = folder
        self._curves: dict[str, PixelCurve] = {}
        self._component_curves: dict[str, ComponentCurve] = {}
        self._kept = KeptFrames() if settings.components else None
        self._image_rows: list[dict] = []
        keeps_maps = folder is not None and settings.score_dtype is not None
        self._maps = ScoreMapFolder(folder, settings.score_dtype) if keeps_maps else None

    def write_map(self, name: str, img_path: str, scores: Tensor) -> None:
        """Write the score map (1, H, W) of an image of a benchmark, where maps are kept."""
        if self._maps is not None:
            self._maps.write(scores, name, img_path)

    def count(self, name: str, img_path: str, scores: Tensor, labels: Tensor) -> None:
        """Add the pixels of an image of a benchmark, scores and labels (1, H, W), to all that is asked for."""
        name += self.settings.suffix
        if self.settings.size is not None:
            scores = F.interpolate(scores[None].float(), self.settings.size, mode='bilinear', align_corners=False)[0]
            labels = F.interpolate(labels[None].double(), self.settings.size, mode='nearest-exact')[0].to(labels)
        if name not in self._curves:
            self._curves[name] = self.settings.new_curve()
        self._curves[name].update(scores, labels)
        if self.settings.all_components and name not in self.settings.components:
            raise ValueError(f'components=True knows the sizes of {", ".join(COMPONENT_SIZES)}, not of {name}; use '
                             f'components={{{name!r}: dict(min_pred_area=500, min_gt_area=100)}}')
        if name in self.settings.components:
            sizes = self.settings.components[name]
            # SegmentMeIfYouCan's code reads float16 scores for components, too.
            frame = scores[0].half() if self.settings.protocol == 'smiyc' else scores[0]
            if sizes.get('threshold') is None:
                self._kept.keep(name, frame, labels[0])
            else:
                self._component_curves.setdefault(name, ComponentCurve(**sizes)).update(frame, labels[0])
        if self.settings.per_image:
            self._image_rows.append(self._values_of_image(name, img_path, scores, labels))

    def _values_of_image(self, name: str, img_path: str, scores: Tensor, labels: Tensor) -> dict:
        """A row of ``per_image.csv``."""
        curve = self.settings.new_curve('exact')
        curve.update(scores, labels)
        row = dict(data_set=name, img_path=img_path, num_normal=curve.num_normal, num_anomaly=curve.num_anomaly)
        return {**row, **(curve.compute() if curve.num_normal and curve.num_anomaly else {})}

    def compute(self, num_images: dict[str, int], quality: dict[str, dict]) -> dict[str, dict[str, float]]:
        """Merge all ranks, write what is to be written, and return the values of each benchmark, on every rank.

        All ranks must call this for the same scores in the same order.

        Args:
            num_images: Images of each benchmark, for ``results.json``.
            quality: What :class:`SegmentationQuality` found, for that file.
        """
        curves = self._merged_curves()
        values = on_main(lambda: {name: _compute(name, curve) for name, curve in curves.items()})
        components = self._merged_components({name: result['F1_threshold'] for name, result in values.items()})
        image_rows = gather_object(self._image_rows)

        absent = sorted(self.settings.components.keys() - curves.keys())

        def finish() -> dict[str, dict[str, float]]:
            if absent and not self.settings.all_components:
                print_log(
                    f'components of {", ".join(absent)} were asked for, but there are only images of '
                    f'{", ".join(curves)}',
                    logger='current',
                    level=logging.WARNING)
            for name, curve in components.items():
                values[name].update({
                    key if key in ('sIoU', 'PPV') else f'component_{key}': value
                    for key, value in curve.compute().items()
                })
            if self.folder is not None:
                self._write_results(values, curves, num_images, quality)
            if self.settings.per_image:
                self._write_image_rows([row for part in image_rows for row in part])
            return values

        return on_main(finish)

    def _merged_curves(self) -> dict[str, PixelCurve]:
        """Curves of all ranks together, by benchmark; complete on the main process."""
        names = sorted(set().union(*all_gather_object(list(self._curves))))
        merged = {}
        for name in names:
            curve = self._curves.pop(name, None) or self.settings.new_curve()
            if curve.reducible:
                curve.reduce(all_reduce)
                merged[name] = curve
            else:
                merged.update(_gathered(name, curve))
        return merged

    def _merged_components(self, thresholds: dict[str, float]) -> dict[str, ComponentCurve]:
        """Component curves of all ranks together, by benchmark; on the main process."""
        merged: dict[str, ComponentCurve] = {}
        for name in thresholds:
            if name not in self.settings.components:
                continue
            curve = self._component_curves.get(name)
            if curve is None:
                sizes = _without_none(self.settings.components[name])
                curve = ComponentCurve(**{'threshold': thresholds[name], **sizes})
                for scores, labels in self._kept.frames(name):
                    curve.update(scores, labels)
            merged.update(_gathered(name, curve))
        return merged

    def _write_results(self, values: dict[str, dict], curves: dict[str, PixelCurve], num_images: dict[str, int],
                       quality: dict[str, dict]) -> None:
        """Write ``results.json``."""
        data_sets = {
            name: dict(
                num_images=num_images[name.removesuffix(self.settings.suffix)],
                num_normal=curve.num_normal,
                num_anomaly=curve.num_anomaly,
                metrics=values[name],
                curve=curve.curve())
            for name, curve in curves.items()
        }
        content = dict(protocol=self.settings.protocol, mode=self.settings.mode, data_sets=data_sets)
        if quality:
            content['segmentation'] = {
                name: dict(num_images=num_images[name], **entry)
                for name, entry in quality.items()
            }
        write_results(self.folder / 'results.json', content)

    def _write_image_rows(self, rows: list[dict]) -> None:
        """Write ``per_image.csv``, sorted."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        buffer = io.StringIO(newline='')
        writer = csv.DictWriter(buffer, columns, lineterminator='\n')
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: (row['data_set'], row['img_path'])))
        write_file(self.folder / 'per_image.csv', buffer.getvalue().encode())


def on_main(function: Callable[[], Any]) -> Any:
    """Result of a function of the main process, on all of them.

    An error is raised on all of them, too: one that waits for a result would wait for ever.
    """
    outcome: list[Any] = [None]
    if is_main_process():
        try:
            outcome = [function()]
        except Exception as error:
            outcome = [error]
    broadcast_object_list(outcome)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def _gathered(name: str, curve: Any) -> dict[str, Any]:
    """The curves of all ranks merged, by name; on the main process alone."""
    parts, merged = gather_object(curve), {}

    def merge() -> None:
        merged[name] = parts[0]
        for part in parts[1:]:
            merged[name].merge(part)

    on_main(merge)
    return merged


def _compute(name: str, curve: PixelCurve) -> dict[str, float]:
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


def _without_none(settings: dict) -> dict:
    return {key: value for key, value in settings.items() if value is not None}


def _check_component_settings(name: str, settings: dict) -> None:
    """Refuse settings that ComponentCurve would not take, before anything is counted."""
    known, needed = {'threshold', 'min_pred_area', 'min_gt_area'}, {'min_pred_area', 'min_gt_area'}
    if not isinstance(settings, dict) or not needed <= set(settings) <= known:
        raise ValueError(f'components[{name!r}] must be a dict of min_pred_area, min_gt_area and, if wanted, '
                         f'threshold, got {settings!r}')
    ComponentCurve(**{'threshold': 0.0, **_without_none(settings)})
