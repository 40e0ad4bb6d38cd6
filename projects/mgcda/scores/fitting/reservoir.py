# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import hashlib

import torch
from torch import Tensor


class Reservoir:
    """Uniform sample, without replacement, of the vectors of a stream, in one pass and in any number of parts.

    Every vector gets a random number, its priority, by the ``key`` of its batch; those with the smallest stay. So the
    sample depends neither on the order of the batches nor on which part they are in.

    .. code:: python

        index, priorities = reservoir.draw(len(vectors), 'munster_000001')
        reservoir.add(vectors[index], priorities)

    Args:
        size (int): Vectors that are kept, at most.
        dim (int): Length D of the vectors.
        seed (int): Of the priorities. Defaults to 0.

    ``vectors``: float32 (M, D), by ascending priority. ``count``: the number of vectors that were seen.
    """

    def __init__(self, size: int, dim: int, seed: int = 0) -> None:
        self.size, self.seed = size, seed
        self.count = 0
        self.vectors = torch.zeros(0, dim)
        self.priorities = torch.zeros(0, dtype=torch.float64)

    def draw(self, number: int, key: str) -> tuple[Tensor, Tensor]:
        """Which of ``number`` vectors enter, int64 (M,), and their priorities (M,), both on the CPU."""
        digest = hashlib.sha256(f'{self.seed} {key}'.encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], 'little'))
        priorities = torch.rand(number, dtype=torch.float64, generator=generator)
        self.count += number
        if len(self.priorities) == self.size:
            index = (priorities < self.priorities[-1]).nonzero()[:, 0]
        else:
            index = torch.arange(number)
        if len(index) > self.size:
            index = index[priorities[index].topk(self.size, largest=False).indices]
        return index, priorities[index]

    def add(self, vectors: Tensor, priorities: Tensor) -> None:
        """Add vectors (M, D) that were drawn."""
        if vectors.shape[1] != self.vectors.shape[1]:
            raise ValueError(f'the sample was begun on vectors of length {self.vectors.shape[1]}, now they are of '
                             f'length {vectors.shape[1]}')
        priorities, order = torch.cat([self.priorities, priorities]).sort()
        order = order[:self.size]
        self.vectors = torch.cat([self.vectors, vectors.float().cpu()])[order]
        self.priorities = priorities[:self.size]

    def merge(self, other: 'Reservoir') -> None:
        """Add what another of the same size and seed has seen."""
        self.count += other.count
        self.add(other.vectors, other.priorities)

    def state(self) -> dict[str, Tensor]:
        """The sample, on the CPU."""
        return dict(count=torch.tensor(self.count), vectors=self.vectors, priorities=self.priorities)

    @classmethod
    def from_state(cls, state: dict[str, Tensor], size: int, seed: int = 0) -> 'Reservoir':
        """The sample of a :meth:`state`."""
        reservoir = cls(size, state['vectors'].shape[1], seed)
        reservoir.count = int(state['count'])
        reservoir.vectors, reservoir.priorities = state['vectors'], state['priorities']
        return reservoir
