# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Time a training iteration with MDAT and CACL against the baseline's.

All variants train the same network in the same process on the same random batch, in turns, and each is compared with
the baseline of its own turn: a machine that slows down or is shared biases none of them. An iteration is the
preprocessing, forward, backward and step of the network and, with MDAT, the step of the domain classifiers.

Example:
    python tools/analysis_tools/benchmark_train.py --size 256 512 --batch 8 --downsample 4
"""
import argparse
import os
import statistics
import sys
import time
from types import SimpleNamespace
from typing import Callable, Dict, List, Optional

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import HOOKS, MODELS, OPTIM_WRAPPERS, OPTIMIZERS
from mmseg.structures import SegDataSample
from torch import nn

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from benchmark_utils import without_downloads  # noqa: E402

LEAVES = {
    'vgg16': 'configs/mgcda_cityscapes.py',
    'r50': 'configs/mgcda/mgcda_r50_cityscapes.py',
    'mit-b2': 'configs/mgcda/mgcda_mit-b2_cityscapes.py',
    'convnext-t': 'configs/mgcda/mgcda_convnext-t_cityscapes.py'
}
#: Bounds of the ratio to the baseline: all parts as published, and with an output classifier at a quarter of the size.
TARGETS = {1: 1.45, 4: 1.15}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--backbone', choices=LEAVES, default='vgg16', help='leaf config of that backbone')
    parser.add_argument('--config', help='another config with MDATHook and train_only, instead of --backbone')
    parser.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'), help='default: 256 512, on a CPU 64 128')
    parser.add_argument('--batch', type=int, help='images of an iteration, even; default: 8, on a CPU 2')
    parser.add_argument('--downsample', type=int, default=4, help='also time an output classifier at 1/N of the size')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--amp', action='store_true', help='mixed precision (GPU only)')
    parser.add_argument('--cpu-time', action='store_true', help='processor time, for a CPU that others use as well')
    parser.add_argument('--rounds', type=int, default=10, help='timed turns')
    parser.add_argument('--warmup', type=int, default=3, help='turns before them')
    args = parser.parse_args()
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
    return args


def make_batch(batch: int, height: int, width: int) -> dict:
    """Random images; the target has rectangles of anomalies and a strip that is ignored."""
    generator = torch.Generator().manual_seed(0)
    inputs, samples = [], []
    for index in range(batch):
        packed = torch.randint(0, 256, (10, height, width), generator=generator, dtype=torch.uint8)
        packed[6] %= 19
        target = torch.zeros(1, height, width, dtype=torch.int64)
        target[:, height // 4:height // 2, width // 4:width // 2] = 1
        target[:, -max(height // 8, 1):] = 255
        sample = SegDataSample(gt_sem_seg=PixelData(data=target))
        sample.set_metainfo(dict(domain=index % 2, img_shape=(height, width), ori_shape=(height, width)))
        inputs.append(packed)
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


class Bench:
    """One network, its optimizer, and the pieces of a runner that MDATHook reads."""

    def __init__(self, cfg: Config, args: argparse.Namespace) -> None:
        self.cfg = cfg
        self.device = torch.device(args.device)
        self.clock = time.process_time if args.cpu_time else time.perf_counter
        self.model = MODELS.build(cfg.model).to(self.device).train()
        self.train_only: nn.Module = self.model.train_only
        self.data = make_batch(args.batch, *args.size)
        optimizer = OPTIMIZERS.build(dict(cfg.optim_wrapper.optimizer, params=list(self.model.parameters())))
        wrapper = 'AmpOptimWrapper' if args.amp else 'OptimWrapper'
        self.optim_wrapper = OPTIM_WRAPPERS.build(dict(type=wrapper, optimizer=optimizer))
        hub = MessageHub.get_instance('benchmark_train')
        hub.update_info_dict(dict(iter=0, max_iters=10**6))
        self.runner = SimpleNamespace(
            model=self.model, optim_wrapper=self.optim_wrapper, message_hub=hub, seed=0, world_size=1,
            auto_scale_lr=None, iter=0, max_iters=10**6)

    def variant(self, hook_cfg: Optional[dict], contrast: bool) -> Callable[[], None]:
        """A function that runs one iteration with the given parts."""
        hook = None
        if hook_cfg is not None:
            hook = HOOKS.build(dict(hook_cfg, log_interval=10**6))
            hook.before_run(self.runner)
            hook.before_train(self.runner)

        def iterate() -> None:
            self.model.set_alignment(None if hook is None else hook.adversarial_losses)
            if contrast:
                self.model.train_only = self.train_only
            elif hasattr(self.model, 'train_only'):
                del self.model.train_only
            if hook is not None:
                hook.before_train_iter(self.runner, 0)
            self.model.train_step(self.data, self.optim_wrapper)
            if hook is not None:
                hook.after_train_iter(self.runner, 0)

        return iterate

    def seconds(self, iterate: Callable[[], None]) -> float:
        """Time of one iteration."""
        self.wait()
        start = self.clock()
        iterate()
        self.wait()
        return self.clock() - start

    def wait(self) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)


def main() -> None:
    args = parse_args()
    init_default_scope('mmseg')
    MMLogger.get_instance('benchmark_train', log_level='ERROR')
    cfg = without_downloads(Config.fromfile(args.config or LEAVES[args.backbone]))
    hooks = [hook for hook in [*cfg.get('default_hooks', {}).values(), *cfg.get('custom_hooks', [])]
             if hook is not None and hook['type'] == 'MDATHook']
    if not hooks or 'train_only' not in cfg.model:
        raise ValueError(f'{cfg.filename} must have an MDATHook and model.train_only, as MGCDA has')
    both = hooks[0]
    feature, output = dict(both, output_classifier=None), dict(both, feature_classifier=None)
    bench = Bench(cfg, args)
    variants: Dict[str, Callable[[], None]] = {
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
    seconds: Dict[str, List[float]] = {name: [] for name in variants}
    for turn in range(args.warmup + args.rounds):
        for name, iterate in variants.items():
            duration = bench.seconds(iterate)
            if turn >= args.warmup:
                seconds[name].append(duration)
    device = torch.cuda.get_device_name(bench.device) if bench.device.type == 'cuda' else \
        f'CPU, {torch.get_num_threads()} thread(s)'
    print(f'{cfg.filename}: {args.batch} x {args.size[0]} x {args.size[1]}, {device}{", AMP" if args.amp else ""}, '
          f'median of {args.rounds} turns')
    print(f'{"":<20}{"ms":>9}  {"ratio":>6}  (quartiles)')
    ratios = {}
    for name, durations in seconds.items():
        values = sorted(own / base for own, base in zip(durations, seconds['baseline']))
        ratios[name] = statistics.median(values)
        low, high = values[len(values) // 4], values[(3 * len(values)) // 4]
        print(f'{name:<20}{1000 * statistics.median(durations):>9.1f}  {ratios[name]:>6.3f}  ({low:.3f} - {high:.3f})')
    for factor, bound in TARGETS.items():
        name = 'MGCDA' if factor == 1 else f'MGCDA, D_o / {factor}'
        if name in ratios:
            print(f'{name}: {ratios[name]:.3f}, {"within" if ratios[name] <= bound else "above"} {bound}')


if __name__ == '__main__':
    main()
