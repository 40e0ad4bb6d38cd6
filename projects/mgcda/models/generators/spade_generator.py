# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from mmseg.utils import OptMultiConfig
from torch import Tensor
from torch.nn.utils.parametrizations import spectral_norm as add_spectral_norm

from mgcda.models.layers import SPADE
from mgcda.structures import one_hot_labels


class SPADEResBlock(BaseModule):
    """Two SPADE-normalised 3x3 convolutions and a shortcut.

    Where the channels change, the shortcut is normalised and projected, too. From Park et al., CVPR 2019, Fig. 4. No
    convolution has a bias. In the public code they have: the normalisation that follows cancels each of them but that
    of ``conv_1`` in the generator's last block, which nothing normalises before the image is made.
    """

    def __init__(self, in_channels: int, out_channels: int, label_channels: int, hidden_channels: int, norm: str,
                 spectral_norm: bool) -> None:
        super().__init__()
        wrap = add_spectral_norm if spectral_norm else nn.Identity()
        middle_channels = min(in_channels, out_channels)
        self.norm_0 = SPADE(in_channels, label_channels, hidden_channels, norm)
        self.conv_0 = wrap(nn.Conv2d(in_channels, middle_channels, 3, padding=1, bias=False))
        self.norm_1 = SPADE(middle_channels, label_channels, hidden_channels, norm)
        self.conv_1 = wrap(nn.Conv2d(middle_channels, out_channels, 3, padding=1, bias=False))
        self.has_projection = in_channels != out_channels
        if self.has_projection:
            self.norm_s = SPADE(in_channels, label_channels, hidden_channels, norm)
            self.conv_s = wrap(nn.Conv2d(in_channels, out_channels, 1, bias=False))

    def forward(self, x: Tensor, label_map: Tensor) -> Tensor:
        """``x``: float (N, C, h, w); ``label_map``: one-hot float (N, L, h, w). Returns (N, C', h, w)."""
        shortcut = self.conv_s(self.norm_s(x, label_map)) if self.has_projection else x
        x = self.conv_0(F.leaky_relu(self.norm_0(x, label_map), 0.2))
        x = self.conv_1(F.leaky_relu(self.norm_1(x, label_map), 0.2))
        return shortcut + x


@MODELS.register_module()
class SPADEGenerator(BaseModule):
    r"""Synthesise an image from a semantic map.

    The smallest label map, :math:`2^{-n}` of the image, is convolved to :math:`2^{n-1}` c channels. Three SPADE
    blocks keep these, one at the smallest size and two at twice that; n - 1 blocks halve them, each at twice the
    size before. A 3x3 convolution and tanh end it. There is no noise input: one map gives one image.

    From "Semantic Image Synthesis with Spatially-Adaptive Normalization" (Park
    et al., CVPR 2019); ``out_shuffle`` is an addition for small machines.

    Args:
        num_classes (int): Semantic classes. One more channel stands for "unknown". Defaults to 19.
        base_channels (int): Channels c of the last block. Defaults to 64.
        num_stages (int): Number n of upsamplings by 2. Defaults to 5.
        hidden_channels (int): Hidden channels of the SPADE layers. Defaults to 128.
        norm (str): Norm of the SPADE layers: 'instance', 'batch' or 'sync'. Defaults to 'instance'.
        spectral_norm (bool): Whether the blocks' convolutions are spectrally normalised. Defaults to True.
        out_shuffle (int): 2 leaves out the last upsampling and brings the last features to full size by a pixel
            shuffle by 2, which saves about a third of the time; 1 is as published. Defaults to 1.
        init_cfg (dict, optional): Initialisation; ``dict(type='Pretrained', checkpoint=..., prefix='generator.')``
            loads a generator out of a checkpoint of ``Resynthesizer``. Defaults to None.

    Raises:
        ValueError: If a number is below 1 or ``out_shuffle`` is neither 1 nor 2.
    """

    def __init__(self,
                 num_classes: int = 19,
                 base_channels: int = 64,
                 num_stages: int = 5,
                 hidden_channels: int = 128,
                 norm: str = 'instance',
                 spectral_norm: bool = True,
                 out_shuffle: int = 1,
                 init_cfg: OptMultiConfig = None) -> None:
        super().__init__(init_cfg)
        for name, value in (('num_classes', num_classes), ('base_channels', base_channels), ('num_stages', num_stages)):
            if value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}')
        if out_shuffle not in (1, 2):
            raise ValueError(f'out_shuffle must be 1 or 2, got {out_shuffle}')
        self.num_classes = num_classes
        self.label_channels = num_classes + 1
        self.norm = norm
        #: Height and width of the maps must be multiples of this.
        self.size_divisor = 2**num_stages
        channels = [base_channels * 2**i for i in reversed(range(num_stages))]
        self.stem = nn.Conv2d(self.label_channels, channels[0], 3, padding=1, bias=False)
        block_channels = channels[:1] * 3 + channels
        self.blocks = nn.ModuleList(
            SPADEResBlock(before, after, self.label_channels, hidden_channels, norm, spectral_norm)
            for before, after in zip(block_channels[:-1], block_channels[1:]))
        # One block works at the smallest size, two at twice that, each of the others at twice the size before it.
        num_upsamplings = num_stages if out_shuffle == 1 else num_stages - 1
        self.upsampled_blocks = (1, *range(3, num_stages + 2))[:num_upsamplings]
        self.to_image = nn.Conv2d(channels[-1], 3 * out_shuffle**2, 3, padding=1)
        self.out_shuffle = out_shuffle

    def check_size(self, height: int, width: int) -> None:
        """Raise ValueError unless the generator can make images of this size."""
        divisor = self.size_divisor
        if height % divisor or width % divisor:
            raise ValueError(f'the generator makes images whose height and width are multiples of {divisor}, '
                             f'got {height}x{width}')
        if self.norm == 'instance' and height * width <= divisor**2:
            raise ValueError(f"with norm='instance' the generator needs a map larger than {divisor}x{divisor}, "
                             f'got {height}x{width}')

    def forward(self, semantic: Tensor) -> Tensor:
        """``semantic``: integer (N, H, W), train ids, anything else unknown. Returns RGB float32 (N, 3, H, W).

        The image lies in [-1, 1].

        Raises:
            ValueError: If H or W is not a multiple of ``size_divisor``, or too small for instance norm.
            TypeError: If ``semantic`` is not of an integer type.
        """
        return self.synthesize(one_hot_labels(semantic, self.num_classes, unknown_channel=True))

    def synthesize(self, label_map: Tensor) -> Tensor:
        """As ``forward``, of the one-hot float map (N, ``num_classes`` + 1, H, W), the last channel = unknown."""
        self.check_size(*label_map.shape[-2:])
        x = self.stem(label_map[..., ::self.size_divisor, ::self.size_divisor])
        for i, block in enumerate(self.blocks):
            if i in self.upsampled_blocks:
                x = F.interpolate(x, scale_factor=2, mode='nearest')
            x = block(x, label_map)
        x = self.to_image(F.leaky_relu(x, 0.2))
        if self.out_shuffle > 1:
            x = F.pixel_shuffle(x, self.out_shuffle)
        return torch.tanh(x.float())
