# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from torch import nn

from mgcda.labels import IGNORE, OUTLIER

SIZE = (32, 64)
NUMBER = 4  # bytes of a float32


@pytest.fixture(autouse=True)
def in_the_repository(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repo_root)


@pytest.fixture(scope='module')
def tool(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool('tools/analysis_tools/benchmark.py')


@pytest.fixture(scope='module')
def systems(tool: ModuleType) -> ModuleType:
    return sys.modules[tool.train.measure_systems.__module__]


@pytest.fixture(scope='module')
def iterations(tool: ModuleType) -> ModuleType:
    return sys.modules[tool.train.Bench.__module__]


def arguments(rounds: int = 2) -> Namespace:
    return Namespace(device='cpu', amp=False, cpu_time=True, size=list(SIZE), batch=2, rounds=rounds, warmup=0)


def test_held_bytes_are_those_worked_out_by_hand(iterations: ModuleType) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Sigmoid())
    model[1].requires_grad_(False).eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    inputs = torch.rand(5, 4)

    def iterate() -> None:
        model(inputs).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    tuned, frozen, buffers = 4 * 3 + 3, 2 * 3, 2 * 3
    saved = 5 * 4 + 2 * 5 * 3  # inputs of the first two layers, output of the last; weights and buffers count once
    expected = NUMBER * (3 * tuned + frozen + buffers + saved) + 8  # weight, gradient, momentum; num_batches_tracked
    for _ in range(2):
        assert iterations.held_bytes(iterate, model, [optimizer]) == expected


def test_batches_have_all_that_the_losses_tell_apart(iterations: ModuleType) -> None:
    batch = iterations.make_batch(4, 20, 30, maps=False)
    assert {tuple(image.shape) for image in batch['inputs']} == {(3, 20, 30)}
    assert [sample.domain for sample in batch['data_samples']] == [0, 1, 0, 1]
    for sample in batch['data_samples']:
        assert sample.gt_sem_seg.data.shape == (1, 20, 30)
        labels = set(sample.gt_sem_seg.data.unique().tolist())
        assert {OUTLIER, IGNORE} < labels <= {*range(19), OUTLIER, IGNORE}
    maps = iterations.make_batch(2, 20, 30, maps=True)
    assert maps['inputs'][0].shape == (10, 20, 30) and maps['inputs'][0][6].max() < 19
    assert set(maps['data_samples'][1].gt_sem_seg.data.unique().tolist()) == {0, 1, IGNORE}


@pytest.mark.parametrize('name', ['toy/void-class', 'toy/pebal', 'toy/gmmseg', 'toy/mgcda_dense-hybrid'])
def test_plain_network_is_that_of_the_segmenter(name: str, systems: ModuleType) -> None:
    plain = MODELS.build(systems.plain_model(Config.fromfile(f'configs/{name}.py')))
    segmenter = MODELS.build(Config.fromfile('configs/toy/segmenter.py').model)
    shapes, expected = ({key: value.shape for key, value in model.state_dict().items()} for model in (plain, segmenter))
    assert shapes == expected and type(plain) is type(segmenter)
    assert all(param.requires_grad for param in plain.parameters())
    assert type(plain.decode_head.loss_decode).__name__ == 'PixelCrossEntropyLoss'


@pytest.mark.parametrize('network, num_systems', [('toy', [10]), ('deeplabv3plus', [7]), ('segformer', [10]),
                                                  ('upernet', [6, 1])])
def test_systems_over_a_network_share_its_plain_training(network: str, num_systems: list[int],
                                                         systems: ModuleType) -> None:
    groups = systems.group_by_network(systems.read_systems([network]))
    assert [len(members) for _, members in groups] == num_systems  # PEBAL on UPerNet has no auxiliary head


def test_systems_are_measured_against_plain_training(systems: ModuleType, iterations: ModuleType,
                                                     capsys: pytest.CaptureFixture) -> None:
    configs = systems.read_systems(['toy'])
    (title, seconds, megabytes), = systems.measure_systems(configs, arguments())
    assert list(seconds) == list(megabytes) == ['plain', *configs] and len(configs) == 10
    assert title == 'SegformerHead over ResNetV1c'
    assert all(len(turns) == 2 and min(turns) > 0 for turns in seconds.values())
    ratios = {name: value / megabytes['plain'] for name, value in megabytes.items()}
    assert 0 < ratios['toy/pebal'] < ratios['toy/mgcda_pebal'] < 1
    assert all(1 < ratio < 3 for name, ratio in ratios.items() if name not in ('plain', 'toy/pebal', 'toy/mgcda_pebal'))
    capsys.readouterr()
    table = iterations.print_table(title, arguments(), seconds, megabytes)
    assert table['plain'] == 1 and min(table.values()) > 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f'{title}: 2 x 32 x 64, CPU, ')
    assert [line.split()[0] for line in lines[2:]] == list(seconds)
    assert [float(line.split()[-1]) for line in lines[2:]] == pytest.approx(list(ratios.values()), abs=5e-4)


def test_unknown_and_unfit_configs_are_refused(systems: ModuleType) -> None:
    names = 'toy, deeplabv3plus, segformer, upernet'
    with pytest.raises(FileNotFoundError, match=f'deeplabv2 is no config; .* any of {names}'):
        systems.read_systems(['toy', 'deeplabv2'])
    for path in ('configs/toy/mgcda.py', 'configs/toy/segmenter.py'):
        with pytest.raises(ValueError, match=f'{path} must be the config of an AnomalySegmentor'):
            systems.plain_model(Config.fromfile(path))


@pytest.mark.parametrize(
    'choice, rows',
    [(['--config', 'configs/toy/mgcda.py'], ['baseline', 'D_f', 'D_o', 'CACL', 'MGCDA', 'D_o / 4', 'MGCDA, D_o / 4']),
     (['--systems', 'configs/toy/void-class.py', 'configs/toy/pebal.py'], ['plain', 'toy/void-class', 'toy/pebal'])])
def test_command(choice: list[str], rows: list[str], tool: ModuleType, capsys: pytest.CaptureFixture) -> None:
    options = ['--device', 'cpu', '--size', *map(str, SIZE), '--rounds', '1', '--warmup', '0']
    tool.main(['train', *choice, *options])
    lines = capsys.readouterr().out.splitlines()
    assert [line[:20].split('  ')[0].strip() for line in lines[2:2 + len(rows)]] == rows
    for wrong, message in ((['--backbone', 'r50'], 'not allowed with'), (['--batch', '3'], '--batch must be even')):
        with pytest.raises(SystemExit):
            tool.main(['train', *choice, *wrong])
        assert message in capsys.readouterr().err
