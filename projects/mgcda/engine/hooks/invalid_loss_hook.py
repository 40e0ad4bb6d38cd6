# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import math

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS


@HOOKS.register_module()
class InvalidLossHook(Hook):
    """Stop a training whose loss is NaN or infinite, and never save such weights.

    The losses of every iteration are kept on their device and looked at together, so that the device is waited for
    once in ``interval`` iterations: then, at the end of an epoch and of the run, and before a checkpoint is written.
    The weights are looked at before they are written: a step on a finite loss can still spoil them.

    Args:
        interval (int): Look at the losses every so many iterations, at least 1.

    Raises:
        ValueError: At the check, naming the first iteration (counted from 1) and the losses that were not finite; or
            the weights, where no loss shows it yet.
    """

    # Before the checkpoint hook, and before MDATHook looks at its classifiers, which such a loss spoils, too.
    priority = 'ABOVE_NORMAL'

    def __init__(self, interval: int = 50) -> None:
        if not isinstance(interval, int) or isinstance(interval, bool) or interval < 1:
            raise ValueError(f'interval must be an integer of at least 1, got {interval!r}')
        self.interval = interval
        self._pending: list[tuple[int, dict[str, torch.Tensor]]] = []

    def before_train(self, runner: Runner) -> None:
        self._pending.clear()

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: DATA_BATCH = None,
                         outputs: dict | None = None) -> None:
        losses = {name: torch.as_tensor(value).detach() for name, value in (outputs or {}).items() if 'loss' in name}
        self._pending.append((runner.iter + 1, losses))
        if len(self._pending) >= self.interval:
            self._check()

    def after_train_epoch(self, runner: Runner) -> None:
        self._check()

    def after_train(self, runner: Runner) -> None:
        self._check()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._check()
        if 'state_dict' in checkpoint:
            check_weights(runner, checkpoint)

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


def check_weights(runner: Runner, checkpoint: dict) -> None:
    """Raise ValueError where parameters are not finite; buffers may hold infinities."""
    state_dict = checkpoint['state_dict']
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    names = [name for name, _ in model.named_parameters() if name in state_dict]
    invalid = [name for name in names if not torch.isfinite(state_dict[name]).all()]
    if invalid:
        shown = ', '.join(invalid[:3]) + (', ...' if len(invalid) > 3 else '')
        raise ValueError(f'{len(invalid)} of {len(names)} weights are not finite after iteration '
                         f'{checkpoint["meta"]["iter"]}, though its loss was: {shown}. No checkpoint of them was '
                         'written; resume from an earlier one with a lower learning rate or with clipped gradients')
