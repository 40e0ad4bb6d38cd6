# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_norm_layer
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from mmseg.utils import ConfigType, OptMultiConfig
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

#: Depth-wise branches of an EESP unit.
NUM_BRANCHES = 4


class EESPUnit(BaseModule):
    """Extremely efficient spatial pyramid of depth-wise dilated convolutions (ESPNetv2, section 3).

    Reduces (N, C, H, W) to C' / 4 channels by a group-wise 1x1 convolution, looks at them through four depth-wise
    3x3 convolutions of growing dilation, adds each branch to the next (hierarchical feature fusion against gridding),
    and expands the concatenated branches to (N, C', H / stride, W / stride) by a group-wise 1x1 convolution. With
    stride 1, the input is added and activated.

    Args:
        in_channels: C, divisible by 4; C' if ``stride`` is 1.
        out_channels: C', divisible by 4.
        receptive_field: Largest receptive field of a branch; branches that would exceed it are not dilated.
        stride: 1 or 2.
        norm_cfg: Config of the normalisation.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 receptive_field: int,
                 stride: int = 1,
                 norm_cfg: ConfigType = dict(type='BN')) -> None:
        super().__init__()
        if in_channels % NUM_BRANCHES or out_channels % NUM_BRANCHES:
            raise ValueError(f'in_channels and out_channels must be multiples of {NUM_BRANCHES}, '
                             f'got {in_channels} and {out_channels}')
        if stride == 1 and in_channels != out_channels:
            raise ValueError(f'in_channels and out_channels must be equal with stride 1, '
                             f'got {in_channels} and {out_channels}')
        width = out_channels // NUM_BRANCHES
        self.reduce = ConvModule(
            in_channels, width, 1, groups=NUM_BRANCHES, norm_cfg=norm_cfg, act_cfg=_prelu(width), bias=False)
        self.branches = nn.ModuleList(
            nn.Conv2d(width, width, 3, stride, padding=rate, dilation=rate, groups=width, bias=False)
            for rate in _dilations(receptive_field))
        self.norm = build_norm_layer(norm_cfg, out_channels)[1]
        self.fuse_act = nn.PReLU(out_channels)
        self.expand = ConvModule(
            out_channels, out_channels, 1, groups=NUM_BRANCHES, norm_cfg=norm_cfg, act_cfg=None, bias=False)
        self.act = nn.PReLU(out_channels) if stride == 1 else None

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        pyramid = torch.cat(list(accumulate(branch(reduced) for branch in self.branches)), 1)
        out = self.expand(self.fuse_act(self.norm(pyramid)))
        return out if self.act is None else self.act(out + x)


class StridedEESP(BaseModule):
    """Halve the resolution and show the network its input again (ESPNetv2, section 3.2).

    The average-pooled input and a strided :class:`EESPUnit` are concatenated; to them is added a projection of the
    image, pooled to the same size.

    Args:
        in_channels: Channels of the features.
        out_channels: Channels of the result, more than ``in_channels``.
        receptive_field: See :class:`EESPUnit`.
        image_channels: Channels of the image, or None for no reinforcement.
        norm_cfg: Config of the normalisation.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 receptive_field: int,
                 image_channels: int | None = None,
                 norm_cfg: ConfigType = dict(type='BN')) -> None:
        super().__init__()
        self.eesp = EESPUnit(in_channels, out_channels - in_channels, receptive_field, stride=2, norm_cfg=norm_cfg)
        self.reinforce = None
        if image_channels is not None:
            self.reinforce = nn.Sequential(
                ConvModule(
                    image_channels,
                    image_channels,
                    3,
                    padding=1,
                    norm_cfg=norm_cfg,
                    act_cfg=_prelu(image_channels),
                    bias=False),
                ConvModule(image_channels, out_channels, 1, norm_cfg=norm_cfg, act_cfg=None, bias=False))
        self.act = nn.PReLU(out_channels)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """``image`` is pooled to half the size of ``x`` already."""
        out = torch.cat([_halve(x), self.eesp(x)], 1)
        if self.reinforce is not None:
            out = out + self.reinforce(image)
        return self.act(out)


