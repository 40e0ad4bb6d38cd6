# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import copy
import pickle

import numpy as np
import pytest
import torch
from mmengine.registry import FUNCTIONS
from scipy.special import log_softmax, logsumexp

from mgcda.scores import Score, build_score, build_scores, energy, entropy, margin, max_logit, msp, score_function


def reference(name, logits, temperature=1.0):
    """float64 NumPy, straight from the formulas."""
    logits = logits.astype(np.float64)
    probabilities = np.exp(log_softmax(logits, axis=1))
    ordered = np.sort(probabilities, axis=1)
    rest = ordered[:, :-1].sum(1)
    # float64 too loses the logarithm of a probability next to 1.
    top_term = (1 - rest) * np.log1p(-rest)
    with np.errstate(divide='ignore', invalid='ignore'):
        other_terms = np.nan_to_num(ordered * np.log(ordered))[:, :-1].sum(1)
    return dict(
        msp=1 - np.exp(log_softmax(logits / temperature, axis=1)).max(1) if temperature != 1 else rest,
        entropy=-other_terms - top_term,
        margin=rest + ordered[:, -2],
        max_logit=-logits.max(1),
        energy=-temperature * logsumexp(logits / temperature, axis=1))[name]


NAMES = ('msp', 'entropy', 'margin', 'max_logit', 'energy')


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('scale', [0.1, 3.0, 30.0])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.float64])
def test_agrees_with_float64(name, scale, dtype):
    logits = (scale * torch.randn(2, 19, 5, 7, generator=torch.Generator().manual_seed(1))).to(dtype)
    scores = build_score(name)(dict(seg_logits=logits))
    assert scores.shape == (2, 5, 7) and scores.dtype == torch.float32
    np.testing.assert_allclose(scores.numpy(), reference(name, logits.numpy()), rtol=2e-5, atol=1e-34)


@pytest.mark.parametrize('name', ['msp', 'energy'])
@pytest.mark.parametrize('temperature', [0.3, 2.5, 1000.0])
def test_temperature(name, temperature):
    logits = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(2))
    score = build_score(dict(type=name, temperature=temperature))
    np.testing.assert_allclose(
        score(dict(seg_logits=logits)).numpy(), reference(name, logits.numpy(), temperature), rtol=1e-5)
    with pytest.raises(ValueError, match='temperature must be positive'):
        build_score(dict(type=name, temperature=0))(dict(seg_logits=logits))


@pytest.mark.parametrize('function', [msp, entropy, margin])
def test_confident_pixels_are_still_ranked(function):
    # From a gap of 17 on, 1 - max(softmax) is 0 in float32.
    gaps = torch.arange(0, 60, 2.0)
    logits = torch.stack([gaps, torch.zeros_like(gaps)]).view(1, 2, 1, -1)
    scores = function(logits)[0, 0]
    assert (scores[1:] < scores[:-1]).all() and scores[-1] > 0


@pytest.mark.parametrize('name', NAMES)
def test_extreme_logits_stay_finite(name):
    logits = torch.tensor([1e4, -1e4, 0.0]).view(1, 3, 1, 1)
    absent = torch.tensor([1.0, -torch.inf, 0.0]).view(1, 3, 1, 1)
    for values in (logits, -logits, absent):
        assert build_score(name)(dict(seg_logits=values)).isfinite().all()


def test_ranges_and_direction():
    undecided, certain = torch.zeros(1, 4, 1, 1), torch.tensor([9.0, 0, 0, 0]).view(1, 4, 1, 1)
    assert msp(undecided).item() == pytest.approx(0.75)
    assert entropy(undecided).item() == pytest.approx(np.log(4), rel=1e-6)
    assert margin(undecided).item() == 1
    for name in NAMES:
        score = build_score(name)
        assert score(dict(seg_logits=undecided)) > score(dict(seg_logits=certain))


