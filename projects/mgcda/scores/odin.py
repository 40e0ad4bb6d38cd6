# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Callable
from typing import Any

import torch
from mmengine.registry import FUNCTIONS
from torch import Tensor, nn

from .base import Score
from .logits import msp


@FUNCTIONS.register_module()
class ODIN(Score):
    r"""Maximum softmax probability of a perturbed image (Liang et al., ICLR 2018).

    With the softmax probabilities :math:`p(x; T)` of the logits over a temperature, and :math:`\hat p` the largest of a
    pixel, the network reads

    .. math:: \tilde x = x + \epsilon \, \mathrm{sign} \Big( \nabla_x \sum_{pixels} \ln \hat p(x; T) \Big)

    in place of x, which raises :math:`\hat p` where the image is known more than elsewhere; the score is
    :math:`1 - \hat p(\tilde x; T)`. It takes a backward pass and two more forward passes. The paper classifies images;
    here the sum over the pixels of the image, or of the sliding window, stands for the one prediction.

    Args:
        temperature (float): T. Defaults to 1000, the paper's.
        epsilon (float): In grey levels as a share of 255, whatever the normalisation. Defaults to 0.0014, the paper's
            for DenseNet.

    ``name``: 'ODIN', or 'ODIN(T=1,epsilon=0.01)' where the settings are others.

    Raises:
        ValueError: If ``temperature`` is not positive, or ``epsilon`` is negative; in :meth:`prepare`, if the head has
            one channel.
    """
    needs = ('inputs', 'encode_decode')

    def __init__(self, temperature: float = 1000.0, epsilon: float = 0.0014) -> None:
        if not temperature > 0 or not epsilon >= 0:
            raise ValueError(f'temperature must be positive and epsilon not negative, got {temperature} and {epsilon}')
        self.temperature, self.epsilon = temperature, epsilon
        if (temperature, epsilon) != (1000, 0.0014):
            self.name = f'ODIN(T={temperature:g},epsilon={epsilon:g})'
        self.std: Tensor | None = None

    def prepare(self, model: nn.Module) -> None:
        """Take the number of classes and the normalisation of a segmentor."""
        if model.out_channels < 2:
            raise ValueError('ODIN needs a head of several classes, this one has one channel')
        self.num_maps = model.out_channels
        self.std = getattr(model.data_preprocessor, 'std', None)

    def __call__(self, outputs: dict[str, Any]) -> Tensor:
        """Logits (N, C, H, W) of perturbed images.

        Args:
            outputs (dict): ``inputs`` (N, 3, H, W), normalised, and ``encode_decode``, which makes logits of such.
        """
        inputs, encode_decode = outputs['inputs'], outputs['encode_decode']
        return encode_decode(self.perturb(inputs, encode_decode))

    def perturb(self, inputs: Tensor, encode_decode: Callable[[Tensor], Tensor]) -> Tensor:
        """Perturbed inputs (N, 3, H, W), normalised as the network reads them."""
        step = 255 * self.epsilon / (1 if self.std is None else self.std.to(inputs))
        with torch.enable_grad():
            leaf = inputs.detach().requires_grad_()
            confidence = (encode_decode(leaf).float() / self.temperature).log_softmax(1).amax(1).sum()
            gradient, = torch.autograd.grad(confidence, leaf)
        return inputs + step * gradient.sign()

    def combine(self, maps: Tensor) -> Tensor:
        """Scores (N, H, W) of the logits (N, C, H, W) at the original image size."""
        return msp(maps, self.temperature)
