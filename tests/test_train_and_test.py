# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""One runner that trains MGCDA and then tests it, with a moving average of its weights."""
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner
from tiny_dissimilarity import quick_runs, write_tiny_mgcda


def test_a_runner_tests_what_it_trained_with_a_moving_average(tmp_path: Path) -> None:
    with quick_runs():
        cfg = Config.fromfile(write_tiny_mgcda(tmp_path))
        cfg.custom_hooks.append(dict(type='EMAHook'))
        cfg.merge_from_dict({
            'train_cfg.max_iters': 2,
            'train_cfg.val_interval': 1,
            'log_level': 'ERROR',
            'val_cfg': dict(type='ValLoop'),
            'val_dataloader': cfg.test_dataloader,
            'val_evaluator': cfg.test_evaluator
        })
        runner = Runner.from_cfg(cfg)
        runner.train()
        metrics = runner.test()
    assert set(metrics) >= {'RoadAnomaly/AP', 'RoadAnomaly/FPR95'}
