# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from abc import abstractmethod

import torch
from torch import Tensor, nn

from .base import Score
from .builder import build_score
from .layer_features import INPUT, find_layer

#: So many pixels of an image are shaped at a time.
CHUNK = 1 << 13


class ShapedLogits(Score):
    """Score that changes the features in front of the classifier and scores the logits that it makes of them.

    The logits have the resolution of the features. They are resized as those of the segmentor are, and scored at the
    original image size. What else a head does behind its classifier is not done to them.

    Args:
        classifier (str): A 1x1 convolution to the classes: 'decode_head.conv_seg' of most heads of MMSegmentation,
            'decode_head.1.conv_seg' in a cascade of two.
        score (str or dict): Score of class logits, see ``mgcda.scores``.

    Raises:
        ValueError: If the score reads other outputs or must be fitted; in :meth:`prepare`, if the classifier does not
            exist or is not as said.
    """
    needs = ('features', )

    def __init__(self, classifier: str, score: str | dict) -> None:
        self.score = build_score(score)
        if tuple(self.score.needs) != ('seg_logits', ) or self.score.needs_fit:
            raise ValueError(f'{type(self).__name__} needs a score of class logits that is not fitted, such as '
                             f"'energy', got {self.score.name!r}, which needs {tuple(self.score.needs)}")
        self.classifier_name = classifier
        self.layers = (f'{classifier}{INPUT}', )
        self.classifier: nn.Conv2d | None = None
        self.range = self.score.range

    def prepare(self, model: nn.Module) -> None:
        """Find the classifier of a segmentor, and prepare the score of its logits."""
        layer = find_layer(model, self.classifier_name)
        plain = isinstance(layer, nn.Conv2d) and layer.kernel_size == layer.stride == (1, 1) and layer.groups == 1
        if not plain or layer.padding != (0, 0) or layer.out_channels != model.num_classes or model.num_classes < 2:
            raise ValueError(f'{type(self).__name__} needs a classifier that is a 1x1 nn.Conv2d to the '
                             f'{model.num_classes} classes of the model, {self.classifier_name!r} is {layer}')
        self.classifier, self.num_maps = layer, layer.out_channels
        self.score.prepare(model)

    def logits(self, features: Tensor) -> Tensor:
        """What the classifier makes of shaped features, (N, C, h, w), float32, of those as they are, (N, D, h, w)."""
        weight = self.classifier.weight.flatten(1).float().T
        vectors = features.flatten(2).transpose(1, 2)  # (N, D, h, w) -> (N, h * w, D)
        # Products of matrices, as convolutions may round to TF32 on a GPU.
        logits = torch.cat([self.shape(chunk.float()) @ weight for chunk in vectors.split(CHUNK, dim=1)], dim=1)
        if self.classifier.bias is not None:
            logits += self.classifier.bias.float()
        return logits.transpose(1, 2).contiguous().unflatten(2, features.shape[-2:])

    @abstractmethod
    def shape(self, vectors: Tensor) -> Tensor:
        """The shaped features of pixels, float32 (..., D)."""

    def combine(self, maps: Tensor) -> Tensor:
        """Scores (N, H, W) of the logits (N, C, H, W) at the original image size."""
        return self.score(dict(seg_logits=maps))
