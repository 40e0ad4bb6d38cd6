# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.

import numpy as np
from mmengine.registry import FUNCTIONS
from torch import Tensor, nn

from .fitting.sample_score import VALID, SampleScore
from .shaped_logits import ShapedLogits


@FUNCTIONS.register_module()
class ReAct(ShapedLogits, SampleScore):
    """Rectified activations (Sun et al., NeurIPS 2021): score of the logits of features that are clipped from above.

    All channels are clipped at one value, a percentile of all activations of a sample of the training pixels. The file
    holds the sample, so that every percentile is exact.

    Args:
        percentile (float): In (0, 100]; 100 clips nothing. Defaults to 90, as in the paper.
        score (str or dict): Score of the clipped logits. Defaults to 'energy'.
        classifier (str): See :class:`ShapedLogits`. Defaults to 'decode_head.conv_seg'.
        sample_size (int): Training pixels that are kept, at most. Defaults to 10000.
        seed (int): Of the sample. Defaults to 0.
        fitted (str, optional): See :class:`FittedScore`. Defaults to None.

    Raises:
        ValueError: If ``percentile`` is not in (0, 100]; for the rest see :class:`ShapedLogits`.
    """
    fit_settings = ('classifier', *SampleScore.fit_settings)

    def __init__(self,
                 percentile: float = 90,
                 score: str | dict = 'energy',
                 classifier: str = 'decode_head.conv_seg',
                 sample_size: int = 10_000,
                 seed: int = 0,
                 fitted: str | None = None) -> None:
        if not 0 < percentile <= 100:
            raise ValueError(f'percentile must be in (0, 100], got {percentile}')
        ShapedLogits.__init__(self, classifier, score)
        SampleScore.__init__(
            self,
            self.layers,
            sample_size,
            seed,
            fitted,
            percentile=percentile,
            score=self.score.name,
            classifier=classifier)

    def prepare(self, model: nn.Module) -> None:
        """Find the classifier of a model and load what was fitted, see :class:`FittedScore`."""
        ShapedLogits.prepare(self, model)
        SampleScore.prepare(self, model)

    def _finish(self) -> None:
        percentile = self.settings['percentile']
        # The largest activation of a sample is not the largest there is.
        self.threshold = float('inf') if percentile == 100 else float(
            np.percentile(self.samples[VALID].vectors.numpy(), percentile))

    def _score(self, values: list[Tensor]) -> Tensor:
        features, = values
        return self.logits(features)

    def shape(self, vectors: Tensor) -> Tensor:
        """The clipped features of pixels, float32 (..., D)."""
        return vectors.clamp(max=self.threshold)
