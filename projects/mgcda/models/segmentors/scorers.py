# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""What the scorers of a segmentor read, beside its class logits."""
from typing import Any

import torch
from torch import nn

from mgcda.scores import Score

from .layer_features import find_layer

#: What scorers of the inputs may need besides.
INPUT_NEEDS = ('inputs', 'encode_decode', 'seg_logits', 'outlier_logits')


def reads_maps(scorer: Any) -> bool:
    """Whether a scorer reads features or inputs, so that its maps are channels behind the logits."""
    return bool({'features', 'inputs'} & set(scorer.needs))


def check_map_scorer(model: nn.Module, scorer: Any) -> None:
    """Raise ValueError where a scorer of features or inputs needs more than that, or names no layer of the model."""
    name = getattr(scorer, 'name', type(scorer).__name__)
    if 'inputs' in scorer.needs and set(scorer.needs) <= set(INPUT_NEEDS):
        return
    if tuple(scorer.needs) != ('features', ):
        raise ValueError(f"score {name!r} must need 'features' alone or not at all, or some of {INPUT_NEEDS}, it needs "
                         f'{tuple(scorer.needs)}')
    layers = getattr(scorer, 'layers', None)
    if not isinstance(layers, tuple) or not layers or not all(isinstance(layer, str) for layer in layers):
        raise ValueError(f"score {name!r} needs features: it must have `layers`, such as ('backbone.layer4', ), got "
                         f'{layers!r}')
    for layer in layers:
        find_layer(model, layer)


def num_maps_of(scorer: Any) -> int:
    """Number of maps that a scorer of features or inputs returns."""
    return getattr(scorer, 'num_maps', 1)


def check_outlier_logits(model: nn.Module, scorer: Any) -> None:
    """Raise ValueError where a score needs other outlier logits than the model has."""
    if 'outlier_logits' not in scorer.needs:
        return
    name = getattr(scorer, 'name', type(scorer).__name__)
    if not model.num_outlier_logits:
        raise ValueError(f'score {name!r} needs logits of outliers: set model.outlier_head=dict(num_logits=...)')
    if isinstance(scorer, Score):
        try:
            scorer({
                'seg_logits': torch.zeros(1, model.out_channels, 1, 1),
                'outlier_logits': torch.zeros(1, model.num_outlier_logits, 1, 1)
            })
        except ValueError as error:
            raise ValueError(f'score {name!r} and outlier_head.num_logits={model.num_outlier_logits} do not go '
                             f'together: {error}') from None
