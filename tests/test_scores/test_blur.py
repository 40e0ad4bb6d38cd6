# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from mgcda.scores.blur import gaussian_blur


@pytest.mark.parametrize('sigma', [0.5, 1, 1.7])
def test_agrees_with_scipy(sigma):
    maps = np.random.default_rng(1).normal(-9, 5, (2, 7, 9))
    expected = [gaussian_filter(m, sigma, mode='mirror', radius=round(3 * sigma)) for m in maps]
    np.testing.assert_allclose(gaussian_blur(torch.tensor(maps), sigma).numpy(), expected, rtol=1e-12)


def test_keeps_type_and_what_is_not_smoothed():
    maps = torch.rand(2, 5, 6)
    assert torch.equal(gaussian_blur(maps, 0), maps)
    for dtype in (torch.float16, torch.float32, torch.float64):
        assert gaussian_blur(maps.to(dtype), 1).dtype == dtype


@pytest.mark.parametrize('sigma', [-1, float('nan'), float('inf')])
def test_refuses_sigma(sigma):
    with pytest.raises(ValueError, match='sigma must be'):
        gaussian_blur(torch.zeros(1, 9, 9), sigma)


def test_refuses_small_maps():
    with pytest.raises(ValueError, match='more than 3 pixels'):
        gaussian_blur(torch.zeros(1, 9, 3), 1)
