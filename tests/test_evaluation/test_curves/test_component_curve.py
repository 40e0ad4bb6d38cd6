# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import itertools
import math
import time

import numpy as np
import pytest
import torch
from scipy import ndimage

from mgcda.evaluation import ComponentCurve

KEYS = ['sIoU', 'PPV', 'F1', *(f'F1_{percent}' for percent in range(25, 80, 5))]


def component_sets(mask):
    """Sets of pixels of the 8-connected components, by scipy."""
    ids, number = ndimage.label(mask, structure=np.ones((3, 3)))
    return [set(zip(*np.nonzero(ids == index))) for index in range(1, number + 1)]


def by_definition(frames, threshold, min_pred_area, min_gt_area):
    """The rule step by step, on sets of pixels, one component at a time."""
    sious, ppvs = [], []
    for scores, labels in frames:
        predicted = component_sets((scores > threshold) & (labels != 255))
        predicted = [component for component in predicted if len(component) >= min_pred_area]
        truth = component_sets(labels == 1)
        voided = set().union(*(component for component in truth if len(component) < min_gt_area))
        truth = [component for component in truth if len(component) >= min_gt_area]
        predicted = [component - voided for component in predicted if component - voided]
        for component in truth:
            union_of_predicted = set().union(*(other for other in predicted if other & component))
            others = set().union(*(other for other in truth if other is not component))
            sious.append(len(component & union_of_predicted) / len((component | union_of_predicted) - others))
        all_truth = set().union(*truth)
        ppvs += [len(component & all_truth) / len(component) for component in predicted]
    result = dict(
        sIoU=100 * sum(sious) / len(sious) if sious else math.nan,
        PPV=100 * sum(ppvs) / len(ppvs) if ppvs else math.nan)
    f1 = {}
    for percent, tau in zip(range(25, 80, 5), np.linspace(0.25, 0.75, 11)):
        num_tp = sum(value >= tau for value in sious)
        num_fn = sum(value < tau for value in sious)
        num_fp = sum(value < tau for value in ppvs)
        f1[f'F1_{percent}'] = 100 * 2 * num_tp / (2 * num_tp + num_fn + num_fp) if sious or ppvs else math.nan
    return dict(result, F1=sum(f1.values()) / 11, **f1)


def make_frame(kind, rng, shape=(24, 32)):
    """Scores and labels; predictions overlap the anomalies without repeating them."""
    noise = rng.normal(size=shape)
    if kind == 'noise':
        anomaly, scores = rng.random(shape) < 0.15, noise + rng.normal()
    elif kind == 'tiny':
        anomaly = rng.random(shape) < 0.03
        scores = np.where(rng.random() < 0.5, anomaly, ndimage.binary_dilation(anomaly)) * 2.0 - 1.0 + 0.4 * noise
    else:
        field = ndimage.gaussian_filter(noise, rng.uniform(1, 3))
        anomaly = field > np.quantile(field, rng.uniform(0.6, 0.95))
        shift = tuple(rng.integers(-2, 3, 2))
        scores = np.roll(field, shift, (0, 1)) / field.std() + rng.uniform(0, 0.5) * noise
        if kind == 'steps':
            scores = np.round(scores)
    labels = anomaly.astype(np.uint8)
    if rng.random() < 0.7:
        void = ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0.5, 4))
        labels[void > np.quantile(void, rng.uniform(0.5, 1))] = 255
    return scores.astype(np.float32), labels


def curve_of(frames, *settings):
    curve = ComponentCurve(*settings)
    for frame in frames:
        curve.update(*frame)
    return curve


def assert_equal(result, expected):
    assert list(result) == KEYS
    assert {type(value) for value in result.values()} == {float}
    assert result == pytest.approx(expected, abs=1e-11, nan_ok=True)


@pytest.mark.parametrize('kind', ['noise', 'tiny', 'blobs', 'steps'])
def test_agrees_with_the_rule_step_by_step(kind):
    rng = np.random.default_rng(len(kind))
    seen = []
    for number in range(100):
        frames = [make_frame(kind, rng) for _ in range(1 + number % 3)]
        # Half of the thresholds are scores: a pixel at the threshold is not predicted.
        threshold = float(rng.choice(frames[0][0].ravel())) if number % 2 else rng.normal()
        areas = int(rng.choice([0, 1, 2, 5, 20])), int(rng.choice([0, 1, 2, 5, 20]))
        result = curve_of(frames, threshold, *areas).compute()
        assert_equal(result, by_definition(frames, threshold, *areas))
        seen.append(result['F1'])
    assert 0 < np.nanmean(seen) < 100 and len(set(seen)) > 25


def draw(*rows):
    return np.array([[int(character) for character in row] for row in rows])


