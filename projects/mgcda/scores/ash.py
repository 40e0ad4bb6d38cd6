# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from typing import Any

import torch
from mmengine.registry import FUNCTIONS
from torch import Tensor, nn

from .shaped_logits import ShapedLogits

#: Those of the paper for a ResNet-50 on ImageNet.
PERCENTILES = dict(p=60, b=65, s=90)


@FUNCTIONS.register_module()
class ASH(ShapedLogits):
    r"""Activation shaping (Djurisic et al., ICLR 2023): score of the logits of features that are pruned by pixel.

    Of the channels of a pixel's features, the lowest ``percentile`` percent, rounded, become 0; of equal ones the last.
    With the sum :math:`s_1` of all channels and :math:`s_2` of the :math:`k` that are kept, the latter

    - stay as they are (variant 'p'),
    - all become :math:`s_1 / k` ('b'),
    - are multiplied by :math:`\exp(s_1 / s_2)` ('s'); they stay where :math:`s_2 \le 0`.

    The paper has activations behind a ReLU in mind. Nothing is fitted.

    Args:
        variant (str): 'p', 'b' or 's'. Defaults to 's'.
        percentile (float, optional): In [0, 100). None takes the paper's for a ResNet-50 on ImageNet, 60, 65 and 90.
            Defaults to None.
        score (str or dict): Score of the logits. Defaults to 'energy'.
        classifier (str): See :class:`ShapedLogits`. Defaults to 'decode_head.conv_seg'.

    ``name``: 'ASH-S@90', with the score in brackets where it is not the energy.

    Raises:
        ValueError: If the variant is none of these, or the percentile not in that range; in :meth:`prepare`, if it
            leaves no channel; for the rest see :class:`ShapedLogits`.
    """

    def __init__(self,
                 variant: str = 's',
                 percentile: float | None = None,
                 score: str | dict = 'energy',
                 classifier: str = 'decode_head.conv_seg') -> None:
        if variant not in PERCENTILES:
            raise ValueError(f'variant must be one of {list(PERCENTILES)}, got {variant!r}')
        percentile = PERCENTILES[variant] if percentile is None else percentile
        if not 0 <= percentile < 100:
            raise ValueError(f'percentile must be in [0, 100), got {percentile}')
        super().__init__(classifier, score)
        self.variant, self.percentile = variant, percentile
        self.name = f'ASH-{variant.upper()}@{percentile:g}'
        if self.score.name != 'energy':
            self.name += f'({self.score.name})'

    def prepare(self, model: nn.Module) -> None:
        """Find the classifier of a model."""
        super().prepare(model)
        if not self._num_kept(self.classifier.in_channels):
            raise ValueError(f'score {self.name!r} leaves none of the {self.classifier.in_channels} channels in front '
                             f'of {self.classifier_name!r}: lower its percentile')

    def __call__(self, outputs: dict[str, Any]) -> Tensor:
        """Logits (N, C, h, w), float32, of ``outputs['features']``, the map (N, D, h, w) in front of the classifier."""
        features, = outputs['features']
        with torch.autocast(features.device.type, enabled=False):
            return self.logits(features)

    def shape(self, vectors: Tensor) -> Tensor:
        """The shaped features of pixels, float32 (..., D)."""
        num_kept = self._num_kept(vectors.shape[-1])
        lowest = vectors.topk(num_kept, sorted=False).values.amin(-1, keepdim=True)
        above, equal = vectors > lowest, vectors == lowest
        free = num_kept - above.sum(-1, keepdim=True)  # of equal activations the first are kept
        kept = above | (equal & (equal.cumsum(-1, dtype=torch.int16) <= free))
        if self.variant == 'b':
            return kept * (vectors.sum(-1, keepdim=True) / num_kept)
        shaped = vectors * kept
        if self.variant == 's':
            rest = shaped.sum(-1, keepdim=True)
            shaped *= torch.where(rest > 0, torch.exp(vectors.sum(-1, keepdim=True) / rest), 1)
        return shaped

    def _num_kept(self, num_channels: int) -> int:
        return num_channels - round(num_channels * self.percentile / 100)
