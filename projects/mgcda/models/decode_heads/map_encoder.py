# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn


class MapEncoder(BaseModule):
    """Pyramid of features of a map, at the strides of an image backbone.

    A 7x7 convolution with ReLU, then one 3x3 convolution of stride 2 with ReLU for every further level, as in
    "Detecting the Unexpected via Image Resynthesis" (Lis et al., ICCV 2019) and SynBoost (Di Biase et al., CVPR 2021).

    Args:
        in_channels (int): Channels C of the map.
        channels (Sequence[int]): Channels of each level, finest first.
        first_stride (int): Stride of the finest level. Defaults to 1.
        padding_mode (str): Padding of the first convolution, as of :class:`torch.nn.Conv2d`. Defaults to 'zeros'.
    """

    def __init__(self,
                 in_channels: int,
                 channels: Sequence[int],
                 first_stride: int = 1,
                 padding_mode: str = 'zeros') -> None:
        super().__init__(init_cfg=dict(type='Kaiming', layer='Conv2d', mode='fan_out', nonlinearity='relu'))
        self.levels = nn.ModuleList()
        for level, out_channels in enumerate(channels):
            if level == 0:
                conv = nn.Conv2d(
                    in_channels, out_channels, 7, stride=first_stride, padding=3, padding_mode=padding_mode)
            else:
                conv = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
            self.levels.append(nn.Sequential(conv, nn.ReLU(inplace=True)))
            in_channels = out_channels

    def forward(self, x: Tensor) -> list[Tensor]:
        """``x``: float (N, C, H, W). Returns one (N, C_i, H_i, W_i) tensor a level, finest first."""
        outs = []
        for layer in self.levels:
            x = layer(x)
            outs.append(x)
        return outs
