# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest

from mgcda.evaluation.curves import FPRThreshold


def of(*parts: np.ndarray) -> FPRThreshold:
    threshold = FPRThreshold()
    for part in parts:
        threshold.update(part)
    return threshold


@pytest.mark.parametrize('scale', [1e-3, 1, 1e6])
@pytest.mark.parametrize('fpr', [0.5, 0.05, 0.001])
def test_a_quantile_of_the_pixels(fpr, scale) -> None:
    rng = np.random.default_rng(0)
    parts = [(scale * rng.normal(size=(100, 300))).astype(np.float32) for _ in range(3)]
    pixels = of(*parts)
    value, reached = pixels.compute(fpr)
    scores = np.sort(np.concatenate([part.ravel() for part in parts]))
    assert pixels.num_normal == scores.size
    assert reached == np.mean(scores > np.float32(value)) <= fpr
    # A bin more would be too many: its pixels differ by a 2**-13th part at most.
    assert np.mean(scores > value - abs(value) * 2**-12 - 1e-6 * scale) > fpr or fpr - reached < 1e-4


def test_ties_count_together() -> None:
    scores = np.array([0, 0, 0, 0, 0, 0, 0, 0, 1, 1], np.float32)
    value, fpr = of(scores).compute(0.25)
    assert 0 <= value < 1 and fpr == 0.2
    value, fpr = of(scores).compute(0.1)  # both or none
    assert value == 1 and fpr == 0
    assert of(np.full(5, -0.0)).compute(0.5) == (0, 0)


def test_a_part_that_is_no_binary_fraction() -> None:
    value, fpr = of(np.arange(100, dtype=np.float32)).compute(0.29)
    assert fpr == 0.29 and 70 <= value < 71


def test_infinite_scores() -> None:
    value, fpr = of(np.array([np.inf, 1, 2, 3])).compute(0.25)
    assert fpr == 0.25 and 3 <= value < np.inf
    assert of(np.array([np.inf, 1, 2, 3])).compute(0.2) == (np.inf, 0)


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(ValueError, match='must not be NaN, got 1 NaN'):
        of(np.array([1, np.nan]))
    with pytest.raises(ValueError, match='no normal pixels'):
        of(np.zeros(0)).compute(0.5)
    with pytest.raises(ValueError, match='between 0 and 1'):
        of(np.zeros(3)).compute(1)
