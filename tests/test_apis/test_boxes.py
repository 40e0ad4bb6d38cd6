# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import numpy as np
from scipy import ndimage

from mgcda.apis import find_boxes
from mgcda.apis.boxes import near_road


def test_boxes_by_hand() -> None:
    scores = np.zeros((6, 8), np.float32)
    scores[1, 1], scores[2, 2] = 3, 5  # one component, over a corner
    scores[4, 4:7] = 1, 2, 6
    scores[0, 7] = 1.5
    boxes = find_boxes(scores, 1)
    assert boxes == [
        dict(box=[5, 4, 2, 1], area=2, mean_score=4.0, max_score=6.0),
        dict(box=[1, 1, 2, 2], area=2, mean_score=4.0, max_score=5.0),
        dict(box=[7, 0, 1, 1], area=1, mean_score=1.5, max_score=1.5)
    ]
    assert [box['max_score'] for box in find_boxes(scores, 1, min_area=2)] == [6.0, 5.0]
    near = np.zeros((6, 8), bool)
    near[2, 2] = True
    assert [box['max_score'] for box in find_boxes(scores, 1, near=near)] == [5.0]
    assert find_boxes(scores, 6) == []


def test_boxes_are_measured_on_the_pixels_of_components_alone(monkeypatch) -> None:
    sizes, maximum = [], ndimage.maximum
    monkeypatch.setattr(ndimage, 'maximum', lambda values, *args: sizes.append(values.size) or maximum(values, *args))
    scores = np.zeros((60, 80), np.float32)
    scores[3:5, 4:9] = np.arange(10).reshape(2, 5)
    assert find_boxes(scores, 0)[0]['max_score'] == 9 and sizes == [9]


def test_boxes_agree_with_another_library() -> None:
    scores = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(60, 90)), 2).astype(np.float32)
    threshold = float(np.quantile(scores, 0.8))
    ids, number = ndimage.label(scores > threshold, np.ones((3, 3)))
    boxes = find_boxes(scores, threshold)
    assert number > 5 and len(boxes) == number
    expected = set()
    for index, (rows, columns) in enumerate(ndimage.find_objects(ids), start=1):
        inside = scores[ids == index]
        expected.add((columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start, inside.size,
                      round(float(inside.mean()), 4), round(float(inside.max()), 4)))
    assert expected == {(*box['box'], box['area'], round(box['mean_score'], 4), round(box['max_score'], 4))
                        for box in boxes}


def test_near_the_road_is_within_a_hundredth_of_the_height() -> None:
    segmentation = np.full((200, 50), 8, np.uint8)
    segmentation[100:, :] = 0
    near = near_road(segmentation)
    assert near[98:].all() and not near[:98].any()
