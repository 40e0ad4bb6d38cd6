# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
from mmengine.dataset import ConcatDataset

from mgcda.datasets import AnomalyDataset, ClassLabelDataset
from mgcda.labels import CITYSCAPES_CLASSES

H, W = 8, 10
PIPELINE = [
    dict(type='LoadImage'),
    dict(type='Resize', scale=(20, 16)),
    dict(type='LoadAnomalyAnnotations'),
    dict(type='PackDissimilarityInputs')
]
IMAGE = np.full((H, W, 3), 128, np.uint8)
#: Label ids of Cityscapes: road, building, bicycle; void, of which 255 is the licence plate.
LABEL_IDS = np.resize(np.array([7, 11, 33, 0, 6, 255], np.uint8), (H, W))
TRAIN_IDS = np.resize(np.array([0, 2, 18, 255, 255, 255], np.uint8), (H, W))


@pytest.fixture
def write_pair(tmp_path, write_image):

    def write(name, image='_leftImg8bit.png', label='_gtFine_labelIds.png', values=LABEL_IDS):
        write_image(tmp_path / f'leftImg8bit/val/{name}{image}', IMAGE)
        write_image(tmp_path / f'gtFine/val/{name}{label}', values)

    return write


def build(root, **settings):
    return ClassLabelDataset(data_root=str(root), pipeline=PIPELINE, test_mode=True, **settings)


def targets(sample):
    return sample['data_samples'].gt_sem_seg.data[0].numpy()


@pytest.mark.parametrize('suffix', ['_leftImg8bit.png', '_leftImg8bit.jpg'])
def test_labels_are_train_ids_at_the_original_size(tmp_path, write_pair, suffix):
    write_pair('ulm/ulm_0', suffix)
    write_pair('ulm/ulm_0', suffix, '_gtFine_labelTrainIds.png', TRAIN_IDS)
    for label_format in ('label_ids', 'train_ids'):
        sample = build(tmp_path, label_format=label_format)[0]
        np.testing.assert_array_equal(targets(sample), TRAIN_IDS)
        assert sample['inputs'].shape == (3, 16, 20)
        meta = sample['data_samples'].metainfo
        assert meta['label_classes'] == CITYSCAPES_CLASSES and meta['dataset_name'] == 'Cityscapes'
        assert meta['ori_shape'] == (H, W) and not meta['labels_hidden']


def test_other_data_sets_with_train_ids(tmp_path, write_image):
    write_image(tmp_path / 'images/a.jpg', IMAGE)
    write_image(tmp_path / 'masks/a.png', TRAIN_IDS)
    dataset = build(
        tmp_path,
        label_format='train_ids',
        dataset_name='BDD100K',
        img_suffix='.jpg',
        seg_map_suffix='.png',
        data_prefix=dict(img_path='images', seg_map_path='masks'))
    np.testing.assert_array_equal(targets(dataset[0]), TRAIN_IDS)
    assert dataset[0]['data_samples'].dataset_name == 'BDD100K' and dataset.num_official_images is None


def test_it_stands_beside_anomaly_data_sets(tmp_path, write_pair, write_image):
    write_pair('ulm/ulm_0')
    write_image(tmp_path / 'images/cow.png', IMAGE)
    write_image(tmp_path / 'labels/cow.png', np.resize(np.array([0, 1, 255], np.uint8), (H, W)))
    own = AnomalyDataset(data_root=str(tmp_path), pipeline=PIPELINE, test_mode=True)
    samples = list(ConcatDataset([own, build(tmp_path)]))
    assert [sample['data_samples'].get('label_classes') for sample in samples] == [None, CITYSCAPES_CLASSES]
    assert [set(np.unique(targets(sample))) for sample in samples] == [{0, 1, 255}, {0, 2, 18, 255}]


def test_the_number_of_official_images_is_known(tmp_path, write_pair):
    write_pair('ulm/ulm_0')
    assert build(tmp_path).num_official_images == 500
    assert build(tmp_path, dataset_name='Part').num_official_images is None


def test_wrong_files_are_named(tmp_path, write_pair, write_image):
    with pytest.raises(FileNotFoundError, match='folder of images not found: .*leftImg8bit/val'):
        build(tmp_path)
    write_pair('ulm/ulm_0')
    with pytest.raises(FileNotFoundError, match='no label files in .*_gtFine_labelTrainIds.png'):
        build(tmp_path, label_format='train_ids')
    write_image(tmp_path / 'leftImg8bit/val/ulm/ulm_1_leftImg8bit.png', IMAGE)
    with pytest.raises(ValueError, match='1 images without label file: ulm/ulm_1_leftImg8bit.png'):
        build(tmp_path)
    write_pair('ulm/ulm_1', values=np.full((H, W), 34, np.uint8))
    with pytest.raises(ValueError, match=r'ulm_1_gtFine_labelIds.png holds the values \[34\]'):
        build(tmp_path)[1]
    for name in ('ulm/ulm_0', 'ulm/ulm_1'):
        write_pair(name, label='_gtFine_labelTrainIds.png', values=LABEL_IDS)
    with pytest.raises(ValueError, match=r'holds the values \[33\]; this data set knows \[0, 1, .* 18, 255\] only'):
        build(tmp_path, label_format='train_ids')[0]


@pytest.mark.parametrize('settings, message', [
    (dict(label_format='colours'), r"label_format must be one of \('label_ids', 'train_ids'\), got 'colours'"),
    (dict(seg_map_suffix='_gtFine_labelTrainIds.png'), 'files _gtFine_labelTrainIds.png hold no label_ids: set the'),
    (dict(label_format='train_ids', seg_map_suffix='_gtFine_labelIds.png'), 'labelIds.png hold no train_ids'),
    (dict(label_map={7: 0}), 'ClassLabelDataset takes no label_map: set label_format'),
])
def test_wrong_settings_are_named(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        build(tmp_path, **settings)
