# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import cv2
import numpy as np
import pytest

from mgcda.visualization import blend_heat, check_window, colour_heat, draw_boxes, draw_contours
from mgcda.visualization.heat_maps import CYAN, GREEN


def test_colours_rise_with_the_heat() -> None:
    colours = colour_heat(np.linspace(0, 1, 256).reshape(1, -1))
    assert colours.shape == (1, 256, 3) and colours.dtype == np.uint8
    lightness = cv2.cvtColor(colours, cv2.COLOR_BGR2LAB)[0, :, 0].astype(int)
    assert (np.diff(lightness) >= 0).all() and lightness[0] == 0 and lightness[-1] > 240


def test_no_heat_leaves_the_image_and_full_heat_covers_four_fifths() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    np.testing.assert_array_equal(blend_heat(image, np.zeros((4, 6))), image)
    for heat in (0.5, 1):
        colours = colour_heat(np.full((4, 6), heat)).astype(float)
        blend = blend_heat(image, np.full((4, 6), heat)).astype(float)
        np.testing.assert_allclose(blend, (1 - 0.8 * heat) * image + 0.8 * heat * colours, atol=0.51)


def test_boxes_frame_their_pixels() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    drawn = draw_boxes(image, [dict(box=[20, 30, 15, 10], max_score=1.5)])
    assert not image.any()
    for y, x in ((30, 20), (30, 34), (39, 20), (39, 34)):
        assert tuple(drawn[y, x]) == GREEN
    assert not drawn[31:39, 21:34].any() and not drawn[41:].any()
    assert drawn[:29].any()  # the score, above
    np.testing.assert_array_equal(draw_boxes(image, []), image)


def test_contours_run_along_the_mask() -> None:
    mask = np.zeros((12, 12), bool)
    mask[3:9, 3:9] = True
    drawn = draw_contours(np.zeros((12, 12, 3), np.uint8), mask)
    expected = mask.copy()
    expected[4:8, 4:8] = False
    np.testing.assert_array_equal((drawn == CYAN).all(-1), expected)


def test_a_window_needs_a_display(monkeypatch) -> None:
    monkeypatch.setattr('sys.platform', 'linux')
    for name in ('DISPLAY', 'WAYLAND_DISPLAY'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RuntimeError, match='there is no display'):
        check_window()
    monkeypatch.setattr(cv2, 'getBuildInformation', lambda: '  GUI:                           NONE\n')
    with pytest.raises(RuntimeError, match='opencv-python-headless'):
        check_window()
