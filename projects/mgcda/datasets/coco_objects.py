# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Objects of COCO, ready to be pasted: single instances, or all instances of an image as one."""
import json
import os
import pickle
from collections import OrderedDict
from collections.abc import Sequence

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from mgcda.structures import resize_nearest

from .image_io import read_image

#: Categories of COCO whose objects belong to a class of Cityscapes.
CITYSCAPES_CATEGORIES: tuple[str, ...] = ('person', 'bicycle', 'car', 'motorcycle', 'bus', 'train', 'truck',
                                          'traffic light', 'stop sign')
INSTANCE, IMAGE = 'instance', 'image'


class CocoObjects:
    """Cut-outs of the instances in a COCO annotation file.

    An object is what is drawn, scaled and pasted as one, and ``unit`` says what that is:

    - ``'instance'``: one instance of the ``categories``, no crowd.
    - ``'image'``: all instances of one image, crowds too, cut out together in their places; of images in which nothing
      of another category stands, be it a crowd or a single pixel. So does the public code of PEBAL (Tian et al., ECCV
      2022), whose list of known categories, that of meta-OoD (Chan et al., ICCV 2021), lacks the train alone.

    The file is read once, when the data set is built; what is kept are a few hundred bytes an instance in flat arrays
    that worker processes share. Images are opened when an object is drawn; a bounded cache a process holds crops.

    Args:
        ann_file: ``instances*.json``, relative to ``data_root``; polygons or run-length masks.
        img_path: folder of the images, relative to ``data_root``.
        categories: names of the categories to use; by default all that Cityscapes does not know.
        min_area: smallest area of an object, in pixels of its own image; that of an image is the sum of its instances'.
            By default 1500 for instances, 1 for images.
        unit: ``'instance'`` or ``'image'``.
        min_side: smallest height and width of an image that objects are taken from, in pixels. By default 1 for
            instances, 480 for images, as in PEBAL's code.
        pool_size: how many objects are used at most, drawn once and for all; None: all. PEBAL uses 297.
        cache_mb: size of the cache of crops; 0: none. It never changes what is returned.

    Raises:
        FileNotFoundError: the file or the folder is missing.
        ValueError: broken file, unknown category, no usable category or object, wrong options.
    """

    def __init__(self,
                 ann_file: str,
                 img_path: str,
                 data_root: str = '',
                 categories: Sequence[str] | None = None,
                 min_area: float | None = None,
                 cache_mb: float = 64,
                 unit: str = INSTANCE,
                 min_side: int | None = None,
                 pool_size: int | None = None) -> None:
        if unit not in (INSTANCE, IMAGE):
            raise ValueError(f'unit must be {INSTANCE!r} or {IMAGE!r}, got {unit!r}')
        min_area = (1500 if unit == INSTANCE else 1) if min_area is None else min_area
        min_side = (1 if unit == INSTANCE else 480) if min_side is None else min_side
        if min_area < 1:
            raise ValueError(f'min_area must be at least 1 pixel, got {min_area}')
        if min_side < 1:
            raise ValueError(f'min_side must be at least 1 pixel, got {min_side}')
        if pool_size is not None and pool_size < 1:
            raise ValueError(f'pool_size must be at least 1 or None, got {pool_size}')
        if cache_mb < 0:
            raise ValueError(f'cache_mb must be >= 0, got {cache_mb}')
        if isinstance(categories, str):
            raise TypeError(f'categories must be a list of names, got the string {categories!r}')
        self.ann_file = os.path.join(data_root, ann_file)
        self.img_path = os.path.join(data_root, img_path)
        self.min_area = min_area
        self.unit = unit
        self.min_side = min_side
        self.pool_size = pool_size
        self._cache_bytes = int(cache_mb * 2**20)
        self._cache: OrderedDict[int, tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._cached = 0
        self._index(self._read(), categories)

    def _read(self) -> dict:
        if not os.path.isfile(self.ann_file):
            raise FileNotFoundError(f'COCO annotation file not found: {self.ann_file}')
        if not os.path.isdir(self.img_path):
            raise FileNotFoundError(f'folder of COCO images not found: {self.img_path}')
        try:
            with open(self.ann_file, encoding='utf-8') as file:
                content = json.load(file)
        except ValueError as error:
            raise ValueError(f'{self.ann_file} is not valid JSON: {error}') from error
        for key in ('images', 'annotations', 'categories'):
            if not isinstance(content, dict) or not isinstance(content.get(key), list):
                raise ValueError(f'{self.ann_file} is no COCO annotation file: it has no list {key!r}')
        return content

    def _category_ids(self, content: dict, categories: Sequence[str] | None) -> set:
        names = {category['name']: category['id'] for category in content['categories']}
        if categories is None:
            wanted = set(names) - set(CITYSCAPES_CATEGORIES)
        else:
            wanted = set(categories)
            if wanted - set(names):
                raise ValueError(f'categories {sorted(wanted - set(names))} are not in {self.ann_file}, which has '
                                 f'{sorted(names)}')
        if not wanted:
            raise ValueError(f'{self.ann_file} has no usable category: all of {sorted(names)} are classes of '
                             'Cityscapes')
        return {names[name] for name in wanted}

    def _index(self, content: dict, categories: Sequence[str] | None) -> None:
        """Keep the usable objects as pickles in one buffer, in the order of their ids."""
        try:
            category_ids = self._category_ids(content, categories)
            images = {image['id']: image for image in content['images']}
            groups = self._groups(content['annotations'], category_ids, images)
            usable = [
                group for _, group in sorted(groups, key=lambda item: item[0])
                if sum(map(self._area, group)) >= self.min_area and min(self._box(group, images)[2:]) >= 1
            ]
            if self.pool_size is not None and self.pool_size < len(usable):
                kept = np.random.default_rng(0).choice(len(usable), self.pool_size, replace=False)
                usable = [usable[i] for i in sorted(kept)]
            records = [pickle.dumps(self._record(group, images), -1) for group in usable]
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f'{self.ann_file} is broken: an entry lacks or misuses {error}') from error
        if not records:
            raise ValueError(self._nothing_usable(len(content['annotations'])))
        self._records = np.frombuffer(b''.join(records), np.uint8)
        self._ends = np.cumsum([len(record) for record in records])
        self._sizes = np.array([self._box(group, images)[2:] for group in usable], np.int32)

    def _groups(self, annotations: list[dict], category_ids: set, images: dict) -> list[tuple[int, list[dict]]]:
        """Id and annotations of each object, whatever its area."""
        large = {key for key, image in images.items() if min(image['height'], image['width']) >= self.min_side}
        if self.unit == INSTANCE:
            return [(annotation['id'], [annotation]) for annotation in annotations
                    if annotation['category_id'] in category_ids and not annotation.get('iscrowd', 0)
                    and images[annotation['image_id']]['id'] in large]
        groups: dict[int, list[dict]] = {}
        for annotation in annotations:
            groups.setdefault(images[annotation['image_id']]['id'], []).append(annotation)
        return [(key, group) for key, group in groups.items()
                if key in large and all(annotation['category_id'] in category_ids for annotation in group)]

    def _nothing_usable(self, num_annotations: int) -> str:
        """What to say where no object is left."""
        if self.unit == INSTANCE:
            smaller = f' in images of {self.min_side} pixels and more' if self.min_side > 1 else ''
            return (f'{self.ann_file} has no usable instance of at least {self.min_area} pixels{smaller} among its '
                    f'{num_annotations}; lower min_area or name other categories')
        return (
            f"{self.ann_file} has no usable image for unit='image': one of at least {self.min_side} pixels in height "
            f'and width, with at least {self.min_area} pixels of instances, all of them of the categories; lower '
            'min_side or name other categories')

    @staticmethod
    def _area(annotation: dict) -> float:
        return annotation['area'] if 'area' in annotation else annotation['bbox'][2] * annotation['bbox'][3]

    @staticmethod
    def _box(group: list[dict], images: dict) -> tuple[int, int, int, int]:
        """Box (x, y, width, height) around the annotations of an object, in whole pixels inside the image."""
        image = images[group[0]['image_id']]
        x, y, widths, heights = np.array([annotation['bbox'] for annotation in group], np.float64).T
        left, top = max(0, int(np.floor(x.min()))), max(0, int(np.floor(y.min())))
        right = min(image['width'], int(np.ceil((x + widths).max())))
        bottom = min(image['height'], int(np.ceil((y + heights).max())))
        return left, top, right - left, bottom - top

    def _record(self, group: list[dict], images: dict) -> tuple:
        image = images[group[0]['image_id']]
        name = f'annotation {group[0]["id"]}' if self.unit == INSTANCE else f'image {image["id"]}'
        segmentations = [self._segmentation(annotation['segmentation'], image) for annotation in group]
        return name, image['file_name'], (image['height'], image['width']), self._box(group, images), segmentations

    @staticmethod
    def _segmentation(segmentation, image: dict):
        if isinstance(segmentation, list):
            return [np.asarray(polygon, np.float32) for polygon in segmentation]
        if isinstance(segmentation['counts'], list):
            return coco_mask.frPyObjects(segmentation, image['height'], image['width'])
        return segmentation

    def __len__(self) -> int:
        return len(self._ends)

    def __getstate__(self) -> dict:
        state = self.__dict__.copy()
        state.update(_cache=OrderedDict(), _cached=0)
        return state

    def box_size(self, index: int) -> tuple[int, int]:
        """Width and height of an object's box in its own image."""
        width, height = self._sizes[index]
        return int(width), int(height)

    def crop(self, index: int, size: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """An object and its mask, by default in original size.

        Args:
            size: width and height to scale the object's box to.

        Returns:
            Pixels BGR uint8 (h, w, 3), mask uint8 (h, w) of 0 and 1.

        Raises:
            FileNotFoundError, ValueError: its image is missing or damaged, or differs in size from what the annotation
                file says; its mask is broken.
        """
        pixels, mask = self._load(index)
        if size is None or size == (mask.shape[1], mask.shape[0]):
            return pixels.copy(), mask.copy()
        shrinks = size[0] * size[1] < mask.size
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        return pixels, resize_nearest(mask, size[::-1])

    def mask(self, index: int) -> np.ndarray:
        """Mask of an object in its whole image, uint8 (H, W) of 0 and 1.

        Raises:
            ValueError: it is broken.
        """
        name, _, size, (x, y, box_width, box_height), segmentations = self._record_of(index)
        try:
            masks = [self._mask(segmentation, *size) for segmentation in segmentations]
        except Exception as error:
            raise ValueError(f'{self.ann_file}: the mask of {name} is broken: {error}') from error
        mask = masks[0] if all(mask.shape == size for mask in masks) else None
        for other in masks[1:] if mask is not None else ():
            np.maximum(mask, other, out=mask)
        if mask is None or not mask[y:y + box_height, x:x + box_width].any():
            raise ValueError(f'{self.ann_file}: the mask of {name} is empty or not of size {size[1]}x{size[0]}')
        return mask

    def of_images(self) -> dict[str, list[int]]:
        """Objects of each image that has any: path -> indices."""
        found: dict[str, list[int]] = {}
        for index in range(len(self)):
            found.setdefault(os.path.join(self.img_path, self._record_of(index)[1]), []).append(index)
        return found

    def image_sizes(self) -> dict[str, tuple[int, int]]:
        """Images that objects are cut from: path -> (H, W) as the annotation file says."""
        records = (self._record_of(index) for index in range(len(self)))
        return {os.path.join(self.img_path, file_name): size for _, file_name, size, _, _ in records}

    def _record_of(self, index: int) -> tuple:
        start = 0 if index == 0 else self._ends[index - 1]
        return pickle.loads(memoryview(self._records[start:self._ends[index]]))

    def _load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        entry = self._decode(index)
        num_bytes = sum(array.nbytes for array in entry)
        if num_bytes <= self._cache_bytes:
            self._cache[index] = entry
            self._cached += num_bytes
            while self._cached > self._cache_bytes:
                self._cached -= sum(array.nbytes for array in self._cache.popitem(last=False)[1])
        return entry

    def _decode(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        _, file_name, (height, width), (x, y, box_width, box_height), _ = self._record_of(index)
        path = os.path.join(self.img_path, file_name)
        image = read_image(path, 'color_ignore_orientation', what='COCO image')
        if image.shape[:2] != (height, width):
            raise ValueError(f'COCO image {path} is {image.shape[1]}x{image.shape[0]}, but {self.ann_file} says '
                             f'{width}x{height}')
        window = slice(y, y + box_height), slice(x, x + box_width)
        return image[window].copy(), self.mask(index)[window].copy()

    @staticmethod
    def _mask(segmentation, height: int, width: int) -> np.ndarray:
        if isinstance(segmentation, list):
            polygons: list[list] = [polygon.tolist() for polygon in segmentation]
            segmentation = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
        return coco_mask.decode(segmentation)
