# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""The toy data set: layouts, label values, determinism, and that all or nothing is written."""
import hashlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

sys.path.insert(0, str(Path(__file__).parents[2] / 'demo'))
import toy_drawing.anomalies as anomalies
import toy_drawing.street_things as street_things
import toy_streets
from toy_drawing import OBJECTS, draw_street

SMALL = dict(num_train=4, num_val=2, num_objects=8, num_test=7, size=(64, 128), progress=False)
TRAIN_IDS = {7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33}
VOID_IDS = {1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 30}
INSTANCE_IDS = {24, 25, 26, 27, 28, 30, 31, 32, 33}


def digests(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob('*')) if path.is_file()
    }


def read(path):
    array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert array is not None, path
    return array


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
    root = tmp_path_factory.mktemp('toy') / 'set'
    assert toy_streets.make_toy_streets(root, **SMALL)
    return root


@pytest.mark.parametrize('split, count', [('train', 4), ('val', 2)])
def test_cityscapes_pairs_and_values(toy, split, count):
    root = toy / 'cityscapes'
    images = sorted((root / 'leftImg8bit' / split).glob('*/*_leftImg8bit.png'))
    assert len(images) == count
    assert len(list((root / 'gtFine' / split).glob('*/*.png'))) == 3 * count
    for path in images:
        stem = path.name[:-len('_leftImg8bit.png')]
        assert stem.startswith(path.parent.name + '_') and stem.endswith('_000019')
        truth = root / 'gtFine' / split / path.parent.name
        image, labels = read(path), read(truth / f'{stem}_gtFine_labelIds.png')
        instances, train = (read(truth / f'{stem}_gtFine_{kind}.png') for kind in ('instanceIds', 'labelTrainIds'))
        assert image.shape == (64, 128, 3) and image.dtype == np.uint8 and image.std() > 15
        assert labels.shape == instances.shape == train.shape == (64, 128)
        assert (labels.dtype, instances.dtype, train.dtype) == (np.uint8, np.uint16, np.uint8)
        assert set(np.unique(labels)) <= TRAIN_IDS | VOID_IDS
        assert {1, 2, 3, 7, 23} <= set(np.unique(labels))
        thing = np.isin(labels, list(INSTANCE_IDS))
        np.testing.assert_array_equal(np.where(thing, instances // 1000, instances), labels)
        assert (instances[thing] >= 1000).all()
        order = sorted(TRAIN_IDS)
        expected = np.array([order.index(value) if value in TRAIN_IDS else 255 for value in labels.ravel()])
        np.testing.assert_array_equal(train.ravel(), expected)


def test_streets_show_the_void_classes_and_all_frequent_classes():
    seen = [
        set(np.unique(toy_streets._label_ids(draw_street(np.random.default_rng([5, i]), (64, 128))[1])))
        for i in range(40)
    ]
    for void in (4, 5):
        assert 10 <= sum(void in values for values in seen) <= 36
    assert TRAIN_IDS - {31, 32} <= set.union(*seen)


def test_objects_load_and_areas_agree_with_masks(toy, capsys):
    coco = COCO(str(toy / 'coco' / 'annotations' / 'instances.json'))
    assert len(coco.getImgIds()) == 8 and len(coco.getAnnIds()) >= 8
    kinds, crowds = set(), 0
    for annotation in coco.loadAnns(coco.getAnnIds()):
        entry = coco.loadImgs(annotation['image_id'])[0]
        image = read(toy / 'coco' / 'images' / entry['file_name'])
        mask = coco.annToMask(annotation)
        assert image.shape[:2] == mask.shape == (entry['height'], entry['width'])
        assert annotation['area'] == mask.sum() >= 15
        rows, columns = np.nonzero(mask)
        x, y, width, height = annotation['bbox']
        assert abs(x - columns.min()) <= 1 and abs(y - rows.min()) <= 1
        assert abs(x + width - columns.max() - 1) <= 1 and abs(y + height - rows.max() - 1) <= 1
        kinds.add(type(annotation['segmentation']))
        crowds += annotation['iscrowd']
    assert kinds == {list, dict} and crowds == 1
    names = {category['id']: category['name'] for category in coco.loadCats(coco.getCatIds())}
    assert names[18] == 'dog' and names[88] == 'teddy bear' and names[3] == 'car'


def test_polygons_cover_their_mask():
    y, x = np.mgrid[:60, :80]
    disc = (x - 40)**2 + (y - 30)**2 < 20**2
    area = toy_streets._annotation(disc, False, True)['area']
    assert area == pytest.approx(disc.sum(), rel=.04)
    assert toy_streets._annotation(disc, False, False)['area'] == disc.sum()


def test_road_anomaly_layout(toy):
    frames = json.loads((toy / 'road_anomaly' / 'frame_list.json').read_text())
    assert len(frames) == 7 and frames == sorted(frames)
    folder = toy / 'road_anomaly' / 'frames'
    assert sorted(path.name for path in folder.glob('*.jpg')) == frames
    for name in frames:
        image, label = read(folder / name), read(folder / name.replace('.jpg', '.labels') / 'labels_semantic.png')
        assert image.shape == (72, 128, 3) and label.shape == (72, 128) and label.dtype == np.uint8
        assert set(np.unique(label)) == {0, 2}
        assert .002 < (label == 2).mean() < .4


def test_fishyscapes_layout(toy):
    images, labels = (sorted((toy / 'fishyscapes' / kind).iterdir()) for kind in ('original', 'labels'))
    assert [path.name for path in images] == [path.name for path in labels] and len(images) == 7
    for index, (image, label) in enumerate(zip(map(read, images), map(read, labels))):
        assert image.shape == (64, 128, 3) and label.shape == (64, 128) and label.dtype == np.uint8
        assert set(np.unique(label)) == ({0, 255} if index == 5 else {0, 1, 255})
        assert (label == 1).mean() < .06


def test_kinds_of_anomalies_are_drawn_nowhere_else():
    known = [thing.draw for table in (street_things.STATIC, street_things.DYNAMIC, OBJECTS) for thing in table.values()]
    road, cargo = ({thing.draw
                    for thing in table.values()} for table in (anomalies.ROAD_ANOMALIES, anomalies.LOST_CARGO))
    assert len(road) >= 8 and len(cargo) >= 8
    assert not road & cargo and not (road | cargo) & set(known)


def test_same_seed_same_bytes_other_seed_other_training_and_same_test_sets(toy, tmp_path):
    assert toy_streets.make_toy_streets(tmp_path / 'again', **SMALL)
    assert digests(tmp_path / 'again') == digests(toy)
    assert toy_streets.make_toy_streets(tmp_path / 'other', seed=1, **SMALL)
    first, other = digests(toy), digests(tmp_path / 'other')
    assert set(first) == set(other)
    for name in first:
        if name.startswith(('road_anomaly', 'fishyscapes')):
            assert first[name] == other[name], name
        elif name.endswith('.png') and 'leftImg8bit' in name or name.endswith('.jpg'):
            assert first[name] != other[name], name


def test_an_image_depends_on_its_own_index_only(toy, tmp_path):
    fewer = dict(SMALL, num_train=3, num_objects=2, num_test=2)
    toy_streets.make_toy_streets(tmp_path / 'fewer', **fewer)
    first, some = digests(toy), digests(tmp_path / 'fewer')
    shared = [name for name in some if name.endswith(('.png', '.jpg'))]
    assert len(shared) == 5 * 4 + 2 + 2 * 4
    assert all(first[name] == some[name] for name in shared)


def test_complete_set_is_left_alone_and_others_only_replaced_by_force(tmp_path):
    tiny = dict(num_train=1, num_val=1, num_objects=1, num_test=1, size=(32, 64), progress=False)
    root = tmp_path / 'set'
    root.mkdir()
    assert toy_streets.make_toy_streets(root, **tiny)
    stamp = (root / toy_streets.RECORD).stat().st_mtime_ns
    assert not toy_streets.make_toy_streets(root, **tiny)
    assert (root / toy_streets.RECORD).stat().st_mtime_ns == stamp
    with pytest.raises(FileExistsError, match='other arguments'):
        toy_streets.make_toy_streets(root, seed=3, **tiny)
    assert toy_streets.make_toy_streets(root, seed=3, force=True, **tiny)
    assert json.loads((root / toy_streets.RECORD).read_text())['seed'] == 3
    foreign = tmp_path / 'mine'
    foreign.mkdir()
    (foreign / 'thesis.txt').write_text('precious')
    with pytest.raises(FileExistsError, match='mine'):
        toy_streets.make_toy_streets(foreign, force=True, **tiny)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['mine', 'set']


def test_interrupted_run_leaves_nothing_behind_and_keeps_what_was_there(tmp_path, monkeypatch):
    tiny = dict(num_train=1, num_val=1, num_objects=1, num_test=1, size=(32, 64), progress=False)
    toy_streets.make_toy_streets(tmp_path / 'set', **tiny)
    before = digests(tmp_path / 'set')

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(toy_streets, 'write_fishyscapes', interrupt)
    for name in ('set', 'new'):
        with pytest.raises(KeyboardInterrupt):
            toy_streets.make_toy_streets(tmp_path / name, seed=9, force=True, **tiny)
    assert [path.name for path in tmp_path.iterdir()] == ['set']
    assert digests(tmp_path / 'set') == before


@pytest.mark.parametrize('change, error, words', [
    (dict(num_train=0), ValueError, 'num_train'),
    (dict(seed=-1), ValueError, 'seed'),
    (dict(size=(16, 128)), ValueError, 'size'),
    (dict(size=(128, )), ValueError, 'size'),
    (dict(num_test=2.5), TypeError, 'num_test'),
])
def test_bad_arguments(tmp_path, change, error, words):
    with pytest.raises(error, match=words):
        toy_streets.make_toy_streets(tmp_path / 'set', **dict(SMALL, **change))
    assert not list(tmp_path.iterdir())
