# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""VoidClass, AnomalyMix, ready composites and their domains."""
import json
import os
import pickle
import random
import runpy
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch.utils.data import DataLoader

from mgcda.datasets import (
    AnomalyMixDataset,
    CocoObjects,
    CompositeDataset,
    LoadDissimilarityMaps,
    MultiDomainDataset,
    PasteObjects,
    SampleKey,
    VoidClassDataset,
    keyed_random,
)
from mgcda.labels import CITYSCAPES_TRAIN_LABEL_IDS

LOAD = [dict(type='LoadImage'), dict(type='LoadAnomalyAnnotations', keep_label_ids=True)]
FINISH = [dict(type='RandomFlip', prob=0.5), dict(type='PackDissimilarityInputs')]
PIPELINE = LOAD + [dict(type='PasteObjects')] + FINISH


def plain(pipeline=None):
    """Loading without keeping label ids."""
    return [dict(type='LoadImage'), dict(type='LoadAnomalyAnnotations')] + FINISH if pipeline is None else pipeline


def void_class(root, **kwargs):
    return VoidClassDataset(data_root=str(root), **{'pipeline': plain(), **kwargs})


def anomaly_mix(root, objects, **kwargs):
    return AnomalyMixDataset(data_root=str(root), objects=objects, **{'pipeline': PIPELINE, **kwargs})


# ---------------------------------------------------------------- VoidClass


def test_void_class_default_follows_the_paper(cityscapes):
    dataset = void_class(cityscapes, pipeline=LOAD)
    results = dataset[0]
    ids, target = results['label_ids'], results['gt_seg_map']
    for i in range(34):
        expected = 1 if i in (4, 5) else 0 if i in CITYSCAPES_TRAIN_LABEL_IDS else 255
        assert np.unique(target[ids == i]).tolist() == [expected], i
    assert len(dataset) == 6 and results['domain'] == 0 and results['dataset_name'] == 'VoidClass'


def test_void_class_options(cityscapes):
    results = void_class(cityscapes, pipeline=LOAD, anomaly_ids=(4, 26), ignore_ids=(0, 1, 2, 3))[0]
    ids, target = results['label_ids'], results['gt_seg_map']
    found = {i: int(target[ids == i][0]) for i in (0, 3, 4, 5, 7, 26, 33)}
    assert found == {0: 255, 3: 255, 4: 1, 5: 0, 7: 0, 26: 1, 33: 0}


def test_void_class_of_synboost(cityscapes):
    results = void_class(cityscapes, pipeline=LOAD, anomaly_ids='synboost')[0]
    ids, target = results['label_ids'], results['gt_seg_map']
    for i in range(34):
        expected = 1 if i in (0, 2, 3, 4, 29, 30) else 0 if i in CITYSCAPES_TRAIN_LABEL_IDS else 255
        assert np.unique(target[ids == i]).tolist() == [expected], i  # the ego vehicle, 1, is ignored


def test_void_class_among_classes(cityscapes):
    results = void_class(cityscapes, pipeline=LOAD, targets='classes', anomaly_ids=(4, 26), ignore_ids=(0, 33))[0]
    ids, target = results['label_ids'], results['gt_seg_map']
    for i in range(34):
        known = i in CITYSCAPES_TRAIN_LABEL_IDS and i not in (26, 33)
        expected = 254 if i in (4, 26) else CITYSCAPES_TRAIN_LABEL_IDS.index(i) if known else 255
        assert np.unique(target[ids == i]).tolist() == [expected], i


@pytest.mark.parametrize('options, message', [
    (dict(anomaly_ids='void'), r"anomaly_ids must be label ids or one of \['objects', 'synboost'\], got 'void'"),
    (dict(targets='class'), "targets must be 'binary' or 'classes', got 'class'"),
    (dict(anomaly_ids=(4, 34)), r'anomaly_ids must be label ids of Cityscapes \(0..33\), got \[34\]'),
    (dict(ignore_ids=(255, )), r'ignore_ids must be .* got \[255\]'),
    (dict(anomaly_ids=(4, 5), ignore_ids=(5, 6)), r'label ids \[5\] are both'),
    (dict(label_map={0: 0}), 'takes no label_map'),
    (dict(reduce_zero_label=True), 'reduce_zero_label'),
    (dict(pair_by='luck'), 'pair_by'),
])
def test_void_class_wrong_options(cityscapes, options, message):
    with pytest.raises(ValueError, match=message):
        void_class(cityscapes, **options)


