# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.registry import FUNCTIONS
from torch import Tensor

from .blur import gaussian_blur
from .fitting.fitted_score import valid
from .fitting.moment_score import MomentScore


@FUNCTIONS.register_module()
class SML(MomentScore):
    r"""Standardized max logit (Jung et al., ICCV 2021).

    With the largest logit :math:`z` of a pixel, which is of class c, and the mean and standard deviation of the largest
    logits of all pixels of the training data that are predicted as c,

    .. math:: s = -(z - \mu_c) / \sigma_c.

    Then scores next to boundaries of the prediction are replaced from outside (:func:`suppress_boundaries`), and all
    are smoothed by a dilated Gaussian, with the paper's sizes by default. A class that the training data lacks, or
    where all logits are equal, is given mean and deviation of all classes together.

    Args:
        boundary_widths (Sequence[int]): Widths in pixels of the boundaries, one an iteration, even; () leaves them
            alone. Defaults to (8, 6, 4, 2).
        smoothing (bool): Smooth the scores. Defaults to True.
        kernel_size (int): Size of the Gaussian, odd. Defaults to 7.
        dilation (int): Distance of its taps in pixels. Defaults to 6.
        sigma (float): Its standard deviation in taps. Defaults to 1.
        ignore_void (bool): Fit on pixels that have a class label only. The public code takes all. Defaults to False.
        fitted (str, optional): See :class:`FittedScore`. Defaults to None.

    Raises:
        ValueError: If a size is not as said.
    """
    needs = ('seg_logits', )
    fit_settings = ('ignore_void', )

    def __init__(self,
                 boundary_widths: Sequence[int] = (8, 6, 4, 2),
                 smoothing: bool = True,
                 kernel_size: int = 7,
                 dilation: int = 6,
                 sigma: float = 1.0,
                 ignore_void: bool = False,
                 fitted: str | None = None) -> None:
        boundary_widths = tuple(boundary_widths)
        if any(width < 2 or width % 2 for width in boundary_widths):
            raise ValueError(f'boundary_widths must be even and positive, got {boundary_widths}')
        if kernel_size < 1 or kernel_size % 2 == 0 or dilation < 1 or not sigma > 0:
            raise ValueError('kernel_size must be odd, dilation and sigma positive, got '
                             f'{kernel_size}, {dilation} and {sigma}')
        super().__init__(
            fitted,
            boundary_widths=boundary_widths,
            smoothing=smoothing,
            kernel_size=kernel_size,
            dilation=dilation,
            sigma=sigma,
            ignore_void=ignore_void)

    def _add(self, values: list[Tensor], labels: Tensor, key: str) -> None:
        seg_logits, = values
        largest, classes = seg_logits.max(1)
        if self.settings['ignore_void']:
            largest, classes = largest[valid(labels)], classes[valid(labels)]
        self._moments(1).update(largest.reshape(-1, 1), classes.flatten(), seg_logits.shape[1])

    def _finish(self) -> None:
        counts, means, scatter = self.moments.counts, self.moments.means[:, 0], self.moments.scatter[:, 0]
        mean = (counts * means).sum() / counts.sum()
        variance = (scatter + counts * (means - mean).square()).sum() / counts.sum()
        if not variance > 0:
            raise ValueError(f'score {self.name!r} cannot be fitted: all largest logits are equal')
        known = (counts > 0) & (scatter > 0)
        self.mean = torch.where(known, means, mean).float()
        self.std = torch.where(known, scatter / counts.clamp(min=1), variance).sqrt().float()

    def _score(self, values: list[Tensor]) -> Tensor:
        seg_logits, = values
        if seg_logits.shape[1] != len(self.mean):
            raise ValueError(f'score {self.name!r} was fitted on {len(self.mean)} classes, the logits have '
                             f'{seg_logits.shape[1]}')
        largest, classes = seg_logits.max(1)
        scores = (self.mean.to(seg_logits.device)[classes] - largest) / self.std.to(seg_logits.device)[classes]
        if self.settings['boundary_widths']:
            scores = suppress_boundaries(scores, classes, self.settings['boundary_widths'])
        if self.settings['smoothing']:
            settings = {key: self.settings[key] for key in ('kernel_size', 'dilation', 'sigma')}
            scores = gaussian_blur(scores, padding='replicate', **settings)
        return scores


def suppress_boundaries(scores: Tensor, classes: Tensor, widths: Sequence[int]) -> Tensor:
    """Replace scores (N, H, W) along boundaries of the classes (N, H, W) by those beside them.

    For one width after the other, each pixel within half of it of a boundary (in steps to the four neighbours) takes
    the mean of those of its 3x3 neighbours that are not, or keeps its score where there are none. Edges are replicated.
    """
    scores, classes = scores[:, None], classes[:, None].float()
    # As in the public code, a class with a larger index at one side, or with a smaller one at a corner, is a boundary.
    boundary = (_cross_max(classes) != -F.max_pool2d(-classes, 3, stride=1, padding=1)).float()
    masks = [boundary]
    while len(masks) < max(widths) // 2:
        masks.append(_cross_max(masks[-1]))
    for width in widths:
        inside = masks[width // 2 - 1] > 0
        pair = torch.cat([scores.masked_fill(inside, 0), (~inside).float()], dim=1)
        total, count = F.avg_pool2d(F.pad(pair, (1, 1, 1, 1), mode='replicate'), 3, stride=1).chunk(2, dim=1)
        scores = torch.where(inside & (count > 0.05), total / count, scores)  # one of nine neighbours is 0.11
    return scores[:, 0]


def _cross_max(x: Tensor) -> Tensor:
    """Largest value of each pixel of (N, 1, H, W) and its four neighbours."""
    return torch.maximum(
        F.max_pool2d(x, (3, 1), stride=1, padding=(1, 0)), F.max_pool2d(x, (1, 3), stride=1, padding=(0, 1)))
