# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
import torch

from mgcda.models.layers import SPADE


def conv_reference(x, weight, bias):
    """Same-padded correlation in float64: (N,C,H,W) * (O,C,k,k) -> (N,O,H,W)."""
    k = weight.shape[-1]
    padded = np.pad(x, ((0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(2, 3))
    return np.einsum('nchwij,ocij->nohw', windows, weight) + bias[None, :, None, None]


def resize_nearest_reference(x, size):
    rows = np.arange(size[0]) * x.shape[2] // size[0]
    cols = np.arange(size[1]) * x.shape[3] // size[1]
    return x[:, :, rows][:, :, :, cols]


def spade_reference(layer, x, label_map, axes):
    weights = {
        name: value.detach().double().numpy()
        for name, value in layer.state_dict().items() if name.startswith('mlp')
    }
    x, label_map = x.double().numpy(), resize_nearest_reference(label_map.double().numpy(), x.shape[-2:])
    hidden = conv_reference(label_map, weights['mlp_shared.0.weight'], weights['mlp_shared.0.bias']).clip(min=0)
    gamma = conv_reference(hidden, weights['mlp_gamma.weight'], weights['mlp_gamma.bias'])
    beta = conv_reference(hidden, weights['mlp_beta.weight'], weights['mlp_beta.bias'])
    normed = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    return normed * (1 + gamma) + beta


@pytest.mark.parametrize('norm, axes', [('instance', (2, 3)), ('batch', (0, 2, 3))])
@pytest.mark.parametrize('kernel_size', [1, 3])
@pytest.mark.parametrize('label_size', [(6, 8), (12, 24), (3, 5)])
def test_spade_equals_the_reference(norm, axes, kernel_size, label_size):
    torch.manual_seed(0)
    layer = SPADE(4, 3, hidden_channels=5, norm=norm, kernel_size=kernel_size)
    x = torch.randn(2, 4, 6, 8) * 3 + 1
    label_map = torch.nn.functional.one_hot(torch.randint(3, (2, *label_size)), 3).permute(0, 3, 1, 2).float()
    out = layer(x, label_map)
    np.testing.assert_allclose(out.detach().numpy(), spade_reference(layer, x, label_map, axes), atol=2e-5)


def test_spade_key_names_and_gradients():
    layer = SPADE(4, 3, hidden_channels=5)
    assert set(layer.state_dict()) == {
        'mlp_shared.0.weight', 'mlp_shared.0.bias', 'mlp_gamma.weight', 'mlp_gamma.bias', 'mlp_beta.weight',
        'mlp_beta.bias'
    }
    layer(torch.randn(2, 4, 6, 8), torch.ones(2, 3, 12, 16)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in layer.parameters())


@pytest.mark.parametrize('kwargs, match', [(dict(channels=0), 'channels'), (dict(label_channels=0), 'label_channels'),
                                           (dict(hidden_channels=0), 'hidden_channels'),
                                           (dict(norm='layer'), "norm must be one of.*'layer'"),
                                           (dict(kernel_size=2), 'kernel_size')])
def test_spade_refuses_bad_settings(kwargs, match):
    with pytest.raises(ValueError, match=match):
        SPADE(**{**dict(channels=4, label_channels=3), **kwargs})
