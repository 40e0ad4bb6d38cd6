# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
import torch

from mgcda.models.losses import CACLLoss, cross_domain_contrast, sample_anomaly_aware


def unit(rng, *shape):
    values = rng.normal(size=shape)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


FORMS = [dict(log=True, normalise=True), dict(log=True, normalise=False), dict(log=False)]


def reference(anchors, positives, negatives, temperature, log=True, normalise=False, weights=None):
    """One domain's term of eq. 3, pair by pair in float64."""
    if not len(anchors) or not len(positives):
        return 0.
    weights = np.ones(len(positives)) if weights is None else weights
    total = 0.
    for a in anchors:
        rest = sum(np.exp(a @ n / temperature) for n in negatives)
        for p, weight in zip(positives, weights):
            own = np.exp(a @ p / temperature)
            fraction = own / (own + rest)
            total += weight * (np.log(fraction) if log else fraction)
    if log and normalise and len(negatives):
        total /= np.log(1 + len(negatives))
    return -total / (len(anchors) * weights.sum())


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('sizes', [(5, 7, 9), (1, 1, 1), (3, 4, 0), (0, 4, 5), (3, 0, 5), (0, 0, 0)])
@pytest.mark.parametrize('temperature', [.1, 1.])
def test_contrast_against_reference(form, sizes, temperature):
    rng = np.random.default_rng(0)
    sets = [unit(rng, size, 6) for size in sizes]
    expected = reference(*sets, temperature, **form)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        tensors = [torch.tensor(values, dtype=dtype, requires_grad=True) for values in sets]
        loss = cross_domain_contrast(*tensors, temperature, **form)
        assert loss.shape == () and loss.dtype == dtype
        assert loss.item() == pytest.approx(expected, rel=tolerance, abs=tolerance)
        loss.backward()
        assert all(t.grad is not None and t.grad.isfinite().all() for t in tensors)


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('kept', [(2, 3, 4), (2, 3, 0), (0, 3, 4), (2, 0, 4), (0, 0, 0)])
def test_masks_equal_leaving_out(form, weighted, kept):
    rng = np.random.default_rng(1)
    sets = [unit(rng, size, 4) for size in (5, 6, 7)]
    masks = []
    for values, number in zip(sets, kept):
        mask = np.zeros(len(values), bool)
        mask[rng.permutation(len(values))[:number]] = True
        masks.append(mask)
    weights = rng.uniform(.1, 3, 6) if weighted else None
    expected = reference(
        *[values[mask] for values, mask in zip(sets, masks)],
        .1,
        **form,
        weights=weights[masks[1]] if weighted else None)
    tensors = [torch.tensor(values, dtype=torch.float32, requires_grad=True) for values in sets]
    named = dict(zip(('anchor_mask', 'positive_mask', 'negative_mask'), map(torch.tensor, masks)))
    loss = cross_domain_contrast(
        *tensors, .1, **form, **named, positive_weight=torch.tensor(weights) if weighted else None)
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    loss.backward()
    for tensor, mask in zip(tensors, masks):
        assert tensor.grad.isfinite().all()
        assert not tensor.grad[torch.tensor(~mask)].any()


def test_gradient_of_all_forms():
    rng = np.random.default_rng(2)
    tensors = [torch.tensor(unit(rng, size, 3), requires_grad=True) for size in (3, 4, 5)]
    for form in FORMS:
        assert torch.autograd.gradcheck(lambda a, p, n: cross_domain_contrast(a, p, n, .3, **form), tensors)


def test_normalised_form_is_one_of_equal_similarities():
    same = torch.nn.functional.normalize(torch.ones(500, 4), dim=1)
    assert cross_domain_contrast(same[:7], same[:9], same, .1, normalise=True).item() == pytest.approx(1, rel=1e-5)
    mask = torch.arange(500) < 40
    loss = cross_domain_contrast(same[:7], same[:9], same, .1, negative_mask=mask, normalise=True)
    assert loss.item() == pytest.approx(1, rel=1e-5)


