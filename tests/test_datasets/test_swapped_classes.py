# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest

from mgcda.datasets.swapped_classes import (
    SYNBOOST_CLASS_WEIGHTS,
    find_instances,
    name_generator,
    swap_classes,
    swap_target,
)
from mgcda.labels import label_id_to_train_id

ROAD, PERSON, CAR, CARAVAN = 7, 24, 26, 29
TABLE = label_id_to_train_id()


def street(num_cars=10, num_persons=6):
    """Road with cars in one row and persons in another, a caravan and void; label ids and instance ids."""
    label_ids = np.full((24, 80), ROAD, np.uint8)
    label_ids[20:] = 4
    instance_ids = label_ids.astype(np.uint16)
    for row, thing, number in ((2, CAR, num_cars), (12, PERSON, num_persons)):
        for i in range(number):
            window = slice(row, row + 4), slice(8 * i, 8 * i + 5)
            label_ids[window] = thing
            instance_ids[window] = 1000 * thing + number - 1 - i  # not in the order of their places
    label_ids[16:19, 70:] = CARAVAN
    instance_ids[16:19, 70:] = 1000 * CARAVAN
    return label_ids, instance_ids


def test_objects_are_numbered_in_the_order_of_their_places_whatever_the_source():
    label_ids, instance_ids = street()
    of_ids, of_components = find_instances(label_ids, instance_ids), find_instances(label_ids)
    np.testing.assert_array_equal(of_ids, of_components)
    assert of_ids[2, ::8].tolist() == list(range(1, 11)) and of_ids[12, :48:8].tolist() == list(range(11, 17))
    assert of_ids.max() == 16 and not of_ids[16:19, 70:].any() and not of_ids[20:].any()
    train_ids = TABLE[label_ids]
    swapped = [swap_classes(train_ids, found, 0.5, name_generator(3, 'a')) for found in (of_ids, of_components)]
    np.testing.assert_array_equal(*swapped)


def test_sources_differ_where_objects_touch_or_form_a_group():
    label_ids = np.full((10, 20), ROAD, np.uint8)
    label_ids[2:6, 2:10] = CAR
    instance_ids = label_ids.astype(np.int32)
    instance_ids[2:6, 2:6], instance_ids[2:6, 6:10] = 26001, 26000
    label_ids[8, 12:15], instance_ids[8, 12:15] = PERSON, PERSON  # a group
    label_ids[9, 15], instance_ids[9, 15] = PERSON, PERSON  # touches it by a corner
    assert find_instances(label_ids, instance_ids).max() == 2
    components = find_instances(label_ids)
    assert components.max() == 2 and components[2, 2] == components[5, 9] == 1
    assert (components == 2).sum() == 4
    assert find_instances(label_ids, min_area=5).max() == 1
    assert find_instances(label_ids, instance_ids, min_area=17).max() == 0
    with pytest.raises(ValueError, match=r'\(10, 19\) do not fit label ids of \(10, 20\)'):
        find_instances(label_ids, instance_ids[:, 1:])


@pytest.mark.parametrize('fraction, number', [(0.5, 8), (0.2, 3), (1.0, 16), (0.05, 0)])
def test_a_part_of_the_objects_gets_another_class(fraction, number):
    label_ids, instance_ids = street()
    train_ids, instances = TABLE[label_ids], find_instances(label_ids, instance_ids)
    swapped = swap_classes(train_ids, instances, fraction, np.random.default_rng(0))
    assert swapped.dtype == np.uint8 and swapped.shape == train_ids.shape
    changed = [i for i in range(1, 17) if (swapped != train_ids)[instances == i].any()]
    assert len(changed) == number
    for i in changed:  # a whole object to one class
        new = np.unique(swapped[instances == i])
        assert len(new) == 1 and new[0] < 19 and new[0] != train_ids[instances == i][0]
    np.testing.assert_array_equal(swapped[instances == 0], train_ids[instances == 0])


