# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""RoadAnomaly, Fishyscapes and SynBoost's folders in their layouts."""
import json
import os
import re

import numpy as np
import pytest

from mgcda.datasets import AnomalyDataset, FishyscapesDataset, RoadAnomalyDataset, SMIYCDataset, SynBoostDataset
from mgcda.datasets.pairing import natural_order
from mgcda.labels import ANOMALY_METAINFO

H, W = 8, 10
PIPELINE = [dict(type='LoadImage'), dict(type='LoadAnomalyAnnotations'), dict(type='PackDissimilarityInputs')]
IMAGE = np.full((H, W, 3), 128, np.uint8)


def label_of(*values):
    return np.resize(np.array(values, np.uint8), (H, W))


def targets(sample):
    return sample['data_samples'].gt_sem_seg.data[0].numpy()


@pytest.fixture
def road_anomaly(tmp_path, write_image):
    for name in ('cow.jpg', 'tyre.png', 'extra.jpg'):
        write_image(tmp_path / 'frames' / name, IMAGE)
        stem = name.split('.')[0]
        write_image(tmp_path / f'frames/{stem}.labels/labels_semantic.png', label_of(0, 2))
        write_image(tmp_path / f'frames/{stem}.labels/labels_semantic_color.png', IMAGE)
    (tmp_path / 'frame_list.json').write_text(json.dumps(['tyre.png', 'cow.jpg']))
    return tmp_path


def test_road_anomaly_official(road_anomaly):
    dataset = RoadAnomalyDataset(data_root=str(road_anomaly), pipeline=PIPELINE, test_mode=True)
    assert [info['img_path'].split('/')[-1]
            for info in map(dataset.get_data_info, range(len(dataset)))] == ['cow.jpg', 'tyre.png']
    sample = dataset[0]
    np.testing.assert_array_equal(targets(sample), label_of(0, 1))
    assert sample['data_samples'].dataset_name == 'RoadAnomaly' and 'domain' not in sample['data_samples']
    assert dataset.metainfo['classes'] == ANOMALY_METAINFO['classes']


def test_road_anomaly_without_frame_list_takes_all(road_anomaly):
    (road_anomaly / 'frame_list.json').unlink()
    assert len(RoadAnomalyDataset(data_root=str(road_anomaly))) == 3


def test_road_anomaly_frame_list_errors(road_anomaly):
    (road_anomaly / 'frame_list.json').write_text(json.dumps(['cow.jpg', 'zebra.jpg']))
    with pytest.raises(FileNotFoundError, match='1 listed images are not in .*zebra'):
        RoadAnomalyDataset(data_root=str(road_anomaly))
    (road_anomaly / 'frame_list.json').write_text('[')
    with pytest.raises(ValueError, match='frame_list.json is not valid JSON'):
        RoadAnomalyDataset(data_root=str(road_anomaly))


def test_road_anomaly_value_outside_the_contract(road_anomaly, write_image):
    write_image(road_anomaly / 'frames/cow.labels/labels_semantic.png', label_of(0, 1, 2))
    with pytest.raises(ValueError, match=r'labels_semantic.png holds the values \[1\]'):
        RoadAnomalyDataset(data_root=str(road_anomaly), pipeline=PIPELINE, test_mode=True)[0]


def test_road_anomaly_image_without_label(road_anomaly):
    (road_anomaly / 'frames/cow.labels/labels_semantic.png').unlink()
    with pytest.raises(ValueError, match='1 images without label file: cow.jpg'):
        RoadAnomalyDataset(data_root=str(road_anomaly))


def test_road_anomaly_repackaged(tmp_path, write_image):
    write_image(tmp_path / 'original' / 'cow.jpg', IMAGE)
    write_image(tmp_path / 'labels' / 'cow.png', label_of(0, 1))
    dataset = RoadAnomalyDataset(data_root=str(tmp_path), pipeline=PIPELINE, test_mode=True)
    assert dataset.layout == 'original'
    np.testing.assert_array_equal(targets(dataset[0]), label_of(0, 1))
    with pytest.raises(ValueError, match='layout'):
        RoadAnomalyDataset(data_root=str(tmp_path), layout='new')


def test_road_anomaly_in_folders_images_and_labels_masks(tmp_path, write_image):
    write_image(tmp_path / 'images' / 'cow.jpg', IMAGE)
    write_image(tmp_path / 'labels_masks' / 'cow.png', label_of(0, 2))
    dataset = RoadAnomalyDataset(data_root=str(tmp_path), pipeline=PIPELINE, test_mode=True)
    assert dataset.layout == 'images' and dataset.num_official_images == 60
    np.testing.assert_array_equal(targets(dataset[0]), label_of(0, 1))


