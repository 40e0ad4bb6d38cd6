# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import re
from pathlib import Path

import pytest
import torch
from crafted import write_crafted

from mgcda.engine.latest_checkpoint import find_latest_checkpoint
from mgcda.utils.checkpoints import UnsafeCheckpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A work folder after 30 iterations; names do not tell the order."""
    for name, step in (('iter_9.pth', 9), ('iter_20.pth', 20), ('epoch_3.pth', 30)):
        torch.save(
            dict(meta=dict(iter=step), state_dict=dict(weight=torch.arange(1000.)), optimizer={}), tmp_path / name)
    torch.save(dict(meta=dict(iter=99), state_dict={}), tmp_path / 'published.pth')
    torch.save(dict(meta=dict(iter=99), state_dict={}, optimizer={}), tmp_path / 'best_AP_iter_99.pth')
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/epoch_3.pth')
    return tmp_path


def test_the_one_that_is_named(folder, capfd) -> None:
    assert find_latest_checkpoint(folder) == folder / 'epoch_3.pth'
    assert f'Resumes from {folder}/epoch_3.pth\n' in ''.join(capfd.readouterr())


def test_a_newer_one_than_is_named(folder, capfd) -> None:
    (folder / 'last_checkpoint').write_text('/elsewhere/iter_20.pth\n')
    assert find_latest_checkpoint(folder) == folder / 'epoch_3.pth'
    assert f'epoch_3.pth, the newest whole checkpoint: /elsewhere/iter_20.pth, which {folder}/last_ch' in ''.join(
        capfd.readouterr())


def test_files_of_other_folders_are_left_alone(folder, monkeypatch, tmp_path_factory) -> None:
    """Neither those of the current one nor those that a pointer names, but for the out_dir of the training."""
    work = tmp_path_factory.mktemp('runs') / 'run'
    work.mkdir()
    monkeypatch.chdir(folder)
    for text in ('', 'iter_7.pth'):
        (work / 'last_checkpoint').write_text(text)
        assert find_latest_checkpoint(work) is None
    for text in ('s3://bucket/iter_20.pth', str(folder / 'iter_20.pth')):
        (work / 'last_checkpoint').write_text(text)
        with pytest.raises(ValueError, match=f'{text}, which is in no folder of this training: give --cfg-options'):
            find_latest_checkpoint(work)
    folder.rename(work.parent / 'out')
    (work.parent / 'all').mkdir()
    (work.parent / 'out').rename(work.parent / 'all/run')
    assert find_latest_checkpoint(work, work.parent / 'all') == work.parent / 'all/run/epoch_3.pth'
    torch.save(dict(meta=dict(iter=2), optimizer={}), work / 'iter_2.pth')
    assert find_latest_checkpoint(work) == work / 'iter_2.pth'


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


def spoil(path: Path) -> None:
    """Zeros in the place of a block, as after a crash of the machine: it still loads."""
    content = bytearray(path.read_bytes())
    content[1500:2500] = bytes(1000)
    path.write_bytes(content)
    torch.load(path, weights_only=True)


@pytest.mark.parametrize('damage', [cut, spoil, Path.unlink, lambda path: path.write_bytes(b'')])
def test_the_newest_whole_one_where_that_is_not_whole(folder, damage, capfd) -> None:
    damage(folder / 'epoch_3.pth')
    assert find_latest_checkpoint(folder) == folder / 'iter_20.pth'
    assert f'Resumes from {folder}/iter_20.pth, the newest whole checkpoint: ' in ''.join(capfd.readouterr())
    cut(folder / 'iter_20.pth')
    assert find_latest_checkpoint(folder) == folder / 'iter_9.pth'


@pytest.mark.parametrize('text, reason', [('', 'last_checkpoint is empty'),
                                          ('iter_7.pth', 'iter_7.pth, which .* names, does not exist'),
                                          (None, 'there is no .*last_checkpoint'), ('\0\0', 'does not exist')])
def test_the_newest_whole_one_where_none_is_named(folder, text, reason, capfd) -> None:
    (folder / 'last_checkpoint').unlink()
    if text is not None:
        (folder / 'last_checkpoint').write_text(text)
    assert find_latest_checkpoint(folder) == folder / 'epoch_3.pth'
    assert re.search(reason, ''.join(capfd.readouterr()))


def test_none(tmp_path, folder, capfd) -> None:
    assert find_latest_checkpoint(tmp_path / 'nowhere') is None
    for path in folder.glob('*.pth'):
        path.unlink()
    capfd.readouterr()
    assert find_latest_checkpoint(folder) is None
    assert 'starts from the beginning: /elsewhere/epoch_3.pth' in ''.join(capfd.readouterr())


def test_none_that_a_training_can_resume_from(folder, capfd) -> None:
    for path in folder.glob('[ei]*.pth'):
        path.unlink()
    for left in ('best_AP_iter_99.pth, published.pth', 'published.pth'):
        with pytest.raises(ValueError, match=f'holds checkpoints, but none to resume from: {left} have no optimizer'):
            find_latest_checkpoint(folder)
        (folder / 'best_AP_iter_99.pth').unlink(missing_ok=True)
    assert find_latest_checkpoint(folder, resumable=False) == folder / 'published.pth'  # will do for a test
    (folder / 'published.pth').rename(folder / 'best_AP_iter_9.pth')
    with pytest.raises(ValueError, match='none to resume from: best_AP_iter_9.pth'):
        find_latest_checkpoint(folder)
    (folder / 'last_checkpoint').unlink()  # as where a run was killed before its first checkpoint
    assert find_latest_checkpoint(folder) is None
    assert 'starts from the beginning: there is no ' in ''.join(capfd.readouterr())


def test_none_that_is_whole(folder) -> None:
    for name in ('iter_9.pth', 'iter_20.pth', 'epoch_3.pth'):
        cut(folder / name)
    with pytest.raises(ValueError, match='epoch_3.pth is not a checkpoint, or is damaged.*No other .* is whole'):
        find_latest_checkpoint(folder)


def test_one_that_would_run_code(folder) -> None:
    write_crafted(folder / 'epoch_3.pth', folder / 'mark', meta=dict(iter=30), optimizer={})
    with pytest.raises(UnsafeCheckpoint, match='epoch_3.pth is refused: it holds objects that could run code'):
        find_latest_checkpoint(folder)
    (folder / 'last_checkpoint').unlink()
    assert find_latest_checkpoint(folder) == folder / 'iter_20.pth'
    assert not (folder / 'mark').exists()
