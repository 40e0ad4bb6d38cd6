# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Class weights of a loss from the labels that a run trains on."""

import numpy as np
import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

#: Key of the hook's state in a checkpoint.
CHECKPOINT_KEY = 'class_weights'
NUM_LABELS = 256


class _PixelCounts(Dataset):
    """Numbers of pixels (256,) of each label in some samples of a data set."""

    def __init__(self, dataset: Dataset, indices: list[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Tensor:
        label = self.dataset[self.indices[index]]['data_samples'].gt_sem_seg.data
        return torch.bincount(label.flatten().long(), minlength=NUM_LABELS)


@HOOKS.register_module()
class ClassWeightHook(Hook):
    r"""Weigh the classes of the pixel losses by their share in the training data, as SynBoost does.

    .. math:: w_c = 1 / \ln(1.02 + s_c)

    :math:`s_c` is the share of class c among the labelled pixels; each domain counts the same. Before training, the
    labels of ``num_images`` samples of each domain are read through the data set's own pipeline, so that composites
    made online count as the network sees them. Which samples is fixed, whatever the run's seed; ranks divide them and
    add up whole numbers, so that the weights depend neither on their number nor on that of the workers, and no random
    number of the run is drawn. The counts are stored in the checkpoint under 'class_weights'; a resumed run takes them
    from there.

    Losses with ``set_pixel_counts(counts)``, such as ``PixelCrossEntropyLoss``, get the weights. A loss whose
    ``class_weight`` is given in the config keeps it. Without the hook (``default_hooks.class_weights=None``) all
    classes weigh the same.

    Args:
        num_images (int): Samples of a domain that are read; all of them where it has fewer. Defaults to 200.

    Raises:
        ValueError: If ``num_images`` is below 1; when training starts, if no pixel of the samples is labelled; on
            resuming, if the checkpoint holds no class weights.
        TypeError: When training starts, if the model has no such loss, or the data set is no ``MultiDomainDataset``.
    """

    def __init__(self, num_images: int = 200) -> None:
        if num_images < 1 or int(num_images) != num_images:
            raise ValueError(f'num_images must be an integer of at least 1, got {num_images}')
        self.num_images = int(num_images)
        self._losses: list[nn.Module] = []
        self._counts: Tensor | None = None
        self._num_read = 0

    def before_run(self, runner: Runner) -> None:
        """Find the losses that get weights, in a training run."""
        if not isinstance(runner.optim_wrapper, OptimWrapper) or self._losses:  # a config still: the run only tests
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        losses = [module for module in model.modules() if hasattr(module, 'set_pixel_counts')]
        if not losses:
            raise TypeError(f'ClassWeightHook finds no loss with set_pixel_counts in {type(model).__name__}: use '
                            'PixelCrossEntropyLoss, or leave the hook out with default_hooks.class_weights=None')
        self._losses = [loss for loss in losses if loss.class_weight is None]
        if not self._losses:
            runner.logger.info('class weights: those that the config gives')

    def before_train(self, runner: Runner) -> None:
        """Count the pixels, unless the run was resumed, and hand the counts to the losses."""
        if not self._losses:
            return
        if self._counts is None:
            self._counts = self._count(runner)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        device = next(model.parameters()).device
        for loss in self._losses:
            loss.set_pixel_counts(self._counts.to(device))
        weights = self._losses[0].label_weight.cpu()
        shown = ', '.join(f'{weight:.2f}' for weight in weights[(self._counts > 0) & (weights > 0)].tolist())
        runner.logger.info(f'class weights {shown} from {self._num_read} labels')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the counts."""
        if self._counts is not None:
            checkpoint[CHECKPOINT_KEY] = dict(counts=self._counts.clone(), num_read=self._num_read)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take the counts of a run that is resumed."""
        if not self._losses or not runner._resume:
            return
        if CHECKPOINT_KEY not in checkpoint:
            raise ValueError(f"the checkpoint has no '{CHECKPOINT_KEY}': its run began without them. Resume it with "
                             'default_hooks.class_weights=None, or start a new run from its weights with load_from')
        state = checkpoint[CHECKPOINT_KEY]
        self._counts, self._num_read = state['counts'].cpu(), state['num_read']

    def _count(self, runner: Runner) -> Tensor:
        """Mean number of pixels (256,), float64, of each label but 255 in an image, the domains weighed the same."""
        dataloader = runner.train_dataloader
        dataset = dataloader.dataset
        if not hasattr(dataset, 'domain_sizes'):
            raise TypeError(f'ClassWeightHook needs a MultiDomainDataset, got {type(dataset).__name__}: wrap the data '
                            "set, dict(type='MultiDomainDataset', datasets=[...]); one domain is fine")
        sizes = dataset.domain_sizes
        starts = np.cumsum([0, *sizes[:-1]])
        chosen = [(domain, int(start + index)) for domain, (start, size) in enumerate(zip(starts, sizes))
                  for index in np.random.default_rng([0, domain]).permutation(size)[:self.num_images]]
        rank, world_size = dist.get_dist_info()
        own = chosen[rank::world_size]
        loader = DataLoader(
            _PixelCounts(dataset, [index for _, index in own]),
            batch_size=None,
            num_workers=min(dataloader.num_workers, len(own)),
            generator=torch.Generator())  # one of its own: the global one is the run's
        counts = torch.zeros(len(sizes), NUM_LABELS, dtype=torch.int64)
        for (domain, _), pixels in zip(own, loader):
            counts[domain] += pixels
        dist.all_reduce(counts)
        counts[:, -1] = 0
        if not counts.any():
            raise ValueError(f'no pixel of the {len(chosen)} samples that ClassWeightHook read is labelled: see to the '
                             'labels of train_dataloader.dataset')
        self._num_read = len(chosen)
        num_images = torch.tensor([min(size, self.num_images) for size in sizes])
        return (counts.double() / num_images[:, None]).mean(0)
