# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import logging
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.registry import FUNCTIONS
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from .fitting.sample_score import VALID, VOID, SampleScore
from .real_nvp import RealNVP

MINIMUM, MAXIMUM, REGRESSION = 'minimum', 'maximum', 'logistic_regression'
#: So many pixels at a time go through a flow.
CHUNK = 1 << 14
#: Features further from the mean than so many standard deviations count as there, which keeps all scores finite.
CLIP = 100.0
#: Channels whose deviation is below this part of the layer's are scaled as the layer.
FLAT = 1e-4
NUM_REPORTS = 5


@FUNCTIONS.register_module()
class FlowNLL(SampleScore):
    r"""Negative log-likelihood of features under normalising flows (Blum et al., IJCV 2021).

    A :class:`RealNVP` for each layer learns the density of the features :math:`x_l` of pixels with a class label. With
    :math:`N_l = -\log p_l(x_l)`, in nats, resized bilinearly to the largest map of the layers, the score of a pixel is

    - :math:`N_l` of the only layer (``combine=None``),
    - :math:`\min_l (N_l - \mathbb{E}[N_l])`, the expectation over the sample (``combine='minimum'``, "minimum NLL"):
      all layers must find the pixel unlikely,
    - the maximum of the same (``combine='maximum'``): one layer is enough, or
    - the logit :math:`\sum_l w_l N_l + b` of a logistic regression that tells void pixels of the training data from
      those with a class label, both weighted alike (``combine='logistic_regression'``).

    The public code of the paper has no flows, and of the minimum only the name is known here. Sizes and training are
    chosen here, for minutes on a CPU: features are standardised by the sample, noise keeps channels that are often
    constant (after a ReLU) from degenerate densities, and Adam's step is annealed by a cosine. Of the sample, 10% are
    held out; the log says how the flow does there.

    Args:
        layers (Sequence[str]): The layers whose features (N, D_l, h_l, w_l) are read, such as 'backbone.layer4'.
        combine (str, optional): How several layers make one score, see above. It needs no fit of its own.
            Defaults to None.
        sample_size (int): Pixels that are kept of each kind (with a class label and void), at most; features take
            ``4 * sample_size * sum(D_l)`` bytes a kind. Defaults to 100000.
        num_steps (int): Steps of each flow. Defaults to 8.
        hidden_channels (int): Width of its networks. Defaults to 128.
        num_iters (int): Training iterations of each flow. Defaults to 2000.
        batch_size (int): Pixels in each. Defaults to 1024.
        lr (float): Learning rate. Defaults to 1e-3.
        noise (float): Standard deviation of the Gaussian noise that training adds to standardised features.
            Defaults to 0.1.
        seed (int): Of the sample and of the training, which repeats itself on a CPU. Defaults to 0.
        fitted (str, optional): See :class:`FittedScore`. Defaults to None.

    Raises:
        ValueError: If ``combine`` is none of these, or is missing for several layers, or a number is out of range; when
            fitted, if there are less than 10 pixels, a flow does not stay finite, or a logistic regression is asked for
            and the training data has no void pixels.
    """
    fit_settings = ('layers', 'sample_size', 'num_steps', 'hidden_channels', 'num_iters', 'batch_size', 'lr', 'noise',
                    'seed')
    parameter_names = ('dims', 'mean_nll')
    with_void = True

    def __init__(self,
                 layers: Sequence[str],
                 combine: str | None = None,
                 sample_size: int = 100_000,
                 num_steps: int = 8,
                 hidden_channels: int = 128,
                 num_iters: int = 2000,
                 batch_size: int = 1024,
                 lr: float = 1e-3,
                 noise: float = 0.1,
                 seed: int = 0,
                 fitted: str | None = None) -> None:
        super().__init__(
            layers,
            sample_size,
            seed,
            fitted,
            layers=layers if isinstance(layers, str) else tuple(layers),
            combine=combine,
            num_steps=num_steps,
            hidden_channels=hidden_channels,
            num_iters=num_iters,
            batch_size=batch_size,
            lr=lr,
            noise=noise)
        if combine not in (None, MINIMUM, MAXIMUM, REGRESSION):
            raise ValueError(f'combine must be None, {MINIMUM!r}, {MAXIMUM!r} or {REGRESSION!r}, got {combine!r}')
        if combine is None and len(self.layers) > 1:
            raise ValueError(f'{len(self.layers)} layers need combine={MINIMUM!r}, {MAXIMUM!r} or {REGRESSION!r}')
        if min(num_steps, hidden_channels, num_iters, batch_size) < 1 or not lr > 0 or not noise >= 0:
            raise ValueError('num_steps, hidden_channels, num_iters, batch_size and lr must be positive and noise not '
                             f'negative, got {num_steps}, {hidden_channels}, {num_iters}, {batch_size}, {lr} and '
                             f'{noise}')
        self.flows: list[_FeatureFlow] = []
        self.mean_nll = torch.zeros(0)
        self.weights: Tensor | None = None
        self.bias: Tensor | None = None

    # Files

    def parameters(self) -> dict[str, Tensor]:
        """The flows ('flows.0.mean'), the lengths D_l, the mean of N_l, and w_l and b if there were void pixels."""
        state = {
            f'flows.{index}.{key}': value
            for index, flow in enumerate(self.flows)
            for key, value in flow.state_dict().items()
        }
        state.update(dims=torch.tensor(self.dims), mean_nll=self.mean_nll)
        if self.weights is not None:
            state.update(weights=self.weights, bias=self.bias)
        return {key: value.detach().cpu() for key, value in state.items()}

    def load_parameters(self, parameters: dict[str, Tensor]) -> None:
        """Take what was saved by :meth:`parameters`.

        Raises:
            ValueError: If it is of other layers or sizes, or has no weights and a logistic regression is asked for.
        """
        dims = parameters['dims'].tolist()
        flows = self._new_flows(dims)
        try:
            for index, flow in enumerate(flows):
                prefix = f'flows.{index}.'
                flow.load_state_dict({
                    key.removeprefix(prefix): value
                    for key, value in parameters.items() if key.startswith(prefix)
                })
        except RuntimeError as error:
            reason = ' '.join(str(error).split())
            raise ValueError(f'score {self.name!r}: the parameters in {self.fitted} are damaged: {reason}') from None
        weights, bias = parameters.get('weights'), parameters.get('bias')
        if not len(dims) == len(self.layers) == len(parameters['mean_nll']):
            raise ValueError(f'score {self.name!r} has {len(self.layers)} layers, {self.fitted} holds {len(dims)}')
        if self.settings['combine'] == REGRESSION and weights is None:
            raise ValueError(f'score {self.name!r}: {self.fitted} was fitted on images without void pixels, which a '
                             f'logistic regression needs as outliers: fit on others, or take combine={MINIMUM!r}')
        self.dims, self.flows, self.mean_nll = dims, flows, parameters['mean_nll']
        self.weights, self.bias = weights, bias
        self.ready = True

    def _new_flows(self, dims: Sequence[int]) -> list['_FeatureFlow']:
        keys = ('num_steps', 'hidden_channels')
        return [
            _FeatureFlow(dim, seed=self.settings['seed'] + index, **{key: self.settings[key]
                                                                     for key in keys}) for index, dim in enumerate(dims)
        ]

    # Fitting

    def _finish(self) -> None:
        outliers = self.samples[VOID].vectors if VOID in self.samples else self.samples[VALID].vectors[:0]
        if self.settings['combine'] == REGRESSION and not len(outliers):
            raise ValueError(f'score {self.name!r} cannot be fitted: the training data has no void pixels, which a '
                             f'logistic regression needs as outliers: take combine={MINIMUM!r}')
        if len(self.samples[VALID].vectors) < 10:
            raise ValueError(f'score {self.name!r} cannot be fitted on {len(self.samples[VALID].vectors)} pixels')
        device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
        inliers = self.samples[VALID].vectors.split(self.dims, dim=1)
        self.flows = self._new_flows(self.dims)
        for index, (flow, vectors) in enumerate(zip(self.flows, inliers)):
            self._train(flow.to(device), vectors.to(device), index)
        inlier_nll = self._sample_nll(inliers)
        self.mean_nll = inlier_nll.mean(0).float()
        self.weights = self.bias = None
        if len(outliers):
            self._regress(inlier_nll, self._sample_nll(outliers.split(self.dims, dim=1)))

    def _train(self, flow: '_FeatureFlow', vectors: Tensor, index: int) -> None:
        """Fit a flow to the features (M, D) of the layer ``index``."""
        settings, layer = self.settings, self.layers[index]
        num_held_out = max(len(vectors) // 10, 1)  # the sample is in random order
        held_out, vectors = vectors[:num_held_out], vectors[num_held_out:]
        generator = torch.Generator(vectors.device).manual_seed(settings['seed'] + index)

        def batch() -> Tensor:
            rows = torch.randint(len(vectors), (settings['batch_size'], ), generator=generator, device=vectors.device)
            x = flow.standardize(vectors[rows])
            return x + settings['noise'] * torch.randn(x.shape, generator=generator, device=x.device)

        def report(done: int) -> float:
            nats = flow.nll(held_out).mean().item() / vectors.shape[1]
            print_log(
                f'{layer}: {nats:.4f} nats per channel held out, {done} of {settings["num_iters"]} iterations',
                logger='current')
            return nats

        with torch.enable_grad():
            flow.measure(vectors)
            flow.nvp.initialize(batch())
            before = report(0)
            optimizer = torch.optim.Adam(flow.parameters(), settings['lr'])
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings['num_iters'])
            for done in range(1, settings['num_iters'] + 1):
                loss = -flow.nvp.log_prob(batch()).mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(flow.parameters(), 10.0)
                optimizer.step()
                schedule.step()
                if done * NUM_REPORTS // settings['num_iters'] > (done - 1) * NUM_REPORTS // settings['num_iters']:
                    after = report(done)
                    if not math.isfinite(after):
                        raise ValueError(f'score {self.name!r} cannot be fitted: the flow of {layer!r} is not finite '
                                         f'after {done} iterations: take a smaller lr than {settings["lr"]}')
        if after > before:
            print_log(
                f'{layer}: the flow does worse on held-out pixels than a Gaussian of independent channels, '
                f'{after:.4f} > {before:.4f} nats per channel: take more pixels, or a smaller lr or flow',
                logger='current',
                level=logging.WARNING)
        flow.eval().requires_grad_(False)

    def _sample_nll(self, vectors: Sequence[Tensor]) -> Tensor:
        """NLL (M, L) of the features (M, D_l) of the layers, float64, on the CPU."""
        return torch.stack([flow.nll(part).double().cpu() for flow, part in zip(self.flows, vectors)], dim=1)

    def _regress(self, inliers: Tensor, outliers: Tensor) -> None:
        """Weights of the layers and bias from NLLs (M, L)."""
        std, mean = torch.std_mean(inliers, dim=0)
        std = std.clamp(min=1e-6)
        nlls = ((torch.cat([inliers, outliers]) - mean) / std).numpy()
        truth = [0] * len(inliers) + [1] * len(outliers)
        regression = LogisticRegression(class_weight='balanced', max_iter=1000).fit(nlls, truth)
        weights = torch.from_numpy(regression.coef_[0]) / std
        self.weights, self.bias = weights.float(), (regression.intercept_[0] - weights @ mean).float()

    # Scoring

    def _score(self, values: list[Tensor]) -> Tensor:
        dims = [value.shape[1] for value in values]
        if dims != self.dims:
            raise ValueError(f'score {self.name!r} was fitted on features of {self.dims} channels, the layers '
                             f'{list(self.layers)} give {dims}')
        size = max((value.shape[-2:] for value in values), key=math.prod)
        maps = [flow.to(value.device).nll_map(value) for flow, value in zip(self.flows, values)]
        nlls = torch.stack([_resize(nll, size) for nll in maps], dim=-1)  # (N, H, W, L)
        if self.settings['combine'] is None:
            return nlls[..., 0]
        if self.settings['combine'] in (MINIMUM, MAXIMUM):
            excess = nlls - self.mean_nll.to(nlls.device)
            return excess.amin(-1) if self.settings['combine'] == MINIMUM else excess.amax(-1)
        return nlls @ self.weights.to(nlls.device) + self.bias.to(nlls.device)


