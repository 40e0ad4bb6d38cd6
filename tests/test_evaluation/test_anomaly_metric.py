# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.utils.data import Dataset

from mgcda.evaluation import AnomalyMetric, PixelCurve


def make_sample(index, dataset_name='RoadAnomaly', size=(6, 8)):
    generator = torch.Generator().manual_seed(index)
    sample = SegDataSample(metainfo=dict(img_path=f'images/{index}.jpg', ori_shape=size))
    if dataset_name:
        sample.set_metainfo(dict(dataset_name=dataset_name))
    label = torch.randint(0, 3, (1, *size), generator=generator)
    label[label == 2] = 255
    sample.gt_sem_seg = PixelData(data=label)
    sample.anomaly_scores = PixelData(data=torch.randn(1, *size, generator=generator).round(decimals=1))
    return sample


def pooled(samples):
    curve = PixelCurve()
    for sample in samples:
        curve.update(sample.anomaly_scores.data, sample.gt_sem_seg.data)
    return curve.compute()


def test_benchmarks_are_pooled_apart_under_their_names():
    road = [make_sample(index) for index in range(3)]
    static = [make_sample(index, 'Static', (5, 5)) for index in range(3, 5)]
    evaluator = Evaluator(dict(type='mmseg.AnomalyMetric'))
    evaluator.process([road[0], static[0]])
    evaluator.process([static[1], road[1], road[2]])
    result = evaluator.evaluate(5)
    expected = {f'RoadAnomaly/{key}': value for key, value in pooled(road).items()}
    expected.update({f'Static/{key}': value for key, value in pooled(static).items()})
    assert result == expected
    assert all(type(value) is float for value in result.values())


def test_each_evaluation_starts_anew():
    evaluator = Evaluator(AnomalyMetric())
    for index in (0, 1):
        evaluator.process([make_sample(index)])
        assert evaluator.evaluate(1) == {
            f'RoadAnomaly/{key}': value
            for key, value in pooled([make_sample(index)]).items()
        }
    evaluator.process([make_sample(0)])
    with pytest.raises(ValueError):
        evaluator.evaluate(3)
    evaluator.process([make_sample(0)])
    assert evaluator.evaluate(1)


def test_prefix_and_default_name():
    evaluator = Evaluator(AnomalyMetric(prefix='val'))
    evaluator.process([make_sample(0, None)])
    assert set(evaluator.evaluate(1)) == {'val/anomaly/AP', 'val/anomaly/FPR95', 'val/anomaly/AUROC'}


def test_same_image_may_count_for_two_benchmarks():
    evaluator = Evaluator(AnomalyMetric())
    evaluator.process([make_sample(0, 'A'), make_sample(0, 'B')])
    result = evaluator.evaluate(2)
    assert result['A/AP'] == result['B/AP']


def test_a_sample_is_counted_once():
    evaluator = Evaluator(AnomalyMetric())
    evaluator.process([make_sample(0)])
    with pytest.raises(ValueError, match='images/0.jpg was counted twice for RoadAnomaly'):
        evaluator.process([make_sample(0)])
    with pytest.raises(ValueError, match='has 3 samples, 1 were counted'):
        evaluator.evaluate(3)
    with pytest.raises(ValueError, match='has 1 samples, 0 were counted'):
        evaluator.evaluate(1)


def test_bad_samples_are_named():
    metric = AnomalyMetric()
    sample = make_sample(0).to_dict()
    with pytest.raises(ValueError, match='images/0.jpg: the sample has no anomaly_scores'):
        metric.process(None, [{key: value for key, value in sample.items() if key != 'anomaly_scores'}])
    with pytest.raises(ValueError, match='images/0.jpg: the sample has no gt_sem_seg'):
        metric.process(None, [{key: value for key, value in sample.items() if key != 'gt_sem_seg'}])
    with pytest.raises(ValueError, match=r'images/0.jpg: anomaly_scores are \(1, 3, 8\), the label is \(1, 6, 8\)'):
        metric.process(None, [dict(sample, anomaly_scores=dict(data=torch.zeros(1, 3, 8)))])
    with pytest.raises(ValueError, match=r'images/0.jpg: gt_sem_seg must be \(1, H, W\)'):
        metric.process(None, [dict(sample, gt_sem_seg=dict(data=torch.zeros(6, 8).long()))])
    with pytest.raises(ValueError, match='images/0.jpg: scores must not be NaN'):
        metric.process(None, [dict(sample, anomaly_scores=dict(data=torch.full((1, 6, 8), torch.nan)))])
    with pytest.raises(ValueError, match='images/0.jpg: labels must be'):
        metric.process(None, [dict(sample, gt_sem_seg=dict(data=torch.full((1, 6, 8), 4)))])
    with pytest.raises(ValueError, match='mode must be'):
        AnomalyMetric(mode='fast')


