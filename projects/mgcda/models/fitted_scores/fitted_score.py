# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import inspect
from typing import Any, ClassVar, Dict, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgcda.labels import IGNORE
from .moments import ClassMoments
from .score_file import check_fit, read_fitted


class FittedScore:
    """Scorer with statistics of training data, which ``tools/fit_scores.py`` gathers and saves.

    .. code:: text

        update(outputs, labels) ... merge(other) ... finish() -> __call__(outputs) -> scores (N, H, W)

    In a model it loads the file ``fitted`` before the first prediction, and refuses one that is not the model's.

    Args:
        fitted (str, optional): File of ``tools/fit_scores.py``. Defaults to None.
        **settings: Those of the subclass. ``fit_settings`` names the ones that the statistics depend on; the others may
            be changed without fitting anew.

    ``name`` is that of the class with the settings that differ from the defaults.
    """
    needs: ClassVar[Tuple[str, ...]]
    fit_settings: ClassVar[Tuple[str, ...]] = ()
    shared_scatter: ClassVar[bool] = False

    def __init__(self, fitted: Optional[str] = None, **settings: Any) -> None:
        self.fitted, self.settings = fitted, settings
        self.moments: Optional[ClassMoments] = None
        self.ready = False
        parameters = inspect.signature(type(self)).parameters
        own = ','.join(f'{key}={value}' for key, value in settings.items() if parameters[key].default != value)
        self.name = f'{type(self).__name__}({own})' if own else type(self).__name__

    # Fitting

    @torch.no_grad()
    def update(self, outputs: Dict[str, Tensor], labels: Tensor) -> None:
        """Add a batch to the statistics.

        Args:
            outputs (dict): What the score ``needs``, (N, C, h, w).
            labels (Tensor): Train ids, integers (N, H, W), 255 = void. They are brought to (h, w) by nearest neighbour.

        Raises:
            ValueError: If the labels are not of these shapes, or the outputs are not finite.
        """
        values = outputs[self.needs[0]].float()
        if labels.dim() != 3 or values.dim() != 4 or len(labels) != len(values):
            raise ValueError(f'score {self.name!r} is fitted on outputs (N, C, h, w) and labels (N, H, W), got '
                             f'{tuple(values.shape)} and {tuple(labels.shape)}')
        if not values.isfinite().all():
            raise ValueError(f'score {self.name!r} cannot be fitted: the {self.needs[0]} are not finite')
        if labels.shape[-2:] != values.shape[-2:]:
            labels = F.interpolate(labels[:, None].float(), size=values.shape[-2:], mode='nearest-exact')[:, 0]
        self._add(values, labels.long().to(values.device))
        self.ready = False

    def shares_statistics(self, other: 'FittedScore') -> bool:
        """Whether one fit serves both: they are of one type, with the same ``fit_settings``."""
        return type(other) is type(self) and all(other.settings[key] == self.settings[key] for key in self.fit_settings)

    def merge(self, other: 'FittedScore') -> None:
        """Add the statistics of another one, of the same settings."""
        if other.moments is None:
            return
        if self.moments is None:
            self.moments = ClassMoments(other.moments.means.shape[1], self.shared_scatter)
        self.moments.merge(other.moments)
        self.ready = False

    def finish(self) -> None:
        """Make the parameters of the score from the statistics.

        Raises:
            ValueError: If there is too little data.
        """
        if self.moments is None or not self.moments.counts.sum():
            raise ValueError(f'score {self.name!r} cannot be fitted: no pixel of the data counts')
        self._finish(self.moments)
        self.ready = True

    def state(self) -> Dict[str, Tensor]:
        """The statistics, float64 tensors on the CPU; empty before the first update."""
        return {} if self.moments is None else self.moments.state()

    def load_state(self, state: Dict[str, Tensor]) -> None:
        """Take the statistics of a :meth:`state`."""
        self.moments = ClassMoments.from_state(state, self.shared_scatter) if state else None
        self.ready = False

    # Scoring

    def prepare(self, model: nn.Module) -> None:
        """Load what was fitted, for a model.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged, or of another model or of other settings; or the score is not fitted.
        """
        if self.fitted is not None:
            content = read_fitted(self.fitted)
            check_fit(self.fitted, content, self, model)
            self.load_state(content['state'])
            self.finish()
        self._require_fit()

    def __call__(self, outputs: Dict[str, Tensor]) -> Tensor:
        """Scores (N, H, W), float32, of ``outputs``, a dict that holds all that is needed."""
        self._require_fit()
        missing = [name for name in self.needs if name not in outputs]
        if missing:
            raise ValueError(f'score {self.name!r} needs the outputs {missing}, the model gives {sorted(outputs)}')
        values = outputs[self.needs[0]].float()
        if values.dim() != 4:
            raise ValueError(f'{self.needs[0]} must be (N, C, H, W), got {tuple(values.shape)}')
        with torch.autocast(values.device.type, enabled=False):
            return self._score(values)

    def _require_fit(self) -> None:
        if not self.ready:
            kind = type(self).__name__
            raise ValueError(f'score {self.name!r} is not fitted: run tools/fit_scores.py and name its file, as in '
                             f"dict(type={kind!r}, fitted='work_dirs/{kind.lower()}.pth')")

    def _moments(self, dim: int) -> ClassMoments:
        """The statistics of vectors of length ``dim``, made when they are first asked for."""
        if self.moments is None:
            self.moments = ClassMoments(dim, self.shared_scatter)
        if self.moments.means.shape[1] != dim:
            raise ValueError(f'score {self.name!r} was begun on vectors of length {self.moments.means.shape[1]}, now '
                             f'they are of length {dim}')
        return self.moments

    def _add(self, values: Tensor, labels: Tensor) -> None:
        """Add values, float32 (N, C, h, w), of labels (N, h, w) to the statistics."""
        raise NotImplementedError

    def _finish(self, moments: ClassMoments) -> None:
        """Make the parameters."""
        raise NotImplementedError

    def _score(self, values: Tensor) -> Tensor:
        """Scores (N, H, W) of values, float32 (N, C, H, W)."""
        raise NotImplementedError

    def __repr__(self) -> str:
        settings = ', '.join(f'{key}={value!r}' for key, value in self.settings.items())
        return f'{type(self).__name__}({settings}, fitted={self.fitted!r})'


def valid(labels: Tensor) -> Tensor:
    """Mask of labels that are not void."""
    return labels != IGNORE
