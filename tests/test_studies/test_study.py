# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mgcda.studies import Stage, read_study
from mgcda.studies.study import check_options, find_checkpoint

ROOT = Path(__file__).resolve().parents[2]


def test_options_that_a_command_line_can_hold() -> None:
    options = dict(a=1, b=1e-5, c=None, d=True, e='word', f=[1, 2], g=[(1, 2), [3.5]], h=(1, ))
    check_options(options, 'here')


@pytest.mark.parametrize('key', ['monitor', 'save_best'])
def test_validation_decides_where_the_training_follows_it(key: str) -> None:

    def fingerprints(**more) -> set:
        return {
            Stage('train', (), Config(dict(more, val_cfg=dict(type=kind)))).fingerprint()['config']
            for kind in ('A', 'B')
        }

    assert len(fingerprints()) == len(fingerprints(param_scheduler=[{key: None}])) == 1
    assert len(fingerprints(param_scheduler=[{key: 'AP'}])) == 2


def test_a_step_is_another_when_the_config_that_its_tool_reads_changes(monkeypatch: pytest.MonkeyPatch,
                                                                       tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path('tool.py').touch()
    Config(dict(work_dir='work', steps=[dict(name='maps', command='tool.py config.py images')])).dump('study.py')

    def prints(**model) -> str:
        Config(dict(model={'frozen': dict(size=1), **model})).dump('config.py')
        return read_study('study.py', ROOT).steps[0][0].stages[0].fingerprint()['config']

    assert prints() == prints(decode_head=dict(type='Other')) != prints(frozen=dict(size=2))


def test_runs_finished_under_the_former_name_of_a_type_stay_finished() -> None:
    stages = [
        Stage('test', (), Config(dict(test_evaluator=dict(type=name)))).fingerprint()
        for name in ('AnomalyCrossEntropyMetric', 'AnomalyLoss', 'AnomalyMetric')
    ]
    assert stages[0] == stages[1] != stages[2]


@pytest.mark.parametrize(
    'name',
    ['toy', 'toy_ablation', 'cityscapes256', 'cityscapes256_ego-ignored', 'cityscapes256_systems', 'cityscapes'])
def test_studies_of_the_repository_are_read(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(ROOT)
    read = read_study(f'configs/studies/{name}.py', ROOT, seeds=[0, 1])
    trained = [row for row in read.rows if len(row.jobs) > 1]
    assert len(trained) >= 2 and all(len(row.jobs) == 2 for row in trained)
    assert all('randomness.seed=1' in row.jobs[1].stages[0].command for row in trained)


def test_last_and_best_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='has no checkpoint: its training left none'):
        find_checkpoint(f'last of {tmp_path}')
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/iter_2.pth')
    for step in (2, 3):
        torch.save(dict(meta=dict(iter=step), optimizer={}), tmp_path / f'iter_{step}.pth')
    assert find_checkpoint(f'last of {tmp_path}') == f'{tmp_path}/iter_3.pth'
    with pytest.raises(FileNotFoundError, match=r'has no best_\*.pth'):
        find_checkpoint(f'best of {tmp_path}')
    (tmp_path / 'best_AP_iter_1.pth').touch()
    assert find_checkpoint(f'best of {tmp_path}') == f'{tmp_path}/best_AP_iter_1.pth'
    (tmp_path / 'best_AP_iter_2.pth').touch()
    with pytest.raises(ValueError, match='several best checkpoints'):
        find_checkpoint(f'best of {tmp_path}')
    for file in ('a/file.pth', 'runs of today/a.pth'):
        assert find_checkpoint(file) == file
