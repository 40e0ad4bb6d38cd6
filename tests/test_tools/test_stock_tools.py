# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Real configs, unchanged, through tools/train.py and tools/test.py: those of MMSegmentation, and ours."""
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import mmseg
import pytest
import torch
from official_layouts import write_layouts

ROOT = Path(__file__).resolve().parents[2]
STOCK = Path(mmseg.__file__).parent / '.mim/tools'
METRICS = ('AP', 'FPR95', 'AUROC')
# Two images a domain and one of each in a batch: an epoch is two iterations.
TINY = [
    'train_cfg.max_epochs=1', 'train_dataloader.batch_size=2', 'train_dataloader.sampler.batch_size=2',
    'train_dataloader.sampler.num_per_domain=1', 'train_dataloader.dataset.datasets.0.pipeline.3.scale=(64,32)',
    'train_dataloader.dataset.datasets.1.pipeline.3.scale=(64,32)', 'model.work_size=(32,64)',
    'model.frozen.segmenter_size=(32,64)', 'model.frozen.generator_size=(32,64)',
    'model.frozen.segmenter.checkpoint=None', 'model.frozen.generator.checkpoint=None',
    'default_hooks.logger.interval=1', 'env_cfg.mp_cfg.opencv_num_threads=1'
]
NO_WORKERS = [
    f'{part}_dataloader.{option}' for part in ('train', 'val', 'test')
    for option in ('num_workers=0', 'persistent_workers=False')
]
NO_DOWNLOADS = ['model.backbone.init_cfg=None', 'model.frozen.perceptual.backbone.init_cfg=None']


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data_sets')
    write_layouts(root)
    return root / 'data'


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def roots(part: str, folders: Sequence[Path]) -> list[str]:
    return [f'{part}_dataloader.dataset.datasets.{i}.data_root={folder}' for i, folder in enumerate(folders)]


def toy_options(data: Path) -> list[str]:
    toy = data / 'toy'
    tests = [toy / 'road_anomaly', toy / 'fishyscapes']
    return [
        *TINY, *NO_WORKERS, *roots('train', [toy / 'cityscapes', toy / 'anomaly_mix']), *roots('val', tests),
        *roots('test', tests), f'train_dataloader.dataset.datasets.0.maps_root={toy}/maps/cityscapes',
        f'train_dataloader.dataset.datasets.1.maps_root={toy}/maps/anomaly_mix'
    ]


def cityscapes_options(data: Path) -> list[str]:
    tests = [data / 'fishyscapes/LostAndFound', data / 'fishyscapes/Static', data / 'road_anomaly']
    return [
        *TINY, *NO_WORKERS, *NO_DOWNLOADS, *roots('train', [data / 'cityscapes', data / 'anomaly_mix']),
        *roots('test', tests), f'val_dataloader.dataset.data_root={tests[0]}',
        f'train_dataloader.dataset.datasets.0.maps_root={data}/maps/cityscapes/train',
        f'train_dataloader.dataset.datasets.1.maps_root={data}/maps/anomaly_mix/train'
    ]


def read_results(work_dir: Path) -> dict[str, Any]:
    """What the last run of a test wrote beside its log."""
    files = [path for path in work_dir.glob('*/*.json') if path.parent.name == path.stem]
    assert files
    return json.loads(max(files).read_text())


def assert_in_percent(results: dict[str, Any], benchmarks: Sequence[str]) -> None:
    for name in benchmarks:
        for metric in METRICS:
            assert 0 <= results[f'{name}/{metric}'] <= 100


def test_toy_config_trains_resumes_and_tests(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                             load_tool: Callable[[str], ModuleType], forget_runs: Callable[[], None],
                                             one_thread: None) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv('LOCAL_RANK', '0')
    options, config = toy_options(data), 'configs/toy/mgcda.py'
    train, test = load_tool('tools/train.py').main, load_tool('tools/test.py').main
    work = tmp_path / 'work'
    runner = train([config, '--work-dir', str(work), '--cfg-options', *options])
    assert runner.iter == 2
    checkpoint = torch.load(work / 'epoch_1.pth', weights_only=True)
    assert checkpoint['mdat']['tau'] == pytest.approx(0.75)  # eq. 1 at the second of two iterations

    forget_runs()
    later = [*options, 'train_cfg.max_epochs=2', 'default_hooks.checkpoint.interval=1']
    runner = train([config, '--work-dir', str(work), '--resume', '--cfg-options', *later])
    assert runner.iter == 4 and runner._resume
    resumed = torch.load(work / 'epoch_2.pth', weights_only=True)
    assert resumed['mdat']['tau'] == pytest.approx(1 - 3 / 4 / 2)
    steps = {int(state['step']) for state in resumed['mdat']['optimizer']['state'].values()}
    assert steps == {4}
    assert any(name.startswith('train_only.') for name in resumed['state_dict'])
    assert not any(name.startswith('frozen.') for name in resumed['state_dict'])

    forget_runs()
    out = tmp_path / 'test'
    metrics = test([config, str(work / 'epoch_2.pth'), '--work-dir', str(out), '--cfg-options', *options])
    results = read_results(out)
    assert {name: results[name] for name in metrics} == pytest.approx(metrics)
    assert_in_percent(results, ['ToyRoadAnomaly', 'ToyFishyscapes'])


