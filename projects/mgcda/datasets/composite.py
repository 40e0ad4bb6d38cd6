# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Sequence

from mmseg.registry import DATASETS

from .anomaly_dataset import AnomalyDataset
from .void_class import CITYSCAPES_IMAGE_SUFFIXES


@DATASETS.register_module()
class CompositeDataset(AnomalyDataset):
    """Ready AnomalyMix composites, as ``tools/dataset_converters/make_anomaly_mix.py`` writes them (domain 1).

    ``leftImg8bit/<split>/<city>/NAME_leftImg8bit.png`` with ``gtFine/<split>/<city>/NAME_gtFine_anomaly.png``, whose
    values are 0, 1 and 255. Being files, composites can have offline maps.
    """

    DEFAULT_NAME = 'AnomalyMix'
    DEFAULT_DOMAIN = 1

    def __init__(self,
                 data_prefix: dict = dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
                 img_suffix: str | Sequence[str] = CITYSCAPES_IMAGE_SUFFIXES,
                 seg_map_suffix: str = '_gtFine_anomaly.png',
                 **kwargs) -> None:
        super().__init__(data_prefix=data_prefix, img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)