def test_contrast_is_safe_under_autocast_and_extreme_similarities():
    far = torch.tensor([[1., 0.]], requires_grad=True)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = cross_domain_contrast(far, -far.detach(), far.detach(), .001)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(2000.)
    loss.backward()
    assert far.grad.isfinite().all()
    with pytest.raises(ValueError, match='temperature'):
        cross_domain_contrast(far, far, far, 0.)


def counts(hard_anomalies, easy_anomalies, hard_normals, easy_normals, size=(24, 24)):
    """An image's logits and target with so many pixels of each kind, the rest ignored, in random places."""
    rng = np.random.default_rng(hard_anomalies + 7 * easy_anomalies)
    kinds = np.repeat([0, 1, 2, 3], [hard_anomalies, easy_anomalies, hard_normals, easy_normals])
    kinds = np.concatenate([kinds, np.full(size[0] * size[1] - len(kinds), 4)])
    kinds = rng.permutation(kinds).reshape(size)
    magnitude = rng.uniform(.1, 5, size)
    logit = np.where(np.isin(kinds, (1, 2)), magnitude, -magnitude)
    target = np.choose(kinds, [1, 1, 0, 0, 255])
    return torch.tensor(logit, dtype=torch.float32)[None], torch.tensor(target)


CASES = [  # hard and easy anomalies, hard and easy normals -> of the same kinds in anchors and negatives, positives
    ((30, 200, 30, 200), (5, 5, 20, 20, 60)),
    ((2, 200, 30, 200), (2, 8, 20, 20, 60)),
    ((30, 3, 30, 200), (10, 0, 3, 20, 60)),
    ((30, 12, 30, 200), (8, 2, 10, 20, 60)),  # 5 : 20 of 12, the anchors' part rounded down
    ((0, 200, 0, 200), (0, 10, 20, 0, 60)),
    ((30, 0, 30, 0), (10, 0, 0, 20, 0)),
    ((3, 2, 7, 9), (3, 0, 2, 7, 9)),
    ((3, 20, 7, 9), (3, 5, 15, 7, 9)),  # 7 : 20 of 20
    ((0, 12, 1, 1), (0, 4, 8, 1, 1)),  # 10 : 20 of 12
    ((0, 1, 1, 1), (0, 1, 0, 1, 1)),
    ((1, 1, 1, 1), (1, 0, 1, 1, 1)),
    ((0, 2, 1, 1), (0, 1, 1, 1, 1)),
    ((5, 25, 0, 0), (5, 5, 20, 0, 0)),
    ((0, 0, 30, 200), (0, 0, 0, 20, 60)),
    ((30, 200, 0, 0), (5, 5, 20, 0, 0)),
    ((0, 0, 0, 0), (0, 0, 0, 0, 0)),
]


def test_numbers_of_samples():
    batch = [counts(*case) for case, _ in CASES]
    logit, target = (torch.stack(parts) for parts in zip(*batch))
    torch.manual_seed(0)
    samples = sample_anomaly_aware(logit, target, num_anchors=10)
    flat_logit, flat_target = logit.flatten(1), target.flatten(1)
    assert samples.anchors.shape == (len(CASES), 10) and samples.positives.shape == (len(CASES), 20)
    assert samples.negatives.shape == (len(CASES), 80)
    for index, (_, expected) in enumerate(CASES):
        sets = []
        for indices, mask in zip(samples[::2], samples[1::2]):
            chosen = indices[index][mask[index]]
            assert len(chosen.unique()) == len(chosen)
            sets.append(chosen)
        anchors, positives, negatives = sets
        wrong = (flat_logit[index] > 0) != (flat_target[index] == 1)
        assert (flat_target[index][torch.cat([anchors, positives])] == 1).all()
        assert (flat_target[index][negatives] == 0).all()
        assert not wrong[positives].any()
        assert not set(anchors.tolist()) & set(positives.tolist())
        assert (int(wrong[anchors].sum()), int(
            (~wrong[anchors]).sum()), len(positives), int(wrong[negatives].sum()), int(
                (~wrong[negatives]).sum())) == expected
        assert wrong[samples.negatives[index, :20]][samples.negative_mask[index, :20]].all()