@pytest.mark.parametrize('label_format, expected', [('fishyscapes', (0, 1, 255, 255, 255)),
                                                    ('lost_and_found', (255, 0, 1, 1, 255))])
def test_fishyscapes(tmp_path, write_image, label_format, expected):
    write_image(tmp_path / 'original' / '0.png', IMAGE)
    write_image(tmp_path / 'labels' / '0.png', label_of(0, 1, 2, 200, 255))
    dataset = FishyscapesDataset(
        data_root=str(tmp_path), label_format=label_format, dataset_name='FS_Static', pipeline=PIPELINE, test_mode=True)
    np.testing.assert_array_equal(targets(dataset[0]), label_of(*expected))
    assert dataset[0]['data_samples'].dataset_name == 'FS_Static'


@pytest.mark.parametrize(
    'image, label, options',
    [('images/0.jpg', 'labels_masks/0.png', {}),
     ('fs_static_images_v1/0000_lindau_000000_000019_rgb.png', 'fs_val_v1/0000_lindau_000000_000019_labels.png',
      dict(
          data_prefix=dict(img_path='fs_static_images_v1', seg_map_path='fs_val_v1'),
          img_suffix='_rgb.png',
          seg_map_suffix='_labels.png'))])
def test_fishyscapes_in_other_layouts(tmp_path, write_image, image, label, options):
    write_image(tmp_path / image, IMAGE)
    write_image(tmp_path / label, label_of(0, 1, 255))
    dataset = FishyscapesDataset(
        data_root=str(tmp_path), dataset_name='FS_Static', pipeline=PIPELINE, test_mode=True, **options)
    assert dataset.num_official_images == 30
    np.testing.assert_array_equal(targets(dataset[0]), label_of(0, 1, 255))


def test_fishyscapes_test_set_has_no_labels(tmp_path, write_image):
    for i in range(2):
        write_image(tmp_path / 'original' / f'{i}.png', IMAGE)
        write_image(tmp_path / 'labels' / f'{i}.png', label_of(0, 1))
    settings = dict(data_root=str(tmp_path), split='test', dataset_name='FS_LostAndFound', test_mode=True)
    dataset = FishyscapesDataset(pipeline=[PIPELINE[0], PIPELINE[2]], **settings)
    assert len(dataset) == 2 and dataset.num_official_images == 275
    sample = dataset[0]['data_samples']
    assert sample.labels_hidden is True and 'gt_sem_seg' not in sample
    with pytest.raises(ValueError, match='0.png of FS_LostAndFound has no public label.*export_submission.py'):
        FishyscapesDataset(pipeline=PIPELINE, **settings)[0]
    with pytest.raises(ValueError, match='split'):
        FishyscapesDataset(data_root=str(tmp_path), split='train')


def test_fishyscapes_labels_of_other_frames_are_refused(tmp_path, write_image):
    for name in ('0000_04_Maurener_Weg_8_000000_000030', '0001_07_Festplatz_Flugfeld_000000_000250'):
        write_image(tmp_path / 'original' / f'{name}.png', IMAGE)
        write_image(tmp_path / 'labels' / f'{name}.png', label_of(0, 1))
    with pytest.raises(ValueError, match='1 labels .* outside the public validation set: 0001_07_Fest.*are hidden'):
        FishyscapesDataset(data_root=str(tmp_path))
    # The masks of LostAndFound itself are public for all frames.
    assert len(FishyscapesDataset(data_root=str(tmp_path), label_format='lost_and_found')) == 2


def test_fishyscapes_errors(tmp_path, write_image):
    with pytest.raises(FileNotFoundError, match='folder of images not found'):
        FishyscapesDataset(data_root=str(tmp_path))
    write_image(tmp_path / 'original' / '0.png', IMAGE)
    write_image(tmp_path / 'labels' / '1.png', label_of(0))
    with pytest.raises(ValueError, match='1 images without label file: 0.png; 1 label files without image: 1.png'):
        FishyscapesDataset(data_root=str(tmp_path))
    with pytest.raises(ValueError, match='label_format'):
        FishyscapesDataset(data_root=str(tmp_path), label_format='smiyc')
    with pytest.raises(ValueError, match='dataset_name'):
        FishyscapesDataset(data_root=str(tmp_path), dataset_name='a/b')


