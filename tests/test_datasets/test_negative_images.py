# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Images of another data set as negatives, alone and in batches with streets."""
import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.runner import Runner
from pycocotools import mask as coco_mask

from mgcda.datasets import AnomalyMixDataset, MultiDomainDataset, NegativeImageDataset, SampleKey, VoidClassDataset
from mgcda.labels import ANOMALY, IGNORE, OUTLIER

SIZE = (24, 48)
LOAD = [dict(type='LoadImage', color_type='color_ignore_orientation'), dict(type='LoadNegativeAnnotations')]
PIPELINE = LOAD + [
    dict(type='ResizeShortestEdge', scale=48, max_size=1000),
    dict(type='RandomCrop', crop_size=SIZE),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDissimilarityInputs')
]
STREETS = [dict(type='LoadImage'), dict(type='LoadAnomalyAnnotations'), dict(type='Resize', scale=SIZE[::-1])]


def build(coco, **settings):
    return NegativeImageDataset(data_root=coco[0]['data_root'], **{'pipeline': PIPELINE, **settings})


def targets(sample):
    return sample['data_samples'].gt_sem_seg.data.numpy()


@pytest.fixture
def masks(coco):
    """Two overlapping cows and a car in the first image, cows alone in the second; returns the pixels of the cows."""
    args, content = coco
    cows, car = np.zeros((3, 40, 60), np.uint8), np.zeros((40, 60), np.uint8)
    cows[0, 5:25, 10:30] = cows[1, 15:35, 20:50] = cows[2, ::2, 40:] = 1
    car[0:5] = 1
    content['annotations'] = []
    for image_id, category_id, mask in ((0, 1, cows[0]), (0, 2, car), (1, 1, cows[2]), (0, 1, cows[1])):
        code = coco_mask.encode(np.asfortranarray(mask))
        content['annotations'].append(
            dict(
                id=len(content['annotations']),
                image_id=image_id,
                category_id=category_id,
                iscrowd=0,
                area=int(mask.sum()),
                bbox=coco_mask.toBbox(code).tolist(),
                segmentation=dict(size=[40, 60], counts=code['counts'].decode())))
    write_annotations(args, content)
    return [(cows[0] | cows[1]) > 0, cows[2] > 0]


def write_annotations(args, content):
    with open(f'{args["data_root"]}/instances.json', 'w') as file:
        json.dump(content, file)


OBJECTS = dict(ann_file='instances.json', min_area=100)


@pytest.mark.parametrize('options, target', [(dict(), ANOMALY), (dict(targets='classes'), OUTLIER)])
def test_every_pixel_is_an_outlier(coco, options, target):
    dataset = build(coco, **options)
    assert len(dataset) == 13 and dataset.domain is None
    for index in (0, 12):
        sample = dataset[index]
        assert sample['inputs'].shape == (3, *SIZE) and (targets(sample) == np.full((1, *SIZE), target)).all()
        meta = sample['data_samples'].metainfo
        assert meta['dataset_name'] == 'Negatives' and 'domain' not in meta and meta['ori_shape'] == (40, 60)
    assert build(coco, domain=2)[0]['data_samples'].domain == 2


@pytest.mark.parametrize('options, target', [(dict(), ANOMALY), (dict(targets='classes'), OUTLIER)])
def test_pixels_of_unknown_objects_alone(coco, masks, options, target):
    dataset = build(coco, objects=OBJECTS, pipeline=LOAD, **options)
    assert [Path(results['img_path']).name for results in dataset] == ['0.jpg', '1.jpg']
    for results, mask in zip(dataset, masks):
        assert results['gt_seg_map'].dtype == np.uint8 and results['seg_fields'] == ['gt_seg_map']
        np.testing.assert_array_equal(results['gt_seg_map'], np.where(mask, target, IGNORE))
    cars = build(coco, objects=dict(OBJECTS, categories=['car']), pipeline=LOAD)
    assert len(cars) == 1 and (cars[0]['gt_seg_map'][:5] == 1).all() and (cars[0]['gt_seg_map'][5:] == IGNORE).all()


@pytest.mark.parametrize('targets, background', [('binary', 0), ('classes', 7), ('classes', IGNORE)])
def test_images_without_known_classes_alone(coco, masks, targets, background):
    """The first image shows a car beside its cows."""
    objects = dict(ann_file='instances.json', unit='image', min_side=1)
    dataset = build(coco, objects=objects, pipeline=LOAD, targets=targets, background=background)
    assert [Path(results['img_path']).name for results in dataset] == ['1.jpg']
    target = OUTLIER if targets == 'classes' else ANOMALY
    np.testing.assert_array_equal(dataset[0]['gt_seg_map'], np.where(masks[1], target, background))


