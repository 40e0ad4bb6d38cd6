# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import sys

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmseg.registry import MODELS

import mgcda  # noqa: F401

TOOL = 'tools/model_converters/synboost_to_mgcda.py'
#: Output and input channels and kernel size of every convolution of SynBoost's DissimNetPrior, by its published name.
CONVOLUTIONS = {
    **{f'vgg_encoder.{name}': (o, i, 3) for name, o, i in (
        ('layer1.0', 64, 3), ('layer1.2', 64, 64), ('layer2.1', 128, 64), ('layer2.3', 128, 128),
        ('layer3.1', 256, 128), ('layer3.3', 256, 256), ('layer3.5', 256, 256), ('layer4.1', 512, 256),
        ('layer4.3', 512, 512), ('layer4.5', 512, 512))},
    **{f'semantic_encoder.hidden_layers.{i}.0': (o, c, k) for i, o, c, k in (
        (0, 32, 19, 7), (1, 64, 32, 3), (2, 128, 64, 3), (3, 256, 128, 3))},
    **{f'prior_encoder.hidden_layers.{i}.0': (o, c, k) for i, o, c, k in (
        (0, 64, 3, 7), (1, 128, 64, 3), (2, 256, 128, 3), (3, 512, 256, 3))},
    'conv1.0': (256, 513, 3), 'conv12.0': (256, 513, 3), 'conv3.0': (128, 385, 3), 'conv5.0': (64, 193, 3),
    'conv7': (512, 1280, 1), 'conv8': (256, 640, 1), 'conv9': (128, 320, 1), 'conv10': (64, 160, 1),
    'conv11': (2, 64, 1), 'tconv1': (256, 256, 2), 'tconv3': (256, 256, 2), 'tconv2': (128, 128, 2),
}  # yapf: disable
for refine, width in (('conv2', 256), ('conv13', 256), ('conv4', 128), ('conv6', 64)):
    CONVOLUTIONS[f'{refine}.conv'] = (width, width, 3)
    for norm in ('norm1', 'norm2'):
        CONVOLUTIONS[f'{refine}.{norm}.shared.0'] = (128, 19, 3)
        CONVOLUTIONS[f'{refine}.{norm}.gamma'] = CONVOLUTIONS[f'{refine}.{norm}.beta'] = (width, 128, 3)


@pytest.fixture
def published():
    """Random weights under SynBoost's names."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, (out_channels, in_channels, kernel) in CONVOLUTIONS.items():
        scale = (2 / (in_channels * kernel * kernel))**0.5
        shape = (out_channels, in_channels, kernel, kernel)
        state[f'{name}.weight'] = torch.randn(shape, generator=generator) * scale
        state[f'{name}.bias'] = torch.randn(out_channels, generator=generator) * 0.1
    return state


def build():
    return MODELS.build(
        ConfigDict(
            type='DissimilaritySegmentor',
            backbone=dict(type='VGGPyramid'),
            decode_head=dict(type='DissimilarityDecodeHead', in_channels=(64, 128, 256, 512)))).eval()


def published_forward(state, image, synthesis, semantic, uncertainty):
    """The published network, written out over its own names."""

    def conv(name, x, **kwargs):
        return F.conv2d(x, state[f'{name}.weight'], state[f'{name}.bias'], **kwargs)

    def vgg(x):
        outs = []
        for layer, indices in (('layer1', (0, 2)), ('layer2', (1, 3)), ('layer3', (1, 3, 5)), ('layer4', (1, 3, 5))):
            x = F.max_pool2d(x, 2) if outs else x
            for index in indices:
                x = conv(f'vgg_encoder.{layer}.{index}', x, padding=1).relu()
            outs.append(x)
        return outs

    def encoder(name, x):
        outs = []
        for i in range(4):
            x = conv(f'{name}.hidden_layers.{i}.0', x, padding=1 if i else 3, stride=2 if i else 1).relu()
            outs.append(x)
        return outs

    def spade(name, x):
        label = F.interpolate(semantic, size=x.shape[2:], mode='nearest')
        hidden = conv(f'{name}.shared.0', label, padding=1).relu()
        return F.instance_norm(x) * (1 + conv(f'{name}.gamma', hidden, padding=1)) + conv(
            f'{name}.beta', hidden, padding=1)

    of_image, of_synthesis = vgg(image), vgg(synthesis)
    of_semantic, of_prior = encoder('semantic_encoder', semantic), encoder('prior_encoder', uncertainty)
    x = None
    for level, first, refine, up, fusion in ((3, 'conv1', 'conv2', 'tconv1', 'conv7'), (2, 'conv12', 'conv13', 'tconv3',
                                                                                        'conv8'),
                                             (1, 'conv3', 'conv4', 'tconv2', 'conv9'), (0, 'conv5', 'conv6', None,
                                                                                        'conv10')):
        a, b = of_image[level], of_synthesis[level]
        fused = conv(fusion, torch.cat([a, b, of_semantic[level]], 1)) * of_prior[level]
        parts = [(a * b).sum(1, keepdim=True), fused]
        x = torch.cat(parts if x is None else [x, *parts], 1)
        x = F.selu(conv(f'{first}.0', x, padding=1))
        x = F.selu(spade(f'{refine}.norm2', conv(f'{refine}.conv', F.selu(spade(f'{refine}.norm1', x)), padding=1)))
        if up:
            x = F.conv_transpose2d(x, state[f'{up}.weight'], state[f'{up}.bias'], stride=2)
    return conv('conv11', x)


def test_converted_weights_give_the_published_function(published, load_tool):
    model = build()
    model.load_state_dict(load_tool(TOOL).convert(published))
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(1, 6, 32, 64, generator=generator)
    semantic = torch.randint(0, 20, (1, 32, 64), generator=generator)
    semantic[semantic == 19] = 255
    uncertainty = torch.rand(1, 3, 32, 64, generator=generator)
    one_hot = torch.stack([(semantic == k).float() for k in range(19)], dim=1)
    with torch.no_grad():
        expected = published_forward(published, images[:, :3], images[:, 3:], one_hot, uncertainty)
        actual = model(torch.cat([images, semantic[:, None].float(), uncertainty], dim=1))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    assert expected.abs().max() > 1e-2


def test_tool_writes_a_checkpoint_and_refuses_other_weights(published, load_tool, tmp_path, monkeypatch):
    tool = load_tool(TOOL)
    source, target = tmp_path / 'published.pth', tmp_path / 'out' / 'converted.pth'
    torch.save({f'module.{key}': value for key, value in published.items()}, source)
    monkeypatch.setattr(sys, 'argv', ['synboost_to_mgcda.py', str(source), str(target)])
    tool.main()
    assert set(torch.load(target, weights_only=True)['state_dict']) == set(build().state_dict())
    assert [path.name for path in target.parent.iterdir()] == ['converted.pth']
    published.pop('conv2.norm1.gamma.weight')
    with pytest.raises(ValueError, match='conv2.norm1.gamma.weight'):
        tool.convert(published)