def test_benchmark_without_anomalies_is_named():
    evaluator = Evaluator(AnomalyMetric())
    sample = make_sample(0)
    sample.gt_sem_seg.data.zero_()
    evaluator.process([sample])
    with pytest.raises(ValueError, match='RoadAnomaly: .* 0 anomaly pixels'):
        evaluator.evaluate(1)


def test_score_maps_are_written(tmp_path):
    evaluator = Evaluator(dict(type='mmseg.AnomalyMetric', output_dir=str(tmp_path / 'out'), keep_results=True))
    samples = [make_sample(0), make_sample(1, 'Static')]
    evaluator.process(samples)
    evaluator.evaluate(2)
    files = sorted(path.relative_to(tmp_path / 'out').as_posix() for path in tmp_path.rglob('*') if path.is_file())
    assert files == ['RoadAnomaly/0.npy', 'Static/1.npy']
    scores = np.load(tmp_path / 'out/RoadAnomaly/0.npy')
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, samples[0].anomaly_scores.data[0].numpy())

    evaluator.process([samples[0]])
    twin = make_sample(1)
    twin.set_metainfo(dict(img_path='elsewhere/0.jpg'))
    with pytest.raises(ValueError, match='images/0.jpg and elsewhere/0.jpg would both'):
        evaluator.process([twin])


def test_score_maps_are_not_kept_unless_asked_for(tmp_path):
    evaluator = Evaluator(AnomalyMetric(output_dir=str(tmp_path), keep_results=False))
    evaluator.process([make_sample(0)])
    evaluator.evaluate(1)
    assert not list(tmp_path.iterdir())


SPLITS = (((0, 1, 2), (3, 4)), ((0, 2, 4), (1, 3)), ((0, 1, 2), (2, 3, 4)), ((0, 1, 2, 3, 4), ()), ((0, 1), (2, 3)))


def run_rank(rank, folder):
    """Evaluate each split on one of two ranks; what came out, or the error's text, is written as JSON."""
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    outcomes = []
    for number, split in enumerate(SPLITS):
        evaluator = Evaluator(AnomalyMetric(output_dir=f'{folder}/maps{number}'))
        evaluator.process([make_sample(index, 'A' if index % 2 else 'B') for index in split[rank]])
        try:
            outcomes.append(evaluator.evaluate(5))
        except ValueError as error:
            outcomes.append(str(error))
    Path(folder, f'{rank}.json').write_text(json.dumps(outcomes))
    torch.distributed.destroy_process_group()


def test_two_processes_agree_with_one(tmp_path):
    processes = []
    for rank in range(2):
        code = (f'import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_anomaly_metric as t; '
                f't.run_rank({rank}, {str(tmp_path)!r})')
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
        processes.append(
            subprocess.Popen([sys.executable, '-W', 'ignore', '-c', code], stderr=subprocess.PIPE, env=environment))
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    of_rank = [json.loads((tmp_path / f'{rank}.json').read_text()) for rank in range(2)]
    assert of_rank[0] == of_rank[1]

    evaluator = Evaluator(AnomalyMetric())
    evaluator.process([make_sample(index, 'A' if index % 2 else 'B') for index in range(5)])
    alone = evaluator.evaluate(5)
    for number in (0, 1, 3):
        assert of_rank[0][number] == alone
        assert len(list((tmp_path / f'maps{number}').rglob('*.npy'))) == 5
    assert 'counted twice, the first is images/2.jpg of B' in of_rank[0][2]
    assert 'has 5 samples, 4 were counted (2 of A, 2 of B)' in of_rank[0][4]


class Echo(BaseModel):
    """Scores pixels by an image of their own scores; the label lies beside it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'loss':
            return dict(loss=self.weight.sum())
        for scores, sample in zip(inputs, data_samples):
            sample.anomaly_scores = PixelData(data=scores * self.weight)
        return data_samples


class Samples(Dataset):
    metainfo = dict(classes=('normal', 'anomaly'))

    def __len__(self):
        return 3

    def __getitem__(self, index):
        sample = make_sample(index)
        return dict(inputs=sample.anomaly_scores.data.float(), data_samples=sample)


def test_the_best_checkpoint_is_kept_by_a_result(tmp_path):
    loader = dict(batch_size=2, num_workers=0, dataset=Samples(), sampler=dict(type='DefaultSampler', shuffle=False))
    runner = Runner(
        Echo(),
        work_dir=str(tmp_path),
        train_dataloader=loader,
        val_dataloader=loader,
        val_evaluator=dict(type='AnomalyMetric'),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        val_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', save_best='RoadAnomaly/AP', rule='greater')),
        default_scope='mmseg',
        log_level='WARNING',
        experiment_name='best')
    runner.train()
    assert (tmp_path / 'best_RoadAnomaly_AP_epoch_1.pth').is_file()
    best = runner.message_hub.get_info('best_score')
    assert best == pooled([make_sample(index) for index in range(3)])['AP']