def few_of(easy, hard, **kwargs):
    """Numbers of hard and easy anchors and of positives of an image with so many anomalies; checks the sets."""
    logit = torch.cat([torch.ones(easy), -torch.ones(hard), torch.zeros(3)])[None, None]
    target = torch.tensor([1] * (easy + hard) + [255] * 3)[None, None]
    samples = sample_anomaly_aware(logit, target, **kwargs)
    anchors, positives = (i[m].tolist() for i, m in zip(samples[0:4:2], samples[1:4:2]))
    assert len(set(anchors + positives)) == len(anchors) + len(positives)
    assert max(anchors + positives, default=-1) < easy + hard and len(anchors) <= samples.anchors.size(1)
    assert (len(anchors) > 0) == (easy + hard > 0)
    if kwargs.get('strategy') != 'random':
        assert all(place < easy for place in positives)
    hard_ones = sum(place >= easy for place in anchors)
    return hard_ones, len(anchors) - hard_ones, len(positives)


@pytest.mark.parametrize('easy, hard, expected', [(4, 127, (50, 0, 4)), (19, 112, (47, 3, 16)), (25, 100, (45, 5, 20)),
                                                  (40, 0, (0, 13, 27)), (60, 0, (0, 20, 40)), (125, 25, (25, 25, 100)),
                                                  (150, 0, (0, 50, 100)), (2, 0, (0, 1, 1)), (1, 0, (0, 1, 0)),
                                                  (1, 1, (1, 0, 1))])
def test_scarce_easy_anomalies_are_shared(easy, hard, expected):
    assert few_of(easy, hard) == expected


def test_positives_wherever_there_are_two_easy_anomalies():
    rng = np.random.default_rng(8)
    for _ in range(2000):
        easy, hard = (int(rng.integers(0, limit)) for limit in rng.choice((3, 30, 200), 2))
        num_anchors, ratio = int(rng.integers(1, 60)), int(rng.integers(0, 4))
        options = dict(num_anchors=num_anchors, positive_ratio=ratio)
        hard_taken, easy_taken, positives = few_of(easy, hard, **options)
        assert hard_taken + easy_taken <= num_anchors and positives <= ratio * num_anchors
        assert (positives > 0) >= (easy >= 2 and ratio > 0)
        half = num_anchors // 2
        if hard >= half and easy >= num_anchors - half + ratio * num_anchors or easy >= num_anchors * (1 + ratio):
            assert (hard_taken, positives) == (min(hard, half), ratio * num_anchors)
            assert easy_taken == num_anchors - hard_taken
        _, _, positives = few_of(easy, hard, strategy='random', **options)
        assert (positives > 0) >= (easy + hard >= 2 and ratio > 0) and positives <= ratio * num_anchors


def test_threshold_decides_what_is_hard():
    logit, target = counts(20, 40, 20, 40)
    for threshold in (-2., 2.):
        torch.manual_seed(0)
        moved = sample_anomaly_aware(logit[None] + threshold, target[None], num_anchors=10, threshold=threshold)
        torch.manual_seed(0)
        assert all(map(torch.equal, moved, sample_anomaly_aware(logit[None], target[None], num_anchors=10)))
    assert CACLLoss(threshold=-2).sampling['threshold'] == -2


def test_odd_number_of_anchors():
    logit, target = counts(30, 200, 0, 0)
    samples = sample_anomaly_aware(logit[None], target[None], num_anchors=5)
    assert int((logit.flatten()[samples.anchors[0]] <= 0).sum()) == 2


