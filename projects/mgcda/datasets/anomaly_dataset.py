# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import os
from collections.abc import Sequence

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from mgcda.labels import ANOMALY, ANOMALY_METAINFO, IGNORE, NORMAL
from mgcda.structures.dissimilarity import MAP_KINDS, check_kinds

from .maps import MAPS_HINT, map_files
from .pairing import list_files, listing, pair_by_name, pair_by_order, raise_problem
from .randomness import SampleKey, keyed_random

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.webp')


@DATASETS.register_module()
class AnomalyDataset(BaseSegDataset):
    """Images with labels of normal (0), anomalous (1) and ignored (255) pixels, in two folders.

    The base of all data sets of the package. An image and its label carry the same name; every file must find its
    partner before anything is loaded. Drawn with a :class:`SampleKey`, or in test mode, a sample is a pure function of
    its key.

    Args:
        data_prefix: ``img_path`` and ``seg_map_path``, folders relative to ``data_root``.
        img_suffix, seg_map_suffix: what file names end on after the name; several are allowed, and a suffix may reach
            into a subfolder (``'.labels/labels_semantic.png'``).
        label_map: value in the label files -> 0, 1 or 255; any other value is refused when a label is loaded.
        maps_root: folder of offline dissimilarity maps, ``<maps_root>/<kind>/<image path>.png``; None: no maps.
        map_kinds: kinds of maps that are in ``maps_root``; all by default. ``('synthesis', 'semantic')`` for networks
            without uncertainty maps.
        dataset_name: name that results of this data set are reported under.
        domain: number of the training domain (0 VoidClass, 1 AnomalyMix); None outside training.
        pair_by: ``'name'``, or ``'order'`` for folders whose files merely sort alike, in natural order: 1, 2, 10.
        labels_hidden: read images alone, as those of a benchmark's test set; asking for their labels is an error.
        ann_file: text file that names, one a line and without suffix, the images to use; empty: all.

    Raises:
        FileNotFoundError: a folder or a named image is missing, or a folder is empty.
        ValueError: files that do not pair up, maps that are missing (both listed), wrong options.
    """

    METAINFO = ANOMALY_METAINFO
    DEFAULT_NAME: str | None = None
    DEFAULT_DOMAIN: int | None = None
    DEFAULT_LABEL_MAP: dict[int, int] = {NORMAL: NORMAL, ANOMALY: ANOMALY, IGNORE: IGNORE}
    #: Names of the classes, where labels are their indices (or 255) instead of normal and anomalous pixels.
    LABEL_CLASSES: tuple[str, ...] | None = None
    RECURSIVE = True
    #: Number of images of the official sets, by the name that results are reported under and the split.
    NUM_IMAGES: dict[tuple[str, str], int] = {}
    #: Part of the data set that is read, where it has several.
    split = ''

    def __init__(self,
                 data_prefix: dict = dict(img_path='images', seg_map_path='labels'),
                 img_suffix: str | Sequence[str] = IMAGE_SUFFIXES,
                 seg_map_suffix: str | Sequence[str] = '.png',
                 label_map: dict[int, int] | None = None,
                 maps_root: str | None = None,
                 map_kinds: Sequence[str] = MAP_KINDS,
                 dataset_name: str | None = None,
                 domain: int | None = None,
                 pair_by: str = 'name',
                 labels_hidden: bool = False,
                 **kwargs) -> None:
        if pair_by not in ('name', 'order'):
            raise ValueError(f"pair_by must be 'name' or 'order', got {pair_by!r}")
        if kwargs.get('reduce_zero_label'):
            raise ValueError('reduce_zero_label must be False: 0 is the label of normal pixels')
        name = dataset_name if dataset_name is not None else (self.DEFAULT_NAME or type(self).__name__)
        if not isinstance(name, str) or not name or '/' in name:
            raise ValueError(f"dataset_name must be a non-empty string without '/', got {name!r}")
        self.dataset_name = name
        self.domain = self.DEFAULT_DOMAIN if domain is None else domain
        if self.domain is not None and (not isinstance(self.domain, int) or self.domain < 0):
            raise ValueError(f'domain must be an integer >= 0 or None, got {self.domain!r}')
        self.target_map = self._check_label_map(self.DEFAULT_LABEL_MAP if label_map is None else label_map)
        self.maps_root = maps_root
        self.map_kinds = check_kinds('map_kinds', map_kinds)
        self.pair_by = pair_by
        self.labels_hidden = labels_hidden
        # What is done with a problem of the files; tools/check_data.py notes it and goes on.
        self.refuse = raise_problem
        super().__init__(data_prefix=data_prefix, img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)

    @property
    def allowed_targets(self) -> tuple[int, ...]:
        """What labels become."""
        indices = (NORMAL, ANOMALY) if self.LABEL_CLASSES is None else range(len(self.LABEL_CLASSES))
        return (*indices, IGNORE)

    def _check_label_map(self, label_map: dict[int, int]) -> dict[int, int]:
        """Values 0..255 to targets, with integer keys (configs loaded from JSON have strings)."""
        table = {int(value): int(target) for value, target in label_map.items()}
        targets = self.allowed_targets
        if any(not 0 <= value <= 255 or target not in targets for value, target in table.items()):
            raise ValueError(f'label_map must map values 0..255 to one of {targets}, got {label_map}')
        return table

    @property
    def num_official_images(self) -> int | None:
        """Number of images of the official set; None where that is unknown or only a part is read."""
        if self.ann_file or self._indices is not None:
            return None
        return self.NUM_IMAGES.get((self.dataset_name, self.split))

    @property
    def unlabelled_images(self) -> frozenset[str]:
        """Paths of images that are known to have not one labelled pixel."""
        return frozenset()

    def find_images(self) -> dict[str, str]:
        """Images of the data set: name -> path relative to the image folder."""
        return self.select(self.all_images(), self.listed_names())

    def all_images(self) -> dict[str, str]:
        """Images of the folder, whether or not they are used: name -> path relative to it."""
        return list_files(self.data_prefix['img_path'], self.img_suffix, 'images', self.RECURSIVE)

    def listed_names(self) -> list[str] | None:
        """Names in ``ann_file``, or None where there is no list."""
        if not self.ann_file:
            return None
        if not os.path.isfile(self.ann_file):
            raise FileNotFoundError(f'ann_file not found: {self.ann_file}')
        with open(self.ann_file, encoding='utf-8') as file:
            return [line.strip() for line in file if line.strip()]

    def select(self, images: dict[str, str], names: list[str] | None) -> dict[str, str]:
        """The named ones of the images, in sorted order."""
        if names is None:
            return images
        missing = set(names) - images.keys()
        if missing:
            raise FileNotFoundError(f'{len(missing)} listed images are not in {self.data_prefix["img_path"]}: '
                                    f'{listing(list(missing))}')
        return {name: images[name] for name in sorted(set(names))}

    def find_labels(self) -> dict[str, str]:
        """Labels of the data set: name -> path relative to the label folder."""
        return list_files(self.data_prefix['seg_map_path'], self.seg_map_suffix, 'label files')

    def find_pairs(self) -> list[tuple[str, str]]:
        """Pairs of image and label, each relative to its folder."""
        images, labels, folder = self.find_images(), self.find_labels(), self.data_prefix['seg_map_path']
        listed = self.listed_names() is not None
        if self.pair_by == 'name':
            if listed:
                labels = {name: path for name, path in labels.items() if name in images}
            return pair_by_name(images, labels, 'label file', folder, self.refuse)
        # Only whole folders sort alike.
        chosen, images = set(images.values()), self.all_images() if listed else images
        pairs = pair_by_order(images, labels, 'label file', folder, self.refuse)
        return [pair for pair in pairs if pair[0] in chosen]

    def find_maps(self, image_paths: Sequence[str]) -> list[dict[str, str]]:
        """Paths of the maps of each image, those that exist; none may be missing."""
        if not os.path.isdir(self.maps_root):
            raise FileNotFoundError(f'maps_root not found: {self.maps_root}; {MAPS_HINT}')
        files = [map_files(self.maps_root, image, self.map_kinds) for image in image_paths]
        present = {
            os.path.join(root, name)
            for kind in self.map_kinds
            for root, _, names in os.walk(os.path.join(self.maps_root, kind), followlinks=True)
            for name in names
        }
        missing = [(image, path) for image, maps in zip(image_paths, files) for path in maps.values()
                   if path not in present]
        if missing:
            self.refuse(f'{len(missing)} maps are missing in {self.maps_root}, the first of them '
                        f'{missing[0][1]} of image {missing[0][0]}; images with missing maps: '
                        f'{listing(list(dict.fromkeys(image for image, _ in missing)))}; {MAPS_HINT}')
        return [{kind: path for kind, path in maps.items() if path in present} for maps in files]

    def load_data_list(self) -> list[dict]:
        """Pair images, labels and maps; checks everything that can be known without opening an image."""
        pairs = [(image, None) for image in self.find_images().values()] if self.labels_hidden else self.find_pairs()
        maps = self.find_maps([image for image, _ in pairs]) if self.maps_root is not None else [None] * len(pairs)
        data_list = []
        for (image, label), map_paths in zip(pairs, maps):
            info = dict(
                img_path=os.path.join(self.data_prefix['img_path'], image),
                dataset_name=self.dataset_name,
                label_map=self.target_map,
                labels_hidden=self.labels_hidden,
                reduce_zero_label=False,
                seg_fields=[])
            if label is not None:
                info['seg_map_path'] = os.path.join(self.data_prefix['seg_map_path'], label)
            if self.LABEL_CLASSES is not None:
                info['label_classes'] = self.LABEL_CLASSES
            if self.domain is not None:
                info['domain'] = self.domain
            if map_paths is not None:
                info['map_paths'] = map_paths
            data_list.append(info)
        return data_list

    def __getitem__(self, idx: int) -> dict:
        if not (isinstance(idx, SampleKey) or self.test_mode):
            return super().__getitem__(idx)
        key = idx if isinstance(idx, SampleKey) else SampleKey(range(len(self))[idx])
        with keyed_random(key):
            return super().__getitem__(int(key))
