# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""The mIoU beside the anomaly metrics is that of MMSegmentation's own metric."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric
from mmseg.structures import SegDataSample

from mgcda.evaluation import AnomalyMetric
from mgcda.evaluation.metrics.segmentation_quality import SegmentationQuality
from mgcda.evaluation.results import read_results

CLASSES = ('road', 'pole', 'sky', 'train', 'car')
#: Neither labels nor predictions have the class `train`, and no label has the class `sky`.
ABSENT, UNLABELLED = 3, 2
KEYS = ['mIoU', 'mAcc', 'aAcc']


def class_sample(index, name='Cityscapes', size=(7, 9)):
    """Predictions that are right for some 60 % of the pixels."""
    rng = np.random.default_rng(index)
    label = torch.from_numpy(rng.choice([0, 0, 1, 4, 255], size=(1, *size)))
    guess = torch.from_numpy(rng.choice([0, 1, 2, 4], size=(1, *size)))
    prediction = torch.where(torch.from_numpy(rng.random((1, *size)) < 0.5), guess, label.clamp(max=4))
    sample = SegDataSample(
        metainfo=dict(img_path=f'classes/{index}.png', dataset_name=name, label_classes=CLASSES, labels_hidden=False))
    sample.gt_sem_seg = PixelData(data=label)
    sample.pred_sem_seg = PixelData(data=prediction)
    sample.seg_logits = PixelData(data=torch.zeros(5, *size))
    return with_scores(sample, rng)


def anomaly_sample(index, name='RoadAnomaly', size=(6, 8)):
    rng = np.random.default_rng(index)
    sample = SegDataSample(metainfo=dict(img_path=f'anomalies/{index}.png', dataset_name=name))
    sample.gt_sem_seg = PixelData(data=torch.from_numpy(rng.choice([0, 1, 255], size=(1, *size))))
    return with_scores(sample, rng)


def with_scores(sample, rng):
    """Two scores."""
    sample.anomaly_scores = PixelData(data=torch.from_numpy(rng.normal(size=(2, *sample.gt_sem_seg.shape))).float())
    sample.set_metainfo(dict(score_names=('msp', 'energy')))
    return sample


def reference(samples):
    """What MMSegmentation's metric reports, in percent with two decimals."""
    evaluator = Evaluator(IoUMetric(iou_metrics=['mIoU']))
    evaluator.dataset_meta = dict(classes=CLASSES)
    for sample in samples:
        evaluator.process([sample])
    return evaluator.evaluate(len(samples))


def evaluate(samples, **settings):
    evaluator = Evaluator(AnomalyMetric(**settings))
    for sample in samples:
        evaluator.process([sample])
    return evaluator.evaluate(len(samples))


def test_values_are_those_of_mmsegmentation():
    samples = [class_sample(index) for index in range(4)]
    labels = torch.cat([sample.gt_sem_seg.data for sample in samples])
    predictions = torch.cat([sample.pred_sem_seg.data for sample in samples])
    assert ABSENT not in labels.unique() and ABSENT not in predictions.unique()
    assert UNLABELLED not in labels.unique() and UNLABELLED in predictions[labels != 255].unique()
    result = evaluate(samples)
    assert list(result) == [f'Cityscapes/{key}' for key in KEYS]
    expected = reference(samples)
    assert {key: round(result[f'Cityscapes/{key}'], 2) for key in KEYS} == pytest.approx(expected, abs=1e-6)
    # By hand, unrounded: IoU of the four classes that occur, accuracy of the three that labels have.
    ious = []
    for index in (0, 1, 2, 4):
        of_label, of_prediction = labels == index, (predictions == index) & (labels != 255)
        ious.append(float((of_label & of_prediction).sum() / (of_label | of_prediction).sum().double()))
    assert result['Cityscapes/mIoU'] == pytest.approx(100 * np.mean(ious), abs=1e-10)
    assert ious[2] == 0 and all(type(value) is float for value in result.values())


