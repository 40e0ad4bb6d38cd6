# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import os
import re

from mmseg.registry import DATASETS

from mgcda.labels import ANOMALY, IGNORE, NORMAL

from .anomaly_dataset import AnomalyDataset
from .lost_and_found import LABEL_MAP as _LOST_AND_FOUND
from .pairing import HIDDEN_LABELS, by_base_name, find_layout, list_files, listing

_LABEL_FORMATS = {
    'fishyscapes': {
        value: {
            0: NORMAL,
            1: ANOMALY
        }.get(value, IGNORE)
        for value in range(256)
    },
    'lost_and_found': _LOST_AND_FOUND,
}
_LAYOUTS = {
    'original': dict(data_prefix=dict(img_path='original', seg_map_path='labels')),
    'images': dict(data_prefix=dict(img_path='images', seg_map_path='labels_masks')),
}
# The recordings of LostAndFound that the public validation set is taken from, and the form of a frame's name.
_VALIDATION_RECORDINGS = ('01_Hanns_Klemm_Str_45', '04_Maurener_Weg_8', '13_Elly_Beinhorn_Str')
_LOST_AND_FOUND_NAME = re.compile(r'(?:\d{4}_)?(\d{2}_.+)_\d{6}_\d{6}$')
_LABEL_SUFFIX, _OVERLAY_SUFFIX, _IMAGE_SUFFIX = '_labels.png', '_rgb.npz', '_leftImg8bit.png'


@DATASETS.register_module()
class FishyscapesDataset(AnomalyDataset):
    """Fishyscapes (Blum et al. 2021), LostAndFound or Static.

    Layout ``'original'``, the common one: ``original/NAME.png`` and ``labels/NAME.png``; layout ``'images'``, another:
    ``images/NAME.{png,jpg}`` and ``labels_masks/NAME.png``. Layout ``'official'``, the downloads as they are:
    ``NNNN_NAME_labels.png`` in ``seg_map_path``, their images ``NAME_leftImg8bit.png`` anywhere below ``img_path``,
    the images of LostAndFound or Cityscapes; with ``NNNN_NAME_rgb.npz`` beside the labels (Static), the image is
    clip(image + npz['rgb'], 0, 255), and since it is no file it can have no offline maps.

    Args:
        split: ``'val'``, the public validation sets, or ``'test'``: images without labels, as the benchmark keeps
            those of its test sets to itself.
        layout: ``'original'``, ``'images'``, ``'official'``, or ``'auto'``: the first of them whose folder of images is
            there.
        label_format: ``'fishyscapes'``: 0 normal, 1 anomaly, anything else void. ``'lost_and_found'``, for copies with
            the masks of LostAndFound: 0 void, 1 (road) normal, 2 to 200 anomaly; anything else void.

    Raises:
        ValueError: wrong split, layout or label_format, labels without image or overlay, labels of test images, a
            maps_root with overlays;
        FileNotFoundError, ValueError: as :class:`AnomalyDataset`.
    """

    DEFAULT_NAME = 'Fishyscapes'
    NUM_IMAGES = {
        ('FS_LostAndFound', 'val'): 100,
        ('FS_LostAndFound', 'test'): 275,
        ('FS_Static', 'val'): 30,
        ('FS_Static', 'test'): 1000
    }

    def __init__(self,
                 data_root: str = '',
                 data_prefix: dict | None = None,
                 split: str = 'val',
                 layout: str = 'auto',
                 label_format: str = 'fishyscapes',
                 **kwargs) -> None:
        if split not in ('val', 'test'):
            raise ValueError(f"split must be 'val' or 'test', got {split!r}")
        if layout == 'auto':
            layout = find_layout(data_root, _LAYOUTS)
        if layout not in (*_LAYOUTS, 'official'):
            raise ValueError(f"layout must be 'original', 'images', 'official' or 'auto', got {layout!r}")
        if label_format not in _LABEL_FORMATS:
            raise ValueError(f'label_format must be one of {sorted(_LABEL_FORMATS)}, got {label_format!r}')
        if data_prefix is None:
            if layout == 'official':
                raise ValueError("layout='official' needs data_prefix=dict(img_path=<leftImg8bit of LostAndFound or "
                                 'Cityscapes>, seg_map_path=<folder of the labels>)')
            data_prefix = _LAYOUTS[layout]['data_prefix']
        self.split = split
        self.layout = layout
        self.label_format = label_format
        self._overlays: dict[str, str] = {}
        kwargs.setdefault('label_map', _LABEL_FORMATS[label_format])
        super().__init__(data_root=data_root, data_prefix=data_prefix, labels_hidden=split == 'test', **kwargs)

    def find_labels(self) -> dict[str, str]:
        """Labels of the validation set; Fishyscapes' labels of other frames of LostAndFound are refused."""
        folder = self.data_prefix['seg_map_path']
        if self.layout == 'official':
            labels = list_files(folder, _LABEL_SUFFIX, 'label files', recursive=False)
        else:
            labels = super().find_labels()
        if self.label_format != 'fishyscapes':
            return labels
        matches = {stem: _LOST_AND_FOUND_NAME.match(os.path.basename(stem)) for stem in labels}
        hidden = [stem for stem, match in matches.items() if match and match[1] not in _VALIDATION_RECORDINGS]
        if hidden:
            self.refuse(f'{len(hidden)} labels in {folder} are of frames outside the public validation set: '
                        f'{listing(hidden)}; {HIDDEN_LABELS}; remove them')
        return {stem: path for stem, path in labels.items() if stem not in hidden}

    def find_pairs(self) -> list[tuple[str, str]]:
        """Pairs of image and label; in the official layout most images have no label."""
        if self.layout != 'official':
            return super().find_pairs()
        images, folder = self.data_prefix['img_path'], self.data_prefix['seg_map_path']
        labels = self.find_labels()
        by_name = by_base_name(list_files(images, _IMAGE_SUFFIX, 'images'), 'images', images, self.refuse)
        names = {stem: re.sub(r'^\d+_', '', stem, count=1) for stem in labels}
        missing = [path for stem, path in labels.items() if names[stem] not in by_name]
        if missing:
            self.refuse(f'{len(missing)} labels in {folder} have no image NAME{_IMAGE_SUFFIX} below {images}: '
                        f'{listing(missing)}')
        if any(name.endswith(_OVERLAY_SUFFIX) for name in os.listdir(folder)):
            self._find_overlays(labels, folder)
        return [(by_name[names[stem]], path) for stem, path in labels.items() if names[stem] in by_name]

    def _find_overlays(self, labels: dict[str, str], folder: str) -> None:
        """Note the overlay of every label."""
        overlays = list_files(folder, _OVERLAY_SUFFIX, 'overlays', recursive=False)
        missing = [path for stem, path in labels.items() if stem not in overlays]
        if missing:
            self.refuse(f'{len(missing)} labels in {folder} have no overlay NNNN_NAME{_OVERLAY_SUFFIX}: '
                        f'{listing(missing)}')
        if self.maps_root is not None:
            raise ValueError(f'the images of {folder} are made of overlays when they are loaded, so there can be no '
                             'offline maps of them: leave maps_root out')
        self._overlays = {
            path: os.path.join(folder, overlays[stem])
            for stem, path in labels.items() if stem in overlays
        }

    def load_data_list(self) -> list[dict]:
        """Add ``overlay_path`` where images have one."""
        data_list = super().load_data_list()
        for info in data_list:
            overlay = self._overlays.get(os.path.basename(info.get('seg_map_path', '')))
            if overlay is not None:
                info['overlay_path'] = overlay
        return data_list
