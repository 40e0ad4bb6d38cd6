# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Gaussian mixtures of classes that are fitted while a network trains (GMMSeg; Liang et al., NeurIPS 2022)."""
import math

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather
from torch import Tensor, nn

#: After t steps momenta are at most t / (t + WARM_UP): they average over at most about that part of the steps, 1 in 10.
WARM_UP = 10


def sinkhorn(log_likelihood: Tensor, valid: Tensor, num_iters: int = 3, epsilon: float = 1.0) -> Tensor:
    r"""Assignments of samples to the components of a mixture that share the samples evenly.

    The plan :math:`q = \mathrm{diag}(u) \exp(\log p / \epsilon)\, \mathrm{diag}(v)` is scaled in turn so that
    components have equal sums and that each sample sums to 1, in this order, as in the authors' public code. It tends
    to the plan where both hold. Without iterations and with :math:`\epsilon = 1` it is the posterior of equally
    weighted components. Departures from that code, which divides log p by its largest absolute value, takes
    :math:`\epsilon = 0.05` and keeps the largest entry of a sample alone: log p as it is, and the plan itself.

    Args:
        log_likelihood (Tensor): log p of each sample under each component, float (..., K, M), in nats.
        valid (Tensor): Which samples exist, bool (..., K).
        num_iters (int): Times of scaling components. Defaults to 3.
        epsilon (float): Weight of the plan's entropy in nats; small = hard assignments. Defaults to 1.

    Returns:
        Tensor: q (..., K, M), float32, in [0, 1], 0 for samples that do not exist.
    """
    valid = valid[..., None]
    log_plan = log_likelihood.float() / epsilon
    for _ in range(num_iters):
        log_plan = log_plan - log_plan.masked_fill(~valid, -torch.inf).logsumexp(-2, keepdim=True)
        log_plan = F.log_softmax(log_plan, dim=-1)
    # Where a class has no sample its plan is not a number until here.
    return F.softmax(log_plan, dim=-1).where(valid, 0)


def sample_classes(labels: Tensor, num_classes: int, num_samples: int) -> tuple[Tensor, Tensor]:
    """Draw up to ``num_samples`` pixels of each class without replacement, without waiting for the device.

    Args:
        labels (Tensor): Classes of pixels, int64 (P,); those that are not in [0, num_classes) are never drawn.
        num_classes (int): C.
        num_samples (int): S.

    Returns:
        tuple[Tensor, Tensor]: Indices of pixels, int64 (C, S), and which of them were drawn, bool (C, S): the first
        ones of a row. The others are any valid index.
    """
    known = (labels >= 0) & (labels < num_classes)
    labels = labels.where(known, num_classes)
    keys, order = torch.sort(labels + torch.rand(labels.shape, dtype=torch.float64, device=labels.device))
    starts = torch.searchsorted(keys, torch.arange(num_classes + 1, dtype=keys.dtype, device=keys.device))
    places = torch.arange(num_samples, device=labels.device)
    drawn = places < starts.diff()[:, None]
    return order[(starts[:-1, None] + places).clamp(max=len(labels) - 1)], drawn


