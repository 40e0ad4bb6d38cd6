# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import bisect
from collections.abc import Sequence

from mmengine.dataset import BaseDataset, ConcatDataset, force_full_init
from mmseg.registry import DATASETS

from .randomness import SampleKey, keyed_random


@DATASETS.register_module()
class MultiDomainDataset(ConcatDataset):
    """Training domains in a row, every sample a pure function of its :class:`SampleKey`.

    Inside ``__getitem__`` the generators of Python, NumPy and torch (CPU) are seeded from (seed, position, index); a
    plain index has seed 0 and position = index. One domain alone is allowed.

    Args:
        datasets: one data set a domain, in the order of the sampler's ``num_per_domain``.

    Raises:
        ValueError: no data set, an empty one, or two of the same domain.
    """

    def __init__(self, datasets: Sequence[BaseDataset | dict], **kwargs) -> None:
        if not datasets:
            raise ValueError('MultiDomainDataset needs at least one data set in datasets')
        super().__init__(datasets=datasets, **kwargs)
        domains = [dataset.domain for dataset in self.datasets if getattr(dataset, 'domain', None) is not None]
        if len(set(domains)) != len(domains):
            raise ValueError(f'the domains of MultiDomainDataset must differ, got {domains}; set domain=... of the '
                             'data sets')

    @property
    @force_full_init
    def domain_sizes(self) -> tuple[int, ...]:
        """Number of samples of each domain."""
        return tuple(len(dataset) for dataset in self.datasets)

    def __getitem__(self, idx: int) -> dict:
        if not self._fully_initialized:
            self.full_init()
        key = SampleKey.of(idx)
        if not 0 <= key < len(self):
            raise IndexError(f'index {int(key)} is outside the data set of {len(self)} samples')
        domain = bisect.bisect_right(self.cumulative_sizes, key)
        local = int(key) - (self.cumulative_sizes[domain - 1] if domain else 0)
        with keyed_random(key):
            return self.datasets[domain][local]
