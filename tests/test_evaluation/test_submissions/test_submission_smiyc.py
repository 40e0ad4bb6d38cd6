# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import h5py
import numpy as np
import pytest

from mgcda.evaluation import PixelCurve
from mgcda.evaluation.submissions.smiyc import (
    RankMap,
    check_frames,
    check_smiyc,
    frame_id,
    smiyc_path,
    to_float16,
    write_smiyc,
)


def obstacle_frames():
    """Names of frames as the benchmark's are: 327 test, 30 + 10 validation, 55 snowstorm, 30 night."""
    scenes = dict(gravel=200, darkasphalt2=127, snowstorm1=25, snowstorm2=30, driveway=30)
    frames = [f'{scene}_{i:02}_00.{i}' for scene, count in scenes.items() for i in range(count)]
    return frames + [f'validation_{i}' for i in range(40)]


def test_the_splits_are_the_benchmarks():
    anomaly = [f'cow{i:04}' for i in range(100)] + [f'validation{i:04}' for i in range(10)]
    assert check_frames('AnomalyTrack-all', anomaly) == dict(test=100, validation=10)
    assert check_frames('AnomalyTrack-all', anomaly[:100]) == dict(test=100)
    counts = dict(test=327, validation=30, snowstorm=55, night=30)
    assert check_frames('ObstacleTrack-all', obstacle_frames()) == counts
    unscored = {f'validation_{i}' for i in (19, 21, 22, 23, 24, 25, 26, 27, 28, 29)}
    assert check_frames('ObstacleTrack-all', set(obstacle_frames()) - unscored) == counts
    for count in (1203, 1043):  # all frames, or those of test-NoKnown
        assert check_frames('LostAndFound-test', map(str, range(count))) == dict(test=count)


def test_incomplete_splits_are_refused():
    frames = obstacle_frames()[1:]
    with pytest.raises(ValueError, match='ObstacleTrack-all: 326 frames of test, the benchmark has 327; a part'):
        check_frames('ObstacleTrack-all', frames)
    assert check_frames('ObstacleTrack-all', frames, partial=True)['test'] == 326
    with pytest.raises(ValueError, match='LostAndFound-test: 1042 frames of test'):
        check_frames('LostAndFound-test', map(str, range(1042)))
    with pytest.raises(ValueError, match='101 frames of test, the benchmark has 100$'):
        check_frames('AnomalyTrack-all', map(str, range(101)), partial=True)
    with pytest.raises(ValueError, match='LostAndFound-test has no frames'):
        check_frames('LostAndFound-test', [], partial=True)


def test_frame_names():
    assert frame_id('02_Hanns_Klemm_Str_44_000000_000020_leftImg8bit') == '02_Hanns_Klemm_Str_44_000000_000020'
    assert frame_id('snowstorm1_00_09_22.178') == 'snowstorm1_00_09_22.178'


def test_files_are_read_back(tmp_path):
    scores = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float16)
    path = smiyc_path(tmp_path, 'ours', 'AnomalyTrack-all', 'validation0003')
    assert path == tmp_path / 'anomaly_p/ours/AnomalyTrack-all/validation0003.hdf5'
    write_smiyc(path, scores)
    with h5py.File(path) as file:  # as the suite reads them
        assert list(file) == ['value'] and file['value'].compression == 'gzip'
        np.testing.assert_array_equal(file['value'][:], scores)
    assert check_smiyc(tmp_path, 'ours', partial=True) == {'AnomalyTrack-all': dict(validation=1)}
    assert check_smiyc(tmp_path, 'ours', partial=True, sizes=dict(validation0003=(6, 8), other=(1, 1)))
    with pytest.raises(ValueError, match='1 frames of validation, the benchmark has 10'):
        check_smiyc(tmp_path, 'ours')
    with pytest.raises(ValueError, match=r'validation0003.hdf5 is \(6, 8\), its image \(12, 16\)'):
        check_smiyc(tmp_path, 'ours', partial=True, sizes=dict(validation0003=(12, 16)))


