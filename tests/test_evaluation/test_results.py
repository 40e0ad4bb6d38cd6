# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import json
import math
import os

import numpy as np
import pytest

from mgcda.evaluation.results import differences, method_name, read_methods, read_results, write_results


def results(**changes):
    curve = dict(
        threshold=np.array([math.inf, 0.5, -math.inf]),
        recall=np.array([0.25, 1, 1]),
        precision=[1, 0.5, 0.1],
        fpr=(0, 0.01, 1))
    data_set = dict(
        num_images=2,
        num_normal=np.int64(90),
        num_anomaly=10,
        metrics=dict(AP=np.float64(51.25), FPR95=math.nan, F1_threshold=-math.inf),
        curve=curve)
    return dict(protocol='fishyscapes', mode='exact', data_sets=dict(RoadAnomaly={**data_set, **changes}))


def test_results_are_read_as_written(tmp_path):
    path = tmp_path / 'new' / 'results.json'
    write_results(path, results())
    assert os.listdir(path.parent) == ['results.json']
    stored = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert stored['format'] == 1 and stored['protocol'] == 'fishyscapes' and stored['mode'] == 'exact'
    stored = stored['data_sets']['RoadAnomaly']
    assert stored['metrics'] == dict(AP=51.25, FPR95=None, F1_threshold='-inf')
    assert stored['curve'] == dict(
        threshold=['inf', 0.5, '-inf'], recall=[0.25, 1, 1], precision=[1, 0.5, 0.1], fpr=[0, 0.01, 1])

    read = read_results(path)['data_sets']['RoadAnomaly']
    assert (read['num_images'], read['num_normal'], read['num_anomaly']) == (2, 90, 10)
    assert read['metrics']['AP'] == 51.25 and math.isnan(read['metrics']['FPR95'])
    assert read['curve']['threshold'].tolist() == [math.inf, 0.5, -math.inf]
    assert all(part.dtype == np.float64 and part.shape == (3, ) for part in read['curve'].values())

    write_results(path, read_results(path))
    assert json.loads(path.read_text())['data_sets']['RoadAnomaly'] == stored


def test_floats_lose_no_digit(tmp_path):
    values = np.random.default_rng(0).random(100) * 100
    write_results(tmp_path / 'r.json', results(metrics={str(i): value for i, value in enumerate(values)}))
    assert list(read_results(tmp_path / 'r.json')['data_sets']['RoadAnomaly']['metrics'].values()) == values.tolist()


def test_the_curve_may_be_left_out(tmp_path):
    content = results()
    del content['data_sets']['RoadAnomaly']['curve']
    write_results(tmp_path / 'r.json', content)
    assert 'curve' not in read_results(tmp_path / 'r.json')['data_sets']['RoadAnomaly']


def segmentation(**changes):
    entry = dict(num_images=2, num_pixels=np.int64(100), metrics=dict(mIoU=12.5), IoU=dict(road=25.0, train=math.nan))
    return {**results(), 'segmentation': dict(Cityscapes={**entry, **changes})}


def test_values_of_predicted_classes(tmp_path):
    path, content = tmp_path / 'r.json', segmentation()
    for data_sets in (content['data_sets'], {}):
        write_results(path, dict(content, data_sets=data_sets))
        read = read_results(path)['segmentation']
        np.testing.assert_equal(read, content['segmentation'])
        assert json.loads(path.read_text())['segmentation']['Cityscapes']['IoU'] == dict(road=25.0, train=None)
        write_results(path, read_results(path))


@pytest.mark.parametrize('content, message', [
    (segmentation(num_images=None), r'segmentation.Cityscapes.num_images must be an integer >= 0, got None'),
    (segmentation(num_pixels=1.5), r'segmentation.Cityscapes.num_pixels must be an integer >= 0, got 1.5'),
    (segmentation(metrics=[1]), r'segmentation.Cityscapes.metrics must be a dict of numbers'),
    (segmentation(IoU=dict(road='wide')), r"segmentation.Cityscapes.IoU.road must be a number or null, got 'wide'"),
    (segmentation(IoU=None), r'segmentation.Cityscapes.IoU must be a dict of numbers'),
    (dict(results(), segmentation=[]), r'segmentation must be a dict of data sets'),
    (dict(segmentation(), data_sets=[]), r'data_sets must be a dict of at least one data set'),
    (dict(results(), segmentation=dict(Cityscapes=3)), r'Cityscapes must be a dict of num_images, num_pixels and metr'),
])
def test_values_of_predicted_classes_of_another_form_are_refused(tmp_path, content, message):
    path = tmp_path / 'r.json'
    with pytest.raises(ValueError, match=message):
        write_results(path, content)
    path.write_text(json.dumps(dict(content, format=1), default=lambda value: getattr(value, 'tolist', str)()))
    with pytest.raises(ValueError, match=message):
        read_results(path)


