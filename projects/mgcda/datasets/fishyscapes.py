# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import os
import re
from typing import Dict, List, Optional, Tuple

from mmseg.registry import DATASETS

from mgcda.labels import ANOMALY, IGNORE, NORMAL

from .anomaly_dataset import AnomalyDataset
from .pairing import list_files, listing

_LABEL_FORMATS = {
    'fishyscapes': {value: {0: NORMAL, 1: ANOMALY}.get(value, IGNORE) for value in range(256)},
    'lost_and_found': {value: {0: IGNORE, 1: NORMAL, 255: IGNORE}.get(value, ANOMALY) for value in range(256)},
}
_LABEL_SUFFIX, _OVERLAY_SUFFIX, _IMAGE_SUFFIX = '_labels.png', '_rgb.npz', '_leftImg8bit.png'


@DATASETS.register_module()
class FishyscapesDataset(AnomalyDataset):
    """Fishyscapes (Blum et al. 2021), LostAndFound or Static.

    Layout ``'original'``, the common one: ``original/NAME.png`` and ``labels/NAME.png``. Layout ``'official'``, the
    downloads as they are: ``NNNN_NAME_labels.png`` in ``seg_map_path``, their images ``NAME_leftImg8bit.png`` anywhere
    below ``img_path``, the images of LostAndFound or Cityscapes; with ``NNNN_NAME_rgb.npz`` beside the labels
    (Static), the image is clip(image + npz['rgb'], 0, 255), and since it is no file it can have no offline maps.

    Args:
        layout: ``'original'`` or ``'official'``.
        label_format: ``'fishyscapes'``: 0 normal, 1 anomaly, anything else void. ``'lost_and_found'``, for copies with
            the masks of LostAndFound: 0 void, 1 (road) normal, from 2 anomaly; 255 stays void.

    Raises:
        ValueError: wrong layout or label_format, labels without image or overlay, a maps_root with overlays;
        FileNotFoundError, ValueError: as :class:`AnomalyDataset`.
    """

    DEFAULT_NAME = 'Fishyscapes'

    def __init__(self,
                 data_prefix: Optional[dict] = None,
                 layout: str = 'original',
                 label_format: str = 'fishyscapes',
                 **kwargs) -> None:
        if layout not in ('original', 'official'):
            raise ValueError(f"layout must be 'original' or 'official', got {layout!r}")
        if label_format not in _LABEL_FORMATS:
            raise ValueError(f'label_format must be one of {sorted(_LABEL_FORMATS)}, got {label_format!r}')
        if data_prefix is None:
            if layout == 'official':
                raise ValueError("layout='official' needs data_prefix=dict(img_path=<leftImg8bit of LostAndFound or "
                                 'Cityscapes>, seg_map_path=<folder of the labels>)')
            data_prefix = dict(img_path='original', seg_map_path='labels')
        self.layout = layout
        self._overlays: Dict[str, str] = {}
        kwargs.setdefault('label_map', _LABEL_FORMATS[label_format])
        super().__init__(data_prefix=data_prefix, **kwargs)

    def find_pairs(self) -> List[Tuple[str, str]]:
        """Pairs of image and label; in the official layout most images have no label."""
        if self.layout == 'original':
            return super().find_pairs()
        images, folder = self.data_prefix['img_path'], self.data_prefix['seg_map_path']
        labels = list_files(folder, _LABEL_SUFFIX, 'label files', recursive=False)
        by_name = {os.path.basename(stem): path for stem, path in list_files(images, _IMAGE_SUFFIX, 'images').items()}
        names = {stem: re.sub(r'^\d+_', '', stem, count=1) for stem in labels}
        missing = [path for stem, path in labels.items() if names[stem] not in by_name]
        if missing:
            raise ValueError(f'{len(missing)} labels in {folder} have no image NAME{_IMAGE_SUFFIX} below {images}: '
                             f'{listing(missing)}')
        if any(name.endswith(_OVERLAY_SUFFIX) for name in os.listdir(folder)):
            self._find_overlays(labels, folder)
        return [(by_name[names[stem]], path) for stem, path in labels.items()]

    def _find_overlays(self, labels: Dict[str, str], folder: str) -> None:
        """Note the overlay of every label."""
        overlays = list_files(folder, _OVERLAY_SUFFIX, 'overlays', recursive=False)
        missing = [path for stem, path in labels.items() if stem not in overlays]
        if missing:
            raise ValueError(f'{len(missing)} labels in {folder} have no overlay NNNN_NAME{_OVERLAY_SUFFIX}: '
                             f'{listing(missing)}')
        if self.maps_root is not None:
            raise ValueError(f'the images of {folder} are made of overlays when they are loaded, so there can be no '
                             'offline maps of them: leave maps_root out')
        self._overlays = {path: os.path.join(folder, overlays[stem]) for stem, path in labels.items()}

    def load_data_list(self) -> List[dict]:
        """Add ``overlay_path`` where images have one."""
        data_list = super().load_data_list()
        for info in data_list:
            overlay = self._overlays.get(os.path.basename(info['seg_map_path']))
            if overlay is not None:
                info['overlay_path'] = overlay
        return data_list
