# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Swapped maps: what is written, that runs agree, and the way from them to a tested network."""
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import DATASETS, MODELS
from tiny_dissimilarity import GENERATOR, SEGMENTER

from mgcda.labels import label_id_to_train_id
from mgcda.structures import MAP_KINDS

ROOT = Path(__file__).resolve().parents[2]
TOOL = 'tools/dataset_converters/make_swapped_maps.py'
KINDS = ('synthesis', 'semantic')


@pytest.fixture(scope='module')
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config that names a tiny generator; no segmenter is needed."""
    folder = tmp_path_factory.mktemp('generator')
    (folder / 'generator.py').write_text(GENERATOR)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        generator = MODELS.build(Config.fromfile(folder / 'generator.py', import_custom_modules=False).model.generator)
    torch.save(dict(state_dict={f'generator.{k}': v for k, v in generator.state_dict().items()}), folder / 'g.pth')
    frozen = dict(
        type='FrozenMaps',
        segmenter=dict(config='nowhere.py', checkpoint='nowhere.pth'),
        uncertainty=False,
        generator=dict(config=str(folder / 'generator.py'), checkpoint=str(folder / 'g.pth')),
        generator_size=(32, 64))
    (folder / 'config.py').write_text(f"custom_imports = dict(imports=['mgcda'])\nmodel = dict(frozen={frozen!r})")
    return folder / 'config.py'


@pytest.fixture(scope='module')
def whole_config(config: Path) -> Path:
    """The same with a tiny segmenter and uncertainty maps."""
    folder = config.parent
    (folder / 'segmenter.py').write_text(SEGMENTER)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        segmenter = MODELS.build(Config.fromfile(folder / 'segmenter.py', import_custom_modules=False).model)
    segmenter.decode_head.conv_seg.weight.data *= 300  # classes that differ from pixel to pixel
    torch.save(dict(state_dict=segmenter.state_dict()), folder / 's.pth')
    frozen = Config.fromfile(config).model.frozen.to_dict()
    frozen.update(
        segmenter=dict(config=str(folder / 'segmenter.py'), checkpoint=str(folder / 's.pth')),
        segmenter_size=(64, 128),
        uncertainty=True)
    (folder / 'whole.py').write_text(f"custom_imports = dict(imports=['mgcda'])\nmodel = dict(frozen={frozen!r})")
    return folder / 'whole.py'


@pytest.fixture
def make(config: Path, load_tool: Callable, monkeypatch: pytest.MonkeyPatch, capsys) -> Callable[..., str]:

    def run(root: Path, out: Path, *options: Any, config: Path = config) -> str:
        arguments = [TOOL, config, root, out, '--workers', 0, *options]
        monkeypatch.setattr(sys, 'argv', [str(argument) for argument in arguments])
        load_tool(TOOL).main()
        return capsys.readouterr().out

    return run


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob('*')) if path.is_file()}


def test_maps_and_labels_are_what_a_composite_data_set_reads(toy_root: Path, tmp_path: Path, make: Callable) -> None:
    root, out = toy_root / 'cityscapes', tmp_path / 'swapped'
    printed = make(root, out)
    assert 'objects: *_gtFine_instanceIds.png' in printed and '6 of 6 images' in printed
    dataset = DATASETS.build(
        dict(
            type='CompositeDataset',
            domain=0,
            maps_root=str(out),
            map_kinds=KINDS,
            data_prefix=dict(img_path=str(root / 'leftImg8bit/train'), seg_map_path=str(out / 'labels')),
            pipeline=[
                dict(type='LoadImage'),
                dict(type='LoadAnomalyAnnotations'),
                dict(type='LoadDissimilarityMaps', kinds=KINDS),
                dict(type='ResizeDissimilarityInputs'),
                dict(type='PackDissimilarityInputs')
            ]))
    assert len(dataset) == 6
    num_swapped = 0
    for sample in (dataset[i] for i in range(6)):
        inputs, target = sample['inputs'].numpy(), sample['data_samples'].gt_sem_seg.data[0].numpy()
        image = Path(sample['data_samples'].img_path)
        stem = image.name[:-len('_leftImg8bit.png')]
        truth = label_id_to_train_id()[read(root / 'gtFine/train' / image.parent.name / f'{stem}_gtFine_labelIds.png')]
        np.testing.assert_array_equal(inputs[:3].transpose(1, 2, 0), read(image))
        np.testing.assert_array_equal(target, np.where(truth == 255, 255, inputs[6] != truth))
        assert not inputs[7:].any() and inputs[3:6].std() > 0
        num_swapped += (target == 1).any()
    assert num_swapped >= 3


def test_synthesis_is_made_of_the_swapped_map(config: Path, toy_root: Path, tmp_path: Path, make: Callable) -> None:
    out = tmp_path / 'swapped'
    make(toy_root / 'cityscapes', out, '--fraction', 1)
    frozen = Config.fromfile(config).model.frozen.generator
    generator = MODELS.build(Config.fromfile(frozen.config, import_custom_modules=False).model.generator).eval()
    state = torch.load(frozen.checkpoint)['state_dict']
    generator.load_state_dict({key[len('generator.'):]: value for key, value in state.items()})
    for path in (out / 'semantic').rglob('*.png'):
        semantic = torch.from_numpy(read(path)[1::2, 1::2].astype(np.int64))  # 64x128 -> 32x64
        with torch.no_grad():
            image = (generator(semantic[None])[0].permute(1, 2, 0).numpy()[..., ::-1] + 1) * 127.5
        written = read(out / 'synthesis' / path.relative_to(out / 'semantic'))
        assert np.abs(image - written).max() <= 0.51


def test_runs_agree_resume_and_never_mix_settings(toy_root: Path, tmp_path: Path, make: Callable) -> None:
    root, out = toy_root / 'cityscapes', tmp_path / 'swapped'
    make(root, out)
    before = contents(out)
    assert len(before) == 3 * 6 + 1
    times = {path: (out / path).stat().st_mtime_ns for path in before}
    lost = [next(path for path in before if path.startswith(kind)) for kind in ('labels', 'synthesis')]
    for path in lost:  # both of the first image
        (out / path).unlink()
    assert '1 of 6 images' in make(root, out)
    assert contents(out) == before
    assert sum((out / path).stat().st_mtime_ns == time for path, time in times.items()) == len(times) - 3
    for options in (['--seed', 1], ['--fraction', 0.4], ['--instances', 'components']):
        with pytest.raises(ValueError, match='maps of other settings'):
            make(root, out, *options)
    other = tmp_path / 'other'
    make(root, other, '--seed', 1)
    assert contents(other)[lost[0]] != before[lost[0]]
    assert json.loads((other / 'swapped_maps.json').read_text())['seed'] == 1
    # A name that is alone gets the same swap as among others.
    alone = tmp_path / 'alone'
    first = lost[0].removeprefix('labels/').removesuffix('_gtFine_anomaly.png')
    for path in root.rglob(f'{Path(first).name}_*'):
        target = alone / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    make(alone, tmp_path / 'of_one')
    assert contents(tmp_path / 'of_one')[lost[0]] == before[lost[0]]


def test_components_where_there_are_no_instance_files(toy_root: Path, tmp_path: Path, make: Callable) -> None:
    root = tmp_path / 'cityscapes'
    shutil.copytree(toy_root / 'cityscapes', root)
    instances = sorted(root.rglob('train/*/*_instanceIds.png'))
    instances[0].unlink()
    with pytest.raises(ValueError, match=f'1 of 6 images .*{instances[0].name}; .*--instances components'):
        make(root, tmp_path / 'out')
    for path in instances[1:]:
        path.unlink()
    with pytest.raises(FileNotFoundError, match='6 of 6 images'):
        make(root, tmp_path / 'out', '--instances', 'ids')
    assert not (tmp_path / 'out').exists()
    assert 'connected components (no instance files are used)' in make(root, tmp_path / 'out')
    settings = json.loads((tmp_path / 'out/swapped_maps.json').read_text())
    assert settings['instances'] == 'components' and settings['min_area'] == 750 / 512 / 1024
    make(toy_root / 'cityscapes', tmp_path / 'same', '--instances', 'components')
    assert contents(tmp_path / 'same') == contents(tmp_path / 'out')


def test_recipe_of_synboost(whole_config: Path, toy_root: Path, tmp_path: Path, make: Callable) -> None:
    """Swapped objects and void are anomalies; all else is what the frozen networks say of the image."""
    root, out = toy_root / 'cityscapes', tmp_path / 'swapped'
    assert '6 of 6 images: 5 maps and a label each' in make(root, out, '--recipe', 'synboost', config=whole_config)
    network = MODELS.build(Config.fromfile(whole_config).model.frozen)
    num_swapped, num_void, shares = 0, 0, []
    for path in sorted((out / 'labels').rglob('*.png')):
        name = path.relative_to(out / 'labels').as_posix().removesuffix('_gtFine_anomaly.png')
        label_ids, target = read(root / f'gtFine/train/{name}_gtFine_labelIds.png'), read(path)
        objects = read(root / f'gtFine/train/{name}_gtFine_instanceIds.png')
        maps = {kind: read(out / kind / f'{name}_leftImg8bit.png') for kind in MAP_KINDS}
        image = torch.from_numpy(read(root / f'leftImg8bit/train/{name}_leftImg8bit.png')).permute(2, 0, 1)[None]
        alone = {kind: value[0] for kind, value in network(image.float()).items()}

        truth, void = label_id_to_train_id()[label_ids], np.isin(label_ids, (4, 5))
        assert (target[void] == 1).all() and (target[(truth == 255) & ~void] == 255).all()
        swapped = (target == 1) & ~void
        assert ((target == 0) == ((truth != 255) & ~swapped)).all()
        for number in np.unique(objects[swapped]):  # whole objects, each of one class that is not its own
            here = objects == number
            assert number >= 24000 and swapped[here].all() and len(np.unique(maps['semantic'][here])) == 1
            assert (maps['semantic'][here] != truth[here]).all()
        np.testing.assert_array_equal(maps['semantic'][~swapped], alone['semantic'][0].numpy()[~swapped])
        for kind in ('entropy', 'distance'):  # those of the image, whatever is swapped
            np.testing.assert_allclose(maps[kind], alone[kind][0] * 255, atol=0.51)
        semantic = torch.from_numpy(maps['semantic'][1::2, 1::2].astype(np.int64))  # 64x128 -> 32x64
        with torch.no_grad():
            small = (network.generator(semantic[None])[0].permute(1, 2, 0).numpy()[..., ::-1] + 1) * 127.5
        assert np.abs(small - maps['synthesis']).max() <= 0.51
        if swapped.any():
            assert np.abs(maps['perceptual'] - alone['perceptual'][0].numpy() * 255).max() > 1
        num_swapped, num_void = num_swapped + swapped.any(), num_void + void.any()
        things = [i for i in np.unique(objects) if i >= 24000 and i // 1000 not in (29, 30)]
        shares.append(len(np.unique(objects[swapped])) / max(len(things), 1))
    assert num_swapped >= 3 and num_void >= 3 and len(set(shares)) >= 3 and max(shares) < 1

    settings = json.loads((out / 'swapped_maps.json').read_text())
    assert settings['recipe'] == 'synboost' and settings['fraction'] is None and settings['void_ids'] == [4, 5]
    with pytest.raises(ValueError, match='maps of other settings'):
        make(root, out, '--recipe', 'synboost', '--void-ids', 4, config=whole_config)
    with pytest.raises(ValueError, match='needs uncertainty maps'):
        make(root, tmp_path / 'other', '--recipe', 'synboost')


@pytest.mark.parametrize('recipe', ['lis', 'synboost'])
def test_label_ids_that_count_as_normal(recipe: str, whole_config: Path, toy_root: Path, tmp_path: Path,
                                        make: Callable) -> None:
    """Their pixels are 0 in place of 255; nothing else differs from a run without the option."""
    root, options = toy_root / 'cityscapes', ('--recipe', recipe)
    make(root, tmp_path / 'none', *options, config=whole_config)
    make(root, tmp_path / 'ego', *options, '--normal-ids', 1, 6, config=whole_config)
    before, after = contents(tmp_path / 'none'), contents(tmp_path / 'ego')
    number = 0
    for path in sorted((tmp_path / 'ego/labels').rglob('*.png')):
        file = path.relative_to(tmp_path / 'ego').as_posix()
        name = file.removeprefix('labels/').removesuffix('_gtFine_anomaly.png')
        normal = np.isin(read(root / f'gtFine/train/{name}_gtFine_labelIds.png'), (1, 6))
        target = read(tmp_path / 'none' / file)
        assert (target[normal] == 255).all()
        np.testing.assert_array_equal(read(path), np.where(normal, 0, target))
        number += normal.sum()
        del before[file], after[file]
    assert number > 0
    settings = [json.loads(content.pop('swapped_maps.json')) for content in (before, after)]
    assert before == after and settings[1].pop('normal_ids') == [1, 6] and settings[0] == settings[1]


def test_wrong_input_is_named(toy_root: Path, tmp_path: Path, make: Callable) -> None:
    with pytest.raises(FileNotFoundError, match='leftImg8bit/test'):
        make(toy_root / 'cityscapes', tmp_path / 'out', '--split', 'test')
    with pytest.raises(FileNotFoundError, match='frozen.generator: checkpoint nowhere.pth does not exist'):
        make(toy_root / 'cityscapes', tmp_path / 'out', '--cfg-options',
             'model.frozen.generator.checkpoint=nowhere.pth')
    assert not (tmp_path / 'out').exists()
    for wrong in (['--fraction', 2], ['--fraction', 0], ['--void-ids',
                                                         4], ['--recipe', 'synboost', '--void-ids',
                                                              7], ['--normal-ids',
                                                                   7], ['--recipe', 'synboost', '--normal-ids', 5]):
        with pytest.raises(SystemExit):
            make(toy_root / 'cityscapes', tmp_path / 'out', *wrong)
    root = tmp_path / 'cityscapes'
    shutil.copytree(toy_root / 'cityscapes', root)
    path = sorted(root.rglob('train/*/*_instanceIds.png'))[2]
    cv2.imwrite(str(path), read(path)[1:])
    with pytest.raises(ValueError, match=f'{path.name}: instance ids of the size'):
        make(root, tmp_path / 'out')


def run_tool(*arguments: Any) -> str:
    env = {**os.environ, 'PYTHONPATH': 'projects', 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    env.pop('LOCAL_RANK', None)
    process = subprocess.run([sys.executable, *map(str, arguments)],
                             cwd=ROOT,
                             env=env,
                             stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT,
                             text=True,
                             timeout=600)
    assert process.returncode == 0, process.stdout[-5000:]
    return process.stdout


@pytest.mark.slow
def test_two_processes_share_the_work(config: Path, toy_root: Path, tmp_path: Path, make: Callable) -> None:
    root = toy_root / 'cityscapes'
    printed = run_tool('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', 2, TOOL, config, root,
                       tmp_path / 'two', '--launcher', 'pytorch', '--workers', 1)
    assert '6 of 6 images' in printed
    make(root, tmp_path / 'one')
    assert contents(tmp_path / 'two') == contents(tmp_path / 'one')


@pytest.mark.slow
@pytest.mark.parametrize('generator, name', [('pix2pixhd', 'image-resynthesis'), ('generator', 'image-resynthesis-pp'),
                                             ('generator', 'synboost')])
def test_swapped_maps_train_a_network_that_is_tested(generator: str, name: str, toy_root: Path, tmp_path: Path) -> None:
    """Frozen networks, swapped maps, training and test, each by its tool and its config."""
    root, out, config = toy_root / 'cityscapes', tmp_path / 'swapped', f'configs/toy/{name}.py'
    synboost = name == 'synboost'
    no_workers = [
        f'{part}_dataloader.{option}' for part in ('train', 'val', 'test')
        for option in ('num_workers=0', 'persistent_workers=False')
    ]

    def train(name: str, options: list[str]) -> Path:
        work = tmp_path / name
        run_tool('tools/train.py', f'configs/toy/{name}.py', '--work-dir', work, '--cfg-options', *options)
        return Path((work / 'last_checkpoint').read_text())

    short = ['train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'train_dataloader.batch_size=2', *no_workers]
    short += [f'{part}_dataloader.dataset.data_root={root}' for part in ('train', 'val', 'test')]
    segmenter = train('segmenter', [*short, 'model.data_preprocessor.size=(64,128)'])
    frozen = [
        f'model.frozen.segmenter.checkpoint={segmenter}',
        f'model.frozen.generator.checkpoint={train(generator, short)}', 'model.frozen.segmenter_size=(64,128)',
        'model.frozen.generator_size=(64,128)', 'model.work_size=(64,128)'
    ]
    recipe = ['--recipe', 'synboost'] if synboost else []
    run_tool(TOOL, config, root, out, '--workers', 0, *recipe, '--cfg-options', *frozen)
    datasets, tests = 'train_dataloader.dataset.datasets', [toy_root / 'road_anomaly', toy_root / 'fishyscapes']
    swapped = f'{datasets}.{int(synboost)}'
    options = [
        *no_workers, *frozen, 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'train_dataloader.batch_size=2',
        'train_dataloader.sampler.batch_size=2', f'train_dataloader.sampler.num_per_domain={2 - synboost}',
        f'{swapped}.data_prefix.img_path={root}/leftImg8bit/train', f'{swapped}.data_prefix.seg_map_path={out}/labels',
        f'{swapped}.maps_root={out}'
    ]
    options += [
        f'{part}_dataloader.dataset.datasets.{i}.data_root={test}'
        for part in (['test'] if synboost else ['val', 'test']) for i, test in enumerate(tests)
    ]
    if synboost:  # any five maps will do for the images as they are
        options += [
            f'{datasets}.0.data_root={root}', f'{datasets}.0.maps_root={out}',
            f'val_dataloader.dataset.data_root={root}'
        ]
    checkpoint = train(name, options)
    run_tool('tools/test.py', config, checkpoint, '--work-dir', tmp_path / 'test', '--cfg-options', *options)
    results = json.loads(max((tmp_path / 'test').glob('*/*.json')).read_text())
    scores = ('logit_margin/', 'SynBoostEnsemble/') if synboost else ('', )
    values = [
        results[f'{test}/{score}{metric}'] for test in ('ToyRoadAnomaly', 'ToyFishyscapes') for score in scores
        for metric in ('AP', 'FPR95', 'AUROC')
    ]
    assert all(0 <= value <= 100 for value in values)
