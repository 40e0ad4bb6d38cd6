# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from mmseg.registry import MODELS
from torch import Tensor

from .layers import one_hot_labels

#: Mean and standard deviation of ImageNet's R, G and B in 0..255.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
#: Channels of a packed dissimilarity sample: image, synthesis, semantic map, three uncertainty maps.
NUM_CHANNELS = 10


@MODELS.register_module()
class DissimilarityDataPreProcessor(BaseDataPreprocessor):
    """Turn packed uint8 samples into the network's input.

    ======== ============== ==========================================================
    channels packed (uint8) network (float32)
    ======== ============== ==========================================================
    0-2      image, BGR     RGB, ``(x - mean) / std``
    3-5      synthesis, BGR the same
    6        train ids      as it is, 255 = unknown
    7-9      maps, 0..255   entropy, perceptual and distance in [0, 1]
    ======== ============== ==========================================================

    Samples without maps have channels 0-2 only; the segmentor makes the rest online.

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
        parts = [self.normalise(inputs[:, 0:3])]
        if num_channels == NUM_CHANNELS:
            parts += [self.normalise(inputs[:, 3:6]), inputs[:, 6:7], inputs[:, 7:] / 255]
        return dict(inputs=torch.cat(parts, dim=1), data_samples=data.get('data_samples'))

    def normalise(self, bgr: Tensor) -> Tensor:
        """BGR in 0..255 (N, 3, H, W) -> normalised RGB."""
        return (bgr.flip(1) - self.mean) / self.std

    def denormalise(self, rgb: Tensor) -> Tensor:
        """Inverse of :meth:`normalise`."""
        return (rgb * self.std + self.mean).flip(1)


def split_channels(inputs: Tensor, num_classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Split the network's input (N, 10, H, W) by content.

    Returns:
        tuple: image (N, 3, H, W), synthesis (N, 3, H, W), one-hot semantic map (N, num_classes, H, W), all zeros where
        the class is unknown, and uncertainty maps (N, 3, H, W).
    """
    one_hot = one_hot_labels(inputs[:, 6:7].long(), num_classes).to(inputs.dtype)
    return inputs[:, 0:3], inputs[:, 3:6], one_hot, inputs[:, 7:10]
