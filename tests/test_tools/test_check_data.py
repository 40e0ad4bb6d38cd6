# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Data sets without a fault pass, and every kind of broken input is found and named."""
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from mgcda.structures import MAP_KINDS

ROOT = Path(__file__).resolve().parents[2]
TOOL = 'tools/check_data.py'
H, W = 16, 24
CONFIG = """
load = [dict(type='LoadImage'), dict(type='LoadAnomalyAnnotations')]
pack = [dict(type='PackDissimilarityInputs')]
void_class = dict(
    type='VoidClassDataset', dataset_name='OwnVoidClass', data_root='cityscapes', maps_root='maps',
    pipeline=load + [dict(type='LoadDissimilarityMaps')] + pack)
anomaly_mix = dict(
    type='AnomalyMixDataset', data_root='cityscapes',
    objects=dict(data_root='coco', ann_file='instances.json', img_path='images', min_area=50),
    pipeline=load + [dict(type='PasteObjects')] + pack)
road_anomaly = dict(type='RoadAnomalyDataset', data_root='road_anomaly', pipeline=load + pack, test_mode=True)
smiyc = dict(type='SMIYCDataset', track='RoadAnomaly21', data_root='smiyc', pipeline=load + pack, test_mode=True)
smiyc_test = dict(
    type='SMIYCDataset', track='RoadAnomaly21', split='test', dataset_name='HiddenSet', data_root='smiyc',
    pipeline=load[:1] + pack, test_mode=True)
static = dict(
    type='FishyscapesDataset', dataset_name='OwnStatic', layout='official', data_root='',
    data_prefix=dict(img_path='cityscapes/leftImg8bit', seg_map_path='fs_val'), pipeline=load + pack, test_mode=True)
train_dataloader = dict(dataset=dict(type='MultiDomainDataset', datasets=[void_class, anomaly_mix]))
val_dataloader = dict(dataset=dict(type='RepeatDataset', times=2, dataset=road_anomaly))
test_dataloader = dict(
    dataset=dict(type='ConcatDataset', datasets=[road_anomaly, smiyc, smiyc_test, static]))
"""


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)


@pytest.fixture(scope='module')
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data sets without a fault; RoadAnomaly and RoadAnomaly21 have as many images as the official ones."""
    root, rng = tmp_path_factory.mktemp('pristine'), np.random.default_rng(0)

    def image(path: str) -> None:
        write(root / path, rng.integers(0, 256, (H, W, 3), np.uint8))

    def label(path: str, *values: int) -> None:
        write(root / path, np.resize(np.array(values, np.uint8), (H, W)))

    for i in range(3):
        name = f'train/ulm/ulm_{i:06d}_000019'
        image(f'cityscapes/leftImg8bit/{name}_leftImg8bit.png')
        label(f'cityscapes/gtFine/{name}_gtFine_labelIds.png', *range(34))
        image(f'maps/synthesis/ulm/ulm_{i:06d}_000019_leftImg8bit.png')
        for kind in MAP_KINDS[1:]:
            label(f'maps/{kind}/ulm/ulm_{i:06d}_000019_leftImg8bit.png', 0, 18, 255)
    image('coco/images/1.jpg')
    box = [2, 2, 12, 12]
    content = dict(
        images=[dict(id=1, file_name='1.jpg', height=H, width=W)],
        categories=[dict(id=1, name='cow')],
        annotations=[
            dict(
                id=7,
                image_id=1,
                category_id=1,
                iscrowd=0,
                area=144,
                bbox=box,
                segmentation=[[2, 2, 14, 2, 14, 14, 2, 14]])
        ])
    (root / 'coco/instances.json').write_text(json.dumps(content))
    for i in range(60):
        image(f'road_anomaly/frames/cow{i:02d}.jpg')
        label(f'road_anomaly/frames/cow{i:02d}.labels/labels_semantic.png', *([0, 2] if i else [0]))
    for i in range(10):
        image(f'smiyc/images/validation{i:04d}.jpg')
        label(f'smiyc/labels_masks/validation{i:04d}_labels_semantic.png', 0, 1, 255)
    for i in range(2):
        image(f'smiyc/images/zebra{i:04d}.jpg')
    for i in range(2):
        label(f'fs_val/{i:04d}_ulm_{i:06d}_000019_labels.png', 0, 1, 255)
        np.savez(root / f'fs_val/{i:04d}_ulm_{i:06d}_000019_rgb.npz', rgb=np.full((H, W, 3), 5, np.int16))
    (root / 'config.py').write_text(CONFIG)
    return root


@pytest.fixture
def files(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the data sets, which is the working folder."""
    shutil.copytree(pristine, tmp_path / 'files')
    monkeypatch.chdir(tmp_path / 'files')
    return tmp_path / 'files'


