# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import csv
import itertools
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.utils.data import Dataset

from mgcda.evaluation import AnomalyMetric, ComponentCurve, PixelCurve
from mgcda.evaluation.metrics.score_evaluation import on_main
from mgcda.evaluation.results import read_results


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


def pooled(samples, **kwargs):
    """What the metric reports of one benchmark: the values of its curve, without their bounds."""
    curve = PixelCurve(**kwargs)
    for sample in samples:
        curve.update(sample.anomaly_scores.data, sample.gt_sem_seg.data)
    return {key: value for key, value in curve.compute().items() if not key.endswith(('_lower', '_upper'))}


def keyed(name, values):
    return {f'{name}/{key}': value for key, value in values.items()}


def evaluate(samples, **kwargs):
    evaluator = Evaluator(AnomalyMetric(**kwargs))
    evaluator.process(samples)
    return evaluator.evaluate(len(samples))


def test_benchmarks_are_pooled_apart_under_their_names():
    road = [make_sample(index) for index in range(3)]
    static = [make_sample(index, 'Static', (5, 5)) for index in range(3, 5)]
    evaluator = Evaluator(dict(type='mmseg.AnomalyMetric'))
    evaluator.process([road[0], static[0]])
    evaluator.process([static[1], road[1], road[2]])
    result = evaluator.evaluate(5)
    assert result == {**keyed('RoadAnomaly', pooled(road)), **keyed('Static', pooled(static))}
    assert all(type(value) is float for value in result.values())


def test_each_evaluation_starts_anew():
    evaluator = Evaluator(AnomalyMetric())
    for index in (0, 1):
        evaluator.process([make_sample(index)])
        assert evaluator.evaluate(1) == keyed('RoadAnomaly', pooled([make_sample(index)]))
    evaluator.process([make_sample(0)])
    with pytest.raises(ValueError):
        evaluator.evaluate(3)
    evaluator.process([make_sample(0)])
    assert evaluator.evaluate(1)


def test_prefix_and_default_name():
    evaluator = Evaluator(AnomalyMetric(prefix='val'))
    evaluator.process([make_sample(0, None)])
    assert set(
        evaluator.evaluate(1)) == {f'val/anomaly/{key}'
                                   for key in ('AP', 'FPR95', 'AUROC', 'F1', 'F1_threshold')}


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
    with pytest.raises(ValueError, match=r'images/0.jpg: anomaly_scores has the size \(3, 8\), the label \(6, 8\)'):
        metric.process(None, [dict(sample, anomaly_scores=dict(data=torch.zeros(1, 3, 8)))])
    with pytest.raises(ValueError, match=r'images/0.jpg: gt_sem_seg must be \(1, H, W\)'):
        metric.process(None, [dict(sample, gt_sem_seg=dict(data=torch.zeros(6, 8).long()))])
    with pytest.raises(ValueError, match='images/0.jpg: scores must not be NaN'):
        metric.process(None, [dict(sample, anomaly_scores=dict(data=torch.full((1, 6, 8), torch.nan)))])
    with pytest.raises(ValueError, match='images/0.jpg: labels must be'):
        metric.process(None, [dict(sample, gt_sem_seg=dict(data=torch.full((1, 6, 8), 4)))])
    with pytest.raises(ValueError, match='images/0.jpg: the labels of this split of RoadAnomaly are hidden'):
        metric.process(None, [dict(sample, labels_hidden=True)])
    with pytest.raises(ValueError, match='components=True knows the sizes of RoadAnomaly21, .*, not of Own'):
        AnomalyMetric(components=True).process(None, [dict(sample, dataset_name='Own')])


