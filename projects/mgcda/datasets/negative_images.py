# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.

from mmseg.registry import DATASETS

from mgcda.labels import IGNORE, NORMAL, NUM_CITYSCAPES_CLASSES

from .anomaly_dataset import AnomalyDataset
from .coco_objects import CocoObjects
from .void_class import BINARY, anomaly_target

_OF_LABELS_AND_MAPS = ('label_map', 'labels_hidden', 'maps_root', 'map_kinds', 'pair_by', 'seg_map_suffix')


@DATASETS.register_module()
class NegativeImageDataset(AnomalyDataset):
    """Images of another data set as negatives: all of their pixels are outliers.

    The outlier head of Bevandić et al. (GCPR 2019) is trained with such images beside streets, and with negatives
    pasted into streets. They need no labels: :class:`LoadNegativeAnnotations` takes the place of
    LoadAnomalyAnnotations in the pipeline, which must bring images of any size to that of the batch.

    Args:
        targets: ``'binary'``: outliers are 1. ``'classes'``, for segmentors that train with outliers: 254.
        objects: arguments of :class:`CocoObjects`, for images that hold known classes, too: only the pixels of these
            objects are outliers, and images without such an object are left out. The folder of the images is that of
            the data set. With ``unit='image'`` they are the images that show nothing of known classes, as in the public
            code of meta-OoD (Chan et al., ICCV 2021). None: every pixel of every image.
        background: what pixels outside the objects become: 255, ignored, or 0, normal, or any train id among classes.
            meta-OoD's code has 0, the train id of road.
        data_prefix: ``img_path``, the folder of the images relative to ``data_root``.
        domain: none by default, which MDAT and CACL refuse: they align the streets.

    Raises:
        ValueError: other targets, or a background that is none of them; options of labels and maps, of which there
            are none; no image with an object.
        FileNotFoundError, ValueError: as :class:`AnomalyDataset` and :class:`CocoObjects`.
    """

    DEFAULT_NAME = 'Negatives'

    def __init__(self,
                 targets: str = BINARY,
                 objects: dict | None = None,
                 background: int = IGNORE,
                 data_prefix: dict = dict(img_path='images'),
                 **kwargs) -> None:
        useless = [key for key in _OF_LABELS_AND_MAPS if key in kwargs]
        if useless:
            raise ValueError(f'NegativeImageDataset takes no {useless[0]}: negative images have no labels and no maps')
        self.anomaly_target = anomaly_target(targets)
        known = (NORMAL, ) if targets == BINARY else range(NUM_CITYSCAPES_CLASSES)
        if background != IGNORE and background not in known:
            raise ValueError(f'background must be {IGNORE} or one of {[*known]} with targets={targets!r}, got '
                             f'{background!r}')
        if objects is None and background != IGNORE:
            raise ValueError('background is the target of pixels outside the objects, so it needs objects')
        self.background = background
        self.objects: CocoObjects | None = None
        if objects is not None:
            folder = dict(data_root=kwargs.get('data_root') or '', img_path=data_prefix['img_path'])
            if folder.keys() & objects.keys():
                raise ValueError('objects of NegativeImageDataset takes no data_root and no img_path: they are those '
                                 'of the data set')
            self.object_args = dict(objects, **folder)
        super().__init__(data_prefix=data_prefix, **kwargs)

    def find_pairs(self) -> list[tuple[str, None]]:
        """Images, none of which has a label."""
        return [(image, None) for image in self.find_images().values()]

    def load_data_list(self) -> list[dict]:
        """List the images, each with the objects that it shows."""
        data_list = [dict(info, anomaly_target=self.anomaly_target) for info in super().load_data_list()]
        if not hasattr(self, 'object_args'):
            return data_list
        self.objects = CocoObjects(**self.object_args)
        shown: dict[str, list[int]] = self.objects.of_images()
        data_list = [
            dict(info, background=self.background, object_indices=shown[info['img_path']]) for info in data_list
            if info['img_path'] in shown
        ]
        if not data_list:
            self.refuse(f'none of the images in {self.data_prefix["img_path"]} shows an object of '
                        f'{self.objects.ann_file}')
        return data_list

    def prepare_data(self, idx: int) -> dict:
        """Run the pipeline on a sample that knows the objects."""
        return self.pipeline(dict(self.get_data_info(idx), objects=self.objects))
