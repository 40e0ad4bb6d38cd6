# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""The cross-entropy of the margin against torch's cross-entropy of two classes."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmseg.registry import METRICS

import mgcda  # noqa: F401


def sample(logits, label, path='a', name='One', **fields):
    margin = logits[1:] - logits[:1]
    return dict(
        anomaly_scores=dict(data=margin), gt_sem_seg=dict(data=label[None]), img_path=path, dataset_name=name, **fields)


def random_pair(seed, values=(0, 1, 255)):
    generator = torch.Generator().manual_seed(seed)
    label = torch.tensor(values)[torch.randint(len(values), (6, 9), generator=generator)]
    return 4 * torch.randn(2, 6, 9, generator=generator), label


@pytest.mark.parametrize('weights', [(1.0, 1.0), (1.548, 8.039)])
def test_it_is_the_mean_cross_entropy_of_the_images_of_a_benchmark(weights):
    metric = METRICS.build(dict(type='AnomalyCrossEntropyMetric', class_weight=weights))
    pairs = [random_pair(seed) for seed in range(4)]
    pairs[3] = random_pair(3, values=(0, 255))  # no anomaly
    for i, (logits, label) in enumerate(pairs):
        metric.process(None, [sample(logits, label, f'{i}', name='One' if i < 2 else 'Two')])
    metric.process(None, [sample(*random_pair(9, values=(255, )), 'ignored')])
    metric.process(None, [sample(*random_pair(8), 'classes', name='Cityscapes', label_classes=('road', ))])
    expected = [
        F.cross_entropy(
            logits[None].double(), label[None], torch.tensor(weights, dtype=torch.float64), ignore_index=255).item()
        for logits, label in pairs
    ]
    result = metric.evaluate(6)
    assert list(result) == ['One/cross_entropy', 'Two/cross_entropy']
    np.testing.assert_allclose(list(result.values()), [np.mean(expected[:2]), np.mean(expected[2:])], rtol=1e-6)
    with pytest.raises(ValueError, match='no image'):  # nothing is left for the next epoch
        metric.evaluate(0)


def test_extreme_margins_give_a_finite_loss():
    metric = METRICS.build(dict(type='AnomalyCrossEntropyMetric'))
    logits = torch.tensor([[-500.0, 500.0]]).repeat(1, 2).view(1, 1, 4)
    metric.process(None, [sample(torch.cat([torch.zeros_like(logits), logits]), torch.tensor([[1, 1, 0, 0]]))])
    assert metric.evaluate(1) == {'One/cross_entropy': pytest.approx(250)}


def test_the_named_score_is_the_margin():
    logits, label = random_pair(0)
    one = METRICS.build(dict(type='AnomalyLoss'))  # the former name
    one.process(None, [sample(logits, label)])
    two = METRICS.build(dict(type='AnomalyCrossEntropyMetric', score='logit_margin', prefix='val'))
    several = sample(logits, label, score_names=('other', 'logit_margin'))
    several['anomaly_scores']['data'] = torch.cat([torch.rand(1, 6, 9), several['anomaly_scores']['data']])
    two.process(None, [several])
    assert two.evaluate(1) == {'val/One/cross_entropy': one.evaluate(1)['One/cross_entropy']}


def test_samples_of_no_named_benchmark():
    metric, nameless = METRICS.build(dict(type='AnomalyCrossEntropyMetric')), sample(*random_pair(0))
    del nameless['dataset_name']
    metric.process(None, [nameless])
    assert list(metric.evaluate(1)) == ['anomaly/cross_entropy']


def test_what_is_wrong_is_named():
    for weights in ((1, ), (1, 0)):
        with pytest.raises(ValueError, match='two positive numbers'):
            METRICS.build(dict(type='AnomalyCrossEntropyMetric', class_weight=weights))
    metric = METRICS.build(dict(type='AnomalyCrossEntropyMetric', score='logit_margin'))
    with pytest.raises(ValueError, match="a: .*not the score 'logit_margin'"):
        metric.process(None, [sample(*random_pair(0))])
    without = sample(*random_pair(0), score_names=('logit_margin', ))
    del without['anomaly_scores']
    with pytest.raises(ValueError, match="a: .*not the score 'logit_margin'"):
        metric.process(None, [without])
    without = sample(*random_pair(0), score_names=('logit_margin', ))
    del without['gt_sem_seg']
    with pytest.raises(ValueError, match='a: the sample has no labels'):
        metric.process(None, [without])