class _FeatureFlow(nn.Module):
    """Flow over vectors (M, D) that are standardised first."""

    def __init__(self, dim: int, **settings: int) -> None:
        super().__init__()
        self.nvp = RealNVP(dim, **settings)
        self.register_buffer('mean', torch.zeros(dim))
        self.register_buffer('std', torch.ones(dim))

    def measure(self, vectors: Tensor) -> None:
        """Take mean and standard deviation of vectors (M, D); channels that are constant are scaled as the others."""
        std, mean = torch.std_mean(vectors.double(), dim=0, correction=0)
        typical = std.square().mean().sqrt()
        std = torch.where(std > FLAT * typical, std, typical if typical > 0 else torch.ones_like(typical))
        self.mean.copy_(mean)
        self.std.copy_(std)

    def standardize(self, vectors: Tensor) -> Tensor:
        return ((vectors - self.mean) / self.std).clamp(-CLIP, CLIP)

    @torch.no_grad()
    def nll(self, vectors: Tensor) -> Tensor:
        """Negative log-likelihood (M,) of vectors (M, D), in nats."""
        parts = [-self.nvp.log_prob(self.standardize(chunk.to(self.mean.device))) for chunk in vectors.split(CHUNK)]
        return torch.cat(parts) + self.std.log().sum()

    def nll_map(self, features: Tensor) -> Tensor:
        """NLL (N, h, w) of features (N, D, h, w)."""
        nll = torch.stack([self.nll(image.flatten(1).T) for image in features])  # (N, h * w)
        return nll.unflatten(1, features.shape[-2:])


def _resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (N, H, W), bilinearly, of maps (N, h, w)."""
    return F.interpolate(maps[:, None], size=tuple(size), mode='bilinear', align_corners=False)[:, 0]
