# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from abc import ABC, abstractmethod
from typing import Any, Literal

from torch import Tensor, nn

from .layer_features import find_layer

Bound = float | Literal['ln C']
ScoreRange = Literal['log_odds'] | tuple[Bound, Bound] | None
#: What scores of the inputs may need besides.
INPUT_NEEDS = ('inputs', 'encode_decode', 'seg_logits', 'outlier_logits')


class Score(ABC):
    """Anomaly score: makes float32 maps (N, H, W), larger = more anomalous, of the outputs of a segmentor.

    .. code:: text

        check(model) as the model is built ... prepare(model) before it predicts ... score(outputs) [... combine(maps)]

    A subclass implements :meth:`__call__`; registered into mmengine's ``FUNCTIONS``, configs build it by its name. What
    segmentors, tools and pictures know of it are these attributes, of the class or of the instance:

    - ``needs``: the outputs that it reads. Scores of logits ('seg_logits', 'outlier_logits', 'mean_probabilities', ...)
      are called at the original image size. Those that need 'features' or 'inputs' are called where the network runs,
      and may give maps of another size.
    - ``layers``: the layers whose maps (N, D, h, w) are its 'features', a tuple in this order.
    - ``num_maps``: how many maps a score of features or inputs returns: one, (N, h, w), or K, (N, K, h, w), which
      :meth:`combine` makes one of.
    - ``range``: what is shown as dark and as bright: 'log_odds' passes a sigmoid; a pair of bounds, each a number or
      'ln C' of C classes; None scales each image by itself, for scores that are unbounded or use a small part of their
      range.
    - ``needs_fit``: whether it has parameters from training data, see :class:`FittedScore`.
    - ``name``: for reports; that of the class by default.
    """
    name: str
    needs: tuple[str, ...] = ('seg_logits', )
    layers: tuple[str, ...] = ()
    num_maps: int = 1
    range: ScoreRange = None
    needs_fit: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = cls.__dict__.get('name', cls.__name__)

    @property
    def reads_maps(self) -> bool:
        """Whether its maps are made where the network runs and come as channels behind the logits."""
        return bool({'features', 'inputs'} & set(self.needs))

    def check(self, model: nn.Module) -> None:
        """Refuse a segmentor that lacks what the score needs, or attributes that are not as said.

        Raises:
            ValueError: If a layer does not exist, there are no logits of outliers, or an attribute is wrong.
        """
        _check_range(self.name, self.range)
        if 'outlier_logits' in self.needs and not model.num_outlier_logits:
            raise ValueError(f'score {self.name!r} needs logits of outliers: set model.outlier_head='
                             'dict(num_logits=...)')
        if not self.reads_maps or ('inputs' in self.needs and set(self.needs) <= set(INPUT_NEEDS)):
            return
        if tuple(self.needs) != ('features', ):
            raise ValueError(f"score {self.name!r} must need 'features' alone or not at all, or some of {INPUT_NEEDS}, "
                             f'it needs {tuple(self.needs)}')
        layers = self.layers
        if not isinstance(layers, tuple) or not layers or not all(isinstance(layer, str) for layer in layers):
            raise ValueError(f"score {self.name!r} needs features: it must have `layers`, such as ('backbone.layer4', )"
                             f', got {layers!r}')
        for layer in layers:
            find_layer(model, layer)

    def prepare(self, model: nn.Module) -> None:  # noqa: B027
        """Take what the score needs of a segmentor, before its first prediction and again with other weights."""

    @abstractmethod
    def __call__(self, outputs: dict[str, Any]) -> Tensor:
        """Scores (N, H, W), float32, or ``num_maps`` maps, of a dict that holds all that is needed."""

    def combine(self, maps: Tensor) -> Tensor:
        """Scores (N, H, W) of the maps (N, K, H, W) of a score of features or inputs, at the original image size."""
        if maps.size(1) != 1:
            raise NotImplementedError(f'score {self.name!r} returns {maps.size(1)} maps and must implement combine()')
        return maps[:, 0]

    def read(self, outputs: dict[str, Any]) -> list[Any]:
        """The outputs that are needed, in that order.

        Raises:
            ValueError: If some are missing.
        """
        missing = [name for name in self.needs if name not in outputs]
        if missing:
            raise ValueError(f'score {self.name!r} needs the outputs {missing}, the model gives {sorted(outputs)}')
        return [outputs[name] for name in self.needs]


def _check_range(name: str, score_range: Any) -> None:
    if score_range in (None, 'log_odds'):
        return
    bounds = score_range if isinstance(score_range, (tuple, list)) else ()
    if len(bounds) != 2 or not all(bound == 'ln C' or isinstance(bound, (int, float)) for bound in bounds):
        raise ValueError(f"the range of score {name!r} must be None, 'log_odds' or two bounds, each a number or "
                         f"'ln C', got {score_range!r}")
