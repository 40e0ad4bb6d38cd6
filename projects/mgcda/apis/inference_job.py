# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Scoring inputs into a folder: which have results already, the threshold, and a run over the rest."""
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from glob import has_magic
from typing import Any

from mmengine.config import Config

from mgcda.utils.files import check_folder, claim_folder, hash_files
from mgcda.visualization import check_window
from mgcda.visualization.score_scaling import HeatRange

from .anomaly_inferencer import AnomalyInferencer
from .calibration import Calibration, calibrate, check_threshold, read_threshold, write_threshold
from .inference_run import InferenceRun, WindowClosed
from .inputs import check_inputs, find_inputs, is_video
from .result_folder import ResultFolder
from .video import VideoSource

SETTINGS_FILE = 'settings.json'
#: What results depend on, beside a calibration and the weights; those of other settings are not mixed with them.
SETTINGS = ('config', 'checkpoint', 'threshold', 'calibrate', 'min_area', 'on_road', 'heat_range', 'score',
            'score_dtype', 'max_frames', 'amp', 'cfg_options')
#: Settings that folders of earlier versions do not note, or that are known only when the model runs.
OPTIONAL_SETTINGS = ('sha256', 'calibration')


@dataclass(frozen=True)
class InferenceJob:
    """Inputs of a model to be scored; an interrupted job resumes where it stopped.

    Several jobs may write to one folder at the same time if their inputs differ.

    Args:
        config, checkpoint, cfg_options: Of the model, as the folder's ``settings.json`` notes them.
        input: As of :func:`mgcda.apis.inputs.find_inputs`.
        out_dir, save, score_dtype: As of :class:`ResultFolder`; without ``out_dir`` nothing is written.
        show, wait_time: As of :class:`InferenceRun`.
        overwrite: Score again what is there already, and remove results of other settings.
        threshold, min_area, on_road, batch_size: As of a call of :class:`AnomalyInferencer`.
        calibrate, target_fpr: Data that the threshold is found on, as of :func:`calibrate`, or a pattern of images.
        threshold_file: Where a calibration writes the threshold; without one, where it is read.
        max_frames: Score only the first frames of a video or webcam.
        device, score, heat_range, amp: As of :class:`AnomalyInferencer`.
    """
    config: str
    checkpoint: str
    input: str
    out_dir: str | None = None
    save: Sequence[str] = ('overlay', )
    show: bool = False
    wait_time: float | None = None
    overwrite: bool = False
    threshold: float | None = None
    calibrate: str | None = None
    target_fpr: float = 0.05
    threshold_file: str | None = None
    min_area: int = 1
    on_road: bool = False
    heat_range: HeatRange = 'auto'
    score: str | None = None
    score_dtype: str = 'float32'
    batch_size: int = 1
    max_frames: int | None = None
    device: str | None = None
    amp: bool = False
    cfg_options: dict | None = None

    def run(self, cfg: Config, say: Callable[..., Any]) -> None:
        """Score the inputs that have no results yet.

        Args:
            cfg: What ``config`` and ``cfg_options`` give.
            say: Called as ``print`` with what the user should know.

        Raises:
            FileNotFoundError, ValueError, RuntimeError: An input, the threshold file or the checkpoint is missing,
                damaged or does not fit; the folder holds results of other settings; no window can be shown.
        """
        inputs = find_inputs(self.input)
        folder = None if self.out_dir is None else ResultFolder(self.out_dir, self.save, self.score_dtype)
        todo = inputs if folder is None or self.overwrite else find_missing(inputs, folder)
        check_inputs(todo)
        if self.show:
            check_window()
        stored = None
        if self.threshold_file is not None and self.calibrate is None:
            stored = read_threshold(self.threshold_file)
        settings, noted = self._settings(cfg, stored), {}
        if folder is not None and not self.overwrite:
            noted = check_folder(folder.folder / SETTINGS_FILE, settings, 'results', OPTIONAL_SETTINGS)
        if len(todo) < len(inputs):
            say(f'{len(inputs) - len(todo)} of {len(inputs)} are there already')
        if not todo and (self.calibrate is None or self.threshold_file is None):
            return
        inferencer = AnomalyInferencer(
            cfg,
            self.checkpoint,
            device=self.device,
            score=self.score,
            heat_range=self.heat_range,
            amp=self.amp,
            show_progress=True)
        threshold = self._find_threshold(inferencer, stored, noted.get('calibration'), say)
        boxes: dict[str, Any] = dict(threshold=threshold['threshold'], min_area=self.min_area, on_road=self.on_road)
        header = dict(config=self.config, checkpoint=self.checkpoint, **inferencer.describe(**boxes))
        if notes := {key: threshold[key] for key in ('data', 'target_fpr', 'fpr') if key in threshold}:
            header['calibration'] = notes
        if folder is not None:
            if self.calibrate is not None:
                settings['calibration'] = threshold
            claim_folder(folder.folder / SETTINGS_FILE, settings, 'results', self.overwrite, folder.files(),
                         OPTIONAL_SETTINGS)
            folder.begin(header)
        predict = partial(inferencer.predict, batch_size=self.batch_size, **boxes)
        with InferenceRun(
                predict, inferencer.visualize, folder, show=self.show, wait_time=self.wait_time or 0,
                progress=True) as run:
            try:
                for _ in run.images([(name, str(source)) for name, source in todo.items() if not is_video(source)]):
                    pass
                for name, source in todo.items():
                    if is_video(source):
                        run.video(name, source, self.max_frames, say)
            except WindowClosed:
                say('\nended in the window')
        if folder is not None:
            say(f'\nwritten to {folder.folder}')

    def _settings(self, cfg: Config, stored: dict[str, Any] | None) -> dict[str, Any]:
        """What results depend on, but for a calibration."""
        return dict({name: getattr(self, name)
                     for name in SETTINGS},
                    target_fpr=self.target_fpr if self.calibrate else None,
                    threshold_file=None if stored is None else stored['threshold'],
                    sha256=hash_files([self.checkpoint, cfg.get('model')]))

    def _find_threshold(self, inferencer: AnomalyInferencer, stored: dict[str, Any] | None,
                        noted: dict[str, Any] | None, say: Callable[..., Any]) -> dict[str, Any]:
        """The threshold and what it was found on; None as the threshold where there is none.

        ``stored``: content of a threshold file; ``noted``: the calibration of the job that this one resumes.
        """
        if stored is not None and self.threshold_file is not None:
            check_threshold(self.threshold_file, stored, inferencer)
            return stored
        if self.calibrate is None:
            return dict(threshold=self.threshold)
        if noted is not None:
            found = Calibration(**noted)
            say(f'threshold of the earlier run from the normal pixels of {self.calibrate}')
        else:
            data: Any = self.calibrate
            if has_magic(data) and not os.path.exists(data):
                data = [source for source in find_inputs(data).values() if not is_video(source)]
            say(f'threshold from the normal pixels of {self.calibrate}')
            found = calibrate(inferencer, data, self.target_fpr)._replace(data=self.calibrate)
        say(f'\nthreshold {found.threshold:g}: {100 * found.fpr:.4g} % of {found.num_pixels} normal pixels in '
            f'{found.num_images} images are above it')
        if self.threshold_file is not None:
            write_threshold(self.threshold_file, found, inferencer)
            say(f'written to {self.threshold_file}')
        return found._asdict()


def find_missing(inputs: dict[str, VideoSource], folder: ResultFolder) -> dict[str, VideoSource]:
    """The inputs whose results are not all in a folder.

    Raises:
        ValueError: What was recorded of a webcam is there.
    """
    todo = {}
    for name, source in inputs.items():
        if not (folder.has_video(name) if is_video(source) else folder.has(name)):
            todo[name] = source
        elif isinstance(source, int):
            raise ValueError(f'{folder.folder} has a recording {name} already: write to another folder, or replace it '
                             'with --overwrite')
    return todo
