# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.utils import OptSampleList, SampleList
from torch import Tensor, nn

from mgcda.scores import Score, build_scores
from mgcda.scores.layer_features import record_layers

from ..layers.outlier_classifier import last_head
from .alignment_mixin import AlignmentMixin


class AnomalyMixin(AlignmentMixin):
    """Make any MMSegmentation segmentor an anomaly segmentor.

    Put it in front of the segmentor: ``class AnomalySegmentor(AnomalyMixin, EncoderDecoder)``. Predictions get
    ``anomaly_scores`` (PixelData, float32, (1, H, W) at the original image size, larger = more anomalous) beside
    ``seg_logits`` and ``pred_sem_seg``. Of several scores they are (S, H, W), and the metainfo ``score_names`` says
    which; they cost one forward pass.

    Scores of logits are computed at the original image size. A score that ``needs`` 'features' reads a tuple of those
    of the modules that its ``layers`` name ('decode_head.conv_seg:input' is what goes into one): its map is computed at
    their resolution, resized bilinearly to that of the logits, and from there treated as they are (sliding windows
    average it, padding and flips are undone). It may also return ``num_maps`` maps (N, K, h, w), such as other logits,
    which its ``combine`` makes scores (N, H, W) of at the original image size. So may a score that ``needs`` 'inputs'
    (N, 3, H, W); it may need 'encode_decode' besides, a callable that makes class logits (N, C, H, W) of others, and
    the logits of these inputs. Fitted scores are loaded before the first prediction, and refused if they were fitted
    with other weights.

    With an ``outlier_head``, ``seg_logits`` and ``pred_sem_seg`` are those of the classes, and scores may need
    'outlier_logits', (N, K, H, W). How it trains is :class:`AlignmentMixin`'s part.

    Args:
        score (str or dict, optional): Score of the class logits, by its name in ``mgcda.scores``: 'entropy' or
            ``dict(type='energy', temperature=1.0)``. None takes the logit margin of a binary head. Defaults to None.
        scores (list, optional): Several of them in place of ``score``, each reported under its name.
            Defaults to None.
        outlier_head, tuned, taps, train_only: As of :class:`AlignmentMixin`.

    Raises:
        ValueError: If the head is not binary and no score is given, if there are both ``score`` and ``scores`` or two
            scores of one name, if the layer of a score does not exist, or if a score needs other outlier logits than
            there are.
    """

    def __init__(self,
                 *args,
                 score: str | dict | None = None,
                 scores: list[str | dict] | None = None,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if score is not None and scores is not None:
            raise ValueError(f'give either score or scores, got {score!r} and {scores!r}')
        if score is None and scores is None and self.num_classes != 2:
            raise ValueError(f"a head of {self.num_classes} classes needs a score, such as score='energy'")
        self.scores = build_scores(['logit_margin' if score is None else score] if scores is None else scores)
        self.score_names = None if scores is None else tuple(self.scores)
        for own in self.scores.values():
            own.check(self)
        self._scores_ready = False
        self.register_load_state_dict_pre_hook(_check_scores_again)

    @property
    def feature_scores(self) -> list[Score]:
        """The scores that read features of a layer."""
        return [score for score in self.scores.values() if 'features' in score.needs]

    @property
    def map_scores(self) -> list[Score]:
        """The scores whose maps are channels behind the logits: those that read features of a layer, or the inputs."""
        return [score for score in self.scores.values() if score.reads_maps]

    def _num_maps(self) -> int:
        """Channels behind the logits of classes and of outliers."""
        return sum(score.num_maps for score in self.map_scores)

    def train(self, mode: bool = True) -> 'AnomalyMixin':
        """Set the mode; after training, fitted scores are held against the new weights again."""
        self._scores_ready = self._scores_ready and not mode
        super().train(mode)
        return self

    @contextmanager
    def scoring_with(self, scores: Mapping[str, Score]) -> Iterator[None]:
        """Have predictions call other scores for a while, such as ones that gather statistics."""
        own, self.scores = self.scores, dict(scores)
        try:
            yield
        finally:
            self.scores, self._scores_ready = own, False

    def inference(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Logits, and maps of scores behind them, of the whole image or of sliding windows."""
        if not self._scores_ready:
            for score in self.scores.values():
                score.prepare(self)
            self._scores_ready = True
        return super().inference(inputs, batch_img_metas)

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Class logits (N, C, H, W) of the segmentor; behind them those of outliers and the maps of scores."""
        encode_decode = partial(super().encode_decode, batch_img_metas=batch_img_metas)
        if not self.map_scores:
            return encode_decode(inputs)

        def class_logits(others: Tensor) -> Tensor:
            return encode_decode(others)[:, :self._num_class_logits]

        layers = {layer for score in self.feature_scores for layer in score.layers}
        with record_layers(self, layers) as features:
            seg_logits = encode_decode(inputs)
        for layer in layers:
            if layer not in features or len(features[layer]) != len(inputs):
                raise ValueError(f'layer {layer!r} is not run on each image in prediction (a ModuleList never is): '
                                 'name another, such as one inside it')
        channels = [seg_logits]
        for score in self.map_scores:
            if 'features' in score.needs:
                maps = score(dict(features=tuple(features[layer] for layer in score.layers)))
            else:
                classes, outliers = seg_logits.tensor_split([self._num_class_logits], dim=1)
                maps = score(
                    dict(inputs=inputs, encode_decode=class_logits, seg_logits=classes, outlier_logits=outliers))
            channels.append(
                F.interpolate(
                    (maps if maps.dim() == 4 else maps[:, None]).float(),
                    size=seg_logits.shape[-2:],
                    mode='bilinear',
                    align_corners=self.align_corners))
        return torch.cat(channels, dim=1)

    def slide_inference(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Logits, and maps of scores behind them, averaged over overlapping windows."""
        out_channels = self.out_channels
        self.out_channels += self.num_outlier_logits + self._num_maps()  # as many channels are summed up
        try:
            return super().slide_inference(inputs, batch_img_metas)
        finally:
            self.out_channels = out_channels

    def postprocess_result(self, seg_logits: Tensor, data_samples: OptSampleList = None) -> SampleList:
        """Add ``anomaly_scores`` to the results of the segmentor.

        Logits (N, C, H, W) are brought to the original image size in float32 before they are scored. Logits of
        outliers and maps of scores come as further channels and are brought to that size with them.
        """
        seg_logits = seg_logits.float()
        if self.out_channels == 1:  # a sigmoid here would saturate and merge ranks: use the equal two-class logits
            seg_logits = torch.cat([torch.zeros_like(seg_logits[:, :1]), seg_logits], dim=1)
        num_maps = self._num_maps()
        num_classes = seg_logits.size(1) - self.num_outlier_logits - num_maps
        data_samples = super().postprocess_result(seg_logits, data_samples)
        for sample in data_samples:
            channels = sample.seg_logits.data
            logits, outlier_logits, maps = channels.split([num_classes, self.num_outlier_logits, num_maps])
            if len(channels) > num_classes or self.out_channels == 1:
                sample.set_data(
                    dict(
                        seg_logits=PixelData(data=logits.clone()),
                        pred_sem_seg=PixelData(data=self.classes_of(logits))))
            scores = self._scores_of(dict(seg_logits=logits[None], outlier_logits=outlier_logits[None]), maps)
            sample.set_data(dict(anomaly_scores=PixelData(data=scores)))
            if self.score_names is not None:
                sample.set_metainfo(dict(score_names=self.score_names))
        return data_samples

    def classes_of(self, seg_logits: Tensor) -> Tensor:
        """Predicted classes (1, H, W) of class logits (C, H, W); the ``threshold`` of a sigmoid head decides of two."""
        if self.out_channels > 1:
            return seg_logits.argmax(dim=0, keepdim=True)
        return (seg_logits.softmax(dim=0)[1:] > last_head(self.decode_head).threshold).long()

    def _scores_of(self, outputs: dict[str, Tensor], maps: Tensor) -> Tensor:
        """Scores (S, H, W) of an image.

        ``outputs``: ``seg_logits`` (1, C, H, W) and ``outlier_logits`` (1, K, H, W). ``maps``: those of scores, in
        order, (M, H, W).
        """
        start, scores = 0, []
        for score in self.scores.values():
            if score.reads_maps:
                scores.append(score.combine(maps[None, start:start + score.num_maps]))
                start += score.num_maps
            else:
                scores.append(score(outputs))
        return torch.cat(scores)


def _check_scores_again(module: nn.Module, *args) -> None:
    module._scores_ready = False
