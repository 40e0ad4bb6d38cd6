# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import os
from collections.abc import Sequence

from mmseg.registry import DATASETS

from .anomaly_dataset import IMAGE_SUFFIXES, AnomalyDataset
from .pairing import HIDDEN_LABELS, find_layout, list_files, listing

_LAYOUTS = {
    'official': dict(data_prefix=dict(img_path='images', seg_map_path='labels_masks')),
    'original': dict(data_prefix=dict(img_path='original', seg_map_path='labels')),
}
_LABEL_SUFFIX = '_labels_semantic.png'
# Scenes of RoadObstacle21 that the benchmark evaluates apart.
_WEATHER = dict(snowstorm1='test_snow', snowstorm2='test_snow', driveway='test_night')
# Frames that the benchmark leaves out of RoadObstacle21's validation set.
_LEFT_OUT = ('validation_19', *(f'validation_2{digit}' for digit in range(1, 10)))


@DATASETS.register_module()
class SMIYCDataset(AnomalyDataset):
    """SegmentMeIfYouCan (Chan et al. 2021), RoadAnomaly21 or RoadObstacle21; its labels are 0, 1 and 255.

    Layout ``'official'``: ``images/NAME.{jpg,webp,png}`` and ``labels_masks/NAME_labels_semantic.png``, for the
    validation images only. Layout ``'original'``, a repackaging: ``original`` and ``labels``. In both, labels may also
    be named ``NAME.png``. Validation images have ``validation`` in their name, or, in repackagings, only a number;
    all others belong to the test set.

    Args:
        track: ``'RoadAnomaly21'`` or ``'RoadObstacle21'``.
        split: ``'val'``: 10 or 30 images with labels. Images without labels: ``'test'``, 100 or 327;
            ``'test_snow'``, 55, and ``'test_night'``, 30, of RoadObstacle21; ``'all'``, 110 or 442, as a
            submission needs them.
        layout: ``'official'``, ``'original'``, or ``'auto'``: the first of them whose folder of images is there.

    Raises:
        ValueError: wrong track, split or layout; labels of test images, or a list of images that names such;
        FileNotFoundError, ValueError: no image of the split; as :class:`AnomalyDataset`.
    """

    NUM_IMAGES = {
        ('RoadAnomaly21', 'val'): 10,
        ('RoadAnomaly21', 'test'): 100,
        ('RoadAnomaly21', 'all'): 110,
        ('RoadObstacle21', 'val'): 30,
        ('RoadObstacle21', 'test'): 327,
        ('RoadObstacle21', 'test_snow'): 55,
        ('RoadObstacle21', 'test_night'): 30,
        ('RoadObstacle21', 'all'): 442
    }

    def __init__(self,
                 track: str,
                 split: str = 'val',
                 layout: str = 'auto',
                 data_root: str = '',
                 img_suffix: str | Sequence[str] = IMAGE_SUFFIXES,
                 dataset_name: str | None = None,
                 **kwargs) -> None:
        if track not in ('RoadAnomaly21', 'RoadObstacle21'):
            raise ValueError(f"track must be 'RoadAnomaly21' or 'RoadObstacle21', got {track!r}")
        splits = ['val', 'test', 'all']
        if track == 'RoadObstacle21':
            splits += ['test_snow', 'test_night']
        if split not in splits:
            raise ValueError(f'split of {track} must be one of {splits}, got {split!r}')
        if layout == 'auto':
            layout = find_layout(data_root, _LAYOUTS)
        if layout not in _LAYOUTS:
            raise ValueError(f"layout must be 'official', 'original' or 'auto', got {layout!r}")
        self.track = track
        self.split = split
        kwargs = {**_LAYOUTS[layout], **kwargs}
        super().__init__(
            data_root=data_root,
            img_suffix=img_suffix,
            seg_map_suffix=kwargs.pop('seg_map_suffix', (_LABEL_SUFFIX, '.png')),
            dataset_name=dataset_name or track,
            labels_hidden=split != 'val',
            **kwargs)

    def split_of(self, name: str) -> str | None:
        """Split that an image of this name belongs to; None for those that the benchmark leaves out."""
        base_name = os.path.basename(name)
        if 'validation' in name or base_name.isdigit():
            return None if self.track == 'RoadObstacle21' and base_name.startswith(_LEFT_OUT) else 'val'
        if self.track == 'RoadObstacle21':
            return _WEATHER.get(base_name.split('_')[0], 'test')
        return 'test'

    def find_images(self) -> dict[str, str]:
        """Images of the split."""
        folder = self.data_prefix['img_path']
        images, listed = list_files(folder, self.img_suffix, 'images'), self.listed_names()
        splits = {name: self.split_of(name) for name in images}
        chosen = {
            name: path
            for name, path in images.items()
            if splits[name] == self.split or (self.split == 'all' and splits[name] is not None)
        }
        others = [name for name in listed or () if name in images and name not in chosen]
        if others:
            reason = f'; {HIDDEN_LABELS}' if self.split == 'val' else ''
            self.refuse(f'ann_file {self.ann_file} lists {len(others)} images that are not of the split '
                        f'{self.split!r} of {self.track}: {listing(others)}{reason}')
            listed = [name for name in listed if name not in others]
        if not chosen:
            raise FileNotFoundError(f'no image in {folder} is of the split {self.split!r} of {self.track}: names of '
                                    "validation images contain 'validation', all others are of test images")
        return self.select(chosen, listed)

    def find_labels(self) -> dict[str, str]:
        """Labels of the validation images; those of test images are refused."""
        folder = self.data_prefix['seg_map_path']
        labels = super().find_labels()
        hidden = [name for name in labels if (self.split_of(name) or '').startswith('test')]
        if hidden:
            self.refuse(f'{len(hidden)} labels in {folder} are of test images of {self.track}: {listing(hidden)}; '
                        f'{HIDDEN_LABELS}; remove them')
        # Beside the official labels lie the same in colours.
        official = {name: path for name, path in labels.items() if path.endswith(_LABEL_SUFFIX)}
        return {name: path for name, path in (official or labels).items() if self.split_of(name) == 'val'}