def run_tool(*arguments: Any) -> str:
    """Run a script from the root of the repository, which alone puts the package on the path."""
    env = {**os.environ, 'PYTHONPATH': 'projects', 'OMP_NUM_THREADS': '1'}
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
def test_stock_tools_train_and_test_the_main_config(data: Path, tmp_path: Path) -> None:
    if not (STOCK / 'train.py').is_file():
        pytest.skip('this installation of MMSegmentation has no tools')
    options, config, work = cityscapes_options(data), 'configs/mgcda_cityscapes.py', tmp_path / 'work'
    output = run_tool(STOCK / 'train.py', config, '--work-dir', work, '--cfg-options', *options)
    for loss in ('loss_mda_feature', 'loss_mda_output', 'loss_cacl'):
        assert f'{loss}: ' in output
    checkpoint = torch.load(work / 'epoch_1.pth', weights_only=True)
    assert checkpoint['meta']['iter'] == 2
    assert set(checkpoint['mdat']['discriminators']) == {'feature', 'output'}

    for tool in (STOCK / 'test.py', ROOT / 'tools/test.py'):
        out = tmp_path / f'test_by_{tool.parent.parent.name}'
        run_tool(tool, config, work / 'epoch_1.pth', '--work-dir', out, '--cfg-options', *options)
        results = read_results(out)
        assert_in_percent(results, [f'{name}/logit_margin' for name in ('FS_LostAndFound', 'FS_Static', 'RoadAnomaly')])


@pytest.mark.slow
def test_all_steps_on_toy_streets(toy_root: Path, tmp_path: Path) -> None:
    """Frozen networks, composites, maps, MGCDA and its rival, each by its tool and its config."""
    cityscapes, mix, maps = toy_root / 'cityscapes', tmp_path / 'mix', tmp_path / 'maps'

    def train(config: str, *options: str) -> Path:
        work = tmp_path / config
        run_tool('tools/train.py', f'configs/toy/{config}.py', '--work-dir', work, '--cfg-options', *options)
        return Path((work / 'last_checkpoint').read_text())

    short = ['train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'train_dataloader.batch_size=2', *NO_WORKERS]
    short += [f'{part}_dataloader.dataset.data_root={cityscapes}' for part in ('train', 'val', 'test')]
    segmenter = train('segmenter', *short, 'model.data_preprocessor.size=(64,128)')
    generator = train('generator', *short)

    converters = Path('tools/dataset_converters')
    run_tool(converters / 'make_anomaly_mix.py', 'configs/_base_/datasets/toy_anomaly_mix.py', mix, '--workers', 0,
             '--cfg-options', f'train_dataloader.dataset.data_root={cityscapes}',
             f'train_dataloader.dataset.objects.data_root={toy_root}/coco',
             'train_dataloader.dataset.objects.min_area=30')
    frozen = [f'model.frozen.segmenter.checkpoint={segmenter}', f'model.frozen.generator.checkpoint={generator}']
    for name, images in (('cityscapes', cityscapes), ('mix', mix)):
        run_tool(converters / 'make_maps.py', 'configs/toy/mgcda.py', images / 'leftImg8bit/train', maps / name,
                 '--workers', 0, '--cfg-options', *frozen)

    tests = [toy_root / 'road_anomaly', toy_root / 'fishyscapes']
    tiny = [option for option in TINY if 'frozen' not in option]
    mgcda = [
        *tiny, *NO_WORKERS, *frozen, *roots('train', [cityscapes, mix]), *roots('val', tests), *roots('test', tests),
        f'train_dataloader.dataset.datasets.0.maps_root={maps}/cityscapes',
        f'train_dataloader.dataset.datasets.1.maps_root={maps}/mix'
    ]
    trained = train('mgcda', *mgcda)
    entropy = [*NO_WORKERS[-2:], *roots('test', [*tests, cityscapes])]
    for config, checkpoint, options in (('mgcda', trained, mgcda), ('entropy', segmenter, entropy)):
        out = tmp_path / f'test_{config}'
        run_tool('tools/test.py', f'configs/toy/{config}.py', checkpoint, '--work-dir', out, '--cfg-options', *options)
        assert_in_percent(read_results(out), ['ToyRoadAnomaly', 'ToyFishyscapes'])
