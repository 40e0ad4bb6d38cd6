# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from mmengine.registry import FUNCTIONS
from torch import Tensor

from .base import Score, ScoreRange

Function = TypeVar('Function', bound=Callable[..., Tensor])


def score_function(*needs: str, range: ScoreRange = None) -> Callable[[Function], Function]:
    """Register a function as a score: ``@score_function('seg_logits', range=(0, 1))``.

    It stays a plain function. Configs name it, as ``score='msp'``, and give its settings, the keyword arguments, as
    ``score=dict(type='energy', temperature=2.0)``.

    Args:
        needs: The outputs that are its positional arguments, see :class:`Score`.
        range: What pictures show as dark and as bright, see :class:`Score`.
    """

    def register(function: Any) -> Any:
        function.needs, function.range = needs, range
        return FUNCTIONS.register_module()(function)

    return register


def is_score_function(target: Any) -> bool:
    """Whether this is a function that :func:`score_function` registered."""
    return inspect.isfunction(target) and bool(getattr(target, 'needs', ()))


class FunctionScore(Score):
    """Score of a registered score function: picks what the function needs from a dict of outputs.

    Args:
        function: Score function, see :func:`score_function`.
        **kwargs: Its keyword arguments.

    ``name`` is that of the function with its arguments, 'energy(temperature=2.0)'.

    Raises:
        TypeError: If the function does not take such arguments.
    """

    def __init__(self, function: Callable[..., Tensor], **kwargs: Any) -> None:
        needs = tuple(getattr(function, 'needs', ()))
        try:
            inspect.signature(function).bind(*needs, **kwargs)
        except TypeError as error:
            raise TypeError(f'score {function.__name__!r}: {error}') from None
        self.function, self.needs, self.kwargs = function, needs, kwargs
        self.range = getattr(function, 'range', None)
        arguments = ','.join(f'{key}={value}' for key, value in kwargs.items())
        self.name = f'{function.__name__}({arguments})' if arguments else function.__name__

    def check(self, model: Any) -> None:
        """Refuse a segmentor without what the function needs, or with another number of outlier logits.

        Raises:
            ValueError: If this is such a one.
        """
        super().check(model)
        if 'outlier_logits' not in self.needs or self.reads_maps:
            return
        try:
            self({
                'seg_logits': torch.zeros(1, model.out_channels, 1, 1),
                'outlier_logits': torch.zeros(1, model.num_outlier_logits, 1, 1)
            })
        except ValueError as error:
            raise ValueError(f'score {self.name!r} and outlier_head.num_logits={model.num_outlier_logits} do not go '
                             f'together: {error}') from None

    def __call__(self, outputs: dict[str, Any]) -> Tensor:
        return self.function(*self.read(outputs), **self.kwargs)

    def __repr__(self) -> str:
        kwargs = ''.join(f', {name}={value!r}' for name, value in self.kwargs.items())
        return f'FunctionScore({self.function.__name__}{kwargs})'
