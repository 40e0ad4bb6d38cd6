# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import os
import shutil

import cv2
import numpy as np
import pytest

from mgcda.datasets import LostAndFoundDataset

H, W = 8, 10
PIPELINE = [dict(type='LoadImage'), dict(type='LoadAnomalyAnnotations'), dict(type='PackDissimilarityInputs')]
#: Positions, from the public benchmark code, of the test frames whose labels are all 0.
UNLABELLED = (17, 37, 55, 72, 91, 110, 129, 153, 174, 197, 218, 353, 490, 618, 686, 792, 793)
#: Frames with known objects, at the beginning, in the middle and at the end of the sorted names.
KNOWN = ('01_Hanns_Klemm_Str_45_000006', '01_Hanns_Klemm_Str_45_000007', '10_Schlossberg_9_000004',
         '15_Rechbergstr_Deckenpfronn_000000')


@pytest.fixture(scope='module')
def frames():
    """1203 names of frames in five recordings, sorted."""
    names = [f'{prefix}_{i:06d}' for prefix in KNOWN for i in range(40)]
    names += [f'02_Hanns_Klemm_Str_44_000000_{i:06d}' for i in range(600)]
    names += [f'10_Schlossberg_9_000001_{i:06d}' for i in range(1203 - 600 - 160)]
    return sorted(names)


@pytest.fixture(scope='module')
def complete(tmp_path_factory, frames):
    """A complete test set; one image and one label under all names."""
    root = tmp_path_factory.mktemp('lost_and_found')
    files = {
        'leftImg8bit': np.full((H, W, 3), 128, np.uint8),
        'gtCoarse': np.resize(np.array([0, 1, 2, 42, 200, 201, 255], np.uint8), (H, W))
    }
    for kind, suffix in (('leftImg8bit', 'leftImg8bit'), ('gtCoarse', 'gtCoarse_labelIds')):
        for name in frames:
            path = root / kind / 'test' / name[:-14] / f'{name}_{suffix}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            if name == frames[0]:
                cv2.imwrite(str(path), files[kind])
                first = path
            else:
                os.link(first, path)
    return root


def names(dataset):
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    for info in infos:  # every image has its own label
        assert info['seg_map_path'] == info['img_path'].replace('/leftImg8bit/', '/gtCoarse/').replace(
            '_leftImg8bit.png', '_gtCoarse_labelIds.png')
    return [os.path.basename(info['img_path'])[:-16] for info in infos]


def test_complete_test_set(complete, frames):
    dataset = LostAndFoundDataset(data_root=str(complete), pipeline=PIPELINE, test_mode=True)
    assert names(dataset) == frames and dataset.num_official_images == 1203
    assert {os.path.basename(path)[:-16] for path in dataset.unlabelled_images} == {frames[i] for i in UNLABELLED}
    sample = dataset[3]['data_samples']
    assert sample.dataset_name == 'LostAndFound_test' and sample.labels_hidden is False
    np.testing.assert_array_equal(sample.gt_sem_seg.data[0].numpy(),
                                  np.resize(np.array([255, 0, 1, 1, 1, 255, 255]), (H, W)))


def test_no_known(complete, frames):
    dataset = LostAndFoundDataset(data_root=str(complete), split='test_no_known')
    expected = [name for i, name in enumerate(frames) if i not in UNLABELLED and not name.startswith(KNOWN)]
    assert names(dataset) == expected and len(expected) < 1203 - 160
    assert dataset.dataset_name == 'LostAndFound_testNoKnown' and dataset.num_official_images == 1043
    assert not dataset.unlabelled_images


def test_no_known_from_a_list_of_the_complete_set(complete, frames, tmp_path):
    (tmp_path / 'list.txt').write_text('\n'.join([frames[190], frames[UNLABELLED[8]]]))
    options = dict(data_root=str(complete), split='test_no_known', ann_file=str(tmp_path / 'list.txt'))
    with pytest.raises(ValueError, match=f'lists 1 frames that test-NoKnown leaves out: {frames[UNLABELLED[8]]}'):
        LostAndFoundDataset(**options)