@pytest.mark.parametrize('settings, message', [
    (dict(mode='fast'), 'mode must be'),
    (dict(protocol='own'), 'protocol must be'),
    (dict(recalls=(95, )), 'recalls must be'),
    (dict(score_dtype='uint8'), 'score_dtype must be'),
    (dict(size=(256, )), 'size must be'),
    (dict(size=256), 'size must be'),
    (dict(recalls=0.8), 'recalls must be'),
    (dict(format_only=True, output_dir='x', score_dtype=None), 'format_only needs a score_dtype'),
    (dict(size=(256, 512), components=True), 'leave out size or components'),
    (dict(format_only=True), 'format_only needs an output_dir'),
    (dict(per_image=True, output_dir='x', keep_results=False), 'per_image needs an output_dir, and keep_results'),
    (dict(components=['Own']), 'components must be True, or a dict'),
    (dict(components=dict(Own=dict(min_area=3))), r"components\['Own'\] must be a dict of min_pred_area, min_gt_area"),
    (dict(components=dict(Own=dict(min_pred_area=3, min_gt_area=-1))), 'min_gt_area must not be negative'),
])
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        AnomalyMetric(**settings)


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
    assert files == ['RoadAnomaly/0.npy', 'Static/1.npy', 'results.json']
    scores = np.load(tmp_path / 'out/RoadAnomaly/0.npy')
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, samples[0].anomaly_scores.data[0].numpy())

    evaluator.process([samples[0]])
    twin = make_sample(1)
    twin.set_metainfo(dict(img_path='elsewhere/0.jpg'))
    with pytest.raises(ValueError, match='images/0.jpg and elsewhere/0.jpg would both'):
        evaluator.process([twin])


def test_an_unfinished_run_has_no_results(tmp_path):
    evaluate([make_sample(0)], output_dir=str(tmp_path))
    assert (tmp_path / 'results.json').is_file()
    metric = AnomalyMetric(output_dir=str(tmp_path))
    metric.process(None, [make_sample(1).to_dict()])
    assert not (tmp_path / 'results.json').exists()


def test_half_precision_score_maps(tmp_path):
    sample = make_sample(0)
    evaluate([sample], output_dir=str(tmp_path), score_dtype='float16')
    scores = np.load(tmp_path / 'RoadAnomaly/0.npy')
    assert scores.dtype == np.float16
    np.testing.assert_array_equal(scores, sample.anomaly_scores.data[0].numpy().astype(np.float16))
    sample.anomaly_scores.data[0, 0, 0] = 1e5
    with pytest.raises(ValueError, match="images/0.jpg: scores up to 100000 .*score_dtype='float32'"):
        evaluate([sample], output_dir=str(tmp_path), score_dtype='float16')
    sample.anomaly_scores.data[0, 0, 0] = np.inf
    evaluate([sample], output_dir=str(tmp_path), score_dtype='float16')


def test_results_without_score_maps(tmp_path):
    evaluate([make_sample(0)], output_dir=str(tmp_path), score_dtype=None)
    assert [path.name for path in tmp_path.iterdir()] == ['results.json']


def test_results_file_has_values_bounds_and_curves(tmp_path):
    samples = [make_sample(index) for index in range(3)]
    metrics = evaluate(samples, output_dir=str(tmp_path), protocol='rba')
    content = read_results(tmp_path / 'results.json')
    assert (content['protocol'], content['mode']) == ('rba', 'streaming')
    entry = content['data_sets']['RoadAnomaly']
    labels = torch.cat([sample.gt_sem_seg.data for sample in samples])
    assert entry['num_images'] == 3
    assert entry['num_normal'] == (labels == 0).sum() and entry['num_anomaly'] == (labels == 1).sum()
    assert metrics == keyed('RoadAnomaly', {key: entry['metrics'][key] for key in pooled(samples)})
    assert entry['metrics']['AP_lower'] <= entry['metrics']['AP'] <= entry['metrics']['AP_upper']
    curve = PixelCurve()
    for sample in samples:
        curve.update(sample.anomaly_scores.data, sample.gt_sem_seg.data)
    for key, values in curve.curve().items():
        np.testing.assert_array_equal(entry['curve'][key], values)


def test_protocol_mode_and_recalls_are_handed_on():
    samples = [make_sample(index) for index in range(3)]
    for settings in (dict(mode='exact'), dict(protocol='pebal'), dict(protocol='smiyc'), dict(recalls=(0.5, 0.8))):
        assert evaluate(samples, **settings) == keyed('RoadAnomaly', pooled(samples, **settings))


