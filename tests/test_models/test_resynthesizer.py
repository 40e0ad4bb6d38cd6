# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mgcda  # noqa: F401
from mgcda.models.discriminators import MultiScalePatchDiscriminator, PatchDiscriminator
from mgcda.models.generators import Resynthesizer, SPADEGenerator
from mgcda.models.losses.gan_losses import (
    FeatureMatchingLoss,
    HingeGANLoss,
    VGGPerceptualLoss,
    feature_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
)

GENERATOR = dict(type='SPADEGenerator', base_channels=4, num_stages=2, hidden_channels=4)
DISCRIMINATOR = dict(type='MultiScalePatchDiscriminator', in_channels=23, num_scales=2, base_channels=4, num_layers=3)
PERCEPTUAL = dict(
    type='VGGPerceptualLoss',
    backbone=dict(type='VGGPyramid', depth=11, num_stages=2, position='first'),
    layer_weights=(0.5, 1.0))
PREPROCESSOR = dict(
    type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True, size_divisor=4, seg_pad_val=255)


def build_model(**kwargs) -> Resynthesizer:
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='Resynthesizer',
            generator=GENERATOR,
            discriminator=DISCRIMINATOR,
            data_preprocessor=PREPROCESSOR,
            **kwargs))


def make_batch(num=2, size=(32, 32), seed=1) -> dict:
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for _ in range(num):
        semantic = torch.randint(0, 20, (1, *size), generator=generator)
        semantic[semantic == 19] = 255
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=semantic.to(torch.uint8))))
    inputs = [torch.randint(0, 256, (3, *size), generator=generator).to(torch.uint8) for _ in range(num)]
    return dict(inputs=inputs, data_samples=samples)


def random_outputs(seed, num_scales=2):
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(2, c, 5 - s, 6, generator=generator) * 2 for c in (3, 4, 1)] for s in range(num_scales)]


# Generator


@pytest.mark.parametrize('num_stages', [1, 2, 4])
@pytest.mark.parametrize('out_shuffle', [1, 2])
@pytest.mark.parametrize('norm', ['instance', 'batch'])
def test_generator_makes_images_of_the_maps_size(num_stages, out_shuffle, norm):
    generator = SPADEGenerator(
        base_channels=2, num_stages=num_stages, hidden_channels=3, norm=norm, out_shuffle=out_shuffle)
    semantic = torch.randint(0, 19, (2, 32, 48), dtype=torch.uint8)
    images = generator(semantic)
    assert images.shape == (2, 3, 32, 48) and images.dtype == torch.float32
    assert images.abs().max() <= 1 and images.std() > 0


def test_generator_reads_the_map_alone():
    torch.manual_seed(0)
    generator = SPADEGenerator(base_channels=2, num_stages=2, hidden_channels=3).eval()
    semantic = torch.randint(0, 19, (1, 16, 16))
    semantic[0, :4] = 255
    images = generator(semantic)
    assert torch.equal(images, generator(semantic.to(torch.uint8)))
    other_unknown = torch.where(semantic == 255, 19, semantic)
    assert torch.equal(images, generator(other_unknown))
    assert not torch.equal(images, generator(torch.where(semantic == 255, 0, semantic)))


def test_generator_refuses_sizes_that_it_cannot_make():
    generator = SPADEGenerator(base_channels=2, num_stages=3, hidden_channels=3)
    with pytest.raises(ValueError, match='multiples of 8, got 16x20'):
        generator(torch.zeros(1, 16, 20, dtype=torch.int64))
    with pytest.raises(ValueError, match='larger than 8x8'):
        generator(torch.zeros(1, 8, 8, dtype=torch.int64))
    with pytest.raises(TypeError, match='integer'):
        generator(torch.zeros(1, 16, 16))


@pytest.mark.parametrize(
    'kwargs', [dict(num_classes=0),
               dict(base_channels=0),
               dict(num_stages=0),
               dict(out_shuffle=3),
               dict(norm='layer')])
