# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Mixtures against scipy, a known mixture and float64; heads that classify with them."""
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_components  # noqa: F401
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.metrics import roc_auc_score
from torch import Tensor

import mgcda  # noqa: F401
from mgcda.labels import IGNORE, OUTLIER
from mgcda.models.layers import gaussian_mixture
from mgcda.models.layers.gaussian_mixture import ClassGaussianMixtures, sample_classes, sinkhorn
from mgcda.scores import max_logit

HEADS = {
    'GMMDepthwiseSeparableASPPHead': dict(
        in_channels=16, in_index=3, channels=16, dilations=(1, 2), c1_in_channels=4, c1_channels=4),
    'GMMSegformerHead': dict(in_channels=[4, 6, 8, 16], in_index=[0, 1, 2, 3], channels=16),
    'GMMESPNetv2Head': dict(in_channels=[4, 6, 8, 16], channels=5, decoder_channels=(12, 8, 6)),
    'GMMUPerHead': dict(in_channels=[4, 6, 8, 16], in_index=[0, 1, 2, 3], pool_scales=(1, 2), channels=16),
}


def mixtures(num_classes: int = 2,
             num_components: int = 3,
             channels: int = 4,
             memory_size: int = 60,
             **kwargs: Any) -> ClassGaussianMixtures:
    torch.manual_seed(0)
    return ClassGaussianMixtures(num_classes, num_components, channels, memory_size, **kwargs)


