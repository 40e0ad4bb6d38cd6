# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.

from mmpretrain.models.backbones import VGG
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class VGGPyramid(VGG):
    """VGG that returns one level of features a stage, taken before the pooling.

    mmpretrain's VGG returns a stage after its pooling. The dissimilarity network reads the last features before it
    (VGG16: relu 1_2, 2_2, 3_3, 4_3 at strides 1, 2, 4, 8), the perceptual difference the first ones (VGG19: relu 1_1,
    2_1, 3_1, 4_1, 5_1). Parameter names are mmpretrain's, so that its checkpoints load with
    ``init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone.')``.

    Args:
        depth (int): 11, 13, 16 or 19. Defaults to 16.
        num_stages (int): Number of stages, 1 to 5. Defaults to 4.
        position (str): 'last', the features before the pooling, or 'first', those of a stage's first convolution.
            Defaults to 'last'.
        **kwargs: ``norm_cfg``, ``frozen_stages``, ``norm_eval``, ``init_cfg``, ... of mmpretrain's VGG.

    Raises:
        ValueError: If ``position`` is unknown.
    """

    def __init__(self, depth: int = 16, num_stages: int = 4, position: str = 'last', **kwargs) -> None:
        if position not in ('first', 'last'):
            raise ValueError(f"position must be 'first' or 'last', got {position!r}")
        super().__init__(
            depth,
            num_stages=num_stages,
            dilations=(1, ) * num_stages,
            out_indices=tuple(range(num_stages)),
            with_last_pool=False,
            **kwargs)
        self.position = position
        if position == 'first':  # nothing behind the last output
            self.features = self.features[:self.range_sub_modules[-1][0] + 1]
            self.range_sub_modules[-1][1] = len(self.features)
        self._freeze_stages()  # mmpretrain's waits for train(), too late for distributed training

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """``x``: float (N, 3, H, W). Returns one (N, C_i, H / 2^i, W / 2^i) tensor a stage, finest first."""
        outs = []
        for start, end in self.range_sub_modules:
            for index in range(start, end):
                layer = self.features[index]
                if self.position == 'last' and isinstance(layer, nn.MaxPool2d):
                    outs.append(x)
                x = layer(x)
                if self.position == 'first' and index == start:
                    outs.append(x)
        if self.position == 'last':
            outs.append(x)
        return tuple(outs)

    def train(self, mode: bool = True) -> 'VGGPyramid':
        """Set the mode as mmpretrain's VGG does, and return the module as torch does."""
        super().train(mode)
        return self
