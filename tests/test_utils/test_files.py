# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import hashlib
import os
from pathlib import Path

import pytest
import torch

from mgcda.utils.checkpoints import checkpoint_bytes
from mgcda.utils.files import check_folder, claim_folder, hash_files, write_file


def test_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / 'folder' / 'file.bin'
    write_file(path, b'one')
    write_file(str(path), b'two')
    assert path.read_bytes() == b'two' and os.listdir(path.parent) == ['file.bin']

    def fail(*args):
        raise OSError('disk full')

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(OSError, match='disk full'):
        write_file(path, b'three')
    assert path.read_bytes() == b'two' and os.listdir(path.parent) == ['file.bin']


def test_what_is_synced_is_on_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    done = []
    for name in ('fsync', 'replace'):
        function = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, call=function: done.append(name) or call(*args))
    write_file(tmp_path / 'file.bin', b'one', sync=True)
    assert done == ['fsync', 'replace', 'fsync'] and (tmp_path / 'file.bin').read_bytes() == b'one'
    write_file(tmp_path / 'file.bin', b'two')
    assert done[3:] == ['replace']


def test_checkpoint_bytes_load_back(tmp_path):
    checkpoint = dict(state_dict=dict(weight=torch.arange(3.)), meta=dict(epoch=1))
    assert checkpoint_bytes(checkpoint) == checkpoint_bytes(checkpoint)
    write_file(tmp_path / 'c.pth', checkpoint_bytes(checkpoint))
    loaded = torch.load(tmp_path / 'c.pth', weights_only=True)
    assert torch.equal(loaded['state_dict']['weight'],
                       checkpoint['state_dict']['weight']) and loaded['meta']['epoch'] == 1


class TestClaims:

    def claim(self, folder: Path, seed: int, overwrite: bool = False, **others) -> list[str]:
        """Claim a folder; the names of the files that are left of what lay there."""
        settings = dict(seed=seed, **others)
        claim_folder(folder / 'settings.json', settings, 'maps', overwrite, folder.glob('*.png'), ['sha'])
        return sorted(path.name for path in folder.iterdir())

    def test_files_of_other_settings_never_stay(self, tmp_path) -> None:
        """Or a run that overwrites them and is interrupted would be gone on with, the old ones taken for new."""
        assert self.claim(tmp_path, 1) == ['settings.json']
        for name in ('a.png', 'b.png', 'notes.txt'):
            (tmp_path / name).write_text('of seed 1')
        for overwrite in (False, True):
            assert self.claim(tmp_path, 1, overwrite) == ['a.png', 'b.png', 'notes.txt', 'settings.json']
        with pytest.raises(ValueError, match=r'holds maps of other settings \(seed; see .*--overwrite'):
            self.claim(tmp_path, 2)
        assert self.claim(tmp_path, 2, overwrite=True) == ['notes.txt', 'settings.json']
        assert self.claim(tmp_path, 2) == ['notes.txt', 'settings.json']

    def test_entries_that_older_folders_lack(self, tmp_path) -> None:
        self.claim(tmp_path, 1)
        self.claim(tmp_path, 1, sha='x')
        with pytest.raises(ValueError, match=r'\(size; see'):
            self.claim(tmp_path, 1, size=3)
        self.claim(tmp_path, 1, overwrite=True, sha='x', size=[3, 4])
        assert check_folder(tmp_path / 'settings.json', dict(seed=1, size=(3, 4)), 'maps', ['sha'])['sha'] == 'x'
        with pytest.raises(ValueError, match=r'\(sha; see'):
            self.claim(tmp_path, 1, sha='y', size=[3, 4])

    def test_damaged_notes(self, tmp_path) -> None:
        for text in ('{', '[1]'):
            (tmp_path / 'settings.json').write_text(text)
            with pytest.raises(ValueError, match='settings.json is damaged'):
                self.claim(tmp_path, 1)
        assert self.claim(tmp_path, 1, overwrite=True) == ['settings.json']


def test_hashes_of_the_files_that_a_config_names(tmp_path) -> None:
    weights, fitted, config = (tmp_path / name for name in ('w.pth', 'f.bin', 'c.py'))
    weights.write_bytes(b'x' * (3 << 20))
    fitted.write_bytes(b'')
    config.write_text('model = dict()')
    network = dict(checkpoint=str(weights), config=str(config), size=(1, 2))
    model = dict(a=[network], b=(str(fitted), 'nowhere.pth', None))
    assert hash_files(model) == {
        str(weights): hashlib.sha256(b'x' * (3 << 20)).hexdigest()[:16],
        str(fitted): hashlib.sha256().hexdigest()[:16]
    }
