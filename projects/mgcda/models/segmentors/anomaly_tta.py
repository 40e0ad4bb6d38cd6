# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.

import torch
from mmengine.structures import PixelData
from mmseg.models.segmentors import SegTTAModel
from mmseg.registry import MODELS
from mmseg.utils import SampleList


@MODELS.register_module()
class AnomalyTTAModel(SegTTAModel):
    """Test-time augmentation of an anomaly segmentor: the mean of the anomaly scores of all augmented images.

    MMSegmentation's own model averages class probabilities, for ``pred_sem_seg``, and leaves the scores of the last
    image; of sigmoid heads the probabilities are averaged here, as their logits are kept as two.
    """

    def merge_preds(self, data_samples_list: list[SampleList]) -> SampleList:
        """Merge the predictions for augmented images, a list for each image, to one prediction for each image."""
        predictions = super().merge_preds(data_samples_list)
        for prediction, augmented in zip(predictions, data_samples_list):
            scores = torch.stack([sample.anomaly_scores.data for sample in augmented])
            prediction.anomaly_scores.data = scores.mean(0)
            if self.module.out_channels == 1:  # the logits here are two, which the base class takes for sigmoids
                probabilities = torch.stack([sample.seg_logits.data.softmax(0) for sample in augmented]).mean(0)
                prediction.pred_sem_seg = PixelData(data=self.module.classes_of(probabilities.log()))
        return predictions
