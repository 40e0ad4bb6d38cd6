# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mgcda.labels import IGNORE

from .fitted_score import FittedScore, valid
from .reservoir import Reservoir

VALID, VOID = 'valid', 'void'


class SampleScore(FittedScore):
    """Fitted score whose statistics are a sample of pixels, with the features of all its layers side by side.

    Pixels are drawn on the grid of the largest map; of the others the value there is taken.

    Args:
        layers (Sequence[str]): The layers whose features are read.
        sample_size (int): Pixels that are kept, at most.
        seed (int): Of the sample, and of all that is random in the fit.
        fitted, **settings: See :class:`FittedScore`.

    ``samples`` holds the sample 'valid' of pixels with a class label, and 'void' of those without where ``with_void``.
    ``dims``: the lengths D_i of the features of each layer.

    Raises:
        ValueError: If ``sample_size`` is not positive, or there is no layer.
    """
    needs = ('features', )
    fit_settings: tuple[str, ...] = ('sample_size', 'seed')
    parameter_names: tuple[str, ...] = ('dims', f'{VALID}.count', f'{VALID}.vectors', f'{VALID}.priorities')
    with_void: ClassVar[bool] = False

    def __init__(self,
                 layers: Sequence[str],
                 /,
                 sample_size: int,
                 seed: int,
                 fitted: str | None = None,
                 **settings: Any) -> None:
        if sample_size < 1:
            raise ValueError(f'sample_size must be positive, got {sample_size}')
        if not layers or isinstance(layers, str):
            raise ValueError(f"layers must name one layer at least, such as ['backbone.layer4'], got {layers!r}")
        super().__init__(fitted, sample_size=sample_size, seed=seed, **settings)
        self.layers = tuple(layers)
        self.samples: dict[str, Reservoir] = {}
        self.dims: list[int] = []

    def merge(self, other: Any) -> None:
        """Add the statistics of another one, of the same settings."""
        for name, sample in other.samples.items():
            self._sample(name, other.dims).merge(sample)
        self.ready = False

    @property
    def num_pixels(self) -> int:
        """Number of pixels with a class label that were seen."""
        return self.samples[VALID].count if VALID in self.samples else 0

    def state(self) -> dict[str, Tensor]:
        """The samples, on the CPU; empty before the first update."""
        if not self.samples:
            return {}
        state = {
            f'{name}.{key}': value
            for name, sample in self.samples.items()
            for key, value in sample.state().items()
        }
        return dict(state, dims=torch.tensor(self.dims))

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take the samples of a :meth:`state`."""
        self.samples, self.dims, self.ready = {}, [], False
        if state:
            self.dims = state['dims'].tolist()
            for name in dict.fromkeys(key.split('.')[0] for key in state if '.' in key):
                part = {key.split('.')[1]: value for key, value in state.items() if key.startswith(f'{name}.')}
                self.samples[name] = Reservoir.from_state(part, self.settings['sample_size'], self.settings['seed'])

    def _sample(self, name: str, dims: list[int]) -> Reservoir:
        """The sample of a name, made when it is first asked for."""
        if self.dims not in ([], dims):
            raise ValueError(f'score {self.name!r} was begun on features of lengths {self.dims}, now they are of '
                             f'lengths {dims}')
        self.dims = list(dims)
        if name not in self.samples:
            self.samples[name] = Reservoir(self.settings['sample_size'], sum(dims), self.settings['seed'])
        return self.samples[name]

    def _add(self, values: list[Tensor], labels: Tensor, key: str) -> None:
        masks = {VALID: valid(labels)}
        if self.with_void:
            masks[VOID] = labels == IGNORE
        for name, mask in masks.items():
            sample = self._sample(name, [value.shape[1] for value in values])
            positions = mask.nonzero()
            index, priorities = sample.draw(len(positions), f'{name} {key}')
            image, row, column = positions[index.to(positions.device)].unbind(1)
            height, width = labels.shape[-2:]
            vectors = [
                value[image, :,
                      _nearest(row, height, value.shape[-2]),
                      _nearest(column, width, value.shape[-1])] for value in values
            ]
            sample.add(torch.cat(vectors, dim=1), priorities)


def _nearest(position: Tensor, length: int, other: int) -> Tensor:
    """Nearest positions on a grid of ``other`` points to those on one of ``length`` points."""
    return ((2 * position + 1) * other) // (2 * length)
