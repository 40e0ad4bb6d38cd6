# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Training iterations of networks, in turns, and the memory that one takes."""
import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import PixelData
from mmseg.registry import HOOKS, MODELS, OPTIM_WRAPPERS, OPTIMIZERS
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from mgcda.labels import ANOMALY, IGNORE, NORMAL, NUM_CITYSCAPES_CLASSES, OUTLIER

from .common import wait

#: Side of the squares of one class in a random target, in pixels.
SQUARE = 8


def make_batch(batch: int, height: int, width: int, maps: bool) -> dict:
    """Random images, by turns of either domain; the target has rectangles of anomalies and a strip that is ignored.

    With ``maps`` they have 10 channels, as the dissimilarity network reads them, and the target is 0, 1 and 255.
    Without, they have 3, and the target is classes, outliers and 255.
    """
    generator = torch.Generator().manual_seed(0)
    inputs, samples = [], []
    for index in range(batch):
        packed = torch.randint(0, 256, (10 if maps else 3, height, width), generator=generator, dtype=torch.uint8)
        if maps:
            packed[6] %= NUM_CITYSCAPES_CLASSES
            target = torch.full((1, height, width), NORMAL)
        else:
            squares = torch.randint(
                NUM_CITYSCAPES_CLASSES, (1, -(-height // SQUARE), -(-width // SQUARE)), generator=generator)
            target = squares.repeat_interleave(SQUARE, 1).repeat_interleave(SQUARE, 2)[:, :height, :width].clone()
        target[:, height // 4:height // 2, width // 4:width // 2] = ANOMALY if maps else OUTLIER
        target[:, -max(height // 8, 1):] = IGNORE
        sample = SegDataSample(gt_sem_seg=PixelData(data=target))
        sample.set_metainfo(dict(domain=index % 2, img_shape=(height, width), ori_shape=(height, width)))
        inputs.append(packed)
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def mdat_hook(cfg: Config) -> dict | None:
    """The MDATHook of a config, if it has one."""
    hooks = [*cfg.get('default_hooks', {}).values(), *cfg.get('custom_hooks', [])]
    return next((hook for hook in hooks if hook is not None and hook['type'] == 'MDATHook'), None)


class Bench:
    """One network with random weights, its optimizer, and the pieces of a runner that MDATHook reads.

    Args:
        model (dict): Config of the network.
        optim_wrapper (dict): ``optimizer``, and ``clip_grad`` where gradients are clipped.
        data (dict): The batch of all iterations.
        args (argparse.Namespace): ``device``, ``amp`` and ``cpu_time``.
    """

    def __init__(self, model: dict, optim_wrapper: dict, data: dict, args: argparse.Namespace) -> None:
        self.device = torch.device(args.device)
        self.data = data
        self._clock = time.process_time if args.cpu_time else time.perf_counter
        self._others = torch.cuda.memory_allocated(self.device) if self.device.type == 'cuda' else 0
        self.model = revert_sync_batchnorm(MODELS.build(model)).to(self.device).train()
        self._train_only: nn.Module | None = getattr(self.model, 'train_only', None)
        optimizer = OPTIMIZERS.build(dict(optim_wrapper['optimizer'], params=list(self.model.parameters())))
        self.optim_wrapper = OPTIM_WRAPPERS.build(
            dict(
                type='AmpOptimWrapper' if args.amp else 'OptimWrapper',
                optimizer=optimizer,
                clip_grad=optim_wrapper.get('clip_grad')))
        self._optimizers = [optimizer]
        hub = MessageHub.get_instance('benchmark_train')
        hub.update_info_dict(dict(iter=0, max_iters=10**6))
        self._runner = SimpleNamespace(
            model=self.model,
            optim_wrapper=self.optim_wrapper,
            message_hub=hub,
            seed=0,
            world_size=1,
            auto_scale_lr=None,
            iter=0,
            max_iters=10**6)

    def variant(self, hook_cfg: dict | None, contrast: bool) -> Callable[[], None]:
        """A function that runs one iteration with the given parts."""
        hook = None
        if hook_cfg is not None:
            hook = HOOKS.build(dict(hook_cfg, log_interval=10**6))
            hook.before_run(self._runner)
            hook.before_train(self._runner)
            self._optimizers.append(hook.optim_wrapper.optimizer)

        def iterate() -> None:
            if hook is not None:
                hook.attach(self.model)
            elif hasattr(self.model, 'set_alignment'):
                self.model.set_alignment(None)
            if contrast:
                self.model.train_only = self._train_only
            elif hasattr(self.model, 'train_only'):
                del self.model.train_only
            if hook is not None:
                hook.before_train_iter(self._runner, 0)
            self.model.train_step(self.data, self.optim_wrapper)
            if hook is not None:
                hook.after_train_iter(self._runner, 0)

        return iterate

    def seconds(self, iterate: Callable[[], None]) -> float:
        """Time of one iteration."""
        wait(self.device)
        start = self._clock()
        iterate()
        wait(self.device)
        return self._clock() - start

    def megabytes(self, iterate: Callable[[], None]) -> float:
        """Memory of an iteration of this network's only variant, and of the network, without what was there before it.

        On CUDA the peak of what is allocated, elsewhere :func:`held_bytes`.
        """
        if self.device.type != 'cuda':
            return held_bytes(iterate, self.model, self._optimizers) / 1e6
        iterate()  # the state of the optimizers is made at their first step
        torch.cuda.reset_peak_memory_stats(self.device)
        iterate()
        wait(self.device)
        return (torch.cuda.max_memory_allocated(self.device) - self._others) / 1e6


def held_bytes(iterate: Callable[[], None], model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> int:
    """Bytes of weights, buffers, gradients, optimizer state, and of what autograd saves for backward.

    They are those of a whole iteration, each storage once: an upper bound of what is held at a time, but for what an
    operation takes while it runs.
    """
    storages: dict[int, Any] = {}  # which are held, so that no address is used twice

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage
        return tensor

    def keep_all_of(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for param in (param for group in optimizer.param_groups for param in group['params']):
            keep(param)
            if param.grad is not None:
                keep(param.grad)
            for value in optimizer.state.get(param, {}).values():
                if isinstance(value, Tensor):
                    keep(value)

    for buffer in model.buffers():
        keep(buffer)
    handles = [optimizer.register_step_post_hook(keep_all_of) for optimizer in optimizers]
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        iterate()
    for handle in handles:
        handle.remove()
    return sum(storage.nbytes() for storage in storages.values())


def seconds_in_turns(variants: dict[str, Callable[[], float]], warmup: int, rounds: int) -> dict[str, list[float]]:
    """Times of each variant, whose function runs one iteration and returns its seconds; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(warmup + rounds):
        for name, time_once in variants.items():
            duration = time_once()
            if turn >= warmup:
                seconds[name].append(duration)
    return seconds


def print_table(title: str,
                args: argparse.Namespace,
                seconds: dict[str, list[float]],
                megabytes: dict[str, float] | None = None) -> dict[str, float]:
    """Print a row a variant, all relative to the first one; return the ratios of time."""
    device = torch.cuda.get_device_name(args.device) if torch.device(args.device).type == 'cuda' else \
        f'CPU, {torch.get_num_threads()} thread(s)'
    print(f'{title}: {args.batch} x {args.size[0]} x {args.size[1]}, {device}{", AMP" if args.amp else ""}, '
          f'median of {args.rounds} turns')
    width = max(20, *(len(name) + 2 for name in seconds))
    memory = '' if megabytes is None else f'{"MB":>9}  {"ratio":>6}'
    print(f'{"":<{width}}{"ms":>9}  {"ratio":>6}  {"(quartiles)":<15}{memory}'.rstrip())
    ratios, baseline = {}, next(iter(seconds))
    for name, durations in seconds.items():
        values = sorted(own / base for own, base in zip(durations, seconds[baseline]))
        ratios[name] = statistics.median(values)
        low, high = values[len(values) // 4], values[(3 * len(values)) // 4]
        memory = '' if megabytes is None else \
            f'{megabytes[name]:>9.1f}  {megabytes[name] / megabytes[baseline]:>6.3f}'
        print(f'{name:<{width}}{1000 * statistics.median(durations):>9.1f}  {ratios[name]:>6.3f}  '
              f'({low:.3f} - {high:.3f}){memory}')
    return ratios