def test_jpeg_images_are_found(cityscapes, write_image):
    image = cityscapes / 'leftImg8bit/train/a/a_0_leftImg8bit.png'
    write_image(image.with_suffix('.jpg'), cv2.imread(str(image)))
    with pytest.raises(ValueError, match='two images of the same name'):
        void_class(cityscapes)
    image.unlink()
    assert void_class(cityscapes).get_data_info(0)['img_path'].endswith('a_0_leftImg8bit.jpg')


def test_missing_folder_and_empty_folder(cityscapes, tmp_path):
    with pytest.raises(FileNotFoundError, match='folder of images not found: .*nowhere'):
        void_class(tmp_path / 'nowhere')
    (tmp_path / 'e/leftImg8bit/train').mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match='no images in .*_leftImg8bit.png'):
        void_class(tmp_path / 'e')


def test_files_that_do_not_pair_up(cityscapes):
    (cityscapes / 'gtFine/train/a/a_2_gtFine_labelIds.png').unlink()
    (cityscapes / 'leftImg8bit/train/b/b_3_leftImg8bit.png').unlink()
    message = ('1 images without label file: a/a_2_leftImg8bit.png; '
               '1 label files without image: b/b_3_gtFine_labelIds.png')
    with pytest.raises(ValueError, match=message):
        void_class(cityscapes)


def test_ann_file_selects(cityscapes, tmp_path):
    (tmp_path / 'split.txt').write_text('b/b_1\na/a_4\n')
    dataset = void_class(cityscapes, ann_file=str(tmp_path / 'split.txt'))
    assert [os.path.basename(dataset.get_data_info(i)['img_path'])[:3] for i in range(len(dataset))] == ['a_4', 'b_1']
    (tmp_path / 'split.txt').write_text('b/b_1\na/zebra\n')
    with pytest.raises(FileNotFoundError, match='a/zebra'):
        void_class(cityscapes, ann_file=str(tmp_path / 'split.txt'))


def test_maps(cityscapes, tmp_path, write_maps):
    names = [f'{"ab"[i % 2]}/{"ab"[i % 2]}_{i}_leftImg8bit.png' for i in range(6)]
    with pytest.raises(FileNotFoundError, match='maps_root not found'):
        void_class(cityscapes, maps_root=str(tmp_path / 'maps'))
    write_maps(tmp_path / 'maps', names)
    pipeline = [dict(type='LoadImage'), dict(type='LoadDissimilarityMaps'), dict(type='PackDissimilarityInputs')]
    dataset = void_class(cityscapes, maps_root=str(tmp_path / 'maps'), pipeline=pipeline)
    # sorted: a_0, a_2, a_4, b_1, ...; the semantic map of image i holds i + 1
    assert [int(dataset[i]['inputs'][6, 0, 0]) for i in range(6)] == [1, 3, 5, 2, 4, 6]
    (tmp_path / 'maps/entropy' / names[3]).unlink()
    with pytest.raises(ValueError, match='1 maps are missing .*entropy/b/b_3_leftImg8bit.png .*make_maps.py'):
        void_class(cityscapes, maps_root=str(tmp_path / 'maps'))


