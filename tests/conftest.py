# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.visualization import Visualizer

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault('MPLBACKEND', 'Agg')
    torch.set_num_threads(1)  # small tensors: more threads would only wait for each other


@pytest.fixture(scope='session')
def repo_root() -> Path:
    return ROOT


@pytest.fixture(scope='session')
def load_tool() -> Callable[[str], ModuleType]:
    """``load_tool('tools/train.py')`` imports a script; its folder is on ``sys.path`` as when it is run."""

    def load(path: str) -> ModuleType:
        name = 'tool_' + path.removeprefix('tools/').removesuffix('.py').replace('/', '_')
        if name not in sys.modules:
            folder = str((ROOT / path).parent)
            if folder not in sys.path:
                sys.path.append(folder)
            spec = importlib.util.spec_from_file_location(name, ROOT / path)
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[name]
                raise
        return sys.modules[name]

    return load


@pytest.fixture(scope='session')
def toy_root(tmp_path_factory: pytest.TempPathFactory, load_tool: Callable[[str], ModuleType]) -> Path:
    """The generated street data sets, at 64x128."""
    out = tmp_path_factory.mktemp('toy_streets') / 'data'
    load_tool('demo/toy_streets.py').make_toy_streets(
        out, seed=0, num_train=6, num_val=2, num_objects=6, num_test=3, size=(64, 128))
    return out


@pytest.fixture(scope='session')
def forget_runs() -> Callable[[], None]:
    """Drop the loggers, message hubs and visualizers of earlier runs.

    mmengine names them by config and second, so that runs of one process could share them.
    """

    def forget() -> None:
        managers = [DefaultScope, MessageHub, MMLogger, Visualizer]
        for manager in managers:  # a subclass, such as SegLocalVisualizer, keeps instances of its own
            manager._instance_dict.clear()
            managers.extend(manager.__subclasses__())

    return forget


@pytest.fixture(autouse=True)
def fresh_run_state(forget_runs: Callable[[], None]) -> None:
    """Components named by a string are looked up in mmseg's registries, and no test sees the runs of another."""
    forget_runs()
    init_default_scope('mmseg')
