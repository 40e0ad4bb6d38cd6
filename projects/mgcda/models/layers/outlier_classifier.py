# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.

import torch
from mmcv.cnn import build_norm_layer
from mmseg.utils import ConfigType, OptConfigType
from torch import Tensor, nn


class OutlierClassifier(nn.Conv2d):
    """The classifier of a decode head, with logits of outliers behind those of its classes.

    It has the classifier's own weights under their names, so that checkpoints of the segmenter alone load, and an
    outlier head ``outliers`` on the same features: a 1x1 convolution, with normalisation and ReLU in front of it if
    ``norm_cfg`` is given.

    Args:
        classifier (nn.Conv2d): Convolution to C classes, which is taken over.
        num_logits (int): Logits of outliers, K. One is that of the class C + 1, void or abstention; two are those of
            inlier and outlier.
        norm_cfg (dict, optional): Normalisation of the features. Defaults to None.

    Raises:
        ValueError: If ``num_logits`` is not positive.
    """

    def __init__(self, classifier: nn.Conv2d, num_logits: int, norm_cfg: OptConfigType = None) -> None:
        if num_logits < 1:
            raise ValueError(f'num_logits must be at least 1, got {num_logits}')
        super().__init__(
            classifier.in_channels,
            classifier.out_channels,
            classifier.kernel_size,
            padding=classifier.padding,
            bias=classifier.bias is not None)
        self.weight, self.bias = classifier.weight, classifier.bias
        self.num_logits = num_logits
        layers: list[nn.Module] = []
        if norm_cfg is not None:
            layers = [build_norm_layer(norm_cfg, self.in_channels)[1], nn.ReLU()]
        self.outliers = nn.Sequential(*layers, nn.Conv2d(self.in_channels, num_logits, 1))

    def init_weights(self) -> None:
        """Start the outlier head anew: the rule of the decode head is for its classifier."""
        for layer in self.outliers:
            if hasattr(layer, 'reset_parameters'):
                layer.reset_parameters()

    def forward(self, feats: Tensor) -> Tensor:
        """Logits (N, C + K, h, w) of features (N, D, h, w)."""
        return torch.cat([super().forward(feats), self.outliers(feats)], dim=1)


def last_head(decode_head: nn.Module) -> nn.Module:
    """The decode head that predicts: the last one of a cascade."""
    return decode_head[-1] if isinstance(decode_head, nn.ModuleList) else decode_head


def add_outlier_head(decode_head: nn.Module, cfg: ConfigType) -> int:
    """Put an :class:`OutlierClassifier` in the place of a head's classifier; of several heads, of the last one's.

    ``cfg``: arguments of the class but the first. Returns the number of logits of outliers.

    Raises:
        ValueError: If the head has no ``conv_seg`` to its classes.
    """
    head = last_head(decode_head)
    classifier = getattr(head, 'conv_seg', None)
    if not isinstance(classifier, nn.Conv2d) or classifier.out_channels != head.num_classes or head.num_classes < 2:
        raise ValueError('outlier_head needs a decode head whose conv_seg is a convolution to its classes, two or '
                         f'more; that of {type(head).__name__} is {classifier}')
    head.conv_seg = OutlierClassifier(classifier, **cfg)
    return head.conv_seg.num_logits