@pytest.fixture
def fishyscapes_official(tmp_path, write_image):
    """Two labels, three images in folders by city, overlays that push one pixel over either end."""
    for name in ('04_Maurener_Weg_8_000000_000030', '04_Maurener_Weg_8_000000_000040',
                 '13_Elly_Beinhorn_Str_000001_000020'):
        write_image(tmp_path / f'leftImg8bit/test/{name[:-14]}/{name}_leftImg8bit.png', IMAGE)
    for number, name in enumerate(('04_Maurener_Weg_8_000000_000030', '13_Elly_Beinhorn_Str_000001_000020')):
        write_image(tmp_path / f'fs/{number:04d}_{name}_labels.png', label_of(0, 1, 255))
    return dict(
        data_root=str(tmp_path),
        layout='official',
        data_prefix=dict(img_path='leftImg8bit', seg_map_path='fs'),
        pipeline=PIPELINE,
        test_mode=True)


def test_fishyscapes_downloads(fishyscapes_official, tmp_path):
    dataset = FishyscapesDataset(**fishyscapes_official)
    assert [dataset[i]['data_samples'].img_path.split('/')[-1] for i in range(len(dataset))] == [
        '04_Maurener_Weg_8_000000_000030_leftImg8bit.png', '13_Elly_Beinhorn_Str_000001_000020_leftImg8bit.png'
    ]
    np.testing.assert_array_equal(targets(dataset[0]), label_of(0, 1, 255))
    (tmp_path / 'leftImg8bit/test/13_Elly_Beinhorn_Str/13_Elly_Beinhorn_Str_000001_000020_leftImg8bit.png').unlink()
    with pytest.raises(ValueError, match='1 labels in .* have no image .*: 0001_13_Elly_Beinhorn_Str_000001'):
        FishyscapesDataset(**fishyscapes_official)
    with pytest.raises(ValueError, match='needs data_prefix'):
        FishyscapesDataset(data_root=str(tmp_path), layout='official')


def test_fishyscapes_overlays(fishyscapes_official, tmp_path):
    overlay = np.zeros((H, W, 3), np.int16)
    overlay[0, 0], overlay[0, 1], overlay[0, 2] = (200, 10, -10), -200, (1, 2, 3)
    np.savez(tmp_path / 'fs/0000_04_Maurener_Weg_8_000000_000030_rgb.npz', rgb=overlay)
    with pytest.raises(ValueError, match='1 labels in .* have no overlay .*: 0001_13_Elly_Beinhorn_Str'):
        FishyscapesDataset(**fishyscapes_official)
    np.savez(tmp_path / 'fs/0001_13_Elly_Beinhorn_Str_000001_000020_rgb.npz', rgb=overlay[1:])
    dataset = FishyscapesDataset(**fishyscapes_official)
    image = dataset[0]['inputs'].permute(1, 2, 0).numpy()
    # IMAGE is 128 everywhere; BGR of RGB sums, clipped
    assert image[0, :4].tolist() == [[118, 138, 255], [0, 0, 0], [131, 130, 129], [128, 128, 128]]
    assert (image[1:] == 128).all()
    with pytest.raises(ValueError, match='0001_13_Elly_Beinhorn_Str_000001_000020_rgb.npz has the shape'):
        dataset[1]
    (tmp_path / 'fs/0001_13_Elly_Beinhorn_Str_000001_000020_rgb.npz').write_bytes(b'PK')
    with pytest.raises(ValueError, match='0001_13_Elly_Beinhorn_Str_000001_000020_rgb.npz is damaged'):
        dataset[1]
    with pytest.raises(ValueError, match='leave maps_root out'):
        FishyscapesDataset(maps_root=str(tmp_path), **fishyscapes_official)


FOLDERS = ('original', 'synthesis', 'semantic', 'entropy', 'mae_features', 'logit_distance', 'labels',
           'labels_with_void_no_ego')


@pytest.fixture
def synboost(tmp_path, write_image):
    """Files that sort alike but are not named alike, the synthesis smaller than the rest."""
    for k, folder in enumerate(FOLDERS):
        for i in range(3):
            if folder.startswith('labels'):
                array = label_of(0, 1, 1) if folder == FOLDERS[-1] else label_of(0, 1)
            else:
                array = np.full((H, W), 10 * i + k, np.uint8) % 19
            if folder in ('original', 'synthesis'):
                array = np.repeat(array[..., None], 3, 2)
            write_image(tmp_path / folder / f'{folder}_{i}.png', array[::2, ::2] if folder == 'synthesis' else array)
    return tmp_path