def test_predicted_classes_of_other_images_or_labels_are_named():
    methods = dict(A=segmentation(), B=segmentation(num_images=500), C=segmentation(num_images=500, num_pixels=7))
    assert differences(methods, ['Cityscapes'], dict(Cityscapes=500)) == [
        'Cityscapes has 500 images, but 2 were used for A: these results do not compare with others.',
        'The results on Cityscapes are of other images or labels: A 100 pixels with a class, B 100 pixels with a '
        'class, C 7 pixels with a class.'
    ]


@pytest.mark.parametrize('changes, message', [
    (dict(num_images=-1), r'data_sets.RoadAnomaly.num_images must be an integer >= 0, got -1'),
    (dict(num_normal=1.5), r'num_normal must be an integer'),
    (dict(metrics=None), r'data_sets.RoadAnomaly.metrics must be a dict of numbers'),
    (dict(metrics=dict(AP='high')), r"metrics.AP must be a number or null, got 'high'"),
    (dict(curve=[1, 2]), r'curve must be a dict of threshold, recall'),
    (dict(curve=dict(threshold=[1])), r'curve.recall must be a list of numbers'),
    (dict(curve=dict(threshold=[1, 0], recall=[1], precision=[1], fpr=[1])), r'curve.recall must be as long as'),
    (dict(curve=dict(threshold=['a'], recall=[1], precision=[1], fpr=[1])), r'curve.threshold must be a list of num'),
])
def test_results_of_another_form_are_refused(tmp_path, changes, message):
    path = tmp_path / 'r.json'
    with pytest.raises(ValueError, match=message) as error:
        write_results(path, results(**changes))
    assert str(path) in str(error.value) and not path.exists()


@pytest.mark.parametrize('text, message', [
    ('{"format": 1', 'no JSON'),
    ('[]', 'the file must be a dict'),
    ('{"format": 2}', 'format must be 1, got 2'),
    ('{"format": 1, "protocol": "smiyc"}', 'mode must be a string'),
    ('{"format": 1, "protocol": "smiyc", "mode": "exact", "data_sets": {}}', 'at least one data set'),
])
def test_files_of_another_form_are_refused(tmp_path, text, message):
    path = tmp_path / 'r.json'
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_results(path)
    assert str(path) in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='none.json does not exist'):
        read_results(tmp_path / 'none.json')


def test_names_of_methods():
    assert method_name('work_dirs/mgcda/results.json') == 'mgcda'
    assert method_name('work_dirs/pebal.json') == 'pebal'


def test_differences_of_methods(tmp_path):

    def of(**data_sets):
        return dict(
            data_sets={
                name: dict(num_images=counts[0], num_normal=counts[1], num_anomaly=counts[2])
                for name, counts in data_sets.items()
            })

    methods = dict(
        a=of(RoadAnomaly21=(10, 5, 5), Own=(3, 5, 5), LostAndFound_test=(1203, 1, 1)),
        b=of(RoadAnomaly21=(9, 5, 5), Own=(3, 5, 4), **{'FS_Static@256x512': (1030, 2, 3)}))
    official = dict(RoadAnomaly21=10, LostAndFound_test=1203, FS_Static=30)
    assert differences(methods, ['RoadAnomaly21'], official) == [
        'RoadAnomaly21 has 10 images, but 9 were used for b: these results do not compare with others.'
    ]
    assert differences(methods, ['Own'], official) == [
        'The results on Own are of other images or labels: a 5 normal and 5 anomaly pixels, b 5 normal and 4 anomaly '
        'pixels.'
    ]
    assert differences(methods, ['LostAndFound_test', 'Absent'], official) == []
    reduced = differences(methods, ['FS_Static@256x512'], official)
    assert reduced[0].startswith('FS_Static@256x512 has 30 images, but 1030 were')


def test_methods_have_names_of_their_own(tmp_path):
    for folder in 'ab':
        write_results(tmp_path / folder / 'scores/results.json', results())
    paths = sorted(tmp_path.rglob('results.json'))
    assert list(read_methods(paths, ['A', 'B'])) == ['A', 'B']
    with pytest.raises(ValueError, match='several of the results are named scores: tell them apart with --names'):
        read_methods(paths)