def test_labels_may_be_class_indices():
    sample = make_sample(0)
    expected = evaluate([sample])
    label = sample.gt_sem_seg.data
    other = make_sample(0)
    other.gt_sem_seg.data = torch.where(label == 1, 19 + torch.arange(8) % 2, torch.where(label == 255, 30, 3))
    assert evaluate([other], ood_index=(19, 20), ignore_index=30) == expected
    other.gt_sem_seg.data = torch.where(label == 255, 9, label)
    assert evaluate([other], ignore_index=9) == expected
    # 8-bit labels can hold neither, so that no value of theirs is meant.
    other.gt_sem_seg.data = torch.where(label == 255, 255, torch.where(label == 1, 19, 44)).to(torch.uint8)
    assert evaluate([other], ood_index=(19, 300), ignore_index=(255, -212)) == expected


def test_reduced_size_is_labelled():
    sample = make_sample(0, size=(6, 8))
    result = evaluate([sample], size=(3, 4))
    small = make_sample(0)
    scores = sample.anomaly_scores.data[0].unflatten(0, (3, 2)).unflatten(2, (4, 2))
    small.anomaly_scores = PixelData(data=scores.mean((1, 3))[None])
    small.gt_sem_seg = PixelData(data=sample.gt_sem_seg.data[:, 1::2, 1::2])
    assert result == keyed('RoadAnomaly@3x4', pooled([small]))


def test_names_of_data_sets_may_hold_any_sign(tmp_path):
    for settings, name in ((dict(), 'Own@night'), (dict(size=(3, 4)), 'Own@night@3x4')):
        evaluate([make_sample(0, 'Own@night')], output_dir=str(tmp_path), score_dtype=None, **settings)
        assert read_results(tmp_path / 'results.json')['data_sets'][name]['num_images'] == 1


