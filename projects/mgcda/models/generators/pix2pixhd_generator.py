# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.

from mmengine.model import BaseModule
from mmseg.registry import MODELS
from mmseg.utils import OptMultiConfig
from torch import Tensor, nn

from mgcda.structures import one_hot_labels


class ResidualBlock(BaseModule):
    """Two instance-normalised 3x3 convolutions, ReLU between, added to their input; (N, C, H, W) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_conv(channels, channels, 3), *_conv(channels, channels, 3, act=False))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


@MODELS.register_module()
class Pix2PixHDGenerator(BaseModule):
    r"""Synthesise an image from a semantic map by an encoder and a decoder.

    A 7x7 convolution to c channels, n convolutions of stride 2 that double them, residual blocks, n transposed
    convolutions of stride 2 that halve them, a 7x7 convolution and tanh. Instance norm without learned parameters and
    ReLU after each but the last; reflection padding but at the strided ones. There is no noise input: one map gives
    one image.

    The global generator of "High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs"
    (pix2pixHD, Wang et al., CVPR 2018), without instance boundaries, as "Detecting the Unexpected via Image
    Resynthesis" (Lis et al., ICCV 2019) uses it.

    Args:
        num_classes (int): Semantic classes. One more channel stands for "unknown". Defaults to 19.
        base_channels (int): Channels c. Defaults to 64.
        num_stages (int): Number n of downsamplings by 2. Defaults to 4.
        num_blocks (int): Residual blocks. Defaults to 9.
        init_cfg (dict, optional): Initialisation. Defaults to None.

    Raises:
        ValueError: If a number is below 1.
    """

    def __init__(self,
                 num_classes: int = 19,
                 base_channels: int = 64,
                 num_stages: int = 4,
                 num_blocks: int = 9,
                 init_cfg: OptMultiConfig = None) -> None:
        super().__init__(init_cfg)
        for name, value in (('num_classes', num_classes), ('base_channels', base_channels), ('num_stages', num_stages),
                            ('num_blocks', num_blocks)):
            if value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}')
        self.num_classes = num_classes
        #: Height and width of the maps must be multiples of this.
        self.size_divisor = 2**num_stages
        channels = [base_channels * 2**i for i in range(num_stages + 1)]
        layers = _conv(num_classes + 1, channels[0], 7)
        for before, after in zip(channels, channels[1:]):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.InstanceNorm2d(after), nn.ReLU()]
        layers += [ResidualBlock(channels[-1]) for _ in range(num_blocks)]
        for before, after in zip(channels[:0:-1], channels[-2::-1]):
            layers += [
                nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1),
                nn.InstanceNorm2d(after),
                nn.ReLU()
            ]
        self.layers = nn.Sequential(*layers)
        self.to_image = nn.Conv2d(channels[0], 3, 7, padding=3, padding_mode='reflect')

    def forward(self, semantic: Tensor) -> Tensor:
        """``semantic``: integer (N, H, W), train ids, anything else unknown. Returns RGB float32 (N, 3, H, W).

        The image lies in [-1, 1].

        Raises:
            ValueError: If H or W is not a multiple of ``size_divisor``, or less than twice that.
            TypeError: If ``semantic`` is not of an integer type.
        """
        label_map = one_hot_labels(semantic, self.num_classes, unknown_channel=True)
        height, width = label_map.shape[-2:]
        divisor = self.size_divisor
        if height % divisor or width % divisor or min(height, width) < 2 * divisor:
            raise ValueError(f'the generator makes images whose height and width are multiples of {divisor}, from '
                             f'{2 * divisor} on, got {height}x{width}')
        return self.to_image(self.layers(label_map)).float().tanh()


def _conv(in_channels: int, out_channels: int, kernel_size: int, act: bool = True) -> list[nn.Module]:
    """A convolution with reflection padding, instance norm and, by option, ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, padding_mode='reflect')
    return [conv, nn.InstanceNorm2d(out_channels)] + ([nn.ReLU()] if act else [])
