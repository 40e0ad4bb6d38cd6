# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Objects of COCO, ready to be pasted."""
import json
import os
import pickle
from collections import OrderedDict
from typing import Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from .image_io import read_image

#: Categories of COCO whose objects belong to a class of Cityscapes.
CITYSCAPES_CATEGORIES: Tuple[str, ...] = ('person', 'bicycle', 'car', 'motorcycle', 'bus', 'train', 'truck',
                                          'traffic light', 'stop sign')


class CocoObjects:
    """Cut-outs of the instances in a COCO annotation file.

    The file is read once, when the data set is built; what is kept are a few hundred bytes an instance in flat arrays
    that worker processes share. Images are opened when an object is drawn; a bounded cache a process holds crops.

    Args:
        ann_file: ``instances*.json``, relative to ``data_root``; polygons or run-length masks.
        img_path: folder of the images, relative to ``data_root``.
        categories: names of the categories to use; by default all that Cityscapes does not know.
        min_area: smallest area of an instance, in pixels of its own image.
        cache_mb: size of the cache of crops; 0: none. It never changes what is returned.

    Raises:
        FileNotFoundError: the file or the folder is missing.
        ValueError: broken file, unknown category, no usable category or instance, wrong options.
    """

    def __init__(self,
                 ann_file: str,
                 img_path: str,
                 data_root: str = '',
                 categories: Optional[Sequence[str]] = None,
                 min_area: float = 1500,
                 cache_mb: float = 64) -> None:
        if min_area < 1:
            raise ValueError(f'min_area must be at least 1 pixel, got {min_area}')
        if cache_mb < 0:
            raise ValueError(f'cache_mb must be >= 0, got {cache_mb}')
        if isinstance(categories, str):
            raise TypeError(f'categories must be a list of names, got the string {categories!r}')
        self.ann_file = os.path.join(data_root, ann_file)
        self.img_path = os.path.join(data_root, img_path)
        self.min_area = min_area
        self._cache_bytes = int(cache_mb * 2**20)
        self._cache: 'OrderedDict[int, Tuple[np.ndarray, np.ndarray]]' = OrderedDict()
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

    def _category_ids(self, content: dict, categories: Optional[Sequence[str]]) -> set:
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

    def _index(self, content: dict, categories: Optional[Sequence[str]]) -> None:
        """Keep the usable instances as pickles in one buffer, in the order of their ids."""
        try:
            category_ids = self._category_ids(content, categories)
            images = {image['id']: image for image in content['images']}
            usable = [
                annotation for annotation in content['annotations']
                if annotation['category_id'] in category_ids and not annotation.get('iscrowd', 0)
                and self._area(annotation) >= self.min_area and min(self._box(annotation, images)[2:]) >= 1
            ]
            usable.sort(key=lambda annotation: annotation['id'])
            records = [pickle.dumps(self._record(annotation, images), -1) for annotation in usable]
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f'{self.ann_file} is broken: an entry lacks or misuses {error}') from error
        if not records:
            raise ValueError(f'{self.ann_file} has no usable instance of at least {self.min_area} pixels among its '
                             f'{len(content["annotations"])}; lower min_area or name other categories')
        self._records = np.frombuffer(b''.join(records), np.uint8)
        self._ends = np.cumsum([len(record) for record in records])
        self._sizes = np.array([self._box(annotation, images)[2:] for annotation in usable], np.int32)

    @staticmethod
    def _area(annotation: dict) -> float:
        return annotation['area'] if 'area' in annotation else annotation['bbox'][2] * annotation['bbox'][3]

    @staticmethod
    def _box(annotation: dict, images: dict) -> Tuple[int, int, int, int]:
        """Box (x, y, width, height) in whole pixels inside the image."""
        image = images[annotation['image_id']]
        x, y, width, height = annotation['bbox']
        left, top = max(0, int(np.floor(x))), max(0, int(np.floor(y)))
        right, bottom = min(image['width'], int(np.ceil(x + width))), min(image['height'], int(np.ceil(y + height)))
        return left, top, right - left, bottom - top

    def _record(self, annotation: dict, images: dict) -> tuple:
        image = images[annotation['image_id']]
        segmentation = annotation['segmentation']
        if isinstance(segmentation, list):
            segmentation = [np.asarray(polygon, np.float32) for polygon in segmentation]
        elif isinstance(segmentation['counts'], list):
            segmentation = coco_mask.frPyObjects(segmentation, image['height'], image['width'])
        return (annotation['id'], image['file_name'], (image['height'], image['width']),
                self._box(annotation, images), segmentation)

    def __len__(self) -> int:
        return len(self._ends)

    def __getstate__(self) -> dict:
        state = self.__dict__.copy()
        state.update(_cache=OrderedDict(), _cached=0)
        return state

    def box_size(self, index: int) -> Tuple[int, int]:
        """Width and height of an object's box in its own image."""
        width, height = self._sizes[index]
        return int(width), int(height)

    def crop(self, index: int, size: Optional[Tuple[int, int]] = None) -> Tuple[np.ndarray, np.ndarray]:
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
        return pixels, cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)

    def mask(self, index: int) -> np.ndarray:
        """Mask of an object in its whole image, uint8 (H, W) of 0 and 1.

        Raises:
            ValueError: it is broken.
        """
        ann_id, _, size, (x, y, box_width, box_height), segmentation = self._record_of(index)
        try:
            mask = self._mask(segmentation, *size)
        except Exception as error:
            raise ValueError(f'{self.ann_file}: the mask of annotation {ann_id} is broken: {error}') from error
        if mask.shape != size or not mask[y:y + box_height, x:x + box_width].any():
            raise ValueError(f'{self.ann_file}: the mask of annotation {ann_id} is empty or not of size '
                             f'{size[1]}x{size[0]}')
        return mask

    def of_images(self) -> Dict[str, List[int]]:
        """Objects of each image that has any: path -> indices."""
        found: Dict[str, List[int]] = {}
        for index in range(len(self)):
            found.setdefault(os.path.join(self.img_path, self._record_of(index)[1]), []).append(index)
        return found

    def image_sizes(self) -> Dict[str, Tuple[int, int]]:
        """Images that objects are cut from: path -> (H, W) as the annotation file says."""
        records = (self._record_of(index) for index in range(len(self)))
        return {os.path.join(self.img_path, file_name): size for _, file_name, size, _, _ in records}

    def _record_of(self, index: int) -> tuple:
        start = 0 if index == 0 else self._ends[index - 1]
        return pickle.loads(memoryview(self._records[start:self._ends[index]]))

    def _load(self, index: int) -> Tuple[np.ndarray, np.ndarray]:
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

    def _decode(self, index: int) -> Tuple[np.ndarray, np.ndarray]:
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
            polygons: List[list] = [polygon.tolist() for polygon in segmentation]
            segmentation = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
        return coco_mask.decode(segmentation)