def test_it_is_given_once_beside_all_scores(tmp_path, caplog):
    MMLogger.get_current_instance().addHandler(caplog.handler)
    classes, anomalies = [class_sample(index) for index in range(3)], [anomaly_sample(index) for index in range(2)]
    other = class_sample(5, 'Other')
    samples = [classes[0], *anomalies, other, *classes[1:]]
    result = evaluate(samples, output_dir=str(tmp_path), size=(3, 4), prefix='val')
    quality = {f'val/{key}': value for key, value in evaluate([*classes, other]).items()}
    scores = {f'val/{key}': value for key, value in evaluate(anomalies, size=(3, 4)).items()}
    assert result == {**quality, **scores} and len(quality) == 6
    assert 'Semantic segmentation, in %' in caplog.text and '|  data set  |  mIoU |  mAcc |  aAcc |' in caplog.text
    # Predicted classes count there, so that score maps of these images have no use.
    assert not list(tmp_path.rglob('Cityscapes')) and len(list(tmp_path.rglob('*.npy'))) == 4
    first, second = (read_results(tmp_path / name / 'results.json') for name in ('msp', 'energy'))
    np.testing.assert_equal(first['segmentation'], second['segmentation'])
    entry = first['segmentation']['Cityscapes']
    assert entry['num_images'] == 3 and list(first['segmentation']) == ['Cityscapes', 'Other']
    assert entry['num_pixels'] == sum(int((sample.gt_sem_seg.data != 255).sum()) for sample in classes)
    assert entry['metrics'] == {key: quality[f'val/Cityscapes/{key}'] for key in KEYS}
    assert list(entry['IoU']) == list(CLASSES) and np.isnan(entry['IoU']['train']) and entry['IoU']['sky'] == 0
    assert np.nanmean(list(entry['IoU'].values())) == pytest.approx(entry['metrics']['mIoU'])


def test_a_test_of_classes_alone(tmp_path):
    samples = [class_sample(index) for index in range(2)]
    result = evaluate(samples, output_dir=str(tmp_path))
    assert list(result) == [f'Cityscapes/{key}' for key in KEYS]
    assert sorted(path.relative_to(tmp_path).as_posix()
                  for path in tmp_path.rglob('*.*')) == ['energy/results.json', 'msp/results.json']
    assert read_results(tmp_path / 'msp/results.json')['data_sets'] == {}


def test_each_evaluation_starts_anew():
    evaluator = Evaluator(AnomalyMetric())
    for index in range(2):
        evaluator.process([class_sample(index)])
        assert evaluator.evaluate(1) == evaluate([class_sample(index)])


def test_only_score_maps_are_written_where_nothing_is_to_be_scored(tmp_path):
    assert evaluate([class_sample(0), anomaly_sample(0)], format_only=True, output_dir=str(tmp_path)) == {}
    assert sorted(path.relative_to(tmp_path / 'msp').as_posix()
                  for path in (tmp_path / 'msp').rglob('*.*')) == ['Cityscapes/0.npy', 'RoadAnomaly/0.npy']


def test_models_of_other_classes_are_refused():
    sample = class_sample(0)
    sample.pred_sem_seg.data = sample.pred_sem_seg.data % 2
    sample.seg_logits = PixelData(data=torch.zeros(2, 7, 9))
    with pytest.raises(
            ValueError,
            match='classes/0.png: Cityscapes has labels of 5 classes, but the model predicts 2, '
            'normal and anomaly: its mIoU is not defined; leave Cityscapes out'):
        evaluate([sample])
    del sample.seg_logits
    sample.pred_sem_seg.data[0, 0, 0] = 7
    with pytest.raises(ValueError, match='the model predicts 8: its mIoU'):
        evaluate([sample])


