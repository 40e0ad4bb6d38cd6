# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Reading and writing checkpoint files. What is read are weights, and the few types of :mod:`.safe_types`."""
import io
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files import sha256_of

#: The hash that OpenMMLab and PyTorch append to names: the first digits of the SHA-256 of the file.
_HASH = re.compile(r'-([0-9a-f]{8})\.pth$')
_DATE = re.compile(r'20\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])')
SHOWN_KEYS = 6
MapLocation = str | torch.device | Callable | None


class UnsafeCheckpoint(ValueError):
    """A file that holds objects which could run code when they are loaded."""


def read_checkpoint(path: str | Path,
                    map_location: MapLocation = 'cpu',
                    name: str | None = None,
                    mmap: bool = False) -> Any:
    """Load a local file, weights and plain values only; a hash in its name is checked.

    Args:
        path: The file.
        map_location: As of ``torch.load``.
        name: What errors call the file, such as the address that it is from. Defaults to its path.
        mmap: Leave tensors on the disk until they are used, where the format of the file allows it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no checkpoint, is damaged, or is not the file that the hash in its name belongs to.
        UnsafeCheckpoint: It holds objects that could run code. A ValueError, too.
    """
    path = Path(path).expanduser()
    name = str(name or path)
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {path} does not exist')
    check_hash(path, name)
    if mmap:
        try:
            return load_safely(path, map_location, name, mmap=True)
        except _NotMapped:  # the format before PyTorch 1.6
            pass
    return load_safely(path, map_location, name)


class _NotMapped(Exception):
    pass


def load_safely(file: Path | io.BytesIO, map_location: MapLocation, name: str, mmap: bool = False) -> Any:
    """``torch.load`` of weights and plain values; its errors are those of :func:`read_checkpoint`."""
    try:
        return torch.load(file, map_location=map_location, weights_only=True, mmap=mmap)
    except Exception as error:  # torch raises errors of many types for files of other kinds
        lines = [line.strip() for line in str(error).strip().splitlines()]
        if mmap and isinstance(error, RuntimeError) and 'mmap' in str(error):
            raise _NotMapped from None
        culprit = next((line for line in lines if 'GLOBAL' in line or 'the checkpoint asks for' in line), None)
        detail = f'({type(error).__name__}: {culprit or (lines or [""])[0]})'
    if culprit is not None:
        raise UnsafeCheckpoint(f'{name} is refused: it holds objects that could run code {detail}')
    raise ValueError(f'{name} is not a checkpoint, or is damaged {detail}')


def expected_hash(name: str) -> str | None:
    """First 8 digits of the SHA-256 that a file of this name must have; None where the name tells none.

    Eight digits that make a date, as in 'model-20240131.pth', are taken for one.
    """
    match = _HASH.search(name)
    return match[1] if match and not _DATE.fullmatch(match[1]) else None


def check_hash(path: Path, name: str, file_name: str | None = None) -> None:
    """Compare the content of a file with the hash that its name, or ``file_name``, ends in.

    Raises:
        ValueError: They differ.
    """
    expected = expected_hash(file_name or path.name)
    if expected is None:
        return
    digest = sha256_of(path)
    if not digest.startswith(expected):
        raise ValueError(f'{name} is damaged or is another file: its SHA-256 begins with {digest[:8]}, its name says '
                         f'{expected}. Remove it and get it again, or rename it if the name means something else')


def weights_of(checkpoint: Any, name: str = 'the checkpoint') -> dict[str, Tensor]:
    """The weights of a checkpoint, with or without a training around them and the prefix of a parallel wrapper.

    Raises:
        ValueError: It holds none; the message starts with ``name``.
    """
    entries = checkpoint if isinstance(checkpoint, dict) else {}
    state_dict = entries.get('state_dict', entries)
    values = state_dict if isinstance(state_dict, dict) else {}
    weights = {key: value for key, value in values.items() if isinstance(value, Tensor)}
    if not weights:
        raise ValueError(f'{name} is not a checkpoint: it holds no weights, its entries are {shorten(entries)}')
    return {re.sub(r'^module\.', '', key): value for key, value in weights.items()}


def shorten(names: Iterable[str]) -> str:
    """The first ``SHOWN_KEYS`` names, joined by commas."""
    names = list(names)
    return ', '.join(map(str, names[:SHOWN_KEYS])) + (', ...' if len(names) > SHOWN_KEYS else '')


def checkpoint_bytes(checkpoint: dict) -> bytes:
    """Content of the file that ``torch.save`` writes; the same checkpoint always gives the same bytes."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()
