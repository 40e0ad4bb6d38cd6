# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Every system that needs no outliers: trained, fitted and tested on the toy streets by its tool and its config."""
from pathlib import Path

import pytest
from test_stock_tools import METRICS, NO_WORKERS, read_results, run_tool

ROWS = ('msp', 'entropy', 'margin', 'max_logit', 'energy', 'ODIN', 'ASH', 'ReAct', 'SML', 'Mahalanobis', 'kNN',
        'single-layer NLL', 'minimum NLL', 'maximum NLL', 'logistic regression')
SEVERAL = ('predictive_entropy', 'expected_entropy', 'mutual_information')


@pytest.mark.slow
def test_rows_of_the_tables_on_toy_streets(toy_root: Path, tmp_path: Path) -> None:
    cityscapes, fitted = toy_root / 'cityscapes', tmp_path / 'fitted'

    def train(seed: int) -> Path:
        work = tmp_path / f'seed{seed}'
        options = [
            'train_cfg.max_iters=40', 'train_cfg.val_interval=40', 'train_dataloader.batch_size=4', *NO_WORKERS,
            'model.data_preprocessor.size=(64,128)', f'randomness.seed={seed}',
            *(f'{part}_dataloader.dataset.data_root={cityscapes}' for part in ('train', 'val', 'test'))
        ]
        run_tool('tools/train.py', 'configs/toy/segmenter.py', '--work-dir', work, '--cfg-options', *options)
        return Path((work / 'last_checkpoint').read_text())

    first, second = train(0), train(1)
    roots = (toy_root / 'road_anomaly', toy_root / 'fishyscapes', cityscapes)
    tests = ['test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False']
    tests += [f'test_dataloader.dataset.datasets.{i}.data_root={root}' for i, root in enumerate(roots)]
    tests += [f'test_dataloader.dataset.datasets.{i}.pipeline.1.scale=(128,64)' for i in range(3)]

    def test(config: str, *options: str) -> dict:
        out = tmp_path / config
        run_tool('tools/test.py', f'configs/toy/{config}.py', first, '--work-dir', out, '--out', out, '--cfg-options',
                 *tests, *options)
        return read_results(out)

    def check(results: dict, rows: tuple) -> None:
        for row in rows:
            for name in ('ToyRoadAnomaly', 'ToyFishyscapes'):
                assert all(0 <= results[f'{name}/{row}/{metric}'] <= 100 for metric in METRICS), row
        assert 10 < results['ToyCityscapes/mIoU'] <= 100

    names = ('react', 'sml', 'mahalanobis', 'knn', 'single-layer-nll', 'nll', 'nll', 'nll')
    short = [f'model.scores.{i}.{option}' for i in (11, 12, 13, 14) for option in ('num_iters=60', 'num_steps=2')]
    short += [f'model.scores.{i}.fitted={fitted}/{name}.pth' for i, name in enumerate(names, start=7)]
    run_tool('tools/fit_scores.py', 'configs/toy/scores.py', first, '--work-dir', tmp_path / 'fit', '--cfg-options',
             'fit_dataloader.num_workers=0', f'fit_dataloader.dataset.data_root={cityscapes}', *short)
    assert {path.stem for path in fitted.iterdir()} == set(names)
    results = test('scores', *short)
    check(results, ROWS)
    check(test('mc-dropout'), SEVERAL)
    ensemble = test('ensemble', f'model.members.0.checkpoint={second}')
    check(ensemble, SEVERAL)
    assert ensemble['ToyCityscapes/mIoU'] != results['ToyCityscapes/mIoU']