def test_masks_move_with_the_image(coco, masks, write_image):
    """The images are white where their objects are."""
    for index, mask in enumerate(masks):
        image = np.where(mask[..., None], 255, 0).astype(np.uint8).repeat(3, axis=2)
        write_image(Path(coco[0]['data_root']) / f'images/{index}.jpg', image)
    dataset = build(coco, objects=OBJECTS, targets='classes')
    for position in range(4):
        sample = dataset[SampleKey(0, 3, position)]
        assert np.mean((sample['inputs'].numpy()[0] > 127) == (targets(sample)[0] == OUTLIER)) > 0.95


def test_a_batch_of_streets_and_negatives(cityscapes, coco):
    args = dict(data_root=str(cityscapes), targets='classes')
    pack = PIPELINE[-2:]
    void_class = VoidClassDataset(pipeline=STREETS + pack, **args)
    mix = AnomalyMixDataset(objects=coco[0], pipeline=STREETS + [dict(type='PasteObjects')] + pack, **args)
    dataset = MultiDomainDataset([void_class, mix, build(coco, targets='classes')])
    assert dataset.domain_sizes == (6, 6, 13)
    batches = []
    for workers in (0, 2):
        loader = Runner.build_dataloader(
            dict(
                dataset=dataset,
                batch_size=4,
                num_workers=workers,
                sampler=dict(type='DomainBalancedSampler', batch_size=4, num_per_domain=(2, 1, 1), seed=1)))
        batches.append(list(loader))
        assert len(batches[-1]) == 13
        for batch in batches[-1]:
            assert all(image.shape == (3, *SIZE) for image in batch['inputs'])
            assert [sample.get('domain') for sample in batch['data_samples']] == [0, 0, 1, None]
            assert (batch['data_samples'][3].gt_sem_seg.data == OUTLIER).all()
            assert all(IGNORE in sample.gt_sem_seg.data for sample in batch['data_samples'][:3])
    for first, second in zip(*batches):
        assert all((a == b).all() for a, b in zip(first['inputs'], second['inputs']))


def test_a_sample_is_a_function_of_its_key(coco):
    dataset = build(coco)
    draws = [dataset[key]['inputs'].numpy().tobytes() for key in (SampleKey(3, 1, 5), 3, SampleKey(3, 1, 5))]
    others = [dataset[SampleKey(3, 1, position)]['inputs'].numpy().tobytes() for position in range(4)]
    assert draws[0] == draws[2] and len({*others, draws[0]}) > 1


@pytest.mark.parametrize('settings, message', [
    (dict(targets='all'), "targets must be 'binary' or 'classes', got 'all'"),
    (dict(objects=OBJECTS, background=7), r'background must be 255 or one of \[0\]'),
    (dict(background=0), 'it needs objects'),
    (dict(label_map={0: 1}), 'takes no label_map: negative images have no labels and no maps'),
    (dict(maps_root='maps'), 'takes no maps_root'),
    (dict(objects=dict(OBJECTS, data_root='coco')), 'objects .* takes no data_root and no img_path'),
    (dict(objects=dict(OBJECTS, categories=['sheep'])), "categories \\['sheep'\\] are not in .*instances.json"),
])
def test_wrong_options(coco, settings, message):
    with pytest.raises(ValueError, match=message):
        build(coco, **settings)


def test_wrong_files_are_named(coco, masks, write_image, tmp_path):
    with pytest.raises(FileNotFoundError, match='folder of images not found: .*coco/photos'):
        build(coco, data_prefix=dict(img_path='photos'))
    with pytest.raises(FileNotFoundError, match='COCO annotation file not found: .*coco/no.json'):
        build(coco, objects=dict(ann_file='no.json'))
    (tmp_path / 'coco/images/1.jpg').write_text('moved')
    with pytest.raises(ValueError, match='images/1.jpg is truncated or no readable image'):
        build(coco, ann_file=str(_list(tmp_path, '1')))[0]
    write_image(tmp_path / 'coco/images/1.jpg', np.zeros((60, 40, 3), np.uint8))
    with pytest.raises(ValueError, match='1.jpg is 40x60, but its masks in .*instances.json are 60x40; load it with'):
        build(coco, objects=OBJECTS)[1]
    with pytest.raises(ValueError, match='none of the images in .*images shows an object of .*instances.json'):
        build(coco, objects=OBJECTS, ann_file=str(_list(tmp_path, '5')))
    coco[1]['annotations'][0]['segmentation']['size'] = [20, 60]
    write_annotations(*coco)
    with pytest.raises(ValueError, match='the mask of annotation 0 is'):
        build(coco, objects=OBJECTS)[0]


def test_other_data_sets_are_refused(cityscapes):
    dataset = VoidClassDataset(data_root=str(cityscapes), pipeline=LOAD)
    with pytest.raises(ValueError, match='LoadNegativeAnnotations needs a NegativeImageDataset'):
        dataset[0]


def _list(folder, *names):
    path = folder / 'names.txt'
    path.write_text('\n'.join(names))
    return path
