# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""A sample that is uniform, whatever the order and the parts that the stream comes in."""
import pytest
import torch
from scipy import stats

from mgcda.scores.fitting.reservoir import Reservoir

LENGTHS = (7, 1, 30, 0, 12, 50)


def batches(offset=0):
    """Vectors (M, 2) of one number each, 0, 1, ..., in batches with a key."""
    numbers = torch.arange(offset, offset + sum(LENGTHS)).float()
    return [(torch.stack([part, -part], 1), f'image {index}') for index, part in enumerate(numbers.split(LENGTHS))]


def sample(parts, size=20, seed=0):
    reservoir = Reservoir(size, 2, seed)
    for vectors, key in parts:
        index, priorities = reservoir.draw(len(vectors), key)
        reservoir.add(vectors[index], priorities)
    return reservoir


def assert_same(one, other):
    assert one.count == other.count
    assert torch.equal(one.vectors, other.vectors) and torch.equal(one.priorities, other.priorities)


def test_every_vector_and_every_pair_is_as_likely_as_any_other():
    size, rounds, total = 20, 2000, sum(LENGTHS)
    drawn = torch.stack([sample(batches(), size, seed).vectors[:, 0] for seed in range(rounds)]).long()
    counts = torch.zeros(total).index_add_(0, drawn.flatten(), torch.ones(rounds * size))
    # Without replacement the counts of one round are negatively correlated, which makes them vary less.
    expected, share = rounds * size / total, size / total
    statistic = ((counts - expected)**2).sum().item() / expected / (1 - share) * (total - 1) / total
    assert 0.001 < stats.chi2.sf(statistic, total - 1) < 0.999
    inside = torch.zeros(rounds, total).scatter_(1, drawn, 1)
    pairs = (inside.T @ inside)[~torch.eye(total, dtype=torch.bool)]
    likely = size * (size - 1) / total / (total - 1)
    deviation = (rounds * likely * (1 - likely))**0.5
    assert abs(pairs.mean().item() - rounds * likely) < 1e-3
    assert 0.9 < pairs.std().item() / deviation < 1.1 and (pairs - rounds * likely).abs().max() < 6 * deviation


def test_the_order_of_a_sample_says_nothing():
    # The first place of the sample goes to each vector equally often, too.
    first = torch.stack([sample(batches(), 20, seed).vectors[0, 0] for seed in range(2000)]).numpy()
    assert stats.kstest((first + 0.5) / sum(LENGTHS), 'uniform').pvalue > 0.001


@pytest.mark.parametrize('size', [1, 20, 100, 1000])
def test_size_and_count(size):
    reservoir = sample(batches(), size)
    assert reservoir.count == sum(LENGTHS) and len(reservoir.vectors) == min(size, sum(LENGTHS))
    assert reservoir.vectors.dtype == torch.float32 and reservoir.priorities.dtype == torch.float64
    assert len(reservoir.vectors[:, 0].unique()) == len(reservoir.vectors)  # without replacement
    assert torch.equal(reservoir.vectors[:, 1], -reservoir.vectors[:, 0])
    assert torch.equal(reservoir.priorities, reservoir.priorities.sort().values)


def test_a_smaller_sample_is_the_beginning_of_a_larger_one():
    assert torch.equal(sample(batches(), 5).vectors, sample(batches(), 50).vectors[:5])


@pytest.mark.parametrize('size', [1, 20, 1000])
def test_the_order_of_batches_does_not_matter(size):
    parts = batches()
    assert_same(sample(parts, size), sample(parts[::-1], size))
    assert_same(sample(parts, size), sample(parts[3:] + parts[:3], size))


@pytest.mark.parametrize('size', [1, 20, 1000])
@pytest.mark.parametrize('shards', [2, 4, 8])  # of eight some are empty
def test_merged_shards_are_one_pass(size, shards):
    pieces = [sample(batches()[index::shards], size) for index in range(shards)]
    for piece in pieces[1:]:
        pieces[0].merge(piece)
    assert_same(pieces[0], sample(batches(), size))


def test_it_goes_on_from_its_state():
    begun = sample(batches()[:2])
    again = Reservoir.from_state(begun.state(), 20, 0)
    for reservoir in (begun, again):
        for vectors, key in batches()[2:]:
            index, priorities = reservoir.draw(len(vectors), key)
            reservoir.add(vectors[index], priorities)
    assert_same(begun, again)
    assert_same(begun, sample(batches()))


def test_seeds_and_keys_decide():
    assert not torch.equal(sample(batches(), seed=1).vectors, sample(batches(), seed=2).vectors)
    renamed = [(vectors, f'{key}.png') for vectors, key in batches()]
    assert not torch.equal(sample(renamed).vectors, sample(batches()).vectors)


def test_vectors_of_another_length_are_refused():
    with pytest.raises(ValueError, match='length 2, now they are of length 3'):
        sample(batches()).add(torch.zeros(1, 3), torch.zeros(1, dtype=torch.float64))
