# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
r"""Pixel-wise energy-biased abstention learning (Tian et al., ECCV 2022): the losses of PEBAL.

They read logits of C known classes and, last, of abstention, (N, C + 1, H, W), and labels (N, H, W) of the known
classes, ``mgcda.labels.OUTLIER`` or ``ignore_index``. Energies are free energies of the known logits,
:math:`E = -\ln \sum_{c \le C} \exp z_c`, (N, H, W). The functions keep the type of what they get.
"""
import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from mgcda.scores.blur import gaussian_blur

from .reduction import check_loss_name, known_and_outliers, masked_mean, single_or_double

OUTLIER_TARGETS = ('known', 'abstention')
SMOOTHNESS = ('squared', 'absolute')
SPARSITY = ('outlier_norm', 'absolute')


def known_energy(seg_logits: Tensor) -> Tensor:
    """Free energy (N, H, W) of all logits (N, C + 1, H, W) but the last, unbounded."""
    return -seg_logits[:, :-1].logsumexp(1)


def abstention_penalty(energy: Tensor, sigma: float = 1.0, minimum: float = 1e-6) -> Tensor:
    r"""Penalty of abstaining, :math:`a = (-E)^2`, (N, H, W), smoothed by a Gaussian of ``sigma`` pixels.

    ``minimum``, above 0, bounds it from below. Differentiable in the energy.
    """
    return gaussian_blur(energy.square(), sigma).clamp(min=minimum)


def pixel_abstention_loss(seg_logits: Tensor,
                          seg_label: Tensor,
                          penalty: Tensor,
                          outlier_target: str = 'known',
                          outlier_weight: float = 0.1,
                          separate_images: bool = True,
                          ignore_index: int = 255) -> Tensor:
    r"""Cross-entropy of a classifier that may abstain at a price (PEBAL's :math:`\ell_{pal}`), a scalar.

    .. math:: -\ln\left(f_y + \frac{f_{C+1}}{a}\right)

    with the softmax f of all C + 1 logits and the ``penalty`` a (N, H, W), above 0; negative where a < 1 and
    :math:`f_{C+1}` is large. Averaged over the known pixels, plus ``outlier_weight`` times the mean over the outliers.
    An outlier has no y: with ``outlier_target='known'`` its loss is the mean over the known classes in the place of y,
    with 'abstention' y is C + 1. ``separate_images`` adds the mean over the known pixels of images without outliers and
    that over those of images with outliers; otherwise there is one mean over all.
    """
    known, outlier = known_and_outliers(seg_label, ignore_index)
    log_probs = seg_logits.log_softmax(1)
    abstention = log_probs[:, -1:] - penalty.log()[:, None]
    terms = -torch.logaddexp(log_probs[:, :-1], abstention)  # (N, C, H, W)
    known_terms = terms.gather(1, seg_label.masked_fill(~known, 0)[:, None]).squeeze(1)
    if outlier_target == 'known':
        outlier_terms = terms.mean(1)
    else:
        outlier_terms = -torch.logaddexp(log_probs[:, -1:], abstention).squeeze(1)
    loss = outlier_weight * masked_mean(outlier_terms, outlier)
    if not separate_images:
        return loss + masked_mean(known_terms, known)
    has_outliers = outlier.flatten(1).any(1)[:, None, None]
    return loss + masked_mean(known_terms, known & has_outliers) + masked_mean(known_terms, known & ~has_outliers)


def energy_margin_loss(energy: Tensor,
                       seg_label: Tensor,
                       m_in: float = -12.0,
                       m_out: float = -6.0,
                       ignore_index: int = 255) -> Tensor:
    r"""Push energies of known pixels below ``m_in`` and of outliers above ``m_out`` (PEBAL's :math:`\ell_{ebm}`).

    .. math:: \max(0, E - m_{in})^2 \quad \text{and} \quad \max(0, m_{out} - E)^2

    The mean over the known pixels and that over the outliers are averaged; where the batch has only one of the two
    kinds, it is the mean over that. Returns a scalar.
    """
    known, outlier = known_and_outliers(seg_label, ignore_index)
    loss = masked_mean((energy - m_in).relu().square(), known) + masked_mean((m_out - energy).relu().square(), outlier)
    return loss / (known.any().int() + outlier.any().int()).clamp(min=1)


