# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
import torch
from mmengine.dataset import Compose

from mgcda.datasets import (
    LoadAnomalyAnnotations,
    LoadDissimilarityMaps,
    LoadImage,
    PackDissimilarityInputs,
    PasteObjects,
    ResizeDissimilarityInputs,
    map_files,
)
from mgcda.structures import MAP_KINDS

H, W = 12, 20


@pytest.fixture
def sample(tmp_path, write_image, write_maps):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (H, W, 3), np.uint8)
    label = rng.choice([4, 7, 33], (H, W)).astype(np.uint8)
    write_image(tmp_path / 'x.png', image)
    write_image(tmp_path / 'x_label.png', label)
    write_maps(tmp_path / 'maps', ['x.png'], (H, W))
    results = dict(
        img_path=str(tmp_path / 'x.png'),
        seg_map_path=str(tmp_path / 'x_label.png'),
        label_map={
            4: 1,
            7: 0,
            33: 255
        },
        reduce_zero_label=False,
        seg_fields=[],
        map_paths=map_files(str(tmp_path / 'maps'), 'x.png'),
        domain=1,
        dataset_name='Toy')
    return results, image, label


def test_labels_are_mapped(sample):
    results, _, label = sample
    results = LoadAnomalyAnnotations(keep_label_ids=True)(LoadImage()(results))
    np.testing.assert_array_equal(results['gt_seg_map'], np.select([label == 4, label == 33], [1, 255], 0))
    assert results['gt_seg_map'].dtype == np.uint8
    np.testing.assert_array_equal(results['label_ids'], label)
    assert results['seg_fields'] == ['gt_seg_map', 'label_ids']


def test_objects_are_pasted_into_float_images():

    class OneObject:

        def __len__(self):
            return 1

        def box_size(self, index):
            return 4, 4

        def crop(self, index, size):
            return np.full((size[1], size[0], 3), 255, np.uint8), np.eye(size[1], size[0], dtype=np.uint8)

    for dtype in (np.uint8, np.float32):
        image, target = np.zeros((H, W, 3), dtype), np.zeros((H, W), np.uint8)
        PasteObjects(num_objects=1)(dict(img=image, gt_seg_map=target, objects=OneObject()))
        assert target.any() and image.dtype == dtype
        np.testing.assert_array_equal(image, 255 * np.repeat(target[..., None], 3, 2))


def test_label_value_outside_the_contract(sample):
    results, _, _ = sample
    results['label_map'] = {7: 0}
    with pytest.raises(ValueError, match=r'x_label.png holds the values \[4, 33\]; this data set knows \[7\] only'):
        LoadAnomalyAnnotations()(results)


def test_label_of_16_bits(sample, tmp_path, write_image):
    results, _, label = sample
    write_image(tmp_path / 'x_label.png', label.astype(np.uint16))
    assert set(np.unique(LoadAnomalyAnnotations()(results)['gt_seg_map'])) == {0, 1, 255}
    write_image(tmp_path / 'x_label.png', label.astype(np.uint16) + 256)
    with pytest.raises(ValueError, match='260, 263, 289'):
        LoadAnomalyAnnotations()(results)


def test_label_of_another_size(sample, tmp_path, write_image):
    results, _, label = sample
    write_image(tmp_path / 'x_label.png', label[::2, ::2])
    results = LoadImage()(results)
    with pytest.raises(ValueError, match='x_label.png is 10x6, but its image .*x.png is 20x12'):
        LoadAnomalyAnnotations()(results)
    results['seg_fields'] = []
    assert LoadAnomalyAnnotations(resize=True)(results)['gt_seg_map'].shape == (H, W)


def test_missing_label(sample, tmp_path):
    (tmp_path / 'x_label.png').unlink()
    with pytest.raises(FileNotFoundError, match='label file not found: .*x_label.png'):
        LoadAnomalyAnnotations()(sample[0])