def test_values_of_each_image(tmp_path):
    samples = [make_sample(index) for index in (2, 0)]
    samples.append(make_sample(1, 'Static'))
    samples[-1].gt_sem_seg.data[0, 0] = 1
    empty = make_sample(3, 'Static')
    empty.gt_sem_seg.data.zero_()
    evaluate([*samples, empty], output_dir=str(tmp_path), per_image=True)
    with open(tmp_path / 'per_image.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['img_path'] for row in rows] == [f'images/{index}.jpg' for index in (0, 2, 1, 3)]
    for row, sample in zip(rows, (samples[1], samples[0], samples[2])):
        assert {key: float(row[key]) for key in pooled([sample])} == pooled([sample], mode='exact')
    assert rows[3]['num_anomaly'] == '0' and rows[3]['AP'] == ''


def test_hidden_labels_are_written_but_not_scored(tmp_path):
    sample = make_sample(0)
    del sample.gt_sem_seg
    sample.set_metainfo(dict(labels_hidden=True))
    assert evaluate([sample], format_only=True, output_dir=str(tmp_path)) == {}
    assert [path.name for path in tmp_path.rglob('*') if path.is_file()] == ['0.npy']


SIZES = dict(min_pred_area=2, min_gt_area=2)


def components_of(samples, threshold):
    curve = ComponentCurve(threshold, **SIZES)
    for sample in samples:
        curve.update(sample.anomaly_scores.data[0], sample.gt_sem_seg.data[0])
    values = curve.compute()
    return {key if key in ('sIoU', 'PPV') else f'component_{key}': value for key, value in values.items()}


def test_components_at_the_threshold_of_the_best_f1():
    samples = [make_sample(index) for index in range(3)]
    result = evaluate([*samples, make_sample(3, 'Static')], components=dict(RoadAnomaly=SIZES))
    expected = components_of(samples, pooled(samples)['F1_threshold'])
    assert {
        **keyed('RoadAnomaly', {
            **pooled(samples),
            **expected
        }),
        **keyed('Static', pooled([make_sample(3)]))
    } == result
    assert 0 < expected['sIoU'] < 100


def test_components_at_a_named_threshold():
    samples = [make_sample(index) for index in range(3)]
    result = evaluate(samples, components=dict(RoadAnomaly=dict(SIZES, threshold=0.25)))
    assert result == keyed('RoadAnomaly', {**pooled(samples), **components_of(samples, 0.25)})


def test_components_by_the_rules_of_smiyc_see_rounded_scores():
    """Scores just above the threshold are equal to it in float16."""
    sample = make_sample(0)
    sample.anomaly_scores.data = torch.where(sample.gt_sem_seg.data == 1, 1 + 2.0**-20, 0.5)
    settings = dict(RoadAnomaly=dict(SIZES, threshold=1.0))
    assert evaluate([sample], components=settings)['RoadAnomaly/sIoU'] == 100
    assert evaluate([sample], components=settings, protocol='smiyc')['RoadAnomaly/sIoU'] == 0


def test_components_of_absent_data_sets_are_warned_about(caplog):
    MMLogger.get_current_instance().addHandler(caplog.handler)
    evaluate([make_sample(0)], components=dict(RoadAnomly=SIZES))
    assert 'components of RoadAnomly were asked for, but there are only images of RoadAnomaly' in caplog.text


def test_kept_frames_leave_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    metric = AnomalyMetric(components=dict(RoadAnomaly=SIZES))
    metric.process(None, [make_sample(0).to_dict()])
    assert len(list(tmp_path.rglob('*.npz'))) == 1
    metric.evaluate(1)
    del metric
    assert not list(tmp_path.iterdir())


def test_sizes_of_the_benchmarks_are_known():
    sample = make_sample(0, 'RoadObstacle21', (40, 40))
    result = evaluate([sample], components=True)
    curve = ComponentCurve(pooled([sample])['F1_threshold'], min_pred_area=50, min_gt_area=10)
    curve.update(sample.anomaly_scores.data[0], sample.gt_sem_seg.data[0])
    assert result['RoadObstacle21/sIoU'] == curve.compute()['sIoU']


def test_wide_bounds_are_logged_with_their_benchmark(caplog):
    sample = make_sample(0, size=(256, 512))
    floats = torch.tensor(3.0) + torch.arange(200) * 2.0**-22
    sample.anomaly_scores.data = floats[torch.randint(0, 200, (1, 256, 512))]
    sample.anomaly_scores.data.view(-1)[:2**15 - 2**7] = torch.from_numpy(
        (np.arange(2**15 - 2**7, dtype=np.int32) << 16).view(np.float32))
    MMLogger.get_current_instance().addHandler(caplog.handler)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        evaluate([sample])
    assert any('RoadAnomaly: the scores crowd' in record.getMessage() for record in caplog.records)


def with_second_score(sample):
    """The sample with its scores and their squares."""
    scores = sample.anomaly_scores.data
    sample.anomaly_scores = PixelData(data=torch.cat([scores, scores**2]))
    sample.set_metainfo(dict(score_names=('plain', 'squared')))
    return sample


def test_several_scores_are_evaluated_apart(tmp_path):
    samples = [make_sample(0), make_sample(1), make_sample(2, 'Static')]
    settings = dict(components=dict(Static=SIZES), per_image=True)
    plain = evaluate(samples, output_dir=str(tmp_path / 'plain'), **settings)
    for sample in samples:
        sample.anomaly_scores.data = sample.anomaly_scores.data**2
    squared = evaluate(samples, output_dir=str(tmp_path / 'squared'), **settings)
    twice = [with_second_score(make_sample(index, 'Static' if index == 2 else 'RoadAnomaly')) for index in range(3)]
    both = evaluate(twice, output_dir=str(tmp_path / 'both'), **settings)
    expected = {}
    for name, result in (('plain', plain), ('squared', squared)):
        expected.update({key.replace('/', f'/{name}/'): value for key, value in result.items()})
        files = sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob('*.*'))
        assert len(files) == 5
        for path in files:
            assert (tmp_path / 'both' / name / path).read_bytes() == (tmp_path / name / path).read_bytes()
    assert both == expected


