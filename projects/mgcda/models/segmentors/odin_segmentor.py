# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from typing import List

import torch
from mmseg.models.segmentors import CascadeEncoderDecoder, EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor

from .anomaly_mixin import AnomalyMixin


class ODINMixin(AnomalyMixin):
    r"""Make any MMSegmentation segmentor an anomaly segmentor that perturbs its inputs (ODIN, Liang et al., ICLR 2018).

    With the softmax probabilities :math:`p(x; T)` of the logits over a temperature, and :math:`\hat p` the largest of a
    pixel, the network reads

    .. math:: \tilde x = x + \epsilon \, \mathrm{sign} \Big( \nabla_x \sum_{pixels} \ln \hat p(x; T) \Big)

    in place of x, which raises :math:`\hat p` where the image is known more than elsewhere; the score is
    :math:`1 - \hat p(\tilde x; T)`. It takes a backward pass and a second forward pass. The paper classifies images;
    here the sum over the pixels of the image, or of the sliding window, stands for the one prediction. Logits and
    ``pred_sem_seg`` are those of the perturbed image, too.

    Args:
        temperature (float): T. Defaults to 1000, the paper's.
        epsilon (float): In grey levels as a share of 255, whatever the normalisation; 0 leaves the image alone, and
            saves the passes. Defaults to 0.0014, the paper's for DenseNet.
        score, scores: As of :class:`AnomalyMixin`. Defaults to ``dict(type='msp', temperature=temperature)``.

    Raises:
        ValueError: If ``temperature`` is not positive, ``epsilon`` is negative, or the head is binary.
    """

    def __init__(self, *args, temperature: float = 1000.0, epsilon: float = 0.0014, **kwargs) -> None:
        if not temperature > 0 or not epsilon >= 0:
            raise ValueError(f'temperature must be positive and epsilon not negative, got {temperature} and {epsilon}')
        if kwargs.get('score') is None and kwargs.get('scores') is None:
            kwargs['score'] = dict(type='msp', temperature=temperature)
        super().__init__(*args, **kwargs)
        if self.out_channels < 2:
            raise ValueError(f'{type(self).__name__} needs a head of several classes, this one has one channel')
        self.temperature, self.epsilon = temperature, epsilon

    def encode_decode(self, inputs: Tensor, batch_img_metas: List[dict]) -> Tensor:
        """Class logits (N, C, H, W) of the perturbed inputs, and maps of features behind them."""
        if self.epsilon > 0:
            inputs = self.perturb(inputs, batch_img_metas)
        return super().encode_decode(inputs, batch_img_metas)

    def perturb(self, inputs: Tensor, batch_img_metas: List[dict]) -> Tensor:
        """Perturbed inputs (N, 3, H, W), normalised as the network reads them."""
        std = getattr(self.data_preprocessor, 'std', None)
        step = 255 * self.epsilon / (1 if std is None else std.to(inputs))
        with torch.enable_grad():
            leaf = inputs.detach().requires_grad_()
            seg_logits = super(AnomalyMixin, self).encode_decode(leaf, batch_img_metas)  # the segmentor's own
            confidence = (seg_logits.float() / self.temperature).log_softmax(1).amax(1).sum()
            gradient, = torch.autograd.grad(confidence, leaf)
        return inputs + step * gradient.sign()


@MODELS.register_module()
class ODINAnomalySegmentor(ODINMixin, EncoderDecoder):
    """:class:`mmseg.models.EncoderDecoder` with perturbed inputs, see :class:`ODINMixin`."""


@MODELS.register_module()
class CascadeODINAnomalySegmentor(ODINMixin, CascadeEncoderDecoder):
    """:class:`mmseg.models.CascadeEncoderDecoder` with perturbed inputs, see :class:`ODINMixin`."""
