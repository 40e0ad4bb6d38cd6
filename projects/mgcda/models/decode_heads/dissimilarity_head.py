# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from mmseg.utils import ConfigType, SampleList
from torch import Tensor, nn

from mgcda.labels import NUM_CITYSCAPES_CLASSES

from ..layers import SPADE
from .map_encoder import MapEncoder


class DissimilarityFeatures(NamedTuple):
    """What a dissimilarity head reads.

    image, synthesis: one (N, C_i, h_i, w_i) tensor a level, finest first. semantic: one-hot (N, K, H, W).
    uncertainty: (N, 3, H, W), the entropy, perceptual and distance maps in [0, 1].
    """
    image: tuple[Tensor, ...]
    synthesis: tuple[Tensor, ...]
    semantic: Tensor
    uncertainty: Tensor


class SPADERefinement(nn.Module):
    """SPADE, SELU, 3x3 convolution, SPADE, SELU (Di Biase et al., CVPR 2021)."""

    def __init__(self, channels: int, label_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.norm1 = SPADE(channels, label_channels, hidden_channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = SPADE(channels, label_channels, hidden_channels)

    def forward(self, x: Tensor, label_map: Tensor) -> Tensor:
        x = F.selu(self.norm1(x, label_map)).to(self.conv.weight.dtype)
        return F.selu(self.norm2(self.conv(x), label_map))


class DecoderStage(nn.Module):
    """A level of the decoder: 3x3 convolution + SELU, refinement, and 2x2 transposed convolution if ``upsample``."""

    def __init__(self, in_channels: int, channels: int, label_channels: int, spade_channels: int | None,
                 upsample: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.spade = spade_channels is not None
        self.refine = (
            SPADERefinement(channels, label_channels, spade_channels) if self.spade else nn.Conv2d(
                channels, channels, 3, padding=1))
        self.up = nn.ConvTranspose2d(channels, channels, 2, stride=2) if upsample else nn.Identity()

    def forward(self, x: Tensor, semantic: Tensor) -> Tensor:
        return self.refined(F.selu(self.conv(x)), semantic)

    def forward_half(self, above: list[Tensor], correlation: Tensor, fused: Tensor, semantic: Tensor) -> Tensor:
        """The stage over float16 features, with the correlation (N, 1, h, w) in float32.

        The correlation exceeds float16, and so does what a convolution makes of it: its part of the sum stays in
        float32 up to the normalisation of the refinement.
        """
        position = sum(part.size(1) for part in above)
        before, own, behind = self.conv.weight.split([position, 1, self.conv.in_channels - position - 1], dim=1)
        others = F.conv2d(torch.cat([*above, fused], 1), torch.cat([before, behind], 1), self.conv.bias, padding=1)
        with torch.autocast(fused.device.type, enabled=False):
            x = F.selu(others.float() + F.conv2d(correlation, own.float(), padding=1))
        return self.refined(x, semantic)

    def refined(self, x: Tensor, semantic: Tensor) -> Tensor:
        if self.spade:
            if semantic.shape[-2:] != x.shape[-2:]:
                semantic = F.interpolate(semantic, size=x.shape[-2:], mode='nearest')
            x = self.refine(x, semantic)
        else:
            x = F.selu(self.refine(x))
        return self.up(x)


@MODELS.register_module()
class DissimilarityDecodeHead(BaseDecodeHead):
    r"""Score how a pixel differs from its resynthesis, given the semantic and the uncertainty maps.

    At each level :math:`i` of the pyramid, with the features :math:`x_i` of the image, :math:`s_i` of the synthesis,
    :math:`m_i` of the semantic map and :math:`u_i` of the uncertainty maps,

    .. math:: f_i = W_i [x_i, s_i, m_i] \odot u_i, \qquad c_i = \sum_k x_{i,k} s_{i,k},

    and the decoder reads :math:`[c_i, f_i]` from the deepest level to the finest. With VGG16 features this is the
    network of "Pixel-wise Anomaly Detection in Complex Driving Scenes" (SynBoost, Di Biase et al., CVPR 2021),
    18,780,162 parameters in all, which MGCDA trains (section 3.1). With ``uncertainty=False, spade=False,
    semantic_padding='reflect'`` it is the discrepancy network of "Detecting the Unexpected via Image Resynthesis" (Lis
    et al., ICCV 2019), 13,798,530 parameters, which SynBoost's was made from.

    Args:
        in_channels (Sequence[int]): Channels C_i of the backbone's levels, finest first.
        feature_strides (Sequence[int]): Their strides; each is twice the one before. Defaults to (1, 2, 4, 8).
        fusion_channels (Sequence[int]): Channels of f_i. Defaults to (64, 128, 256, 512).
        semantic_channels (Sequence[int]): Channels of m_i. Defaults to (32, 64, 128, 256).
        decoder_channels (Sequence[int]): Channels of the decoder's stages, finest first. Defaults to
            (64, 128, 256, 256).
        num_semantic_classes (int): Channels K of the one-hot semantic map. Defaults to 19.
        correlation (bool): Feed the correlation c_i to the decoder. Defaults to True.
        uncertainty (bool): Weight the fused features by u_i. Without, the uncertainty maps are not looked at.
            Defaults to True.
        spade (bool): Condition the decoder on the semantic map. Defaults to True.
        spade_channels (int): Hidden channels of the SPADE layers. Defaults to 128.
        semantic_padding (str): Padding of the semantic encoder's first convolution, 'zeros' (SynBoost) or 'reflect'
            (Lis et al.). Defaults to 'zeros'.
        loss_decode (dict): Loss of the two logits. Defaults to ``PixelCrossEntropyLoss``.
        **kwargs: Other arguments of :class:`mmseg.models.BaseDecodeHead`, but for ``sampler``.

    Raises:
        ValueError: If the per-level arguments differ in length, the strides do not double, the padding is unknown, or
            there is a sampler.
    """

    def __init__(self,
                 in_channels: Sequence[int],
                 feature_strides: Sequence[int] = (1, 2, 4, 8),
                 fusion_channels: Sequence[int] = (64, 128, 256, 512),
                 semantic_channels: Sequence[int] = (32, 64, 128, 256),
                 decoder_channels: Sequence[int] = (64, 128, 256, 256),
                 num_semantic_classes: int = NUM_CITYSCAPES_CLASSES,
                 correlation: bool = True,
                 uncertainty: bool = True,
                 spade: bool = True,
                 spade_channels: int = 128,
                 semantic_padding: str = 'zeros',
                 num_classes: int = 2,
                 loss_decode: ConfigType = dict(type='PixelCrossEntropyLoss'),
                 **kwargs) -> None:
        num_levels = len(in_channels)
        for name, value in (('feature_strides', feature_strides), ('fusion_channels', fusion_channels),
                            ('semantic_channels', semantic_channels), ('decoder_channels', decoder_channels)):
            if len(value) != num_levels:
                raise ValueError(f'{name} must have one entry a level, {num_levels} as in_channels={in_channels} has, '
                                 f'got {value}')
        if any(fine * 2 != coarse for fine, coarse in zip(feature_strides, feature_strides[1:])):
            raise ValueError(f'feature_strides must double from level to level, got {feature_strides}')
        if semantic_padding not in ('zeros', 'reflect'):
            raise ValueError(f"semantic_padding must be 'zeros' or 'reflect', got {semantic_padding!r}")
        if kwargs.get('sampler') is not None:
            raise ValueError('decode_head.sampler: DissimilarityDecodeHead takes no sampler of pixels, leave it out')
        if num_classes != 2:
            raise ValueError(f'num_classes must be 2 (normal, anomaly), got {num_classes}')
        super().__init__(
            list(in_channels),
            decoder_channels[0],
            num_classes=num_classes,
            out_channels=num_classes,
            dropout_ratio=0,
            in_index=list(range(num_levels)),
            input_transform='multiple_select',
            loss_decode=loss_decode,
            init_cfg=kwargs.pop('init_cfg', None),
            **kwargs)
        self.num_semantic_classes = num_semantic_classes
        self.correlation = correlation
        self.semantic_encoder = MapEncoder(
            num_semantic_classes, semantic_channels, feature_strides[0], padding_mode=semantic_padding)
        self.uncertainty_encoder = MapEncoder(3, fusion_channels, feature_strides[0]) if uncertainty else None
        self.fusion = nn.ModuleList(
            nn.Conv2d(2 * c + m, f, 1) for c, m, f in zip(in_channels, semantic_channels, fusion_channels))
        self.decoder = nn.ModuleList()
        for level in range(num_levels):
            width = fusion_channels[level] + correlation
            if level < num_levels - 1:
                width += decoder_channels[level + 1]
            self.decoder.append(
                DecoderStage(
                    width,
                    decoder_channels[level],
                    num_semantic_classes,
                    spade_channels if spade else None,
                    upsample=level > 0))
        self.outputs: dict[str, Tensor] = {}

    def forward_outputs(self, inputs: DissimilarityFeatures) -> dict[str, Tensor]:
        """Run the head and keep what alignment reads.

        Returns:
            dict: ``seg_logits`` (N, 2, h, w) for normal and anomaly; ``features`` (N, C, h', w'), the deepest fused
            level after the uncertainty weighting, before the correlation; ``embedding`` (N, D, h, w), the decoder's
            last features.
        """
        fused = self._fuse(inputs)
        features = fused[-1]
        half = self.correlation and features.dtype == torch.float16
        precision: AbstractContextManager = nullcontext()
        if half and not self.decoder[0].spade and self.fusion[0].weight.dtype == torch.float32:
            # Nothing normalises what the decoder makes of the correlation, so that all of it runs in float32.
            half, fused = False, [level.float() for level in fused]
            precision = torch.autocast(features.device.type, enabled=False)
        with precision:
            x = None
            for level in reversed(range(len(self.decoder))):
                above = [] if x is None else [_match(x, fused[level])]
                correlation = []
                if self.correlation:
                    correlation = [_correlation(inputs.image[level], inputs.synthesis[level])]
                if half:
                    x = self.decoder[level].forward_half(above, correlation[0], fused[level], inputs.semantic)
                else:
                    parts = [*above, *(part.to(fused[level].dtype) for part in correlation), fused[level]]
                    x = self.decoder[level](torch.cat(parts, dim=1), inputs.semantic)
            return dict(seg_logits=self.cls_seg(x), features=features, embedding=x)

    def _fuse(self, inputs: DissimilarityFeatures) -> list[Tensor]:
        semantic = self.semantic_encoder(inputs.semantic)
        fused = [
            conv(torch.cat([image, synthesis, _match(label, image)], dim=1))
            for conv, image, synthesis, label in zip(self.fusion, inputs.image, inputs.synthesis, semantic)
        ]
        if self.uncertainty_encoder is None:
            return fused
        weights = self.uncertainty_encoder(inputs.uncertainty)
        return [level * _match(weight, level) for level, weight in zip(fused, weights)]

    def forward(self, inputs: DissimilarityFeatures) -> Tensor:
        """Return the logits (N, 2, h, w) of normal and anomaly."""
        return self.forward_outputs(inputs)['seg_logits']

    def loss(self, inputs: DissimilarityFeatures, batch_data_samples: SampleList, train_cfg: ConfigType) -> dict:
        """Compute the pixel losses and keep the outputs for the taps of alignment."""
        self.outputs = self.forward_outputs(inputs)
        return self.loss_by_feat(self.outputs['seg_logits'], batch_data_samples)

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: SampleList) -> dict:
        """Losses of the logits at the size of the labels; no accuracy, which would wait for the device."""
        seg_label = self._stack_batch_gt(batch_data_samples).squeeze(1)
        if seg_logits.shape[-2:] != seg_label.shape[-2:]:
            seg_logits = resize(seg_logits, seg_label.shape[-2:], mode='bilinear', align_corners=self.align_corners)
        modules = self.loss_decode if isinstance(self.loss_decode, nn.ModuleList) else [self.loss_decode]
        losses: dict = {}
        for module in modules:
            value = module(seg_logits, seg_label, ignore_index=self.ignore_index)
            losses[module.loss_name] = losses.get(module.loss_name, 0) + value
        return losses

    @staticmethod
    def anomaly_logit(outputs: dict[str, Tensor]) -> Tensor:
        """Margin (N, 1, h, w) of the anomaly logit over the normal one."""
        seg_logits = outputs['seg_logits']
        return seg_logits[:, 1:] - seg_logits[:, :1]


def _correlation(image: Tensor, synthesis: Tensor) -> Tensor:
    """Channel sum (N, 1, h, w) of the product, in float32 or better."""
    dtype = torch.promote_types(image.dtype, torch.float32)
    return (image.to(dtype) * synthesis.to(dtype)).sum(dim=1, keepdim=True)


def _match(x: Tensor, reference: Tensor) -> Tensor:
    """Bring ``x`` to the size of ``reference``: they differ by a pixel where a side is not divisible by the stride."""
    if x.shape[-2:] == reference.shape[-2:]:
        return x
    return F.interpolate(x, size=reference.shape[-2:], mode='bilinear', align_corners=False)