def test_generator_refuses_bad_settings(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        SPADEGenerator(**kwargs)


def test_published_generator_has_the_published_number_of_convolution_weights():
    generator = SPADEGenerator(num_classes=19, norm='batch', spectral_norm=False)
    shapes = [tuple(p.shape) for n, p in generator.named_parameters() if '.conv_' in n and 'mlp' not in n]
    channels = [(1024, 1024)] * 3 + [(1024, 512), (512, 256), (256, 128), (128, 64)]
    expected = []
    for before, after in channels:
        expected += [(min(before, after), before, 3, 3), (after, min(before, after), 3, 3)]
        expected += [] if before == after else [(after, before, 1, 1)]
    assert shapes == expected


# Discriminators


def test_discriminators_return_every_layer_of_every_scale():
    outputs = MultiScalePatchDiscriminator(5, num_scales=2, base_channels=2, num_layers=3)(torch.randn(2, 5, 32, 48))
    shapes = [[tuple(layer.shape) for layer in scale] for scale in outputs]
    assert shapes == [[(2, 2, 17, 25), (2, 4, 9, 13), (2, 8, 10, 14), (2, 1, 11, 15)],
                      [(2, 2, 9, 13), (2, 4, 5, 7), (2, 8, 6, 8), (2, 1, 7, 9)]]


def test_discriminators_refuse_bad_settings():
    with pytest.raises(ValueError, match='num_layers'):
        PatchDiscriminator(3, num_layers=1)
    with pytest.raises(ValueError, match='num_scales'):
        MultiScalePatchDiscriminator(3, num_scales=0)


# Losses


def test_hinge_losses_equal_the_reference():
    real, fake = random_outputs(0), random_outputs(1)
    real_np, fake_np = ([scale[-1].double().numpy() for scale in outputs] for outputs in (real, fake))
    expected_real = np.mean([np.maximum(0, 1 - p).mean() for p in real_np])
    expected_fake = np.mean([np.maximum(0, 1 + p).mean() for p in fake_np])
    loss_real, loss_fake = hinge_discriminator_loss(real, fake)
    np.testing.assert_allclose([loss_real.item(), loss_fake.item()], [expected_real, expected_fake], rtol=1e-6)
    expected = -np.mean([p.mean() for p in fake_np])
    np.testing.assert_allclose(hinge_generator_loss(fake).item(), expected, rtol=1e-5)
    np.testing.assert_allclose(HingeGANLoss(loss_weight=3).generator(fake).item(), 3 * expected, rtol=1e-5)


def test_feature_matching_equals_the_reference_and_leaves_the_judgement_out():
    real, fake = random_outputs(0), random_outputs(1)
    expected = np.mean([
        sum(np.abs(f.double().numpy() - r.double().numpy()).mean() for f, r in zip(fs[:-1], rs[:-1]))
        for fs, rs in zip(fake, real)
    ])
    np.testing.assert_allclose(feature_matching_loss(fake, real).item(), expected, rtol=1e-6)
    np.testing.assert_allclose(FeatureMatchingLoss(loss_weight=10)(fake, real).item(), 10 * expected, rtol=1e-6)
    fake[0][-1] += 5
    np.testing.assert_allclose(feature_matching_loss(fake, real).item(), expected, rtol=1e-6)


def test_feature_matching_sends_no_gradient_to_the_image():
    real, fake = random_outputs(0, 1), random_outputs(1, 1)
    real[0][0].requires_grad_()
    fake[0][0].requires_grad_()
    feature_matching_loss(fake, real).backward()
    assert real[0][0].grad is None and fake[0][0].grad.abs().sum() > 0


def test_perceptual_loss_equals_the_weighted_feature_differences():
    torch.manual_seed(0)
    loss = MODELS.build(dict(PERCEPTUAL, loss_weight=2.0))
    fake, real = torch.rand(2, 3, 16, 16) * 2 - 1, torch.rand(2, 3, 16, 16) * 2 - 1
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])

    def features(x):
        x = ((x.numpy().transpose(0, 2, 3, 1) + 1) * 127.5 - mean) / std
        return loss.backbone(torch.from_numpy(x.transpose(0, 3, 1, 2)).float())

    expected = 2 * sum(w * (a.double() - b.double()).abs().mean().item()
                       for w, a, b in zip((0.5, 1.0), features(fake), features(real)))
    np.testing.assert_allclose(loss(fake, real).item(), expected, rtol=1e-4)
    assert loss(real, real).item() == 0


