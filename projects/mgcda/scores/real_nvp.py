# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Normalising flow for vectors (Dinh et al., Density estimation using Real NVP, ICLR 2017)."""
import math

import torch
from torch import Tensor, nn


class RealNVP(nn.Module):
    r"""Density of vectors that an invertible network makes normal.

    .. math:: \log p(x) = \log \mathcal{N}(f(x); 0, I) + \log |\det \partial f / \partial x|

    Each step of f normalises the entries (:class:`ActNorm`), permutes them, and scales and shifts the second half by
    what a network of two hidden layers makes of the first half (:class:`AffineCoupling`), which does nothing before
    training. Permutations are random but fixed in one step and swap the halves in the next, so that two steps reach all
    entries. A vector of one entry is scaled and shifted only.

    Args:
        dim (int): Length D of the vectors.
        num_steps (int): Number of steps. Defaults to 8.
        hidden_channels (int): Width of the networks. Defaults to 128.
        seed (int): Of the permutations and the initial weights; PyTorch's generators are left alone. Defaults to 0.

    Raises:
        ValueError: If a number is below 1.
    """

    def __init__(self, dim: int, num_steps: int = 8, hidden_channels: int = 128, seed: int = 0) -> None:
        super().__init__()
        if min(dim, num_steps, hidden_channels) < 1:
            raise ValueError('dim, num_steps and hidden_channels must be positive, got '
                             f'{dim}, {num_steps} and {hidden_channels}')
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.norms = nn.ModuleList(ActNorm(dim) for _ in range(num_steps))
            self.couplings = nn.ModuleList(
                AffineCoupling(dim, hidden_channels) for _ in range(num_steps if dim > 1 else 0))
            swap = torch.arange(dim).roll(dim // 2)
            orders = [swap if index % 2 else torch.randperm(dim) for index in range(num_steps)]
        self.register_buffer('orders', torch.stack(orders))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``f(x)`` (M, D) of vectors (M, D), and the logarithms (M,) of the determinants of its Jacobian."""
        log_det = x.new_zeros(len(x))
        for index, norm in enumerate(self.norms):
            x = norm(x)[:, self.orders[index]]
            log_det = log_det + norm.log_scale.sum()
            if self.couplings:
                x, part = self.couplings[index](x)
                log_det = log_det + part
        return x, log_det

    def log_prob(self, x: Tensor) -> Tensor:
        """Logarithm of the density (M,), in nats, at vectors (M, D)."""
        z, log_det = self(x)
        return log_det - 0.5 * (z.square().sum(1) + x.shape[1] * math.log(2 * math.pi))

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Set the normalisation of each step such that vectors (M, D) leave it with mean 0 and deviation 1."""
        for index, norm in enumerate(self.norms):
            norm.initialize(x)
            x = norm(x)[:, self.orders[index]]
            if self.couplings:
                x = self.couplings[index](x)[0]


class ActNorm(nn.Module):
    """Scale and shift of each entry of vectors (M, D), learnt (Kingma & Dhariwal, Glow, NeurIPS 2018)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.bias) * self.log_scale.exp()

    def initialize(self, x: Tensor) -> None:
        """Make the entries of vectors (M, D) those of mean 0 and deviation 1."""
        std, mean = torch.std_mean(x, dim=0, correction=0)
        self.bias.copy_(mean)
        self.log_scale.copy_(-std.clamp(min=1e-3).log())


class AffineCoupling(nn.Module):
    """Scale and shift the rest of vectors by functions of their first D // 2 entries.

    Logarithms of scales are kept in [-``limit``, ``limit``] by a tangent, so that far outliers stay finite.
    """
    limit = 1.0

    def __init__(self, dim: int, hidden_channels: int) -> None:
        super().__init__()
        self.sizes = (dim // 2, dim - dim // 2)
        self.net = nn.Sequential(
            nn.Linear(self.sizes[0], hidden_channels), nn.ReLU(inplace=True),
            nn.Linear(hidden_channels, hidden_channels), nn.ReLU(inplace=True),
            nn.Linear(hidden_channels, 2 * self.sizes[1]))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (M, D), and the logarithms (M,) of the determinants."""
        first, second = x.split(self.sizes, dim=1)
        log_scale, shift = self.net(first).chunk(2, dim=1)
        log_scale = self.limit * (log_scale / self.limit).tanh()
        return torch.cat([first, second * log_scale.exp() + shift], dim=1), log_scale.sum(1)
