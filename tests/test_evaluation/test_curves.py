# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from mgcda.evaluation import PixelCurve


def by_definition(scores, labels):
    """Each threshold by itself, in float64."""
    valid = labels != 255
    scores, labels = scores[valid].astype(np.float64), labels[valid] == 1
    num_anomaly, num_normal = labels.sum(), (~labels).sum()
    precision_sum, recall, fpr95 = 0.0, 0.0, None
    for threshold in sorted(set(scores.tolist()), reverse=True):
        chosen = scores >= threshold
        true_positives, false_positives = (chosen & labels).sum(), (chosen & ~labels).sum()
        new_recall = true_positives / num_anomaly
        precision_sum += (new_recall - recall) * true_positives / (true_positives + false_positives)
        recall = new_recall
        if fpr95 is None and recall >= 0.95:
            fpr95 = false_positives / num_normal
    wins = [(score > scores[~labels]).sum() + 0.5 * (score == scores[~labels]).sum() for score in scores[labels]]
    return dict(AP=100 * precision_sum, FPR95=100 * fpr95, AUROC=100 * sum(wins) / (num_anomaly * num_normal))


def by_sklearn(scores, labels):
    valid = labels != 255
    scores, labels = scores[valid], labels[valid]
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    return dict(
        AP=100 * average_precision_score(labels, scores),
        FPR95=100 * fpr[np.argmax(tpr >= 0.95)],
        AUROC=100 * roc_auc_score(labels, scores))


def pixels(kind, size=400):
    rng = np.random.default_rng(5)
    labels = rng.choice(np.array([0, 1, 255], np.uint8), size, p=[0.8, 0.1, 0.1])
    scores = (rng.normal(size=size) + (labels == 1)).astype(np.float32)
    if kind == 'ties':
        scores = np.round(scores)
    elif kind == 'saturated':
        scores = (0.5 + 0.5 * np.tanh(20 * scores)).astype(np.float32)
    elif kind == 'one anomaly':
        labels[labels == 1] = 0
        labels[17] = 1
    elif kind == 'one normal':
        labels[labels == 0] = 1
        labels[17] = 0
    elif kind == 'constant':
        scores[:] = 0.25
    elif kind == 'separated':
        scores = labels.astype(np.float32)
    elif kind == 'reversed':
        scores = -labels.astype(np.float32)
    elif kind == 'zeros of both signs':
        scores = np.where(scores > 0.5, np.float32(0.0), np.float32(-0.0))
    return scores, labels


KINDS = ('plain', 'ties', 'saturated', 'one anomaly', 'one normal', 'constant', 'separated', 'reversed',
         'zeros of both signs')


@pytest.mark.parametrize('kind', KINDS)
def test_agrees_with_scikit_learn_and_the_definition(kind):
    scores, labels = pixels(kind)
    curve = PixelCurve()
    curve.update(scores, labels)
    result = curve.compute()
    assert result == pytest.approx(by_definition(scores, labels), abs=1e-10)
    assert result == pytest.approx(by_sklearn(scores, labels), abs=1e-10)


def test_infinite_scores_rank_as_the_ends():
    scores, labels = pixels('plain')
    scores[:40], scores[40:90] = np.inf, -np.inf
    curve = PixelCurve()
    curve.update(scores, labels)
    assert curve.compute() == pytest.approx(by_definition(scores, labels), abs=1e-10)


def test_hand_computed():
    curve = PixelCurve()
    # Descending: 1, 0, {1, 0}, 0; recall 1/2 at precision 1, then 1 at 2/4, where 2 of 3 normal pixels are taken.
    curve.update(np.array([4.0, 3.0, 2.0, 2.0, 1.0]), np.array([1, 0, 1, 0, 0]))
    result = curve.compute()
    assert result['AP'] == pytest.approx(75)
    assert result['FPR95'] == pytest.approx(200 / 3)
    assert result['AUROC'] == pytest.approx(100 * (3 + 1.5) / 6)