def energy_smoothness(energy: Tensor, seg_label: Tensor, kind: str = 'squared', ignore_index: int = 255) -> Tensor:
    """Differences of the energies of vertical and horizontal neighbours, neither of them ignored; a scalar.

    'squared': half the sum of the squares over the batch. 'absolute', total variation: the sum of the absolute
    differences, divided by the number of pixels that are not ignored.
    """
    valid = seg_label != ignore_index
    total = energy.new_zeros(())
    for dim in (1, 2):
        size = energy.size(dim) - 1
        pairs = valid.narrow(dim, 0, size) & valid.narrow(dim, 1, size)
        steps = energy.diff(dim=dim).masked_fill(~pairs, 0)
        total = total + (steps.square() / 2 if kind == 'squared' else steps.abs()).sum()
    return total if kind == 'squared' else total / valid.sum().clamp(min=1)


def energy_sparsity(energy: Tensor, seg_label: Tensor, kind: str = 'outlier_norm', ignore_index: int = 255) -> Tensor:
    """'outlier_norm': Euclidean norm of the energies of all outliers. 'absolute': mean of |E| over valid pixels."""
    if kind == 'absolute':
        return masked_mean(energy.abs(), seg_label != ignore_index)
    _, outlier = known_and_outliers(seg_label, ignore_index)
    return torch.linalg.vector_norm(energy.masked_fill(~outlier, 0))


