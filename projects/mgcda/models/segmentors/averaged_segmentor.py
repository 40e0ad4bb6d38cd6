# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Iterator

import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.utils import OptSampleList, SampleList
from torch import Tensor

from .anomaly_mixin import AnomalyMixin


class AveragedMixin(AnomalyMixin):
    r"""Make any MMSegmentation segmentor an anomaly segmentor that averages T predicted distributions:

    .. math:: \bar p = \frac{1}{T} \sum_t softmax(z_t), \qquad \bar H = \frac{1}{T} \sum_t H(softmax(z_t))

    The logits z_t of each pass are brought to the original image size before the softmax; sums are kept, not the
    passes. Scores may need ``mean_probabilities``, :math:`\bar p` (N, C, H, W), ``mean_entropy``, :math:`\bar H` (N,
    H, W) in nats, and ``seg_logits``, here :math:`\ln \bar p`: see ``predictive_entropy``, ``expected_entropy`` and
    ``mutual_information`` of ``mgcda.scores``. Of :math:`\ln \bar p`, MSP and margin are as usual, energy is always 0.

    Raises:
        ValueError: If the head is not one of several classes, there is no score, or one that reads features of a layer
            or the inputs, or there is an outlier head.
    """

    def __init__(self,
                 *args,
                 score: str | dict | None = None,
                 scores: list[str | dict] | None = None,
                 **kwargs) -> None:
        super().__init__(*args, score=score, scores=scores, **kwargs)
        if (score is None and scores is None) or self.out_channels < 2:
            raise ValueError(f'{type(self).__name__} needs a head of several classes and a score, such as '
                             "score='mutual_information'")
        if self.num_outlier_logits:
            raise ValueError(f'{type(self).__name__} has no logits of outliers: leave out outlier_head')
        if self.map_scores:
            names = ', '.join(score.name for score in self.map_scores)
            raise ValueError(f'{type(self).__name__} has no scores of features or inputs: leave out {names}')

    def passes(self, inputs: Tensor, batch_img_metas: list[dict]) -> Iterator[Tensor]:
        """Class logits (N, C, H, W) of each prediction."""
        raise NotImplementedError

    def predict(self, inputs: Tensor, data_samples: OptSampleList = None) -> SampleList:
        """Predict ``anomaly_scores``, ``seg_logits`` and ``pred_sem_seg`` from the mean of the passes."""
        if data_samples is None:
            size = tuple(inputs.shape[2:])
            meta = dict(ori_shape=size, img_shape=size, pad_shape=size, padding_size=[0, 0, 0, 0])
            data_samples = [SegDataSample(metainfo=meta) for _ in inputs]
        metas = [sample.metainfo for sample in data_samples]
        totals: list[dict[str, Tensor]] = []
        number = 0
        for number, seg_logits in enumerate(self.passes(inputs, metas), start=1):
            results = self._distributions(seg_logits, metas)
            if number == 1:
                totals = results
                continue
            for total, result in zip(totals, results):
                for key, value in result.items():
                    total[key] += value
        for sample, total in zip(data_samples, totals):
            self._set_results(sample, total['probabilities'] / number, total['entropy'] / number)
        return data_samples

    def _distributions(self, seg_logits: Tensor, metas: list[dict]) -> list[dict[str, Tensor]]:
        """Probabilities (C, H, W) and their entropy (H, W) of each image, at its original size, in one pass."""
        samples = [SegDataSample(metainfo=meta) for meta in metas]
        samples = super(AnomalyMixin, self).postprocess_result(seg_logits.float(), samples)  # the segmentor's own
        probabilities = [sample.seg_logits.data.softmax(0) for sample in samples]
        return [dict(probabilities=p, entropy=torch.special.entr(p).sum(0)) for p in probabilities]

    def _set_results(self, sample: SegDataSample, probabilities: Tensor, entropy: Tensor) -> None:
        """Score the means of all passes."""
        logits = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
        outputs = dict(seg_logits=logits[None], mean_probabilities=probabilities[None], mean_entropy=entropy[None])
        scores = torch.cat([score(outputs) for score in self.scores.values()])
        sample.set_data(
            dict(
                seg_logits=PixelData(data=logits),
                pred_sem_seg=PixelData(data=logits.argmax(0, keepdim=True)),
                anomaly_scores=PixelData(data=scores)))
        if self.score_names is not None:
            sample.set_metainfo(dict(score_names=self.score_names))