def test_maps_without_uncertainty(cityscapes, tmp_path, write_maps):
    names = [f'{"ab"[i % 2]}/{"ab"[i % 2]}_{i}_leftImg8bit.png' for i in range(6)]
    write_maps(tmp_path / 'maps', names)
    for kind in ('entropy', 'perceptual', 'distance'):
        shutil.rmtree(tmp_path / 'maps' / kind)
    kinds = ['semantic', 'synthesis']
    pipeline = [
        dict(type='LoadImage'),
        dict(type='LoadDissimilarityMaps', kinds=kinds),
        dict(type='PackDissimilarityInputs')
    ]
    dataset = void_class(cityscapes, maps_root=str(tmp_path / 'maps'), map_kinds=kinds, pipeline=pipeline)
    assert [int(dataset[i]['inputs'][6, 0, 0]) for i in range(6)] == [1, 3, 5, 2, 4, 6]
    assert dataset[0]['inputs'].shape[0] == 10 and not dataset[0]['inputs'][7:].any()
    with pytest.raises(ValueError, match='18 maps are missing'):
        void_class(cityscapes, maps_root=str(tmp_path / 'maps'))
    (tmp_path / 'maps/semantic' / names[3]).unlink()
    with pytest.raises(ValueError, match='1 maps are missing .*semantic/b/b_3_leftImg8bit.png'):
        void_class(cityscapes, maps_root=str(tmp_path / 'maps'), map_kinds=kinds)
    for wrong in (['semantic'], [*kinds, 'depth']):
        with pytest.raises(ValueError, match='map_kinds must hold'):
            void_class(cityscapes, map_kinds=wrong)
        with pytest.raises(ValueError, match='kinds must hold'):
            LoadDissimilarityMaps(kinds=wrong)


# ---------------------------------------------------------------- COCO objects


def test_objects_are_selected(coco):
    objects = CocoObjects(**coco[0])
    # ten cows: not the crowd, not the small one, not the car, which Cityscapes knows
    assert len(objects) == 10
    assert len(CocoObjects(**coco[0], categories=['car', 'cow'])) == 11
    assert len(CocoObjects(**{**coco[0], 'min_area': 1})) == 11


def test_crop_is_the_object(coco):
    args, content = coco
    pixels, mask = CocoObjects(**args).crop(4)
    image = cv2.imread(f'{args["data_root"]}/images/4.jpg')
    np.testing.assert_array_equal(pixels, image[10:30, 10:30])
    # the polygon is the upper right triangle of the box
    inside = np.triu(np.ones((20, 20), bool), 2)
    outside = np.tril(np.ones((20, 20), bool), -2)
    assert mask[inside].all() and not mask[outside].any() and set(np.unique(mask)) == {0, 1}


def test_mask_of_a_scaled_object_stays_on_its_pixels(coco):
    args, content = coco
    mask = np.zeros((40, 60), np.uint8, order='F')
    mask[7:33, 16:44] = 1
    counts = coco_mask.encode(mask)['counts'].decode()
    segmentation = dict(size=[40, 60], counts=counts)
    content['annotations'] = [dict(content['annotations'][0], bbox=[0, 0, 60, 40], area=728, segmentation=segmentation)]
    with open(f'{args["data_root"]}/instances.json', 'w') as file:
        json.dump(content, file)
    scaled = CocoObjects(**args).crop(0, (12, 8))[1]
    assert scaled.any()
    np.testing.assert_array_equal(scaled, scaled[::-1, ::-1])  # in the middle, as the mask is


@pytest.mark.parametrize('compressed', [False, True])
def test_run_length_masks(coco, compressed):
    args, content = coco
    mask = np.zeros((40, 60), np.uint8, order='F')
    mask[12:20, 15:25] = 1
    runs = np.diff(np.flatnonzero(np.diff(mask.flatten('F'), prepend=1 - mask[0, 0], append=2)))
    rle = coco_mask.encode(mask)
    for annotation in content['annotations']:
        counts = rle['counts'].decode() if compressed else runs.tolist()
        annotation['segmentation'] = dict(size=[40, 60], counts=counts)
    with open(f'{args["data_root"]}/instances.json', 'w') as file:
        json.dump(content, file)
    np.testing.assert_array_equal(CocoObjects(**args).crop(0)[1], mask[10:30, 10:30])


