# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .dissimilarity_head import DissimilarityDecodeHead
from .espnetv2_head import ESPNetv2Head
from .gmm_head import GMMDepthwiseSeparableASPPHead, GMMESPNetv2Head, GMMHeadMixin, GMMSegformerHead, GMMUPerHead

__all__ = [
    'DissimilarityDecodeHead', 'ESPNetv2Head', 'GMMDepthwiseSeparableASPPHead', 'GMMESPNetv2Head', 'GMMHeadMixin',
    'GMMSegformerHead', 'GMMUPerHead'
]
