# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import os

import numpy as np
import pytest

from mgcda.datasets import SMIYCDataset

H, W = 8, 10
WITHOUT_LABELS = [dict(type='LoadImage'), dict(type='PackDissimilarityInputs')]
PIPELINE = [WITHOUT_LABELS[0], dict(type='LoadAnomalyAnnotations'), WITHOUT_LABELS[1]]
IMAGE = np.full((H, W, 3), 128, np.uint8)
LABEL = np.resize(np.array([0, 1, 255], np.uint8), (H, W))
ANOMALY_TRACK = ('airplane0000', 'validation0000', 'validation0001', 'zebra0001')
OBSTACLE_TRACK = ('curvy-street_bag_1', 'darkasphalt2_dog_5', 'driveway_104', 'motorway_bottles_k',
                  'snowstorm1_00_00_51.868', 'snowstorm2_00_02_30.667', 'validation_1', 'validation_2', 'validation_19',
                  'validation_20', 'validation_21')


@pytest.fixture
def anomaly_track(tmp_path, write_image):
    """The official folders, with labels of the validation images and what else lies beside them."""
    for name in ANOMALY_TRACK:
        write_image(tmp_path / f'images/{name}.jpg', IMAGE)
        if 'validation' in name:
            write_image(tmp_path / f'labels_masks/{name}_labels_semantic.png', LABEL)
            write_image(tmp_path / f'labels_masks/{name}_labels_semantic_color.png', IMAGE)
    return tmp_path


def names(dataset):
    return [os.path.basename(dataset.get_data_info(i)['img_path']) for i in range(len(dataset))]


def build(root, track='RoadAnomaly21', pipeline=PIPELINE, **settings):
    return SMIYCDataset(track, data_root=str(root), pipeline=pipeline, test_mode=True, **settings)


def test_validation_images_have_labels(anomaly_track):
    dataset = build(anomaly_track)
    assert names(dataset) == ['validation0000.jpg', 'validation0001.jpg']
    sample = dataset[1]['data_samples']
    np.testing.assert_array_equal(sample.gt_sem_seg.data[0].numpy(), LABEL)
    assert sample.dataset_name == 'RoadAnomaly21' and sample.labels_hidden is False
    assert dataset.num_official_images == 10 and build(anomaly_track, dataset_name='Own').num_official_images is None


@pytest.mark.parametrize('split, expected, number', [
    ('test', ['airplane0000.jpg', 'zebra0001.jpg'], 100),
    ('all', [f'{name}.jpg' for name in ANOMALY_TRACK], 110),
])
def test_hidden_labels(anomaly_track, split, expected, number):
    dataset = build(anomaly_track, split=split, pipeline=WITHOUT_LABELS)
    assert names(dataset) == expected and dataset.num_official_images == number
    sample = dataset[0]['data_samples']
    assert sample.labels_hidden is True and 'gt_sem_seg' not in sample and 'seg_map_path' not in sample
    with pytest.raises(ValueError, match='airplane0000.jpg of RoadAnomaly21 has no public label.*export_submission.py'):
        build(anomaly_track, split=split)[0]


def test_labels_of_test_images_are_refused(anomaly_track, write_image, tmp_path):
    write_image(anomaly_track / 'labels_masks/zebra0001_labels_semantic.png', LABEL)
    with pytest.raises(ValueError, match='1 labels in .* are of test images of RoadAnomaly21: zebra0001; the'):
        build(anomaly_track)
    # A test split never reads them.
    with pytest.raises(ValueError, match='has no public label'):
        build(anomaly_track, split='test')[1]
    masks = anomaly_track / 'labels_masks'
    os.rename(masks / 'zebra0001_labels_semantic.png', masks / 'zebra0001.png')
    with pytest.raises(ValueError, match='1 labels in .* are of test images of RoadAnomaly21: zebra0001'):
        build(anomaly_track)
    (masks / 'zebra0001.png').unlink()
    (anomaly_track / 'frames.txt').write_text('validation0000\nzebra0001\n')
    with pytest.raises(ValueError, match="not of the split 'val' of RoadAnomaly21: zebra0001; the labels of the test"):
        build(anomaly_track, ann_file='frames.txt')
    (anomaly_track / 'frames.txt').write_text('validation0001\n')
    assert names(build(anomaly_track, ann_file='frames.txt')) == ['validation0001.jpg']


@pytest.mark.parametrize('split, expected, number', [
    ('val', ['validation_1', 'validation_2', 'validation_20'], 30),
    ('test', ['curvy-street_bag_1', 'darkasphalt2_dog_5', 'motorway_bottles_k'], 327),
    ('test_snow', ['snowstorm1_00_00_51.868', 'snowstorm2_00_02_30.667'], 55),
    ('test_night', ['driveway_104'], 30),
    ('all', [name for name in OBSTACLE_TRACK if name not in ('validation_19', 'validation_21')], 442),
])
def test_obstacle_track(tmp_path, write_image, split, expected, number):
    for name in OBSTACLE_TRACK:
        write_image(tmp_path / f'images/{name}.webp', IMAGE)
        if 'validation' in name:
            write_image(tmp_path / f'labels_masks/{name}_labels_semantic.png', LABEL)
    dataset = build(tmp_path, 'RoadObstacle21', WITHOUT_LABELS, split=split)
    assert names(dataset) == sorted(f'{name}.webp' for name in expected)
    assert dataset.num_official_images == number
    assert dataset[0]['data_samples'].labels_hidden == (split != 'val')


@pytest.mark.parametrize('image, label', [
    ('images/0.png', 'labels_masks/0.png'),
    ('original/validation0000.jpg', 'labels/validation0000.png'),
    ('original/validation0000.png', 'labels/validation0000_labels_semantic.png'),
    ('images/validation/0000.png', 'labels_masks/validation/0000_labels_semantic.png'),
])
def test_repackagings(tmp_path, write_image, image, label):
    write_image(tmp_path / image, IMAGE)
    write_image(tmp_path / label, LABEL)
    for track in ('RoadAnomaly21', 'RoadObstacle21'):
        np.testing.assert_array_equal(build(tmp_path, track)[0]['data_samples'].gt_sem_seg.data[0].numpy(), LABEL)


def test_errors(anomaly_track):
    with pytest.raises(ValueError, match="track must be .* got 'AnomalyTrack'"):
        build(anomaly_track, 'AnomalyTrack')
    with pytest.raises(ValueError, match="split of RoadAnomaly21 must be one of .* got 'test_snow'"):
        build(anomaly_track, split='test_snow')
    with pytest.raises(ValueError, match='layout'):
        build(anomaly_track, layout='flat')
    with pytest.raises(FileNotFoundError, match="no image in .* of the split 'test_night'"):
        build(anomaly_track, 'RoadObstacle21', split='test_night')
    (anomaly_track / 'labels_masks/validation0001_labels_semantic.png').unlink()
    with pytest.raises(ValueError, match='1 images without label file: validation0001.jpg'):
        build(anomaly_track)
