# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_norm_layer
from mmengine.model import BaseModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from mmseg.utils import ConfigType
from torch import Tensor, nn


class EfficientPyramidPool(BaseModule):
    """Look at few channels in several resolutions, each through a depth-wise 3x3 convolution, and merge them.

    (N, ``in_channels``, H, W) to (N, ``channels``, H, W). From the decoder of Mehta et al., ESPNetv2, CVPR 2019.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the pyramid and of the result.
        scales: Resolutions relative to the input's, at least ``min_size`` pixels a side.
        norm_cfg: Config of the normalisation.
    """

    min_size = 5

    def __init__(self, in_channels: int, channels: int, scales: Sequence[float], norm_cfg: ConfigType) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.project = ConvModule(in_channels, channels, 1, norm_cfg=norm_cfg, act_cfg=_prelu(channels), bias=False)
        self.branches = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False) for _ in self.scales)
        num_stacked = channels * len(self.scales)
        self.norm = build_norm_layer(norm_cfg, num_stacked)[1]
        self.act = nn.PReLU(num_stacked)
        self.merge = ConvModule(
            num_stacked,
            channels,
            3,
            padding=1,
            groups=channels,
            norm_cfg=norm_cfg,
            act_cfg=_prelu(channels),
            bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x)
        pyramid = torch.cat([self._look(x, *pair) for pair in zip(self.scales, self.branches)], 1)
        pyramid = self.act(self.norm(pyramid))
        # (N, scales * C, H, W) -> (N, C * scales, H, W): the groups of `merge` are channels, seen at all scales.
        pyramid = pyramid.unflatten(1, (len(self.scales), -1)).transpose(1, 2).flatten(1, 2)
        return self.merge(pyramid)

    def _look(self, x: Tensor, scale: float, branch: nn.Module) -> Tensor:
        """Apply a branch at a scale: pool on the way down, interpolate on the way up."""
        if scale == 1:
            return branch(x)
        full = x.shape[2:]
        size = [max(math.ceil(side * scale), self.min_size) for side in full]
        if scale < 1:
            return _upsample(branch(F.adaptive_avg_pool2d(x, size)), full)
        return F.adaptive_avg_pool2d(branch(_upsample(x, size)), full)


class GatedProjection(BaseModule):
    """Group-wise 3x3 convolution whose channels are weighted by a sigmoid of the input's global average.

    (N, ``in_channels``, H, W) to (N, ``out_channels``, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int, norm_cfg: ConfigType) -> None:
        super().__init__()
        self.gate = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.conv = ConvModule(
            in_channels,
            out_channels,
            3,
            padding=1,
            groups=math.gcd(in_channels, out_channels),
            norm_cfg=norm_cfg,
            act_cfg=_prelu(out_channels),
            bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * self.gate(F.adaptive_avg_pool2d(x, 1)).sigmoid()


@MODELS.register_module()
class ESPNetv2Head(BaseDecodeHead):
    """Bottom-up decoder of ESPNetv2 (Mehta et al., CVPR 2019), for any pyramid of features.

    From the deepest level on: pyramid pooling, expansion, upsampling to the next level, addition of that level's gated
    projection. The class logits of the finest level are upsampled twofold, to the image where that level has stride 2.

    Args:
        in_channels: Channels of the levels, finest first.
        channels: Channels of the pyramid pooling, and in front of the classifier.
        decoder_channels: Channels in which a level meets the next, deepest first; one fewer than levels.
        scales: Resolutions of the pyramid pooling.
        in_index: Levels that are used; all by default.
        dropout_ratio: Dropout in front of the classifier.
        norm_cfg: Config of the normalisation.

    Raises:
        ValueError: If the numbers of levels do not fit.
    """

    def __init__(self,
                 in_channels: Sequence[int] = (32, 128, 256, 512),
                 channels: int = 10,
                 *,
                 decoder_channels: Sequence[int] = (64, 48, 32),
                 scales: Sequence[float] = (2.0, 1.5, 1.0, 0.5, 0.1),
                 in_index: Sequence[int] | None = None,
                 dropout_ratio: float = 0.0,
                 norm_cfg: ConfigType = dict(type='BN'),
                 **kwargs) -> None:
        in_index = tuple(range(len(in_channels))) if in_index is None else in_index
        if len(in_index) != len(in_channels):
            raise ValueError(f'in_index must name as many levels as in_channels, got {in_index} and {in_channels}')
        if len(decoder_channels) != len(in_channels) - 1:
            raise ValueError('decoder_channels must be one fewer than in_channels, '
                             f'got {tuple(decoder_channels)} and {tuple(in_channels)}')
        super().__init__(
            tuple(in_channels),
            channels,
            in_index=tuple(in_index),
            input_transform='multiple_select',
            dropout_ratio=dropout_ratio,
            norm_cfg=norm_cfg,
            act_cfg=dict(type='PReLU'),
            **kwargs)
        deepest = self.in_channels[-1]
        self.pools = nn.ModuleList(
            EfficientPyramidPool(width, channels, scales, norm_cfg) for width in (deepest, *decoder_channels))
        self.expands = nn.ModuleList(
            ConvModule(channels, width, 1, norm_cfg=norm_cfg, act_cfg=_prelu(width), bias=False)
            for width in decoder_channels)
        self.skips = nn.ModuleList(
            GatedProjection(level, width, norm_cfg) for level, width in zip(self.in_channels[-2::-1], decoder_channels))
        self.norms = nn.ModuleList(build_norm_layer(norm_cfg, width)[1] for width in decoder_channels)
        self.acts = nn.ModuleList(nn.PReLU(width) for width in decoder_channels)

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Class logits, float (N, ``num_classes``, 2h, 2w) where the finest level is (N, C, h, w)."""
        *levels, deepest = self._transform_inputs(inputs)
        out = self.pools[0](deepest)
        parts = zip(reversed(levels), self.expands, self.skips, self.norms, self.acts, self.pools[1:])
        for level, expand, skip, norm, act, pool in parts:
            out = _upsample(expand(out), level.shape[2:]) + skip(level)
            out = pool(act(norm(out)))
        seg_logits = self.cls_seg(out)
        return _upsample(seg_logits, [2 * side for side in seg_logits.shape[2:]])


def _upsample(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, corners aligned, as the public weights were trained; outside the head ``align_corners`` rules."""
    return F.interpolate(x, tuple(size), mode='bilinear', align_corners=True)


def _prelu(channels: int) -> dict:
    return dict(type='PReLU', num_parameters=channels)