def test_hand_drawn_frame():
    # Anomalies: A of 4 pixels above, B of 3 on the right, C of 1 at the bottom left. Void: 9, made 255.
    labels = draw('1100000', '1100011', '0000001', '1000000', '0000099')
    labels[labels == 9] = 255
    # Predicted: one of 8 pixels that touches A in 2 and B in 2, one of 2 that touches C in 1, one of 1 beside all;
    # three void pixels would be predicted, or join others, if they counted.
    scores = draw('0111100', '0100110', '0000001', '1000000', '0100111')
    assert curve_of([(scores, labels)], 0.5, 1, 1).num_pred == 3
    result = curve_of([(scores, labels)], 0.5, 1, 1).compute()
    # A: hit 2, union 4 + (8 - 4) of the first component's pixels outside all anomalies; B: hit 2, union 3 + 4; C:
    # hit 1, union 1 + 1.
    assert result['sIoU'] == pytest.approx(100 * (2 / 8 + 2 / 7 + 1 / 2) / 3)
    assert result['PPV'] == pytest.approx(100 * (4 / 8 + 1 / 2 + 0) / 3)
    # 0.25: three found, one false; 0.30 to 0.50: C found, two missed, one false; above: all missed, all false.
    assert result['F1_25'] == pytest.approx(100 * 6 / 7)
    for percent in (30, 35, 40, 45, 50):
        assert result[f'F1_{percent}'] == pytest.approx(100 * 2 / 5)
    for percent in (55, 60, 65, 70, 75):
        assert result[f'F1_{percent}'] == 0
    assert result['F1'] == pytest.approx(100 * (6 / 7 + 5 * 2 / 5) / 11)


def test_areas_of_the_hand_drawn_rule():
    labels = draw('1110001', '0000000', '0000000')
    scores = draw('0111001', '0000001', '1000001')
    # The single pixel of the label goes, and with it one of the three predicted pixels on the right; the single
    # predicted pixel goes as well.
    result = curve_of([(scores, labels)], 0, 2, 2).compute()
    assert result['sIoU'] == pytest.approx(100 * 2 / 4)
    assert result['PPV'] == pytest.approx(100 * (2 / 3 + 0 / 2) / 2)
    # 0.25 to 0.50: found, one false; 0.55 to 0.65: missed, one false; 0.70, 0.75: missed, two false.
    assert result['F1'] == pytest.approx(100 * 6 / 11 * 2 / 3)
    # Small predicted components go before small anomalies become void: the right one is kept for its 3 pixels, though
    # only 2 are left of it.
    assert curve_of([(scores, labels)], 0, 3, 2).compute() == result
    # A predicted component on nothing but a void anomaly vanishes.
    alone = curve_of([(draw('1100', '0000'), draw('1100', '0000'))], 0, 1, 3)
    assert (alone.num_gt, alone.num_pred) == (0, 0)
    # Sizes are the least that count.
    assert curve_of([(draw('1110'), draw('1110'))], 0, 3, 3).compute() == dict.fromkeys(KEYS, 100)


def test_void_pixels_part_predicted_components_and_diagonals_join_them():
    curve = curve_of([(draw('11111'), np.array([[0, 0, 255, 0, 0]]))], 0, 1, 1)
    assert curve.num_pred == 2
    assert curve_of([(draw('100', '010', '001'), draw('001', '010', '100'))], 0, 1, 1).compute()['sIoU'] == 20


