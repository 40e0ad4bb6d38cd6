# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmseg.registry import MODELS
from mmseg.utils import OptConfigType, SampleList
from torch import Tensor, nn

from mgcda.scores.layer_features import find_layer, record_layers

from ..layers.outlier_classifier import add_outlier_head
from .host_taps import HostTaps, binary_target

#: Child that holds what only training needs; it is absent from deployed models.
TRAIN_ONLY = 'train_only'


class AlignmentMixin:
    """How an anomaly segmentor trains: with logits of outliers, only some layers, and with alignment.

    :class:`AnomalyMixin` builds on it. With an ``outlier_head``, the classifier of any decode head makes K logits of
    outliers behind those of the C classes. The losses of the head get all C + K.

    Alignment reads three taps (:meth:`taps`), and nothing else: those of the head's last outputs, or of layers that
    ``taps`` names. They exist while :meth:`loss` runs and are dropped before it returns. Adversarial losses come from
    the callable given to :meth:`set_alignment` (see ``MDATHook``), the contrastive loss from ``train_only.contrast`` on
    the output of ``train_only.projector``.

    Args:
        outlier_head (dict, optional): Arguments of :class:`OutlierClassifier`: ``num_logits``, K, and ``norm_cfg``.
            Defaults to None.
        tuned (Sequence[str], optional): Names of the layers that train, such as ``['decode_head.conv_seg']``; all
            others are frozen, and in evaluation mode. None trains all. Defaults to None.
        taps (dict, optional): Arguments of :class:`HostTaps`, for heads that keep no outputs for alignment.
            Defaults to None.
        train_only (dict, optional): Modules that only training needs: ``projector`` and ``contrast``, or nothing.
            Defaults to None.

    Raises:
        ValueError: If a layer of ``tuned`` or of ``taps`` does not exist, if the head has no classifier for an outlier
            head, or if ``train_only`` lacks one of the two.
    """

    def __init__(self,
                 *args,
                 outlier_head: OptConfigType = None,
                 tuned: Sequence[str] | None = None,
                 taps: OptConfigType = None,
                 train_only: OptConfigType = None,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._num_class_logits, self.num_outlier_logits = self.out_channels, 0
        if outlier_head is not None:
            self.num_outlier_logits = add_outlier_head(self.decode_head, outlier_head)
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
        self.register_load_state_dict_pre_hook(_forgive_train_only)

    def train(self, mode: bool = True) -> 'AlignmentMixin':
        """Set the mode, of tuned layers only if there are such."""
        super().train(mode)
        if mode and self.tuned is not None:
            for name, child in self.named_children():
                child.train(name == TRAIN_ONLY)
            for layer in self.tuned:
                find_layer(self, layer).train()
        return self

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

    def switch_to_deploy(self) -> None:
        """Drop everything that only training needs; predictions do not change."""
        self._alignment = None
        if hasattr(self, TRAIN_ONLY):
            delattr(self, TRAIN_ONLY)


def _domains(data_samples: SampleList) -> list[int]:
    try:
        return [sample.metainfo['domain'] for sample in data_samples]
    except KeyError:
        raise ValueError("alignment needs the 'domain' of every training sample in its metainfo: train on a "
                         "MultiDomainDataset and pack with PackDissimilarityInputs") from None


def _forgive_train_only(module: nn.Module, state_dict: dict[str, Any], prefix: str, *args) -> None:
    """Drop the keys of training-only modules where this model does not have them."""
    if not hasattr(module, TRAIN_ONLY):
        for key in [key for key in state_dict if key.startswith(f'{prefix}{TRAIN_ONLY}.')]:
            state_dict.pop(key)
