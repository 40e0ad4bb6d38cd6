# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.

import torch
from torch import Tensor, nn

from mgcda.labels import ANOMALY, IGNORE, NORMAL, OUTLIER
from mgcda.scores import build_score
from mgcda.scores.layer_features import find_layer


class HostTaps:
    """What alignment reads of a segmentor that knows nothing of it: outputs of its layers, by name.

    The anomaly map is a score of the logits that the classifier makes in training, less a threshold: above 0 a pixel
    counts as predicted an anomaly, and its sigmoid is the probability that MDAT's output classifier judges.

    Args:
        score (str or dict): Anomaly score of ``seg_logits`` (N, C, h, w) and ``outlier_logits`` (N, K, h, w), see
            ``mgcda.scores``: ``'void_class'``, ``'outlier_posterior'``, ``'energy'``.
        threshold (float): Score from which on a pixel counts as an anomaly, above which a good part of the outliers in
            training and few other pixels must lie: CACL's positives are above, and without any it is 0. As outliers are
            few, log-odds of theirs are seldom above 0; the configs take -2. For PEBAL's energy it lies between its
            margins. Defaults to 0.
        features (str): Layer of the features for MDAT's feature classifier. Defaults to 'backbone[-1]', the last of the
            backbone's levels.
        embedding (str): Layer of the features that CACL compares. Defaults to 'decode_head.conv_seg:input', what the
            classifier reads.
        logits (str): Layer of the logits. Defaults to 'decode_head.conv_seg'.

    Raises:
        ValueError: If the score reads anything but logits.
    """

    def __init__(self,
                 score: str | dict,
                 threshold: float = 0.0,
                 features: str = 'backbone[-1]',
                 embedding: str = 'decode_head.conv_seg:input',
                 logits: str = 'decode_head.conv_seg') -> None:
        self.score = build_score(score)
        if not set(self.score.needs) <= {'seg_logits', 'outlier_logits'} or self.score.needs_fit:
            raise ValueError(f'taps.score must be a score of logits that is not fitted, got {score!r}')
        self.threshold = threshold
        self.layers: tuple[str, str, str] = (features, embedding, logits)

    def check(self, model: nn.Module) -> None:
        """Raise ValueError where the model lacks one of the layers."""
        for layer in self.layers:
            find_layer(model, layer)

    def read(self, recorded: dict[str, Tensor], num_classes: int) -> dict[str, Tensor]:
        """Taps of the outputs of the layers in a training forward.

        Returns:
            dict: ``features`` (N, C, h, w), ``anomaly_logit`` (N, 1, h', w'), ``embedding`` (N, D, h'', w'').

        Raises:
            ValueError: If a layer did not run, or nothing that trains lies in front of it.
        """
        for layer in self.layers:
            if layer not in recorded:
                raise ValueError(f'taps: layer {layer!r} is not run in training: name another')
            if not recorded[layer].requires_grad:
                raise ValueError(f'taps: nothing that trains lies in front of {layer!r}: name a layer behind the '
                                 'frozen ones')
        features, embedding, logits = (recorded[layer] for layer in self.layers)
        outputs = dict(seg_logits=logits[:, :num_classes], outlier_logits=logits[:, num_classes:])
        return dict(features=features, anomaly_logit=self.score(outputs)[:, None] - self.threshold, embedding=embedding)


def binary_target(target: Tensor) -> Tensor:
    """0, 1 and 255 of class targets, in which outliers are anomalies."""
    normal = torch.full_like(target, NORMAL).masked_fill(target == OUTLIER, ANOMALY)
    return normal.masked_fill(target == IGNORE, IGNORE)