def test_channels_of_the_packed_tensor(sample):
    results, image, label = sample
    steps = [LoadImage(), LoadAnomalyAnnotations(), LoadDissimilarityMaps(), PackDissimilarityInputs()]
    packed = Compose(steps)(results)
    inputs = packed['inputs']
    assert inputs.dtype == torch.uint8 and inputs.shape == (10, H, W) and inputs.is_contiguous()
    np.testing.assert_array_equal(inputs[:3].permute(1, 2, 0).numpy(), image)
    # write_maps fills synthesis with 0, 50, 100 (BGR) and the others with 1, 2, 3, 4
    assert [plane.unique().tolist() for plane in inputs[3:]] == [[0], [50], [100], [1], [2], [3], [4]]
    data_sample = packed['data_samples']
    assert data_sample.gt_sem_seg.data.shape == (1, H, W) and data_sample.gt_sem_seg.data.dtype == torch.int64
    assert data_sample.metainfo['domain'] == 1 and data_sample.metainfo['dataset_name'] == 'Toy'
    assert data_sample.metainfo['ori_shape'] == (H, W)


def test_packing_without_maps_and_with_some(sample):
    results = LoadImage()(sample[0])
    packed = PackDissimilarityInputs()(dict(results))
    assert packed['inputs'].shape == (3, H, W) and 'gt_sem_seg' not in packed['data_samples']
    results['entropy'] = np.zeros((H, W), np.uint8)
    with pytest.raises(ValueError, match=r"has the maps \['entropy'\] but not"):
        PackDissimilarityInputs()(results)


def test_maps_are_resized_and_flipped_with_the_label(sample, tmp_path, write_image):
    """Maps of the generator's size, of the segmenter's and a label of the image's."""
    results, _, _ = sample
    ramp = np.repeat(np.arange(W, dtype=np.uint8)[None] % 19, H, 0)
    for kind in MAP_KINDS[1:]:
        write_image(tmp_path / 'maps' / kind / 'x.png', ramp[:H // 2] if kind == 'perceptual' else ramp)
    write_image(tmp_path / 'maps' / 'synthesis' / 'x.png', np.repeat(ramp[:H // 2, :, None], 3, 2))
    write_image(tmp_path / 'x_label.png', np.where(ramp < 5, 4, 7).astype(np.uint8))
    packed = Compose([
        LoadImage(),
        LoadAnomalyAnnotations(),
        LoadDissimilarityMaps(),
        ResizeDissimilarityInputs((2 * W, 3 * H), 'nearest'),
        dict(type='RandomFlip', prob=1.0),
        PackDissimilarityInputs()
    ])(
        results)
    expected = ramp.repeat(2, 1).repeat(3, 0)[:, ::-1]
    for channel in range(3, 10):
        np.testing.assert_array_equal(packed['inputs'][channel].numpy(), expected)
    assert packed['data_samples'].img_shape == (3 * H, 2 * W)
    np.testing.assert_array_equal(packed['data_samples'].gt_sem_seg.data[0].numpy(), expected < 5)


def test_missing_map(sample, tmp_path):
    (tmp_path / 'maps' / 'perceptual' / 'x.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'perceptual map .*x.png of image .*x.png not found; .*make_maps.py'):
        LoadDissimilarityMaps()(LoadImage()(sample[0]))
    results = sample[0]
    del results['map_paths']
    with pytest.raises(ValueError, match='no maps_root'):
        LoadDissimilarityMaps()(LoadImage()(results))


def test_map_of_another_size(sample, tmp_path, write_image):
    results = LoadImage()(sample[0])
    write_image(tmp_path / 'maps' / 'entropy' / 'x.png', np.zeros((H, W + 1), np.uint8))
    with pytest.raises(ValueError, match='entropy map .* is 21x12, but semantic map .* is 20x12; maps of one network'):
        LoadDissimilarityMaps()(dict(results, seg_fields=[]))
    loaded = LoadDissimilarityMaps(resize=True)(results)
    with pytest.raises(ValueError, match='entropy map .* bring them to one size with ResizeDissimilarityInputs'):
        PackDissimilarityInputs()(loaded)
    assert ResizeDissimilarityInputs()(loaded)['entropy'].shape == (H, W)


def test_semantic_value_outside_the_contract(sample, tmp_path, write_image):
    results = LoadImage()(sample[0])
    write_image(tmp_path / 'maps' / 'semantic' / 'x.png', np.full((H, W), 255, np.uint8))
    LoadDissimilarityMaps()(dict(results, seg_fields=[]))
    write_image(tmp_path / 'maps' / 'semantic' / 'x.png', np.full((H, W), 19, np.uint8))
    with pytest.raises(ValueError, match=r'semantic map .* holds the values \[19\]'):
        LoadDissimilarityMaps()(results)
