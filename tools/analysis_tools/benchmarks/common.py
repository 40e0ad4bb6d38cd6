# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""What the benchmarks share: models with random weights, processes of their own, memory, verdicts."""
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import nn

import mgcda  # noqa: F401


def memory(key: str) -> float:
    """Megabytes of this process: 'VmRSS', now, or 'VmHWM', at most so far.

    Not ``ru_maxrss``: it includes what the parent took before this process was started.
    """
    with open('/proc/self/status', encoding='ascii') as file:
        line = next(line for line in file if line.startswith(key))
    return int(line.split()[1]) * 1024 / 1e6


def forget_peak_memory() -> None:
    """Reset 'VmHWM'."""
    with open('/proc/self/clear_refs', 'w', encoding='ascii') as file:
        file.write('5')


def wait(device: torch.device) -> None:
    """Wait for what a device still has to do."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def in_own_process(function: Callable, *args: Any) -> Any:
    """Result of a function in a fresh process, whose memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool:
        return pool.submit(function, *args).result()


def without_downloads(cfg: Config) -> Config:
    """Leave out what does not change the time: pretrained weights, and the frozen networks."""
    cfg.model.pop('frozen', None)
    _drop_pretrained(cfg.model)
    return cfg


def _drop_pretrained(node: Any) -> None:
    if isinstance(node, dict):
        node.pop('init_cfg', None)
        node.pop('pretrained', None)
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        _drop_pretrained(child)


def random_model(path: str, cfg_options: dict | None, device: str | torch.device) -> nn.Module:
    """The model of a config with random weights, for inference."""
    init_default_scope('mmseg')
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(cfg_options or {})
    return revert_sync_batchnorm(MODELS.build(without_downloads(cfg).model)).to(device).eval()


def verdict(value: float, bound: float, at_least: bool = False) -> str:
    """The target, and whether it is met."""
    met = value >= bound if at_least else value <= bound
    return f'({"at least" if at_least else "at most"} {bound:g} wanted: {"met" if met else "NOT MET"})'


def write_json(path: str | None, figures: dict) -> None:
    """Write the figures to a file, if one is named."""
    if path:
        with open(path, 'w', encoding='utf-8') as file:
            json.dump(figures, file, indent=1)