def test_bad_samples_are_named():
    sample = class_sample(0).to_dict()
    metric = AnomalyMetric()

    def process(**changes):
        changed = {key: value for key, value in {**sample, **changes}.items() if value is not None}
        metric.process(None, [changed])

    with pytest.raises(ValueError, match='classes/0.png: the sample has no pred_sem_seg; is the model a segmentor'):
        process(pred_sem_seg=None)
    with pytest.raises(ValueError, match='classes/0.png: the sample has no gt_sem_seg'):
        process(gt_sem_seg=None)
    with pytest.raises(ValueError, match=r'pred_sem_seg has the size \(3, 4\), the label \(7, 9\)'):
        process(pred_sem_seg=dict(data=torch.zeros(1, 3, 4).long()))
    with pytest.raises(ValueError, match='the labels of this split of Cityscapes are hidden'):
        process(labels_hidden=True)
    with pytest.raises(ValueError, match=r'labels of Cityscapes must be 0..4 or 255, got \[5, 254\]'):
        process(gt_sem_seg=dict(data=torch.tensor([5, 254, 255] * 21).view(1, 7, 9)))
    process()
    with pytest.raises(ValueError, match='classes/0.png was counted twice for Cityscapes'):
        process()
    with pytest.raises(ValueError, match='images of Cityscapes before it have labels of other classes'):
        process(img_path='classes/1.png', label_classes=('a', 'b', 'c', 'd', 'e'))


def test_labels_of_void_alone_have_no_miou():
    sample = class_sample(0)
    sample.gt_sem_seg.data.fill_(255)
    with pytest.raises(ValueError, match='Cityscapes: not one pixel of its labels has a class'):
        evaluate([sample])


#: Samples of each rank; a rank may have no image with classes, or none at all.
SPLITS = (((0, 1, 2), (3, 4, 5)), ((0, 2, 4), (1, 3, 5)), ((0, 1, 2, 3, 4, 5), ()))


def numbered_sample(index):
    """Samples 0 to 2 have classes, of one data set or another."""
    return anomaly_sample(index) if index > 2 else class_sample(index, 'Other' if index == 1 else 'Cityscapes')


def run_rank(rank, folder):
    """Evaluate each split on one of two ranks."""
    torch.distributed.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
    results = []
    for number, split in enumerate(SPLITS):
        evaluator = Evaluator(AnomalyMetric(output_dir=f'{folder}/{number}'))
        for index in split[rank]:
            evaluator.process([numbered_sample(index)])
        results.append(evaluator.evaluate(6))
    Path(folder, f'{rank}.json').write_text(json.dumps(results))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_processes_agree_with_one(tmp_path):
    torch.multiprocessing.spawn(run_rank, (str(tmp_path), ), nprocs=2)
    alone = evaluate([numbered_sample(index) for index in range(6)], output_dir=str(tmp_path / 'alone'))
    assert {'Cityscapes/mIoU', 'Other/mIoU', 'RoadAnomaly/msp/AP'} < set(alone)
    for rank in range(2):
        assert json.loads((tmp_path / f'{rank}.json').read_text()) == [alone] * len(SPLITS)
    for number in range(len(SPLITS)):
        for name in ('msp', 'energy'):
            path = f'{name}/results.json'
            assert (tmp_path / str(number) / path).read_bytes() == (tmp_path / 'alone' / path).read_bytes()


def test_large_images_are_counted_to_the_pixel():
    """A sum of ones in float32 ends at 2**24."""
    num_pixels, num_threads = 2**24 + 1000, torch.get_num_threads()
    plane = torch.zeros(1, 1, num_pixels, dtype=torch.uint8)
    quality = SegmentationQuality()
    torch.set_num_threads(1)
    try:
        quality.count('Large', dict(label_classes=('road', 'sky'), pred_sem_seg=dict(data=plane)), plane)
    finally:
        torch.set_num_threads(num_threads)
    assert quality.compute()['Large']['num_pixels'] == num_pixels
