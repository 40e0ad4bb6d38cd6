# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mgcda.apis import AnomalyInferencer, calibrate
from mgcda.apis.calibration import check_threshold, find_data_sets, read_threshold, write_threshold


@pytest.fixture(scope='module')
def inferencer(tiny) -> AnomalyInferencer:
    cfg = Config.fromfile(tiny / 'tiny_mgcda.py')
    cfg.cityscapes = dict(
        type='ClassLabelDataset',
        dataset_name='TinyCityscapes',
        data_root=str(tiny / 'cityscapes'),
        test_mode=True,
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=cfg.test_pipeline)
    return AnomalyInferencer(cfg, str(tiny / 'epoch_1.pth'))


def scores_of(inferencer: AnomalyInferencer, paths: list) -> list:
    return [result.anomaly_scores for result in inferencer([str(path) for path in paths])['predictions']]


def check(found, scores: np.ndarray, target_fpr: float) -> None:
    assert found.target_fpr == target_fpr and found.num_pixels == scores.size
    assert found.fpr == np.mean(scores > np.float32(found.threshold)) <= target_fpr
    assert target_fpr - found.fpr < 2e-3
    assert abs(np.mean(scores > np.quantile(scores, 1 - target_fpr)) - found.fpr) < 2e-3


def test_images_without_anomalies(inferencer, tiny) -> None:
    found = calibrate(inferencer, str(tiny / 'road_anomaly/frames'), 0.05)
    paths = sorted((tiny / 'road_anomaly/frames').glob('*.jpg'))
    check(found, np.concatenate(scores_of(inferencer, paths), None), 0.05)
    assert found.num_images == 3 and found.data.endswith('frames')
    again = calibrate(inferencer, [cv2.imread(str(path)) for path in paths], 0.05)
    assert again._replace(data=found.data) == found and again.data == '3 images'


def test_normal_pixels_of_a_benchmark(inferencer, tiny) -> None:
    paths = sorted((tiny / 'fishyscapes/original').glob('*.png'))
    labels = [cv2.imread(str(tiny / f'fishyscapes/labels/{path.name}'), cv2.IMREAD_UNCHANGED) for path in paths]
    assert all(set(np.unique(label)) == {0, 1, 255} for label in labels)
    scores = [values[label == 0] for values, label in zip(scores_of(inferencer, paths), labels)]
    check(calibrate(inferencer, 'Fishyscapes', 0.2), np.concatenate(scores), 0.2)


def test_labelled_pixels_of_classes(inferencer, tiny) -> None:
    paths = sorted((tiny / 'cityscapes/leftImg8bit/train/a').glob('*.png'))
    assert len(paths) == 5
    scores = []
    for path, values in zip(paths, scores_of(inferencer, paths)):
        name = path.name.replace('leftImg8bit', 'gtFine_labelIds')
        ids = cv2.imread(str(tiny / f'cityscapes/gtFine/train/a/{name}'), cv2.IMREAD_UNCHANGED)
        scores.append(values[np.isin(ids, [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33])])
    check(calibrate(inferencer, 'TinyCityscapes', 0.1), np.concatenate(scores), 0.1)


def test_classes_beside_outliers(inferencer, tiny) -> None:
    """Labels of VoidClass as classes: all pixels count but outliers and ignored ones."""
    cfg = inferencer.cfg.copy()
    cfg.void = dict(
        type='VoidClassDataset',
        targets='classes',
        dataset_name='Void',
        test_mode=True,
        data_root=str(tiny / 'cityscapes'),
        pipeline=cfg.test_pipeline,
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'))
    other = AnomalyInferencer(cfg, str(tiny / 'epoch_1.pth'))
    assert calibrate(other, 'Void')._replace(data='') == calibrate(inferencer, 'TinyCityscapes')._replace(data='')


def test_maps_on_disk_are_not_read(inferencer, tiny) -> None:
    """One's own images have none, so that the threshold must be of maps that come online."""
    cfg = inferencer.cfg.copy()
    leaf = dict(cfg.test_dataloader.dataset.datasets[1], maps_root='nowhere', dataset_name='WithMaps')
    leaf['pipeline'] = [leaf['pipeline'][0], dict(type='LoadDissimilarityMaps'), *leaf['pipeline'][1:]]
    cfg.with_maps = leaf
    other = AnomalyInferencer(cfg, str(tiny / 'epoch_1.pth'))
    assert calibrate(other, 'WithMaps').threshold == calibrate(inferencer, 'Fishyscapes').threshold


def test_data_sets_by_name(inferencer) -> None:
    assert list(find_data_sets(inferencer.cfg)) == ['RoadAnomaly', 'Fishyscapes', 'TinyCityscapes']


def test_what_is_wrong_is_named(inferencer, tiny, tmp_path) -> None:
    with pytest.raises(ValueError, match="'Nowhere' is neither .* which has RoadAnomaly, Fishyscapes, TinyCityscapes"):
        calibrate(inferencer, 'Nowhere')
    with pytest.raises(ValueError, match='target_fpr must be between 0 and 1, got 0'):
        calibrate(inferencer, 'Fishyscapes', 0)
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((8, 8), np.uint8))
    hidden = inferencer.cfg.copy()
    hidden.own = dict(
        type='AnomalyDataset',
        dataset_name='Hidden',
        labels_hidden=True,
        data_root=str(tmp_path),
        data_prefix=dict(img_path=''),
        test_mode=True,
        pipeline=hidden.test_pipeline)
    with pytest.raises(ValueError, match='the labels of Hidden are hidden'):
        calibrate(AnomalyInferencer(hidden, str(tiny / 'epoch_1.pth')), 'Hidden')


class TestThresholdFiles:

    def test_written_and_read(self, inferencer, tmp_path) -> None:
        path = str(tmp_path / 'new/threshold.json')
        found = calibrate(inferencer, 'Fishyscapes')
        write_threshold(path, found, inferencer)
        content = read_threshold(path)
        check_threshold(path, content, inferencer)
        assert {key: content[key] for key in found._fields} == found._asdict()

    def test_of_another_score_or_other_weights(self, inferencer, tiny, tmp_path) -> None:
        path = str(tmp_path / 'threshold.json')
        write_threshold(path, calibrate(inferencer, 'Fishyscapes'), inferencer)
        content = read_threshold(path)
        other = AnomalyInferencer(tiny / 'tiny_mgcda.py', str(tiny / 'epoch_1.pth'))
        check_threshold(path, content, other)
        other.model.decode_head.conv_seg.bias.data += 1
        with pytest.raises(ValueError, match='threshold of other weights'):
            check_threshold(path, content, other)
        with pytest.raises(ValueError, match='of the score energy, not of logit_margin'):
            check_threshold(path, dict(content, score='energy'), inferencer)

    def test_missing_or_damaged(self, tmp_path) -> None:
        with pytest.raises(FileNotFoundError, match='t.json does not exist'):
            read_threshold(str(tmp_path / 't.json'))
        for text in ('{', '[]', '{"threshold": 1}', '{"threshold": "a", "score": "b", "fingerprint": "c"}'):
            (tmp_path / 't.json').write_text(text)
            with pytest.raises(ValueError, match='t.json is no threshold file'):
                read_threshold(str(tmp_path / 't.json'))