def test_synboost_folders(synboost):
    pipeline = [
        dict(type='LoadImage'),
        dict(type='LoadAnomalyAnnotations', resize=True),
        dict(type='LoadDissimilarityMaps', resize=True),
        dict(type='ResizeDissimilarityInputs', resampling='nearest'),
        dict(type='PackDissimilarityInputs')
    ]
    dataset = SynBoostDataset(data_root=str(synboost), pipeline=pipeline)
    assert len(dataset) == 3
    for i in range(3):
        sample = dataset[i]
        # channels: image, synthesis, semantic, entropy, perceptual (mae_features), distance (logit_distance)
        assert [plane.unique().item() for plane in sample['inputs']] == [(10 * i + k) % 19
                                                                         for k in (0, 0, 0, 1, 1, 1, 2, 3, 4, 5)]
        np.testing.assert_array_equal(targets(sample), label_of(0, 1))
        assert sample['data_samples'].domain == 0
    with_void = SynBoostDataset(data_root=str(synboost), labels='labels_with_void_no_ego', pipeline=pipeline)
    np.testing.assert_array_equal(targets(with_void[0]), label_of(0, 1, 1))


def test_synboost_pairs_in_natural_order(synboost):
    """A plain sort has 1, 10, 2 of images, and 10_labels, 1_labels, 2_labels of labels."""
    for k, folder in enumerate(FOLDERS):
        suffix = f'_{folder}' if k else ''
        for old, new in zip(range(3), (1, 2, 10)):
            (synboost / folder / f'{folder}_{old}.png').rename(synboost / folder / f'{new}{suffix}.png')
    dataset = SynBoostDataset(data_root=str(synboost))
    for info, number in zip(dataset, (1, 2, 10), strict=True):
        paths = [info['img_path'], info['seg_map_path'], *info['map_paths'].values()]
        assert [int(re.match('[0-9]+', os.path.basename(path))[0]) for path in paths] == [number] * 7
    names = ['10', '9b', '9a', 'b2', 'b10', 'a', '007']
    assert sorted(names, key=natural_order) == ['007', '9a', '9b', '10', 'a', 'b2', 'b10']


def test_synboost_listed_images(synboost):
    (synboost / 'list.txt').write_text('original_2\noriginal_1\n')
    dataset = SynBoostDataset(data_root=str(synboost), ann_file='list.txt')
    for info, i in zip(dataset, (1, 2), strict=True):
        paths = [info['img_path'], info['seg_map_path'], *info['map_paths'].values()]
        assert len(paths) == 7 and all(path.endswith(f'_{i}.png') for path in paths)
    plain = AnomalyDataset(
        data_root=str(synboost),
        data_prefix=dict(img_path='original', seg_map_path='labels'),
        pair_by='order',
        ann_file='list.txt')
    assert [info['seg_map_path'][-5:] for info in plain] == ['1.png', '2.png']
    (synboost / 'labels/labels_0.png').unlink()
    with pytest.raises(ValueError, match='3 images but 2 label files'):
        SynBoostDataset(data_root=str(synboost), ann_file='list.txt')


@pytest.mark.parametrize('dataset, options', [(RoadAnomalyDataset, dict(layout='images')), (FishyscapesDataset, dict()),
                                              (SMIYCDataset, dict(track='RoadAnomaly21'))])
def test_no_data_root(tmp_path, write_image, monkeypatch, dataset, options):
    write_image(tmp_path / 'images/validation_1.png', np.zeros((H, W, 3), np.uint8))
    write_image(tmp_path / 'labels_masks/validation_1.png', label_of(0, 1))
    monkeypatch.chdir(tmp_path)
    assert len(dataset(data_root=None, **{**options, 'layout': 'auto'})) == 1


def test_negative_indices_in_test_mode(synboost):
    dataset = SynBoostDataset(
        data_root=str(synboost),
        test_mode=True,
        pipeline=[dict(type='LoadImage'),
                  dict(type='LoadAnomalyAnnotations'),
                  dict(type='RandomFlip', prob=0.5)])
    for index in range(3):
        flips = dataset[index]['flip'], dataset[index - 3]['flip']
        assert dataset[index - 3]['img_path'] == dataset[index]['img_path'] and flips[0] == flips[1]
    for index in (3, -4):
        with pytest.raises(IndexError):
            dataset[index]


def test_synboost_errors(synboost):
    with pytest.raises(ValueError, match='labels must be one of'):
        SynBoostDataset(data_root=str(synboost), labels='void')
    (synboost / 'entropy' / 'entropy_1.png').unlink()
    with pytest.raises(ValueError, match='3 images but 2 entropy maps'):
        SynBoostDataset(data_root=str(synboost))
