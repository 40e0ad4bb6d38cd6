# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.runner import Runner
from mmseg.engine.hooks import SegVisualizationHook
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample

from mgcda.labels import ANOMALY
from mgcda.visualization import blend_heat, draw_contours, scaling_of
from mgcda.visualization.score_scaling import HeatRange


@HOOKS.register_module()
class AnomalyVisualizationHook(SegVisualizationHook):
    """Draw anomaly scores in validation and test.

    A sheet shows the image, and the heat map over it, both with the contours of the labelled anomalies. It goes to the
    run's visualizer, hence to the disk, TensorBoard and whatever else its ``vis_backends`` name. Sheets of validation
    are named ``val_<data set>_<image>``, under the iteration of the training, so that TensorBoard shows how each
    changes; those of a test ``test_<data set>_<image>``. A model with several scores gives a sheet of each, with its
    name at the end.

    Reads ``anomaly_scores`` (S, H, W) of the samples, their ``gt_sem_seg`` where there is one, ``img_path`` and
    ``dataset_name``, and the images of the batch. Samples without scores, as of a segmenter, are drawn as
    MMSegmentation's hook draws them.

    Args:
        draw: Whether anything is drawn; ``tools/test.py --show`` and ``--show-dir`` set it. Defaults to False.
        interval: Every how many samples of a process one is drawn. Defaults to 1.
        show: Show the sheets in a window, and hand them to no backend. Defaults to False.
        wait_time: Seconds that a window stays. Defaults to 0, until the space bar is pressed.
        heat_range: How scores become colours, see :func:`mgcda.visualization.scaling_of`. Defaults to 'auto'.
        max_width: Images are made smaller to this width, in pixels. Defaults to 1024.

    Raises:
        ValueError: If ``interval`` or ``max_width`` is below 1, or ``heat_range`` is none of these.
    """

    def __init__(self,
                 draw: bool = False,
                 interval: int = 1,
                 show: bool = False,
                 wait_time: float = 0.,
                 heat_range: HeatRange = 'auto',
                 max_width: int = 1024,
                 **kwargs: Any) -> None:
        for name, value in (('interval', interval), ('max_width', max_width)):
            if value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}')
        scaling_of(None, 2, heat_range)
        super().__init__(draw=draw, interval=interval, show=show, wait_time=wait_time, **kwargs)
        self.heat_range = heat_range
        self.max_width = max_width
        self._num_seen = 0

    def before_val_epoch(self, runner: Runner) -> None:
        """Start counting: every validation draws the same images."""
        self._num_seen = 0

    def before_test_epoch(self, runner: Runner) -> None:
        """Start counting."""
        self._num_seen = 0

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: dict,
                       outputs: Sequence[SegDataSample]) -> None:
        """Draw samples of a batch, under the current iteration."""
        if self.draw and 'anomaly_scores' not in outputs[0]:
            super().after_val_iter(runner, batch_idx, data_batch, outputs)
        elif self.draw:
            self._draw(runner, data_batch, outputs, 'val', runner.iter)

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict,
                        outputs: Sequence[SegDataSample]) -> None:
        """Draw samples of a batch."""
        if self.draw and 'anomaly_scores' not in outputs[0]:
            super().after_test_iter(runner, batch_idx, data_batch, outputs)
        elif self.draw:
            self._draw(runner, data_batch, outputs, 'test', 0)

    def _draw(self, runner: Runner, data_batch: dict, outputs: Sequence[SegDataSample], mode: str, step: int) -> None:
        for image, sample in zip(_images(data_batch), outputs):
            self._num_seen += 1
            if (self._num_seen - 1) % self.interval:
                continue
            prefix = '_'.join([mode, *filter(None, [sample.get('dataset_name')]), Path(sample.img_path).stem])
            for score_name, sheet in self.sheets(runner.model, image, sample).items():
                name = f'{prefix}_{score_name}' if score_name else prefix
                sheet = np.ascontiguousarray(sheet[..., ::-1])
                if self.show:
                    self._visualizer.show(sheet, win_name=name, wait_time=self.wait_time)
                else:
                    self._visualizer.add_image(name, sheet, step)

    def sheets(self, model: torch.nn.Module, image: np.ndarray, sample: SegDataSample) -> dict[str, np.ndarray]:
        """Image and overlay side by side, BGR uint8, by the name of the score; '' stands for that of a model with one.

        ``image``: BGR uint8 (h, w, 3).
        """
        while isinstance(getattr(model, 'module', None), torch.nn.Module):  # parallel, or augmenting in test
            model = model.module
        scores = sample.anomaly_scores.data.float().cpu().numpy()
        height, width = scores.shape[1:]
        width, height = min(width, self.max_width), max(round(height * min(1, self.max_width / width)), 1)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        anomaly = None
        if 'gt_sem_seg' in sample and not sample.get('label_classes'):
            anomaly = (sample.gt_sem_seg.data[0] == ANOMALY).cpu().numpy().astype(np.uint8)
            anomaly = cv2.resize(anomaly, (width, height), interpolation=cv2.INTER_NEAREST)
        found: dict[str, np.ndarray] = {}
        for name, score, plane in zip(sample.get('score_names') or ('', ), model.scores.values(), scores):
            heat = scaling_of(score.range, model.num_classes, self.heat_range)(plane)
            panels = [image, blend_heat(image, cv2.resize(heat, (width, height), interpolation=cv2.INTER_AREA))]
            if anomaly is not None:
                panels = [draw_contours(panel, anomaly) for panel in panels]
            found[name] = np.concatenate(panels, axis=1)
        return found


def _images(data_batch: dict) -> list[np.ndarray]:
    """Images of a batch, BGR uint8 (h, w, 3); of several augmentations the first that is not flipped."""
    inputs = data_batch['inputs']
    if isinstance(inputs[0], (list, tuple)):
        flipped = [bool(samples[0].get('flip')) for samples in data_batch['data_samples']]
        inputs = inputs[flipped.index(False) if False in flipped else 0]
    return [np.ascontiguousarray(pixels[:3].cpu().numpy().transpose(1, 2, 0)).astype(np.uint8) for pixels in inputs]
