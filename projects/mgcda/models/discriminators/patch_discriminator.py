# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.

import torch.nn as nn
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from mmseg.utils import OptMultiConfig
from torch import Tensor
from torch.nn.utils.parametrizations import spectral_norm as add_spectral_norm


@MODELS.register_module()
class PatchDiscriminator(BaseModule):
    """Judge overlapping patches at one scale.

    4x4 convolutions, LeakyReLU 0.2 between: strides 2, ..., 2, 1, 1; channels c, 2c, 4c, ... (8c at most), 1. All
    but the first and the last are instance-normalised without learned parameters and, by option, spectrally
    normalised. From pix2pixHD (Wang et al., CVPR 2018) and SPADE (Park et al., CVPR 2019).

    Args:
        in_channels (int): Channels of the input.
        base_channels (int): Channels c after the first layer. Defaults to 64.
        num_layers (int): Layers before the last one, at least 2. Defaults to 4.
        spectral_norm (bool): Defaults to True.
        init_cfg (dict, optional): Defaults to None.

    Raises:
        ValueError: If a number is too small.
    """

    def __init__(self,
                 in_channels: int,
                 base_channels: int = 64,
                 num_layers: int = 4,
                 spectral_norm: bool = True,
                 init_cfg: OptMultiConfig = None) -> None:
        super().__init__(init_cfg)
        for name, value, least in (('in_channels', in_channels, 1), ('base_channels', base_channels, 1),
                                   ('num_layers', num_layers, 2)):
            if value < least:
                raise ValueError(f'{name} must be at least {least}, got {value}')
        wrap = add_spectral_norm if spectral_norm else nn.Identity()
        channels = [base_channels * min(2**i, 8) for i in range(num_layers)]
        layers = [nn.Sequential(nn.Conv2d(in_channels, channels[0], 4, 2, 2), nn.LeakyReLU(0.2))]
        for i in range(1, num_layers):
            stride = 1 if i == num_layers - 1 else 2
            # The normalisation cancels a bias.
            conv = wrap(nn.Conv2d(channels[i - 1], channels[i], 4, stride, 2, bias=False))
            layers.append(nn.Sequential(conv, nn.InstanceNorm2d(channels[i]), nn.LeakyReLU(0.2)))
        layers.append(nn.Conv2d(channels[-1], 1, 4, 1, 2))
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        """``x``: float (N, C, H, W). Returns the output of every layer; the last is (N, 1, h, w), unbounded."""
        outputs = []
        for layer in self.layers:
            x = layer(x)
            outputs.append(x)
        return outputs


@MODELS.register_module()
class MultiScalePatchDiscriminator(BaseModule):
    """Patch discriminators of equal layout on the input, on its half, its quarter, ...

    From pix2pixHD (Wang et al., CVPR 2018).

    Args:
        in_channels (int): Channels of the input: image and one-hot map.
        num_scales (int): Defaults to 2.
        init_cfg (dict, optional): Defaults to None.
        **kwargs: Further arguments of ``PatchDiscriminator``.

    Raises:
        ValueError: If ``num_scales`` is below 1.
    """

    def __init__(self, in_channels: int, num_scales: int = 2, init_cfg: OptMultiConfig = None, **kwargs) -> None:
        super().__init__(init_cfg)
        if num_scales < 1:
            raise ValueError(f'num_scales must be at least 1, got {num_scales}')
        self.scales = nn.ModuleList(PatchDiscriminator(in_channels, **kwargs) for _ in range(num_scales))

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """``x``: float (N, C, H, W). Returns, for each scale, the outputs of all layers, the judgement last."""
        outputs = []
        for i, discriminator in enumerate(self.scales):
            if i:
                x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
            outputs.append(discriminator(x))
        return outputs
