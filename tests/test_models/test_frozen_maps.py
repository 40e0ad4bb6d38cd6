# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import importlib.util
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS
from PIL import Image

import mgcda  # noqa: F401
from mgcda.structures import MAP_KINDS

ROOT = Path(__file__).parents[2]

SEGMENTER = """
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
                           bgr_to_rgb=True),
    backbone=dict(type='ResNetV1c', depth=18, base_channels=4, num_stages=4, out_indices=(0, 1, 2, 3),
                  stem_channels=4, norm_cfg=dict(type='BN')),
    decode_head=dict(type='FCNHead', in_channels=32, in_index=3, channels=8, num_convs=1, num_classes=19,
                     norm_cfg=dict(type='BN')),
    test_cfg=dict(mode='whole'))
"""
GENERATOR = """
model = dict(type='Resynthesizer',
             generator=dict(type='SPADEGenerator', base_channels=4, num_stages=3, hidden_channels=8))
"""


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture
def frozen(tmp_path):
    """Config of frozen networks with sharp, saved random weights."""
    torch.manual_seed(0)
    out = {}
    for role, text in (('segmenter', SEGMENTER), ('generator', GENERATOR)):
        config, checkpoint = tmp_path / f'{role}.py', tmp_path / f'{role}.pth'
        config.write_text(text)
        scope = {}
        exec(text, scope)
        model = scope['model'] if role == 'segmenter' else scope['model']['generator']
        network = MODELS.build(ConfigDict(model))
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name.endswith('conv_seg.weight'):
                    parameter.mul_(400)
        prefix = 'generator.' if role == 'generator' else ''
        torch.save(dict(state_dict={prefix + k: v for k, v in network.state_dict().items()}), checkpoint)
        out[role] = dict(config=str(config), checkpoint=str(checkpoint))
    return dict(type='FrozenMaps', segmenter_size=(1024, 2048), generator_size=(256, 512), **out)


def smooth_image(seed, height, width):
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image.astype(int) + rng.integers(-9, 10, image.shape), 0, 255).astype(np.uint8)


