# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""The dissimilarity network's probability of anomaly, mixed with the uncertainty maps."""
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import FUNCTIONS
from torch import Tensor, nn

from mgcda.structures.dissimilarity import NUM_CHANNELS, UNCERTAINTY, UNCERTAINTY_KINDS

from .base import Score
from .logits import logit_margin

#: What is mixed, in the order of the weights: the network's probability, then the uncertainty maps of its inputs.
MIXED = ('probability', *UNCERTAINTY_KINDS)


@FUNCTIONS.register_module()
class SynBoostEnsemble(Score):
    r"""Mixture of the dissimilarity network's probability and the uncertainty maps (SynBoost, Di Biase et al. 2021).

    With the network's probability of anomaly :math:`p` and the maps of entropy, perceptual difference and distance in
    its inputs, each in [0, 1],

    .. math:: s = w_0 p + w_1 e + w_2 q + w_3 d

    at the network's resolution. The score has no trained part; that of a ``DissimilaritySegmentor`` alone.

    Args:
        weights (Sequence[float]): The four weights, not negative, not all zero. Defaults to (0.75, 0.25, 0, 0), those
            of SynBoost's public code, which mixes the entropy alone.

    ``name``: 'SynBoostEnsemble', or with the weights where they are others.

    Raises:
        ValueError: If the weights are others; in :meth:`prepare`, if the segmentor is not binary.
    """
    needs = ('inputs', 'seg_logits')

    def __init__(self, weights: Sequence[float] = (0.75, 0.25, 0, 0)) -> None:
        if len(weights) != len(MIXED) or min(weights) < 0 or not any(weights):
            raise ValueError(f'weights must be {len(MIXED)} numbers for {MIXED}, not negative, not all 0, '
                             f'got {tuple(weights)}')
        self.weights = tuple(float(weight) for weight in weights)
        self.range = (0, sum(self.weights))
        if self.weights != (0.75, 0.25, 0, 0):
            self.name += f'({",".join(f"{weight:g}" for weight in self.weights)})'

    def prepare(self, model: nn.Module) -> None:
        """Refuse a segmentor whose logits are not those of normal and anomaly."""
        if model.num_classes != 2:
            raise ValueError(f'SynBoostEnsemble needs a binary head, this one has {model.num_classes} classes')

    def __call__(self, outputs: dict[str, Any]) -> Tensor:
        """Scores (N, H, W), float32, in [0, sum of the weights].

        Args:
            outputs (dict): ``inputs`` (N, 10, H, W) as the network reads them, and its ``seg_logits`` (N, 2, H, W).

        Raises:
            ValueError: If the inputs have no uncertainty maps.
        """
        inputs, seg_logits = outputs['inputs'], outputs['seg_logits']
        if inputs.size(1) != NUM_CHANNELS:
            raise ValueError(f'SynBoostEnsemble reads uncertainty maps, from inputs of {NUM_CHANNELS} channels, got '
                             f'{inputs.size(1)}: it is a score of the DissimilaritySegmentor')
        parts = torch.cat([logit_margin(seg_logits)[:, None].sigmoid(), inputs[:, UNCERTAINTY].float()], dim=1)
        return torch.einsum('nchw,c->nhw', parts, parts.new_tensor(self.weights))
