# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Time a training iteration with MDAT and CACL against the baseline's, or that of systems against plain training.

All variants train in the same process on the same random batch, in turns, and each is compared with the first one of
its own turn: a machine that slows down or is shared biases none of them. An iteration is the preprocessing, forward,
backward and step of the network and, with MDAT, the step of the domain classifiers.

Without --systems all variants are one dissimilarity network, that of MGCDA, with its parts switched on and off.

With --systems they are segmentors that train with outliers, and GMMSeg. Plain training is that of the same network as
an EncoderDecoder with cross-entropy, and of all its weights. The optimizer is AdamW for all; gradients are clipped
where the config says so. The second pair of columns is memory: on CUDA the peak of what is allocated in an iteration,
weights included; on a CPU the weights, buffers, gradients, optimizer state and what autograd saves for backward, each
storage counted once.

Examples:
    python tools/analysis_tools/benchmark.py train --size 256 512 --batch 8 --downsample 4
    python tools/analysis_tools/benchmark.py train --systems toy --size 128 256 --batch 8
    python tools/analysis_tools/benchmark.py train --systems configs/toy/void-class.py configs/toy/pebal.py
"""
import argparse
from collections.abc import Callable
from functools import partial

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from .common import without_downloads
from .iterations import Bench, make_batch, mdat_hook, print_table, seconds_in_turns
from .systems import SYSTEMS, measure_systems, read_systems

LEAVES = {
    'vgg16': 'configs/mgcda_cityscapes.py',
    'r50': 'configs/mgcda/mgcda_r50_cityscapes.py',
    'mit-b2': 'configs/mgcda/mgcda_mit-b2_cityscapes.py',
    'convnext-t': 'configs/mgcda/mgcda_convnext-t_cityscapes.py'
}
#: Bounds of the ratio to the baseline: all parts as published, and with an output classifier at a quarter of the size.
TARGETS = {1: 1.45, 4: 1.15}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--backbone', choices=LEAVES, default='vgg16', help='leaf config of that backbone')
    what.add_argument('--config', help='another config with MDATHook and train_only, instead of --backbone')
    what.add_argument(
        '--systems', nargs='+', metavar='CONFIG', help=f'configs of systems, or all over one of {", ".join(SYSTEMS)}')
    parser.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'), help='default: 256 512, on a CPU 64 128')
    parser.add_argument('--batch', type=int, help='images of an iteration, even; default: 8, on a CPU 2')
    parser.add_argument(
        '--downsample', type=int, default=4, help='also time an output classifier at 1/N of the size; not of --systems')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--amp', action='store_true', help='mixed precision (GPU only)')
    parser.add_argument('--cpu-time', action='store_true', help='processor time, for a CPU that others use as well')
    parser.add_argument('--rounds', type=int, default=10, help='timed turns')
    parser.add_argument('--warmup', type=int, default=3, help='turns before them')


def measure_parts(cfg: Config, args: argparse.Namespace) -> None:
    """Time MGCDA's parts."""
    both = mdat_hook(cfg)
    if both is None or 'train_only' not in cfg.model:
        raise ValueError(f'{cfg.filename} must have an MDATHook and model.train_only, as MGCDA has')
    feature, output = dict(both, output_classifier=None), dict(both, feature_classifier=None)
    bench = Bench(cfg.model, dict(optimizer=cfg.optim_wrapper.optimizer), make_batch(args.batch, *args.size, maps=True),
                  args)
    variants: dict[str, Callable[[], None]] = {
        'baseline': bench.variant(None, False),
        'D_f': bench.variant(feature, False),
        'D_o': bench.variant(output, False),
        'CACL': bench.variant(None, True),
        'MGCDA': bench.variant(both, True)
    }
    if args.downsample > 1:
        small = dict(both['output_classifier'], downsample=args.downsample)
        variants[f'D_o / {args.downsample}'] = bench.variant(dict(output, output_classifier=small), False)
        variants[f'MGCDA, D_o / {args.downsample}'] = bench.variant(dict(both, output_classifier=small), True)
    timed = {name: partial(bench.seconds, iterate) for name, iterate in variants.items()}
    ratios = print_table(cfg.filename, args, seconds_in_turns(timed, args.warmup, args.rounds))
    for factor, bound in TARGETS.items():
        name = 'MGCDA' if factor == 1 else f'MGCDA, D_o / {factor}'
        if name in ratios:
            print(f'{name}: {ratios[name]:.3f}, {"within" if ratios[name] <= bound else "above"} {bound}')


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Complete the options, and refuse those that do not go together."""
    on_cpu = torch.device(args.device).type == 'cpu'
    args.size = args.size or ([64, 128] if on_cpu else [256, 512])
    args.batch = args.batch or (2 if on_cpu else 8)
    for name in ('batch', 'downsample', 'rounds'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1')
    if args.batch % 2:
        parser.error('--batch must be even: half of it is of each domain')
    if args.amp and on_cpu:
        parser.error('--amp needs a GPU')
    if args.cpu_time and not on_cpu:
        parser.error('--cpu-time is for a CPU')


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Measure and report; the parser tells what is wrong with the options."""
    check(args, parser)
    init_default_scope('mmseg')
    MMLogger.get_instance('benchmark_train', log_level='ERROR')
    if args.systems:
        for title, seconds, megabytes in measure_systems(read_systems(args.systems), args):
            print_table(title, args, seconds, megabytes)
    else:
        measure_parts(without_downloads(Config.fromfile(args.config or LEAVES[args.backbone])), args)
