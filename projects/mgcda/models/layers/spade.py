# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

#: Normalisations without learned scale and shift; batch statistics are shared by all ranks with 'sync'.
_PARAM_FREE_NORMS = dict(instance=nn.InstanceNorm2d, batch=nn.BatchNorm2d, sync=nn.SyncBatchNorm)


class SPADE(nn.Module):
    r"""Normalise features and modulate them by a label map, pixel by pixel.

    .. math:: y = \mathrm{norm}(x) \, (1 + \gamma(m)) + \beta(m)

    ``m`` is the label map, resized (nearest) to ``x`` and passed through one
    shared convolution with ReLU; :math:`\gamma` and :math:`\beta` are one
    convolution each. ``norm`` has no learned parameters.

    From "Semantic Image Synthesis with Spatially-Adaptive Normalization" (Park
    et al., CVPR 2019).

    Args:
        channels (int): Channels C of the features.
        label_channels (int): Channels L of the one-hot label map.
        hidden_channels (int): Channels after the shared convolution. Defaults to 128.
        norm (str): 'instance', 'batch' or 'sync' (batch statistics over all ranks; several ranks need GPUs).
            Defaults to 'instance'.
        kernel_size (int): Odd size of the three convolutions. Defaults to 3.

    Raises:
        ValueError: If a channel number is below 1, ``norm`` is unknown or ``kernel_size`` is even or below 1.
    """

    def __init__(self,
                 channels: int,
                 label_channels: int,
                 hidden_channels: int = 128,
                 norm: str = 'instance',
                 kernel_size: int = 3) -> None:
        super().__init__()
        for name, value in (('channels', channels), ('label_channels', label_channels), ('hidden_channels',
                                                                                         hidden_channels)):
            if value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}')
        if norm not in _PARAM_FREE_NORMS:
            raise ValueError(f'norm must be one of {sorted(_PARAM_FREE_NORMS)}, got {norm!r}')
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f'kernel_size must be odd and positive, got {kernel_size}')
        padding = kernel_size // 2
        self.param_free_norm = _PARAM_FREE_NORMS[norm](channels, affine=False)
        self.mlp_shared = nn.Sequential(
            nn.Conv2d(label_channels, hidden_channels, kernel_size, padding=padding), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden_channels, channels, kernel_size, padding=padding)
        self.mlp_beta = nn.Conv2d(hidden_channels, channels, kernel_size, padding=padding)

    def forward(self, x: Tensor, label_map: Tensor) -> Tensor:
        """``x``: float (N, C, h, w); ``label_map``: one-hot float (N, L, H, W) of any size. Returns (N, C, h, w)."""
        if label_map.shape[-2:] != x.shape[-2:]:
            label_map = F.interpolate(label_map, size=x.shape[-2:], mode='nearest')
        hidden = self.mlp_shared(label_map)
        return self.param_free_norm(x) * (1 + self.mlp_gamma(hidden)) + self.mlp_beta(hidden)
