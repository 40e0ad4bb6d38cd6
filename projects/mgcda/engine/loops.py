# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Train loops that continue a run exactly where it stopped."""
from collections.abc import Iterator

from mmengine.dist import get_rank
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmseg.registry import LOOPS
from torch.utils.data import DataLoader, Dataset


def _shared_seed(runner: Runner) -> int:
    """Seed of the run that all ranks know, also where each rank has its own (``diff_rank_seed``)."""
    return runner.seed - get_rank() if runner._randomness_cfg.get('diff_rank_seed', False) else runner.seed


def _build_dataloader(runner: Runner, dataloader: DataLoader | dict) -> DataLoader:
    """The dataloader, its sampler seeded alike on all ranks."""
    if isinstance(dataloader, dict):
        dataloader = runner.build_dataloader(dataloader, seed=_shared_seed(runner))
    return dataloader


def _resumable_sampler(dataloader: DataLoader):
    """The sampler of a dataloader, which must be able to start anywhere.

    Raises:
        TypeError: it has no ``set_start``.
        ValueError: its batch size is not that of the dataloader.
    """
    sampler = getattr(dataloader.batch_sampler, 'sampler', dataloader.sampler)
    if not hasattr(sampler, 'set_start'):
        raise TypeError(f'train_dataloader.sampler {type(sampler).__name__} cannot start in the middle of a run, as a '
                        "resumable loop needs: use dict(type='DomainBalancedSampler', batch_size=...) on a "
                        'MultiDomainDataset (one domain is fine), or any sampler with set_start(iteration)')
    expected = getattr(sampler, 'batch_size', None)
    actual = getattr(dataloader.batch_sampler, 'batch_size', None)
    if expected is not None and actual is not None and expected != actual:
        raise ValueError(f'train_dataloader.batch_size is {actual}, but the batch_size of its sampler is {expected}')
    return sampler


class _Start:
    """Where and with which seed a sampler begins.

    A resumed run takes its seed from the checkpoint, after the sampler was built: a sampler that was seeded by the run
    follows it.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader) -> None:
        self.runner = runner
        self.sampler = _resumable_sampler(dataloader)
        self._built_with = _shared_seed(runner)

    def __call__(self, iteration: int) -> None:
        seed = _shared_seed(self.runner)
        if getattr(self.sampler, 'seed', seed) == self._built_with:
            self.sampler.seed = self._built_with = seed
        self.sampler.set_start(iteration)


class _Unopened:
    """Stands in for a dataloader, so that no worker process starts before the first iteration is known."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator:
        return iter(())


def _validate_if_missed(loop: EpochBasedTrainLoop | IterBasedTrainLoop, step: int) -> None:
    """Run the validation of an epoch or iteration if a schedule of the run, such as ReduceOnPlateauLR, lacks it.

    The checkpoint of a step is written before the validation of that step: a run that is resumed from it catches up.
    ``val_interval`` must have been the same all along.
    """
    schedulers = loop.runner.param_schedulers or []
    if isinstance(schedulers, dict):
        schedulers = [scheduler for part in schedulers.values() for scheduler in part]
    seen = [scheduler.last_step + 1 for scheduler in schedulers if getattr(scheduler, 'need_val_args', False)]
    if not seen or loop.runner.val_loop is None or step < loop.val_begin or step % loop.val_interval:
        return
    if min(seen) < step // loop.val_interval - (loop.val_begin - 1) // loop.val_interval:
        loop.runner.val_loop.run()


@LOOPS.register_module()
class ResumableIterTrainLoop(IterBasedTrainLoop):
    """IterBasedTrainLoop whose resumed run starts the sampler at its iteration instead of reading what was used.

    Takes the arguments of mmengine's IterBasedTrainLoop. The sampler has ``set_start(iteration)``; where it ends with
    an epoch, it is started again at once. Where a schedule follows a metric of validation, the validation that a
    checkpoint was written before is made up for.

    Raises:
        TypeError, ValueError: the sampler cannot do that, or expects another batch size.
    """

    def __init__(self,
                 runner: Runner,
                 dataloader: DataLoader | dict,
                 max_iters: int,
                 val_begin: int = 1,
                 val_interval: int = 1000,
                 dynamic_intervals: list[tuple[int, int]] | None = None) -> None:
        opened = _build_dataloader(runner, dataloader)
        self._start = _Start(runner, opened)
        super().__init__(runner, _Unopened(opened.dataset), max_iters, val_begin, val_interval, dynamic_intervals)
        self.dataloader = opened
        self.dataloader_iterator = None

    def _batches(self) -> Iterator:
        """Batches from the current iteration on, without end."""
        while True:
            self._start(self._iter)
            first = self._iter
            yield from self.dataloader
            if self._iter == first:
                raise ValueError(f'train_dataloader gave no batch at iteration {first}')

    def run(self):
        """Train from the current iteration to the last."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        if self._iter:
            self.runner.logger.info(f'Training goes on at iteration {self._iter}; no data is read twice')
            if self._iter < self._max_iters:
                _validate_if_missed(self, self._iter)
        self.dataloader_iterator = self._batches()
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self._decide_current_val_interval()
            if (self.runner.val_loop is not None and self._iter >= self.val_begin
                    and (self._iter % self.val_interval == 0 or self._iter == self._max_iters)):
                self.runner.val_loop.run()
        self.dataloader_iterator.close()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model


@LOOPS.register_module()
class ResumableEpochTrainLoop(EpochBasedTrainLoop):
    """EpochBasedTrainLoop that also continues inside an epoch, from a checkpoint of CheckpointHook(by_epoch=False).

    Takes the arguments of mmengine's EpochBasedTrainLoop. The sampler has ``set_start(iteration)`` and ends with the
    epoch. Where a schedule follows a metric of validation, the validation that a checkpoint was written before is made
    up for.

    Raises:
        TypeError, ValueError: the sampler cannot do that, or expects another batch size; on resuming, the checkpoint
            comes from a run with another number of batches an epoch.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, *args, **kwargs) -> None:
        opened = _build_dataloader(runner, dataloader)
        self._start = _Start(runner, opened)
        if getattr(self._start.sampler, 'infinite', False):
            raise ValueError('ResumableEpochTrainLoop needs a sampler that ends with the epoch: set infinite=False')
        super().__init__(runner, opened, *args, **kwargs)

    def run(self):
        """Train from the current iteration to the last."""
        self._used_batches()
        self._resumed = self._iter > 0
        if self._resumed:
            self.runner.logger.info(f'Training goes on at iteration {self._iter}; no data is read twice')
        return super().run()

    def _used_batches(self) -> int:
        """Batches of the current epoch that are used already."""
        per_epoch = len(self.dataloader)
        used = self._iter - self._epoch * per_epoch
        if not 0 <= used <= per_epoch:
            raise ValueError(f'the checkpoint is at iteration {self._iter} in epoch {self._epoch}, which does not fit '
                             f'{per_epoch} batches an epoch: resume with the data, batch size and number of processes '
                             'that it was made with')
        return used

    def run_epoch(self) -> None:
        """Iterate over what is left of the epoch."""
        if self._resumed:
            _validate_if_missed(self, self._epoch)
            self._resumed = False
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        used = self._used_batches()
        if used < len(self.dataloader):
            self._start(self._iter)
            for index, batch in enumerate(self.dataloader, start=used):
                self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