def test_fpr95_is_read_where_recall_is_exactly_95_percent():
    # 20 anomalies above one another, a normal pixel between the 19th and the 20th.
    scores = np.r_[np.arange(20, 1, -1), 0.0, 1.0, -1.0]
    labels = np.r_[np.ones(20), 0, 0].astype(int)
    curve = PixelCurve()
    curve.update(scores, labels)
    assert curve.compute()['FPR95'] == 0


def test_parts_of_any_shape_and_order_give_the_same_bits():
    scores, labels = pixels('ties', 480)
    whole, parts, other = PixelCurve(), PixelCurve(), PixelCurve()
    whole.update(scores, labels)
    other.update(torch.from_numpy(scores[300:]).view(1, 9, 20), torch.from_numpy(labels[300:]).view(1, 9, 20).long())
    other.update(scores[:0], labels[:0])
    parts.update(scores[:300].reshape(2, 3, 50), labels[:300].reshape(2, 3, 50))
    before = other.num_normal
    parts.merge(other)
    parts_result = parts.compute()
    assert parts_result == whole.compute()
    assert parts_result == parts.compute()
    assert other.num_normal == before
    alone = PixelCurve()
    alone.update(scores[300:], labels[300:])
    assert other.compute() == alone.compute()


def test_merging_a_curve_with_itself_counts_its_pixels_twice():
    scores, labels = pixels('plain')
    curve = PixelCurve()
    curve.update(scores, labels)
    once = curve.compute()
    curve.merge(curve)
    assert curve.num_anomaly == 2 * (labels == 1).sum()
    assert curve.compute() == pytest.approx(once, abs=1e-10)


def test_later_changes_of_the_inputs_do_not_matter():
    scores, labels = pixels('plain')
    curve, same = PixelCurve(), PixelCurve()
    curve.update(scores, labels)
    same.update(scores.copy(), labels.copy())
    kept = scores.copy()
    scores[:] = 0
    assert curve.compute() == same.compute()
    scores[:] = kept
    PixelCurve().update(scores, labels)
    assert (scores == kept).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_dtypes(dtype):
    scores, labels = pixels('ties')
    expected, curve = PixelCurve(), PixelCurve()
    expected.update(scores, labels)
    curve.update(torch.from_numpy(scores).to(dtype), torch.from_numpy(labels))
    assert curve.compute() == expected.compute()


def test_values_of_ignored_pixels_do_not_matter():
    scores, labels = pixels('plain')
    expected, curve = PixelCurve(), PixelCurve()
    expected.update(scores, labels)
    scores[labels == 255] = np.nan
    curve.update(scores, labels)
    assert curve.compute() == expected.compute()


def test_bad_input():
    curve = PixelCurve()
    with pytest.raises(ValueError, match=r"'exact'.*'fast'"):
        PixelCurve('fast')
    with pytest.raises(ValueError, match='NaN'):
        curve.update(np.array([0.5, np.nan]), np.array([0, 1]))
    with pytest.raises(ValueError, match=r'got \[2, 7\]'):
        curve.update(np.zeros(4), np.array([0, 7, 2, 255]))
    with pytest.raises(ValueError, match=r'\(2,\) and \(3,\)'):
        curve.update(np.zeros(2), np.zeros(3, int))
    with pytest.raises(TypeError, match='labels must be integers'):
        curve.update(np.zeros(2), np.zeros(2))
    with pytest.raises(TypeError, match='PixelCurve'):
        curve.merge({})
    assert curve.num_normal == curve.num_anomaly == 0
    with pytest.raises(ValueError, match='0 normal and 0 anomaly'):
        curve.compute()
    curve.update(np.zeros(3), np.array([0, 0, 255]))
    with pytest.raises(ValueError, match='2 normal and 0 anomaly'):
        curve.compute()
