# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from mgcda.evaluation import PixelCurve
from mgcda.evaluation.curves.operating_points import Steps, summarise
from mgcda.scores import build_score

modes = pytest.mark.parametrize('mode', ['streaming', 'exact'])


def values(curve):
    """AP, FPR95 and AUROC of a curve."""
    return {key: curve.compute()[key] for key in ('AP', 'FPR95', 'AUROC')}


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


@modes
@pytest.mark.parametrize('kind', KINDS)
def test_agrees_with_scikit_learn_and_the_definition(kind, mode):
    # So few pixels lie in bins of their own, and streaming is exact.
    scores, labels = pixels(kind)
    curve = PixelCurve(mode)
    curve.update(scores, labels)
    result = values(curve)
    assert result == pytest.approx(by_definition(scores, labels), abs=1e-10)
    assert result == pytest.approx(by_sklearn(scores, labels), abs=1e-10)


@modes
def test_infinite_scores_rank_as_the_ends(mode):
    scores, labels = pixels('plain')
    scores[:40], scores[40:90] = np.inf, -np.inf
    curve = PixelCurve(mode)
    curve.update(scores, labels)
    assert values(curve) == pytest.approx(by_definition(scores, labels), abs=1e-10)


@modes
def test_hand_computed(mode):
    curve = PixelCurve(mode)
    # Descending: 1, 0, {1, 0}, 0; recall 1/2 at precision 1, then 1 at 2/4, where 2 of 3 normal pixels are taken.
    curve.update(np.array([4.0, 3.0, 2.0, 2.0, 1.0]), np.array([1, 0, 1, 0, 0]))
    result = curve.compute()
    assert result['AP'] == pytest.approx(75)
    assert result['FPR95'] == pytest.approx(200 / 3)
    assert result['AUROC'] == pytest.approx(100 * (3 + 1.5) / 6)
    # At 4: 2 / (2 + 1 missed); at 2: 4 / (4 + 2 false). The first of equals counts; scores above it are predicted.
    assert result['F1'] == pytest.approx(200 / 3)
    assert 3 < result['F1_threshold'] == np.nextafter(np.float32(4), np.float32(0))


def test_best_f1_splits_the_pixels_at_its_threshold():
    scores, labels = pixels('ties')
    curve = PixelCurve()
    curve.update(scores, labels)
    result = curve.compute()
    predicted, anomaly = (scores > result['F1_threshold'])[labels < 255], (labels == 1)[labels < 255]
    assert result['F1'] == pytest.approx(200 * (predicted & anomaly).sum() / (predicted.sum() + anomaly.sum()))


@modes
def test_fpr_at_any_recall(mode):
    scores, labels = pixels('plain')
    curve = PixelCurve(mode, recalls=(0.5, 0.8, 0.999))
    curve.update(scores, labels)
    result = curve.compute()
    for key, recall in (('FPR50', 0.5), ('FPR80', 0.8), ('FPR99.9', 0.999)):
        fpr, tpr, _ = roc_curve(labels[labels < 255], scores[labels < 255], drop_intermediate=False)
        assert result[key] == pytest.approx(100 * fpr[np.argmax(tpr >= recall)])
    assert 'FPR95' not in result


@modes
def test_curve_points_lie_on_the_curves(mode):
    scores, labels = pixels('plain', 4000)
    curve = PixelCurve(mode)
    curve.update(scores, labels)
    points = curve.curve(max_points=50)
    assert 50 <= len(points['recall']) <= 102
    assert points['recall'][-1] == 1 and (np.diff(points['threshold']) < 0).all()
    for threshold, recall, precision, fpr in list(zip(*points.values()))[::7]:
        chosen = scores >= threshold
        assert list(points) == ['threshold', 'recall', 'precision', 'fpr']
        assert recall == (chosen & (labels == 1)).sum() / (labels == 1).sum()
        assert precision == (chosen & (labels == 1)).sum() / (chosen & (labels < 255)).sum()
        assert fpr == (chosen & (labels == 0)).sum() / (labels == 0).sum()


def orders(anomalies, normals):
    """All orders of some pixels, as lists of groups of equal score, a group being (anomalies, normals)."""
    if not anomalies and not normals:
        yield []
    for a in range(anomalies + 1):
        for n in range(normals + 1):
            if a + n:
                yield from ([(a, n), *rest] for rest in orders(anomalies - a, normals - n))


@pytest.mark.parametrize('rule', ['reaching', 'exceeding', 'closest'])
def test_bounds_hold_whatever_the_order_inside_a_step(rule):
    """A step of unknown order between two ties, against every order that it may stand for."""

    def results(groups, loose=None):
        # A step comprises the normal pixels up to the next anomaly, which come below it.
        above = np.cumsum([0] + [n for _, n in groups])[:-1]
        kept = [i for i, (a, _) in enumerate(groups) if a]
        steps = Steps(
            np.array([-i for i in kept], np.float32), np.array([groups[i][0] for i in kept]),
            np.array([groups[i][1] for i in kept]), above[kept], np.array([i != loose for i in kept]))
        total = np.sum(groups, 0)
        return summarise([steps], int(total[1]), int(total[0]), (0.5, 0.9), rule)[0]

    first, last = [(1, 1), (0, 1)], [(0, 1), (2, 1)]
    bounds = results([*first, (2, 3), *last], loose=2)
    seen = [results([*first, *order, *last]) for order in orders(2, 3)]
    assert len(seen) > 50
    for key, (lower, value, upper) in bounds.items():
        exact = [one[key].value for one in seen]
        assert lower <= min(exact) + 1e-12 and max(exact) <= upper + 1e-12
        assert lower <= value <= upper
        if rule != 'closest' or not key.startswith('FPR'):
            # The lower bound of AP is that of an integral; all others are reached.
            assert lower == pytest.approx(min(exact), abs=0.3 if key == 'AP' else 1e-9)
            assert upper == pytest.approx(max(exact))


