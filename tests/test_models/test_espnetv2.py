# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import math
import sys

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch.nn.modules.batchnorm import _BatchNorm

from mgcda.models.backbones import ESPNetv2
from mgcda.models.decode_heads import ESPNetv2Head

WIDTHS = (16, 32, 64, 128)
DECODER = (64, 48, 32)
SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)


class PublicWeights(dict):
    """Random weights under the public names, by part of the public network."""

    def __init__(self, num_outputs=20, channels=10):
        self.generator = torch.Generator().manual_seed(3)
        self.conv('base_net.level1.conv', WIDTHS[0], 3, 3)
        self.norm_act('base_net.level1.bn', 'base_net.level1.act', WIDTHS[0])
        for level, num_units in ((2, 0), (3, 3), (4, 7)):
            before, width, name = WIDTHS[level - 2], WIDTHS[level - 1], f'base_net.level{level}_0'
            self.unit(f'{name}.eesp', before, width - before)
            self.conv(f'{name}.inp_reinf.0.conv', 3, 3, 3)
            self.norm_act(f'{name}.inp_reinf.0.bn', f'{name}.inp_reinf.0.act', 3)
            self.conv(f'{name}.inp_reinf.1.conv', width, 3, 1)
            self.norm_act(f'{name}.inp_reinf.1.bn', None, width)
            self.norm_act(None, f'{name}.act', width)
            for index in range(num_units):
                self.unit(f'base_net.level{level}.{index}', width, width)
        widths = (WIDTHS[3], *DECODER)
        for level, width in enumerate(widths):
            name = f'bu_dec_l{level + 1}'
            for stage in range(5):
                self.conv(f'{name}.stages.{stage}', channels, 1, 3)
            self.conv(f'{name}.projection_layer.cbr.0', channels, width, 1)
            self.norm_act(f'{name}.projection_layer.cbr.1', f'{name}.projection_layer.cbr.2', channels)
            self.norm_act(f'{name}.merge_layer.0.br.0', f'{name}.merge_layer.0.br.1', 5 * channels)
            self.conv(f'{name}.merge_layer.2.cbr.0', channels, 5, 3)
            self.norm_act(f'{name}.merge_layer.2.cbr.1', f'{name}.merge_layer.2.cbr.2', channels)
            out = (*DECODER, num_outputs)[level]
            self.conv(f'{name}.merge_layer.3', out, channels, 1)
            if level < 3:
                self.norm_act(f'{name}.br.br.0', f'{name}.br.br.1', out)
        self['bu_dec_l4.merge_layer.3.bias'] = self.random(num_outputs)
        for level in (2, 3, 4):
            width, encoder = DECODER[level - 2], WIDTHS[4 - level]
            self.conv(f'merge_enc_dec_l{level}.wt_layer.1', width, encoder, 1)
            self.conv(f'merge_enc_dec_l{level}.expansion_layer.cbr.0', width, encoder // math.gcd(width, encoder), 3)
            self.norm_act(f'merge_enc_dec_l{level}.expansion_layer.cbr.1',
                          f'merge_enc_dec_l{level}.expansion_layer.cbr.2', width)
            self.norm_act(f'bu_br_l{level}.0', f'bu_br_l{level}.1', width)

    def random(self, *shape):
        return torch.randn(*shape, generator=self.generator)

    def conv(self, name, out, into, kernel):
        self[f'{name}.weight'] = self.random(out, into, kernel, kernel) / math.sqrt(into * kernel**2)

    def norm_act(self, norm, act, width):
        if norm:
            self[f'{norm}.weight'] = 1 + 0.1 * self.random(width)
            self[f'{norm}.bias'] = 0.1 * self.random(width)
            self[f'{norm}.running_mean'] = 0.1 * self.random(width)
            self[f'{norm}.running_var'] = 1 + 0.1 * self.random(width).abs()
            self[f'{norm}.num_batches_tracked'] = torch.tensor(7)
        if act:
            self[f'{act}.weight'] = 0.25 + 0.1 * self.random(width)

    def unit(self, name, into, out):
        width = out // 4
        self.conv(f'{name}.proj_1x1.conv', width, into // 4, 1)
        self.norm_act(f'{name}.proj_1x1.bn', f'{name}.proj_1x1.act', width)
        for branch in range(4):
            self.conv(f'{name}.spp_dw.{branch}.conv', width, 1, 3)
        self.conv(f'{name}.conv_1x1_exp.conv', out, width, 1)
        self.norm_act(f'{name}.conv_1x1_exp.bn', None, out)
        self.norm_act(f'{name}.br_after_cat.bn', f'{name}.br_after_cat.act', out)
        self.norm_act(None, f'{name}.module_act', out)


def apply(weights, x, conv=None, norm=None, act=None, **kwargs):
    """Convolution, batch normalisation with running statistics and PReLU, each where it is named."""
    if conv:
        x = F.conv2d(x, weights[f'{conv}.weight'], weights.get(f'{conv}.bias'), **kwargs)
    if norm:
        x = F.batch_norm(x, *(weights[f'{norm}.{key}'] for key in ('running_mean', 'running_var', 'weight', 'bias')))
    return F.prelu(x, weights[f'{act}.weight']) if act else x


def run_unit(weights, name, x, dilations, stride=1):
    reduced = apply(weights, x, f'{name}.proj_1x1.conv', f'{name}.proj_1x1.bn', f'{name}.proj_1x1.act', groups=4)
    fused = []
    for index, rate in enumerate(dilations):
        out = apply(
            weights,
            reduced,
            f'{name}.spp_dw.{index}.conv',
            stride=stride,
            padding=rate,
            dilation=rate,
            groups=reduced.shape[1])
        fused.append(out + fused[-1] if fused else out)
    out = apply(weights, torch.cat(fused, 1), None, f'{name}.br_after_cat.bn', f'{name}.br_after_cat.act')
    out = apply(weights, out, f'{name}.conv_1x1_exp.conv', f'{name}.conv_1x1_exp.bn', groups=4)
    return out if stride == 2 else apply(weights, out + x, act=f'{name}.module_act')


def run_pool(weights, name, x):
    x = apply(weights, x, *(f'{name}.projection_layer.cbr.{index}' for index in range(3)))
    channels, full = x.shape[1], x.shape[2:]
    seen = []
    for index, scale in enumerate(SCALES):
        size = [max(5, math.ceil(side * scale)) for side in full]
        if scale > 1:
            resized = F.interpolate(x, size, mode='bilinear', align_corners=True)
        else:
            resized = x if scale == 1 else F.adaptive_avg_pool2d(x, size)
        out = apply(weights, resized, f'{name}.stages.{index}', padding=1, groups=channels)
        if scale > 1:
            out = F.adaptive_avg_pool2d(out, full)
        elif scale < 1:
            out = F.interpolate(out, full, mode='bilinear', align_corners=True)
        seen.append(out)
    out = apply(weights, torch.cat(seen, 1), None, f'{name}.merge_layer.0.br.0', f'{name}.merge_layer.0.br.1')
    order = [scale * channels + channel for channel in range(channels) for scale in range(len(SCALES))]
    merge = [f'{name}.merge_layer.2.cbr.{index}' for index in range(3)]
    out = apply(weights, out[:, order], *merge, padding=1, groups=channels)
    out = apply(weights, out, f'{name}.merge_layer.3')
    return apply(weights, out, None, f'{name}.br.br.0',
                 f'{name}.br.br.1') if f'{name}.br.br.0.weight' in weights else out


def run_public(weights, image):
    """The public network in eval mode, straight from its weights."""
    feats = [
        apply(weights, image, 'base_net.level1.conv', 'base_net.level1.bn', 'base_net.level1.act', stride=2, padding=1)
    ]
    for level, num_units, dilations in ((2, 0, None), (3, 3, (1, 2, 3, 4)), (4, 7, (1, 1, 2, 3))):
        name, x = f'base_net.level{level}_0', feats[-1]
        out = torch.cat([F.avg_pool2d(x, 3, 2, 1), run_unit(weights, f'{name}.eesp', x, (1, 2, 3, 4), 2)], 1)
        small = image
        while small.shape[2:] != out.shape[2:]:
            small = F.avg_pool2d(small, 3, 2, 1)
        reinforce = f'{name}.inp_reinf'
        small = apply(weights, small, f'{reinforce}.0.conv', f'{reinforce}.0.bn', f'{reinforce}.0.act', padding=1)
        out = out + apply(weights, small, f'{reinforce}.1.conv', f'{reinforce}.1.bn')
        out = apply(weights, out, act=f'{name}.act')
        for index in range(num_units):
            out = run_unit(weights, f'base_net.level{level}.{index}', out, dilations)
        feats.append(out)
    out = run_pool(weights, 'bu_dec_l1', feats[3])
    for level, feat in ((2, feats[2]), (3, feats[1]), (4, feats[0])):
        out = F.interpolate(out, scale_factor=2, mode='bilinear', align_corners=True)
        name = f'merge_enc_dec_l{level}'
        gate = torch.sigmoid(apply(weights, feat.mean((2, 3), keepdim=True), f'{name}.wt_layer.1'))
        expansion = [f'{name}.expansion_layer.cbr.{index}' for index in range(3)]
        groups = math.gcd(feat.shape[1], out.shape[1])
        out = out + gate * apply(weights, feat, *expansion, padding=1, groups=groups)
        out = run_pool(weights, f'bu_dec_l{level}', apply(weights, out, None, f'bu_br_l{level}.0', f'bu_br_l{level}.1'))
    return F.interpolate(out, image.shape[2:], mode='bilinear', align_corners=True)


@pytest.fixture(scope='module')
def converter(load_tool):
    return load_tool('tools/model_converters/espnetv2_to_mgcda.py')


@pytest.fixture(scope='module')
def public_weights():
    return dict(PublicWeights())


def build_segmentor(**backbone):
    return MODELS.build(
        dict(
            type='EncoderDecoder',
            backbone=dict(type='ESPNetv2', widen_factor=0.5, **backbone),
            decode_head=dict(type='ESPNetv2Head', in_channels=WIDTHS, num_classes=19),
            test_cfg=dict(mode='whole')))


def test_converted_weights_give_the_public_networks_logits(converter, public_weights):
    converted, dropped = converter.convert(public_weights)
    segmentor = build_segmentor().eval()
    segmentor.load_state_dict(converted)
    image = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        expected = run_public(public_weights, image)[:, :19]
        seg_logits = segmentor.encode_decode(image, [dict(img_shape=(96, 128))] * 2)
    assert expected.std() > 0.1
    torch.testing.assert_close(seg_logits, expected, rtol=1e-4, atol=1e-5)
    assert len(dropped) == 5 and sum('module_act' in key for key in dropped) == 3
    num_unused = sum('_0.eesp.module_act' in key for key in public_weights)
    assert len(converted) == len(public_weights) - num_unused


@pytest.mark.parametrize('change, message', [
    (lambda state: state.update({'base_net.level9.weight': torch.zeros(1)}), "unknown key 'base_net.level9.weight'"),
    (lambda state: state.update({'epoch': torch.zeros(1)}), "unknown key 'epoch'"),
    (lambda state: state.update({'base_net.level3.8.module_act.weight': torch.zeros(64)}), 'unknown key .*level3.8'),
    (lambda state: state.pop('bu_br_l3.0.running_var'), r"no public weight for \['decode_head.norms.1.running_var'\]"),
    (lambda state: state.update({'bu_br_l3.0.bias': torch.zeros(2)}), r"'bu_br_l3.0.bias' has shape \(2,\)"),
    (lambda state: state.pop('base_net.level1.conv.weight'), 'not the weights of an ESPNetv2 segmenter'),
    (lambda state: state.update({'base_net.level1.conv.weight': torch.zeros(17, 3, 3, 3)}), r'\(17, 32\) channels'),
])
def test_converter_refuses_other_weights(converter, public_weights, change, message):
    state = dict(public_weights)
    change(state)
    with pytest.raises(ValueError, match=message):
        converter.convert(state)


class Crafted:

    def __reduce__(self):
        return print, ('run', )


def test_converter_writes_a_plain_checkpoint(converter, public_weights, tmp_path, monkeypatch, capsys):
    source, target = tmp_path / 'public.pth', tmp_path / 'new' / 'converted.pth'
    torch.save({f'module.{key}': value for key, value in public_weights.items()}, source)
    monkeypatch.setattr(sys, 'argv', ['espnetv2_to_mgcda.py', str(source), str(target)])
    converter.main()
    checkpoint = torch.load(target, weights_only=True)
    build_segmentor().load_state_dict(checkpoint['state_dict'])
    assert len(checkpoint['meta']['dataset_meta']['classes']) == 19
    assert [path.name for path in target.parent.iterdir()] == ['converted.pth']
    assert 'dropped base_net.level2_0.eesp.module_act.weight' in capsys.readouterr().out

    target.unlink()
    torch.save(dict(weight=Crafted()), source)
    with pytest.raises(ValueError, match='public.pth is refused: it holds objects that could run code'):
        converter.main()
    assert not list(target.parent.iterdir()) and 'run' not in capsys.readouterr().out


@pytest.mark.parametrize('size', [(64, 96), (37, 51)])
def test_pyramid(size):
    backbone = ESPNetv2(0.5, num_stages=5, out_indices=(0, 1, 2, 3, 4)).eval()
    feats = backbone(torch.randn(1, 3, *size))
    for index, (feat, width) in enumerate(zip(feats, (16, 32, 64, 128, 256))):
        stride = 2**(index + 1)
        assert feat.shape == (1, width, math.ceil(size[0] / stride), math.ceil(size[1] / stride))
    head = ESPNetv2Head(WIDTHS, num_classes=4).eval()
    assert head(feats[:4]).shape == (1, 4, 2 * math.ceil(size[0] / 2), 2 * math.ceil(size[1] / 2))
    picked = ESPNetv2(0.5, out_indices=(3, 1))(torch.randn(2, 3, *size))
    assert [feat.shape[1] for feat in picked] == [128, 32]


def test_published_size():
    # The public weights for 20 outputs hold 789,242: 480 belong to activations that are never used, 11 to the 20th.
    backbone, head = ESPNetv2(2.0), ESPNetv2Head(num_classes=19)
    num_parameters = sum(parameter.numel() for part in (backbone, head) for parameter in part.parameters())
    assert backbone.channels == (32, 128, 256, 512)
    assert num_parameters == 788_751


def test_every_parameter_learns():
    segmentor = build_segmentor()
    segmentor.init_weights()
    samples = []
    for index in range(2):
        label = torch.randint(0, 19, (1, 64, 64), generator=torch.Generator().manual_seed(index))
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=dict(img_shape=(64, 64))))
    losses = segmentor.loss(torch.randn(2, 3, 64, 64), samples)
    losses['decode.loss_ce'].backward()
    without = [name for name, parameter in segmentor.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert not without


def test_frozen_stages_and_norm_eval():
    backbone = ESPNetv2(0.5, frozen_stages=1, norm_eval=False).train()
    frozen = {name for name, parameter in backbone.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in backbone.named_parameters() if name.startswith(('stem.', 'stages.0.'))}
    for name, module in backbone.named_modules():
        if isinstance(module, _BatchNorm):
            assert module.training != name.startswith(('stem.', 'stages.0.'))
    backbone = ESPNetv2(0.5, norm_eval=True).train()
    assert not any(module.training for module in backbone.modules() if isinstance(module, _BatchNorm))
    assert backbone.training and all(parameter.requires_grad for parameter in backbone.parameters())


@pytest.mark.parametrize('arguments, message', [
    (dict(widen_factor=3.0), 'widen_factor must be one of'),
    (dict(num_stages=6), r'num_stages must be in 1..5, got 6'),
    (dict(out_indices=(0, 4)), r'out_indices must be among the 4 stages, got \(0, 4\)'),
    (dict(out_indices=()), 'out_indices'),
    (dict(frozen_stages=4), 'frozen_stages must be in -1..3'),
])
def test_bad_backbone_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ESPNetv2(**arguments)


def test_bad_head_arguments():
    with pytest.raises(ValueError, match='decoder_channels must be one fewer'):
        ESPNetv2Head((16, 32), num_classes=4)
    with pytest.raises(ValueError, match='in_index must name as many levels'):
        ESPNetv2Head(WIDTHS, in_index=(0, 1), num_classes=4)