def test_wrong_numbers_of_scores_are_named():
    metric = AnomalyMetric()
    sample = with_second_score(make_sample(0)).to_dict()
    with pytest.raises(ValueError, match=r'images/0.jpg: anomaly_scores must be \(1, H, W\), got \(2, 6, 8\)'):
        metric.process(None, [{key: value for key, value in sample.items() if key != 'score_names'}])
    metric.process(None, [sample])
    with pytest.raises(ValueError, match=r"images/1.jpg: it has the scores \[''\], images before .*'plain', 'squared'"):
        metric.process(None, [make_sample(1).to_dict()])


def test_score_maps_are_not_kept_unless_asked_for(tmp_path):
    evaluator = Evaluator(AnomalyMetric(output_dir=str(tmp_path), keep_results=False))
    evaluator.process([make_sample(0)])
    evaluator.evaluate(1)
    assert not list(tmp_path.iterdir())


SPLITS = (((0, 1, 2), (3, 4)), ((0, 2, 4), (1, 3)), ((0, 1, 2), (2, 3, 4)), ((0, 1, 2, 3, 4), ()), ((0, 1), (2, 3)))
SETTINGS = (dict(), dict(mode='exact', components=dict(A=dict(min_pred_area=2, min_gt_area=2))),
            dict(protocol='smiyc', components=dict(B=dict(min_pred_area=2, min_gt_area=2, threshold=0.25))))


def two_rank_sample(index, number):
    """A sample of one of two benchmarks; the first settings are tried with two scores.

    It is so large that its scores are more bytes than NumPy's arrays own after unpickling.
    """
    sample = make_sample(index, 'A' if index % 2 else 'B', (40, 80))
    return with_second_score(sample) if number < len(SPLITS) else sample


def run_rank(rank, folder):
    """Evaluate each split on one of two ranks; what came out, or the error's text, is written as JSON.

    Then two images of one name in different folders, one on each rank, with and without score maps, and a rare error.
    """
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    outcomes = []

    def evaluate_samples(samples, size, **settings):
        evaluator = Evaluator(AnomalyMetric(**settings))
        evaluator.process(samples)
        try:
            outcomes.append(evaluator.evaluate(size))
        except ValueError as error:
            outcomes.append(str(error))

    for number, (settings, split) in enumerate(itertools.product(SETTINGS, SPLITS)):
        samples = [two_rank_sample(index, number) for index in split[rank]]
        evaluate_samples(samples, 5, output_dir=f'{folder}/maps{number}', per_image=True, **settings)
    twin = make_sample(0)
    twin.set_metainfo(dict(img_path=f'{rank}/0.jpg'))
    for settings in (dict(), dict(format_only=True), dict(score_dtype=None)):
        evaluate_samples([twin], 2, output_dir=f'{folder}/twins', **settings)
    try:
        on_main(lambda: {}['key'])
    except KeyError as error:
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
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()
    of_rank = [json.loads((tmp_path / f'{rank}.json').read_text()) for rank in range(2)]
    assert of_rank[0] == of_rank[1]

    for number, settings in enumerate(SETTINGS):
        samples = [two_rank_sample(index, len(SPLITS) * number) for index in range(5)]
        outcomes = of_rank[0][5 * number:5 * number + 5]
        alone = evaluate(samples, output_dir=str(tmp_path / f'alone{number}'), per_image=True, **settings)
        for split in (0, 1, 3):
            folder = tmp_path / f'maps{5 * number + split}'
            assert outcomes[split] == alone
            files = sorted(path.relative_to(folder) for path in folder.rglob('*.*'))
            assert len(files) == (14 if number == 0 else 7)
            for path in files:
                assert (folder / path).read_bytes() == (tmp_path / f'alone{number}' / path).read_bytes()
        assert 'counted twice, the first is images/2.jpg of B' in outcomes[2]
        assert 'has 5 samples, 4 were counted (2 of A, 2 of B)' in outcomes[4]
    *twins, without_maps, error = of_rank[0][5 * len(SETTINGS):]
    assert twins == ['the score maps of 0/0.jpg and 1/0.jpg of RoadAnomaly would be one file'] * 2
    assert len(without_maps) == 5 and error == "'key'"


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
