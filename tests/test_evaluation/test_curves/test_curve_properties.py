# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Properties of PixelCurve on many inputs, and its protocols against re-implementations of the public codes' rules."""
import warnings

import numpy as np
import pytest
from hypothesis import Phase, assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit
from sklearn.metrics import auc, average_precision_score, roc_auc_score, roc_curve

from mgcda.evaluation import PixelCurve

VALUES = ('AP', 'FPR95', 'AUROC', 'F1')
#: What fails is not shrunk: the pixels follow from a seed, and the tracebacks of all tries would keep their histograms.
few = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    report_multiple_bugs=False)


@pytest.fixture(autouse=True)
def expect_wide_bounds():
    """Adversarial scores make bounds wide, which is warned about."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='the scores crowd')
        yield


# Inputs


def normal(rng, anomaly):
    return rng.normal(size=anomaly.size) + anomaly


def softmax_entropy(rng, anomaly):
    logits = rng.normal(size=(19, anomaly.size)).astype(np.float32) * np.where(anomaly, 10, 60).astype(np.float32)
    probabilities = np.exp(logits - logits.max(0))
    probabilities /= probabilities.sum(0)
    return -(probabilities * np.log(probabilities + np.float32(1e-30))).sum(0)


def random_bits(rng, anomaly):
    scores = rng.integers(0, 2**32, anomaly.size, np.uint32).view(np.float32)
    return np.where(np.isnan(scores), 0, scores)


def neighbours(rng, anomaly):
    bits = rng.choice([0x3C000000, 0x3F800000, 0x3F000000, 0x47FFFFF0])
    return (bits + rng.integers(0, 40, anomaly.size)).astype(np.uint32).view(np.float32)


def infinities(rng, anomaly):
    return np.where(rng.random(anomaly.size) < 0.3, rng.choice([-np.inf, np.inf], anomaly.size), normal(rng, anomaly))


def mixture(rng, anomaly):
    parts = np.stack([KINDS[name](rng, anomaly).astype(np.float32) for name in KINDS if name != 'mixture'])
    return parts[rng.integers(0, len(parts), anomaly.size), np.arange(anomaly.size)]


#: Generator and anomaly mask (P,) -> scores (P,).
KINDS = {
    'normal': normal,
    'ties': lambda rng, anomaly: np.round(2 * normal(rng, anomaly)),
    'constant': lambda rng, anomaly: np.full(anomaly.size, rng.normal()),
    'saturated sigmoid': lambda rng, anomaly: expit(30 * normal(rng, anomaly).astype(np.float32)),
    'saturated softmax': softmax_entropy,
    'huge range': lambda rng, anomaly: rng.choice([-1, 1], anomaly.size) * np.exp(rng.uniform(-100, 88, anomaly.size)),
    'denormals': lambda rng, anomaly: np.ldexp(rng.integers(-2**12, 2**12, anomaly.size).astype(float), -149),
    'random bits': random_bits,
    'neighbours': neighbours,
    'infinities': infinities,
    'zeros of both signs': lambda rng, anomaly: rng.choice([0.0, -0.0], anomaly.size),
    'uint8': lambda rng, anomaly: np.clip(40 * normal(rng, anomaly) + 120, 0, 255).astype(np.uint8),
    'float16': lambda rng, anomaly: normal(rng, anomaly).astype(np.float16),
    'separable': lambda rng, anomaly: rng.random(anomaly.size) / 2 + anomaly,
    'reversed': lambda rng, anomaly: rng.random(anomaly.size) / 2 - anomaly,
    'mixture': mixture,
}


@st.composite
def pixels(draw, kinds=tuple(KINDS), max_size=2000):
    """Scores float32 (P,) and labels uint8 (P,) with pixels of both kinds."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = draw(st.integers(2, max_size))
    share = draw(st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.0]))
    labels = (rng.random(size) < share).astype(np.uint8)
    void = draw(st.sampled_from([0.0, 0.2, 1.0]))
    labels[rng.random(size) < void] = 255
    labels[rng.permutation(size)[:2]] = 0, 1
    scores = KINDS[draw(st.sampled_from(kinds))](rng, labels == 1).astype(np.float32)
    return scores, labels


#: The same in the hands of hypothesis, pixel by pixel.
small_pixels = st.integers(2, 30).flatmap(lambda size: st.tuples(
    hnp.arrays(np.float32, size, elements=st.floats(width=32, allow_nan=False)),
    hnp.arrays(np.uint8, size, elements=st.sampled_from([0, 1, 255])))).filter(
        lambda pair: {0, 1} <= set(pair[1].tolist()))


def curve_of(scores, labels, *args, **kwargs):
    curve = PixelCurve(*args, **kwargs)
    curve.update(scores, labels)
    return curve


def values_of(scores, labels, *args, **kwargs):
    return curve_of(scores, labels, *args, **kwargs).compute()