def test_a_problem_is_noted_once(part, frames):
    name, noted = frames[99], []
    (part / 'leftImg8bit/test/other').mkdir()
    os.link(part / f'leftImg8bit/test/{name[:-14]}/{name}_leftImg8bit.png',
            part / f'leftImg8bit/test/other/{name}_leftImg8bit.png')
    dataset = LostAndFoundDataset(data_root=str(part), lazy_init=True)
    dataset.refuse = noted.append
    assert len(dataset.load_data_list()) == 100
    assert len(noted) == 1 and 'two images of the same name' in noted[0]


@pytest.fixture
def part(complete, tmp_path, frames):
    """The first hundred frames of the complete set, which are no complete test set."""
    for name in frames[:100]:
        for kind, suffix in (('leftImg8bit', 'leftImg8bit'), ('gtCoarse', 'gtCoarse_labelIds')):
            path = f'{kind}/test/{name[:-14]}/{name}_{suffix}.png'
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            os.link(complete / path, tmp_path / path)
    return tmp_path


def test_a_part_of_the_test_set(part, frames):
    dataset = LostAndFoundDataset(data_root=str(part))
    assert len(dataset) == 100 and not dataset.unlabelled_images
    with pytest.raises(ValueError, match='holds 100 images, but test-NoKnown .* among the 1203 test frames'):
        LostAndFoundDataset(data_root=str(part), split='test_no_known')


def test_no_known_from_a_list(part, frames):
    chosen = [frames[95], frames[82]]
    (part / 'frames.txt').write_text('\n'.join(f'{name[:-14]}/{name}' for name in chosen))
    dataset = LostAndFoundDataset(data_root=str(part), split='test_no_known', ann_file='frames.txt')
    assert names(dataset) == sorted(chosen) and dataset.num_official_images is None
    (part / 'frames.txt').write_text('\n'.join([*chosen, KNOWN[0] + '_000003']))
    with pytest.raises(ValueError, match='lists 1 frames that test-NoKnown leaves out: 01_Hanns_Klemm_Str_45_000006_0'):
        LostAndFoundDataset(data_root=str(part), split='test_no_known', ann_file='frames.txt')
    (part / 'frames.txt').write_text('05_Schafgasse_1_000000_000000')
    with pytest.raises(FileNotFoundError, match='1 listed images are not in .*: 05_Schafgasse'):
        LostAndFoundDataset(data_root=str(part), split='test_no_known', ann_file='frames.txt')


def test_train_split_and_flat_folders(part, frames):
    for kind, folder in (('leftImg8bit', 'original'), ('gtCoarse', 'labels')):
        (part / folder).mkdir()
        for path in (part / kind / 'test').rglob('*.png'):
            os.link(path, part / folder / path.name)
    flat = LostAndFoundDataset(
        data_root=str(part), data_prefix=dict(img_path='original', seg_map_path='labels'), pipeline=PIPELINE)
    assert len(flat) == 100 and flat[0]['data_samples'].gt_sem_seg.data.unique().tolist() == [0, 1, 255]
    for kind in ('leftImg8bit', 'gtCoarse'):
        shutil.move(part / kind / 'test', part / kind / 'train')
    train = LostAndFoundDataset(data_root=str(part), split='train')
    assert names(train) == frames[:100] and train.dataset_name == 'LostAndFound_train'


def test_errors(part, frames):
    name = frames[99]
    with pytest.raises(ValueError, match="split must be one of .* got 'val'"):
        LostAndFoundDataset(data_root=str(part), split='val')
    label = part / f'gtCoarse/test/{name[:-14]}/{name}_gtCoarse_labelIds.png'
    label.rename(label.with_name(label.name.replace(name[-6:], '999999')))
    with pytest.raises(ValueError, match=f'1 images without label file: .*{name}.*; 1 label files without image'):
        LostAndFoundDataset(data_root=str(part))
    image = part / f'leftImg8bit/test/{name[:-14]}/{name}_leftImg8bit.png'
    (part / 'leftImg8bit/test/other').mkdir()
    os.link(image, part / 'leftImg8bit/test/other' / image.name)
    with pytest.raises(ValueError, match=f'two images of the same name below .*{name}.* and other/{name}'):
        LostAndFoundDataset(data_root=str(part))