def test_target():
    label_ids, instance_ids = street()
    train_ids, instances = TABLE[label_ids], find_instances(label_ids, instance_ids)
    swapped = swap_classes(train_ids, instances, 0.5, np.random.default_rng(0))
    target = swap_target(train_ids, swapped)
    assert target.dtype == np.uint8 and set(np.unique(target)) == {0, 1, 255}
    np.testing.assert_array_equal(target == 1, swapped != train_ids)
    np.testing.assert_array_equal(target == 255, train_ids == 255)
    assert (target == 1).sum() == 8 * 20 and (target[20:] == 255).all()


def test_every_other_class_is_drawn_and_never_the_own():
    label_ids, instance_ids = street()
    train_ids, instances = TABLE[label_ids], find_instances(label_ids, instance_ids)
    cars = np.zeros(19, int)
    for seed in range(200):
        swapped = swap_classes(train_ids, instances, 1.0, np.random.default_rng(seed))
        cars += np.bincount(swapped[2, :80:8], minlength=19)
    assert cars[13] == 0 and cars.sum() == 2000
    others = np.delete(cars, 13)
    assert 70 < others.min() and others.max() < 155  # 111 expected, 4 standard deviations


def test_classes_are_drawn_by_their_weights():
    label_ids, instance_ids = street()
    train_ids, instances = TABLE[label_ids], find_instances(label_ids, instance_ids)
    counts = {thing: np.zeros(19, int) for thing in (11, 13)}  # person, car
    for seed in range(300):
        swapped = swap_classes(train_ids, instances, 1.0, np.random.default_rng(seed), SYNBOOST_CLASS_WEIGHTS)
        counts[13] += np.bincount(swapped[2, :80:8], minlength=19)
        counts[11] += np.bincount(swapped[12, :48:8], minlength=19)
    for thing, number in ((13, 3000), (11, 1800)):
        weights = np.array(SYNBOOST_CLASS_WEIGHTS, float)
        weights[thing] = 0
        expected = number * weights / weights.sum()
        assert counts[thing].sum() == number and not counts[thing][expected == 0].any()
        assert (np.abs(counts[thing] - expected) <= 4 * np.sqrt(expected)).all()
    assert sum(SYNBOOST_CLASS_WEIGHTS) == 25


@pytest.mark.parametrize('weights, message', [((1, ) * 18, '19 numbers, one a class, got 18'),
                                              ((0, ) * 13 + (1, ) + (0, ) * 5, 'two of them positive'),
                                              ((-1, ) + (1, ) * 18, 'must not be negative')])
def test_wrong_weights_are_refused(weights, message):
    label_ids, instance_ids = street()
    with pytest.raises(ValueError, match=message):
        swap_classes(TABLE[label_ids], find_instances(label_ids, instance_ids), 1.0, np.random.default_rng(0), weights)


def test_void_counts_as_anomaly_where_it_is_asked_for():
    label_ids, instance_ids = street()
    train_ids, instances = TABLE[label_ids], find_instances(label_ids, instance_ids)
    swapped = swap_classes(train_ids, instances, 0.5, np.random.default_rng(0))
    target = swap_target(train_ids, swapped, void=label_ids == 4)
    assert (target[20:] == 1).all() and (target[16:19, 70:] == 255).all()
    np.testing.assert_array_equal(target[:16], swap_target(train_ids, swapped)[:16])


def test_no_object_no_swap():
    train_ids = TABLE[np.full((4, 5), ROAD, np.uint8)]
    instances = find_instances(np.full((4, 5), ROAD, np.uint8))
    assert not instances.any()
    np.testing.assert_array_equal(swap_classes(train_ids, instances, 1.0, np.random.default_rng(0)), train_ids)
    everywhere = np.full((4, 5), CAR, np.uint8)  # an object without surroundings
    swapped = swap_classes(TABLE[everywhere], find_instances(everywhere), 1.0, np.random.default_rng(0))
    assert (swapped != 13).all()


def test_randomness_depends_on_seed_and_name_alone():
    draws = {(seed, name): name_generator(seed, name).integers(2**62) for seed in (0, 1) for name in ('a/1', 'a/2')}
    assert len(set(draws.values())) == 4
    assert all(name_generator(*key).integers(2**62) == value for key, value in draws.items())
