# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""The data set configs, unchanged, on generated files in the layouts that they name."""
import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import ConcatDataset
from mmengine.runner import Runner
from mmseg.registry import DATASETS
from official_layouts import IMAGE_SIZE, LayoutWriter, write_layouts

from mgcda.labels import CITYSCAPES_CLASSES, IGNORE, OUTLIER
from mgcda.structures import MAP_KINDS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / '_base_' / 'datasets'
TRAIN = ('mgcda_train', 'anomaly_mix_paste', 'anomaly_mix_single_objects', 'synboost_train')
PAPER = dict(FS_LostAndFound=2, FS_Static=2, RoadAnomaly=2)
ALL = dict(**PAPER, RoadAnomaly21=2, RoadObstacle21=2, LostAndFound_test=1203, LostAndFound_testNoKnown=1043)
SINGLE = dict(
    road_anomaly='RoadAnomaly',
    fs_lost_and_found='FS_LostAndFound',
    fs_static='FS_Static',
    road_anomaly_21='RoadAnomaly21',
    road_obstacle_21='RoadObstacle21',
    lost_and_found_test='LostAndFound_test',
    lost_and_found_no_known='LostAndFound_testNoKnown')
#: Config -> number of images of each data set in the small layouts.
TEST = dict(
    **{
        config: {
            name: ALL[name]
        }
        for config, name in SINGLE.items()
    },
    anomaly_benchmarks=PAPER,
    anomaly_benchmarks_maps=PAPER,
    benchmarks=ALL,
    smiyc_test=dict(RoadAnomaly21=4, RoadObstacle21=4))
