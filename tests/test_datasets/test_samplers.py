# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections import Counter

import pytest
from torch.utils.data import BatchSampler

from mgcda.datasets import DomainBalancedSampler, SampleKey, samplers


class Domains:
    """What the sampler asks of a data set."""

    def __init__(self, *sizes):
        self.domain_sizes = sizes


def build(monkeypatch, sizes, rank=0, world_size=1, **options):
    monkeypatch.setattr(samplers, 'get_dist_info', lambda: (rank, world_size))
    return DomainBalancedSampler(Domains(*sizes), **{'seed': 5, **options})


def batches(sampler, number=None):
    stream, result = iter(sampler), []
    size = sampler.batch_size
    for key in stream:
        result.append(key)
        if number is not None and len(result) == number * size:
            break
    return [result[i:i + size] for i in range(0, len(result), size)]


def full(key):
    return int(key), key.seed, key.position


@pytest.mark.parametrize('sizes, counts, world_size', [((7, 3), (4, 4), 1), ((7, 3), (1, 3), 2),
                                                       ((2, 9, 4), (2, 1, 1), 3), ((5, ), (4, ), 1)])
@pytest.mark.parametrize('infinite', [False, True])
def test_every_batch_of_every_rank_is_balanced(monkeypatch, sizes, counts, world_size, infinite):
    size, starts = sum(counts), [sum(sizes[:d]) for d in range(len(sizes))]
    for rank in range(world_size):
        sampler = build(monkeypatch, sizes, rank, world_size, batch_size=size, num_per_domain=counts, infinite=infinite)
        rows = batches(sampler, 11 if infinite else None)
        assert len(rows) == (11 if infinite else max(-(-s // (c * world_size)) for s, c in zip(sizes, counts)))
        assert len(sampler) == size * max(-(-s // (c * world_size)) for s, c in zip(sizes, counts))
        for row in rows:
            domains = Counter(sum(key >= start for start in starts) - 1 for key in row)
            assert domains == dict(enumerate(counts))


def test_an_epoch_holds_the_longest_domain_and_cycles_the_shorter(monkeypatch):
    sampler = build(monkeypatch, (10, 3), batch_size=8)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        keys = [key for row in batches(sampler) for key in row]
        assert len(keys) == 24
        longest = [int(key) for key in keys if key < 10]
        assert sorted(longest[:10]) == list(range(10)) and len(longest) == 12
        # 12 draws of 3 samples: four full passes, each shuffled anew
        assert Counter(int(key) for key in keys if key >= 10) == {10: 4, 11: 4, 12: 4}
        orders.append([int(key) for key in keys])
    assert orders[0] != orders[1] != orders[2]


def test_infinite_stream_goes_through_whole_passes(monkeypatch):
    sampler = build(monkeypatch, (5, 3), batch_size=4, infinite=True)
    keys = [key for row in batches(sampler, 15) for key in row]
    first, second = ([int(k) for k in keys if (k >= 5) == side] for side in (False, True))
    assert all(sorted(first[i:i + 5]) == [0, 1, 2, 3, 4] for i in range(0, 30, 5))
    assert all(sorted(second[i:i + 3]) == [5, 6, 7] for i in range(0, 30, 3))


def test_positions_are_unique_over_epochs(monkeypatch):
    sampler = build(monkeypatch, (10, 3), batch_size=4, ratio=(3, 1))
    positions = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        positions += [key.position for row in batches(sampler) for key in row]
    assert len(set(positions)) == len(positions)


@pytest.mark.parametrize('infinite', [False, True])
def test_the_ranks_together_draw_one_stream(monkeypatch, infinite):
    """8 samples a domain and step, on one rank, two or four: the same keys in every global batch."""
    streams = []
    for world_size in (1, 2, 4):
        ranks = [
            batches(
                build(monkeypatch, (50, 21), rank, world_size, batch_size=16 // world_size, infinite=infinite),
                None if not infinite else 9) for rank in range(world_size)
        ]
        streams.append([sorted(full(key) for row in step for key in row) for step in zip(*ranks)])
    assert len(streams[0]) == (9 if infinite else 7)
    assert streams[0] == streams[1] == streams[2]


@pytest.mark.parametrize('infinite', [False, True])
def test_starting_in_the_middle_gives_the_tail(monkeypatch, infinite):
    options = dict(batch_size=4, rank=1, world_size=2, infinite=infinite)
    sampler, whole = build(monkeypatch, (11, 4), **options), []
    for epoch in range(3):  # 3 batches an epoch
        if infinite:
            sampler.set_start(3 * epoch)
        sampler.set_epoch(epoch)
        whole += batches(sampler, 3)
    for start in range(9):
        resumed = build(monkeypatch, (11, 4), **options)
        resumed.set_start(start)
        rows = batches(resumed, 9 - start) if infinite else batches(resumed)
        expected = whole[start:] if infinite else whole[start:start - start % 3 + 3]
        assert [list(map(full, row)) for row in rows] == [list(map(full, row)) for row in expected]


def test_starting_far_away_is_immediate(monkeypatch):
    sampler = build(monkeypatch, (3000, 3000), batch_size=8, infinite=True)
    sampler.set_start(10**12)
    assert len(batches(sampler, 2)) == 2


def test_seed_and_shuffle(monkeypatch):
    first, again, other = (batches(build(monkeypatch, (9, 9), batch_size=6, seed=seed)) for seed in (1, 1, 2))
    assert list(map(full, first[0])) == list(map(full, again[0]))
    assert [list(map(int, row)) for row in first] != [list(map(int, row)) for row in other]
    assert isinstance(first[0][0], SampleKey) and first[0][0].seed == 1
    ordered = batches(build(monkeypatch, (4, 2), batch_size=4, shuffle=False))
    assert [list(map(int, row)) for row in ordered] == [[0, 1, 4, 5], [2, 3, 4, 5]]


def test_stock_batch_sampler_groups_as_meant(monkeypatch):
    sampler = build(monkeypatch, (6, 2), batch_size=4)
    grouped = list(BatchSampler(sampler, 4, drop_last=False))
    assert len(grouped) == 3 and all(sum(key >= 6 for key in row) == 2 for row in grouped)


@pytest.mark.parametrize('sizes, options, message', [
    ((5, 5), dict(batch_size=7), 'batch_size 7 is not divisible by 2'),
    ((5, 5), dict(batch_size=8, ratio=(2, 1)), 'batch_size 8 is not divisible by 3'),
    ((5, 5), dict(batch_size=8, num_per_domain=3), 'adds up to 6, not to batch_size 8'),
    ((5, 5), dict(batch_size=8, num_per_domain=(8, 0)), 'integer >= 1'),
    ((5, 5), dict(batch_size=8, num_per_domain=(4, 2, 2)), '3 numbers for 2 domains'),
    ((5, 5), dict(batch_size=8, num_per_domain=4, ratio=(1, 1)), 'not both'),
    ((5, 5), dict(batch_size=0), 'batch_size must be'),
    ((5, 5), dict(batch_size=8, ratio=(1, 0)), 'ratio must be'),
    ((5, 0), dict(batch_size=8), 'every domain needs at least one sample'),
])
def test_wrong_options(monkeypatch, sizes, options, message):
    with pytest.raises(ValueError, match=message):
        build(monkeypatch, sizes, **options)


def test_other_data_sets_are_refused():
    with pytest.raises(TypeError, match='MultiDomainDataset, got list'):
        DomainBalancedSampler([1, 2, 3], batch_size=2)
