# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Small data sets in the layouts of the real ones."""
import json

import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope

import mgcda  # noqa: F401
from mgcda.structures import MAP_KINDS

HEIGHT, WIDTH = 48, 96


@pytest.fixture(autouse=True)
def mmseg_scope():
    init_default_scope('mmseg')


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)


@pytest.fixture
def write_image():
    return write


@pytest.fixture
def cityscapes(tmp_path):
    """Six images and label ids in two cities; the label holds every id 0..33."""
    root, rng = tmp_path / 'cityscapes', np.random.default_rng(0)
    label = np.resize(np.arange(34, dtype=np.uint8), (HEIGHT, WIDTH))
    for i in range(6):
        name = f'{"ab"[i % 2]}/{"ab"[i % 2]}_{i}'
        write(root / f'leftImg8bit/train/{name}_leftImg8bit.png', rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
        write(root / f'gtFine/train/{name}_gtFine_labelIds.png', np.roll(label, i, 1))
    return root


@pytest.fixture
def coco(tmp_path):
    """Ten cows, a crowd, a small cow and a car in COCO's format; returns (arguments of CocoObjects, content)."""
    root, rng = tmp_path / 'coco', np.random.default_rng(1)
    content = dict(images=[], annotations=[], categories=[dict(id=1, name='cow'), dict(id=2, name='car')])
    for i in range(13):
        write(root / f'images/{i}.jpg', rng.integers(0, 256, (40, 60, 3), np.uint8))
        content['images'].append(dict(id=i, file_name=f'{i}.jpg', height=40, width=60))
        size = 2 if i == 11 else 20
        polygon = [10, 10, 10 + size, 10, 10 + size, 10 + size]
        content['annotations'].append(
            dict(
                id=100 + i,
                image_id=i,
                category_id=2 if i == 12 else 1,
                iscrowd=int(i == 10),
                area=size * size / 2,
                bbox=[10, 10, size, size],
                segmentation=[polygon]))
    (root / 'instances.json').write_text(json.dumps(content))
    return dict(data_root=str(root), ann_file='instances.json', img_path='images', min_area=100), content


@pytest.fixture
def write_maps():
    """Writes valid maps for the images of a folder."""

    def write_all(maps_root, names, shape=(HEIGHT, WIDTH)):
        for number, name in enumerate(names):
            for k, kind in enumerate(MAP_KINDS):
                plane = np.full(shape, number + k, np.uint8)
                write(maps_root / kind / name, np.stack([plane, plane + 50, plane + 100], -1) if k == 0 else plane)

    return write_all
