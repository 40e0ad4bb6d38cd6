# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Score one's own images, videos or a webcam with any anomaly segmentor.

    python tools/infer.py CONFIG CHECKPOINT street.jpg --out-dir work_dirs/street
    python tools/infer.py CONFIG CHECKPOINT 'drive/*/*.png' --out-dir work_dirs/drive --save overlay scores
    python tools/infer.py CONFIG CHECKPOINT drive.mp4 --out-dir work_dirs/drive --calibrate Cityscapes --target-fpr 0.01
    python tools/infer.py CONFIG CHECKPOINT 0 --show

INPUT is an image, a folder (the images that lie directly in it), a pattern in quotation marks, a video or the number of
a webcam. A run that was interrupted goes on where it stopped: images whose results are there are left out.
"""
import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from glob import glob, has_magic
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import Config, DictAction
from mmengine.utils import ProgressBar

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'projects'))
from mgcda.apis import AnomalyInferencer, AnomalyResult, Calibration, calibrate
from mgcda.apis.anomaly_inferencer import SUFFIXES
from mgcda.apis.result_folder import KINDS, ResultFolder
from mgcda.apis.threshold_file import check_threshold, read_threshold, write_threshold
from mgcda.apis.video import VideoFile, check_video, read_frames
from mgcda.datasets.image_io import check_complete, read_bytes
from mgcda.datasets.pairing import list_files
from mgcda.engine.launch import check_checkpoint_file, read_config
from mgcda.files import check_folder, claim_folder, hash_files
from mgcda.visualization import check_window, scaling_of, show_image

VIDEO_SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv')
SETTINGS_FILE = 'settings.json'
#: Settings that folders of earlier versions do not note, or that are known only when the model runs.
OPTIONAL_SETTINGS = ('sha256', 'calibration')
#: Seconds after which the boxes so far are written.
WRITE_EVERY = 10.0


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Score one's own images, videos or a webcam")
    parser.add_argument('config', help='config file of an anomaly segmentor')
    parser.add_argument('checkpoint', help='checkpoint file or address')
    parser.add_argument('input', help="image, folder, pattern such as 'drive/*/*.png', video, or number of a webcam")
    parser.add_argument('--out-dir', metavar='DIR', help='folder to write to')
    parser.add_argument(
        '--save',
        nargs='+',
        choices=KINDS,
        metavar='KIND',
        help=f'what to write, of {", ".join(KINDS)}; default: '
        'overlay, with a threshold also boxes')
    parser.add_argument('--show', action='store_true', help='show the overlays in a window; q ends')
    parser.add_argument(
        '--wait-time',
        type=float,
        metavar='S',
        help='seconds that an image stays in the window; '
        'default: until a key is pressed, and no longer than it takes for a video')
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='make again what is there already; results of '
        'other settings are removed first')
    boxes = parser.add_argument_group('boxes of what is anomalous')
    boxes.add_argument('--threshold', type=float, metavar='T', help='pixels with a score above T are anomalous')
    boxes.add_argument(
        '--calibrate',
        metavar='DATA',
        help='find the threshold on the normal pixels of a data set of the config, by '
        'name, or of a folder or pattern of images without anomalies')
    boxes.add_argument(
        '--target-fpr', type=float, metavar='FPR', help='part of the normal pixels above the threshold; default: 0.05')
    boxes.add_argument(
        '--threshold-file', metavar='FILE', help='with --calibrate, write the threshold to FILE; without, read it')
    boxes.add_argument(
        '--min-area', type=int, default=1, metavar='N', help='leave out components of less than N pixels')
    boxes.add_argument(
        '--on-road', action='store_true', help='leave out components that do not touch the predicted road')
    heat = parser.add_argument_group('heat maps and score maps')
    heat.add_argument(
        '--heat-range',
        nargs='+',
        default=['auto'],
        metavar='RANGE',
        help="LOW HIGH, the scores of the first and last "
        "colour; 'image', median and largest of each image; 'sigmoid', of log-odds; default: what suits the score")
    heat.add_argument('--score', metavar='NAME', help='score of a model with several; default: the first')
    heat.add_argument('--score-dtype', choices=('float32', 'float16'), default='float32', help='type of score maps')
    run = parser.add_argument_group('how to run')
    run.add_argument('--batch-size', type=int, default=1, metavar='N', help='images of one size that run together')
    run.add_argument('--max-frames', type=int, metavar='N', help='only the first N frames of a video or webcam')
    run.add_argument('--device', help='default: the GPU, or the CPU where there is none')
    run.add_argument('--amp', action='store_true', help='half precision')
    run.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='entries that replace those of the config')
    args = parser.parse_args(argv)
    check_args(parser, args)
    return args


def check_args(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse options that do not fit together, and complete the others."""
    sources = [
        args.threshold is not None, args.calibrate is not None, args.threshold_file is not None
        and args.calibrate is None
    ]
    if sum(sources) > 1:
        parser.error('the threshold comes from one of --threshold, --calibrate and --threshold-file')
    if args.target_fpr is not None and args.calibrate is None:
        parser.error('--target-fpr needs --calibrate, the data that the threshold is found on')
    args.target_fpr = 0.05 if args.target_fpr is None else args.target_fpr
    if not 0 < args.target_fpr < 1:
        parser.error(f'--target-fpr must be between 0 and 1, got {args.target_fpr}')
    if args.out_dir is None and not args.show:
        parser.error('--out-dir or --show is needed, or the results would go nowhere')
    if args.save is None:
        args.save = ['overlay', 'boxes'] if any(sources) else ['overlay']
    if 'boxes' in args.save and not any(sources):
        parser.error('--save boxes needs --threshold, --calibrate or --threshold-file')
    if len(args.heat_range) == 1:
        args.heat_range = args.heat_range[0]
    try:
        scaling_of(None, 2, args.heat_range)
    except ValueError as error:
        parser.error(f'--heat-range: {error}')
    for name in ('min_area', 'batch_size', 'max_frames'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be positive')


class Inputs(NamedTuple):
    """What is to be scored, by the name of its results: files of images; files of videos, or the number of a webcam."""
    images: dict[str, str]
    videos: dict[str, Any]


def find_inputs(text: str) -> Inputs:
    """The images and videos that an argument names.

    Raises:
        FileNotFoundError: There are none.
        ValueError: Two of them would have results of one name.
    """
    if text.isdecimal() and not os.path.exists(text):
        return Inputs({}, {f'webcam{text}': int(text)})
    if os.path.isdir(text):
        files = list_files(text, SUFFIXES, 'images', recursive=False)
        return Inputs({name: os.path.join(text, path) for name, path in files.items()}, {})
    paths = [text] if os.path.isfile(text) else []
    if not paths and has_magic(text):
        paths = sorted(path for path in glob(text, recursive=True) if path.endswith(SUFFIXES) or is_video(path))
    if not paths:
        raise FileNotFoundError(f'input not found: {text} is no image, video or folder, and no pattern of images')
    common = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    named: dict[str, str] = {}
    for path in paths:
        name = os.path.splitext(os.path.relpath(os.path.abspath(path), common))[0]
        if name in named:
            raise ValueError(f'{named[name]} and {path} would have results of one name: give one of them')
        named[name] = path
    return Inputs({
        name: path
        for name, path in named.items() if not is_video(path)
    }, {
        name: path
        for name, path in named.items() if is_video(path)
    })


def is_video(path: str) -> bool:
    """Whether a file is a video, by its ending."""
    return path.lower().endswith(VIDEO_SUFFIXES)


def settings_of(args: argparse.Namespace, cfg: Config, stored: dict[str, Any] | None) -> dict[str, Any]:
    """What results depend on, but for a calibration; those of other settings are not mixed with them."""
    names = ('config', 'checkpoint', 'threshold', 'calibrate', 'min_area', 'on_road', 'heat_range', 'score',
             'score_dtype', 'max_frames', 'amp', 'cfg_options')
    settings = {name: getattr(args, name) for name in names}
    settings['target_fpr'] = args.target_fpr if args.calibrate else None
    settings['threshold_file'] = None if stored is None else stored['threshold']
    settings['sha256'] = hash_files([args.checkpoint, cfg.get('model')])
    return settings


def find_threshold(inferencer: AnomalyInferencer, args: argparse.Namespace, stored: dict[str, Any] | None,
                   noted: dict[str, Any] | None) -> dict[str, Any]:
    """The threshold and what it was found on; None as the threshold where there is none.

    ``stored``: content of a threshold file; ``noted``: the calibration of the run that this one goes on with.
    """
    if stored is not None:
        check_threshold(args.threshold_file, stored, inferencer)
        return stored
    if args.calibrate is None:
        return dict(threshold=args.threshold)
    if noted is not None:
        found = Calibration(**noted)
        print(f'threshold of the earlier run from the normal pixels of {args.calibrate}')
    else:
        data: Any = args.calibrate
        if has_magic(data) and not os.path.exists(data):
            data = list(find_inputs(data).images.values())
        print(f'threshold from the normal pixels of {args.calibrate}')
        found = calibrate(inferencer, data, args.target_fpr)._replace(data=args.calibrate)
    print(f'\nthreshold {found.threshold:g}: {100 * found.fpr:.4g} % of {found.num_pixels} normal pixels in '
          f'{found.num_images} images are above it')
    if args.threshold_file is not None:
        write_threshold(args.threshold_file, found, inferencer)
        print(f'written to {args.threshold_file}')
    return found._asdict()


class Closed(Exception):
    """The user closed the window."""


class Run:
    """Scores images and videos, and leaves what is asked for.

    Args:
        inferencer: Of the model.
        folder: Where to write; None writes nothing.
        threshold: As of :func:`find_threshold`.
        args: The command line.
    """

    def __init__(self, inferencer: AnomalyInferencer, folder: ResultFolder | None, threshold: dict[str, Any],
                 args: argparse.Namespace) -> None:
        self.inferencer = inferencer
        self.folder = folder
        self.args = args
        self.options = dict(
            batch_size=args.batch_size, threshold=threshold['threshold'], min_area=args.min_area, on_road=args.on_road)
        notes = {key: threshold[key] for key in ('data', 'target_fpr', 'fpr') if key in threshold}
        header = dict(
            config=args.config,
            checkpoint=args.checkpoint,
            **inferencer.describe(threshold['threshold'], args.min_area, args.on_road),
            **({
                'calibration': notes
            } if notes else {}))
        if folder is not None:
            folder.begin(header)
        self._written_at = time.monotonic()

    def score_images(self, images: dict[str, str]) -> None:
        """Score files by name."""
        bar = ProgressBar(len(images))
        for name, (image, result) in zip(images, self.inferencer.stream(images.values(), **self.options)):
            pictures = self.draw(image, result)
            if self.folder is not None:
                self.folder.write(name, self.wanted(pictures), result, path=result.name)
                self.write_boxes(WRITE_EVERY)
            bar.update()
            self.show(pictures, 0)

    def score_video(self, name: str, source: str | int) -> None:
        """Score the frames of a video or webcam."""
        info = check_video(source)
        total = min((count for count in (info.num_frames, self.args.max_frames) if count is not None), default=None)
        bar = None if total is None else ProgressBar(total)
        frames = read_frames(source, self.args.max_frames)
        started, number, ended = time.monotonic(), 0, False
        with ExitStack() as stack:
            files = {
                kind: stack.enter_context(VideoFile(self.folder.path(kind, name, '.mp4'), info.fps))
                for kind in (() if self.folder is None else self.folder.pictures)
            }
            try:
                for image, result in self.inferencer.stream(frames, **self.options):
                    pictures = self.draw(image, result)
                    for kind, file in files.items():
                        file.write(pictures[kind])
                    if self.folder is not None:
                        notes = dict(path=source, frame=number, time=number / info.fps)
                        self.folder.write(f'{name}/{number:06d}', {}, result, **notes)
                        self.write_boxes(WRITE_EVERY)
                    number += 1
                    if bar is not None:
                        bar.update()
                    else:
                        print(
                            f'\r{number} frames, {number / (time.monotonic() - started):.1f} a second',
                            end='',
                            flush=True)
                    self.show(pictures, 1e-3)
            except (Closed, KeyboardInterrupt):
                if isinstance(source, str):
                    raise
                ended = True  # the way to end a webcam: what was recorded is kept
            self.write_boxes()  # the videos get their names last
        print(f'\n{name}: {number} frames, {number / (time.monotonic() - started):.2f} a second')
        if total is not None and number < total:
            print(f'{source} says that it has {info.num_frames} frames, but only {number} could be read')
        if ended:
            raise Closed

    def show(self, pictures: dict[str, np.ndarray], wait_time: float) -> None:
        """Show the overlay where that is asked for, for the seconds that the user or else this call names."""
        if self.args.show and not show_image(pictures['overlay'], self.args.wait_time or wait_time):
            raise Closed

    def draw(self, image: np.ndarray, result: AnomalyResult) -> dict[str, np.ndarray]:
        """The pictures to write or to show."""
        kinds = {*(() if self.folder is None else self.folder.pictures), *(['overlay'] if self.args.show else [])}
        return {kind: self.inferencer.visualize(image, result, kind) for kind in kinds}

    def wanted(self, pictures: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The pictures to write."""
        return {kind: pictures[kind] for kind in self.folder.pictures}

    def write_boxes(self, after: float = 0) -> None:
        """Write the boxes so far, if the last time is so many seconds ago."""
        if self.folder is not None and time.monotonic() - self._written_at >= after:
            self.folder.write_boxes()
            self._written_at = time.monotonic()


def find_missing(inputs: Inputs, folder: ResultFolder | None, overwrite: bool) -> Inputs:
    """The inputs whose results are not all there.

    Raises:
        ValueError: What was recorded of a webcam is there.
    """
    if folder is None or overwrite:
        return inputs
    recorded = [name for name, source in inputs.videos.items() if isinstance(source, int) and folder.has_video(name)]
    if recorded:
        raise ValueError(f'{folder.folder} has a recording {recorded[0]} already: write to another folder, or replace '
                         'it with --overwrite')
    images = {name: path for name, path in inputs.images.items() if not folder.has(name)}
    return Inputs(images, {name: source for name, source in inputs.videos.items() if not folder.has_video(name)})


def check_inputs(inputs: Inputs) -> None:
    """Refuse files that are missing or damaged, before the model is built.

    Raises:
        FileNotFoundError, ValueError: Naming the file.
    """
    for path in inputs.images.values():
        check_complete(read_bytes(path), path)
    for source in inputs.videos.values():
        check_video(source)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    inputs = find_inputs(args.input)
    folder = None
    if args.out_dir is not None:
        folder = ResultFolder(args.out_dir, args.save, args.score_dtype)
    todo = find_missing(inputs, folder, args.overwrite)
    check_inputs(todo)
    if args.show:
        check_window()
    cfg = read_config(args.config, args.cfg_options)
    check_checkpoint_file(args.checkpoint)
    stored = None
    if args.threshold_file is not None and args.calibrate is None:
        stored = read_threshold(args.threshold_file)
    settings, noted = settings_of(args, cfg, stored), {}
    if folder is not None and not args.overwrite:
        noted = check_folder(folder.folder / SETTINGS_FILE, settings, 'results', OPTIONAL_SETTINGS)
    there = len(inputs.images) + len(inputs.videos) - len(todo.images) - len(todo.videos)
    if there:
        print(f'{there} of {len(inputs.images) + len(inputs.videos)} are there already')
    if not todo.images and not todo.videos and (args.calibrate is None or args.threshold_file is None):
        return
    inferencer = AnomalyInferencer(
        cfg,
        args.checkpoint,
        device=args.device,
        score=args.score,
        heat_range=args.heat_range,
        amp=args.amp,
        show_progress=True)
    threshold = find_threshold(inferencer, args, stored, noted.get('calibration'))
    if folder is not None:
        if args.calibrate is not None:
            settings['calibration'] = threshold
        claim_folder(folder.folder / SETTINGS_FILE, settings, 'results', args.overwrite, folder.files(),
                     OPTIONAL_SETTINGS)
    run = Run(inferencer, folder, threshold, args)
    try:
        if todo.images:
            run.score_images(todo.images)
        for name, source in todo.videos.items():
            run.score_video(name, source)
    except Closed:
        print('\nended in the window')
    finally:
        run.write_boxes()
    if folder is not None:
        print(f'\nwritten to {folder.folder}')


if __name__ == '__main__':
    main()
