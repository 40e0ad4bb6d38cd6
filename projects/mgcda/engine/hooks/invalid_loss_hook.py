# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import math
from typing import Dict, List, Optional, Tuple

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.runner import Runner

from mmseg.registry import HOOKS


@HOOKS.register_module()
class InvalidLossHook(Hook):
    """Stop a training whose loss is NaN or infinite, and never save its weights.

    The losses of every iteration are kept on their device and looked at together, so that the device is waited for
    once in ``interval`` iterations: then, at the end of an epoch and of the run, and before a checkpoint is written.

    Args:
        interval (int): Look at the losses every so many iterations, at least 1.

    Raises:
        ValueError: At the check, naming the first iteration (counted from 1) and the losses that were not finite.
    """

    # Before the checkpoint hook.
    priority = 'NORMAL'

    def __init__(self, interval: int = 50) -> None:
        if not isinstance(interval, int) or isinstance(interval, bool) or interval < 1:
            raise ValueError(f'interval must be an integer of at least 1, got {interval!r}')
        self.interval = interval
        self._pending: List[Tuple[int, Dict[str, torch.Tensor]]] = []

    def before_train(self, runner: Runner) -> None:
        self._pending.clear()

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: DATA_BATCH = None,
                         outputs: Optional[dict] = None) -> None:
        losses = {
            name: torch.as_tensor(value).detach()
            for name, value in (outputs or {}).items() if 'loss' in name
        }
        self._pending.append((runner.iter + 1, losses))
        if len(self._pending) >= self.interval:
            self._check()

    def after_train_epoch(self, runner: Runner) -> None:
        self._check()

    def after_train(self, runner: Runner) -> None:
        self._check()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._check()

    def _check(self) -> None:
        pending, self._pending = self._pending, []
        tensors = [value.float().mean() for _, losses in pending for value in losses.values()]
        if not tensors:
            return
        # One transfer for all of them.
        values = iter(torch.stack([value.to(tensors[0].device) for value in tensors]).tolist())
        for iteration, losses in pending:
            invalid = {name: value for name, value in zip(losses, values) if not math.isfinite(value)}
            if invalid:
                shown = ', '.join(f'{name} = {value}' for name, value in invalid.items())
                raise ValueError(f'the loss is not finite at iteration {iteration} (rank {get_rank()}): {shown}. No '
                                 'checkpoint of it was written; resume from an earlier one with a lower learning '
                                 'rate, or look at the data')