# References


def counts_at_thresholds(scores, labels):
    """True and false positives at each distinct score of a valid pixel, descending, and these scores."""
    valid = labels != 255
    scores, anomaly = scores[valid].astype(np.float64), labels[valid] == 1
    order = np.argsort(-scores, kind='stable')
    scores, anomaly = scores[order], anomaly[order]
    last = np.append(scores[1:] != scores[:-1], True)
    return np.cumsum(anomaly)[last].astype(np.float64), np.cumsum(~anomaly)[last].astype(np.float64), scores[last]


def by_definition(scores, labels):
    """AP, FPR, AUROC and F1 from the points of the curves, in float64."""
    true, false, _ = counts_at_thresholds(scores, labels)
    tpr, fpr, precision = true / true[-1], false / false[-1], true / (true + false)
    return dict(
        AP=100 * np.sum(np.diff(tpr, prepend=0) * precision),
        FPR95=100 * fpr[tpr >= 0.95][0],
        AUROC=100 * np.trapezoid(np.append(0, tpr), np.append(0, fpr)),
        F1=100 * np.max(2 * true / (true + false + true[-1])))


def ranks(scores):
    """Integers in the order of the scores: scikit-learn refuses infinities."""
    return np.unique(scores, return_inverse=True)[1]


def by_scikit_learn(scores, labels):
    valid = labels != 255
    scores, anomaly = ranks(scores)[valid], labels[valid] == 1
    fpr, tpr, _ = roc_curve(anomaly, scores, drop_intermediate=False)
    return dict(
        AP=100 * average_precision_score(anomaly, scores),
        FPR95=100 * fpr[np.argmax(tpr >= 0.95)],
        AUROC=100 * roc_auc_score(anomaly, scores))


# Exact mode


@few
@given(pixels())
def test_exact_mode_equals_the_definition_and_scikit_learn(data):
    result = values_of(*data, 'exact')
    for reference in (by_definition(*data), by_scikit_learn(*data)):
        assert {key: result[key] for key in reference} == pytest.approx(reference, abs=1e-9, rel=0)


@settings(few, phases=tuple(Phase))
@given(small_pixels)
@example((np.float32([0, -0.0]), np.uint8([0, 1])))
@example((np.float32([np.inf, -np.inf, np.inf]), np.uint8([0, 1, 1])))
def test_exact_mode_on_few_pixels(data):
    result = values_of(*data, 'exact')
    reference = by_definition(*data)
    assert {key: result[key] for key in reference} == pytest.approx(reference, abs=1e-9, rel=0)


@few
@given(pixels(), st.integers(0, 2**32), st.booleans())
def test_exact_mode_is_invariant_under_strictly_increasing_maps(data, seed, crowded):
    scores, labels = data
    distinct, index = np.unique(scores, return_inverse=True)
    rng = np.random.default_rng(seed)
    if crowded:  # neighbouring floats
        images = (rng.integers(0, 0x7F000000) + np.arange(distinct.size)).astype(np.uint32).view(np.float32)
    else:  # floats all over their range
        images = np.unique(random_bits(rng, np.zeros(4 * distinct.size)))
        images = images[np.sort(rng.choice(images.size, distinct.size, replace=False))]
    assert (np.diff(images) > 0).all()
    before, after = values_of(scores, labels, 'exact'), values_of(images[index], labels, 'exact')
    thresholds = before.pop('F1_threshold'), after.pop('F1_threshold')
    assert before == after
    assume(min(thresholds) > -np.inf)  # as below
    assert np.array_equal(scores > thresholds[0], images[index] > thresholds[1])


# Both modes

modes = pytest.mark.parametrize('mode', ['exact', 'streaming'])


@modes
@settings(few, max_examples=10)
@given(pixels(), st.integers(0, 2**32), st.lists(st.floats(0, 1), max_size=4))
def test_order_and_splitting_do_not_change_a_bit(mode, data, seed, cuts):
    scores, labels = data
    order = np.random.default_rng(seed).permutation(scores.size)
    parts = np.split(order, sorted(int(cut * scores.size) for cut in cuts))
    merged = PixelCurve(mode)
    for part in parts:
        merged.merge(curve_of(scores[part], labels[part], mode))
    updated = PixelCurve(mode)
    for part in reversed(parts):
        updated.update(scores[part], labels[part])
    expected = values_of(scores, labels, mode)
    assert merged.compute() == expected
    assert updated.compute() == expected
    assert (merged.num_normal, merged.num_anomaly) == ((labels == 0).sum(), (labels == 1).sum())


@modes
@few
@given(pixels(kinds=('separable', )))
def test_separable_scores_give_100_percent(mode, data):
    result = values_of(*data, mode)
    assert {result[key] for key in ('AP', 'AUROC', 'F1')} == {100} and result['FPR95'] == 0


