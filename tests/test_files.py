# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import os

import pytest
import torch

from mgcda.files import checkpoint_bytes, write_file


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


def test_checkpoint_bytes_load_back(tmp_path):
    checkpoint = dict(state_dict=dict(weight=torch.arange(3.)), meta=dict(epoch=1))
    assert checkpoint_bytes(checkpoint) == checkpoint_bytes(checkpoint)
    write_file(tmp_path / 'c.pth', checkpoint_bytes(checkpoint))
    loaded = torch.load(tmp_path / 'c.pth', weights_only=True)
    assert torch.equal(loaded['state_dict']['weight'], checkpoint['state_dict']['weight']) and loaded['meta']['epoch'] == 1
