# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Cross-domain anomaly-aware contrastive learning: sampling and loss (MGCDA, section 3.4)."""
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from mgcda.labels import ANOMALY, NORMAL
from mgcda.structures import resize_nearest

from .reduction import check_loss_name, masked_mean, single_or_double

STRATEGIES = ('anomaly_aware', 'random')
#: Stands for the logarithm of nothing: finite, so that gradients stay finite, and far below any similarity.
_LOG_OF_NOTHING = -1e30


class PixelSamples(NamedTuple):
    """Flat pixel indices (N, K) int64 of each image's sets, and masks (N, K) bool of the places that are filled."""
    anchors: Tensor
    anchor_mask: Tensor
    positives: Tensor
    positive_mask: Tensor
    negatives: Tensor
    negative_mask: Tensor


def _draw(candidates: Tensor, keys: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """Draw up to ``num`` of the ``candidates`` (N, P) in random order: indices (N, num) and their mask (N, num).

    ``keys`` (N, P), in [0, 1), decide. The filled places come first, the others hold indices of no meaning.
    """
    keys = keys.masked_fill(~candidates, -1)
    indices = keys.topk(min(num, keys.size(1)), dim=1).indices
    mask = torch.arange(num, device=keys.device) < candidates.sum(1, keepdim=True)
    return F.pad(indices, (0, num - indices.size(1))), mask


@torch.no_grad()
def sample_anomaly_aware(anomaly_logit: Tensor,
                         target: Tensor,
                         num_anchors: int = 50,
                         positive_ratio: int = 2,
                         hard_negative_ratio: int = 2,
                         easy_negative_ratio: int = 6,
                         strategy: str = 'anomaly_aware',
                         generator: torch.Generator | None = None,
                         threshold: float = 0.0) -> PixelSamples:
    r"""Choose the pixels that contrastive learning compares (MGCDA, section 3.4).

    A pixel is hard where the network has it wrong: an anomaly with a logit of at most ``threshold``, a normal pixel
    with one above it. With :math:`N_a` = ``num_anchors``, each image yields, without replacement,

    - :math:`N_a` anchors: half hard, half easy anomalies (of an odd number the larger part easy), topped up from the
      other kind where one is short;
    - ``positive_ratio`` :math:`\cdot N_a` easy anomalies as positives, none of which is an anchor;
    - ``hard_negative_ratio`` :math:`\cdot N_a` hard and ``easy_negative_ratio`` :math:`\cdot N_a` easy normal pixels
      as negatives, the hard ones first.

    Where easy anomalies are too few for both, anchors and positives share them in the proportion of what both would
    take, the anchors' part rounded down, and hard ones fill the anchors. So there are positives wherever there are two
    easy anomalies, and an anchor wherever there is an anomaly (one alone that is easy is an anchor if none is hard).

    A set that is short of pixels is not full: its mask says so. With ``strategy='random'`` hard and easy are not told
    apart: anchors and positives are any anomalies, negatives any normal pixels, in the same numbers, and scarce
    anomalies are shared 1 : ``positive_ratio``.

    ``anomaly_logit``: float (N, 1, h, w) or (N, h, w), positive = predicted an anomaly. ``target``: int (N, h, w), 0
    normal, 1 anomaly, anything else is never chosen. ``generator``: of the tensors' device; by default the global one.
    All shapes follow from the arguments alone, and nothing waits for the device.

    Raises:
        ValueError: If the shapes differ or an option is outside its range.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f'strategy must be one of {STRATEGIES}, got {strategy!r}')
    if num_anchors < 1 or min(positive_ratio, hard_negative_ratio, easy_negative_ratio) < 0:
        raise ValueError('num_anchors must be at least 1 and the ratios at least 0, got '
                         f'{num_anchors}, {positive_ratio}, {hard_negative_ratio}, {easy_negative_ratio}')
    if anomaly_logit.dim() == 4 and anomaly_logit.size(1) == 1:
        anomaly_logit = anomaly_logit.squeeze(1)
    if target.dim() != 3 or anomaly_logit.shape != target.shape:
        raise ValueError('anomaly_logit (N, 1, h, w) and target (N, h, w) must have the same N, h and w, got '
                         f'{tuple(anomaly_logit.shape)} and {tuple(target.shape)}')
    num_positives = positive_ratio * num_anchors
    num_hard, num_easy = hard_negative_ratio * num_anchors, easy_negative_ratio * num_anchors
    target = target.flatten(1)  # (N, h, w) -> (N, P)
    predicted = anomaly_logit.flatten(1) > threshold
    anomaly, normal = target == ANOMALY, target == NORMAL
    keys = torch.rand(target.shape, device=target.device, generator=generator)

    # With random samples all anomalies are easy, so to speak.
    is_easy = predicted if strategy == 'anomaly_aware' else torch.ones_like(predicted)
    hard, hard_mask = _draw(anomaly & ~is_easy, keys, num_anchors)
    easy, easy_mask = _draw(anomaly & is_easy, keys, num_anchors + num_positives)
    hard_found, easy_found = hard_mask.sum(1, keepdim=True), easy_mask.sum(1, keepdim=True)
    wanted = num_anchors - hard_found.clamp(max=num_anchors // 2)
    easy_taken = torch.minimum(easy_found, wanted + num_positives) * wanted // (wanted + num_positives)
    easy_taken = torch.maximum(easy_taken, (hard_found == 0) & (easy_found > 0))
    hard_taken = torch.minimum(hard_found, num_anchors - easy_taken)
    slots = torch.arange(num_anchors, device=keys.device).expand(len(keys), -1)
    anchors = torch.where(slots < hard_taken, hard, easy.gather(1, (slots - hard_taken).clamp(min=0)))
    anchor_mask = slots < hard_taken + easy_taken
    # The easy ones that follow the anchors' in the random order are the positives.
    slots = torch.arange(num_positives, device=keys.device) + easy_taken
    positives, positive_mask = easy.gather(1, slots), easy_mask.gather(1, slots)

    if strategy == 'random':
        negatives, negative_mask = _draw(normal, keys, num_hard + num_easy)
    else:
        parts = _draw(normal & predicted, keys, num_hard), _draw(normal & ~predicted, keys, num_easy)
        negatives, negative_mask = (torch.cat(pair, 1) for pair in zip(*parts))
    return PixelSamples(anchors, anchor_mask, positives, positive_mask, negatives, negative_mask)


def cross_domain_contrast(anchors: Tensor,
                          positives: Tensor,
                          negatives: Tensor,
                          temperature: float,
                          log: bool = True,
                          anchor_mask: Tensor | None = None,
                          positive_mask: Tensor | None = None,
                          negative_mask: Tensor | None = None,
                          normalise: bool = False,
                          positive_weight: Tensor | None = None) -> Tensor:
    r"""One domain's term of the contrastive loss (MGCDA, eq. 3).

    .. math:: -\frac{1}{|S^a|} \sum_a \frac{1}{|S^p|} \sum_p f\left(
        \frac{e^{a \cdot p / \alpha}}{e^{a \cdot p / \alpha} + \sum_n e^{a \cdot n / \alpha}}\right)

    with f = log by default and f = identity, as printed in the paper, for ``log=False``. ``anchors`` (A, D), of one
    domain; ``positives`` (P, D), of all; ``negatives`` (M, D), of the anchors' domain: float, L2-normalised.
    ``temperature``: :math:`\alpha`, above 0. The masks, bool (A,), (P,) and (M,), are true where a set is filled.
    ``normalise`` divides the logarithmic form by :math:`\ln(1 + |S^n|)`, its value where all similarities are equal;
    the form as printed, which is within [-1, 0], stays as it is. ``positive_weight``: float (P,), at least 0, weights
    the mean over the positives. Returns a scalar, float32 whatever the autocast (float64 of float64); 0 with a graph
    without anchors or positives.

    Raises:
        ValueError: If ``temperature`` is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f'temperature must be above 0, got {temperature}')
    with torch.autocast(anchors.device.type, enabled=False):
        anchors, positives, negatives = (single_or_double(feats) for feats in (anchors, positives, negatives))
        to_positives = anchors @ positives.t() / temperature  # (A, P)
        to_negatives = anchors @ negatives.t() / temperature  # (A, M)
        if negative_mask is not None:
            to_negatives = to_negatives.masked_fill(~negative_mask, _LOG_OF_NOTHING)
        # One column of nothing keeps the sum over an empty set finite.
        log_negatives = F.pad(to_negatives, (0, 1), value=_LOG_OF_NOTHING).logsumexp(1, keepdim=True)  # (A, 1)
        margin = log_negatives - to_positives
        terms = F.softplus(margin) if log else -torch.sigmoid(-margin)
        if log and normalise:
            num_negatives = negatives.new_full((), len(negatives)) if negative_mask is None else negative_mask.sum()
            terms = terms / num_negatives.clamp(min=1).to(terms.dtype).log1p()
        pairs = terms.new_ones(terms.shape, dtype=torch.bool)
        if anchor_mask is not None:
            pairs = pairs & anchor_mask[:, None]
        if positive_mask is not None:
            pairs = pairs & positive_mask[None]
        if positive_weight is None:
            return masked_mean(terms, pairs)
        weights = pairs * positive_weight.to(terms.dtype)
        return (terms.masked_fill(~pairs, 0) * weights).sum() / weights.sum().clamp(min=torch.finfo(terms.dtype).tiny)


