# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import math
from collections.abc import Iterator, Sequence

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from mmseg.registry import DATA_SAMPLERS
from torch.utils.data import Sampler

from .randomness import SampleKey


@DATA_SAMPLERS.register_module()
class DomainBalancedSampler(Sampler):
    """Indices of a MultiDomainDataset such that every batch of every rank holds a fixed number of each domain.

    Domain d is one endless stream of shuffled passes over its samples. Global batch k takes the next n_d * world_size
    draws of it, rank r the r-th n_d of these: the ranks' batches together are the same for any world size, as long
    as n_d * world_size is. Indices come in batch order, for the stock BatchSampler of the same batch size, and are
    :class:`SampleKey` objects.

    An epoch has max_d ceil(L_d / (n_d * world_size)) batches. By epoch, each epoch starts new passes, so it holds
    every sample of the domain that needs the most batches; shorter domains are reshuffled and cycled. With
    ``infinite=True`` passes go on across epochs and the iterator never ends.

    Args:
        dataset: a MultiDomainDataset.
        batch_size: samples a batch on one rank; that of the dataloader.
        num_per_domain: samples of each domain in a batch, one number or one a domain; by default the batch is divided
            evenly.
        ratio: the same in proportions, e.g. (3, 1).
        shuffle: False keeps the order of the data sets.
        seed: seed of the stream, the same on all ranks; by default drawn and shared.

    Raises:
        TypeError: the data set has no domains.
        ValueError: an empty domain, or a batch that the domains do not divide.
    """

    def __init__(self,
                 dataset,
                 batch_size: int,
                 num_per_domain: int | Sequence[int] | None = None,
                 ratio: Sequence[int] | None = None,
                 infinite: bool = False,
                 shuffle: bool = True,
                 seed: int | None = None) -> None:
        if not hasattr(dataset, 'domain_sizes'):
            raise TypeError(f'DomainBalancedSampler needs a MultiDomainDataset, got {type(dataset).__name__}; wrap '
                            "the data set: dict(type='MultiDomainDataset', datasets=[...])")
        self.domain_sizes = tuple(dataset.domain_sizes)
        if not self.domain_sizes or min(self.domain_sizes) < 1:
            raise ValueError(f'every domain needs at least one sample, the sizes are {self.domain_sizes}')
        self.batch_size = batch_size
        self.counts = self._counts(batch_size, num_per_domain, ratio)
        self.infinite = infinite
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else int(seed)
        self.rank, self.world_size = get_dist_info()
        self._offsets = np.cumsum([0, *self.domain_sizes[:-1]]).tolist()
        self.batches_per_epoch = max(
            math.ceil(size / (count * self.world_size)) for size, count in zip(self.domain_sizes, self.counts))
        self._start = 0

    def _counts(self, batch_size: int, num_per_domain: int | Sequence[int] | None,
                ratio: Sequence[int] | None) -> tuple[int, ...]:
        """Samples of each domain in a batch."""
        num_domains = len(self.domain_sizes)
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f'batch_size must be an integer >= 1, got {batch_size!r}')
        if num_per_domain is not None and ratio is not None:
            raise ValueError('give num_per_domain or ratio, not both')
        if num_per_domain is not None:
            given = num_per_domain
            counts = [given] * num_domains if isinstance(given, int) else list(given)
        else:
            parts = [1] * num_domains if ratio is None else list(ratio)
            if any(not isinstance(part, int) or part < 1 for part in parts):
                raise ValueError(f'ratio must be integers >= 1, got {ratio}')
            if batch_size % sum(parts):
                raise ValueError(f'batch_size {batch_size} is not divisible by {sum(parts)}, the sum of the shares '
                                 f'{parts} of the {num_domains} domains')
            counts = [batch_size // sum(parts) * part for part in parts]
        if len(counts) != num_domains:
            raise ValueError(f'{len(counts)} numbers for {num_domains} domains: {counts}')
        if any(not isinstance(count, int) or count < 1 for count in counts):
            raise ValueError(f'each domain needs an integer >= 1 of samples a batch, got {counts}')
        if sum(counts) != batch_size:
            raise ValueError(f'num_per_domain {counts} adds up to {sum(counts)}, not to batch_size {batch_size}')
        return tuple(counts)

    def _permutation(self, domain: int, epoch: int, number: int) -> np.ndarray:
        """Order of the samples of a domain in one pass of an epoch."""
        if not self.shuffle:
            return np.arange(self.domain_sizes[domain])
        return np.random.default_rng([self.seed, domain, epoch, number]).permutation(self.domain_sizes[domain])

    def _batches(self, start: int) -> Iterator[SampleKey]:
        """Keys from global batch ``start`` on, to the end of its epoch or for ever."""
        per_epoch, num_domains = self.batches_per_epoch, len(self.counts)
        epoch, batch = (0, start) if self.infinite else divmod(start, per_epoch)
        passes: list[tuple[int, np.ndarray]] = [(-1, np.empty(0))] * num_domains
        while self.infinite or batch < per_epoch:
            for domain, (size, count) in enumerate(zip(self.domain_sizes, self.counts)):
                first = (batch * self.world_size + self.rank) * count
                base = epoch * per_epoch * self.world_size * count
                for draw in range(first, first + count):
                    number, place = divmod(draw, size)
                    if passes[domain][0] != number:
                        passes[domain] = number, self._permutation(domain, epoch, number)
                    index = self._offsets[domain] + int(passes[domain][1][place])
                    yield SampleKey(index, self.seed, (base + draw) * num_domains + domain)
            batch += 1

    def __iter__(self) -> Iterator[SampleKey]:
        return self._batches(self._start)

    def __len__(self) -> int:
        """Samples of this rank in an epoch."""
        return self.batches_per_epoch * self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Start at the beginning of an epoch; an infinite sampler has none and goes on."""
        if not self.infinite:
            self._start = epoch * self.batches_per_epoch

    def set_start(self, iteration: int) -> None:
        """Let the next iterator begin with global batch ``iteration`` of the run, without drawing those before it."""
        if iteration < 0:
            raise ValueError(f'iteration must be >= 0, got {iteration}')
        self._start = iteration
