# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Iterator

from mmseg.models.segmentors import CascadeEncoderDecoder, EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor, nn

from .averaged_segmentor import AveragedMixin

DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


class MCDropoutMixin(AveragedMixin):
    """Monte Carlo dropout (Gal & Ghahramani 2016), with which Bayesian DeepLab (Mukhoti & Gal 2018) predicts.

    Dropout layers stay active in prediction, and several passes are averaged, see :class:`AveragedMixin`.

    Args:
        num_passes (int): Forward passes an image, T. Defaults to 8.
        dropout_ratio (float, optional): Replaces that of all dropout layers, with which the checkpoint should have been
            trained. Defaults to None.
        score, scores, ...: As of :class:`AnomalySegmentor`.

    Raises:
        ValueError: If ``num_passes`` is not positive, or the model has no dropout layer with a ratio above 0.
    """

    def __init__(self, *args, num_passes: int = 8, dropout_ratio: float | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if num_passes < 1:
            raise ValueError(f'num_passes must be at least 1, got {num_passes}')
        self.num_passes = num_passes
        layers = [module for module in self.modules() if isinstance(module, DROPOUT)]
        if dropout_ratio is not None:
            for layer in layers:
                layer.p = dropout_ratio
        if not any(layer.p > 0 for layer in layers):
            raise ValueError('the model has no dropout layer with a ratio above 0, so that all passes would be the '
                             'same: set decode_head.dropout_ratio, with which the checkpoint should have been trained')

    def train(self, mode: bool = True) -> 'MCDropoutMixin':
        """Set the mode of all layers but dropout, which stays active."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, DROPOUT):
                module.train()
        return self

    def passes(self, inputs: Tensor, batch_img_metas: list[dict]) -> Iterator[Tensor]:
        """Class logits (N, C, H, W) of each pass."""
        for _ in range(self.num_passes):
            yield self.inference(inputs, batch_img_metas)


@MODELS.register_module()
class MCDropoutAnomalySegmentor(MCDropoutMixin, EncoderDecoder):
    """:class:`mmseg.models.EncoderDecoder` with Monte Carlo dropout, see :class:`MCDropoutMixin`."""


@MODELS.register_module()
class CascadeMCDropoutAnomalySegmentor(MCDropoutMixin, CascadeEncoderDecoder):
    """:class:`mmseg.models.CascadeEncoderDecoder` with Monte Carlo dropout, see :class:`MCDropoutMixin`."""