@pytest.mark.parametrize('name, arrays, message', [
    ('a.hdf5', dict(value=np.zeros((2, 3), np.float32)), 'must hold float16'),
    ('a.hdf5', dict(value=np.zeros((1, 2, 3), np.float16)), r'must hold float16 \(H, W\), got float16 \(1, 2, 3\)'),
    ('a.hdf5', dict(value=np.full((2, 3), np.inf, np.float16)), 'not finite'),
    ('a.hdf5', dict(scores=np.zeros((2, 3), np.float16)), "has no array 'value'"),
    ('a.hdf5', {
        'value/scores': np.zeros((2, 3), np.float16)
    }, "is damaged or has no array 'value'"),
    ('a.hdf5', dict(value=[b'a', b'b']), "is damaged or has no array 'value'"),
    ('a.hdf5', None, "is damaged or has no array 'value'"),
    ('a.h5', dict(value=np.zeros((2, 3), np.float16)), 'does not belong'),
])
def test_files_that_break_a_rule_are_named(tmp_path, name, arrays, message):
    path = tmp_path / 'anomaly_p/ours/AnomalyTrack-all' / name
    path.parent.mkdir(parents=True)
    if arrays is None:
        path.write_bytes(b'nothing')
    else:
        with h5py.File(path, 'w') as file:
            file.update(arrays)
    with pytest.raises(ValueError, match=message) as error:
        check_smiyc(tmp_path, 'ours', partial=True)
    assert str(path) in str(error.value)


def test_unknown_sets_are_named(tmp_path):
    (tmp_path / 'anomaly_p/ours').mkdir(parents=True)
    with pytest.raises(ValueError, match='holds no set'):
        check_smiyc(tmp_path, 'ours')
    (tmp_path / 'anomaly_p/ours/RoadAnomaly21').mkdir()
    with pytest.raises(ValueError, match='RoadAnomaly21: the benchmark has no such set, but AnomalyTrack-all'):
        check_smiyc(tmp_path, 'ours')


def test_scores_beyond_float16_are_refused():
    assert to_float16(np.array([65504., -65504., 1e-9])).tolist() == [65504, -65504, 0]
    for value in (1e5, -1e5, np.inf):
        with pytest.raises(ValueError, match='do not fit into float16, which ends at 65504'):
            to_float16(np.array([0, value], np.float32))
    with pytest.raises(ValueError, match='must be float16'):
        write_smiyc('a.hdf5', np.zeros((2, 2), np.float32))


def test_the_rank_map_keeps_the_order():
    rng = np.random.default_rng(0)
    scores = np.concatenate([np.exp(rng.normal(size=300_000) * 15), [np.inf, -np.inf, 0, 1e-30]]).astype(np.float32)
    mapped = RankMap(scores)(scores)
    assert mapped.dtype == np.float16 and np.isfinite(mapped).all() and mapped.min() >= 0 and mapped.max() <= 1
    order = np.argsort(scores, kind='stable')
    assert (np.diff(mapped[order].astype(np.float32)) >= 0).all()
    values, counts = np.unique(mapped, return_counts=True)
    assert values.size > 11_000 and counts.max() < 3 * scores.size / 7680
    # The largest scores, among which anomalies are, stay apart.
    assert np.unique(mapped[order[-500:]]).size == 500
    few = np.array([-np.inf, -3, -3, 7e30])
    assert RankMap(few)(few).astype(float).argsort(kind='stable').tolist() == [0, 1, 2, 3]
    assert np.unique(RankMap(few)(few)).size == 3


def test_the_rank_map_keeps_the_metric():
    rng = np.random.default_rng(1)
    labels = (rng.random(200_000) < 0.01).astype(np.uint8)
    scores = (1e6 * np.tanh(rng.normal(size=labels.size) + 2.5 * labels)).astype(np.float32)
    expected, actual = PixelCurve(mode='exact'), PixelCurve(mode='exact')
    expected.update(scores, labels)
    actual.update(RankMap(scores[::3])(scores), labels)
    expected, actual = expected.compute(), actual.compute()
    assert expected['AP'] > 20
    for key, tolerance in (('AP', 0.1), ('AUROC', 0.01), ('FPR95', 0.1)):
        assert abs(actual[key] - expected[key]) < tolerance, key
