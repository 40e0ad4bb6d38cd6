# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Every system that is trained beats the untrained score of the segmenter that it starts from.

It is held against it on ToyFishyscapes: objects of kinds, in streets of a style, that no training has seen.
"""
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]
SIZE = (64, 128)
NUM_ITERS = 150
#: The untrained score that each system starts from.
UNTRAINED = {
    'void-class': 'msp',
    'max-entropy': 'entropy',
    'outlier-head': 'msp',
    'dirichlet': 'differential_entropy',
    'pebal': 'energy',
    'dense-hybrid': 'energy',
    'gmmseg': 'max_logit',
    'mgcda_outlier-head': 'msp'
}
#: Steps of the pipelines for images of that size.
SMALL = dict(
    Resize=dict(scale=SIZE[::-1]),
    ResizeDissimilarityInputs=dict(scale=SIZE[::-1]),
    PasteObjects=dict(reference_height=96),
    ResizeShortestEdge=dict(scale=SIZE[1]),
    RandomCrop=dict(crop_size=SIZE))


@pytest.fixture(scope='module', autouse=True)
def one_thread_in_the_root() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv('LOCAL_RANK', '0')
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope='module')
def streets(tmp_path_factory: pytest.TempPathFactory, load_tool: Callable[[str], ModuleType]) -> Path:
    root = tmp_path_factory.mktemp('streets') / 'data'
    load_tool('demo/toy_streets.py').make_toy_streets(
        root, seed=0, num_train=40, num_val=8, num_objects=40, num_test=8, size=SIZE)
    return root


def shrink(name: str, streets: Path, num_iters: int = 0) -> Config:
    """A config of the toy streets for small images and few iterations."""
    cfg = Config.fromfile(ROOT / f'configs/toy/{name}.py')
    cfg.model.data_preprocessor.size = SIZE
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        if loader is not None:
            loader.update(num_workers=0, persistent_workers=False)
            for dataset in loader.dataset.get('datasets', [loader.dataset]):
                dataset.data_root = str(streets / Path(dataset.data_root).name)
                for step in dataset.pipeline:
                    step.update(SMALL.get(step.type, {}))
                if 'objects' in dataset:
                    dataset.objects.update(data_root=str(streets / 'coco'), min_area=30)
    if num_iters:
        cfg.train_cfg.update(max_iters=num_iters)
        cfg.train_cfg.pop('val_interval')
        cfg.param_scheduler[0].end = num_iters
        cfg.default_hooks.checkpoint.interval = num_iters
    return cfg


@pytest.fixture(scope='module')
def run(tmp_path_factory: pytest.TempPathFactory, load_tool: Callable[[str], ModuleType],
        forget_runs: Callable[[], None]) -> Callable:
    """``run('train', cfg, work_dir)``: a tool with a config, what its ``main`` returns."""
    folder = tmp_path_factory.mktemp('runs')

    def run(tool: str, name: str, cfg: Config, *arguments: Any) -> Any:
        forget_runs()
        work = folder / f'{tool}_{name}'
        cfg.dump(work.with_suffix('.py'))
        outcome = load_tool(f'tools/{tool}.py').main(
            [str(work.with_suffix('.py')), *map(str, arguments), '--work-dir',
             str(work)])
        return outcome if tool == 'test' else Path((work / 'last_checkpoint').read_text())

    return run


@pytest.fixture(scope='module')
def segmenter(run: Callable, streets: Path) -> Path:
    """Checkpoint of the segmenter that all start from."""
    return run('train', 'segmenter', shrink('segmenter', streets, num_iters=120))


@pytest.fixture(scope='module')
def untrained(run: Callable, streets: Path, segmenter: Path) -> dict[str, float]:
    """What the segmenter reaches with scores that need no training."""
    cfg = shrink('entropy', streets)
    cfg.model.update(score=None, scores=sorted(set(UNTRAINED.values())))
    return run('test', 'untrained', cfg, segmenter)


@pytest.mark.slow
@pytest.mark.parametrize('name', UNTRAINED)
def test_system_beats_the_score_it_starts_from(name: str, run: Callable, streets: Path, segmenter: Path,
                                               untrained: dict[str, float]) -> None:
    cfg = shrink(name, streets, NUM_ITERS)
    cfg.load_from = str(segmenter)
    trained = run('test', name, cfg, run('train', name, cfg))
    score = 'differential_entropy/' if name == 'dirichlet' else ''
    before, after = untrained[f'ToyFishyscapes/{UNTRAINED[name]}/AP'], trained[f'ToyFishyscapes/{score}AP']
    quality = [results['ToyCityscapes/mIoU'] for results in (untrained, trained)]
    print(f'{name}: AP {before:.1f} -> {after:.1f}, mIoU {quality[0]:.1f} -> {quality[1]:.1f}')
    assert after > before
    assert 10 < quality[1] <= 100