def test_taus_are_those_of_the_public_code():
    # Exactly tau is found, but for 3/5: the float64 of the code's 0.60 is one rounding above it.
    for percent in range(25, 80, 5):
        labels = np.ones((1, 20), int)
        result = curve_of([(np.arange(20)[None] < percent // 5, labels)], 0.5, 1, 1).compute()
        assert result['sIoU'] == pytest.approx(percent)
        assert result[f'F1_{percent}'] == (0 if percent == 60 else 100)
        result = curve_of([(np.ones((1, 20)), np.arange(20)[None] < percent // 5)], 0.5, 1, 1).compute()
        assert result['PPV'] == pytest.approx(percent)
        assert result[f'F1_{percent}'] == (0 if percent == 60 else 100)


def test_what_is_no_anomaly_never_becomes_void():
    result = curve_of([(np.ones((10, 10)), np.r_[np.ones(92, int), np.zeros(8, int)].reshape(10, 10))], 0, 1, 10)
    assert result.compute()['PPV'] == 92


def test_undefined_values():
    empty, some = np.zeros((4, 5), int), np.eye(4, 5, dtype=int)
    for curve in (ComponentCurve(0, 1, 1), curve_of([(empty, empty)], 0, 1, 1)):
        assert all(math.isnan(value) for value in curve.compute().values())
    missed = curve_of([(empty, some)], 0, 1, 1).compute()
    assert math.isnan(missed.pop('PPV')) and set(missed.values()) == {0}
    false = curve_of([(some, empty)], 0, 1, 1).compute()
    assert math.isnan(false.pop('sIoU')) and set(false.values()) == {0}
    ignored = curve_of([(some, np.full((4, 5), 255))], 0, 1, 1)
    assert (ignored.num_gt, ignored.num_pred) == (0, 0)


def test_order_and_merging_do_not_change_a_bit():
    rng = np.random.default_rng(3)
    frames = [make_frame(kind, rng, (40, 50)) for kind in ('noise', 'tiny', 'blobs', 'steps') for _ in range(3)]
    settings = (0.3, 3, 2)
    whole = curve_of(frames, *settings)
    expected = whole.compute()
    for _ in range(20):
        order = rng.permutation(len(frames))
        cuts = np.sort(rng.integers(0, len(frames), 2))
        parts = [curve_of([frames[index] for index in part], *settings) for part in np.split(order, cuts)]
        for order_of_parts in itertools.permutations(parts):
            merged = ComponentCurve(*settings)
            for part in order_of_parts:
                before = part.num_gt, part.num_pred
                merged.merge(part)
                assert (part.num_gt, part.num_pred) == before
            assert merged.compute() == expected
            assert (merged.num_gt, merged.num_pred) == (whole.num_gt, whole.num_pred)
    doubled = curve_of(frames, *settings)
    doubled.merge(doubled)
    assert doubled.num_gt == 2 * whole.num_gt
    assert doubled.compute() == pytest.approx(expected)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_tensors_and_number_types(dtype):
    scores, labels = make_frame('blobs', np.random.default_rng(4))
    scores = torch.from_numpy(scores).to(dtype)
    # A threshold between the numbers of the coarser types must not be rounded to one of them.
    threshold = float(np.nextafter(np.float32(scores.float().median()), np.float32(-9)))
    expected = curve_of([(scores.float().numpy(), labels)], threshold, 2, 2).compute()
    assert curve_of([(scores, torch.from_numpy(labels).long())], threshold, 2, 2).compute() == expected
    assert_equal(expected, by_definition([(scores.float().numpy(), labels)], threshold, 2, 2))


def test_a_full_frame_with_thousands_of_components_takes_well_under_a_second():
    rng = np.random.default_rng(6)
    scores, labels = rng.random((1024, 2048), np.float32), (rng.random((1024, 2048), np.float32) > 0.95).view(np.uint8)
    curve = ComponentCurve(0.95, 1, 1)
    start = time.process_time()
    curve.update(scores, labels)
    assert time.process_time() - start < 1
    assert min(curve.num_gt, curve.num_pred) > 50_000


def test_infinities():
    scores = np.array([[np.inf, 0, -np.inf]])
    assert curve_of([(scores, draw('100'))], 1e30, 1, 1).compute()['sIoU'] == 100
    assert curve_of([(scores, draw('110'))], -np.inf, 1, 1).compute()['sIoU'] == 100
    assert curve_of([(scores, draw('100'))], np.inf, 1, 1).num_pred == 0
    scores[0, 2] = np.nan
    assert curve_of([(scores, np.array([[1, 0, 255]]))], 0, 1, 1).compute()['F1'] == 100


@pytest.mark.parametrize('scores, labels, error, message', [
    (np.zeros((2, 3)), np.zeros((3, 2), int), ValueError, r'\(2, 3\) and \(3, 2\)'),
    (np.zeros((1, 2, 3)), np.zeros((1, 2, 3), int), ValueError, r'\(H, W\)'),
    (np.zeros(6), np.zeros(6, int), ValueError, r'\(H, W\)'),
    (np.zeros((0, 3)), np.zeros((0, 3), int), ValueError, r'\(0, 3\)'),
    (np.zeros((2, 3)), np.full((2, 3), 2), ValueError, r'0, 1 or 255, got \[2\]'),
    (np.zeros((2, 3)), np.full((2, 3), -1), ValueError, r'got \[-1\]'),
    (np.zeros((2, 3)), np.zeros((2, 3)), TypeError, 'labels must be integers, got float64'),
    (np.zeros((2, 3), complex), np.zeros((2, 3), int), TypeError, 'complex'),
    (np.full((2, 3), np.nan), np.zeros((2, 3), int), ValueError, '6 NaN'),
])
def test_wrong_frames(scores, labels, error, message):
    curve = ComponentCurve(0.5, 1, 1)
    with pytest.raises(error, match=message):
        curve.update(scores, labels)
    assert (curve.num_gt, curve.num_pred) == (0, 0)


@pytest.mark.parametrize('settings, error, message', [
    (('0.5', 1, 1), TypeError, "threshold must be a number, got '0.5'"),
    ((None, 1, 1), TypeError, 'threshold'),
    ((True, 1, 1), TypeError, 'threshold'),
    ((math.nan, 1, 1), ValueError, 'threshold must not be NaN'),
    ((0.5, 1.5, 1), TypeError, 'min_pred_area must be an integer, got 1.5'),
    ((0.5, 1, None), TypeError, 'min_gt_area'),
    ((0.5, -1, 1), ValueError, 'min_pred_area must not be negative, got -1'),
    ((0.5, 1, -1), ValueError, 'min_gt_area'),
])
def test_wrong_settings(settings, error, message):
    with pytest.raises(error, match=message):
        ComponentCurve(*settings)


def test_wrong_merges():
    curve = ComponentCurve(0.5, 10, 5)
    with pytest.raises(TypeError, match='ComponentCurve, got dict'):
        curve.merge({})
    for other, name in ((ComponentCurve(0.6, 10, 5), 'threshold'), (ComponentCurve(0.5, 9, 5), 'min_pred_area'),
                        (ComponentCurve(0.5, 10, 6), 'min_gt_area')):
        with pytest.raises(ValueError, match=name):
            curve.merge(other)
