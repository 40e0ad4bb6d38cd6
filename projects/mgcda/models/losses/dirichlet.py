# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Losses of prior networks, whose logits are those of a Dirichlet distribution over class probabilities."""
import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from mgcda.labels import OUTLIER
from mgcda.scores.dirichlet import concentrations, dirichlet_kl_divergence

from .reduction import check_loss_name, known_and_outliers, masked_mean, single_or_double


def target_concentrations(label: Tensor, num_classes: int, precision: float, smoothing: float) -> Tensor:
    r"""Concentrations (N, C, H, W), float32, of the Dirichlet distributions that a prior network is to predict.

    Of a class y: :math:`\beta_y = (1 - (C - 1) \epsilon) \beta_0`, the others :math:`\epsilon \beta_0`. Of outliers
    all are 1: no class probabilities are likelier than others.

    ``label``: int64 (N, H, W), classes 0..C-1 or ``OUTLIER``. ``precision``: :math:`\beta_0`. ``smoothing``:
    :math:`\epsilon`, in (0, 1/C).

    Raises:
        ValueError: If ``smoothing`` is outside its range.
    """
    if not 0 < smoothing < 1 / num_classes:
        raise ValueError(f'smoothing must be in (0, 1 / {num_classes} classes), got {smoothing}')
    outlier = (label == OUTLIER)[:, None]
    label = label[:, None].masked_fill(outlier, 0)
    targets = torch.full((label.size(0), num_classes, *label.shape[2:]), smoothing * precision, device=label.device)
    targets.scatter_(1, label, (1 - (num_classes - 1) * smoothing) * precision)
    return targets.masked_fill_(outlier, 1)


@MODELS.register_module()
class DirichletPriorLoss(nn.Module):
    r"""Loss of a prior network: concentrations :math:`\alpha_c = \exp(z_c)` against targets :math:`\beta`.

    .. math:: L = \frac{1}{|K|} \sum_{p \in K} KL(Dir(\beta_p) || Dir(\alpha_p))
        + \frac{w}{|O|} \sum_{p \in O} KL(Dir(\beta_p) || Dir(\alpha_p))

    over the pixels K of known classes and O of outliers, the label ``mgcda.labels.OUTLIER``. The targets are those of
    :func:`target_concentrations`: peaked at the class, flat for outliers. From "Predictive Uncertainty Estimation via
    Prior Networks" (Malinin and Gales, NeurIPS 2018). ``reverse=True`` swaps the two distributions, as in their
    "Reverse KL-Divergence Training of Prior Networks" (NeurIPS 2019), whose target of 101 at the class and 1 elsewhere
    is ``precision=100 + C, smoothing=1 / (100 + C)``.

    Logits are clamped to +-30 and have no gradient beyond. Of logits far from their targets the gradient is
    exponentially large: train with clipped gradients, as the authors do.

    Args:
        precision (float): :math:`\beta_0`, sum of the concentrations of a known class, above 0. Defaults to 1000.
        smoothing (float): :math:`\epsilon`, what each other class has of it, in (0, 1/C). Defaults to 0.01.
        outlier_weight (float): w, weight of the outliers, at least 0. Defaults to 1.
        reverse (bool): Whether to take KL(Dir(alpha) || Dir(beta)). Defaults to False.
        loss_weight (float): Factor of the loss; the authors' code takes 1 over the largest target. Defaults to 1.
        loss_name (str): Name in the logs; starts with 'loss_'. Defaults to 'loss_dirichlet'.

    Raises:
        ValueError: If an option is outside its range.
    """

    def __init__(self,
                 precision: float = 1000.0,
                 smoothing: float = 0.01,
                 outlier_weight: float = 1.0,
                 reverse: bool = False,
                 loss_weight: float = 1.0,
                 loss_name: str = 'loss_dirichlet') -> None:
        super().__init__()
        if not precision > 0:
            raise ValueError(f'precision must be above 0, got {precision}')
        if not 0 < smoothing < 0.5:
            raise ValueError(f'smoothing must be in (0, 1 / number of classes), got {smoothing}')
        if not outlier_weight >= 0:
            raise ValueError(f'outlier_weight must be at least 0, got {outlier_weight}')
        self.precision = precision
        self.smoothing = smoothing
        self.outlier_weight = outlier_weight
        self.reverse = reverse
        self.loss_weight = loss_weight
        self.loss_name = check_loss_name(loss_name)

    def forward(self, seg_logits: Tensor, seg_label: Tensor, ignore_index: int = 255, **kwargs) -> Tensor:
        """``seg_logits``: float (N, C, H, W); ``seg_label``: int64 (N, H, W). Returns a scalar, float32.

        Raises:
            ValueError: If ``smoothing`` is too large for C classes.
        """
        alphas = concentrations(single_or_double(seg_logits))
        label = seg_label.masked_fill(seg_label == ignore_index, 0)
        betas = target_concentrations(label, seg_logits.size(1), self.precision, self.smoothing).to(alphas)
        pair = (alphas, betas) if self.reverse else (betas, alphas)
        divergence = dirichlet_kl_divergence(*pair)
        known, outlier = known_and_outliers(seg_label, ignore_index)
        loss = masked_mean(divergence, known) + self.outlier_weight * masked_mean(divergence, outlier)
        return self.loss_weight * loss
