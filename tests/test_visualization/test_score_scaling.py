# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import math

import numpy as np
import pytest
from scipy.special import expit

from mgcda.scores import SynBoostEnsemble, build_score
from mgcda.visualization import ScoreScaling, scaling_of


def test_log_odds_become_probabilities() -> None:
    scores = np.array([[-np.inf, -200, -1.5, 0, 3, 200, np.inf]], np.float32)
    np.testing.assert_allclose(ScoreScaling('sigmoid')(scores), expit(scores), atol=1e-6)


def test_fixed_ranges_are_clipped() -> None:
    heat = ScoreScaling('fixed', -2, 2)(np.array([[-np.inf, -3, -2, 0, 1, 2, 9]]))
    np.testing.assert_allclose(heat, [[0, 0, 0, 0.5, 0.75, 1, 1]])
    assert heat.dtype == np.float32


def test_images_are_scaled_by_their_finite_scores() -> None:
    heat = ScoreScaling('image')(np.array([[-np.inf, -90, 10, 20, 25, 30, np.inf]]))
    np.testing.assert_allclose(heat, [[0, 0, 0, 0, 0.5, 1, 1]])
    for scores in (np.full((2, 2), 7.), np.full((2, 2), np.inf)):
        assert np.isfinite(ScoreScaling('image')(scores)).all()


@pytest.mark.parametrize('score, expected', [
    ('logit_margin', ('sigmoid', 0, 1)),
    ('void_class', ('sigmoid', 0, 1)),
    ('msp', ('fixed', 0, 1)),
    (dict(type='entropy', name='H'), ('fixed', 0, math.log(19))),
    ('predictive_entropy', ('fixed', 0, math.log(19))),
    (SynBoostEnsemble((0.5, 1, 0, 0.25)), ('fixed', 0, 1.75)),
    ('mutual_information', ('image', 0, 1)),
    ('energy', ('image', 0, 1)),
    ('dense_hybrid', ('image', 0, 1)),
    ('ODIN', ('image', 0, 1)),
    (dict(type='ASH', score='margin'), ('fixed', 0, 1)),
])
def test_the_scaling_suits_the_score(score, expected) -> None:
    score_range = build_score(score).range
    assert scaling_of(score_range, 19) == expected
    assert scaling_of(score_range, 19, (-1, 4)) == ('fixed', -1, 4)
    assert scaling_of(score_range, 19, 'image').kind == 'image'


@pytest.mark.parametrize('heat_range', ['log', (1, ), (2, 1), (0, math.inf), ('a', 'b'), (0, math.nan), 3])
def test_other_ranges_are_refused(heat_range) -> None:
    with pytest.raises(ValueError, match='heat_range must be'):
        scaling_of(None, 2, heat_range)