@pytest.fixture
def check(files: Path, load_tool: Callable, capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str]]:
    """Check the data sets: exit code and output."""

    def run(*options: str) -> tuple[int, str]:
        code = load_tool(TOOL).main(['config.py', '--workers', '0', *options])
        return code, capsys.readouterr().out

    return run


def problems_of(output: str) -> list[str]:
    return re.findall(r'^  - (.*)$', output, re.MULTILINE)


def row_of(output: str, name: str) -> list[str]:
    return [cell.strip() for cell in re.search(rf'^\| +{name} .*$', output, re.MULTILINE)[0].split('|')[1:-1]]


def test_files_without_a_fault_pass(check: Callable) -> None:
    code, output = check()
    assert code == 0 and problems_of(output) == [] and '0 problems in 6 data sets' in output
    assert row_of(output, 'RoadAnomaly') == ['RoadAnomaly', 'val test', '60', '60', '24x16', '0 2', '49.17 %', '0']
    assert row_of(output, 'RoadAnomaly21')[2:7] == ['10', '10', '24x16', '0 1 255', '50 %']
    assert row_of(output, 'HiddenSet')[2:7] == ['2', '-', '24x16', 'hidden', '-']
    # Of 384 pixels, 12 have each id from 0 to 9, 11 each other; 4 and 5 are anomalies, 7, 8 and 17 others normal.
    assert row_of(output, 'OwnVoidClass')[1:6] == ['train', '3', '-', '24x16', '0-33 (34)']
    assert row_of(output, 'OwnVoidClass')[6] == f'{100 * 24 / (24 + 24 + 17 * 11):.4g} %'
    assert row_of(output, 'AnomalyMix')[6:] == ['-', '0']


def test_splits(check: Callable) -> None:
    code, output = check('--splits', 'val')
    assert code == 0 and '0 problems in 1 data set\n' in output and row_of(output, 'RoadAnomaly')[1] == 'val'
    with pytest.raises(ValueError, match='config.py has no dataloader for train'):
        check('--splits', 'train', '--cfg-options', 'train_dataloader=None')


def test_a_part_of_a_set(check: Callable) -> None:
    for indices, count in ((4, 4), (-4, 4), (-56, 56)):
        code, output = check('--splits', 'val', '--cfg-options', f'val_dataloader.dataset.dataset.indices={indices}')
        assert code == 0 and row_of(output, 'RoadAnomaly')[2:4] == [str(count), '-']


