# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Fully convolutional domain classifier (MGCDA, section 3.3)."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from mmseg.utils import OptMultiConfig
from torch import Tensor, nn


@MODELS.register_module()
class DomainClassifier(BaseModule):
    r"""Score at each place which domain a map comes from (MGCDA, section 3.3).

    Convolutions of kernel 3, stride 1, padding 1 to ``channels`` and at last to 1 channel, ReLU after each but the
    last: :math:`C_{c_1} - \dots - C_{c_k} - C_1`. The last bias starts at 0.5, the mean of the two domain labels, so
    that neither domain starts further from its label than the other.

    Args:
        in_channels (int): Channels of the map that is classified.
        channels (Sequence[int], optional): Hidden channels. Defaults to ``in_channels`` / 2, / 4 and / 8, the paper's
            classifier of features; that of the output is (32, 64, 128, 256).
        downsample (int): The input is average-pooled by this factor first; 1, the paper's, leaves it as it is.
        normalise (bool): Whether the features at each position are first divided by their root mean square over the
            channels (their L2 norm over sqrt(C)), so that their direction is judged and not their length.
            Defaults to False.
        init_cfg (dict or list[dict], optional): Initialisation, which replaces PyTorch's of a convolution and the last
            bias. Defaults to None.

    Raises:
        ValueError: If a number is below 1, or ``in_channels`` is below 8 and ``channels`` is not given, or
            ``normalise`` is set for one channel, whose direction is its sign.
    """

    def __init__(self,
                 in_channels: int,
                 channels: Sequence[int] | None = None,
                 downsample: int = 1,
                 normalise: bool = False,
                 init_cfg: OptMultiConfig = None) -> None:
        super().__init__(init_cfg)
        if channels is None:
            if in_channels < 8:
                raise ValueError(f'channels must be given when in_channels is below 8, got in_channels={in_channels}')
            channels = (in_channels // 2, in_channels // 4, in_channels // 8)
        widths = (in_channels, *channels)
        if min(widths) < 1:
            raise ValueError(f'in_channels and channels must be at least 1, got {in_channels} and {tuple(channels)}')
        if downsample < 1 or int(downsample) != downsample:
            raise ValueError(f'downsample must be an integer of at least 1, got {downsample}')
        if normalise and in_channels == 1:
            raise ValueError('normalise leaves nothing of a map of in_channels=1 but its sign: it is for features')
        self.in_channels = in_channels
        self.normalise = normalise
        self.downsample = int(downsample)
        layers = []
        for width_in, width_out in zip(widths[:-1], widths[1:]):
            layers += [nn.Conv2d(width_in, width_out, 3, padding=1), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))
        nn.init.constant_(self.layers[-1].bias, 0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        """Domain map (N, 1, h, w), unbounded, of ``inputs`` (N, in_channels, H, W); h = H / downsample, rounded up.

        Raises:
            ValueError: If ``inputs`` has another number of channels.
        """
        if inputs.size(1) != self.in_channels:
            raise ValueError(f'in_channels of the domain classifier is {self.in_channels}, but the features it judges '
                             f'have {inputs.size(1)} channels; default_hooks.mdat sets it')
        if self.downsample > 1:
            inputs = F.avg_pool2d(inputs, self.downsample, ceil_mode=True)
        if self.normalise:
            single = inputs.float() if inputs.dtype in (torch.float16, torch.bfloat16) else inputs
            inputs = (F.normalize(single, dim=1, eps=1e-6) * self.in_channels**0.5).to(inputs.dtype)
        return self.layers(inputs)
