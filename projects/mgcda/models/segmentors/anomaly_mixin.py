# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from typing import Any, Callable, Dict, List, Optional, Union

import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.utils import ConfigType, OptConfigType, OptSampleList, SampleList
from torch import Tensor, nn

from mgcda.scores import build_scores

#: Child that holds what only training needs; it is absent from deployed models.
TRAIN_ONLY = 'train_only'


class AnomalyMixin:
    """Make any MMSegmentation segmentor an anomaly segmentor.

    Put it in front of the segmentor: ``class AnomalySegmentor(AnomalyMixin, EncoderDecoder)``. Predictions get
    ``anomaly_scores`` (PixelData, float32, (1, H, W) at the original image size, larger = more anomalous) beside
    ``seg_logits`` and ``pred_sem_seg``. Of several scores they are (S, H, W), and the metainfo ``score_names`` says
    which; they cost one forward pass.

    In training, alignment reads the three taps of the head's last outputs (:meth:`taps`), and nothing else. Adversarial
    losses come from the callable given to :meth:`set_alignment` (see ``MDATHook``), the contrastive loss from
    ``train_only.contrast`` on the output of ``train_only.projector``.

    Args:
        score (str or dict, optional): Score of the class logits, by its name in ``mgcda.scores``: 'entropy' or
            ``dict(type='energy', temperature=1.0)``. None takes the logit margin of a binary head. Defaults to None.
        scores (list, optional): Several of them in place of ``score``, each reported under its name.
            Defaults to None.
        train_only (dict, optional): Modules that only training needs: ``projector`` and ``contrast``, or nothing.
            Defaults to None.

    Raises:
        ValueError: If the head is not binary and no score is given, if there are both ``score`` and ``scores`` or two
            scores of one name, or if ``train_only`` lacks one of the two.
    """

    def __init__(self,
                 *args,
                 score: Optional[Union[str, dict]] = None,
                 scores: Optional[List[Union[str, dict]]] = None,
                 train_only: OptConfigType = None,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if score is not None and scores is not None:
            raise ValueError(f'give either score or scores, got {score!r} and {scores!r}')
        if score is None and scores is None and self.num_classes != 2:
            raise ValueError(f"a head of {self.num_classes} classes needs a score, such as score='energy'")
        cfgs = [score] if score is not None else scores
        self.scorers = None if cfgs is None else build_scores(cfgs)
        self.score_names = None if scores is None else tuple(self.scorers)
        if train_only is not None:
            if set(train_only) != {'projector', 'contrast'}:
                raise ValueError(f"train_only must hold 'projector' and 'contrast', got {sorted(train_only)}")
            self.train_only = nn.ModuleDict({name: MODELS.build(cfg) for name, cfg in train_only.items()})
        self._alignment: Optional[Callable[[Dict[str, Tensor], List[int]], Dict[str, Tensor]]] = None
        self.register_load_state_dict_pre_hook(_forgive_train_only)

    # Training

    def set_alignment(self, alignment: Optional[Callable[[Dict[str, Tensor], List[int]], Dict[str, Tensor]]]) -> None:
        """Add ``alignment(taps, domains) -> losses`` to the training losses; None removes it."""
        self._alignment = alignment

    def taps(self) -> Dict[str, Tensor]:
        """What alignment reads of the last training forward, with its graph.

        Returns:
            dict: ``features`` (N, C, h, w), ``anomaly_logit`` (N, 1, h', w'), ``embedding`` (N, D, h'', w'').
        """
        outputs = getattr(self.decode_head, 'outputs', None)
        if not outputs:
            raise RuntimeError(f'{type(self.decode_head).__name__} kept no outputs: taps exist after '
                               "forward(mode='loss') of a head that implements anomaly_logit(outputs)")
        return dict(
            features=outputs['features'],
            anomaly_logit=self.decode_head.anomaly_logit(outputs),
            embedding=outputs['embedding'])

    def loss(self, inputs: Tensor, data_samples: SampleList) -> Dict[str, Tensor]:
        """Losses of the segmentor, then those of alignment."""
        losses = super().loss(inputs, data_samples)
        if self._alignment is None and not hasattr(self, TRAIN_ONLY):
            return losses
        domains = _domains(data_samples)
        taps = self.taps()
        if self._alignment is not None:
            losses.update(self._alignment(taps, domains))
        if hasattr(self, TRAIN_ONLY):
            target = torch.stack([sample.gt_sem_seg.data.squeeze(0) for sample in data_samples])
            contrast = self.train_only['contrast']
            losses[contrast.loss_name] = contrast(taps['embedding'], taps['anomaly_logit'], target, domains,
                                                  self.train_only['projector'])
        return losses

    # Inference

    def switch_to_deploy(self) -> None:
        """Drop everything that only training needs; predictions do not change."""
        self._alignment = None
        if hasattr(self, TRAIN_ONLY):
            delattr(self, TRAIN_ONLY)

    def postprocess_result(self, seg_logits: Tensor, data_samples: OptSampleList = None) -> SampleList:
        """Add ``anomaly_scores`` to the results of the segmentor.

        Logits (N, C, H, W) are brought to the original image size in float32 before they are scored.
        """
        seg_logits = seg_logits.float()
        if seg_logits.shape[1] == 1:  # a sigmoid here would saturate and merge ranks: use the equal two-class logits
            seg_logits = torch.cat([torch.zeros_like(seg_logits), seg_logits], dim=1)
        data_samples = super().postprocess_result(seg_logits, data_samples)
        for sample in data_samples:
            logits = sample.seg_logits.data
            if self.scorers is None:
                scores = logits[1:] - logits[:1]
            else:
                scores = torch.cat([scorer(dict(seg_logits=logits[None])) for scorer in self.scorers.values()])
            sample.set_data(dict(anomaly_scores=PixelData(data=scores)))
            if self.score_names is not None:
                sample.set_metainfo(dict(score_names=self.score_names))
        return data_samples


def _domains(data_samples: SampleList) -> List[int]:
    try:
        return [sample.metainfo['domain'] for sample in data_samples]
    except KeyError:
        raise ValueError("alignment needs the 'domain' of every training sample in its metainfo: train on a "
                         "MultiDomainDataset and pack with PackDissimilarityInputs") from None


def _forgive_train_only(module: nn.Module, state_dict: Dict[str, Any], prefix: str, *args) -> None:
    """Drop the keys of training-only modules where this model does not have them."""
    if not hasattr(module, TRAIN_ONLY):
        for key in [key for key in state_dict if key.startswith(f'{prefix}{TRAIN_ONLY}.')]:
            state_dict.pop(key)