@modes
@few
@given(pixels())
def test_auroc_of_negated_scores_is_what_is_missing_to_100(mode, data):
    scores, labels = data
    result, negated = values_of(scores, labels, mode), values_of(-scores, labels, mode)
    assert result['AUROC'] + negated['AUROC'] == pytest.approx(100, abs=1e-9)


@modes
@few
@given(pixels())
def test_best_f1_is_that_of_the_pixels_above_its_threshold(mode, data):
    scores, labels = data
    result = values_of(scores, labels, mode)
    assume(result['F1_threshold'] > -np.inf)  # the best is to predict all, also what has the score -inf
    predicted, anomaly, valid = scores > result['F1_threshold'], labels == 1, labels != 255
    true, false = np.sum(predicted & anomaly), np.sum(predicted & ~anomaly & valid)
    assert result['F1'] == pytest.approx(200 * true / (true + false + anomaly.sum()), abs=1e-9)


# Streaming mode


def assert_bounded(streaming, exact):
    for key in exact:
        if key != 'F1_threshold':
            lower, value, upper = (streaming[f'{key}{end}'] for end in ('_lower', '', '_upper'))
            assert lower <= exact[key] <= upper, key
            assert lower <= value <= upper, key


@settings(few, max_examples=100)
@given(pixels(max_size=5000), st.sampled_from(['fishyscapes', 'rba', 'pebal']))
def test_bounds_of_streaming_mode_hold_the_exact_value(data, protocol):
    recalls = (0.95, 0.5, 0.1)
    assert_bounded(*(values_of(*data, mode, protocol, recalls) for mode in ('streaming', 'exact')))


@few
@given(small_pixels, st.sampled_from(['fishyscapes', 'rba', 'pebal']))
def test_bounds_of_streaming_mode_hold_the_exact_value_of_few_pixels(data, protocol):
    assert_bounded(*(values_of(*data, mode, protocol) for mode in ('streaming', 'exact')))