def build_head(name: str = 'GMMSegformerHead', **kwargs: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    options = dict(
        num_classes=3,
        dropout_ratio=0,
        embed_channels=8,
        num_components=2,
        memory_size=64,
        num_samples=16,
        norm_cfg=dict(type='BN'),
        align_corners=False)
    return MODELS.build(dict(type=name, **{**HEADS[name], **options, **kwargs}))


def pyramid(batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(batch, channels, size, size, generator=generator).requires_grad_()
        for channels, size in ((4, 16), (6, 8), (8, 4), (16, 4))
    ]


def labelled(seg_label: Tensor) -> list[SegDataSample]:
    return [SegDataSample(gt_sem_seg=PixelData(data=label[None])) for label in seg_label]


def random_labels(batch: int = 2, num_classes: int = 3) -> Tensor:
    return torch.randint(0, num_classes, (batch, 16, 16), generator=torch.Generator().manual_seed(2))


def known_mixture(num: int = 3000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples (2, num, 4) of two classes of three equal components, their means and variances (2, 3, 4)."""
    rng = np.random.default_rng(5)
    means = rng.choice([-1.0, 0.0, 1.0], (2, 3, 4)) + 3 * np.eye(4)[:3]
    variances = rng.uniform(0.05, 0.6, (2, 3, 4))
    component = rng.permuted(np.tile(np.arange(num) % 3, (2, 1)), axis=1)
    chosen = np.arange(2)[:, None], component
    return means[chosen] + variances[chosen]**0.5 * rng.standard_normal((2, num, 4)), means, variances


def test_em_recovers_a_known_mixture() -> None:
    samples, means, variances = known_mixture()
    model = mixtures(memory_size=3000, mean_momentum=0, reg_covar=1e-4)
    for part in np.split(samples, 10, axis=1):
        model.update(torch.tensor(part), torch.ones(part.shape[:2], dtype=torch.bool))
    for _ in range(30):
        model.update(torch.zeros(2, 1, 4), torch.zeros(2, 1, dtype=torch.bool))
    for c in range(2):
        distances = np.linalg.norm(model.means[c].numpy()[:, None] - means[c], axis=-1)
        order = distances.argmin(0)
        assert sorted(order) == [0, 1, 2]
        np.testing.assert_allclose(model.means[c].numpy()[order], means[c], atol=0.08)
        np.testing.assert_allclose(model.variances[c].numpy()[order], variances[c], rtol=0.15)
        fitted = model.class_log_likelihood(model.log_likelihood(torch.tensor(samples[c])))[:, c]
        true = logsumexp(
            [multivariate_normal(m, np.diag(v)).logpdf(samples[c])
             for m, v in zip(means[c], variances[c])], axis=0) - np.log(3)
        assert abs(fitted.mean().item() - true.mean()) < 0.02


def test_likelihoods_are_those_of_scipy() -> None:
    model = mixtures(2, 3, 5)
    model.variances.uniform_(0.01, 2)
    samples = torch.randn(7, 5)
    components = model.log_likelihood(samples)
    assert components.shape == (7, 2, 3) and components.dtype == torch.float32
    expected = np.stack([[
        multivariate_normal(mean.double().numpy(), np.diag(var.double().numpy())).logpdf(samples)
        for mean, var in zip(*pair)
    ] for pair in zip(model.means, model.variances)])
    np.testing.assert_allclose(components, expected.transpose(2, 0, 1), rtol=1e-4, atol=1e-3)
    classes = logsumexp(expected, axis=1).T - np.log(3)
    np.testing.assert_allclose(model.class_log_likelihood(components), classes, rtol=1e-4, atol=1e-3)


def scaled_in_turn(log_likelihood: np.ndarray, num_iters: int, epsilon: float) -> np.ndarray:
    """Sinkhorn's algorithm in float64, in the linear domain: components first, then samples, as in GMMSeg's code."""
    plan = np.exp((log_likelihood - log_likelihood.max()).astype(np.float64) / epsilon)
    num, components = plan.shape
    for _ in range(num_iters):
        plan /= components * plan.sum(0)
        plan /= num * plan.sum(1, keepdims=True)
    return plan / plan.sum(1, keepdims=True)


@pytest.mark.parametrize('num_iters, epsilon', [(0, 1.0), (1, 1.0), (3, 1.0), (3, 0.5), (500, 2.0)])
def test_sinkhorn_is_that_of_float64(num_iters: int, epsilon: float) -> None:
    torch.manual_seed(0)
    log_likelihood = 3 * torch.randn(2, 24, 4)
    valid = torch.ones(2, 24, dtype=torch.bool)
    valid[1, 20:] = False
    plan = sinkhorn(log_likelihood, valid, num_iters, epsilon)
    assert plan.dtype == torch.float32 and not plan[~valid].any()
    for k, num in enumerate((24, 20)):
        expected = scaled_in_turn(log_likelihood[k, :num].numpy(), num_iters, epsilon)
        np.testing.assert_allclose(plan[k, :num], expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(plan.sum(-1), valid, atol=1e-5)
    if num_iters == 500:  # both marginals hold
        np.testing.assert_allclose(plan.sum(1), [[6] * 4, [5] * 4], rtol=1e-3)


def test_sinkhorn_survives_far_samples_and_empty_classes() -> None:
    log_likelihood = torch.tensor([[[-1e4, 0.0], [-1e4, -5.0]], [[0.0, 0.0], [0.0, 0.0]]])
    plan = sinkhorn(log_likelihood, torch.tensor([[True, True], [False, False]]), num_iters=50)
    assert plan.isfinite().all() and not plan[1].any()
    assert plan[0].argmax(-1).tolist() == [1, 0]  # the sample that component 1 explains worse goes to the other


def test_samples_are_pixels_of_their_class() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([2] * 50 + [0] * 3 + [IGNORE] * 9 + [OUTLIER] * 9 + [-1] * 4)[torch.randperm(75)]
    indices, drawn = sample_classes(labels, 3, 5)
    assert drawn.tolist() == [[True] * 3 + [False] * 2, [False] * 5, [True] * 5]
    assert set(labels[indices[0, :3]].tolist()) == {0} and set(labels[indices[2]].tolist()) == {2}
    assert len(set(indices[0, :3].tolist())) == 3 and len(set(indices[2].tolist())) == 5
    counts = torch.zeros(75)
    for _ in range(400):
        indices, drawn = sample_classes(labels, 3, 5)
        counts[indices[2]] += 1
    assert 15 < counts[labels == 2].min() and counts[labels == 2].max() < 70  # 40 each on average


def test_memory_drops_the_oldest() -> None:
    model = mixtures(2, 1, 1, memory_size=4)
    values = iter(range(1, 20))
    for counts in ((3, 0), (2, 1), (1, 1)):
        samples, valid = torch.full((2, 3, 1), -9.0), torch.zeros(2, 3, dtype=torch.bool)
        for c, count in enumerate(counts):
            samples[c, :count, 0] = torch.tensor([next(values) for _ in range(count)], dtype=torch.float32)
            valid[c, :count] = True
        model.update(samples, valid)
    assert sorted(model.memory[0].flatten().tolist()) == [3, 4, 5, 7]
    assert model.memory[1].flatten().tolist() == [6, 8, 0, 0] and model.num_seen.tolist() == [6, 2]
    with pytest.raises(ValueError, match='memory_size must be at least the 5'):
        model.update(torch.zeros(2, 5, 1), torch.ones(2, 5, dtype=torch.bool))


def test_one_component_is_a_gaussian_with_momentum() -> None:
    torch.manual_seed(3)
    model = mixtures(1, 1, 3, memory_size=12, mean_momentum=0.15, var_momentum=0.9, reg_covar=0.25)
    valid, batches = torch.ones(1, 4, dtype=torch.bool), torch.randn(3, 1, 4, 3)
    model.update(batches[0], valid)  # without momentum
    mean, variance = batches[0].mean(1), batches[0].var(1, unbiased=False) + 0.25
    torch.testing.assert_close(model.means[:, 0], mean)
    torch.testing.assert_close(model.variances[:, 0], variance)
    for t, (mean_momentum, var_momentum) in enumerate([(1 / 11, 1 / 11), (0.15, 2 / 12)], start=2):
        model.update(batches[t - 1], valid)
        seen = torch.cat(list(batches[:t]), dim=1)
        mean = mean_momentum * mean + (1 - mean_momentum) * seen.mean(1)
        spread = (seen - mean[:, None]).square().mean(1) + 0.25
        variance = var_momentum * variance + (1 - var_momentum) * spread
        torch.testing.assert_close(model.means[:, 0], mean)
        torch.testing.assert_close(model.variances[:, 0], variance)


def test_classes_without_pixels_stay_as_they_are() -> None:
    model = mixtures(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    valid = torch.zeros(3, 20, dtype=torch.bool)
    valid[0] = True
    valid[1, :2] = True  # fewer than components
    model.update(torch.randn(3, 20, 4), valid)
    assert model.num_steps.tolist() == [1, 0, 0]
    for name in ('means', 'variances'):
        after = getattr(model, name)
        assert torch.equal(after[1:], before[name][1:]) and not torch.equal(after[0], before[name][0])
    assert not model.memory[2].any()
    assert all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_low_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    samples = F.normalize(torch.randn(2, 30, 4, generator=torch.Generator().manual_seed(0)), dim=-1).to(dtype)
    valid = torch.ones(2, 30, dtype=torch.bool)
    low, full = mixtures(), mixtures()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        low.update(samples, valid)
        likelihood = low.log_likelihood(samples[0])
    full.update(samples.float(), valid)
    assert likelihood.dtype == torch.float32
    assert all(torch.equal(low.state_dict()[name], value) for name, value in full.state_dict().items())
    torch.testing.assert_close(likelihood, full.log_likelihood(samples[0].float()))


def test_state_round_trips(tmp_path: Path) -> None:
    model = mixtures()
    valid = torch.ones(2, 20, dtype=torch.bool)
    model.update(torch.randn(2, 20, 4), valid)
    torch.save(model.state_dict(), tmp_path / 'state.pth')
    other = ClassGaussianMixtures(2, 3, 4, 60)
    other.load_state_dict(torch.load(tmp_path / 'state.pth'))
    samples = torch.randn(2, 20, 4)
    for each in (model, other):
        each.update(samples, valid)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize('options, message', [(dict(num_components=0), 'at least 1'),
                                              (dict(memory_size=2), 'memory_size at least num_components'),
                                              (dict(mean_momentum=1), 'momenta'), (dict(reg_covar=0), 'reg_covar'),
                                              (dict(epsilon=0), 'epsilon'),
                                              (dict(sinkhorn_iters=-1), 'sinkhorn_iters')])
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mixtures(**options)


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', f'file://{folder}/init', rank=rank, world_size=2)
    model = mixtures()
    for samples, valid in rank_batches(rank):
        model.update(samples, valid)
    torch.save(model.state_dict(), f'{folder}/{rank}.pth')
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def rank_batches(rank: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(rank)
    return [(torch.randn(2, 10, 4, generator=generator), torch.arange(10).expand(2, 10) < count)
            for count in ((3, 10), (7, 0))[rank]]


def test_two_processes_hold_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    torch.multiprocessing.spawn(run_rank, (str(tmp_path), ), nprocs=2)
    states = [torch.load(tmp_path / f'{rank}.pth') for rank in range(2)]
    alone = mixtures()  # one process that is given the samples of both
    for pairs in zip(rank_batches(0), rank_batches(1)):
        rows = torch.cat([samples[:, :int(valid[0].sum())] for samples, valid in pairs], dim=1)
        alone.update(rows, torch.ones(rows.shape[:2], dtype=torch.bool))
    for name, value in alone.state_dict().items():
        assert torch.equal(states[0][name], states[1][name])
        torch.testing.assert_close(states[0][name], value)


@pytest.mark.parametrize('name', HEADS)
def test_heads_train_and_predict(name: str) -> None:
    head, inputs = build_head(name), pyramid()
    seg_label = random_labels()
    seg_label[:, :2] = IGNORE
    first = {key: value.clone() for key, value in head.mixtures.state_dict().items()}
    for _ in range(2):  # the first step starts the mixtures
        losses = head.loss(inputs, labelled(seg_label), {})
    assert set(losses) == {'loss_ce', 'loss_component', 'acc_seg'}
    head.zero_grad()
    (losses['loss_ce'] + losses['loss_component']).backward()
    for parameter in (*head.parameters(), inputs[0], inputs[3]):
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any()
    assert (head.mixtures.num_steps == 2).all() and not torch.equal(first['means'], head.mixtures.means)

    head.eval()
    state = {key: value.clone() for key, value in head.state_dict().items()}
    with torch.no_grad():
        seg_logits = head.predict(inputs, [dict(img_shape=(32, 32))] * 2, {})
        head.loss(inputs, labelled(seg_label), {})
    assert seg_logits.shape == (2, 3, 32, 32) and seg_logits.dtype == torch.float32
    assert all(torch.equal(value, head.state_dict()[key]) for key, value in state.items())


def test_head_logits_are_likelihoods_of_unit_vectors() -> None:
    head = build_head().eval()
    feats = torch.randn(2, 16, 3, 5)
    seg_logits = head.cls_seg(feats)
    embedding = head.embedding(head.conv_seg(feats))
    torch.testing.assert_close(embedding.norm(dim=-1), torch.ones(2, 3, 5))
    expected = logsumexp(
        [[multivariate_normal(mean.double().numpy(), np.eye(8)).logpdf(embedding[1, 2, 4].detach()) for mean in means]
         for means in head.mixtures.means],
        axis=1) - np.log(2)
    np.testing.assert_allclose(seg_logits[1, :, 2, 4].detach(), expected, rtol=1e-4)


@pytest.mark.parametrize('seg_label', [torch.full((2, 16, 16), IGNORE), torch.zeros((2, 16, 16), dtype=torch.int64)])
def test_labels_without_some_class_give_finite_losses(seg_label: Tensor) -> None:
    head = build_head(loss_decode=dict(type='PixelCrossEntropyLoss'))
    for _ in range(2):
        losses = head.loss(pyramid(), labelled(seg_label), {})
    (losses['loss_ce'] + losses['loss_component']).backward()
    assert all(value.isfinite().all() for value in losses.values())
    assert all(value.isfinite().all() for value in head.state_dict().values())
    assert (head.mixtures.num_seen > 0).tolist() == [bool((seg_label == c).any()) for c in range(3)]


def test_features_that_overflow_are_not_remembered() -> None:
    head, inputs = build_head(norm_cfg=None), pyramid()
    with torch.no_grad():
        inputs[0][1, :, 3] = torch.inf
    for _ in range(2):
        head.loss(inputs, labelled(random_labels()), {})
    assert (head.mixtures.num_seen > 0).all()
    assert all(value.isfinite().all() for value in head.mixtures.state_dict().values())


def test_head_runs_under_autocast() -> None:
    head = build_head()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        for _ in range(2):
            losses = head.loss(pyramid(), labelled(random_labels()), {})
        assert head.eval().forward(pyramid()).dtype == torch.float32
    (losses['loss_ce'] + losses['loss_component']).backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


def test_component_loss_is_the_cross_entropy_of_components() -> None:
    head = build_head()
    head.loss(pyramid(), labelled(random_labels()), {})
    samples = F.normalize(torch.randn(3, 5, 8), dim=-1)
    drawn = torch.arange(5) < torch.tensor([5, 2, 0])[:, None]
    mixture = head.mixtures
    errors = []
    for c in range(3):
        own = mixture.log_likelihood(samples[c])[:, c].double()
        plan = gaussian_mixture.sinkhorn(own, drawn[c])
        for k in range(int(drawn[c].sum())):
            every = mixture.log_likelihood(samples[c, k:k + 1]).double().flatten().numpy()
            errors.append(logsumexp(every) - every[2 * c + int(plan[k].argmax())])
    torch.testing.assert_close(
        head._component_loss(samples, drawn).double(), torch.tensor(np.mean(errors)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('options, message', [(dict(num_classes=2, out_channels=1), 'an output for each'),
                                              (dict(num_samples=65), 'num_samples must be in'),
                                              (dict(num_samples=0), 'num_samples must be in')])
@pytest.mark.filterwarnings('ignore:threshold is not defined')
def test_wrong_heads_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_head(**options)


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.filterwarnings('ignore:For binary segmentation')
def test_training_separates_two_classes_and_scores_outliers_high(seed: int) -> None:
    """Two classes of pixels, each of two kinds; pixels of a kind that was never seen are anomalies."""
    head = build_head(
        in_channels=[16],
        in_index=[0],
        num_classes=2,
        memory_size=512,
        num_samples=64,
        norm_cfg=None,
        loss_decode=dict(type='PixelCrossEntropyLoss'))
    torch.manual_seed(seed)
    kinds = F.normalize(torch.randn(5, 16), dim=1) * 3

    def batch(kind: Tensor) -> list[Tensor]:
        return [(kinds[kind] + 0.2 * torch.randn(*kind.shape, 16)).permute(0, 3, 1, 2)]

    optimizer = torch.optim.Adam(head.parameters(), 1e-2)
    for _ in range(60):
        kind = torch.randint(0, 4, (2, 8, 8))
        losses = head.loss(batch(kind), labelled(kind // 2), {})
        optimizer.zero_grad()
        (losses['loss_ce'] + losses['loss_component']).backward()
        optimizer.step()
    kind = torch.arange(5)[:, None, None].expand(5, 8, 8)
    with torch.no_grad():
        seg_logits = head.eval()(batch(kind))
    assert (seg_logits[:4].argmax(1) == kind[:4] // 2).double().mean() > 0.99
    assert roc_auc_score((kind == 4).flatten(), max_logit(seg_logits).flatten()) > 0.95


def test_segmentor_learns_and_scores_by_likelihood() -> None:
    torch.manual_seed(0)
    cfg = dict(
        type='AnomalySegmentor',
        score='max_logit',
        backbone=dict(type='TinyBackbone', channels=4),
        decode_head=dict(
            type='GMMSegformerHead',
            in_channels=[4],
            in_index=[0],
            channels=6,
            num_classes=3,
            norm_cfg=dict(type='BN'),
            embed_channels=8,
            memory_size=64,
            num_samples=16),
        test_cfg=dict(mode='whole'))
    model, inputs = MODELS.build(ConfigDict(cfg)), torch.randn(2, 3, 16, 16)
    for _ in range(2):
        losses = model.loss(inputs, labelled(random_labels()))
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert all(parameter.grad.any() for parameter in model.backbone.parameters())

    metas = dict(ori_shape=(16, 16), img_shape=(16, 16))
    other = MODELS.build(ConfigDict(cfg)).eval()
    other.load_state_dict(model.eval().state_dict())
    with torch.no_grad():
        seg_logits = model.encode_decode(inputs, [metas] * 2)
        samples = other.predict(inputs, [SegDataSample(metainfo=metas) for _ in inputs])
    for logits, sample in zip(seg_logits, samples):
        torch.testing.assert_close(sample.anomaly_scores.data[0], -logits.amax(0))
        assert torch.equal(sample.pred_sem_seg.data[0], logits.argmax(0))