def halve(path: str) -> None:
    Path(path).write_bytes(Path(path).read_bytes()[:os.path.getsize(path) // 2])


def flip_byte(path: str) -> None:
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 2] ^= 0xFF
    Path(path).write_bytes(bytes(data))


def relabel(path: str, *values: int, dtype: type = np.uint8, size: tuple[int, int] = (H, W)) -> None:
    write(Path(path), np.resize(np.array(values, dtype), size))


def edit_coco(key: str, value: object) -> None:
    content = json.loads(Path('coco/instances.json').read_text())
    content['images'][0][key] = value
    Path('coco/instances.json').write_text(json.dumps(content))


def edit_config(old: str, new: str) -> None:
    text = Path('config.py').read_text()
    assert old in text
    Path('config.py').write_text(text.replace(old, new))


FRAMES, IDS = 'road_anomaly/frames', 'cityscapes/gtFine/train/ulm/ulm_000001_000019_gtFine_labelIds.png'
COW, COW_LABEL = f'{FRAMES}/cow07.jpg', f'{FRAMES}/cow07.labels/labels_semantic.png'
MASK = 'smiyc/labels_masks/validation0003_labels_semantic.png'
MAP = 'maps/{}/ulm/ulm_000002_000019_leftImg8bit.png'
OVERLAY = 'fs_val/0001_ulm_000001_000019_rgb.npz'
TRANSPOSED = (W, H)
#: Kind of broken input -> how it comes about, and what is said of it.
BROKEN = {
    'folder missing': (lambda: shutil.rmtree('fs_val'), ['OwnStatic it cannot be built: .*not found: fs_val']),
    'folder empty': (lambda: [os.remove(path) for path in Path('fs_val').glob('*.png')], ['no label files in fs_val']),
    'image missing': (lambda: os.remove(COW), ['1 label files without image: .*cow07', '59 images, but .* has 60']),
    'label missing': (lambda: os.remove(MASK), ['1 images without label file: validation0003.jpg', '9 images, but']),
    'overlay missing': (lambda: os.remove(OVERLAY), ['1 labels in fs_val have no overlay .*: 0001_ulm']),
    'too many images': (lambda: [
        shutil.copytree(f'{FRAMES}/cow01.labels', f'{FRAMES}/calf.labels'),
        write(Path(f'{FRAMES}/calf.jpg'), np.zeros((H, W, 3), np.uint8))
    ], ['61 images, but the official RoadAnomaly has 60']),
    'label of another size': (lambda: relabel(COW_LABEL, 0, 2, size=TRANSPOSED),
                              [f'label file {COW_LABEL} is 16x24, but its image 24x16']),
    'unknown label value': (lambda: relabel(COW_LABEL, 0, 1, 2), [rf'{COW_LABEL} holds the values \[1\]']),
    'label of 16 bits': (lambda: relabel(MASK, 0, 1, 256, dtype=np.uint16), [rf'{MASK} holds the values \[256\]']),
    'label in colours': (lambda: shutil.copy(MAP.format('synthesis'), MASK), [f'{MASK} has 3 channels that differ']),
    'unknown label id': (lambda: relabel(IDS, 7, 34),
                         [rf'OwnVoidClass .*{IDS} holds the values \[34\]', rf'AnomalyMix .*{IDS} holds']),
    'image cut off': (lambda: halve(COW), [f'{COW} is truncated']),
    'image empty': (lambda: Path(COW).write_bytes(b''), [f'{COW} is truncated or no readable image']),
    'label damaged': (lambda: flip_byte(IDS),
                      [f'OwnVoidClass .*{IDS} is a damaged PNG', f'AnomalyMix .*{IDS} is a damaged PNG']),
    'text in place of an image': (lambda: Path(COW).write_text('moved'), [f'{COW} is truncated or no readable image']),
    'image twice': (lambda: shutil.copy(COW, f'{FRAMES}/cow55.jpg'),
                    [f'the same image is there 2 times: {COW}, {FRAMES}/cow55.jpg']),
    'name twice': (lambda: [
        shutil.move(f'smiyc/{folder}/validation0000{end}', f'smiyc/{folder}/part/validation0001{end}')
        for folder, end in (('images', '.jpg'), ('labels_masks', '_labels_semantic.png'))
        if not os.makedirs(f'smiyc/{folder}/part')
    ], ['2 images are named validation0001']),
    'two files of one image': (lambda: write(Path(f'{FRAMES}/cow07.png'), np.zeros(
        (H, W, 3), np.uint8)), ['two images of the same name in .*cow07']),
    'no valid pixel': (lambda: relabel(MASK, 255), [f'label file {MASK} has no valid pixel']),
    'no anomaly': (lambda: [relabel(str(path), 0, 255) for path in Path('smiyc/labels_masks').iterdir()],
                   ['RoadAnomaly21 .*not one pixel of all its labels is an anomaly']),
    'nothing normal': (lambda: [relabel(str(path), 1, 255) for path in Path('smiyc/labels_masks').iterdir()],
                       ['RoadAnomaly21 .*not one pixel of all its labels is normal']),
    'hidden labels': (lambda: shutil.copy(MASK, 'smiyc/labels_masks/zebra0001_labels_semantic.png'),
                      ['1 labels .* are of test images of RoadAnomaly21: zebra0001; .* hidden']),
    'hidden labels asked for': (lambda: edit_config('pipeline=load[:1] + pack', 'pipeline=load + pack'),
                                ['HiddenSet .*fails on the first sample: .*no public label']),
    'overlay of another size': (lambda: np.savez(OVERLAY, rgb=np.zeros(
        (W, H, 3))), [f'overlay {OVERLAY} has the shape']),
    'overlay damaged': (lambda: halve(OVERLAY), [f'{OVERLAY} is damaged']),
    'map missing': (lambda: os.remove(MAP.format('entropy')), [f'1 maps are missing .*{MAP.format("entropy")}']),
    'map of another size': (lambda: relabel(MAP.format('distance'), 1, size=TRANSPOSED),
                            [f'distance map {MAP.format("distance")} is 16x24, but semantic map']),
    'map of label ids': (lambda: shutil.copy(IDS, MAP.format('semantic')),
                         [rf'semantic map {MAP.format("semantic")} holds the values \[19, 20']),
    'map in colours': (lambda: shutil.copy(MAP.format('synthesis'), MAP.format('entropy')),
                       [f'entropy map {MAP.format("entropy")} has 3 channels that differ']),
    'map in grey': (lambda: shutil.copy(MAP.format('distance'), MAP.format('synthesis')),
                    [f'synthesis map {MAP.format("synthesis")} has one channel']),
    'no maps known': (lambda: edit_config("maps_root='maps',", ''), ['OwnVoidClass .*no maps are known']),
    'COCO image missing': (lambda: os.remove('coco/images/1.jpg'), ['COCO image not found: coco/images/1.jpg']),
    'COCO image of another size': (lambda: edit_coco('width', 30), ['coco/images/1.jpg is 24x16, but .* says 30x16']),
    'COCO image unreadable': (lambda: Path('coco/images/1.jpg').write_text('x'), ['coco/images/1.jpg is no readable']),
    'COCO file broken': (lambda: halve('coco/instances.json'), ['coco/instances.json is not valid JSON']),
    'unknown type': (lambda: edit_config("type='SMIYCDataset', track='RoadAnomaly21', data_root", "type='Smyic', a"),
                     ['Smyic .*it cannot be built: KeyError']),
    'one name for two sets': (lambda: edit_config('OwnStatic', 'HiddenSet'),
                              ['test_dataloader reads several data sets under the name HiddenSet'] * 2),
    'one set twice': (lambda: edit_config('smiyc_test, static]', 'smiyc_test, static, static]'),
                      ['OwnStatic test_dataloader reads several data sets under the name OwnStatic']),
}


@pytest.mark.parametrize('kind', BROKEN)
def test_broken_input_is_found_and_named(kind: str, check: Callable) -> None:
    destroy, expected = BROKEN[kind]
    destroy()
    code, output = check()
    groups = re.findall(r'^(\w+) \([a-z, ]+\): \d+ problems?\n((?:  - .*\n)+)', output, re.MULTILINE)
    named = [f'{name} {problem}' for name, problems in groups for problem in problems_of(problems)]
    assert code == 1 and len(named) == len(expected), output
    for pattern in expected:
        assert any(re.search(pattern, problem) for problem in named), (pattern, named)


def test_all_problems_are_reported_at_once(files: Path) -> None:
    """In a process of its own, with workers: nothing stops at the first fault, and the exit code is 1."""
    kinds = ('folder missing', 'image cut off', 'unknown label value', 'no valid pixel', 'hidden labels', 'map missing',
             'map in grey', 'label damaged', 'COCO image missing')
    for kind in kinds:
        BROKEN[kind][0]()
    relabel(f'{FRAMES}/cow02.labels/labels_semantic.png', 0, 3, size=TRANSPOSED)
    run = subprocess.run([sys.executable, str(ROOT / TOOL), 'config.py'], capture_output=True, text=True)
    found = problems_of(run.stdout)
    assert run.returncode == 1, run.stderr
    for pattern in [pattern for kind in kinds for pattern in BROKEN[kind][1]]:
        assert any(re.search(re.sub(r'^Own\w+ |^AnomalyMix ', '', pattern), problem) for problem in found), pattern
    # One label file can have several faults.
    assert sum('cow02.labels' in problem for problem in found) == 2
    assert f'{len(found)} problems in 6 data sets' in run.stdout


def test_lost_and_found_of_other_length(files: Path, check: Callable) -> None:
    write(files / 'leftImg8bit/test/a/a_leftImg8bit.png', np.zeros((H, W, 3), np.uint8))
    relabel('gtCoarse/test/a/a_gtCoarse_labelIds.png', 0, 1, 2)
    edit_config('[road_anomaly, smiyc, smiyc_test, static]', '[laf, dict(laf, split="test_no_known")]')
    edit_config('train_dataloader', "laf = dict(type='LostAndFoundDataset', pipeline=load + pack, data_root='')\n"
                'train_dataloader')
    code, output = check('--splits', 'test')
    first, second = problems_of(output)
    assert code == 1 and '1 image, but the official LostAndFound_test has 1203' in first
    assert 'cannot be built: ValueError: leftImg8bit/test holds 1 images, but test-NoKnown' in second


def test_outliers_among_classes_count_as_anomalies(check: Callable) -> None:
    binary = row_of(check()[1], 'OwnVoidClass')
    edit_config("dataset_name='OwnVoidClass',", "dataset_name='OwnVoidClass', targets='classes',")
    code, output = check()
    assert code == 0 and row_of(output, 'OwnVoidClass') == binary


def test_negative_images(files: Path, check: Callable) -> None:
    (files / 'config.py').write_text("""
train_dataloader = dict(
    dataset=dict(
        type='NegativeImageDataset', data_root='coco', objects=dict(ann_file='instances.json', min_area=50),
        pipeline=[dict(type='LoadImage'), dict(type='LoadNegativeAnnotations'), dict(type='PackDissimilarityInputs')]))
""")
    code, output = check()
    assert code == 0 and row_of(output, 'Negatives')[1:] == ['train', '1', '-', '24x16', '-', '-', '0']
    shutil.copy('coco/images/1.jpg', 'coco/images/2.jpg')
    assert check()[0] == 0  # it shows no object
    edit_config("objects=dict(ann_file='instances.json', min_area=50),", '')
    halve('coco/images/2.jpg')
    code, output = check()
    assert code == 1 and len(problems_of(output)) == 1 and 'coco/images/2.jpg is truncated' in output


def test_labels_that_are_classes(files: Path, check: Callable) -> None:
    (files / 'config.py').write_text("""
test_dataloader = dict(
    dataset=dict(
        type='ClassLabelDataset', data_root='cityscapes/',
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'), indices=2,
        pipeline=[dict(type='LoadImage'), dict(type='LoadAnomalyAnnotations'), dict(type='PackDissimilarityInputs')]))
""")
    relabel(IDS, 23)  # all sky
    code, output = check()
    assert code == 0 and row_of(output, 'Cityscapes')[2:] == ['2', '-', '24x16', '0-33 (34)', '-', '0']
    relabel(IDS, 200)
    code, output = check()
    assert code == 1 and f'{IDS} holds the values [200]' in output


def test_stock_data_sets_of_mmsegmentation(files: Path, check: Callable) -> None:
    (files / 'config.py').write_text("""
test_dataloader = dict(
    dataset=dict(
        type='CityscapesDataset', data_root='cityscapes/',
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        img_suffix='_leftImg8bit.png', seg_map_suffix='_gtFine_labelIds.png', indices=2,
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='LabelIdToTrainId'),
                  dict(type='PackSegInputs')]))
""")
    assert check()[0] == 0
    os.remove('cityscapes/gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png')
    relabel(IDS, 7, 200)
    code, output = check()
    assert code == 1 and len(problems_of(output)) == 2
    assert 'label file not found: cityscapes/gtFine/train/ulm/ulm_000000' in output
    assert f'{IDS} holds the values [200]' in output
