# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Generative classifiers for decode heads (GMMSeg; Liang et al., NeurIPS 2022)."""
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads import DepthwiseSeparableASPPHead, SegformerHead, UPerHead
from mmseg.registry import MODELS
from mmseg.utils import ConfigType, SampleList
from torch import Tensor, nn

from mgcda.models.losses.reduction import masked_mean

from ..layers.gaussian_mixture import ClassGaussianMixtures, sample_classes
from .espnetv2_head import ESPNetv2Head


class UnitEmbedding(nn.Module):
    """Layer-normalised channels of each pixel, scaled to length 1: (N, D, h, w) to float32 (N, h, w, D)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, feats: Tensor) -> Tensor:
        """Embed pixels."""
        with torch.autocast(feats.device.type, enabled=False):
            return F.normalize(self.norm(feats.permute(0, 2, 3, 1).float()), dim=-1)


class GMMHeadMixin:
    r"""Have a decode head classify by Gaussian mixtures, as GMMSeg does.

    ``class MyGMMHead(GMMHeadMixin, MyHead)`` works for heads that end with :meth:`cls_seg` and whose loss is that of
    :class:`mmseg.models.decode_heads.decode_head.BaseDecodeHead`. The 1x1 convolution ``conv_seg`` then makes no
    logits but an embedding, which is layer-normalised and scaled to length 1; ``seg_logits`` (N, C, h, w), float32, are
    the log-likelihoods :math:`\log p(x | c)` of :class:`ClassGaussianMixtures`, in nats. So the scores of class logits
    apply: ``max_logit`` is :math:`-\max_c \log p(x | c)`, how unlikely a pixel is under the class that explains it
    best, and ``energy`` is :math:`-\log \sum_c p(x | c)`.

    In training, ``forward(mode='loss')``,

    - the losses of the head are those of the log-likelihoods with mean 0 and variance 1 over the classes of a pixel,
      times a learnt positive factor: the network learns to tell classes, the mixtures do not learn from it;
    - ``loss_component`` is the cross-entropy of the components of all classes, on up to ``num_samples`` pixels of each
      class, to the one that Sinkhorn's algorithm assigns;
    - those pixels go into the memory of the mixtures, which make a step of EM. Labels that are no class never
      do, nor do features that are not finite.

    Values by default are those of the public code, which has no anomaly score, with these departures:

    - densities of classes sum over components; there the largest one is taken;
    - the memory is one a class and takes pixels whether they are classified right or not; in each step of EM all are
      assigned anew, softly. There, hard assignments choose one of M queues of 32000, up to 20 pixels a step each;
    - a step is made each iteration, not each fifth; momenta start low; means are not scaled to length 1;
    - ``epsilon`` is in nats; there it is 0.05 of the largest absolute log-likelihood;
    - ``conv_seg`` has neither batch normalisation nor ReLU behind it; the factor is one for all classes and there is no
      offset, so that the predicted class is the one of the largest likelihood, in training as in tests;
    - ``loss_component`` is of drawn pixels, not of all.

    Args:
        embed_channels (int): Length D of the embedding. Defaults to 64.
        num_components (int): M. Defaults to 5.
        memory_size (int): Pixels that are remembered of each class. Defaults to 8000.
        num_samples (int): Pixels of each class that a process takes from a batch. Defaults to 100.
        component_weight (float): Factor of ``loss_component``. Defaults to 0.01.
        mixtures (dict, optional): Further arguments of :class:`ClassGaussianMixtures`.

    Raises:
        ValueError: If there is not one output for each class, or ``num_samples`` is not in [1, memory_size].
    """

    def __init__(self,
                 *args: Any,
                 embed_channels: int = 64,
                 num_components: int = 5,
                 memory_size: int = 8000,
                 num_samples: int = 100,
                 component_weight: float = 0.01,
                 mixtures: ConfigType | None = None,
                 **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.out_channels != self.num_classes or self.num_classes < 2:
            raise ValueError(f'{type(self).__name__} needs an output for each of at least 2 classes, got '
                             f'out_channels={self.out_channels} and num_classes={self.num_classes}')
        if not 1 <= num_samples <= memory_size:
            raise ValueError(f'num_samples must be in [1, memory_size={memory_size}], got {num_samples}')
        self.num_samples, self.component_weight = num_samples, component_weight
        self.conv_seg = nn.Conv2d(self.conv_seg.in_channels, embed_channels, 1)
        self.embedding = UnitEmbedding(embed_channels)
        self.mixtures = ClassGaussianMixtures(self.num_classes, num_components, embed_channels, memory_size,
                                              **(mixtures or {}))
        self.log_scale = nn.Parameter(torch.zeros(()))

    def cls_seg(self, feat: Tensor) -> Tensor:
        """Log-likelihoods (N, C, h, w), float32, of the features (N, D', h, w) in front of the classifier."""
        if self.dropout is not None:
            feat = self.dropout(feat)
        embedding = self.embedding(self.conv_seg(feat))
        log_likelihood = self.mixtures.log_likelihood(embedding.flatten(0, 2))
        seg_logits = self.mixtures.class_log_likelihood(log_likelihood)
        return seg_logits.unflatten(0, embedding.shape[:3]).permute(0, 3, 1, 2).contiguous()

    def loss(self, inputs: tuple[Tensor], batch_data_samples: SampleList, train_cfg: ConfigType) -> dict[str, Tensor]:
        """Losses of the head and ``loss_component``; in training mode the mixtures are updated.

        Raises:
            RuntimeError: If the head does not classify exactly once.
        """
        seg_logits, embedding = self._embedded_forward(inputs)
        losses = self.loss_by_feat(self._normalize(seg_logits), batch_data_samples)
        seg_label = self._stack_batch_gt(batch_data_samples)
        seg_label = F.interpolate(seg_label.float(), size=embedding.shape[1:3], mode='nearest').squeeze(1).long()
        # In half precision features may overflow now and then, which the memory would not forget.
        left_out = (seg_label == self.ignore_index) | ~embedding.isfinite().all(-1)
        seg_label = seg_label.masked_fill(left_out, -1)
        indices, drawn = sample_classes(seg_label.flatten(), self.num_classes, self.num_samples)
        samples = embedding.flatten(0, 2)[indices]
        losses['loss_component'] = self.component_weight * self._component_loss(samples, drawn)
        if self.training:
            self.mixtures.update(samples.detach(), drawn)
        return losses

    def _embedded_forward(self, inputs: tuple[Tensor]) -> tuple[Tensor, Tensor]:
        """Class logits (N, C, h, w), and the embedding (N, h, w, D) that they were made of."""
        embeddings = []
        handle = self.embedding.register_forward_hook(lambda module, args, output: embeddings.append(output))
        try:
            seg_logits = self.forward(inputs)
        finally:
            handle.remove()
        if len(embeddings) != 1:
            raise RuntimeError(f'{type(self).__name__} must call cls_seg once in forward, not {len(embeddings)} times')
        return seg_logits, embeddings[0]

    def _normalize(self, seg_logits: Tensor) -> Tensor:
        """Log-likelihoods with mean 0 and one variance over the classes, (N, C, h, w)."""
        normalized = F.layer_norm(seg_logits.permute(0, 2, 3, 1), (self.num_classes, ))
        return self.log_scale.exp() * normalized.permute(0, 3, 1, 2)

    def _component_loss(self, samples: Tensor, drawn: Tensor) -> Tensor:
        """Mean cross-entropy of components, of ``samples`` (C, S, D) of which those ``drawn``, bool (C, S), count."""
        components = self.mixtures.assign(samples.detach(), drawn).argmax(-1)  # (C, S), in [0, M)
        first = torch.arange(self.num_classes, device=samples.device) * self.mixtures.num_components
        log_likelihood = self.mixtures.log_likelihood(samples.flatten(0, 1)).flatten(1)  # (C * S, C * M)
        target = (first[:, None] + components).flatten()
        errors = F.cross_entropy(log_likelihood, target, reduction='none')
        return masked_mean(errors, drawn.flatten())


@MODELS.register_module()
class GMMDepthwiseSeparableASPPHead(GMMHeadMixin, DepthwiseSeparableASPPHead):
    """The head of DeepLabV3+ with Gaussian mixtures as its classifier, see :class:`GMMHeadMixin`."""


@MODELS.register_module()
class GMMSegformerHead(GMMHeadMixin, SegformerHead):
    """The head of SegFormer with Gaussian mixtures as its classifier, see :class:`GMMHeadMixin`."""


@MODELS.register_module()
class GMMUPerHead(GMMHeadMixin, UPerHead):
    """The head of UPerNet with Gaussian mixtures as its classifier, see :class:`GMMHeadMixin`."""


@MODELS.register_module()
class GMMESPNetv2Head(GMMHeadMixin, ESPNetv2Head):
    """The head of ESPNetv2 with Gaussian mixtures as its classifier, see :class:`GMMHeadMixin`."""