def _pool(values: Tensor, members: Sequence[int]) -> Tensor:
    """Join the sets of some images: (N, K, ...) -> (len(members) * K, ...)."""
    return torch.cat([values[index] for index in members])


@MODELS.register_module()
class CACLLoss(nn.Module):
    r"""Cross-domain anomaly-aware contrastive loss: the sum of eq. 3 of MGCDA over the domains.

    The pixels that :func:`sample_anomaly_aware` chooses are L2-normalised and compared by
    :func:`cross_domain_contrast`: anchors and negatives pooled within a domain, positives over all domains. Pools are
    those of the process's own batch. A domain without anchors adds 0.

    The paper's variants: PCL ``strategy='random', cross_domain=False``; CPCL ``strategy='random'``; CACL the default.

    Args:
        temperature (float): :math:`\alpha`, above 0. Defaults to 0.1.
        num_anchors (int): :math:`N_a`, anchors of an image. Defaults to 50.
        positive_ratio (int): :math:`N_p / N_a`. Defaults to 2.
        hard_negative_ratio (int): :math:`N_h^n / N_a`. Defaults to 2.
        easy_negative_ratio (int): :math:`N_e^n / N_a`. Defaults to 6.
        strategy (str): 'anomaly_aware', or 'random' to leave the network's errors out of the choice.
        cross_domain (bool): Whether positives are pooled over all domains; otherwise within the anchor's.
        log (bool): Whether to take the logarithm; False is eq. 3 as printed. Defaults to True.
        normalise (bool): Whether to divide the logarithmic form by :math:`\ln(1 + |S^n|)`: a domain's term is about 1
            at the start, however many negatives there are. Without effect on the form as printed. Defaults to True.
        balance_domains (bool): Whether the positives of each domain weigh the same in the mean over all, however many
            of each there are. Defaults to False.
        threshold (float): Anomaly logit above which a pixel counts as predicted an anomaly, for the choice of samples
            alone. Hosts have a threshold of their own, that of ``model.taps``. Defaults to 0.
        loss_weight (float): Factor of the loss. Defaults to 1.
        loss_name (str): Key of the loss in a dict of losses, beginning with 'loss_'.

    Raises:
        ValueError: If an option is outside its range.
    """

    def __init__(self,
                 temperature: float = 0.1,
                 num_anchors: int = 50,
                 positive_ratio: int = 2,
                 hard_negative_ratio: int = 2,
                 easy_negative_ratio: int = 6,
                 strategy: str = 'anomaly_aware',
                 cross_domain: bool = True,
                 log: bool = True,
                 normalise: bool = True,
                 balance_domains: bool = False,
                 threshold: float = 0.0,
                 loss_weight: float = 1.0,
                 loss_name: str = 'loss_cacl') -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f'temperature must be above 0, got {temperature}')
        if strategy not in STRATEGIES:
            raise ValueError(f'strategy must be one of {STRATEGIES}, got {strategy!r}')
        counts = dict(
            positive_ratio=positive_ratio,
            hard_negative_ratio=hard_negative_ratio,
            easy_negative_ratio=easy_negative_ratio)
        for name, value, least in (('num_anchors', num_anchors, 1), *((k, v, 0) for k, v in counts.items())):
            if value < least or int(value) != value:
                raise ValueError(f'{name} must be an integer of at least {least}, got {value}')
        if not math.isfinite(threshold):
            raise ValueError(f'threshold must be a finite number, got {threshold}')
        self.sampling = dict(counts, num_anchors=num_anchors, strategy=strategy, threshold=threshold)
        self.temperature = temperature
        self.cross_domain = cross_domain
        self.log = log
        self.normalise = normalise
        self.balance_domains = balance_domains
        self.loss_weight = loss_weight
        self.loss_name = check_loss_name(loss_name)

    def forward(self,
                embedding: Tensor,
                anomaly_logit: Tensor,
                target: Tensor,
                domains: Sequence[int],
                projector: nn.Module | None = None) -> Tensor:
        """Loss of a batch, a scalar.

        ``embedding``: float (N, D, h, w), not normalised. ``anomaly_logit``: float (N, 1, H, W), used without
        gradient. ``target``: int (N, H, W), 0, 1 or 255. Both are brought to (h, w), the target by the pixel whose
        centre is nearest. ``domains``: list of N ints. ``projector``: maps (N, D, h, w) pixel by pixel to the
        space of comparison, such as ``Projector``; only the sampled pixels pass it. None compares the embedding itself.
        """
        if len(domains) != len(embedding):
            raise ValueError(f'domains must name one domain for each of the {len(embedding)} images, '
                             f'got {len(domains)}')
        size = embedding.shape[2:]
        anomaly_logit = anomaly_logit.detach().float()
        if anomaly_logit.shape[2:] != size:
            anomaly_logit = F.interpolate(anomaly_logit, size, mode='bilinear', align_corners=False)
        samples = sample_anomaly_aware(anomaly_logit, resize_nearest(target, size), **self.sampling)
        sets = (samples.anchors, samples.positives, samples.negatives)
        chosen = _gather(embedding, torch.cat(sets, dim=1))
        if projector is not None:
            chosen = projector(chosen)
        with torch.autocast(embedding.device.type, enabled=False):
            anchors, positives, negatives = _unit_vectors(chosen).split([indices.size(1) for indices in sets], dim=1)
        loss = anchors.sum() * 0
        groups = self._members(domains)
        weight = self._weights(samples.positive_mask, groups) if self.balance_domains else None
        for members in groups:
            partners = range(len(domains)) if self.cross_domain else members
            loss = loss + cross_domain_contrast(
                _pool(anchors, members),
                _pool(positives, partners),
                _pool(negatives, members),
                self.temperature,
                self.log,
                _pool(samples.anchor_mask, members),
                _pool(samples.positive_mask, partners),
                _pool(samples.negative_mask, members),
                normalise=self.normalise,
                positive_weight=None if weight is None else _pool(weight, partners))
        return self.loss_weight * loss

    @staticmethod
    def _weights(positive_mask: Tensor, groups: list[list[int]]) -> Tensor:
        """Weight (N, K) of each positive: one over the number of its domain's."""
        found = positive_mask.sum(1).unbind()
        domain_of = {index: members for members in groups for index in members}
        totals = torch.stack([sum(found[other] for other in domain_of[index]) for index in range(len(found))])
        return (1 / totals.clamp(min=1).float())[:, None].expand(positive_mask.shape)

    @staticmethod
    def _members(domains: Sequence[int]) -> list[list[int]]:
        """Positions of each domain's images in the batch, one list a domain that it holds."""
        domains = [int(domain) for domain in domains]
        return [[i for i, other in enumerate(domains) if other == domain] for domain in sorted(set(domains))]


def _gather(feats: Tensor, indices: Tensor) -> Tensor:
    """Features (N, D, K, 1) of ``feats`` (N, D, h, w) at the flat pixel ``indices`` (N, K)."""
    return feats.flatten(2).gather(2, indices[:, None].expand(-1, feats.size(1), -1)).unsqueeze(3)


def _unit_vectors(feats: Tensor) -> Tensor:
    """Unit vectors (N, K, D), float32 or better, of ``feats`` (N, D, K, 1)."""
    return F.normalize(single_or_double(feats).squeeze(3).transpose(1, 2), dim=2, eps=1e-6)
