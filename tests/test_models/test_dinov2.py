# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path

import mmpretrain
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import Tensor, nn

import mgcda  # noqa: F401

PATCH = 14
TINY = dict(
    type='DINOv2',
    arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32),
    out_indices=(0, 1, 2, 3),
    img_size=4 * PATCH)


@pytest.fixture(autouse=True)
def scope() -> None:
    init_default_scope('mmseg')


def build(**kwargs) -> nn.Module:
    """A tiny network whose position embedding, class token and norms are not what they start from."""
    torch.manual_seed(0)
    model = MODELS.build({**TINY, **kwargs})
    with torch.no_grad():
        for param in (model.pos_embed, model.cls_token, model.ln1.weight, model.ln1.bias):
            param.normal_()
    return model.eval()


@pytest.mark.parametrize('size, grid', [((64, 128), (4, 8)), ((32, 32), (2, 2)), ((33, 64), (4, 4)),
                                        ((720, 96), (46, 6)), ((1, 1), (2, 2))])
def test_shapes(size: tuple, grid: tuple) -> None:
    outs = build()(torch.rand(2, 3, *size))
    assert [tuple(out.shape) for out in outs] == [(2, 16, *grid)] * 4


@pytest.mark.parametrize('size', [(64, 64), (64, 128), (96, 32)])
def test_tokens_are_patches_of_the_resized_image_plus_the_position(size: tuple) -> None:
    """With blocks that change nothing, every output is the normalised embedding."""
    model = build()
    with torch.no_grad():
        for name, param in model.layers.named_parameters():
            if 'gamma' in name:
                param.zero_()
    assert all(torch.equal(layer(probe), probe) for layer in model.layers for probe in [torch.rand(1, 5, 16)])
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    grid = size[0] // 16, size[1] // 16
    resized = F.interpolate(image, (grid[0] * PATCH, grid[1] * PATCH), mode='bilinear', align_corners=False)
    projection = model.patch_embed.projection
    patches = F.conv2d(resized, projection.weight, projection.bias, stride=PATCH)
    position = model.pos_embed[:, 1:].reshape(1, 4, 4, 16).permute(0, 3, 1, 2)
    if grid != (4, 4):
        position = F.interpolate(position, grid, mode='bicubic', align_corners=False)
    tokens = (patches + position).permute(0, 2, 3, 1)
    expected = F.layer_norm(tokens, (16, ), model.ln1.weight, model.ln1.bias, 1e-6).permute(0, 3, 1, 2)
    for out in model(image):
        torch.testing.assert_close(out, expected)


def test_blocks_are_those_of_mmpretrain() -> None:
    """mmpretrain normalises the last output alone; at the size that its network was made for."""
    model = build()
    reference = MODELS.build(
        dict(
            type='mmpretrain.VisionTransformer',
            arch=TINY['arch'],
            img_size=4 * PATCH,
            patch_size=PATCH,
            out_indices=[0, 1, 2, 3],
            out_type='featmap',
            layer_scale_init_value=1e-5))
    reference.eval()
    reference.load_state_dict(model.state_dict())
    image = torch.rand(2, 3, 64, 64)
    outs = reference(F.interpolate(image, (56, 56), mode='bilinear', align_corners=False))
    norm = nn.LayerNorm(16, eps=1e-6)
    norm.load_state_dict(model.ln1.state_dict())
    expected = [norm(out.movedim(1, -1)).movedim(-1, 1) for out in outs[:-1]] + [outs[-1]]
    for out, reference_out in zip(model(image), expected):
        torch.testing.assert_close(out, reference_out)


