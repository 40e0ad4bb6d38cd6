# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path

import pytest
from tiny_dissimilarity import ROOT, write_tiny_checkpoint, write_tiny_mgcda


@pytest.fixture(scope='session')
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny MGCDA with a checkpoint as a training leaves it, training-only weights included."""
    folder = tmp_path_factory.mktemp('tiny')
    write_tiny_checkpoint(write_tiny_mgcda(folder), folder / 'epoch_1.pth')
    return folder


@pytest.fixture(scope='session')
def entropy_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy segmenter's scores; it reads images at another size than they have."""
    path = tmp_path_factory.mktemp('entropy') / 'entropy.py'
    path.write_text(f"_base_ = ['{ROOT}/configs/toy/entropy.py']\n")
    return path
