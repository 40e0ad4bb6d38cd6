# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import nn

from mgcda.models.discriminators import DomainClassifier
from mgcda.models.layers import Projector
from mgcda.models.losses import multi_source_adversarial_loss


def widths(module):
    return [(m.in_channels, m.out_channels, m.kernel_size, m.stride, m.padding) for m in module.modules()
            if isinstance(m, nn.Conv2d)]


def test_the_papers_classifiers():
    init_default_scope('mmseg')
    kernel = ((3, 3), (1, 1), (1, 1))
    features = MODELS.build(dict(type='DomainClassifier', in_channels=512))
    assert widths(features) == [(512, 256, *kernel), (256, 128, *kernel), (128, 64, *kernel), (64, 1, *kernel)]
    output = MODELS.build(dict(type='DomainClassifier', in_channels=1, channels=(32, 64, 128, 256)))
    assert widths(output) == [(1, 32, *kernel), (32, 64, *kernel), (64, 128, *kernel), (128, 256, *kernel),
                              (256, 1, *kernel)]
    assert [type(m) for m in output.layers] == [nn.Conv2d, nn.ReLU] * 4 + [nn.Conv2d]


@pytest.mark.parametrize('downsample, size', [(1, (9, 13)), (4, (3, 4))])
def test_forward(downsample, size):
    torch.manual_seed(0)
    module = DomainClassifier(1, (4, 8), downsample=downsample)
    inputs = torch.rand(2, 1, 9, 13, requires_grad=True)
    before = inputs.detach().clone()
    outputs = module(inputs)
    assert outputs.shape == (2, 1, *size)
    outputs.sum().backward()
    assert torch.equal(inputs.detach(), before)
    assert inputs.grad.abs().sum() > 0
    assert all(p.grad is not None for p in module.parameters())
    same = module(inputs.detach().to(memory_format=torch.channels_last))
    torch.testing.assert_close(same, outputs)


@pytest.mark.parametrize(
    'kwargs',
    [dict(in_channels=64),
     dict(in_channels=64, normalise=True),
     dict(in_channels=1, channels=(32, 64, 128, 256))])
def test_both_domains_start_with_gradients_of_one_size(kwargs):
    for seed in range(5):
        torch.manual_seed(seed)
        module = DomainClassifier(**kwargs)
        module.init_weights()
        inputs = torch.rand(4, kwargs['in_channels'], 16, 24) * (1 if kwargs['in_channels'] == 1 else 3)
        inputs.requires_grad_()
        multi_source_adversarial_loss(module(inputs), [0, 0, 1, 1], 1.).backward()
        void, mix = inputs.grad[:2].norm(), inputs.grad[2:].norm()
        assert .5 < void / mix < 2, (seed, void / mix)


def test_init_cfg_comes_before_the_bias_of_a_half():
    module = DomainClassifier(8, init_cfg=dict(type='Normal', layer='Conv2d', std=.1, bias=.25))
    assert module.layers[-1].bias.item() == .5
    module.init_weights()
    assert module.layers[-1].bias.item() == .25


def test_normalised_features_are_judged_by_direction():
    torch.manual_seed(0)
    module = DomainClassifier(8, normalise=True)
    inputs = torch.randn(2, 8, 5, 6)
    lengths = torch.rand(2, 1, 5, 6) + .1
    torch.testing.assert_close(module(inputs * lengths), module(inputs))
    plain = DomainClassifier(8)
    plain.load_state_dict(module.state_dict())
    scaled = inputs / inputs.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(module(inputs), plain(scaled))
    large = torch.full((1, 8, 3, 3), 6e4, dtype=torch.bfloat16)
    assert module.bfloat16()(large).isfinite().all()


def test_downsample_averages():
    module = DomainClassifier(1, (), downsample=2)
    nn.init.zeros_(module.layers[0].weight)
    nn.init.zeros_(module.layers[0].bias)
    module.layers[0].weight.data[0, 0, 1, 1] = 1
    inputs = torch.arange(15.).view(1, 1, 3, 5)
    # [[0 1|2 3|4], [5 6|7 8|9], [10 11|12 13|14]] in blocks of 2 x 2, the last ones cut off
    assert module(inputs).squeeze().tolist() == [[3., 5., 6.5], [10.5, 12.5, 14.]]


def test_other_channels_are_refused():
    with pytest.raises(ValueError, match='in_channels of the domain classifier is 8, but .* have 4 channels'):
        DomainClassifier(8)(torch.rand(1, 4, 6, 6))
    with pytest.raises(ValueError, match='in_channels of the projector is 8, but .* has 4 channels'):
        Projector(8)(torch.rand(1, 4, 6, 6))


def test_half_precision():
    module = DomainClassifier(8).bfloat16()
    outputs = module(torch.rand(1, 8, 6, 6).bfloat16())
    assert outputs.dtype == torch.bfloat16 and outputs.isfinite().all()


@pytest.mark.parametrize('kwargs, message', [(dict(in_channels=1), 'channels must be given'),
                                             (dict(in_channels=0, channels=(4, )), 'at least 1'),
                                             (dict(in_channels=8, channels=(4, 0)), 'at least 1'),
                                             (dict(in_channels=8, downsample=0), 'downsample'),
                                             (dict(in_channels=8, downsample=1.5), 'downsample'),
                                             (dict(in_channels=1, channels=(4, ), normalise=True), 'normalise')])
def test_refuses(kwargs, message):
    with pytest.raises(ValueError, match=message):
        DomainClassifier(**kwargs)


def test_projector():
    module = Projector(16)
    assert [(m.in_channels, m.out_channels, m.kernel_size) for m in module.layers
            if isinstance(m, nn.Conv2d)] == [(16, 64, (1, 1)), (64, 128, (1, 1))]
    assert [type(m) for m in module.layers] == [nn.Conv2d, nn.ReLU, nn.Conv2d]
    assert module(torch.rand(2, 16, 3, 4)).shape == (2, 128, 3, 4)
    with pytest.raises(ValueError, match='not empty'):
        Projector(16, ())
