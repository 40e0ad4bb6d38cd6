# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

_UNKNOWN_COLOUR = (0, 0, 0)


@HOOKS.register_module()
class SynthesisVisualizationHook(Hook):
    """Show image, semantic map and synthesis side by side, in validation and test.

    Reads ``gt_sem_seg`` and ``synthesis`` (BGR uint8 (3, H, W)) of the samples and gives the sheet to the run's
    visualizer, under the name of the image.

    Args:
        interval (int): Every how many batches a sheet is made. Defaults to 1.
        max_images (int, optional): At most as many sheets a validation or test. None makes all. Defaults to 16.

    Raises:
        ValueError: If ``interval`` or ``max_images`` is below 1.
    """

    def __init__(self, interval: int = 1, max_images: int | None = 16) -> None:
        for name, value in (('interval', interval), ('max_images', max_images)):
            if value is not None and value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}')
        self.interval = interval
        self.max_images = max_images
        self._num_shown = 0

    def before_val_epoch(self, runner: Runner) -> None:
        """Start counting."""
        self._num_shown = 0

    def before_test_epoch(self, runner: Runner) -> None:
        """Start counting."""
        self._num_shown = 0

    def after_val_iter(self,
                       runner: Runner,
                       batch_idx: int,
                       data_batch: dict | None = None,
                       outputs: Sequence | None = None) -> None:
        """Show the batch under the current iteration."""
        self._show(runner, batch_idx, data_batch, outputs, runner.iter)

    def after_test_iter(self,
                        runner: Runner,
                        batch_idx: int,
                        data_batch: dict | None = None,
                        outputs: Sequence | None = None) -> None:
        """Show the batch."""
        self._show(runner, batch_idx, data_batch, outputs, 0)

    def _show(self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence, step: int) -> None:
        if batch_idx % self.interval:
            return
        palette = np.array(runner.visualizer.dataset_meta['palette'], np.uint8)
        colours = np.tile(np.array(_UNKNOWN_COLOUR, np.uint8), (256, 1))
        colours[:len(palette)] = palette
        for image, sample in zip(data_batch['inputs'], outputs):
            if self.max_images is not None and self._num_shown >= self.max_images:
                return
            self._num_shown += 1
            bgr = np.concatenate([image.cpu().numpy(), sample.synthesis.data.cpu().numpy()], axis=2)
            image, synthesis = np.split(bgr[::-1].transpose(1, 2, 0), 2, axis=1)
            semantic = colours[sample.gt_sem_seg.data[0].cpu().numpy()]
            sheet = np.concatenate([image, semantic, synthesis], axis=1)
            runner.visualizer.add_image(Path(sample.img_path).stem, np.ascontiguousarray(sheet), step)
