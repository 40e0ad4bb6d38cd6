# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Each system that trains with outliers: resumed to the bit, loaded, deployed, in half precision."""
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from mmengine.runner import Runner
from test_resume import assert_same_run
from tiny_dissimilarity import assert_identical, model_of, quick_runs, recorder_of
from tiny_systems import NO_DROPOUT, PLUGINS, SYSTEMS, build_system, predictions, write_tiny_systems

NUM_ITERS = 4


class Trained(NamedTuple):
    """A run in one go, which left checkpoints after 2 and 4 iterations."""

    name: str
    runner: Runner
    rows: list[dict[str, Any]]
    work_dir: Path


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with quick_runs():
        yield write_tiny_systems(tmp_path_factory.mktemp('systems'))


@pytest.fixture(scope='module', params=SYSTEMS)
def trained(request: pytest.FixtureRequest, folder: Path, forget_runs: Callable[[], None]) -> Trained:
    forget_runs()
    runner = build_system(folder, request.param, folder / 'work' / request.param)
    runner.train()
    return Trained(request.param, runner, recorder_of(runner).rows, folder / 'work' / request.param)


def test_each_iteration_trains_what_is_tuned(trained: Trained) -> None:
    """The runs that are compared below would be the same without gradients, flips or dropout, too."""
    assert len(trained.rows) == NUM_ITERS
    assert {flip for row in trained.rows for flip in row['flips']} == {False, True}
    assert len({row['losses']['loss'].item() for row in trained.rows}) == NUM_ITERS
    model = model_of(trained.runner)
    frozen = {name for name, param in model.named_parameters() if not param.requires_grad}
    assert (len(frozen) > 0) == ('pebal' in trained.name)
    first, last = (row['players']['model'] for row in (trained.rows[0], trained.rows[-1]))
    for name, _ in model.named_parameters():
        assert torch.equal(first[name], last[name]) == (name in frozen), name
    if trained.name == 'gmmseg':
        mixtures = {name for name in first if '.mixtures.' in name}
        assert len(mixtures) == 5 and not any(torch.equal(first[name], last[name]) for name in mixtures)


def test_resumed_run_is_the_same(trained: Trained, folder: Path, tmp_path: Path) -> None:
    """Weights, optimizer, memory of mixtures and domain classifiers, from the middle of the run."""
    resumed = build_system(
        folder,
        trained.name,
        tmp_path / 'resumed',
        resume=True,
        load_from=str(trained.work_dir / 'iter_2.pth'),
        randomness=dict(seed=8))
    resumed.train()
    checkpoints = [
        torch.load(work / f'iter_{NUM_ITERS}.pth', weights_only=True)
        for work in (tmp_path / 'resumed', trained.work_dir)
    ]
    assert_same_run((recorder_of(resumed).rows, checkpoints[0]), (trained.rows, checkpoints[1]), 2)
    assert ('mdat' in checkpoints[0]) == (trained.name in PLUGINS)


def test_checkpoint_gives_the_scores_of_the_trained_model(trained: Trained, folder: Path, tmp_path: Path) -> None:
    tested = build_system(
        folder, trained.name, tmp_path / 'tested', load_from=str(trained.work_dir / f'iter_{NUM_ITERS}.pth'))
    results = tested.test()
    assert {'RoadAnomaly', 'Fishyscapes'} == {name.split('/')[0] for name in results}
    scores = predictions(trained.runner)
    assert len(scores) == 5 and all(one.isfinite().all() and one.unique().numel() > 100 for one in scores.values())
    assert_identical(predictions(tested), scores)


@pytest.mark.parametrize('trained', PLUGINS, indirect=True)
def test_deployed_plugin_is_the_host(trained: Trained, folder: Path, tmp_path: Path,
                                     load_tool: Callable[[str], ModuleType]) -> None:
    """What publish_model.py leaves of a plug-in run is the host's, to the parameter and to the score."""
    publish = load_tool('tools/model_converters/publish_model.py').main
    published = publish([str(trained.work_dir / f'iter_{NUM_ITERS}.pth'), str(tmp_path / 'model.pth')])
    host = build_system(folder, trained.name.removeprefix('mgcda_'), tmp_path / 'host', load_from=str(published))
    host.load_or_resume()
    deployed = build_system(folder, trained.name, tmp_path / 'deployed', load_from=str(published))
    deployed.model.switch_to_deploy()
    deployed.load_or_resume()
    assert any(name.startswith('train_only.') for name in trained.runner.model.state_dict())
    weights = torch.load(published, weights_only=True)['state_dict']
    assert set(weights) == set(host.model.state_dict()) == set(deployed.model.state_dict())
    scores = predictions(trained.runner)
    assert_identical(predictions(host), scores)
    assert_identical(predictions(deployed), scores)


@pytest.mark.parametrize('name', SYSTEMS)
def test_bfloat16_and_channels_last(name: str, folder: Path, tmp_path: Path, forget_runs: Callable[[], None]) -> None:
    """Mixed precision as far as a CPU goes: losses near those of float32, of weights that stay float32."""
    runs = []
    for kind in ('RecordingOptimWrapper', 'BFloat16OptimWrapper'):
        forget_runs()
        options = {**NO_DROPOUT, 'train_cfg.max_iters': 2, 'optim_wrapper.type': kind}
        runner = build_system(folder, name, tmp_path / kind, **options)
        if kind == 'BFloat16OptimWrapper':
            runner.model.to(memory_format=torch.channels_last)
        runner.train()
        runs.append(recorder_of(runner).rows)
    assert not all(
        map(torch.equal, *([grad for grad in rows[0]['gradients']['model'] if grad is not None] for rows in runs)))
    for expected, row in zip(*runs):
        for loss in (key for key in expected['losses'] if 'loss' in key):
            assert row['losses'][loss].dtype == torch.float32
            torch.testing.assert_close(row['losses'][loss], expected['losses'][loss], rtol=0.03, atol=1e-3)
    for key, value in runs[1][-1]['players']['model'].items():
        assert value.dtype == runs[0][-1]['players']['model'][key].dtype and value.isfinite().all(), key