H, W = 32, 64


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Everything below data/ that the configs read."""
    root = tmp_path_factory.mktemp('data_root')
    rng = np.random.default_rng(0)

    def image(path, shape=(H, W, 3), values=None):
        path = root / 'data' / path
        path.parent.mkdir(parents=True, exist_ok=True)
        array = rng.integers(0, 256, shape, np.uint8) if values is None else rng.choice(values, shape).astype(np.uint8)
        assert cv2.imwrite(str(path), array)

    def maps(folder, name):
        for kind in MAP_KINDS:
            shape = (H, W, 3) if kind == 'synthesis' else (H, W)
            image(f'maps/{folder}/{kind}/{name}.png', shape, values=[0, 3, 18, 255] if kind == 'semantic' else None)

    for i in range(5):
        name = f'aachen/aachen_{i:06d}_000019'
        image(f'cityscapes/leftImg8bit/train/{name}_leftImg8bit.png')
        image(f'cityscapes/gtFine/train/{name}_gtFine_labelIds.png', (H, W), list(range(34)))
        maps('cityscapes/train', f'{name}_leftImg8bit')
        image(f'anomaly_mix/leftImg8bit/train/{name}_leftImg8bit.png')
        image(f'anomaly_mix/gtFine/train/{name}_gtFine_anomaly.png', (H, W), [0, 1, 255])
        maps('anomaly_mix/train', f'{name}_leftImg8bit')
        for folder in ('original', 'synthesis'):
            image(f'synboost/train/{folder}/{i}.png')
        for folder in ('entropy', 'mae_features', 'logit_distance'):
            image(f'synboost/train/{folder}/{i}.png', (H, W))
        image(f'synboost/train/semantic/{i}.png', (H, W), [0, 18, 255])
        image(f'synboost/train/labels_with_void_no_ego/{i}.png', (H, W), [0, 1, 255])
    image('coco/train2017/1.jpg', (480, 500, 3))
    box = [10.0, 10.0, 460.0, 10.0, 460.0, 460.0, 10.0, 460.0]
    content = dict(
        images=[dict(id=1, file_name='1.jpg', height=480, width=500)],
        categories=[dict(id=1, name='cow')],
        annotations=[
            dict(
                id=1, image_id=1, category_id=1, iscrowd=0, area=450 * 450, bbox=[10, 10, 450, 450], segmentation=[box])
        ])
    (root / 'data/coco/annotations').mkdir()
    (root / 'data/coco/annotations/instances_train2017.json').write_text(json.dumps(content))
    return root


def load(name, part):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')[part]
    cfg.num_workers, cfg.persistent_workers = 0, False
    return Runner.build_dataloader(cfg, seed=0)


@pytest.mark.parametrize('name', TRAIN)
def test_training_configs(data, monkeypatch, name):
    monkeypatch.chdir(data)
    batches = list(load(name, 'train_dataloader'))
    assert len(batches) == (2 if name == 'mgcda_train' else 1)
    channels = 3 if name.startswith('anomaly_mix') else 10
    for batch in batches:
        assert len(batch['inputs']) == 8
        assert all(x.shape == (channels, 256, 512) and x.dtype == torch.uint8 for x in batch['inputs'])
        for sample in batch['data_samples']:
            label = sample.gt_sem_seg.data
            assert label.shape == (1, 256, 512) and set(label.unique().tolist()) == {0, 1, 255}
        domains = [sample.domain for sample in batch['data_samples']]
        assert domains == {'mgcda_train': [0] * 4 + [1] * 4}.get(name, [int('mix' in name)] * 8)


@pytest.fixture(scope='module')
def benchmarks(tmp_path_factory):
    root = tmp_path_factory.mktemp('benchmarks')
    write_layouts(root)
    for folder, suffix in (('fishyscapes/LostAndFound/original', 'png'), ('fishyscapes/Static/original', 'png'),
                           ('road_anomaly/frames', 'jpg')):
        for path in (root / 'data' / folder).glob(f'*.{suffix}'):
            LayoutWriter(root / 'data').maps(f'maps/{folder.rsplit("/", 1)[0]}', path.stem)
    return root


def test_cityscapes_stands_beside_the_benchmarks(benchmarks, monkeypatch):
    monkeypatch.chdir(benchmarks)
    cfg = Config.fromfile(CONFIGS / 'benchmarks.py')
    assert cfg.cityscapes not in cfg.test_dataloader.dataset.datasets
    datasets = [DATASETS.build(part) for part in (cfg.cityscapes, cfg.road_anomaly)]
    samples = [sample['data_samples'] for sample in ConcatDataset(datasets)]
    assert [sample.dataset_name for sample in samples] == ['Cityscapes'] * 2 + ['RoadAnomaly'] * 2
    for sample in samples[:2]:
        assert sample.gt_sem_seg.data.shape == (1, *IMAGE_SIZE) and sample.label_classes == CITYSCAPES_CLASSES


#: Config -> size (H, W) of its training samples, names of the sets that it tests on.
OUTLIERS = dict(
    toy_outliers=((128, 256), ('ToyRoadAnomaly', 'ToyFishyscapes', 'ToyCityscapes')),
    cityscapes256_outliers=((256, 512), ('RoadAnomaly', 'Cityscapes')),
    cityscapes_outliers=((512, 1024), (*PAPER, 'Cityscapes')))


@pytest.mark.parametrize('name', OUTLIERS)
def test_configs_with_outliers_among_classes(benchmarks, monkeypatch, name):
    monkeypatch.chdir(benchmarks)
    size, test_sets = OUTLIERS[name]
    for batch in load(name, 'train_dataloader'):
        samples = batch['data_samples']
        assert [sample.domain for sample in samples] == [0] * 4 + [1] * 4
        assert all(x.shape == (3, *size) and x.dtype == torch.uint8 for x in batch['inputs'])
        for sample in samples:
            labels = set(sample.gt_sem_seg.data.unique().tolist())
            assert sample.gt_sem_seg.data.shape == (1, *size) and labels <= {*range(19), OUTLIER, IGNORE}
        pasted = [OUTLIER in sample.gt_sem_seg.data for sample in samples[4:]]
        assert any(pasted) if name == 'cityscapes_outliers' else all(pasted)  # a crop may miss what is in the street
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    plain = DATASETS.build(cfg.plain)
    assert plain.domain == 0 and OUTLIER not in plain[0]['data_samples'].gt_sem_seg.data
    for options, labels in ((dict(), {OUTLIER}), (dict(objects=dict(ann_file=cfg.objects.ann_file)), {OUTLIER,
                                                                                                      IGNORE})):
        negative = DATASETS.build(dict(cfg.negatives, **options))[0]
        found = set(negative['data_samples'].gt_sem_seg.data.unique().tolist())
        assert negative['inputs'].shape == (3, *size) and {OUTLIER} <= found <= labels
    for split in ('val', 'test'):
        assert cfg[f'{split}_evaluator'] == dict(type='AnomalyMetric')
        samples = [sample for batch in load(name, f'{split}_dataloader') for sample in batch['data_samples']]
        assert Counter(sample.dataset_name for sample in samples) == dict.fromkeys(test_sets, 2)
        for sample in samples:
            assert sample.gt_sem_seg.data.shape == (1, *IMAGE_SIZE)
            assert ('label_classes' in sample) == ('Cityscapes' in sample.dataset_name)


@pytest.mark.parametrize('name', TEST)
def test_test_configs(benchmarks, monkeypatch, name):
    monkeypatch.chdir(benchmarks)
    batches = list(load(name, 'test_dataloader'))
    assert Counter(sample.dataset_name for batch in batches for sample in batch['data_samples']) == TEST[name]
    for batch in batches:
        shape = (10, 256, 512) if name.endswith('maps') else (3, *IMAGE_SIZE)
        assert batch['inputs'][0].shape == shape
        sample = batch['data_samples'][0]
        assert sample.ori_shape == IMAGE_SIZE and sample.labels_hidden == (name == 'smiyc_test')
        if sample.labels_hidden:
            assert 'gt_sem_seg' not in sample
        else:
            assert sample.gt_sem_seg.data.shape == (1, *IMAGE_SIZE)
    evaluator = Config.fromfile(CONFIGS / f'{name}.py').test_evaluator
    assert evaluator == dict(type='AnomalyMetric', **(dict(format_only=True) if name == 'smiyc_test' else {}))
