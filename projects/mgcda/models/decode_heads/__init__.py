# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .dissimilarity_head import DissimilarityDecodeHead

__all__ = ['DissimilarityDecodeHead']
