# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Projection of pixel features for contrastive learning (MGCDA, section 3.4)."""
from collections.abc import Sequence

from mmengine.model import BaseModule
from mmseg.registry import MODELS
from mmseg.utils import OptMultiConfig
from torch import Tensor, nn


@MODELS.register_module()
class Projector(BaseModule):
    """1x1 convolutions to ``channels``, ReLU between them (MGCDA, section 3.4).

    Args:
        in_channels (int): Channels of the features.
        channels (Sequence[int]): Channels after each convolution. Defaults to (64, 128).
        init_cfg (dict or list[dict], optional): Initialisation. Defaults to PyTorch's of a convolution.

    Raises:
        ValueError: If ``channels`` is empty or a number is below 1.
    """

    def __init__(self, in_channels: int, channels: Sequence[int] = (64, 128), init_cfg: OptMultiConfig = None) -> None:
        super().__init__(init_cfg)
        widths = (in_channels, *channels)
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError('in_channels and each of channels must be at least 1, and channels not empty, '
                             f'got {in_channels} and {tuple(channels)}')
        self.in_channels = in_channels
        layers = []
        for width_in, width_out in zip(widths[:-1], widths[1:]):
            layers += [nn.Conv2d(width_in, width_out, 1), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, feats: Tensor) -> Tensor:
        """Embedding (N, channels[-1], h, w), not normalised, of ``feats`` (N, in_channels, h, w).

        Raises:
            ValueError: If ``feats`` has another number of channels.
        """
        if feats.size(1) != self.in_channels:
            raise ValueError(f'in_channels of the projector is {self.in_channels}, but the embedding it projects has '
                             f'{feats.size(1)} channels; model.train_only.projector sets it')
        return self.layers(feats)
