# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""The share of anomalous pixels that tools/analysis_tools/anomaly_share.py prints."""
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

NUM_IMAGES, SIZE = 11, (10, 20)
CONFIG = """
load = [dict(type='LoadImage'), dict(type='LoadAnomalyAnnotations')]
last = [dict(type='LoadDissimilarityMaps'), dict(type='PackDissimilarityInputs')]
void_class = dict(type='VoidClassDataset', data_root='{root}', maps_root='{root}/no_maps', pipeline=load + last)
classes = dict(void_class, targets='classes', anomaly_ids=(4, ), dataset_name='Classes', domain=1)
train_dataloader = dict(dataset=dict(type='MultiDomainDataset', datasets=[void_class, classes]))
"""


@pytest.fixture
def tool(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool('tools/analysis_tools/anomaly_share.py')


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Image i has 10 i pixels of 4 (static), the rest but 20 ignored ones are sidewalk, train id 1."""
    for i in range(NUM_IMAGES):
        label = np.full(200, 8, np.uint8)
        label[:10 * i], label[180:] = 4, 3
        for folder, kind, array in (('leftImg8bit', 'leftImg8bit', np.zeros(
            (*SIZE, 3), np.uint8)), ('gtFine', 'gtFine_labelIds', label.reshape(SIZE))):
            path = tmp_path / folder / 'train' / 'a' / f'a_{i:02d}_{kind}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), array)
    file = tmp_path / 'config.py'
    file.write_text(CONFIG.format(root=tmp_path))
    return file


def rows(printed: str) -> list[list[str]]:
    cells = [line.strip('|').split('|') for line in printed.splitlines() if line.startswith('|')]
    return [[cell.strip() for cell in row] for row in cells]


def test_shares_of_all_pixels_by_data_set(tool: ModuleType, config: Path, capsys: pytest.CaptureFixture) -> None:
    tool.main([str(config), '--workers', '0'])
    printed = capsys.readouterr().out
    assert 'in % of all pixels' in printed
    # shares of 0, 5, ..., 50 %; sidewalk is no anomaly where 1 is a class
    figures = ['25.00', '25.00', '5.00', '45.00']
    assert rows(printed) == [[
        'data set', 'domain', 'images', 'objects', 'mean', 'median', '10th percentile', '90th percentile'
    ], ['VoidClass', '0', '11', '-', *figures], ['Classes', '1', '11', '-', *figures]]


def test_images_are_drawn_by_the_seed(tool: ModuleType, config: Path, capsys: pytest.CaptureFixture) -> None:
    drawn = []
    for seed in (0, 1, 0):
        tool.main([str(config), '--workers', '0', '--num-images', '3', '--seed', str(seed)])
        drawn.append(rows(capsys.readouterr().out)[1:])
    assert drawn[0] == drawn[2] != drawn[1] and drawn[0][0][2] == '3'


def test_what_cannot_be_measured_is_named(tool: ModuleType, config: Path, tmp_path: Path) -> None:
    (tmp_path / 'empty.py').write_text('test_dataloader = None\n')
    with pytest.raises(ValueError, match='empty.py has no train_dataloader'):
        tool.main([str(tmp_path / 'empty.py')])
    with pytest.raises(ValueError, match='the pipeline of VoidClass loads no labels'):
        (tmp_path / 'unlabelled.py').write_text(config.read_text().replace('load + last', 'load[:1]'))
        tool.main([str(tmp_path / 'unlabelled.py'), '--workers', '0'])
    with pytest.raises(TypeError, match='CityscapesDataset is no data set of anomalies'):
        (tmp_path / 'other.py'
         ).write_text("train_dataloader = dict(dataset=dict(type='CityscapesDataset', lazy_init=True, pipeline=[]))")
        tool.main([str(tmp_path / 'other.py')])
    with pytest.raises(SystemExit):
        tool.main([str(config), '--num-images', '0'])