@pytest.mark.parametrize('name', ['msp', 'entropy', 'margin', 'max_logit', 'energy', 'logit margin', 'sigmoid'])
def test_streaming_is_close_to_exact_on_scores_of_networks(name):
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(400, 500, generator=generator) < 0.05).int()
    seg_logits = torch.randn(1, 19, 400, 500, generator=generator) * 2
    seg_logits[:, 3] += torch.where(labels == 1, 3, 9) + 4 * torch.randn(400, 500, generator=generator)
    if name in ('logit margin', 'sigmoid'):
        scores = torch.randn(400, 500, generator=generator) * 6 + 7 * labels - 9
        scores = scores if name == 'logit margin' else scores.sigmoid()
    else:
        scores = build_score(name)(dict(seg_logits=seg_logits))[0]
    streaming, exact = PixelCurve(), PixelCurve('exact')
    for curve in (streaming, exact):
        curve.update(scores, labels)
    streaming, exact = streaming.compute(), exact.compute()
    for key, tolerance in dict(AP=2e-3, AUROC=2e-3, FPR95=1e-2).items():
        assert streaming[key] == pytest.approx(exact[key], abs=tolerance)
        assert streaming[f'{key}_lower'] <= exact[key] <= streaming[f'{key}_upper']
        assert 1 < exact[key] < 99


def test_crowded_scores_are_warned_about():
    rng = np.random.default_rng(0)
    floats = np.float32(3) + np.arange(200, dtype=np.float32) * np.spacing(np.float32(3))
    crowd = rng.choice(floats, 100000)
    labels = rng.integers(0, 2, 100000)
    spread = (np.arange(2**15, dtype=np.int32) << 16)[:2**15 - 2**7].view(np.float32)
    streaming, exact = PixelCurve(), PixelCurve('exact')
    for curve in (streaming, exact):
        curve.update(crowd, labels)
    assert streaming.compute()['AP'] == exact.compute()['AP']
    # Scores of every size take the bins that the crowd would need.
    for curve in (streaming, exact):
        curve.update(spread, np.zeros(spread.shape, int))
    with pytest.warns(UserWarning, match="AP in .* mode='exact'"):
        result = streaming.compute()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        truth = exact.compute()
    for key in ('AP', 'FPR95', 'AUROC', 'F1'):
        assert result[f'{key}_lower'] <= truth[key] <= result[f'{key}_upper']
    assert result['AUROC_upper'] - result['AUROC_lower'] > 10


@modes
def test_parts_of_any_shape_and_order_give_the_same_bits(mode):
    scores, labels = pixels('ties', 480)
    whole, parts, other = PixelCurve(mode), PixelCurve(mode), PixelCurve(mode)
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
    alone = PixelCurve(mode)
    alone.update(scores[300:], labels[300:])
    assert other.compute() == alone.compute()


@modes
def test_merging_a_curve_with_itself_counts_its_pixels_twice(mode):
    scores, labels = pixels('plain')
    curve = PixelCurve(mode)
    curve.update(scores, labels)
    once = values(curve)
    curve.merge(curve)
    assert curve.num_anomaly == 2 * (labels == 1).sum()
    assert values(curve) == pytest.approx(once, abs=1e-10)


@modes
def test_later_changes_of_the_inputs_do_not_matter(mode):
    scores, labels = pixels('plain')
    curve, same = PixelCurve(mode), PixelCurve(mode)
    curve.update(scores, labels)
    same.update(scores.copy(), labels.copy())
    kept = scores.copy()
    scores[:] = 0
    assert curve.compute() == same.compute()
    scores[:] = kept
    PixelCurve(mode).update(scores, labels)
    assert (scores == kept).all()


@modes
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_dtypes(dtype, mode):
    scores, labels = pixels('ties')
    expected, curve = PixelCurve(mode), PixelCurve(mode)
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
    with pytest.raises(ValueError, match=r"'pebal'.*'mine'"):
        PixelCurve(protocol='mine')
    for recalls in ((), (0.5, 1), 0.8, 'most'):
        with pytest.raises(ValueError, match='recalls must be numbers between 0 and 1'):
            PixelCurve(recalls=recalls)
    with pytest.raises(ValueError, match="different modes.*'streaming' and 'exact'"):
        curve.merge(PixelCurve('exact'))
    with pytest.raises(ValueError, match="different protocols.*'fishyscapes' and 'smiyc'"):
        curve.merge(PixelCurve(protocol='smiyc'))
    with pytest.raises(ValueError, match='float16'):
        PixelCurve(protocol='smiyc').update(np.array([1e6, 0.5]), np.array([0, 1]))
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
