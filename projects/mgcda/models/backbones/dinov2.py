# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import math
from collections.abc import Sequence

import torch.nn.functional as F
from mmpretrain.models.backbones import VisionTransformer
from mmseg.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class DINOv2(VisionTransformer):
    """mmpretrain's vision transformer of DINOv2 with its tokens at stride 16, as backbone of dense prediction.

    DINOv2 (Oquab et al., TMLR 2024) reads patches of 14 pixels. The image is resized to 14 / 16 of its size, so that a
    token stands for 16 x 16 pixels, and a neck such as :class:`mmseg.models.Feature2Pyramid` makes strides 4, 8, 16, 32
    of it. An image whose sides are not multiples of 32 is stretched to the next even number of tokens a side, so that
    every level of that pyramid covers the whole image and nothing else. The position embedding is interpolated
    (bicubic) to the tokens of each batch. Each output passes the final layer norm, as in DINOv2's own evaluation.

    Parameter names are mmpretrain's, so that its checkpoints load with ``init_cfg=dict(type='Pretrained',
    checkpoint=..., prefix='backbone.')``.

    Args:
        arch (str | dict): 'dinov2-small', 'base', 'large', 'dinov2-giant', the last with
            ``layer_cfgs=dict(ffn_type='swiglu_fused')``, or a dict as in mmpretrain. Defaults to 'base'.
        out_indices (Sequence[int]): Blocks that are returned, ascending; the last block is among them. Defaults to
            (2, 5, 8, 11), the quarters of 12 blocks.
        frozen_stages (int): The embeddings and this many blocks, from the first, are not trained and stay in eval
            mode; all of them take the final norm along. 0 or -1 freezes nothing. Defaults to -1.
        **kwargs: ``drop_path_rate``, ``layer_cfgs``, ``init_cfg``, ... of mmpretrain's VisionTransformer.

    Raises:
        ValueError: If ``out_indices`` or ``frozen_stages`` do not fit the number of blocks.
    """

    #: Pixels of the image a token, on either axis.
    stride = 16

    def __init__(self,
                 arch: str | dict = 'base',
                 out_indices: Sequence[int] = (2, 5, 8, 11),
                 frozen_stages: int = -1,
                 img_size: int = 518,
                 patch_size: int = 14,
                 layer_scale_init_value: float = 1e-5,
                 **kwargs) -> None:
        super().__init__(
            arch,
            img_size=img_size,
            patch_size=patch_size,
            out_indices=[],
            final_norm=True,
            out_type='featmap',
            layer_scale_init_value=layer_scale_init_value,
            **kwargs)
        blocks, out_indices = range(self.num_layers), tuple(out_indices)
        if out_indices != tuple(sorted({*out_indices} & {*blocks})) or blocks[-1] not in out_indices:
            raise ValueError(f'out_indices must ascend to the last block, {blocks[-1]}, got {out_indices}')
        if not -1 <= frozen_stages <= self.num_layers:
            raise ValueError(f'frozen_stages must be in -1..{self.num_layers}, got {frozen_stages}')
        self.out_indices = out_indices
        self.frozen_stages = frozen_stages
        self.patch_size = patch_size
        self.final_norm = False  # of the last block alone; here it is in _format_output
        if frozen_stages > 0:
            self._freeze_stages()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """``x``: float (N, 3, H, W). Returns a tensor (N, C, 2 ceil(H / 32), 2 ceil(W / 32)) for each of
        ``out_indices``."""
        size = [2 * math.ceil(side / (2 * self.stride)) * self.patch_size for side in x.shape[-2:]]
        return super().forward(F.interpolate(x, size=size, mode='bilinear', align_corners=False))

    def train(self, mode: bool = True) -> 'DINOv2':
        """Keep what is frozen in eval mode."""
        super().train(mode)
        if self.frozen_stages > 0:
            self._freeze_stages()
        return self

    def _format_output(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        return super()._format_output(self.ln1(x), hw)

    def _freeze_stages(self) -> None:
        super()._freeze_stages()
        if self.frozen_stages == self.num_layers:
            self.ln1.requires_grad_(False)