@MODELS.register_module()
class PEBALLoss(nn.Module):
    r"""Loss of PEBAL (Tian et al., ECCV 2022) over C + 1 logits, the last of which is abstention.

    .. math:: L = \ell_{pal} + \lambda \ell_{ebm} + \beta_1 \ell_{smooth} + \beta_2 \ell_{sparse}

    of :func:`pixel_abstention_loss` with :func:`abstention_penalty`, :func:`energy_margin_loss`,
    :func:`energy_smoothness` and :func:`energy_sparsity`. Where the authors' training code differs from the paper's
    formulas, the defaults are the code's, and the formulas are options:

    - The code smooths the penalty by a Gaussian; the formula is ``penalty_sigma=0``. The code does not detach it:
      gradients pass through the penalty to the energy unless ``detach_penalty``.
    - The code averages an outlier's abstention loss over the known classes and weighs it by 0.1; ``outlier_target=
      'abstention', outlier_weight=1`` is the formula with the label C + 1. The code averages over the known pixels of
      images with and without outliers apart; ``separate_images=False`` treats all pixels alike.
    - The code has squared differences, summed, and the norm of the outliers' energies, the formulas absolute values of
      all pixels: ``smoothness='absolute', sparsity='absolute'``, as means here as all other terms are. The code's 3e-6
      and 5e-4 stand within its factor of 0.1 on the energies' terms: the weights here hold the product.

    Unlike in the code, ignored pixels are regularised nowhere, the penalty has a lower bound, and probabilities are not
    cut off at 1e-7, as logarithms are taken of logits. A batch of ignored pixels gives 0 with a graph.

    Args:
        penalty_sigma (float): Standard deviation of the penalty's Gaussian in pixels; 0 for none. Defaults to 1.
        detach_penalty (bool): Whether the penalty is a constant to the gradient. Defaults to False.
        min_penalty (float): Lower bound of the penalty; from 1 on no known pixel's loss is negative. Defaults to 1e-6.
        outlier_target (str): 'known' or 'abstention', see :func:`pixel_abstention_loss`.
        outlier_weight (float): Factor of the abstention loss of outliers. Defaults to 0.1.
        separate_images (bool): Whether images with outliers are averaged apart. Defaults to True.
        energy_weight (float): :math:`\lambda`. Defaults to 0.1.
        m_in (float): Energy that known pixels should stay below. Defaults to -12.
        m_out (float): Energy that outliers should stay above. Defaults to -6.
        smoothness (str): 'squared' or 'absolute', see :func:`energy_smoothness`.
        smoothness_weight (float): :math:`\beta_1`. Defaults to 3e-7.
        sparsity (str): 'outlier_norm' or 'absolute', see :func:`energy_sparsity`.
        sparsity_weight (float): :math:`\beta_2`. Defaults to 5e-5.
        loss_weight (float): Factor of the loss. Defaults to 1.
        loss_name (str): Name in the logs; starts with 'loss_'. Defaults to 'loss_pebal'.

    Raises:
        ValueError: If an option is outside its range.
    """

    def __init__(self,
                 penalty_sigma: float = 1.0,
                 detach_penalty: bool = False,
                 min_penalty: float = 1e-6,
                 outlier_target: str = 'known',
                 outlier_weight: float = 0.1,
                 separate_images: bool = True,
                 energy_weight: float = 0.1,
                 m_in: float = -12.0,
                 m_out: float = -6.0,
                 smoothness: str = 'squared',
                 smoothness_weight: float = 3e-7,
                 sparsity: str = 'outlier_norm',
                 sparsity_weight: float = 5e-5,
                 loss_weight: float = 1.0,
                 loss_name: str = 'loss_pebal') -> None:
        super().__init__()
        for name, value, choices in (('outlier_target', outlier_target, OUTLIER_TARGETS),
                                     ('smoothness', smoothness, SMOOTHNESS), ('sparsity', sparsity, SPARSITY)):
            if value not in choices:
                raise ValueError(f'{name} must be one of {choices}, got {value!r}')
        weights = dict(
            penalty_sigma=penalty_sigma,
            outlier_weight=outlier_weight,
            energy_weight=energy_weight,
            smoothness_weight=smoothness_weight,
            sparsity_weight=sparsity_weight)
        for name, value in weights.items():
            if not value >= 0:
                raise ValueError(f'{name} must be at least 0, got {value}')
        if not min_penalty > 0:
            raise ValueError(f'min_penalty must be above 0, got {min_penalty}')
        if not m_in <= m_out:
            raise ValueError(f'm_in must be at most m_out, got {m_in} and {m_out}')
        self.penalty_sigma = penalty_sigma
        self.detach_penalty = detach_penalty
        self.min_penalty = min_penalty
        self.abstention = dict(
            outlier_target=outlier_target, outlier_weight=outlier_weight, separate_images=separate_images)
        self.energy_weight = energy_weight
        self.margins = dict(m_in=m_in, m_out=m_out)
        self.smoothness = smoothness
        self.smoothness_weight = smoothness_weight
        self.sparsity = sparsity
        self.sparsity_weight = sparsity_weight
        self.loss_weight = loss_weight
        self.loss_name = check_loss_name(loss_name)

    def forward(self, seg_logits: Tensor, seg_label: Tensor, ignore_index: int = 255, **kwargs) -> Tensor:
        """Loss of ``seg_logits``, float (N, C + 1, H, W), and ``seg_label``, int64 (N, H, W); a scalar.

        Raises:
            ValueError: If there are fewer than two known classes, or the shapes do not agree.
        """
        if seg_logits.dim() != 4 or seg_logits.size(1) < 3:
            raise ValueError('seg_logits must be (N, C + 1, H, W) with at least two known classes, '
                             f'got {tuple(seg_logits.shape)}')
        if seg_label.shape != seg_logits[:, 0].shape:
            raise ValueError(f'seg_label must be (N, H, W) as seg_logits {tuple(seg_logits.shape)} are, '
                             f'got {tuple(seg_label.shape)}')
        seg_logits = single_or_double(seg_logits)
        energy = known_energy(seg_logits)
        penalty = abstention_penalty(energy.detach() if self.detach_penalty else energy, self.penalty_sigma,
                                     self.min_penalty)
        common = dict(ignore_index=ignore_index)
        loss = pixel_abstention_loss(seg_logits, seg_label, penalty, **self.abstention, **common)
        loss = loss + self.energy_weight * energy_margin_loss(energy, seg_label, **self.margins, **common)
        loss = loss + self.smoothness_weight * energy_smoothness(energy, seg_label, self.smoothness, **common)
        loss = loss + self.sparsity_weight * energy_sparsity(energy, seg_label, self.sparsity, **common)
        return self.loss_weight * loss
