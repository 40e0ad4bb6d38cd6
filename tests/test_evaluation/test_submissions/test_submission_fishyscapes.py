# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path

import cv2
import numpy as np
import pytest

from mgcda.evaluation.submissions.fishyscapes import check_fishyscapes, find_inputs


@pytest.fixture
def folders(tmp_path) -> tuple:
    """Input with two images, and the output that belongs to it."""
    inputs, outputs = tmp_path / 'input', tmp_path / 'output'
    inputs.mkdir()
    outputs.mkdir()
    rng = np.random.default_rng(0)
    for number in ('0012', '0003'):
        cv2.imwrite(str(inputs / f'{number}_04_Weg_8_000000_000030_rgb.png'), rng.integers(0, 256, (4, 8, 3), np.uint8))
        np.save(outputs / f'{number}_anomaly.npy', rng.normal(size=(4, 8)).astype(np.float32))
        np.save(outputs / f'{number}_segmentation.npy', rng.integers(0, 19, (4, 8), np.uint8))
    (inputs / 'notes.txt').touch()
    (inputs / '12_short.png').touch()
    return inputs, outputs


def test_outputs_that_follow_the_rules(folders) -> None:
    assert list(find_inputs(folders[0])) == ['0003', '0012']
    assert check_fishyscapes(*folders) == 2


@pytest.mark.parametrize('name, array, message', [
    ('0003_anomaly.npy', np.zeros((2, 4)), r'is \(2, 4\), its image \(4, 8\)'),
    ('0003_anomaly.npy', np.full((4, 8), np.nan), 'NaN'),
    ('0003_anomaly.npy', np.ones((4, 8)), 'gives all pixels the same score, 1'),
    ('0003_segmentation.npy', np.zeros((4, 8), np.float32), 'must hold integers, got float32'),
    ('0003_segmentation.npy', np.zeros((1, 4, 8), np.uint8), r'is \(1, 4, 8\), its image \(4, 8\)'),
    ('0003_segmentation.npy', np.full((4, 8), 255, np.uint8), 'must hold train ids 0 to 18, got 255 to 255'),
    ('0003_segmentation.npy', np.full((4, 8), -1), 'must hold train ids 0 to 18, got -1 to -1'),
    ('0004_segmentation.npy', np.zeros((4, 8), np.uint8), 'belongs to no image'),
    ('0003_segmentation.npy', b'', 'is damaged'),
    ('0003_anomaly.npy', b'', 'is damaged'),
])
def test_outputs_that_break_a_rule_are_named(folders, name, array, message) -> None:
    path = folders[1] / name
    if isinstance(array, bytes):
        path.write_bytes(array)
    else:
        np.save(path, array)
    with pytest.raises(ValueError, match=message) as error:
        check_fishyscapes(*folders)
    assert str(path) in str(error.value)


@pytest.mark.parametrize('name', ['0012_anomaly.npy', '0012_segmentation.npy'])
def test_missing_outputs_are_named(folders, name) -> None:
    (folders[1] / name).unlink()
    with pytest.raises(FileNotFoundError, match=f'{name} is missing'):
        check_fishyscapes(*folders)


def test_wrong_inputs_are_named(folders, tmp_path) -> None:
    inputs: Path = folders[0]
    (inputs / '0003_twin.png').touch()
    with pytest.raises(ValueError, match='have the same number'):
        find_inputs(inputs)
    with pytest.raises(FileNotFoundError, match=r'nothing there is named DDDD_\*.png'):
        find_inputs(folders[1])
    with pytest.raises(FileNotFoundError, match='folder of images not found'):
        find_inputs(tmp_path / 'none')