def run_tool(monkeypatch, *args):
    path = ROOT / 'tools' / 'dataset_converters' / 'make_maps.py'
    spec = importlib.util.spec_from_file_location('make_maps', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(sys, 'argv', ['make_maps.py', *map(str, args), '--workers', '0'])
    tool.main()


def reference_maps(logits, normalisation):
    """Entropy and distance by their equations, in float64 NumPy."""
    z = logits.astype(np.float64)
    p = np.exp(z - z.max(0))
    p /= p.sum(0)
    e = -(p * np.log(np.maximum(p, 1e-300))).sum(0)
    top = np.sort(p, axis=0)
    d = top[-1] - top[-2]
    if normalisation == 'absolute':
        return e / np.log(len(z)), 1 - d
    return (e - e.min()) / e.max(), 1 - (d - d.min()) / d.max()


@pytest.mark.parametrize('normalisation', ['image', 'absolute'])
def test_uncertainty_maps_follow_their_equations(frozen, normalisation):
    frozen.update(segmenter_size=(64, 96), generator_size=(32, 48), normalisation=normalisation, perceptual_scale=0.5)
    network = MODELS.build(frozen)
    image = torch.from_numpy(smooth_image(0, 64, 96)).permute(2, 0, 1)[None].float()
    maps = network(image)
    with torch.no_grad():
        logits = network._segment(image)[0].numpy()
    entropy, distance = reference_maps(logits, normalisation)
    np.testing.assert_allclose(maps['entropy'][0, 0].numpy(), entropy, atol=2e-5)
    np.testing.assert_allclose(maps['distance'][0, 0].numpy(), distance, atol=2e-5)
    np.testing.assert_array_equal(maps['semantic'][0, 0].numpy(), logits.argmax(0))
    for kind in ('entropy', 'perceptual', 'distance'):
        assert 0 <= maps[kind].min() and maps[kind].max() <= 1
    if normalisation == 'image':
        assert maps['perceptual'].min() == 0 and abs(maps['perceptual'].max().item() - 1) < 1e-6
    assert 0 <= maps['synthesis'].min() and maps['synthesis'].max() <= 255


def test_offline_and_online_maps_agree_within_the_rounding(frozen, tmp_path, monkeypatch):
    """Sizes of image, segmenter, generator and network all differ; then the network has the generator's."""
    frozen.update(segmenter_size=(256, 384), generator_size=(64, 96))
    images = tmp_path / 'images'
    images.mkdir()
    cv2.imwrite(str(images / 'a.png'), smooth_image(1, 200, 300))
    labels = tmp_path / 'labels'
    labels.mkdir()
    cv2.imwrite(str(labels / 'a.png'), np.zeros((200, 300), np.uint8))
    config = tmp_path / 'model.py'
    config.write_text(f'model = dict(frozen={frozen!r})')
    run_tool(monkeypatch, config, images, tmp_path / 'maps')

    sizes = {kind: cv2.imread(str(tmp_path / 'maps' / kind / 'a.png')).shape[:2] for kind in MAP_KINDS}
    assert sizes == dict(
        synthesis=(64, 96), perceptual=(64, 96), semantic=(256, 384), entropy=(256, 384), distance=(256, 384))
    dataset = dict(
        type='FishyscapesDataset', data_root=str(tmp_path), data_prefix=dict(img_path='images', seg_map_path='labels'))
    tail = [dict(type='PackDissimilarityInputs')]
    segmentor = MODELS.build(
        ConfigDict(
            type='DissimilaritySegmentor',
            frozen=frozen,
            backbone=dict(type='VGGPyramid', depth=11),
            decode_head=dict(type='DissimilarityDecodeHead', in_channels=(64, 128, 256, 512)),
            test_cfg=dict(mode='whole')))
    std = segmentor.data_preprocessor.std
    # Files are rounded when they are written; resizing, in 8 bits, rounds once more.
    for work, resampling, steps in (((96, 144), 'smooth', 1), ((64, 96), 'smooth', 1), ((64, 96), 'nearest', 0.5)):
        offline = DATASETS.build(
            dict(
                dataset,
                maps_root=str(tmp_path / 'maps'),
                pipeline=[
                    dict(type='LoadImage'),
                    dict(type='LoadDissimilarityMaps'),
                    dict(type='ResizeDissimilarityInputs', scale=work[::-1], resampling=resampling), *tail
                ]))[0]
        online = DATASETS.build(dict(dataset, pipeline=[dict(type='LoadImage'), *tail]))[0]
        segmentor.work_size, segmentor.resampling = work, resampling
        from_files = segmentor.data_preprocessor(dict(inputs=[offline['inputs']]))['inputs']
        made = segmentor.add_maps(segmentor.data_preprocessor(dict(inputs=[online['inputs']]))['inputs'])
        assert from_files.shape == made.shape == (1, 10, *work)
        of_synthesis = 0.5 if work == (64, 96) else 1  # the size that it has on disk
        assert ((from_files[:, :3] - made[:, :3]).abs() * std).max() <= 1.0 + 1e-3
        assert ((from_files[:, 3:6] - made[:, 3:6]).abs() * std).max() <= of_synthesis + 1e-3
        assert torch.equal(from_files[:, 6], made[:, 6])
        assert (from_files[:, 7:] - made[:, 7:]).abs().max() <= steps / 255 + 1e-6
        assert made[:, 6].unique().numel() > 2 and made[:, 7:].std() > 0.01


def test_tool_resumes_and_never_mixes_settings(frozen, tmp_path, monkeypatch, capsys):
    frozen.update(segmenter_size=(64, 96), generator_size=(32, 48))
    images = tmp_path / 'images' / 'city'
    images.mkdir(parents=True)
    for i in range(3):
        cv2.imwrite(str(images / f'{i}.jpg'), smooth_image(i, 40, 60))
    config = tmp_path / 'model.py'
    config.write_text(f'model = dict(frozen={frozen!r})')
    out = tmp_path / 'maps'
    run_tool(monkeypatch, config, tmp_path / 'images', out)
    files = sorted(out.rglob('*.png'))
    assert len(files) == 3 * len(MAP_KINDS) and not list(out.rglob('*.tmp'))
    before = {path: path.read_bytes() for path in files}
    lost = out / 'entropy' / 'city' / '1.png'
    lost.unlink()
    times = {path: path.stat().st_mtime_ns for path in files if path != lost}
    capsys.readouterr()
    run_tool(monkeypatch, config, tmp_path / 'images', out)
    assert '1 of 3 images' in capsys.readouterr().out
    assert {path: path.read_bytes() for path in files} == before
    unchanged = [path for path, t in times.items() if path.stat().st_mtime_ns == t]
    assert len(unchanged) == len(files) - len(MAP_KINDS)

    frozen.update(normalisation='absolute')
    config.write_text(f'model = dict(frozen={frozen!r})')
    with pytest.raises(ValueError, match=r'other settings \(normalisation'):
        run_tool(monkeypatch, config, tmp_path / 'images', out)
    notes = dict(json.loads((out / 'maps.json').read_text()), normalisation='absolute')
    assert notes['type'] == 'FrozenMaps'
    for key in ('map_sizes', 'segmenter_interpolation'):  # an earlier version wrote all maps at the image's size
        del notes[key]
    (out / 'maps.json').write_text(json.dumps(notes))
    with pytest.raises(ValueError, match=r'other settings \(map_sizes, segmenter_interpolation;'):
        run_tool(monkeypatch, config, tmp_path / 'images', out)


def test_tool_never_mixes_maps_of_other_weights_and_overwrites_all(frozen, tmp_path, monkeypatch, capsys):
    frozen.update(segmenter_size=(64, 96), generator_size=(32, 48), uncertainty=False)
    images, out, config = tmp_path / 'images', tmp_path / 'maps', tmp_path / 'model.py'
    images.mkdir()
    for name in ('a.JPG', 'b.JPG'):
        cv2.imwrite(str(images / name), smooth_image(0, 40, 60))
    weights = Path(frozen['generator']['checkpoint'])

    def run(*options):
        config.write_text(f'model = dict(frozen={frozen!r})')
        run_tool(monkeypatch, config, images, out, '--suffixes', '.JPG', *options)

    frozen['generator']['checkpoint'] = 'nowhere.pth'
    with pytest.raises(FileNotFoundError, match='nowhere.pth does not exist; the config .* says how'):
        run()
    assert not out.exists()  # or the first working command would be one of other settings
    frozen['generator']['checkpoint'] = str(weights)
    run()
    notes = json.loads((out / 'maps.json').read_text())
    assert list(notes['sha256']) == sorted([frozen['segmenter']['checkpoint'], str(weights)])

    state = torch.load(weights)
    state['state_dict'] = {key: 2 * value for key, value in state['state_dict'].items()}
    torch.save(state, weights)
    with pytest.raises(ValueError, match=r'other settings \(sha256'):
        run()
    (out / 'maps.json').write_text(json.dumps({key: value for key, value in notes.items() if key != 'sha256'}))
    run()  # a folder of an earlier version
    assert '0 of 2 images' in capsys.readouterr().out
    (out / 'maps.json').write_text(json.dumps(notes))
    (images / 'b.JPG').unlink()
    run('--overwrite')
    assert sorted(path.name for path in out.rglob('*.png')) == ['a.png', 'a.png']


def test_tool_without_networks_or_with_options_that_the_config_lacks(frozen, tmp_path, monkeypatch):
    (tmp_path / 'model.py').write_text(f'model = dict(frozen={frozen!r})')
    with pytest.raises(ValueError, match="no key 'modle', did you mean 'model'"):
        run_tool(monkeypatch, tmp_path / 'model.py', tmp_path, tmp_path / 'maps', '--cfg-options', 'modle.frozen.x=1')
    (tmp_path / 'data.py').write_text('train_dataloader = dict()')
    with pytest.raises(ValueError, match='data.py has no model.frozen'):
        run_tool(monkeypatch, tmp_path / 'data.py', tmp_path, tmp_path / 'maps')


def test_without_uncertainty_one_pass_each_makes_the_same_maps(frozen, tmp_path, monkeypatch, capsys):
    frozen.update(segmenter_size=(64, 96), generator_size=(32, 48))
    network, full = MODELS.build(dict(frozen, uncertainty=False)), MODELS.build(frozen)
    passes = []
    network.segmenter.backbone.register_forward_hook(lambda *args: passes.append('segmenter'))
    network.generator.register_forward_hook(lambda *args: passes.append('generator'))
    image = torch.from_numpy(smooth_image(0, 40, 60)).permute(2, 0, 1)[None].float()
    maps, expected = network(image), full(image)
    assert list(maps) == ['synthesis', 'semantic'] and passes == ['segmenter', 'generator']
    assert all(torch.equal(value, expected[kind]) for kind, value in maps.items())

    segmentor = MODELS.build(
        ConfigDict(
            type='DissimilaritySegmentor',
            frozen=dict(frozen, uncertainty=False),
            work_size=(32, 48),
            backbone=dict(type='VGGPyramid', depth=11),
            decode_head=dict(type='DissimilarityDecodeHead', in_channels=(64, 128, 256, 512), uncertainty=False)))
    inputs = segmentor.add_maps(segmentor.data_preprocessor.normalise(image))
    assert inputs.shape == (1, 10, 32, 48) and not inputs[:, 7:].any() and inputs[:, 3:6].std() > 0

    cv2.imwrite(str(tmp_path / 'a.png'), smooth_image(0, 40, 60))
    (tmp_path / 'model.py').write_text(f'model = dict(frozen={dict(frozen, uncertainty=False)!r})')
    run_tool(monkeypatch, tmp_path / 'model.py', tmp_path, tmp_path / 'maps')
    assert '1 of 1 images: 2 maps each' in capsys.readouterr().out
    assert {path.parent.name for path in (tmp_path / 'maps').rglob('*.png')} == {'synthesis', 'semantic'}


def test_uncertainty_settings_that_contradict_each_other_are_refused(frozen):
    perceptual = dict(backbone=dict(type='VGGPyramid', depth=11, num_stages=5, position='first'), weights=(1, ) * 5)
    with pytest.raises(ValueError, match='perceptual must be None'):
        MODELS.build(dict(frozen, uncertainty=False, perceptual=perceptual))
    with pytest.raises(ValueError, match='set both options alike'):
        MODELS.build(
            ConfigDict(
                type='DissimilaritySegmentor',
                frozen=dict(frozen, uncertainty=False),
                backbone=dict(type='VGGPyramid', depth=11),
                decode_head=dict(type='DissimilarityDecodeHead', in_channels=(64, 128, 256, 512))))


def test_truncated_image_is_named_and_leaves_nothing(frozen, tmp_path, monkeypatch):
    frozen.update(segmenter_size=(64, 96), generator_size=(32, 48))
    images = tmp_path / 'images'
    images.mkdir()
    data = cv2.imencode('.png', smooth_image(0, 40, 60))[1].tobytes()
    (images / 'broken.png').write_bytes(data[:len(data) // 2])
    config = tmp_path / 'model.py'
    config.write_text(f'model = dict(frozen={frozen!r})')
    with pytest.raises(ValueError, match='broken.png'):
        run_tool(monkeypatch, config, images, tmp_path / 'maps')
    assert not list((tmp_path / 'maps').rglob('*.png'))


def test_frozen_networks_stay_frozen_and_unsaved(frozen):
    frozen.update(segmenter_size=(64, 96), generator_size=(32, 48))
    segmentor = MODELS.build(
        ConfigDict(
            type='DissimilaritySegmentor',
            frozen=frozen,
            work_size=(32, 48),
            backbone=dict(type='VGGPyramid', depth=11),
            decode_head=dict(type='DissimilarityDecodeHead', in_channels=(64, 128, 256, 512))))
    weights = {k: v.clone() for k, v in segmentor.frozen.segmenter.state_dict().items()}
    segmentor.init_weights()
    segmentor.train()
    assert not any(m.training for m in segmentor.frozen.modules())
    assert not any(p.requires_grad for p in segmentor.frozen.parameters())
    state = segmentor.state_dict()
    assert not [k for k in state if k.startswith('frozen')]
    segmentor.load_state_dict(state)  # strict: missing frozen keys are forgiven
    for key, value in segmentor.frozen.segmenter.state_dict().items():
        assert torch.equal(value, weights[key])


def test_segmenter_sees_what_pillow_enlarges(frozen):
    """Bicubically by default, as SynBoost does."""
    frozen.update(segmenter_size=(96, 131), generator_size=(32, 48), uncertainty=False)
    image, seen = smooth_image(3, 40, 60), []
    for name, kwargs in (('BICUBIC', {}), ('BILINEAR', dict(segmenter_interpolation='bilinear'))):
        network = MODELS.build(dict(frozen, **kwargs))
        mean, std = network.segmenter.data_preprocessor.mean, network.segmenter.data_preprocessor.std
        network.segmenter.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(
            (inputs[0] * std + mean)[0].permute(1, 2, 0).numpy()))
        network(torch.from_numpy(image).permute(2, 0, 1)[None].float())
        expected = np.asarray(Image.fromarray(image[..., ::-1]).resize((131, 96), Image.Resampling[name]))
        assert np.abs(seen[-1].round() - expected).max() <= 1
    assert np.abs(seen[0] - seen[1]).max() > 2


def test_broken_frozen_settings_are_named(frozen, tmp_path):
    with pytest.raises(ValueError, match='segmenter_interpolation must be one of'):
        MODELS.build(dict(frozen, segmenter_interpolation='nearest'))
    with pytest.raises(FileNotFoundError, match='frozen.segmenter: config nowhere.py does not exist'):
        MODELS.build(dict(frozen, segmenter=dict(config='nowhere.py', checkpoint=None)))
    with pytest.raises(FileNotFoundError, match='nowhere.pth does not exist; the config .* says how'):
        MODELS.build(dict(frozen, generator=dict(frozen['generator'], checkpoint='nowhere.pth')))
    with pytest.raises(ValueError, match='frozen.generator: .*segmenter.pth does not fit the model'):
        MODELS.build(dict(frozen, generator=dict(frozen['generator'], checkpoint=frozen['segmenter']['checkpoint'])))
    with pytest.raises(ValueError, match='normalisation'):
        MODELS.build(dict(frozen, normalisation='none'))
    with pytest.raises(ValueError, match='checkpoint'):
        MODELS.build(dict(frozen, segmenter=dict(config='a.py')))
