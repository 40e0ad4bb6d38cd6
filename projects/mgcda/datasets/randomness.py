# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Random numbers of the data that are a pure function of (seed, position, index)."""
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


class SampleKey(int):
    """Index of a sample that carries what its random numbers are drawn from.

    It is a plain index to whoever does not look closer, and survives pickling on its way to a worker.

    Args:
        index: index into the data set.
        seed: seed of the run's sample stream, >= 0.
        position: position of this draw in the stream of the whole run, >= 0; the same whatever the number of ranks
            and workers. ``index`` by default.
    """

    def __new__(cls, index: int, seed: int = 0, position: int = None) -> 'SampleKey':
        key = super().__new__(cls, index)
        key.seed = int(seed)
        key.position = int(index) if position is None else int(position)
        return key

    def __getnewargs__(self) -> tuple[int, int, int]:
        return int(self), self.seed, self.position

    def __repr__(self) -> str:
        return f'SampleKey({int(self)}, seed={self.seed}, position={self.position})'

    @classmethod
    def of(cls, index: int) -> 'SampleKey':
        """The key itself, or for a plain index the key with seed 0 and position = index."""
        return index if isinstance(index, cls) else cls(index)


@contextmanager
def keyed_random(key: SampleKey) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's CPU generators from the key inside the block, and restore them after it."""
    words = np.random.SeedSequence([key.seed, key.position, int(key)]).generate_state(4)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]) << 32 | int(words[3]))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
