# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from mgcda.datasets import FishyscapesDataset

TOOL = 'tools/dataset_converters/make_fishyscapes.py'
H, W = 12, 20
PIPELINE = [dict(type='LoadImage'), dict(type='LoadAnomalyAnnotations'), dict(type='PackDissimilarityInputs')]
CITY = ('frankfurt_000000_000294', 'lindau_000001_000019')
LAF = ('04_Maurener_Weg_8_000000_000030', '13_Elly_Beinhorn_Str_000001_000080')


def write(path: Path, array: np.ndarray) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)
    return array


def values(*numbers: int) -> np.ndarray:
    return np.resize(np.array(numbers, np.uint8), (H, W))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Downloads as they are, with an image more than is needed."""
    rng = np.random.default_rng(0)
    monkeypatch.chdir(tmp_path)
    paths = [f'cityscapes/{name.split("_")[0]}/{name}' for name in (*CITY, 'munster_000000_000019')]
    for path in paths + [f'laf/test/{name[:-14]}/{name}' for name in LAF]:
        write(tmp_path / f'{path}_leftImg8bit.png', rng.integers(0, 256, (H, W, 3), np.uint8))
    for name in LAF:
        write(tmp_path / f'gtCoarse/test/{name[:-14]}/{name}_gtCoarse_labelIds.png', values(0, 1, 2, 43, 255))
    for i in range(2):
        write(tmp_path / f'fs_val_v3/{i:04d}_{CITY[i]}_labels.png', values(0, 1, 255, 7))
        overlay = rng.integers(-300, 300, (H, W, 3)).astype(np.int16)
        np.savez(tmp_path / f'fs_val_v3/{i:04d}_{CITY[i]}_rgb.npz', rgb=overlay)
        write(tmp_path / f'fs_laf/{i:04d}_{LAF[i]}_labels.png', values(0, 0, 1, 255))
    return tmp_path


def run(load_tool: Callable, *arguments: str) -> None:
    load_tool(TOOL).main([*arguments, '--workers', '0'])


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_static_is_the_image_plus_the_overlay(data: Path, load_tool: Callable, capsys) -> None:
    run(load_tool, 'cityscapes', 'fs_val_v3', 'Static')
    assert sorted(path.name
                  for path in (data / 'Static/original').iterdir()) == [f'{i:04d}_{CITY[i]}.png' for i in range(2)]
    for i, name in enumerate(CITY):
        image = cv2.imread(str(data / f'cityscapes/{name.split("_")[0]}/{name}_leftImg8bit.png'))[..., ::-1].astype(int)
        overlay = np.load(data / f'fs_val_v3/{i:04d}_{name}_rgb.npz')['rgb'].astype(int)
        expected = np.clip(image + overlay, 0, 255)
        np.testing.assert_array_equal(read(data / f'Static/original/{i:04d}_{name}.png')[..., ::-1], expected)
        assert (image + overlay != expected).any()
        np.testing.assert_array_equal(read(data / f'Static/labels/{i:04d}_{name}.png'), values(0, 1, 255, 255))
    assert '2 of 2 images' in capsys.readouterr().out


@pytest.mark.parametrize('images, labels', [('cityscapes', 'fs_val_v3'), ('laf', 'fs_laf')])
def test_samples_are_those_of_the_downloads(data: Path, load_tool: Callable, images: str, labels: str) -> None:
    run(load_tool, images, labels, 'out')
    settings = dict(data_root=str(data), pipeline=PIPELINE, test_mode=True)
    made = FishyscapesDataset(**dict(settings, data_root=str(data / 'out')))
    official = FishyscapesDataset(layout='official', data_prefix=dict(img_path=images, seg_map_path=labels), **settings)
    assert len(made) == len(official) == 2
    for i in range(2):
        assert made[i]['inputs'].equal(official[i]['inputs'])
        assert made[i]['data_samples'].gt_sem_seg.data.equal(official[i]['data_samples'].gt_sem_seg.data)


def test_original_masks(data: Path, load_tool: Callable) -> None:
    run(load_tool, 'laf', 'fs_laf', 'out', '--masks', 'gtCoarse')
    for i, name in enumerate(LAF):
        np.testing.assert_array_equal(read(data / f'out/labels/{i:04d}_{name}.png'), values(255, 0, 1, 1, 255))
    with pytest.raises(ValueError, match='out holds images of other settings'):
        run(load_tool, 'laf', 'fs_laf', 'out')
    run(load_tool, 'laf', 'fs_laf', 'again', '--masks', 'gtCoarse')
    for kind in ('original', 'labels'):  # of an image that is gone
        (data / f'again/{kind}/0007_x.png').write_bytes(b'')
    run(load_tool, 'laf', 'fs_laf', 'again', '--overwrite')
    assert len(list((data / 'again').rglob('*.png'))) == 4
    os.remove(data / f'gtCoarse/test/{LAF[0][:-14]}/{LAF[0]}_gtCoarse_labelIds.png')
    with pytest.raises(ValueError, match=f'1 frames have no mask .* below gtCoarse: {LAF[0]}'):
        run(load_tool, 'laf', 'fs_laf', 'other', '--masks', 'gtCoarse')
    with pytest.raises(ValueError, match='--masks are of LostAndFound, but fs_val_v3 has overlays'):
        run(load_tool, 'cityscapes', 'fs_val_v3', 'other', '--masks', 'gtCoarse')
    assert not (data / 'other').exists()


def test_an_interrupted_run_goes_on(data: Path, load_tool: Callable, capsys) -> None:
    broken = data / f'fs_laf/0001_{LAF[1]}_labels.png'
    content = broken.read_bytes()
    broken.write_bytes(content[:40])
    with pytest.raises(ValueError, match=f'{broken.name} is a truncated PNG'):
        run(load_tool, 'laf', 'fs_laf', 'out')
    broken.write_bytes(content)
    first = data / f'out/original/0000_{LAF[0]}.png'
    before = first.stat().st_mtime_ns
    load_tool(TOOL).main(['laf', 'fs_laf', 'out', '--workers', '1'])
    assert first.stat().st_mtime_ns == before
    output = capsys.readouterr().out
    assert '1 of 2 images' in output and '1 were there already' in output and 'has 100 images' in output
    assert sorted(path.relative_to(data / 'out').as_posix() for path in (data / 'out').rglob('*.*')) == [
        'fishyscapes.json', *(f'{kind}/{i:04d}_{LAF[i]}.png' for kind in ('labels', 'original') for i in range(2))
    ]
    run(load_tool, 'laf', 'fs_laf', 'out', '--overwrite')
    assert first.stat().st_mtime_ns > before
