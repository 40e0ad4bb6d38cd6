# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from mmseg.registry import MODELS
from torch import Tensor

from mgcda.structures.dissimilarity import (
    IMAGE,
    IMAGENET_MEAN,
    IMAGENET_STD,
    NUM_CHANNELS,
    SEMANTIC,
    SYNTHESIS,
    UNCERTAINTY,
    UNCERTAINTY_SCALE,
)


@MODELS.register_module()
class DissimilarityDataPreProcessor(BaseDataPreprocessor):
    """Turn packed uint8 samples into the network's input, whose channels :mod:`mgcda.structures.dissimilarity` lists.

    Samples without maps have the image's channels only; the segmentor makes the rest online.

    Args:
        mean (Sequence[float]): Mean of R, G and B in 0..255. Defaults to ImageNet's.
        std (Sequence[float]): Standard deviation likewise.

    Raises:
        ValueError: If the samples of a batch differ in size or have neither 3 nor 10 channels.
    """

    def __init__(self,
                 mean: Sequence[float] = IMAGENET_MEAN,
                 std: Sequence[float] = IMAGENET_STD,
                 non_blocking: bool = True) -> None:
        super().__init__(non_blocking=non_blocking)
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """``data['inputs']``: uint8 (C, H, W) tensors, a list or stacked. Returns ``inputs`` float (N, C, H, W)."""
        data = self.cast_data(data)
        inputs = data['inputs']
        if not isinstance(inputs, Tensor):
            shapes = {tuple(x.shape) for x in inputs}
            if len(shapes) > 1:
                raise ValueError(f'the samples of a batch must have one size, got {sorted(shapes)}: resize them in the '
                                 'pipeline, or use a batch size of 1')
            inputs = torch.stack(list(inputs))
        num_channels = inputs.shape[1]
        if num_channels not in (3, NUM_CHANNELS):
            raise ValueError(f'inputs must have 3 or {NUM_CHANNELS} channels (see PackDissimilarityInputs), got '
                             f'{num_channels}')
        inputs = inputs.float()
        parts = [self.normalise(inputs[:, IMAGE])]
        if num_channels == NUM_CHANNELS:
            parts += [self.normalise(inputs[:, SYNTHESIS]), inputs[:, SEMANTIC]]
            parts.append(inputs[:, UNCERTAINTY] / UNCERTAINTY_SCALE)
        return dict(inputs=torch.cat(parts, dim=1), data_samples=data.get('data_samples'))

    def normalise(self, bgr: Tensor) -> Tensor:
        """BGR in 0..255 (N, 3, H, W) -> normalised RGB."""
        return (bgr.flip(1) - self.mean) / self.std

    def denormalise(self, rgb: Tensor) -> Tensor:
        """Inverse of :meth:`normalise`."""
        return (rgb * self.std + self.mean).flip(1)