def test_random_strategy_ignores_the_prediction():
    logit, target = counts(100, 20, 20, 200)
    torch.manual_seed(0)
    samples = sample_anomaly_aware(logit[None], target[None], num_anchors=10, strategy='random')
    torch.manual_seed(0)
    same = sample_anomaly_aware(-logit[None], target[None], num_anchors=10, strategy='random')
    assert all(torch.equal(one, other) for one, other in zip(samples, same))
    assert [int(mask.sum()) for mask in samples[1::2]] == [10, 20, 80]
    drawn = torch.cat([samples.anchors, samples.positives], 1)[0]
    assert len(drawn.unique()) == 30 and (target.flatten()[drawn] == 1).all()
    assert (target.flatten()[samples.negatives[0]] == 0).all()
    few = sample_anomaly_aware(*(t[None] for t in counts(6, 6, 0, 0)), num_anchors=10, strategy='random')
    assert [int(mask.sum()) for mask in few[1::2]] == [4, 8, 0]


def test_sampling_is_uniform_and_reproducible():
    logit, target = counts(0, 40, 0, 40)
    generator = torch.Generator().manual_seed(3)
    hits = torch.zeros(target.numel())
    for _ in range(400):
        samples = sample_anomaly_aware(logit[None], target[None], num_anchors=10, generator=generator)
        hits[samples.anchors[0]] += 1
    # Binomial(400, 1/4) for each of the 40 anomalies: mean 100, deviation 8.7
    assert hits.sum() == 4000 and (hits[target.flatten() == 1] - 100).abs().max() < 40
    first, second = (
        sample_anomaly_aware(logit[None], target[None], generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second))


def test_images_smaller_than_the_sets():
    logit, target = torch.tensor([[[[1., -1.], [1., -1.]]]]), torch.tensor([[[1, 1], [0, 0]]])
    samples = sample_anomaly_aware(logit, target)
    assert [tuple(s.shape) for s in samples[::2]] == [(1, 50), (1, 100), (1, 400)]
    assert samples.anchors[samples.anchor_mask].tolist() == [1]
    assert samples.positives[samples.positive_mask].tolist() == [0]
    assert samples.negatives[samples.negative_mask].tolist() == [2, 3]


@pytest.mark.parametrize('cross_domain', [True, False])
@pytest.mark.parametrize('form', [*FORMS, dict(balance_domains=True)])
@pytest.mark.parametrize('strategy', ['anomaly_aware', 'random'])
def test_loss_against_reference(cross_domain, form, strategy):
    batch = [counts(*case) for case in ((30, 100, 30, 100), (5, 60, 0, 50), (0, 0, 20, 60), (9, 9, 9, 9))]
    logit, target = (torch.stack(parts) for parts in zip(*batch))
    domains = [1, 0, 0, 1]
    rng = np.random.default_rng(4)
    embedding = rng.normal(size=(4, 8, 24, 24))
    module = CACLLoss(num_anchors=10, strategy=strategy, cross_domain=cross_domain, loss_weight=.1, **form)
    tensor = torch.tensor(embedding, dtype=torch.float32, requires_grad=True)
    torch.manual_seed(7)
    loss = module(tensor, logit, target, domains)
    torch.manual_seed(7)
    samples = sample_anomaly_aware(logit, target, num_anchors=10, strategy=strategy)
    feats = embedding.reshape(4, 8, -1).transpose(0, 2, 1)
    feats = feats / np.linalg.norm(feats, axis=-1, keepdims=True)
    sets = [[feats[i][indices[i][mask[i]].numpy()] for i in range(4)]
            for indices, mask in zip(samples[::2], samples[1::2])]
    expected, weights = 0., None
    domain_sizes = [sum(len(sets[1][i]) for i in range(4) if domains[i] == domain) for domain in domains]
    for members in ([1, 2], [0, 3]):
        partners = range(4) if cross_domain else members
        if form.get('balance_domains'):
            weights = np.concatenate([np.full(len(sets[1][i]), 1 / domain_sizes[i]) for i in partners])
        expected += reference(
            np.concatenate([sets[0][i] for i in members]), np.concatenate([sets[1][i] for i in partners]),
            np.concatenate([sets[2][i] for i in members]), .1, form.get('log', True), form.get('normalise', True),
            weights)
    assert loss.item() == pytest.approx(.1 * expected, rel=1e-5)
    loss.backward()
    assert tensor.grad.isfinite().all() and tensor.grad.any()
    assert not tensor.grad[:, :, target[0] == 255][0].any()


