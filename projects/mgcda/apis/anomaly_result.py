# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from typing import Any, NamedTuple

import numpy as np
from mmseg.structures import SegDataSample


class AnomalyResult(NamedTuple):
    """What a model says of an image, in arrays of the image's own size.

    ``name``: the file, or the number of an array. ``anomaly_scores``: float32 (H, W), larger = more anomalous.
    ``segmentation``: uint8 (H, W), class indices (Cityscapes train ids) of the model or of its frozen segmenter; None
    where it has no classes. ``boxes``: as :func:`mgcda.apis.find_boxes` returns them; None without a threshold.
    """
    name: str
    anomaly_scores: np.ndarray
    segmentation: np.ndarray | None = None
    boxes: list[dict[str, Any]] | None = None


class Prediction(NamedTuple):
    """An image, BGR uint8 (H, W, 3), with its result, and what the model predicted, on the model's device."""
    image: np.ndarray
    result: AnomalyResult
    sample: SegDataSample
