# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.utils import OptConfigType, OptSampleList, SampleList
from torch import Tensor, nn

from mgcda.scores import Score, build_scores
from mgcda.scores.layer_features import find_layer, record_layers

from ..layers.outlier_classifier import add_outlier_head, last_head
from .host_taps import HostTaps, binary_target

#: Child that holds what only training needs; it is absent from deployed models.
TRAIN_ONLY = 'train_only'


class AnomalyMixin:
    """Make any MMSegmentation segmentor an anomaly segmentor.

    Put it in front of the segmentor: ``class AnomalySegmentor(AnomalyMixin, EncoderDecoder)``. Predictions get
    ``anomaly_scores`` (PixelData, float32, (1, H, W) at the original image size, larger = more anomalous) beside
    ``seg_logits`` and ``pred_sem_seg``. Of several scores they are (S, H, W), and the metainfo ``score_names`` says
    which; they cost one forward pass.

    Scores of logits are computed at the original image size. A score that ``needs`` 'features' reads a tuple of those
    of the modules that its ``layers`` name ('decode_head.conv_seg:input' is what goes into one): its map is computed at
    their resolution, resized bilinearly to that of the logits, and from there treated as they are (sliding windows
    average it, padding and flips are undone). It may also return ``num_maps`` maps (N, K, h, w), such as other logits,
    which its ``combine`` makes scores (N, H, W) of at the original image size. So may a scorer that ``needs`` 'inputs'
    (N, 3, H, W); it may need 'encode_decode' besides, a callable that makes class logits (N, C, H, W) of others, and
    the logits of these inputs. Fitted scores are loaded before the first prediction, and refused if they were fitted
    with other weights.

    With an ``outlier_head``, the classifier of any decode head makes K logits of outliers behind those of the C
    classes. The losses of the head get all C + K. In predictions, ``seg_logits`` and ``pred_sem_seg`` are those of the
    classes, and scores may need 'outlier_logits', (N, K, H, W).

    In training, alignment reads three taps (:meth:`taps`), and nothing else: those of the head's last outputs, or of
    layers that ``taps`` names. They exist while :meth:`loss` runs and are dropped before it returns. Adversarial losses
    come from the callable given to :meth:`set_alignment` (see ``MDATHook``), the contrastive loss from
    ``train_only.contrast`` on the output of ``train_only.projector``.

    Args:
        score (str or dict, optional): Score of the class logits, by its name in ``mgcda.scores``: 'entropy' or
            ``dict(type='energy', temperature=1.0)``. None takes the logit margin of a binary head. Defaults to None.
        scores (list, optional): Several of them in place of ``score``, each reported under its name.
            Defaults to None.
        outlier_head (dict, optional): Arguments of :class:`OutlierClassifier`: ``num_logits``, K, and ``norm_cfg``.
            Defaults to None.
        tuned (Sequence[str], optional): Names of the layers that train, such as ``['decode_head.conv_seg']``; all
            others are frozen, and in evaluation mode. None trains all. Defaults to None.
        taps (dict, optional): Arguments of :class:`HostTaps`, for heads that keep no outputs for alignment.
            Defaults to None.
        train_only (dict, optional): Modules that only training needs: ``projector`` and ``contrast``, or nothing.
            Defaults to None.

    Raises:
        ValueError: If the head is not binary and no score is given, if there are both ``score`` and ``scores`` or two
            scores of one name, if the layer of a score, of ``tuned`` or of ``taps`` does not exist, if a score needs
            other outlier logits than there are, if the head has no classifier for an outlier head, or if ``train_only``
            lacks one of the two.
    """

    def __init__(self,
                 *args,
                 score: str | dict | None = None,
                 scores: list[str | dict] | None = None,
                 outlier_head: OptConfigType = None,
                 tuned: Sequence[str] | None = None,
                 taps: OptConfigType = None,
                 train_only: OptConfigType = None,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if score is not None and scores is not None:
            raise ValueError(f'give either score or scores, got {score!r} and {scores!r}')
        if score is None and scores is None and self.num_classes != 2:
            raise ValueError(f"a head of {self.num_classes} classes needs a score, such as score='energy'")
        self.scores = build_scores(['logit_margin' if score is None else score] if scores is None else scores)
        self.score_names = None if scores is None else tuple(self.scores)
        self._num_class_logits, self.num_outlier_logits = self.out_channels, 0
        if outlier_head is not None:
            self.num_outlier_logits = add_outlier_head(self.decode_head, outlier_head)
        for own in self.scores.values():
            own.check(self)
        self.tuned = None if tuned is None else tuple(tuned)
        if tuned is not None:
            self.requires_grad_(False)
            for layer in tuned:
                find_layer(self, layer).requires_grad_(True)
        self._host_taps: HostTaps | None = None
        self._recorded: dict[str, Tensor] = {}
        if taps is not None:
            self._host_taps = HostTaps(**taps)
            self._host_taps.check(self)
        if train_only is not None:
            if set(train_only) != {'projector', 'contrast'}:
                raise ValueError(f"train_only must hold 'projector' and 'contrast', got {sorted(train_only)}")
            self.train_only = nn.ModuleDict({name: MODELS.build(cfg) for name, cfg in train_only.items()})
        self._alignment: Callable[..., dict[str, Tensor]] | None = None
        self._alignment_reads_target = False
        self._scores_ready = False
        self.register_load_state_dict_pre_hook(_forgive_train_only)
        self.register_load_state_dict_pre_hook(_check_scores_again)

    # Training

    def set_alignment(self, alignment: Callable[..., dict[str, Tensor]] | None, reads_target: bool = False) -> None:
        """Add ``alignment(taps, domains) -> losses`` to the training losses; None removes it.

        With ``reads_target`` it is called as ``alignment(taps, domains, target)``; ``target``: int (N, H, W), 0, 1 or
        255.
        """
        self._alignment = alignment
        self._alignment_reads_target = reads_target

    def taps(self) -> dict[str, Tensor]:
        """What alignment reads of the training forward that runs, with its graph.

        Returns:
            dict: ``features`` (N, C, h, w), ``anomaly_logit`` (N, 1, h', w'), ``embedding`` (N, D, h'', w'').
        """
        if self._host_taps is not None:
            return self._host_taps.read(self._recorded, self._num_class_logits)
        outputs = getattr(self.decode_head, 'outputs', None)
        if not outputs:
            raise RuntimeError(f'{type(self.decode_head).__name__} kept no outputs: taps exist within '
                               "forward(mode='loss'), of a head that implements anomaly_logit(outputs), or name its "
                               'layers with model.taps')
        return dict(
            features=outputs['features'],
            anomaly_logit=self.decode_head.anomaly_logit(outputs),
            embedding=outputs['embedding'])

    def loss(self, inputs: Tensor, data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of the segmentor, then those of alignment."""
        try:
            if self._alignment is None and not hasattr(self, TRAIN_ONLY):
                return super().loss(inputs, data_samples)
            layers = () if self._host_taps is None else self._host_taps.layers
            with record_layers(self, layers) as self._recorded:
                losses = super().loss(inputs, data_samples)
            losses.update(self._alignment_losses(data_samples))
            return losses
        finally:
            self._forget_taps()

    def _alignment_losses(self, data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of the alignment and of the contrast, by the taps."""
        domains = _domains(data_samples)
        taps, losses = self.taps(), {}
        target = torch.stack([sample.gt_sem_seg.data.squeeze(0) for sample in data_samples])
        if self.num_classes != 2:
            target = binary_target(target)
        if self._alignment is not None:
            further = (target, ) if self._alignment_reads_target else ()
            losses.update(self._alignment(taps, domains, *further))
        if hasattr(self, TRAIN_ONLY):
            contrast = self.train_only['contrast']
            losses[contrast.loss_name] = contrast(taps['embedding'], taps['anomaly_logit'], target, domains,
                                                  self.train_only['projector'])
        return losses

    def _forget_taps(self) -> None:
        """Drop what the head kept and the layers gave: a model that holds no graph can be copied."""
        self._recorded = {}
        if getattr(self.decode_head, 'outputs', None):
            self.decode_head.outputs = {}

    # Inference

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
        """Set the mode, of tuned layers only if there are such; fitted scores are held against new weights again."""
        self._scores_ready = self._scores_ready and not mode
        super().train(mode)
        if mode and self.tuned is not None:
            for name, child in self.named_children():
                child.train(name == TRAIN_ONLY)
            for layer in self.tuned:
                find_layer(self, layer).train()
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

    def switch_to_deploy(self) -> None:
        """Drop everything that only training needs; predictions do not change."""
        self._alignment = None
        if hasattr(self, TRAIN_ONLY):
            delattr(self, TRAIN_ONLY)

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


def _domains(data_samples: SampleList) -> list[int]:
    try:
        return [sample.metainfo['domain'] for sample in data_samples]
    except KeyError:
        raise ValueError("alignment needs the 'domain' of every training sample in its metainfo: train on a "
                         "MultiDomainDataset and pack with PackDissimilarityInputs") from None


def _check_scores_again(module: nn.Module, *args) -> None:
    module._scores_ready = False


def _forgive_train_only(module: nn.Module, state_dict: dict[str, Any], prefix: str, *args) -> None:
    """Drop the keys of training-only modules where this model does not have them."""
    if not hasattr(module, TRAIN_ONLY):
        for key in [key for key in state_dict if key.startswith(f'{prefix}{TRAIN_ONLY}.')]:
            state_dict.pop(key)