def test_cache_is_bounded_and_changes_nothing(coco):
    uncached, cached = (CocoObjects(**coco[0], cache_mb=mb) for mb in (0, 0.004))
    for index in (0, 1, 0, 2, 3, 1, 0):
        for a, b in zip(uncached.crop(index, (7, 9)), cached.crop(index, (7, 9))):
            np.testing.assert_array_equal(a, b)
    assert not uncached._cache and 0 < len(cached._cache) < 4
    pixels, _ = cached.crop(0)
    pixels[:] = 0
    assert cached.crop(0)[0].any()
    assert not pickle.loads(pickle.dumps(cached))._cache


def rewrite(args, text):
    with open(f'{args["data_root"]}/instances.json', 'w') as file:
        file.write(text)


def test_broken_annotation_files(coco):
    args, content = coco
    text = json.dumps(content)
    for broken, message in ((text[:len(text) // 2], 'instances.json is not valid JSON'), ('[]', "no list 'images'"),
                            (json.dumps({
                                **content, 'annotations': {}
                            }), "no list 'annotations'"), (json.dumps({
                                **content, 'images': []
                            }), 'instances.json is broken'), (json.dumps({
                                **content, 'annotations': [dict(id=1, category_id=1)]
                            }), 'is broken'), (json.dumps({
                                **content, 'annotations': []
                            }), 'no usable instance'), (json.dumps({
                                **content, 'categories': [dict(id=2, name='car')]
                            }), 'no usable category')):
        rewrite(args, broken)
        with pytest.raises(ValueError, match=message):
            CocoObjects(**args)


def test_wrong_object_options(coco):
    args, _ = coco
    with pytest.raises(ValueError, match=r"categories \['zebra'\] are not in .*instances.json"):
        CocoObjects(**args, categories=['cow', 'zebra'])
    with pytest.raises(ValueError, match='no usable instance of at least 9999 pixels'):
        CocoObjects(**{**args, 'min_area': 9999})
    with pytest.raises(FileNotFoundError, match='annotation file not found'):
        CocoObjects(**{**args, 'ann_file': 'none.json'})
    with pytest.raises(FileNotFoundError, match='folder of COCO images'):
        CocoObjects(**{**args, 'img_path': 'none'})
    with pytest.raises(TypeError, match='list of names'):
        CocoObjects(**args, categories='cow')


def test_broken_coco_images(coco, write_image):
    from pathlib import Path
    args, _ = coco
    objects, path = CocoObjects(**args), Path(args['data_root']) / 'images/0.jpg'
    data = path.read_bytes()
    path.write_bytes(data[:len(data) // 2])
    with pytest.raises(ValueError, match='0.jpg is truncated'):
        objects.crop(0)
    write_image(path, np.zeros((41, 60, 3), np.uint8))
    with pytest.raises(ValueError, match='0.jpg is 60x41, but .* says 60x40'):
        objects.crop(0)
    path.unlink()
    with pytest.raises(FileNotFoundError, match='COCO image not found: .*0.jpg'):
        objects.crop(0)


def test_broken_mask(coco):
    args, content = coco
    content['annotations'][0]['segmentation'] = [[-50, -50, -40, -50, -40, -40]]
    rewrite(args, json.dumps(content))
    with pytest.raises(ValueError, match='mask of annotation 100 is empty'):
        CocoObjects(**args).crop(0)


# ---------------------------------------------------------------- pasting


@pytest.mark.parametrize('position', ['anywhere', 'ground', 'road'])
def test_pasting_changes_nothing_outside_the_masks(cityscapes, coco, position):
    paste = dict(type='PasteObjects', num_objects=(2, 4), scale=(0.2, 1.5), position=position)
    dataset = anomaly_mix(cityscapes, coco[0], pipeline=LOAD + [paste])
    untouched = VoidClassDataset(anomaly_ids=(), data_root=str(cityscapes), pipeline=LOAD)
    changed = 0
    for i in range(6):
        image, target = dataset.composite(SampleKey(i, 3, i))
        before = untouched[i]
        outside = target != 1
        np.testing.assert_array_equal(image[outside], before['img'][outside])
        np.testing.assert_array_equal(target[outside], before['gt_seg_map'][outside])
        assert 0 < (~outside).sum() < target.size and set(np.unique(target)) == {0, 1, 255}
        changed += (image[~outside] != before['img'][~outside]).mean()
    # the pixels are noise: inside the masks nearly all of them change
    assert changed / 6 > 0.9


def test_pasted_objects_are_outliers_among_classes(cityscapes, coco):
    paste = dict(type='PasteObjects', num_objects=2, scale=(0.2, 0.6))
    binary, classes = (
        anomaly_mix(cityscapes, coco[0], pipeline=LOAD + [paste], **options)
        for options in (dict(), dict(targets='classes')))
    train_ids = void_class(cityscapes, pipeline=LOAD, targets='classes', anomaly_ids=())
    for i in range(6):
        key = SampleKey(i, 3, i)
        image, target = classes.composite(key)
        same_image, marks = binary.composite(key)
        np.testing.assert_array_equal(image, same_image)
        np.testing.assert_array_equal(target == 254, marks == 1)
        np.testing.assert_array_equal(target[marks != 1], train_ids[i]['gt_seg_map'][marks != 1])
        np.testing.assert_array_equal(classes[key]['gt_seg_map'], target)
        assert 0 < (marks == 1).sum() < marks.size


class OneObject:
    """A white square of 10 pixels."""

    def __len__(self):
        return 1

    def box_size(self, index):
        return 10, 10

    def crop(self, index, size):
        return np.full((size[1], size[0], 3), 255, np.uint8), np.ones((size[1], size[0]), np.uint8)


def paste_square(**options):
    results = dict(
        img=np.zeros((100, 200, 3), np.uint8),
        gt_seg_map=np.full((100, 200), 255, np.uint8),
        objects=OneObject(),
        label_ids=np.zeros((100, 200), np.uint8),
        seg_fields=['gt_seg_map', 'label_ids'])
    results['label_ids'][60, 50:150] = 7
    results = PasteObjects(**{'num_objects': 1, 'max_upscale': 10, **options})(results)
    assert results['seg_fields'] == ['gt_seg_map'] and 'label_ids' not in results and 'objects' not in results
    np.testing.assert_array_equal(results['gt_seg_map'] == 1, results['img'][..., 0] == 255)
    rows, columns = np.nonzero(results['gt_seg_map'] == 1)
    return rows, columns


def test_number_scale_and_position():
    np.random.seed(0)
    feet, sizes = [], []
    for _ in range(100):
        rows, columns = paste_square(scale=(0.2, 0.4), position='anywhere')
        feet.append(rows.max())
        sizes.append(np.ptp(rows) + 1)
        assert np.ptp(columns) + 1 == sizes[-1]
    assert 20 <= min(sizes) < 24 and 36 < max(sizes) <= 40
    assert min(feet) < 45 and max(feet) > 90
    feet = [paste_square(scale=(0.2, 0.4), position='ground', horizon=0.5)[0].max() for _ in range(100)]
    assert 49 <= min(feet) < 60 and max(feet) > 90
    for _ in range(20):
        rows, columns = paste_square(scale=(0.2, 0.2), position='road')
        assert rows.max() == 60 and 50 <= columns.mean() + 1 <= 150
    assert len(paste_square(num_objects=0)[0]) == 0
    assert np.ptp(paste_square(scale=(0.9, 0.9), max_upscale=2)[0]) + 1 == 20
    assert np.ptp(paste_square(scale=(3, 3))[0]) + 1 == 100


@pytest.mark.parametrize('options', [
    dict(num_objects=(3, 1)),
    dict(num_objects=(-1, 1)),
    dict(num_objects=(0.5, 1)),
    dict(scale=(0, 1)),
    dict(scale=(2, 1)),
    dict(position='sky'),
    dict(horizon=1.5),
    dict(flip_prob=-1),
    dict(max_upscale=0)
])
def test_wrong_paste_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        PasteObjects(**options)


def test_paste_needs_objects_and_label_ids():
    results = dict(img=np.zeros((4, 4, 3), np.uint8), gt_seg_map=np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match='AnomalyMixDataset'):
        PasteObjects()(dict(results))
    with pytest.raises(ValueError, match='keep_label_ids=True'):
        PasteObjects(position='road')(dict(results, objects=OneObject()))


def test_anomaly_mix_wrong_options(cityscapes, coco):
    for options, message in ((dict(maps_root='maps'), 'CompositeDataset'), (dict(anomaly_ids=(4, )), 'anomaly_ids'),
                             (dict(pipeline=LOAD), 'PasteObjects')):
        with pytest.raises(ValueError, match=message):
            anomaly_mix(cityscapes, coco[0], **options)


@pytest.fixture
def scenes(coco):
    """Images of 60x40 pixels: of two cows, one of them a crowd, and a sheep; of a cow and a crowd of cars; of a cow and
    one pixel of a person; of a sheep, larger. Returns the arguments of CocoObjects, and the first objects' pixels."""
    args, content = coco
    masks = np.zeros((3, 40, 60), np.uint8)
    masks[0, 2:6, 5:12] = masks[1, 20:38, 30:44] = masks[2, 10:24, 40:55] = 1
    other, dot = np.zeros_like(masks[0]), np.zeros_like(masks[0])
    other[:9, :9] = dot[1, 1] = 1
    cow, car, sheep, person = 1, 2, 3, 4
    content['categories'] += [dict(id=sheep, name='sheep'), dict(id=person, name='person')]
    content['annotations'] = []
    for image, category, mask, crowd in ((0, cow, masks[0], 0), (0, cow, masks[1], 1), (0, sheep, masks[2], 0),
                                         (1, cow, other, 0), (1, car, masks[1], 1), (2, cow, other, 0),
                                         (2, person, dot, 0), (3, sheep, other, 0)):
        code = coco_mask.encode(np.asfortranarray(mask))
        content['annotations'].append(
            dict(
                id=len(content['annotations']),
                image_id=image,
                category_id=category,
                iscrowd=crowd,
                area=int(mask.sum()),
                bbox=coco_mask.toBbox(code).tolist(),
                segmentation=dict(size=[40, 60], counts=code['counts'].decode())))
    rewrite(args, json.dumps(content))
    return {**args, 'min_area': None, 'unit': 'image', 'min_side': 1}, masks.any(0)


def test_all_instances_of_an_image_are_one_object(scenes):
    args, mask = scenes
    objects = CocoObjects(**args)
    # neither the image with a crowd of cars, nor the one in which a person has one pixel
    assert sorted(map(os.path.basename, objects.image_sizes())) == ['0.jpg', '3.jpg'] and len(objects) == 2
    np.testing.assert_array_equal(objects.mask(0), mask)
    pixels, cut = objects.crop(0)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    np.testing.assert_array_equal(cut, mask[window])
    np.testing.assert_array_equal(pixels, cv2.imread(f'{args["data_root"]}/images/0.jpg')[window])
    assert len(CocoObjects(**{**args, 'categories': ['cow', 'sheep', 'car']})) == 3
    assert len(CocoObjects(**{**args, 'min_area': 82})) == 1 and len(CocoObjects(**{**args, 'min_side': 40})) == 2
    assert len(CocoObjects(**{**args, 'unit': 'instance', 'min_area': 1})) == 5
    for options, message in ((dict(min_side=None), 'no usable image .* at least 480 pixels in height and width'),
                             (dict(categories=['car']), 'no usable image'), (dict(unit='all'),
                                                                             "unit must be 'instance'"),
                             (dict(min_side=0), 'min_side must be'), (dict(pool_size=0), 'pool_size must be')):
        with pytest.raises(ValueError, match=message):
            CocoObjects(**{**args, **options})


def test_a_pool_is_drawn_once(coco):
    pools = [CocoObjects(**coco[0], pool_size=4) for _ in range(2)]
    assert len(pools[0]) == 4 and len(CocoObjects(**coco[0], pool_size=99)) == 10
    assert pools[0].image_sizes() == pools[1].image_sizes() != dict(
        list(CocoObjects(**coco[0]).image_sizes().items())[:4])


@pytest.mark.parametrize('reference_height, factor', [(48, 1.0), (96, 0.5)])
def test_recipe_of_pebal(cityscapes, scenes, reference_height, factor):
    """One object that keeps its own size, in proportion to the street, anywhere, and nothing else changes."""
    args, mask = scenes
    paste = dict(type='PasteObjects', num_objects=1, scale='own', reference_height=reference_height, flip_prob=0)
    dataset = anomaly_mix(cityscapes, args, pipeline=LOAD + [paste])
    streets = VoidClassDataset(anomaly_ids=(), data_root=str(cityscapes), pipeline=LOAD)
    places = set()
    for position in range(24):
        image, target = dataset.composite(SampleKey(position % 6, 3, position))
        pasted = target == 1
        rows, columns = np.flatnonzero(pasted.any(1)), np.flatnonzero(pasted.any(0))
        # of the two objects, the first has 474 pixels, the second 81
        own = dataset.objects.crop(int(pasted.sum() < 100 * factor**2))
        if factor == 1:
            window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            np.testing.assert_array_equal(pasted[window], own[1])
            np.testing.assert_array_equal(image[pasted], own[0][own[1] > 0])
        else:
            assert pasted.sum() == pytest.approx(own[1].sum() * factor**2, rel=0.25)
        before = streets[position % 6]
        np.testing.assert_array_equal(image[~pasted], before['img'][~pasted])
        np.testing.assert_array_equal(target[~pasted], before['gt_seg_map'][~pasted])
        places.add((rows[0], columns[0]))
    assert len(places) > 12
    for options, message in ((dict(scale='its own'), "scale must be .* or 'own'"), (dict(reference_height=0),
                                                                                    'reference_height must be')):
        with pytest.raises(ValueError, match=message):
            PasteObjects(**options)


def test_what_is_larger_than_the_street_is_shrunk_to_fit():
    rows, columns = paste_square(scale='own', reference_height=5, flip_prob=0)
    assert np.ptp(rows) == np.ptp(columns) == 99 and len(rows) == 100 * 100  # 20 times its 10 pixels would be 200


# ---------------------------------------------------------------- keys and domains


def flat(sample):
    return sample['inputs'].numpy().tobytes(), sample['data_samples'].gt_sem_seg.data.numpy().tobytes()


def test_a_sample_is_a_function_of_its_key(cityscapes, coco):
    dataset = MultiDomainDataset([void_class(cityscapes), anomaly_mix(cityscapes, coco[0])])
    assert dataset.domain_sizes == (6, 6)
    key = SampleKey(8, 5, 70)
    first = flat(dataset[key])
    np.random.seed(9), random.seed(9), torch.manual_seed(9)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    assert flat(dataset[pickle.loads(pickle.dumps(key))]) == first
    assert random.getstate() == states[0] and torch.equal(torch.get_rng_state(), states[2])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])
    assert flat(dataset[SampleKey(8, 6, 70)]) != first and flat(dataset[SampleKey(8, 5, 71)]) != first
    assert flat(dataset[8]) == flat(dataset[SampleKey(8, 0, 8)])
    # the same composite without the wrapper, and in test mode also by a plain index
    alone = anomaly_mix(cityscapes, coco[0], test_mode=True)
    assert flat(alone[3]) == flat(alone[SampleKey(3, 0, 3)])
    assert [dataset[i]['data_samples'].domain for i in (0, 5, 6, 11)] == [0, 0, 1, 1]
    with pytest.raises(IndexError, match='index 12'):
        dataset[12]


def test_keyed_random_restores_after_errors():
    state = np.random.get_state()[1].copy()
    with pytest.raises(RuntimeError):
        with keyed_random(SampleKey(1)):
            np.random.random()
            raise RuntimeError
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_workers_change_nothing(cityscapes, coco):
    dataset = MultiDomainDataset([void_class(cityscapes), anomaly_mix(cityscapes, coco[0])])
    keys = [SampleKey(i % 12, 4, 100 + i) for i in range(16)]
    rows = [[
        flat(sample) for batch in DataLoader(dataset, batch_size=4, sampler=keys, num_workers=workers, collate_fn=list)
        for sample in batch
    ] for workers in (0, 2)]
    assert len(rows[0]) == 16 and rows[0] == rows[1]


def test_domains_must_differ(cityscapes):
    with pytest.raises(ValueError, match=r'must differ, got \[0, 0\]'):
        MultiDomainDataset([void_class(cityscapes), void_class(cityscapes)])
    assert MultiDomainDataset([void_class(cityscapes), void_class(cityscapes, domain=1)]).domain_sizes == (6, 6)
    with pytest.raises(ValueError, match='at least one'):
        MultiDomainDataset([])


# ---------------------------------------------------------------- ready composites

TOOL = os.path.join(os.path.dirname(__file__), '..', '..', 'tools', 'dataset_converters', 'make_anomaly_mix.py')


def write_config(path, cityscapes, coco):
    dataset = dict(type='AnomalyMixDataset', data_root=str(cityscapes), objects=coco[0], pipeline=PIPELINE)
    path.write_text(f'train_dataloader = dict(dataset=dict(datasets=[{dataset!r}]))')


def run_tool(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', [TOOL, *map(str, arguments), '--workers', '0'])
    runpy.run_path(TOOL, run_name='__main__')


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_composites_are_written_resumed_and_read(cityscapes, coco, tmp_path, monkeypatch, capsys):
    write_config(tmp_path / 'mix.py', cityscapes, coco)
    run_tool(monkeypatch, tmp_path / 'mix.py', tmp_path / 'one', '--seed', '3')
    assert '6 of 6 composites written' in capsys.readouterr().out
    files = content(tmp_path / 'one')
    assert len(files) == 2 * 6 + 1

    composites = CompositeDataset(
        data_root=str(tmp_path / 'one'), pipeline=[dict(type='LoadImage'),
                                                   dict(type='LoadAnomalyAnnotations')])
    online = anomaly_mix(cityscapes, coco[0])
    for i in range(6):
        image, target = online.composite(SampleKey(i, 3, i))
        np.testing.assert_array_equal(composites[i]['img'], image)
        np.testing.assert_array_equal(composites[i]['gt_seg_map'], target)
    assert composites[0]['domain'] == 1 and composites[0]['dataset_name'] == 'AnomalyMix'

    # interrupted between the label and the image of a composite
    (tmp_path / 'one/leftImg8bit/train/a/a_2_leftImg8bit.png').unlink()
    run_tool(monkeypatch, tmp_path / 'mix.py', tmp_path / 'one', '--seed', '3')
    assert '1 of 6 composites written' in capsys.readouterr().out
    assert content(tmp_path / 'one') == files

    with pytest.raises(ValueError, match='composites of other settings'):
        run_tool(monkeypatch, tmp_path / 'mix.py', tmp_path / 'one', '--seed', '4')
    assert content(tmp_path / 'one') == files
    for part, kind in (('leftImg8bit', 'leftImg8bit'), ('gtFine', 'gtFine_anomaly')):  # of an image that is gone
        (tmp_path / f'one/{part}/train/a/a_7_{kind}.png').write_bytes(b'')
    run_tool(monkeypatch, tmp_path / 'mix.py', tmp_path / 'one', '--seed', '4', '--overwrite')
    assert content(tmp_path / 'one').keys() == files.keys()


@pytest.mark.slow
def test_composites_do_not_depend_on_the_number_of_processes(cityscapes, coco, tmp_path, monkeypatch, capsys):
    write_config(tmp_path / 'mix.py', cityscapes, coco)
    run_tool(monkeypatch, tmp_path / 'mix.py', tmp_path / 'one', '--repeats', '2')
    assert '12 of 12 composites written' in capsys.readouterr().out
    command = [
        sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2', '--standalone', TOOL,
        str(tmp_path / 'mix.py'),
        str(tmp_path / 'two'), '--repeats', '2', '--launcher', 'pytorch'
    ]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert result.returncode == 0, result.stderr
    assert '12 of 12 composites written' in result.stdout
    assert content(tmp_path / 'one') == content(tmp_path / 'two')
    assert len(CompositeDataset(data_root=str(tmp_path / 'two'))) == 12
