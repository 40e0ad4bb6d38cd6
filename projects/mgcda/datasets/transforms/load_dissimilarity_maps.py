# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import os
from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from mgcda.labels import NUM_CITYSCAPES_CLASSES, UNKNOWN_TRAIN_ID
from mgcda.structures.dissimilarity import MAP_KINDS, check_kinds

from ..image_io import read_image, read_plane
from ..maps import MAPS_HINT, size_problems


def read_map(kind: str, path: str) -> np.ndarray:
    """Read a map, uint8: ``synthesis`` BGR (H, W, 3), the others (H, W).

    Raises:
        FileNotFoundError: the map is missing.
        ValueError: it is damaged, not of 8 bits, or a semantic map with values that are no train ids.
    """
    loaded = read_image(path, what=f'{kind} map') if kind == 'synthesis' else read_plane(path, f'{kind} map')
    if loaded.dtype != np.uint8:
        raise ValueError(f'{kind} map {path} must be of 8 bits a channel, got {loaded.dtype}')
    if kind == 'semantic':
        wrong = (loaded >= NUM_CITYSCAPES_CLASSES) & (loaded != UNKNOWN_TRAIN_ID)
        if wrong.any():
            raise ValueError(f'semantic map {path} holds the values {np.unique(loaded[wrong]).tolist()}; it must hold '
                             f'train ids 0..{NUM_CITYSCAPES_CLASSES - 1} or {UNKNOWN_TRAIN_ID}')
    return loaded


@TRANSFORMS.register_module()
class LoadDissimilarityMaps(BaseTransform):
    """Load the maps in ``map_paths`` into ``results[kind]`` and name them in ``seg_fields``.

    ``synthesis``: BGR uint8 (H, W, 3); ``semantic``: uint8 (H, W), train ids 0..18 or 255; ``entropy``,
    ``perceptual``, ``distance``: uint8 (H, W), 0..255 for [0, 1]. Each has the size of its file, which is that of the
    network that made it or the image's; ResizeDissimilarityInputs then brings all of them to one size in one step.
    RandomFlip moves them like labels.

    Args:
        resize: take maps of any size, also where those of one network differ.
        kinds: the maps to load, all by default. Uncertainty maps that are left out become zeros of the size of the
            synthesis, for networks that do not read them.

    Raises:
        FileNotFoundError: a map is missing.
        ValueError: wrong ``kinds``; the sample has no maps; a map is damaged, of another size than the others of
            its network, or holds values outside its range.
    """

    def __init__(self, resize: bool = False, kinds: Sequence[str] = MAP_KINDS) -> None:
        self.resize = resize
        self.kinds = check_kinds('kinds', kinds)

    def transform(self, results: dict) -> dict:
        """Add the five maps."""
        image_path = results['img_path']
        if not results.get('map_paths'):
            raise ValueError(f'no maps are known for image {image_path}: the data set has no maps_root; {MAPS_HINT}')
        maps = {kind: self._load(kind, results) for kind in self.kinds}
        problems = size_problems({kind: plane.shape[:2] for kind, plane in maps.items()}, results['map_paths'])
        if problems and not self.resize:
            raise ValueError(problems[0])
        unread = np.zeros(maps['synthesis'].shape[:2], np.uint8)
        for kind in MAP_KINDS:
            results[kind] = maps.get(kind, unread)
            results['seg_fields'].append(kind)
        return results

    @staticmethod
    def _load(kind: str, results: dict) -> np.ndarray:
        """A map of the sample."""
        image_path, path = results['img_path'], results['map_paths'].get(kind)
        if path is None or not os.path.isfile(path):
            raise FileNotFoundError(f'{kind} map {path} of image {image_path} not found; {MAPS_HINT}')
        return read_map(kind, path)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(resize={self.resize}, kinds={self.kinds})'