@pytest.mark.parametrize('size', [(64, 96), (50, 90)])
def test_a_square_changes_the_tokens_over_it_most(size: tuple) -> None:
    model = build()
    rows, columns = 4, 6
    image = torch.zeros(1, 3, *size)
    for row, column in [(0, 0), (1, 4), (3, 5), (2, 1)]:
        bright = image.clone()
        bright[..., size[0] * row // rows:size[0] * (row + 1) // rows,
               size[1] * column // columns:size[1] * (column + 1) // columns] = 5
        for before, after in zip(model(image), model(bright)):
            change = (after - before).norm(dim=1)[0]
            assert change.shape == (rows, columns) and divmod(change.argmax().item(), columns) == (row, column)


def test_pyramid_covers_the_image_and_its_strides_double() -> None:
    neck = MODELS.build(
        dict(type='Feature2Pyramid', embed_dim=16, rescales=(4, 2, 1, 0.5), norm_cfg=dict(type='mmpretrain.LN2d')))
    for size in [(64, 96), (50, 90)]:
        levels = neck(build()(torch.rand(1, 3, *size)))
        assert [tuple(level.shape[-2:]) for level in levels] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_every_parameter_gets_a_gradient() -> None:
    model = build().train()
    image = torch.rand(1, 3, 32, 64, requires_grad=True)
    sum(out.square().sum() for out in model(image)).backward()
    assert all(param.grad is not None and param.grad.isfinite().all() for param in model.parameters())
    assert image.grad.abs().min() > 0


def frozen_names(model: nn.Module) -> set:
    return {name for name, param in model.named_parameters() if not param.requires_grad}


def test_frozen_blocks_stay_as_they_are() -> None:
    names = {name for name, _ in build().named_parameters()}
    assert frozen_names(build(frozen_stages=-1)) == frozen_names(build(frozen_stages=0)) == set()
    embeddings = {name for name in names if name.startswith(('pos_embed', 'cls_token', 'patch_embed'))}
    two = {name for name in names if name.startswith(('layers.0.', 'layers.1.'))}
    assert frozen_names(build(frozen_stages=2)) == embeddings | two
    assert frozen_names(build(frozen_stages=4)) == names

    model = build(frozen_stages=4, drop_rate=0.5, drop_path_rate=0.5)
    image = torch.rand(1, 3, 32, 32)
    expected = model(image)
    assert model.train() is model and model.training
    for out, before in zip(model(image), expected):
        assert torch.equal(out, before) and not out.requires_grad


def test_training_moves_only_what_is_not_frozen() -> None:
    model = build(frozen_stages=2).train()
    before: dict[str, Tensor] = {name: param.detach().clone() for name, param in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model(torch.rand(2, 3, 32, 32))[-1].square().mean().backward()
    optimizer.step()
    moved = {name for name, param in model.named_parameters() if not param.equal(before[name])}
    assert moved and moved.isdisjoint(frozen_names(model))


@pytest.mark.parametrize('options, message', [
    (dict(out_indices=(0, 1, 2)), r'last block, 3, got \(0, 1, 2\)'),
    (dict(out_indices=(1, 0, 3)), 'out_indices must ascend'),
    (dict(out_indices=(0, 3, 4)), 'out_indices must ascend'),
    (dict(out_indices=(-1, 3)), 'out_indices must ascend'),
    (dict(out_indices=()), 'out_indices must ascend'),
    (dict(frozen_stages=5), r'frozen_stages must be in -1\.\.4, got 5'),
    (dict(frozen_stages=-2), 'frozen_stages must be'),
])
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_checkpoint_of_a_classifier_loads(tmp_path: Path) -> None:
    """As mmpretrain publishes them: keys below 'backbone.'."""
    source = build()
    state = {f'backbone.{name}': value for name, value in source.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'dinov2.pth')
    model = MODELS.build(
        dict(TINY, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'dinov2.pth'), prefix='backbone.')))
    model.init_weights()
    for name, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_config_is_the_published_network(repo_root: Path) -> None:
    cfg = Config.fromfile(repo_root / 'configs/_base_/backbones/dinov2_vit-b.py')
    folder = Path(mmpretrain.__file__).parent / '.mim/configs/dinov2'
    published = Config.fromfile(folder / 'vit-base-p14_dinov2-pre_headless.py').model.backbone
    with torch.device('meta'):
        model = MODELS.build(cfg.backbone)
        reference = MODELS.build({**published, 'type': 'mmpretrain.VisionTransformer'})
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    assert shapes == {name: value.shape for name, value in reference.state_dict().items()}
    assert f"Weights: {cfg.backbone.init_cfg['checkpoint']}\n" in (folder / 'metafile.yml').read_text()
    assert not any(param.requires_grad for param in model.parameters())