def test_target_and_logit_of_another_size():
    module = CACLLoss(num_anchors=10)
    torch.manual_seed(0)
    embedding = torch.randn(2, 4, 12, 12)
    logit, target = torch.randn(2, 1, 12, 12), torch.randint(0, 2, (2, 12, 12))
    big_logit, big_target = (t.repeat_interleave(2, -1).repeat_interleave(2, -2) for t in (logit, target))
    losses = []
    for pair in ((logit, target), (big_logit, big_target)):
        torch.manual_seed(1)
        losses.append(module(embedding, *pair, [0, 1]).item())
    assert losses[0] == pytest.approx(losses[1])


EMPTY = [(0, 0, 0, 0), (0, 0, 9, 9), (9, 0, 0, 0), (0, 9, 0, 0), (9, 0, 0, 9), (0, 99, 99, 0)]


@pytest.mark.parametrize('case', EMPTY)
@pytest.mark.parametrize('domains', [[0, 1], [0, 0], [1, 1]])
@pytest.mark.parametrize('form', [*FORMS, dict(balance_domains=True)])
def test_empty_sets_are_finite_with_a_graph(case, domains, form):
    logit, target = (torch.stack([part, part]) for part in counts(*case))
    for embedding in (torch.randn(2, 4, 24, 24), torch.zeros(2, 4, 24, 24)):
        embedding.requires_grad_()
        loss = CACLLoss(**form)(embedding, logit, target, domains)
        loss.backward()
        assert loss.isfinite() and embedding.grad.isfinite().all()
    if not case[1]:  # without positives nothing pulls
        assert not embedding.grad.any() and loss.item() == 0


def test_half_precision_embedding():
    logit, target = (torch.stack([part, part]) for part in counts(30, 100, 30, 100))
    embedding = torch.randn(2, 4, 24, 24)
    losses = []
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            losses.append(CACLLoss()(embedding.to(dtype), logit.to(dtype), target, [0, 1]))
    assert losses[1].dtype == torch.float32
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=.02)


@pytest.mark.parametrize('kwargs', [
    dict(temperature=0),
    dict(num_anchors=0),
    dict(positive_ratio=-1),
    dict(easy_negative_ratio=.5),
    dict(strategy='hardest'),
    dict(loss_name='cacl'),
    dict(threshold=float('nan'))
])
def test_options_are_checked(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        CACLLoss(**kwargs)


def test_inputs_are_checked():
    with pytest.raises(ValueError, match='same N, h and w'):
        sample_anomaly_aware(torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 5))
    with pytest.raises(ValueError, match='strategy'):
        sample_anomaly_aware(torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4), strategy='none')
    with pytest.raises(ValueError, match='num_anchors'):
        sample_anomaly_aware(torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4), num_anchors=0)
    with pytest.raises(ValueError, match='one domain for each'):
        CACLLoss()(torch.zeros(2, 4, 4, 4), torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4), [0])


def test_projecting_the_samples_equals_projecting_every_pixel():
    from mgcda.models.layers import Projector
    torch.manual_seed(0)
    projector = Projector(in_channels=6, channels=(5, 7))
    embedding = torch.randn(4, 6, 12, 10, requires_grad=True)
    logit, target = torch.randn(4, 1, 12, 10), torch.randint(0, 2, (4, 12, 10))
    losses, gradients = [], []
    for sampled in (True, False):
        torch.manual_seed(1)
        args = (logit, target, [0, 1, 0, 1])
        loss = CACLLoss(num_anchors=5)(embedding, *args, projector) if sampled else CACLLoss(
            num_anchors=5)(projector(embedding), *args)
        losses.append(loss)
        gradients.append(torch.autograd.grad(loss, [embedding, *projector.parameters()]))
    torch.testing.assert_close(losses[0], losses[1])
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b)
