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
from collections.abc import Sequence

from mmengine.config import DictAction

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'projects'))

from mgcda.apis.inference_job import InferenceJob
from mgcda.apis.result_folder import KINDS
from mgcda.utils.checkpoints import check_checkpoint_file
from mgcda.utils.configs import read_config
from mgcda.visualization import scaling_of


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
    stored = args.threshold_file is not None and args.calibrate is None
    sources = [args.threshold is not None, args.calibrate is not None, stored]
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


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    cfg = read_config(args.config, args.cfg_options)
    check_checkpoint_file(args.checkpoint)
    InferenceJob(**vars(args)).run(cfg, say=print)


if __name__ == '__main__':
    main()