def test_scores_survive_copies_and_declare_their_needs():
    score = build_score(dict(type='energy', temperature=3.0))
    logits = torch.randn(1, 3, 2, 2)
    for twin in (copy.deepcopy(score), pickle.loads(pickle.dumps(score)), build_score(score)):
        assert twin.needs == ('seg_logits', ) and not twin.needs_fit and not twin.reads_maps
        assert torch.equal(twin(dict(seg_logits=logits)), energy(logits, 3.0))
    assert torch.equal(build_score(max_logit)(dict(seg_logits=logits)), max_logit(logits))
    assert FUNCTIONS.get('msp') is msp


@pytest.fixture
def forget(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(FUNCTIONS, '_module_dict', dict(FUNCTIONS.module_dict))


def test_own_functions_and_classes_join(forget):

    @score_function('mean_entropy', 'seg_logits', range=(0, 'ln C'))
    def score_of_two_outputs(mean_entropy, seg_logits, weight=1.0):
        return weight * mean_entropy + seg_logits.sum(1)

    score = build_score(dict(type='score_of_two_outputs', weight=2.0))
    outputs = dict(seg_logits=torch.ones(1, 2, 1, 1), mean_entropy=torch.full((1, 1, 1), 3.0))
    assert score.needs == ('mean_entropy', 'seg_logits') and score(outputs).item() == 8
    assert score.range == (0, 'ln C') and score_of_two_outputs(outputs['mean_entropy'], outputs['seg_logits']) == 5

    @FUNCTIONS.register_module()
    class Own(Score):
        range = (-1, 1)

        def __call__(self, outputs):
            return outputs['seg_logits'].mean(1)

    own = build_score('Own')
    assert isinstance(own, Own) and own.name == 'Own' and build_score(own) is own
    assert build_score(Own).needs == ('seg_logits', )

    class NoScore:
        needs = ('seg_logits', )

        def __call__(self, outputs):
            return outputs['seg_logits'].mean(1)

    for other in (NoScore, NoScore(), lambda seg_logits: seg_logits.mean(1)):
        with pytest.raises(TypeError, match='a score must be .* mgcda.scores.Score or a function with @mgcda'):
            build_score(other)


@pytest.mark.parametrize('score_range', ['log-odds', (0, ), (0, 'ln K'), 3])
def test_a_wrong_range_is_refused_when_the_model_is_built(score_range):
    score = build_score('msp')
    score.range = score_range
    with pytest.raises(ValueError, match="the range of score 'msp' must be None, 'log_odds' or two bounds"):
        score.check(torch.nn.Module())


def test_several_scores_have_names():
    cold = dict(type='energy', name='cold', temperature=0.5)
    scores = build_scores(['msp', dict(type='energy', temperature=2.0), cold])
    assert list(scores) == ['msp', 'energy(temperature=2.0)', 'cold']
    logits = torch.randn(1, 3, 2, 2)
    assert torch.equal(scores['cold'](dict(seg_logits=logits)), energy(logits, 0.5))
    with pytest.raises(ValueError, match="two scores are called 'msp'"):
        build_scores(['msp', dict(type='msp')])
    with pytest.raises(ValueError, match='at least one score'):
        build_scores([])
    for name in ('a/b', '', '.hidden', 3):
        with pytest.raises(ValueError, match='the name of a score'):
            build_score(dict(type='msp', name=name))


def test_bad_input():
    with pytest.raises(ValueError, match="unknown score 'mps', known are .*'msp'"):
        build_score('mps')
    with pytest.raises(ValueError, match="unknown score 'pseudo_collate'"):
        build_score('pseudo_collate')
    with pytest.raises(TypeError, match="'entropy'.*temperature"):
        build_score(dict(type='entropy', temperature=1.0))
    with pytest.raises(TypeError, match='a score must be'):
        build_score(3)
    with pytest.raises(ValueError, match=r"needs the outputs \['seg_logits'\], the model gives \['features'\]"):
        build_score('msp')(dict(features=torch.zeros(1, 2, 1, 1)))
    with pytest.raises(ValueError, match='at least two classes'):
        msp(torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match='temperature must be positive'):
        energy(torch.zeros(1, 2, 2, 2), temperature=0)
