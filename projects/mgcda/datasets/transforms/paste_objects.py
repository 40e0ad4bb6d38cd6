# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from mgcda.labels import ANOMALY

_POSITIONS = ('anywhere', 'ground', 'road')
OWN_SIZE = 'own'


def _check_range(name: str, value: Sequence[float], low: float) -> tuple[float, float]:
    if len(value) != 2 or not low <= value[0] <= value[1]:
        raise ValueError(f'{name} must be (smallest, largest) with {low} <= smallest <= largest, got {value}')
    return tuple(value)


@TRANSFORMS.register_module()
class PasteObjects(BaseTransform):
    """Paste objects of the data set's ``objects`` into ``img`` and mark them as anomalies in ``gt_seg_map``.

    The ``unit`` of :class:`CocoObjects` says what an object is. The recipe of PEBAL's public code, from which MGCDA
    takes its AnomalyMix, is ``objects=dict(unit='image', ...)`` with ``PasteObjects(num_objects=1, scale='own',
    flip_prob=0)``: all instances of one image together, at their own size, anywhere. The default here is one to three
    objects of random size.

    The mark is the sample's ``anomaly_target``, 1 where it has none.

    Pixels outside the masks of the pasted objects keep their values, in the image and in the label. All choices come
    from NumPy's global generator, so that they follow the key of the sample.

    Args:
        num_objects: smallest and largest number of objects an image.
        scale: range of the longer side of an object's box, as a fraction of the image height; log-uniform. Or
            ``'own'``: an object keeps the size in pixels that it has in its own image, in a street of
            ``reference_height`` pixels, and scales with streets of other heights. Whatever would be larger than the
            street is shrunk to fit.
        max_upscale: an object is never enlarged by more than this factor, whatever a range ``scale`` asks for.
        reference_height: of ``scale='own'``: height in pixels of the street in which objects have their own size;
            Cityscapes' 1024 by default. A street that was made smaller keeps the proportions of its composites so.
        position: ``'anywhere'``: the box lies anywhere inside the image; ``'ground'``: the foot of the object lies
            below ``horizon``; ``'road'``: the foot stands on a pixel whose label id is in ``road_ids`` (as
            ``'ground'`` where the image has none), which needs LoadAnomalyAnnotations(keep_label_ids=True).
        horizon: height of the horizon from the top, as a fraction of the image height.
        road_ids: label ids that objects stand on.
        flip_prob: probability that an object is mirrored.

    Raises:
        ValueError: wrong options; a sample without objects or, for ``'road'``, without label ids.
    """

    def __init__(self,
                 num_objects: Sequence[int] = (1, 3),
                 scale: str | Sequence[float] = (0.1, 0.5),
                 max_upscale: float = 2.0,
                 position: str = 'anywhere',
                 horizon: float = 0.45,
                 road_ids: Sequence[int] = (7, 8),
                 flip_prob: float = 0.5,
                 reference_height: int = 1024) -> None:
        num_objects = (num_objects, num_objects) if isinstance(num_objects, int) else num_objects
        self.num_objects = _check_range('num_objects', num_objects, 0)
        if not all(isinstance(number, int) for number in num_objects):
            raise ValueError(f'num_objects must be integers, got {num_objects}')
        if isinstance(scale, str) and scale != OWN_SIZE:
            raise ValueError(f'scale must be (smallest, largest) or {OWN_SIZE!r}, got {scale!r}')
        self.scale = scale if scale == OWN_SIZE else _check_range('scale', scale, 0)
        if scale != OWN_SIZE and self.scale[0] <= 0:
            raise ValueError(f'scale must be positive, got {scale}')
        if reference_height < 1:
            raise ValueError(f'reference_height must be at least 1 pixel, got {reference_height}')
        if max_upscale <= 0:
            raise ValueError(f'max_upscale must be positive, got {max_upscale}')
        if position not in _POSITIONS:
            raise ValueError(f'position must be one of {_POSITIONS}, got {position!r}')
        for name, value in (('horizon', horizon), ('flip_prob', flip_prob)):
            if not 0 <= value <= 1:
                raise ValueError(f'{name} must lie in [0, 1], got {value}')
        self.max_upscale = max_upscale
        self.position = position
        self.horizon = horizon
        self.road_ids = tuple(road_ids)
        self.flip_prob = flip_prob
        self.reference_height = reference_height

    def transform(self, results: dict) -> dict:
        """Paste into ``img`` and ``gt_seg_map`` in place."""
        objects = results.pop('objects', None)
        if objects is None:
            raise ValueError('PasteObjects needs a data set that offers objects, such as AnomalyMixDataset')
        label_ids = results.pop('label_ids', None)
        results['seg_fields'] = [field for field in results.get('seg_fields', []) if field != 'label_ids']
        if self.position == 'road' and label_ids is None:
            raise ValueError("position='road' needs LoadAnomalyAnnotations(keep_label_ids=True) before PasteObjects")
        image, target = results['img'], results['gt_seg_map']
        mark = results.pop('anomaly_target', ANOMALY)
        road = self._road(label_ids) if self.position == 'road' else None
        for _ in range(np.random.randint(self.num_objects[0], self.num_objects[1] + 1)):
            self._paste_one(image, target, objects, road, mark)
        return results

    def _road(self, label_ids: np.ndarray) -> np.ndarray | None:
        """Flat indices of the pixels that objects may stand on, None where there are none."""
        table = np.zeros(256, np.uint8)
        table[list(self.road_ids)] = 1
        road = np.flatnonzero(cv2.LUT(label_ids, table))
        return road if len(road) else None

    def _paste_one(self, image: np.ndarray, target: np.ndarray, objects, road: np.ndarray | None, mark: int) -> None:
        height, width = target.shape
        index = np.random.randint(len(objects))
        box_width, box_height = objects.box_size(index)
        if self.scale == OWN_SIZE:
            factor = height / self.reference_height
        else:
            longer = height * np.exp(np.random.uniform(*np.log(self.scale)))
            factor = min(longer / max(box_width, box_height), self.max_upscale)
        factor = min(factor, height / box_height, width / box_width)
        size = (max(1, int(box_width * factor)), max(1, int(box_height * factor)))
        crop, mask = objects.crop(index, size)
        if np.random.random() < self.flip_prob:
            crop, mask = cv2.flip(crop, 1), cv2.flip(mask, 1)
        x, y = self._place(size, (width, height), road)
        window, inside = (slice(y, y + size[1]), slice(x, x + size[0])), mask > 0
        np.copyto(image[window], crop, where=inside[..., None])
        target[window][inside] = mark

    def _place(self, size: tuple[int, int], image_size: tuple[int, int], road: np.ndarray | None) -> tuple[int, int]:
        """Top left corner (x, y) of a box that lies inside the image."""
        free_x, free_y = image_size[0] - size[0], image_size[1] - size[1]
        if self.position == 'road' and road is not None:
            foot_y, foot_x = divmod(int(road[np.random.randint(len(road))]), image_size[0])
            return (int(np.clip(foot_x - size[0] // 2, 0, free_x)), int(np.clip(foot_y + 1 - size[1], 0, free_y)))
        low = 0 if self.position == 'anywhere' else int(np.clip(self.horizon * image_size[1] - size[1], 0, free_y))
        return np.random.randint(0, free_x + 1), np.random.randint(low, free_y + 1)

    def __repr__(self) -> str:
        own = f', reference_height={self.reference_height}' if self.scale == OWN_SIZE else ''
        return (f'{type(self).__name__}(num_objects={self.num_objects}, scale={self.scale!r}, '
                f'max_upscale={self.max_upscale}, position={self.position!r}, horizon={self.horizon}, '
                f'road_ids={self.road_ids}, flip_prob={self.flip_prob}{own})')
