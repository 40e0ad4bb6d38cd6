# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import inspect
import math
from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgcda.labels import IGNORE

from ..base import Score
from .score_file import check_fit, read_fitted

#: Label of pixels that are no part of the image, such as those of padding.
PADDED = -1


class FittedScore(Score):
    """Score with parameters from training data, which ``tools/fit_scores.py`` gathers and saves.

    .. code:: text

        update(outputs, labels, key) ... merge(other) ... finish() -> __call__(outputs) -> scores (N, H, W)

    In a model it loads the file ``fitted`` before the first prediction, and refuses one that is not the model's.

    Args:
        fitted (str, optional): File of ``tools/fit_scores.py``. Defaults to None.
        **settings: Those of the subclass. ``fit_settings`` names the ones that the file depends on; the others may be
            changed without fitting anew.

    ``name`` is that of the class with the settings that differ from the defaults. ``parameter_names`` names what a file
    holds.
    """
    needs_fit = True
    fit_settings: tuple[str, ...] = ()
    parameter_names: tuple[str, ...] = ()

    def __init__(self, fitted: str | None = None, **settings: Any) -> None:
        self.fitted, self.settings = fitted, settings
        self.ready = False
        parameters = inspect.signature(type(self)).parameters
        own = ','.join(f'{key}={value}' for key, value in settings.items() if parameters[key].default != value)
        if own:
            self.name += f'({own})'

    # Fitting

    @torch.no_grad()
    def update(self, outputs: dict[str, Any], labels: Tensor, key: str = '') -> None:
        """Add a batch to the statistics.

        Args:
            outputs (dict): What the score ``needs``: ``seg_logits`` (N, C, h, w), or ``features``, the maps (N, D_i,
                h_i, w_i) of its ``layers``, in their order.
            labels (Tensor): Train ids, integers (N, H, W), 255 = void, -1 = no part of the image. They are brought to
                the size of the largest map by nearest neighbour.
            key (str): What the batch is called, such as the path of its image: samples are drawn by it.

        Raises:
            ValueError: If the labels are not of these shapes, or the outputs are not finite.
        """
        values = self._inputs(outputs)
        if labels.dim() != 3 or len(labels) != len(values[0]):
            raise ValueError(f'score {self.name!r} is fitted on outputs (N, C, h, w) and labels (N, H, W), got '
                             f'{tuple(values[0].shape)} and {tuple(labels.shape)}')
        if not all(value.isfinite().all() for value in values):
            raise ValueError(f'score {self.name!r} cannot be fitted: the {self.needs[0]} are not finite')
        size = max((value.shape[-2:] for value in values), key=math.prod)
        if labels.shape[-2:] != size:
            labels = F.interpolate(labels[:, None].float(), size=size, mode='nearest-exact')[:, 0]
        self._add(values, labels.long().to(values[0].device), key)
        self.ready = False

    def shares_statistics(self, other: 'FittedScore') -> bool:
        """Whether one fit serves both: they are of one type, with the same ``fit_settings``."""
        return type(other) is type(self) and all(other.settings[key] == self.settings[key] for key in self.fit_settings)

    @abstractmethod
    def merge(self, other: Any) -> None:
        """Add the statistics of another one, of the same settings."""

    def finish(self) -> None:
        """Make the parameters of the score from the statistics.

        Raises:
            ValueError: If there is too little data.
        """
        if not self.num_pixels:
            raise ValueError(f'score {self.name!r} cannot be fitted: no pixel of the data counts')
        self._finish()
        self.ready = True

    @property
    @abstractmethod
    def num_pixels(self) -> int:
        """Number of pixels that the statistics are of."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """The statistics, tensors on the CPU; empty before the first update."""

    @abstractmethod
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take the statistics of a :meth:`state`."""

    # Files

    def parameters(self) -> dict[str, Tensor]:
        """What is saved of a score that is fitted, tensors on the CPU by ``parameter_names``; here the statistics."""
        return self.state()

    def load_parameters(self, parameters: dict[str, Tensor]) -> None:
        """Take what was saved by :meth:`parameters`; the score is ready then."""
        self.load_state(parameters)
        self.finish()

    def prepare(self, model: nn.Module) -> None:
        """Load what was fitted, for a model.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged, or of another model or of other settings; or the score is not fitted.
        """
        if self.fitted is not None:
            content = read_fitted(self.fitted)
            check_fit(self.fitted, content, self, model)
            self.load_parameters(content['state'])
        self._require_fit()

    # Scoring

    def __call__(self, outputs: dict[str, Any]) -> Tensor:
        """Scores (N, H, W), float32, of ``outputs``, a dict that holds all that is needed; see :meth:`update`."""
        self._require_fit()
        values = self._inputs(outputs)
        with torch.autocast(values[0].device.type, enabled=False):
            return self._score(values)

    def _inputs(self, outputs: dict[str, Any]) -> list[Tensor]:
        """The maps that are read, in float32."""
        values = self.read(outputs)[0]
        values = [values] if isinstance(values, Tensor) else list(values)
        if len(values) != max(len(self.layers), 1) or any(value.dim() != 4 for value in values):
            raise ValueError(f'score {self.name!r} reads {max(len(self.layers), 1)} map(s) (N, C, H, W) of '
                             f'{self.needs[0]}, got {[tuple(value.shape) for value in values]}')
        return [value.float() for value in values]

    def _require_fit(self) -> None:
        if not self.ready:
            kind = type(self).__name__
            raise ValueError(f'score {self.name!r} is not fitted: run tools/fit_scores.py and name its file, as in '
                             f"dict(type={kind!r}, fitted='work_dirs/{kind.lower()}.pth')")

    @abstractmethod
    def _add(self, values: list[Tensor], labels: Tensor, key: str) -> None:
        """Add maps, float32 (N, C_i, h_i, w_i), of labels (N, h, w), h and w of the largest, to the statistics."""

    @abstractmethod
    def _finish(self) -> None:
        """Make the parameters."""

    @abstractmethod
    def _score(self, values: list[Tensor]) -> Tensor:
        """Scores (N, H, W) of maps, float32 (N, C_i, H_i, W_i)."""

    def __repr__(self) -> str:
        settings = ', '.join(f'{key}={value!r}' for key, value in self.settings.items())
        return f'{type(self).__name__}({settings}, fitted={self.fitted!r})'


def valid(labels: Tensor) -> Tensor:
    """Mask of labels that are classes."""
    return (labels != IGNORE) & (labels != PADDED)
