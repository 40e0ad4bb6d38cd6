# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from typing import Dict, List, Optional

import torch
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import OptSampleList, SampleList
from torch import Tensor, nn

from .anomaly_segmentor import AnomalySegmentor

DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


@MODELS.register_module()
class MCDropoutAnomalySegmentor(AnomalySegmentor):
    r"""Monte Carlo dropout (Gal & Ghahramani 2016), with which Bayesian DeepLab (Mukhoti & Gal 2018) predicts.

    Dropout layers stay active in prediction, and T forward passes are averaged:

    .. math:: \bar p = \frac{1}{T} \sum_t softmax(z_t), \qquad \bar H = \frac{1}{T} \sum_t H(softmax(z_t))

    The logits z_t of each pass are brought to the original image size before the softmax; sums are kept, not the
    passes. Scores may need ``mean_probabilities``, :math:`\bar p` (N, C, H, W), ``mean_entropy``, :math:`\bar H` (N,
    H, W) in nats, and ``seg_logits``, here :math:`\ln \bar p`: see ``predictive_entropy``, ``expected_entropy`` and
    ``mutual_information`` of ``mgcda.scores``. Of :math:`\ln \bar p`, MSP and margin are as usual, energy is always 0.

    Args:
        num_passes (int): Forward passes an image, T. Defaults to 8.
        dropout_ratio (float, optional): Replaces that of all dropout layers, with which the checkpoint should have been
            trained. Defaults to None.
        score, scores, ...: As of :class:`AnomalySegmentor`.

    Raises:
        ValueError: If ``num_passes`` is not positive, the model has no dropout layer with a ratio above 0, the head is
            not one of several classes, there is no score, or one that reads features of a layer.
    """

    def __init__(self, *args, num_passes: int = 8, dropout_ratio: Optional[float] = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if num_passes < 1:
            raise ValueError(f'num_passes must be at least 1, got {num_passes}')
        if self.scorers is None or self.out_channels < 2:
            raise ValueError("MCDropoutAnomalySegmentor needs a head of several classes and a score, such as "
                             "score='mutual_information'")
        if self.feature_scorers:
            names = [name for name, scorer in self.scorers.items() if scorer in self.feature_scorers]
            raise ValueError(f'MCDropoutAnomalySegmentor has no scores of features: leave out {", ".join(names)}')
        self.num_passes = num_passes
        layers = [module for module in self.modules() if isinstance(module, DROPOUT)]
        if dropout_ratio is not None:
            for layer in layers:
                layer.p = dropout_ratio
        if not any(layer.p > 0 for layer in layers):
            raise ValueError('the model has no dropout layer with a ratio above 0, so that all passes would be the '
                             'same: set decode_head.dropout_ratio, with which the checkpoint should have been trained')

    def train(self, mode: bool = True) -> 'MCDropoutAnomalySegmentor':
        """Set the mode of all layers but dropout, which stays active."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, DROPOUT):
                module.train()
        return self

    def predict(self, inputs: Tensor, data_samples: OptSampleList = None) -> SampleList:
        """Predict ``anomaly_scores``, ``seg_logits`` and ``pred_sem_seg`` from the mean of the passes."""
        if data_samples is None:
            size = tuple(inputs.shape[2:])
            meta = dict(ori_shape=size, img_shape=size, pad_shape=size, padding_size=[0, 0, 0, 0])
            data_samples = [SegDataSample(metainfo=meta) for _ in inputs]
        metas = [sample.metainfo for sample in data_samples]
        totals = self._pass(inputs, metas)
        for _ in range(self.num_passes - 1):
            for total, one in zip(totals, self._pass(inputs, metas)):
                for key, value in one.items():
                    total[key] += value
        for sample, total in zip(data_samples, totals):
            self._set_results(sample, total['probabilities'] / self.num_passes, total['entropy'] / self.num_passes)
        return data_samples

    def _pass(self, inputs: Tensor, metas: List[dict]) -> List[Dict[str, Tensor]]:
        """Probabilities (C, H, W) and their entropy (H, W) of each image, at its original size, in one pass."""
        samples = [SegDataSample(metainfo=meta) for meta in metas]
        samples = EncoderDecoder.postprocess_result(self, self.inference(inputs, metas).float(), samples)
        probabilities = [sample.seg_logits.data.softmax(0) for sample in samples]
        return [dict(probabilities=p, entropy=torch.special.entr(p).sum(0)) for p in probabilities]

    def _set_results(self, sample: SegDataSample, probabilities: Tensor, entropy: Tensor) -> None:
        """Score the means of all passes."""
        logits = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
        outputs = dict(
            seg_logits=logits[None], mean_probabilities=probabilities[None], mean_entropy=entropy[None])
        scores = torch.cat([scorer(outputs) for scorer in self.scorers.values()])
        sample.set_data(
            dict(
                seg_logits=PixelData(data=logits),
                pred_sem_seg=PixelData(data=logits.argmax(0, keepdim=True)),
                anomaly_scores=PixelData(data=scores)))
        if self.score_names is not None:
            sample.set_metainfo(dict(score_names=self.score_names))
