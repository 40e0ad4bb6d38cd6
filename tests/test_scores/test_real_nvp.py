# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""RealNVP: against autograd's Jacobian, as a density, and where it begins."""
import math

import pytest
import torch

from mgcda.scores.real_nvp import RealNVP


def random_flow(dim, scale=0.3, **settings):
    """A flow in float64 whose parameters are all random."""
    flow = RealNVP(dim, **settings).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return flow


@pytest.mark.parametrize('dim', [1, 2, 5])
def test_determinant_and_density_agree_with_autograd(dim):
    flow = random_flow(dim, num_steps=4, hidden_channels=8)
    x = torch.randn(6, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    z, log_det = flow(x)
    for index in range(6):
        jacobian = torch.autograd.functional.jacobian(lambda row: flow(row[None])[0][0], x[index])
        torch.testing.assert_close(log_det[index], torch.linalg.slogdet(jacobian).logabsdet)
    normal = torch.distributions.MultivariateNormal(torch.zeros(dim).double(), torch.eye(dim).double())
    torch.testing.assert_close(flow.log_prob(x), normal.log_prob(z) + log_det)


@pytest.mark.parametrize('dim, points', [(1, 20001), (2, 701)])
def test_density_integrates_to_one(dim, points):
    flow = random_flow(dim, num_steps=3, hidden_channels=8)
    axis = torch.linspace(-15, 15, points, dtype=torch.float64)
    grid = torch.cartesian_prod(*[axis] * dim).view(-1, dim)
    with torch.no_grad():
        total = flow.log_prob(grid).exp().sum() * (axis[1] - axis[0])**dim
    assert total.item() == pytest.approx(1, abs=1e-3)


def test_begins_as_a_gaussian_of_the_data():
    generator = torch.Generator().manual_seed(0)
    std, mean = torch.tensor([0.1, 3., 40.]), torch.tensor([5., -70., 0.])
    x = mean + std * torch.randn(5000, 3, generator=generator)
    flow = RealNVP(3, num_steps=3, hidden_channels=4)
    flow.initialize(x)
    deviation, average = torch.std_mean(x, dim=0, correction=0)
    expected = torch.distributions.Normal(average, deviation).log_prob(x).sum(1)
    torch.testing.assert_close(flow.log_prob(x), expected, rtol=1e-4, atol=1e-4)
    # Every step is normalised, also where couplings do something.
    flow = random_flow(3, num_steps=3, hidden_channels=4)
    flow.initialize(x.double())
    entries = []
    flow.norms[-1].register_forward_hook(lambda module, inputs, output: entries.append(output))
    flow(x.double())
    torch.testing.assert_close(entries[0].mean(0), torch.zeros(3).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(entries[0].std(0, correction=0), torch.ones(3).double(), atol=1e-9, rtol=0)


def test_constant_entries_do_not_divide_by_zero():
    flow = RealNVP(2, num_steps=2, hidden_channels=4)
    flow.initialize(torch.ones(10, 2))
    assert flow.log_prob(torch.zeros(3, 2)).isfinite().all()


def test_seed_makes_the_flow_and_nothing_else():
    state = torch.get_rng_state()
    one, two, other = (RealNVP(6, hidden_channels=4, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, two.state_dict()[key]) for key, value in one.state_dict().items())
    assert not torch.equal(one.orders, other.orders)
    assert not torch.equal(one.couplings[0].net[0].weight, other.couplings[0].net[0].weight)


def test_every_parameter_gets_a_gradient():
    flow = random_flow(5, num_steps=3, hidden_channels=8)
    flow.log_prob(torch.randn(20, 5, dtype=torch.float64)).mean().backward()
    for name, parameter in flow.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_far_outliers_stay_finite_and_unlikely():
    flow = random_flow(4, num_steps=16, hidden_channels=8).float()
    near, far = flow.log_prob(torch.zeros(1, 4)), flow.log_prob(torch.full((1, 4), 100.))
    assert far.isfinite() and far < near - 1000 and math.isfinite(near.item())


@pytest.mark.parametrize('settings', [dict(dim=0), dict(dim=2, num_steps=0), dict(dim=2, hidden_channels=0)])
def test_wrong_sizes_are_refused(settings):
    with pytest.raises(ValueError, match='must be positive'):
        RealNVP(**settings)
