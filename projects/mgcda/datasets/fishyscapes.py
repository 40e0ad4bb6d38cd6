# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from mmseg.registry import DATASETS

from mgcda.labels import ANOMALY, IGNORE, NORMAL

from .anomaly_dataset import AnomalyDataset

_LABEL_FORMATS = {
    'fishyscapes': {value: {0: NORMAL, 1: ANOMALY}.get(value, IGNORE) for value in range(256)},
    'lost_and_found': {value: {0: IGNORE, 1: NORMAL, 255: IGNORE}.get(value, ANOMALY) for value in range(256)},
}


@DATASETS.register_module()
class FishyscapesDataset(AnomalyDataset):
    """Fishyscapes (Blum et al. 2021), LostAndFound or Static: ``original/NAME.png`` and ``labels/NAME.png``.

    Args:
        label_format: ``'fishyscapes'``: 0 normal, 1 anomaly, anything else void. ``'lost_and_found'``, for copies with
            the masks of LostAndFound: 0 void, 1 (road) normal, from 2 anomaly; 255 stays void.

    Raises:
        ValueError: wrong label_format; FileNotFoundError, ValueError: as :class:`AnomalyDataset`.
    """

    DEFAULT_NAME = 'Fishyscapes'

    def __init__(self,
                 data_prefix: dict = dict(img_path='original', seg_map_path='labels'),
                 label_format: str = 'fishyscapes',
                 **kwargs) -> None:
        if label_format not in _LABEL_FORMATS:
            raise ValueError(f'label_format must be one of {sorted(_LABEL_FORMATS)}, got {label_format!r}')
        kwargs.setdefault('label_map', _LABEL_FORMATS[label_format])
        super().__init__(data_prefix=data_prefix, **kwargs)