def test_perceptual_network_stays_frozen_and_out_of_checkpoints():
    model = build_model(perceptual_loss=PERCEPTUAL)
    model.train()
    assert not model.perceptual_loss.backbone.training
    assert not any(p.requires_grad for p in model.perceptual_loss.parameters())
    state = model.state_dict()
    assert state and not any('perceptual_loss' in key for key in state)
    other = build_model(perceptual_loss=PERCEPTUAL)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1)
    weights = {key: value.clone() for key, value in other.perceptual_loss.backbone.state_dict().items()}
    other.load_state_dict(state, strict=True)
    assert all(torch.equal(value, weights[key]) for key, value in other.perceptual_loss.backbone.state_dict().items())
    assert torch.equal(other.generator.stem.weight, model.generator.stem.weight)


def test_perceptual_loss_names_levels_and_weights_that_do_not_match():
    loss = VGGPerceptualLoss(backbone=PERCEPTUAL['backbone'], layer_weights=(1.0, ))
    with pytest.raises(ValueError, match='each of the 2 levels.*got 1'):
        loss(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))


# Training


def player_gradients(model, names):
    model.zero_grad(set_to_none=True)
    data = model.data_preprocessor(make_batch(), True)
    losses = model(**data, mode='loss')
    assert all(key.startswith('loss_') for key in losses)
    sum(value for key, value in losses.items() if key.startswith(names)).backward()
    return {
        player: sum(p.grad is not None for p in getattr(model, player).parameters())
        for player in ('generator', 'discriminator')
    }


def test_each_player_gets_the_gradient_of_its_own_terms():
    model = build_model(perceptual_loss=PERCEPTUAL, pixel_loss_weight=1.0)
    num = {player: len(list(getattr(model, player).parameters())) for player in ('generator', 'discriminator')}
    assert player_gradients(model, 'loss_gen') == dict(generator=num['generator'], discriminator=0)
    assert player_gradients(model, 'loss_disc') == dict(generator=0, discriminator=num['discriminator'])


@pytest.mark.parametrize(
    'kwargs', [dict(), dict(perceptual_loss=PERCEPTUAL, pixel_loss_weight=1.0),
               dict(feature_loss=None)])
def test_every_parameter_gets_a_gradient_in_a_train_step(kwargs):
    model = build_model(**kwargs)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    before = {name: p.detach().clone() for name, p in trained.items()}
    wrapper = OptimWrapper(torch.optim.SGD(trained.values(), lr=1.0))
    log_vars = model.train_step(make_batch(), wrapper)
    assert all(torch.isfinite(value) for value in log_vars.values())
    # The bias of the judgement gets +1/2 from images and -1/2 from syntheses as long as none is beyond the margin.
    unmoved = {name for name, p in trained.items() if torch.equal(p, before[name])}
    assert unmoved <= {f'discriminator.scales.{i}.layers.3.bias' for i in range(2)}
    assert trained and all(p.requires_grad for p in trained.values())


def test_modes():
    model = build_model().eval()
    batch = make_batch()
    data = model.data_preprocessor(batch, False)
    images = model(**data, mode='tensor')
    samples = model(**data, mode='predict')
    bgr = ((images.detach().flip(1) + 1) * 127.5).numpy()
    for image, sample in zip(bgr, samples):
        assert sample.synthesis.data.dtype == torch.uint8
        assert np.abs(sample.synthesis.data.numpy() - image).max() <= 0.501
    with pytest.raises(ValueError, match='gt_sem_seg'):
        model(data['inputs'], [SegDataSample()], mode='predict')
    with pytest.raises(ValueError, match='mode'):
        model(**data, mode='train')
    with pytest.raises(ValueError, match='pixel_loss_weight'):
        build_model(pixel_loss_weight=-1.0)


def test_losses_under_autocast_are_float32_and_finite():
    model = build_model()
    data = model.data_preprocessor(make_batch(), True)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model(**data, mode='loss')
    assert all(value.dtype == torch.float32 and torch.isfinite(value) for value in losses.values())
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


# The stock Runner on files


@pytest.fixture
def street_root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for folder in ('leftImg8bit', 'gtFine'):
            (tmp_path / 'data' / folder / split / 'town').mkdir(parents=True)
        for i in range(3):
            stem = f'town_{i:06d}_000019'
            image = rng.integers(0, 256, (40, 80, 3), dtype=np.uint8)
            label = np.repeat(np.repeat(rng.integers(0, 34, (5, 10), dtype=np.uint8), 8, 0), 8, 1)
            cv2.imwrite(str(tmp_path / f'data/leftImg8bit/{split}/town/{stem}_leftImg8bit.png'), image)
            cv2.imwrite(str(tmp_path / f'data/gtFine/{split}/town/{stem}_gtFine_labelIds.png'), label)
    return tmp_path / 'data'


