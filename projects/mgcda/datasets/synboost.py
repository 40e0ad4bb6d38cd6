# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import os
from collections.abc import Sequence

from mmseg.registry import DATASETS

from mgcda.structures import MAP_KINDS

from .anomaly_dataset import AnomalyDataset
from .pairing import list_files, pair_by_order

_MAP_FOLDERS = dict(zip(MAP_KINDS, ('synthesis', 'semantic', 'entropy', 'mae_features', 'logit_distance')))
_LABEL_FOLDERS = ('labels', 'labels_with_void_no_ego')


@DATASETS.register_module()
class SynBoostDataset(AnomalyDataset):
    """The processed training data that SynBoost's authors publish, as it is (training domain 0).

    Folders ``original semantic synthesis labels labels_with_void_no_ego mae_features entropy logit_distance`` of PNG
    files that sort alike in natural order (1, 2, 10), as SynBoost's code pairs them; the maps are part of it. Files of
    one sample may differ in size: load them with ``resize=True``.

    Args:
        labels: folder of labels, which hold 0 and 1: ``'labels'``, the swapped instances, or
            ``'labels_with_void_no_ego'``, where void pixels but those of the ego vehicle are 1, too.

    Raises:
        ValueError: wrong ``labels``, a maps_root or map_kinds, folders of different length.
        FileNotFoundError: a missing folder.
    """

    DEFAULT_NAME = 'SynBoost'
    DEFAULT_DOMAIN = 0

    def __init__(self, labels: str = 'labels', **kwargs) -> None:
        if labels not in _LABEL_FOLDERS:
            raise ValueError(f'labels must be one of {_LABEL_FOLDERS}, got {labels!r}')
        if kwargs.get('maps_root') is not None:
            raise ValueError('SynBoostDataset takes no maps_root: its maps lie beside its images')
        if 'map_kinds' in kwargs:
            raise ValueError('SynBoostDataset takes no map_kinds: it has all of them')
        kwargs.setdefault('data_prefix', dict(img_path='original', seg_map_path=labels))
        kwargs['pair_by'] = 'order'
        kwargs['maps_root'] = kwargs.get('data_root') or '.'
        super().__init__(**kwargs)

    def find_maps(self, image_paths: Sequence[str]) -> list[dict[str, str]]:
        """Paths of the maps of each image: the files that sort like it."""
        images, maps = self.all_images(), [{} for _ in image_paths]
        for kind, name in _MAP_FOLDERS.items():
            folder = os.path.join(self.maps_root, name)
            files = list_files(folder, self.img_suffix, f'{kind} maps')
            pairs = dict(pair_by_order(images, files, f'{kind} map', folder, self.refuse))
            for paths, image in zip(maps, image_paths):
                if image in pairs:
                    paths[kind] = os.path.join(folder, pairs[image])
        return maps