@MODELS.register_module()
class ESPNetv2(BaseModule):
    """ESPNetv2, a light backbone with features of strides 2, 4, 8, 16 and, optionally, 32.

    Mehta et al., ESPNetv2: A Light-weight, Power Efficient, and General Purpose Convolutional Neural Network, CVPR
    2019. Takes images (N, C, H, W); stage i returns (N, ``channels[i]``, ceil(H / 2^(i+1)), ceil(W / 2^(i+1))).

    Args:
        widen_factor: Scale s of the widths: 0.5, 1.0, 1.25, 1.5 or 2.0.
        in_channels: Channels of the image.
        num_stages: 1 to 5; segmentation uses 4, the fifth has stride 32.
        out_indices: Stages that are returned, in this order.
        frozen_stages: Stages 0 .. ``frozen_stages`` are neither trained nor do their statistics change; -1 for none.
        norm_cfg: Config of the normalisation.
        norm_eval: Whether all batch normalisation stays in eval mode.
        init_cfg: Config of the initialisation.

    Raises:
        ValueError: If a width or stage does not exist.
    """

    arch_settings = {
        0.5: (16, 32, 64, 128, 256),
        1.0: (32, 64, 128, 256, 512),
        1.25: (32, 80, 160, 320, 640),
        1.5: (32, 96, 192, 384, 768),
        2.0: (32, 128, 256, 512, 1024),
    }
    #: Of stages 1 to 4: residual units, receptive field of the strided unit, and of the others.
    stage_settings = ((0, 13, 11), (3, 11, 9), (7, 9, 7), (3, 7, 5))

    def __init__(self,
                 widen_factor: float = 2.0,
                 in_channels: int = 3,
                 num_stages: int = 4,
                 out_indices: Sequence[int] = (0, 1, 2, 3),
                 frozen_stages: int = -1,
                 norm_cfg: ConfigType = dict(type='BN'),
                 norm_eval: bool = False,
                 init_cfg: OptMultiConfig = None) -> None:
        if widen_factor not in self.arch_settings:
            raise ValueError(f'widen_factor must be one of {tuple(self.arch_settings)}, got {widen_factor}')
        max_stages = len(self.stage_settings) + 1
        if not 1 <= num_stages <= max_stages:
            raise ValueError(f'num_stages must be in 1..{max_stages}, got {num_stages}')
        if not out_indices or not all(0 <= index < num_stages for index in out_indices):
            raise ValueError(f'out_indices must be among the {num_stages} stages, got {tuple(out_indices)}')
        if not -1 <= frozen_stages < num_stages:
            raise ValueError(f'frozen_stages must be in -1..{num_stages - 1}, got {frozen_stages}')
        if init_cfg is None:
            init_cfg = [
                dict(type='Kaiming', layer='Conv2d', mode='fan_out'),
                dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm'])
            ]
        super().__init__(init_cfg)
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.channels = self.arch_settings[widen_factor][:num_stages]

        self.stem = ConvModule(
            in_channels,
            self.channels[0],
            3,
            stride=2,
            padding=1,
            norm_cfg=norm_cfg,
            act_cfg=_prelu(self.channels[0]),
            bias=False)
        self.stages = nn.ModuleList()
        for index in range(1, num_stages):
            num_units, strided_field, field = self.stage_settings[index - 1]
            # The stage of stride 32 was designed for classification, without the image.
            image_channels = in_channels if index < max_stages - 1 else None
            width = self.channels[index]
            self.stages.append(
                nn.ModuleList([
                    StridedEESP(self.channels[index - 1], width, strided_field, image_channels, norm_cfg),
                    *(EESPUnit(width, width, field, norm_cfg=norm_cfg) for _ in range(num_units))
                ]))
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        image = _halve(x)
        feats: list[Tensor] = [self.stem(x)]
        for strided, *units in self.stages:
            image = _halve(image)
            out = strided(feats[-1], image)
            for unit in units:
                out = unit(out)
            feats.append(out)
        return tuple(feats[index] for index in self.out_indices)

    def train(self, mode: bool = True) -> 'ESPNetv2':
        """Keep what is frozen in eval mode."""
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze(self) -> None:
        for part in (self.stem, *self.stages)[:self.frozen_stages + 1]:
            part.eval()
            part.requires_grad_(False)


def _halve(x: Tensor) -> Tensor:
    """Average pooling to (ceil(H / 2), ceil(W / 2))."""
    return F.avg_pool2d(x, 3, stride=2, padding=1)


def _prelu(channels: int) -> dict:
    return dict(type='PReLU', num_parameters=channels)


def _dilations(receptive_field: int) -> list[int]:
    """Dilations of the branches, ascending: 1, 2, 3, 4, those beyond the receptive field replaced by 1."""
    rates = range(1, NUM_BRANCHES + 1)
    return sorted(rate if 2 * rate + 1 <= receptive_field else 1 for rate in rates)