def make_config(repo_root: Path, data_root: Path, work_dir: Path, max_iters: int) -> Config:
    cfg = Config.fromfile(str(repo_root / 'configs/spade/spade-light_cityscapes-128x256.py'))
    cfg.model.generator.update(base_channels=4, num_stages=2, hidden_channels=4)
    cfg.model.discriminator.update(base_channels=4)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg[name]
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(data_root)
        for step in loader.dataset.pipeline:
            if step.type == 'ResizeDissimilarityInputs':
                step.scale = (64, 32)
            if step.type == 'RandomFlip':  # the loop does not resume the random state of the data
                step.prob = 0.0
    cfg.train_dataloader.batch_size = 2
    cfg.merge_from_dict({
        'train_cfg.max_iters': max_iters,
        'train_cfg.val_interval': 100,
        'default_hooks.checkpoint.interval': 1,
        'work_dir': str(work_dir),
        'experiment_name': work_dir.name,
        'log_level': 'ERROR'
    })
    return cfg


def test_runner_trains_resumes_and_leaves_a_generator_that_others_can_load(tmp_path, repo_root, street_root):
    straight = Runner.from_cfg(make_config(repo_root, street_root, tmp_path / 'straight', 2))
    lrs = {group['lr'] for group in straight.build_optim_wrapper(straight.cfg.optim_wrapper).optimizer.param_groups}
    assert len(lrs) == 2 and max(lrs) == pytest.approx(4 * min(lrs))
    straight.train()
    sheets = list((tmp_path / 'straight').rglob('vis_image/*.png'))
    assert len(sheets) == 3 and cv2.imread(str(sheets[0])).shape == (32, 3 * 64, 3)

    cfg = make_config(repo_root, street_root, tmp_path / 'resumed', 2)
    cfg.load_from, cfg.resume = str(tmp_path / 'straight' / 'iter_1.pth'), True
    resumed = Runner.from_cfg(cfg)
    resumed.train()
    last = straight.model.state_dict()
    assert all(torch.equal(value, last[key]) for key, value in resumed.model.state_dict().items())

    checkpoint = str(tmp_path / 'straight' / 'iter_2.pth')
    generator = MODELS.build(
        dict(
            straight.cfg.model.generator, init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='generator.')))
    generator.init_weights()
    semantic = torch.randint(0, 19, (1, 32, 64))
    with torch.no_grad():
        assert torch.equal(generator.eval()(semantic), straight.model.eval().generator(semantic))


def test_published_config_builds_and_names_its_channels(repo_root):
    cfg = Config.fromfile(str(repo_root / 'configs/spade/spade_cityscapes-256x512.py'))
    assert cfg.model.discriminator.in_channels == 3 + cfg.model.generator.num_classes + 1
    cfg.model.generator.update(base_channels=2, hidden_channels=4)
    cfg.model.discriminator.update(base_channels=2)
    model = MODELS.build(cfg.model)
    losses = model(**model.data_preprocessor(make_batch(2, (64, 64)), True), mode='loss')
    assert set(losses) == {
        'loss_disc_real', 'loss_disc_fake', 'loss_gen_gan', 'loss_gen_feature', 'loss_gen_perceptual'
    }


# Two ranks


def _train_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    init_default_scope('mmseg')
    dist.init_process_group('gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    model = build_model()
    wrapped = MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=False)
    optimizer = OptimWrapper(torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.0, 0.9)))
    for step in range(3):
        batch = make_batch(seed=2 * step + rank)
        wrapped.train_step(batch, optimizer)
    torch.save(model.state_dict(), f'{folder}/rank{rank}.pth')
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_stay_identical_under_plain_ddp(tmp_path):
    torch.multiprocessing.spawn(_train_rank, (str(tmp_path), ), nprocs=2)
    first, second = (torch.load(tmp_path / f'rank{rank}.pth') for rank in range(2))
    start = build_model().state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert sum(not torch.equal(value, start[key]) for key, value in first.items()) > len(first) / 2