@pytest.mark.parametrize('kind', ['random bits', 'huge range', 'mixture', 'saturated softmax'])
def test_bounds_hold_where_all_bins_are_coarse(kind):
    rng = np.random.default_rng(1)
    labels = rng.choice(np.uint8([0, 1, 255]), 2**18, p=[0.8, 0.1, 0.1])
    scores = KINDS[kind](rng, labels == 1).astype(np.float32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        streaming, exact = values_of(scores, labels), values_of(scores, labels, 'exact')
    assert_bounded(streaming, exact)
    wide = [key for key in VALUES if streaming[f'{key}_upper'] - streaming[f'{key}_lower'] > 0.05]
    assert wide == (['AP', 'AUROC'] if kind == 'mixture' else [])  # its neighbouring floats share bins
    assert ['AP in' in str(one.message) and 'AUROC in' in str(one.message) for one in caught] == [True] * bool(wide)


@few
@given(pixels(kinds=('ties', 'constant', 'uint8', 'float16', 'zeros of both signs')))
def test_streaming_mode_is_exact_on_quantised_scores(data):
    streaming, exact = values_of(*data, 'streaming'), values_of(*data, 'exact')
    assert_bounded(streaming, exact)
    for key in VALUES:
        assert streaming[f'{key}_upper'] - streaming[f'{key}_lower'] < 1e-9
    assert streaming['F1_threshold'] == exact['F1_threshold']


# Protocols


def fishyscapes_rule(scores, labels):
    """The benchmark's eval.py: points of the curve up to full recall, FPR by a search in the TPR."""
    true, false, _ = counts_at_thresholds(scores, labels)
    full = int(np.argmax(true == true[-1])) + 1
    recall, precision = true[:full] / true[-1], true[:full] / (true[:full] + false[:full])
    average_precision = sum((new - old) * value for old, new, value in zip(np.append(0, recall), recall, precision))
    tpr, fpr = np.append(0, true / true[-1]), np.append(0, false / false[-1])
    return dict(
        AP=100 * average_precision, FPR95=100 * fpr[np.searchsorted(tpr, 0.95)], AUROC=100 * np.trapezoid(tpr, fpr))


def rba_rule(scores, labels):
    """RbA's support.py (DenseHybrid alike): the loop over scikit-learn's ROC curve up to the first TPR > 0.95."""
    valid = labels != 255
    scores, anomaly = ranks(scores)[valid], labels[valid] == 1
    rates = zip(*roc_curve(anomaly, scores, drop_intermediate=False)[:2])
    fpr95 = next(fpr for fpr, tpr in rates if tpr > 0.95)
    fpr, tpr, _ = roc_curve(anomaly, scores)
    return dict(AP=100 * average_precision_score(anomaly, scores), FPR95=100 * fpr95, AUROC=100 * auc(fpr, tpr))


def pebal_rule(scores, labels):
    """PEBAL's pyt_utils.py: of the recalls from full recall downwards, the first that is closest to 0.95."""
    valid = labels != 255
    anomaly = labels[valid] == 1
    true, false, _ = counts_at_thresholds(scores, labels)
    points, best = [], None
    for point in zip(true.tolist(), false.tolist()):
        points.append(point)
        if point[0] == true[-1]:
            break
    for found, wrong in reversed(points):
        distance = abs(found / true[-1] - 0.95)
        if best is None or distance < best[0]:
            best = distance, wrong
    scores = ranks(scores)[valid]
    return dict(
        AP=100 * average_precision_score(anomaly, scores),
        FPR95=100 * best[1] / false[-1],
        AUROC=100 * roc_auc_score(anomaly, scores))


@pytest.mark.parametrize('protocol, rule', [
    ('fishyscapes', fishyscapes_rule),
    ('rba', rba_rule),
    ('densehybrid', rba_rule),
    ('pebal', pebal_rule),
])
@settings(few, max_examples=60)
@given(pixels(max_size=500))
def test_protocols_follow_the_public_rules(protocol, rule, data):
    result, expected = values_of(*data, 'exact', protocol), rule(*data)
    assert {key: result[key] for key in expected} == pytest.approx(expected, abs=1e-9, rel=0)


def test_protocols_differ_where_recall_is_95_percent():
    # 20 anomalies in descending order; one normal pixel before the 20th, one beside each of the 18th and the 19th.
    scores = np.r_[np.arange(20, 0, -1), 3.0, 2.0, 1.5, 0.0].astype(np.float32)
    labels = np.r_[np.ones(20), np.zeros(4)].astype(np.uint8)
    fpr95 = {name: values_of(scores, labels, 'exact', name)['FPR95'] for name in ('fishyscapes', 'rba', 'pebal')}
    # TPR is 0.95 from the score 2 on, where two normal pixels are in; just above 1 there are three, as at 1.
    assert fpr95 == {'fishyscapes': 50, 'rba': 75, 'pebal': 75}


def smiyc_histogram(scores, labels):
    """A frame's pixels between its thresholds: lower edges, anomalies, normal pixels, all descending."""
    valid = labels != 255
    scores, anomaly = scores[valid], labels[valid] == 1
    low, high = float(scores.min()), float(scores.max())
    margin = max((high - low) * 0.01, 0.01)  # in float64: the code's float16 loses it at scores of hundreds
    edges = {low - margin, high + margin}
    for part in (scores[anomaly], scores[~anomaly]):
        if part.size:
            edges |= set(np.quantile(part, np.linspace(0, 1, min(768 // 2, part.size))).tolist())
    edges = sorted(edges)
    counts = [np.histogram(part, edges)[0][::-1] for part in (scores[anomaly], scores[~anomaly])]
    return [np.array(edges[:-1])[::-1], *counts]


def smiyc_rule(frames):
    """The benchmark's pixel_classification*.py of 2023-08, on frames of float16 scores."""
    thresholds, true, false = np.concatenate([smiyc_histogram(*frame) for frame in frames], 1)
    order = np.argsort(-thresholds, kind='stable')
    thresholds, true, false = thresholds[order], np.cumsum(true[order]), np.cumsum(false[order])
    last = np.append(thresholds[1:] != thresholds[:-1], True)
    thresholds, true, false = np.append(np.inf, thresholds[last]), np.append(0, true[last]), np.append(0, false[last])
    recall, fpr = true / true[-1], false / false[-1]
    precision = np.where(true + false > 0, true / np.maximum(true + false, 1), 1)
    f1 = 2 * true / (true + false + true[-1])
    return dict(
        AP=100 * np.sum(np.diff(recall) * precision[1:]),
        FPR95=100 * fpr[np.searchsorted(recall, 0.95)],
        AUROC=100 * np.trapezoid(recall, fpr),
        F1=100 * f1.max(),
        F1_threshold=thresholds[np.argmax(f1)])


@modes
@few
@given(
    st.lists(
        pixels(kinds=('normal', 'ties', 'uint8', 'float16', 'saturated sigmoid', 'separable', 'constant')),
        min_size=1,
        max_size=4), st.randoms(use_true_random=False))
def test_smiyc_pools_quantile_bins_of_frames(mode, frames, random):
    frames = [(scores.astype(np.float16), labels) for scores, labels in frames]
    expected = smiyc_rule(frames)
    random.shuffle(frames)
    curve = PixelCurve(mode, 'smiyc')
    for frame in frames[:2]:
        curve.update(*frame)
    for frame in frames[2:]:
        curve.merge(curve_of(*frame, mode, 'smiyc'))
    result = curve.compute()
    assert {key: result[key] for key in expected} == pytest.approx(expected, abs=1e-9, rel=0)