class ClassGaussianMixtures(nn.Module):
    r"""A mixture of Gaussians with diagonal covariance for each class, fitted by EM to a memory of recent samples.

    .. math:: p(x | c) = \frac{1}{M} \sum_m \mathcal{N}(x; \mu_{cm}, \mathrm{diag}(\sigma^2_{cm}))

    :meth:`update` puts samples of all processes into the memory, first in, first out, and makes one step of EM for
    every class:

    - E: samples of the memory are assigned to the components of their class by :func:`sinkhorn`.
    - M: a mean becomes ``mean_momentum`` times itself plus the rest times the weighted mean of its samples; a variance
      likewise, of the weighted mean squared distances to that new mean, plus ``reg_covar``. Momenta are at most
      :math:`t / (t + 10)` after t steps, lest short trainings end with the means of an untrained network.

    A class takes part as soon as it has M samples in the memory. Its means then start at M of them, spread over the
    memory, its variances at that of all. Before, it stays as it was made: variances 1 and random means of length 1.

    Samples are meant to be of order 1, as L2-normalised ones are: densities are computed in float32 from products of
    matrices. There are no gradients but those of samples in :meth:`log_likelihood`. What is learnt, and the memory,
    are buffers and saved; all processes hold the same as long as they call :meth:`update` together.

    Args:
        num_classes (int): C.
        num_components (int): M.
        channels (int): Length D of a sample.
        memory_size (int): Samples K that the memory holds of each class, at least M.
        mean_momentum (float): Largest momentum of means, in [0, 1). Defaults to 0.999.
        var_momentum (float): Largest momentum of variances, in [0, 1). Defaults to 0.
        reg_covar (float): Added to variances, above 0. Defaults to 0.01.
        sinkhorn_iters (int): See :func:`sinkhorn`. Defaults to 3.
        epsilon (float): See :func:`sinkhorn`. Defaults to 1.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self,
                 num_classes: int,
                 num_components: int,
                 channels: int,
                 memory_size: int,
                 mean_momentum: float = 0.999,
                 var_momentum: float = 0.0,
                 reg_covar: float = 1e-2,
                 sinkhorn_iters: int = 3,
                 epsilon: float = 1.0) -> None:
        super().__init__()
        if min(num_classes, num_components, channels) < 1 or memory_size < num_components:
            raise ValueError('num_classes, num_components and channels must be at least 1 and memory_size at least '
                             f'num_components, got {num_classes}, {num_components}, {channels} and {memory_size}')
        if not (0 <= mean_momentum < 1 and 0 <= var_momentum < 1):
            raise ValueError(f'momenta must be in [0, 1), got {mean_momentum} and {var_momentum}')
        if reg_covar <= 0 or epsilon <= 0 or sinkhorn_iters < 0:
            raise ValueError('reg_covar and epsilon must be above 0 and sinkhorn_iters not below, '
                             f'got {reg_covar}, {epsilon} and {sinkhorn_iters}')
        self.num_classes, self.num_components, self.channels = num_classes, num_components, channels
        self.memory_size = memory_size
        self.mean_momentum, self.var_momentum, self.reg_covar = mean_momentum, var_momentum, reg_covar
        self.sinkhorn_iters, self.epsilon = sinkhorn_iters, epsilon
        # Of a generator of their own: buffers are not sent to other processes, whose seeds may differ.
        means = torch.randn(num_classes, num_components, channels, generator=torch.Generator().manual_seed(0))
        self.register_buffer('means', F.normalize(means, dim=-1))
        self.register_buffer('variances', torch.ones(num_classes, num_components, channels))
        #: Steps of EM that each class took part in.
        self.register_buffer('num_steps', torch.zeros(num_classes, dtype=torch.int64))
        self.register_buffer('memory', torch.zeros(num_classes, memory_size, channels))
        #: Samples of each class that the memory has seen.
        self.register_buffer('num_seen', torch.zeros(num_classes, dtype=torch.int64))

    def log_likelihood(self, samples: Tensor) -> Tensor:
        """log N(x; mu_cm, var_cm) of ``samples`` (P, D): float32 (P, C, M), in nats."""
        with torch.autocast(samples.device.type, enabled=False):
            log_likelihood = self._log_density(samples.float(), self.means.flatten(0, 1), self.variances.flatten(0, 1))
        return log_likelihood.unflatten(-1, (self.num_classes, self.num_components))

    def class_log_likelihood(self, log_likelihood: Tensor) -> Tensor:
        """log p(x | c), (..., C), in nats, of what :meth:`log_likelihood` returned, (..., C, M)."""
        return log_likelihood.logsumexp(-1) - math.log(self.num_components)

    @torch.no_grad()
    def assign(self, samples: Tensor, valid: Tensor) -> Tensor:
        """Assignments (C, S, M) of ``samples`` (C, S, D) to the components of their class, see :func:`sinkhorn`.

        ``valid``: bool (C, S), which of them exist.
        """
        with torch.autocast(samples.device.type, enabled=False):
            log_likelihood = self._log_density(samples.float(), self.means, self.variances)
            return sinkhorn(log_likelihood, valid, self.sinkhorn_iters, self.epsilon)

    @torch.no_grad()
    def update(self, samples: Tensor, valid: Tensor) -> None:
        """Remember samples and make a step of EM; all processes must call it together.

        Args:
            samples (Tensor): (C, S, D) of any precision; row c holds samples of class c. S may be at most K.
            valid (Tensor): Which of them exist, bool (C, S), the first ones of a row.

        Raises:
            ValueError: If there are more samples of a class than the memory holds.
        """
        if samples.shape[1] > self.memory_size:
            raise ValueError(f'memory_size must be at least the {samples.shape[1]} samples of a class and step, '
                             f'got {self.memory_size}')
        for vectors, exist in zip(all_gather(samples.float().contiguous()), all_gather(valid.contiguous())):
            self._remember(vectors, exist)
        with torch.autocast(samples.device.type, enabled=False):
            self._step()

    def _remember(self, samples: Tensor, valid: Tensor) -> None:
        places = (self.num_seen[:, None] + torch.arange(samples.shape[1], device=samples.device)) % self.memory_size
        places = places[..., None].expand_as(samples)
        self.memory.scatter_(1, places, samples.where(valid[..., None], self.memory.gather(1, places)))
        self.num_seen += valid.sum(1)

    def _step(self) -> None:
        num_kept = self.num_seen.clamp(max=self.memory_size)
        valid = torch.arange(self.memory_size, device=num_kept.device) < num_kept[:, None]
        ready = num_kept >= self.num_components
        self._start(ready & (self.num_steps == 0), num_kept, valid)

        plan = self.assign(self.memory, valid).mT
        mass = plan.sum(-1, keepdim=True).clamp(min=torch.finfo(plan.dtype).tiny)
        first = (plan @ self.memory) / mass
        second = (plan @ self.memory.square()) / mass
        momentum = (self.num_steps / (self.num_steps + WARM_UP))[:, None, None]
        means = torch.lerp(first, self.means, momentum.clamp(max=self.mean_momentum))
        distances = (second - first.square()).clamp(min=0) + (first - means).square()
        variances = torch.lerp(distances + self.reg_covar, self.variances, momentum.clamp(max=self.var_momentum))
        self.num_steps += ready
        ready = ready[:, None, None]
        self.means.copy_(means.where(ready, self.means))
        self.variances.copy_(variances.where(ready, self.variances))

    def _start(self, starting: Tensor, num_kept: Tensor, valid: Tensor) -> None:
        """Put the components of the classes ``starting``, bool (C,), where samples of their memory are."""
        spread = torch.arange(self.num_components, device=valid.device)
        places = (num_kept[:, None] * spread) // self.num_components
        picked = self.memory.gather(1, places[..., None].expand(-1, -1, self.channels))
        count = num_kept.clamp(min=1)[:, None, None]
        mean = self.memory.sum(1, keepdim=True) / count
        variance = ((self.memory - mean).square() * valid[..., None]).sum(1, keepdim=True) / count + self.reg_covar
        starting = starting[:, None, None]
        self.means.copy_(picked.where(starting, self.means))
        self.variances.copy_(variance.expand_as(self.variances).where(starting, self.variances))

    @staticmethod
    def _log_density(samples: Tensor, means: Tensor, variances: Tensor) -> Tensor:
        """Log-densities (..., P, M) of ``samples`` (..., P, D); ``means`` and ``variances``: (..., M, D)."""
        precisions = 1 / variances
        constant = (means.square() * precisions + variances.log()).sum(-1) + means.shape[-1] * math.log(2 * math.pi)
        products = samples.square() @ precisions.mT - 2 * (samples @ (means * precisions).mT)
        return -0.5 * (products + constant[..., None, :])
