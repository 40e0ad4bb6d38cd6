# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Small random files in the layouts of the real data sets: everything below ``data/`` that the configs read."""
import json
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from mgcda.labels import label_id_to_train_id
from mgcda.structures import MAP_KINDS, REQUIRED_KINDS

#: Size (H, W) of the images.
IMAGE_SIZE = (32, 64)
#: Images of each split of Cityscapes, and of each test set but LostAndFound.
NUM_IMAGES = 2
#: Recording -> frames of LostAndFound's test set: 1203, of which 143 show known objects.
LOST_AND_FOUND = {
    '01_Hanns_Klemm_Str_45_000006': 5,
    '01_Hanns_Klemm_Str_45_000007': 5,
    '02_Hanns_Klemm_Str_44_000000': 1060,
    '15_Rechbergstr_Deckenpfronn_000000': 133
}


class LayoutWriter:
    """Writes random images and labels below ``root``."""

    def __init__(self, root: Path, size: tuple[int, int] = IMAGE_SIZE) -> None:
        self.root, self.size = root, size
        self.rng = np.random.default_rng(0)

    def image(self, path: str) -> None:
        self._write(path, self.rng.integers(0, 256, (*self.size, 3), np.uint8))

    def blocks(self, path: str, values: Sequence[int] | None = None) -> np.ndarray:
        """A label with blocks of 8x8 pixels of the values, in turn; by default a plane that spans 0..255."""
        blocks = np.empty((self.size[0] // 8, self.size[1] // 8), np.uint8)
        blocks.flat = np.linspace(0, 255, blocks.size) if values is None else np.resize(values, blocks.size)
        self.rng.shuffle(blocks.reshape(-1))
        label = np.kron(blocks, np.ones((8, 8), np.uint8))
        self._write(path, label)
        return label

    def maps(self, folder: str, image: str, kinds: Sequence[str] = MAP_KINDS) -> None:
        """The maps of an image, named by its path without suffix below the folder of images."""
        self.image(f'{folder}/synthesis/{image}.png')
        for kind in kinds[1:]:
            self.blocks(f'{folder}/{kind}/{image}.png', [0, 2, 10, 18, 255] if kind == 'semantic' else None)

    def cityscapes(self, folder: str, maps: str, suffix: str = 'png') -> None:
        for split in ('train', 'val'):
            for i in range(NUM_IMAGES):
                name = f'{split}/aachen/aachen_{i:06d}_000019'
                self.image(f'{folder}/leftImg8bit/{name}_leftImg8bit.{suffix}')
                ids = self.blocks(f'{folder}/gtFine/{name}_gtFine_labelIds.png', range(34))
                self._write(f'{folder}/gtFine/{name}_gtFine_labelTrainIds.png', label_id_to_train_id()[ids])
                if split == 'train':
                    self.maps(maps, f'{name[6:]}_leftImg8bit')

    def composites(self, folder: str, maps: str) -> None:
        for i in range(NUM_IMAGES):
            name = f'aachen/aachen_{i:06d}_000019'
            self.image(f'{folder}/leftImg8bit/train/{name}_leftImg8bit.png')
            self.blocks(f'{folder}/gtFine/train/{name}_gtFine_anomaly.png', [0, 1, 255])
            self.maps(maps, f'{name}_leftImg8bit')

    def swapped(self, folder: str, uncertainty: bool = False) -> None:
        for i in range(NUM_IMAGES):
            name = f'aachen/aachen_{i:06d}_000019'
            self.maps(folder, f'{name}_leftImg8bit', MAP_KINDS if uncertainty else REQUIRED_KINDS)
            self.blocks(f'{folder}/labels/{name}_gtFine_anomaly.png', [0, 1, 255])

    def road_anomaly(self, folder: str) -> None:
        names = [f'animals{i:02d}_somewhere' for i in range(NUM_IMAGES)]
        for name in names:
            self.image(f'{folder}/frames/{name}.jpg')
            self.blocks(f'{folder}/frames/{name}.labels/labels_semantic.png', [0, 2])
        (self.root / folder / 'frame_list.json').write_text(json.dumps([f'{name}.jpg' for name in names]))

    def fishyscapes(self, folder: str) -> None:
        for i in range(NUM_IMAGES):
            self.image(f'{folder}/original/{i}.png')
            self.blocks(f'{folder}/labels/{i}.png', [0, 1, 255])

    def smiyc(self, folder: str, validation: str, test: Sequence[str], suffix: str) -> None:
        for name in [validation % i for i in range(NUM_IMAGES)]:
            self.image(f'{folder}/images/{name}.{suffix}')
            self.blocks(f'{folder}/labels_masks/{name}_labels_semantic.png', [0, 1, 255])
            self.image(f'{folder}/labels_masks/{name}_labels_semantic_color.png')
        for name in test:
            self.image(f'{folder}/images/{name}.{suffix}')

    def lost_and_found(self, folder: str) -> None:
        """All frames of the test set are links to one image and one label."""
        self.image(f'{folder}/image.png')
        self.blocks(f'{folder}/label.png', [0, 1, 2, 200])
        for sequence, frames in LOST_AND_FOUND.items():
            recording = sequence[:-7]
            for source, kind, suffix in (('image', 'leftImg8bit', 'leftImg8bit'), ('label', 'gtCoarse',
                                                                                   'gtCoarse_labelIds')):
                target = self.root / folder / kind / 'test' / recording
                target.mkdir(parents=True, exist_ok=True)
                for i in range(frames):
                    os.link(self.root / folder / f'{source}.png', target / f'{sequence}_{i:06d}_{suffix}.png')

    def synboost(self, folder: str) -> None:
        for i in range(NUM_IMAGES):
            for kind in ('original', 'synthesis'):
                self.image(f'{folder}/{kind}/{i}.png')
            for kind in ('entropy', 'mae_features', 'logit_distance'):
                self.blocks(f'{folder}/{kind}/{i}.png')
            self.blocks(f'{folder}/semantic/{i}.png', [0, 2, 10, 18, 255])
            self.blocks(f'{folder}/labels/{i}.png', [0, 1])
            self.blocks(f'{folder}/labels_with_void_no_ego/{i}.png', [0, 1, 255])

    def coco(self, folder: str, ann_file: str, images: str) -> None:
        height, width = self.size
        right, bottom = width - 8, height - 4
        polygon = [8, 4, right, 4, right, bottom, 8, bottom]
        area = (right - 8) * (bottom - 4)
        content = dict(
            images=[dict(id=1, file_name='000000000001.jpg', height=height, width=width)],
            categories=[dict(id=1, name='person'), dict(id=21, name='cow')],
            annotations=[
                dict(
                    id=category,
                    image_id=1,
                    category_id=category,
                    iscrowd=0,
                    area=area,
                    segmentation=[polygon],
                    bbox=[8, 4, right - 8, bottom - 4]) for category in (1, 21)
            ])
        self.image(f'{folder}/{images}/000000000001.jpg')
        # Nothing of Cityscapes' classes, and as large as the configs ask of images that are pasted as one.
        large = LayoutWriter(self.root, size=(480, 640))
        large.image(f'{folder}/{images}/000000000002.jpg')
        content['images'].append(dict(id=2, file_name='000000000002.jpg', height=480, width=640))
        content['annotations'].append(
            dict(
                id=22,
                image_id=2,
                category_id=21,
                iscrowd=0,
                area=480 * 640 // 2,
                bbox=[0, 0, 320, 480],
                segmentation=[[0, 0, 320, 0, 320, 480, 0, 480]]))
        path = self.root / folder / ann_file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

    def _write(self, path: str, array: np.ndarray) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(file), array)


def write_layouts(root: Path) -> None:
    """Write all data sets below ``root/data``."""
    writer = LayoutWriter(root / 'data')
    writer.cityscapes('cityscapes', maps='maps/cityscapes/train')
    writer.composites('anomaly_mix', maps='maps/anomaly_mix/train')
    writer.composites('anomaly_mix_single_objects', maps='maps/anomaly_mix_single_objects/train')
    writer.cityscapes('cityscapes256', maps='maps/cityscapes256/train', suffix='jpg')
    writer.composites('anomaly_mix256', maps='maps/anomaly_mix256/train')
    writer.cityscapes('toy/cityscapes', maps='toy/maps/cityscapes')
    writer.composites('toy/anomaly_mix', maps='toy/maps/anomaly_mix')
    writer.synboost('synboost/train')
    for folder in ('swapped/cityscapes/train', 'swapped/cityscapes_spade/train', 'swapped/cityscapes256/train',
                   'swapped/cityscapes256_pix2pixhd/train', 'toy/swapped', 'toy/swapped_pix2pixhd'):
        writer.swapped(folder)
    for folder in ('swapped/cityscapes_synboost/train', 'swapped/cityscapes256_synboost/train', 'toy/swapped_synboost'):
        writer.swapped(folder, uncertainty=True)
    for folder in ('fishyscapes/LostAndFound', 'fishyscapes/Static', 'toy/fishyscapes'):
        writer.fishyscapes(folder)
    for folder in ('road_anomaly', 'toy/road_anomaly'):
        writer.road_anomaly(folder)
    writer.smiyc('smiyc/dataset_AnomalyTrack', 'validation%04d', ['zebra0000', 'tractor0005'], 'jpg')
    writer.smiyc('smiyc/dataset_ObstacleTrack', 'validation_%d', ['gravel_bag_3', 'driveway_1'], 'webp')
    writer.lost_and_found('lost_and_found')
    # The configs leave out objects of fewer than 1500 (toy: 200) pixels.
    objects = LayoutWriter(root / 'data', size=(64, 96))
    objects.coco('coco', 'annotations/instances_train2017.json', 'train2017')
    objects.coco('coco_objects', 'annotations/instances.json', 'images')
    objects.coco('toy/coco', 'annotations/instances.json', 'images')
