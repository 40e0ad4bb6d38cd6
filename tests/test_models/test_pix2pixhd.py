# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from mmseg.registry import MODELS
from test_resynthesizer import PREPROCESSOR, make_batch, random_outputs

from mgcda.models.generators import Pix2PixHDGenerator
from mgcda.models.losses import LeastSquaresGANLoss
from mgcda.structures import one_hot_labels

TINY = dict(type='Pix2PixHDGenerator', base_channels=4, num_stages=2, num_blocks=2)


def test_published_generator_has_the_published_number_of_parameters():
    """The public code reports 182,546,755 for 36 input channels, Cityscapes' 35 ids and the edges of instances."""
    with torch.device('meta'):
        assert sum(p.numel() for p in Pix2PixHDGenerator(num_classes=35).parameters()) == 182_546_755


@pytest.mark.parametrize('num_stages, size', [(1, (4, 4)), (2, (16, 24)), (4, (32, 64))])
def test_images_have_the_maps_size_and_lie_in_the_range_of_tanh(num_stages, size):
    torch.manual_seed(0)
    generator = Pix2PixHDGenerator(base_channels=2, num_stages=num_stages, num_blocks=2)
    images = generator(torch.randint(0, 19, (2, *size), dtype=torch.uint8))
    assert images.shape == (2, 3, *size) and images.dtype == torch.float32
    assert images.abs().max() <= 1 and images.std() > 0


def test_generator_equals_its_layers_written_out():
    torch.manual_seed(0)
    generator = Pix2PixHDGenerator(**{key: value for key, value in TINY.items() if key != 'type'}).double()
    weights = [p for p in generator.parameters()]
    assert [tuple(w.shape) for w in weights[::2]] == [(4, 20, 7, 7), (8, 4, 3, 3), (16, 8, 3, 3), *[(16, 16, 3, 3)] * 4,
                                                      (16, 8, 3, 3), (8, 4, 3, 3), (3, 4, 7, 7)]
    pairs = iter(zip(weights[::2], weights[1::2]))

    def norm(x):
        return (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()

    def padded(x, kernel):
        weight, bias = next(pairs)
        return F.conv2d(F.pad(x, (kernel // 2, ) * 4, mode='reflect'), weight, bias)

    semantic = torch.randint(0, 19, (1, 16, 24))
    semantic[0, :4] = 255
    x = norm(padded(one_hot_labels(semantic, 19, unknown_channel=True).double(), 7)).relu()
    for _ in range(2):
        weight, bias = next(pairs)
        x = norm(F.conv2d(x, weight, bias, stride=2, padding=1)).relu()
    for _ in range(2):
        x = x + norm(padded(norm(padded(x, 3)).relu(), 3))
    for _ in range(2):
        weight, bias = next(pairs)
        x = norm(F.conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=1)).relu()
    expected = padded(x, 7).tanh()
    generator.layers[0].register_forward_pre_hook(lambda module, inputs: (inputs[0].double(), ))
    torch.testing.assert_close(generator(semantic).double(), expected, rtol=1e-5, atol=1e-6)


def test_wrong_sizes_and_settings_are_refused():
    generator = MODELS.build(TINY)
    for size in ((16, 18), (4, 16)):
        with pytest.raises(ValueError, match=f'multiples of 4, from 8 on, got {size[0]}x{size[1]}'):
            generator(torch.zeros(1, *size, dtype=torch.int64))
    with pytest.raises(TypeError, match='integer'):
        generator(torch.zeros(1, 16, 16))
    for name in ('num_classes', 'base_channels', 'num_stages', 'num_blocks'):
        with pytest.raises(ValueError, match=name):
            Pix2PixHDGenerator(**{name: 0})


def test_least_squares_losses_equal_the_reference():
    real, fake = random_outputs(0), random_outputs(1)
    loss = LeastSquaresGANLoss(loss_weight=3)
    real_np, fake_np = ([scale[-1].double().numpy() for scale in outputs] for outputs in (real, fake))
    expected = [np.mean([((p - 1)**2).mean() for p in real_np]), np.mean([(p**2).mean() for p in fake_np])]
    np.testing.assert_allclose([value.item() for value in loss.discriminator(real, fake)], expected, rtol=1e-6)
    np.testing.assert_allclose(
        loss.generator(fake).item(), 3 * np.mean([((p - 1)**2).mean() for p in fake_np]), rtol=1e-6)


def test_every_parameter_moves_in_a_train_step():
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='Resynthesizer',
            generator=TINY,
            gan_loss=dict(type='LeastSquaresGANLoss'),
            pixel_loss_weight=1.0,
            data_preprocessor=PREPROCESSOR,
            discriminator=dict(
                type='MultiScalePatchDiscriminator', in_channels=23, base_channels=4, num_layers=3,
                spectral_norm=False)))
    model.init_weights()
    received = {}
    for name, param in model.named_parameters():
        param.register_post_accumulate_grad_hook(lambda p, name=name: received.update({name: p.grad.isfinite().all()}))
    losses = model.train_step(make_batch(), OptimWrapper(torch.optim.Adam(model.parameters(), 1e-3)))
    assert all(torch.isfinite(value) for value in losses.values())
    assert set(received) == {name for name, _ in model.named_parameters()} and all(received.values())
