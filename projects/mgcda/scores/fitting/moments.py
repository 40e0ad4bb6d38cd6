# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.

import torch
from torch import Tensor


class ClassMoments:
    r"""Counts, means and scatter of vectors by class, in float64, in one pass and in any number of parts.

    Parts are merged as Chan et al. (1979) do: with the difference :math:`\delta` of two means of :math:`n` and
    :math:`m` vectors, the scatters add up with :math:`\delta \delta^T n m / (n + m)`. Nothing cancels in any order.

    Args:
        dim (int): Length D of the vectors.
        shared (bool): Keep one scatter matrix (D, D) around the class means, summed over the classes. Otherwise that of
            each class and entry, (K, D). Defaults to False.

    ``counts`` (K,), ``means`` (K, D) and ``scatter`` grow with the largest class that is seen.
    """

    def __init__(self, dim: int, shared: bool = False) -> None:
        self.shared = shared
        self.counts = torch.zeros(0, dtype=torch.float64)
        self.means = torch.zeros(0, dim, dtype=torch.float64)
        self.scatter = torch.zeros(dim if shared else 0, dim, dtype=torch.float64)

    def update(self, vectors: Tensor, classes: Tensor, num_classes: int = 0) -> None:
        """Add vectors (M, D) of classes (M,), integers; keep room for ``num_classes`` at least."""
        vectors = vectors.double()
        counts = torch.bincount(classes, minlength=max(num_classes, 1)).double()
        sums = vectors.new_zeros(len(counts), vectors.shape[1]).index_add_(0, classes, vectors)
        means = sums / counts.clamp(min=1)[:, None]
        rest = vectors - means[classes]
        if self.shared:
            scatter = rest.T @ rest
        else:
            scatter = torch.zeros_like(means).index_add_(0, classes, rest.square_())
        self._merge(counts, means, scatter)

    def merge(self, other: 'ClassMoments') -> None:
        """Add what another has seen."""
        self._merge(other.counts, other.means, other.scatter)

    def _merge(self, counts: Tensor, means: Tensor, scatter: Tensor) -> None:
        size = max(len(counts), len(self.counts))
        counts, means, scatter = self._grown(counts, means, scatter, size)
        own_counts, own_means, own_scatter = self._grown(self.counts, self.means, self.scatter, size)
        counts, means, scatter = (value.to(own_counts.device) for value in (counts, means, scatter))
        total = own_counts + counts
        delta = means - own_means
        weight = (own_counts * counts / total.clamp(min=1))[:, None]
        between = (weight * delta).T @ delta if self.shared else weight * delta.square()
        self.counts = total
        self.means = own_means + delta * (counts / total.clamp(min=1))[:, None]
        self.scatter = own_scatter + scatter + between

    def _grown(self, counts: Tensor, means: Tensor, scatter: Tensor, size: int) -> tuple:
        """The moments with empty classes up to ``size``."""
        missing = size - len(counts)
        if not missing:
            return counts, means, scatter
        empty = means.new_zeros(missing, means.shape[1])
        scatter = scatter if self.shared else torch.cat([scatter, empty])
        return torch.cat([counts, counts.new_zeros(missing)]), torch.cat([means, empty]), scatter

    def state(self) -> dict[str, Tensor]:
        """The moments, on the CPU."""
        return {name: getattr(self, name).cpu() for name in ('counts', 'means', 'scatter')}

    @classmethod
    def from_state(cls, state: dict[str, Tensor], shared: bool = False) -> 'ClassMoments':
        """The moments of a :meth:`state`."""
        moments = cls(state['means'].shape[1], shared)
        moments.counts, moments.means, moments.scatter = (state[name] for name in ('counts', 'means', 'scatter'))
        return moments
