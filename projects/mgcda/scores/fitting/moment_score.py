# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from typing import Any, ClassVar

from torch import Tensor

from .fitted_score import FittedScore
from .moments import ClassMoments


class MomentScore(FittedScore):
    """Fitted score whose statistics, and parameters, are moments by class."""
    parameter_names = ('counts', 'means', 'scatter')
    shared_scatter: ClassVar[bool] = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.moments: ClassMoments | None = None

    def merge(self, other: Any) -> None:
        """Add the statistics of another one, of the same settings."""
        if other.moments is None:
            return
        if self.moments is None:
            self.moments = ClassMoments(other.moments.means.shape[1], self.shared_scatter)
        self.moments.merge(other.moments)
        self.ready = False

    @property
    def num_pixels(self) -> int:
        """Number of pixels that the statistics are of."""
        return 0 if self.moments is None else int(self.moments.counts.sum())

    def state(self) -> dict[str, Tensor]:
        """The statistics, float64 tensors on the CPU; empty before the first update."""
        return {} if self.moments is None else self.moments.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take the statistics of a :meth:`state`."""
        self.moments = ClassMoments.from_state(state, self.shared_scatter) if state else None
        self.ready = False

    def _moments(self, dim: int) -> ClassMoments:
        """The statistics of vectors of length ``dim``, made when they are first asked for."""
        if self.moments is None:
            self.moments = ClassMoments(dim, self.shared_scatter)
        if self.moments.means.shape[1] != dim:
            raise ValueError(f'score {self.name!r} was begun on vectors of length {self.moments.means.shape[1]}, now '
                             f'they are of length {dim}')
        return self.moments
