# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from mmseg.models.segmentors import CascadeEncoderDecoder, EncoderDecoder
from mmseg.registry import MODELS

from .anomaly_mixin import AnomalyMixin


@MODELS.register_module()
class AnomalySegmentor(AnomalyMixin, EncoderDecoder):
    """:class:`mmseg.models.EncoderDecoder` with anomaly scores, see :class:`AnomalyMixin`."""


@MODELS.register_module()
class CascadeAnomalySegmentor(AnomalyMixin, CascadeEncoderDecoder):
    """:class:`mmseg.models.CascadeEncoderDecoder` with anomaly scores of its last stage, see :class:`AnomalyMixin`."""
