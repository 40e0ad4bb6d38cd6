# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Reading and writing checkpoint files. What is read are weights, and the few types of :mod:`.safe_types`."""
import io
import pickletools
import re
import sys
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..files import sha256_of

#: The hash that OpenMMLab and PyTorch append to names: the first digits of the SHA-256 of the file. Eight decimal ones
#: are taken for a date or an iteration.
_HASH = re.compile(r'-(?!\d{8})([0-9a-fA-F]{8})\.pth?$')
#: What torch says of a pickle that names or does what it may not.
_UNSAFE = re.compile(r'GLOBAL (?P<name>\S+)|the checkpoint asks for .*|Trying to call .*|Can only (build|create) .*')
SHOWN_KEYS = 6
MapLocation = str | torch.device | Callable | None


class UnsafeCheckpoint(ValueError):
    """A file that holds objects which could run code when they are loaded."""


def read_checkpoint(path: str | Path,
                    map_location: MapLocation = 'cpu',
                    name: str | None = None,
                    mmap: bool = False) -> Any:
    """Load a local file, weights and plain values only; a hash in its name is checked.

    The hash of a local file with an optimizer is not: a training wrote it, and names its files as the user likes.

    Args:
        path: The file.
        map_location: As of ``torch.load``.
        name: What errors call the file, such as the address that it is from. Defaults to its path.
        mmap: Leave tensors on the disk until they are used, where the format of the file allows it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no checkpoint, is damaged, holds arrays in the byte order of another machine, or is not the
            file that the hash in its name belongs to.
        UnsafeCheckpoint: It holds objects that could run code. A ValueError, too.
    """
    path, local = Path(path).expanduser(), name is None
    name = str(name or path)
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {path} does not exist')
    try:
        checkpoint = load_safely(path, map_location, name, mmap=mmap)
    except _NotMapped:  # the format before PyTorch 1.6
        checkpoint = load_safely(path, map_location, name)
    if not (local and isinstance(checkpoint, dict) and 'optimizer' in checkpoint):
        check_hash(path, name)
    return checkpoint


class _NotMapped(Exception):
    pass


def load_safely(file: Path | io.BytesIO, map_location: MapLocation, name: str, mmap: bool = False) -> Any:
    """``torch.load`` of weights and plain values; its errors are those of :func:`read_checkpoint`."""
    try:
        checkpoint = torch.load(file, map_location=map_location, weights_only=True, mmap=mmap)
    except Exception as error:  # torch raises errors of many types for files of other kinds
        message, kind = str(error), type(error).__name__
        if mmap and isinstance(error, RuntimeError) and 'mmap' in message:
            raise _NotMapped from None
    else:
        if _has_foreign_bytes(file):
            raise ValueError(f'{name} holds NumPy arrays in the byte order of another machine: save them as '
                             "array.astype(array.dtype.newbyteorder('='))")
        return checkpoint
    unsafe = _UNSAFE.search(message)
    if unsafe:
        raise UnsafeCheckpoint(
            f'{name} is refused: it holds objects that could run code ({unsafe["name"] or unsafe[0]})')
    raise ValueError(f'{name} is not a checkpoint, or is damaged ({_reason(file, kind, message)})')


def _reason(file: Path | io.BytesIO, kind: str, message: str) -> str:
    """Why torch cannot read a file, without its advice to trust it."""
    with _open(file) as stream:
        head = stream.read(64).lstrip()
    operand = re.search(r'Unsupported operand (\d+)', message)
    if not head:
        return 'it is empty'
    if head.startswith(b'<'):
        return 'it is a page, such as that of an error'
    if 'TorchScript' in message:
        return 'it is a TorchScript archive: save the state_dict of what torch.jit.load returns'
    if operand and int(operand[1]) >= 140:  # instructions that came with protocol 4
        return "its pickle is of a later protocol than 2, torch.save's own"
    lines = [line.strip() for line in message.splitlines()]
    return f'{kind}: {next((line for line in lines if line and "weights_only" not in line), "no content")}'


def _open(file: Path | io.BytesIO) -> BinaryIO:
    return open(file, 'rb') if isinstance(file, Path) else io.BytesIO(file.getvalue())


def _has_foreign_bytes(file: Path | io.BytesIO) -> bool:
    """Whether a loaded file holds NumPy arrays in the other byte order, whose numbers the stand-ins take for ours."""
    other = '>' if sys.byteorder == 'little' else '<'
    with _open(file) as stream:
        if zipfile.is_zipfile(stream):
            with zipfile.ZipFile(stream) as archive:
                pickles: list[BinaryIO] = [
                    io.BytesIO(archive.read(name)) for name in archive.namelist() if name.endswith('/data.pkl')
                ]
        else:  # the format before PyTorch 1.6: three short pickles, then the checkpoint
            stream.seek(0)
            pickles = [stream] * 4
        return any(_spells_order(part, other) for part in pickles)


def _spells_order(stream: Any, order: str) -> bool:
    """Whether a pickle has the state of a NumPy type of a byte order: the version 3, then its sign, or a reference."""
    before, known = None, set()
    for code, value, _ in pickletools.genops(stream):
        if 'PUT' in code.name:
            if before == ('BINUNICODE', order):
                known.add(value)
            continue
        sign = code.name == 'BINUNICODE' and value == order or 'BINGET' in code.name and value in known
        if sign and before == ('BININT1', 3):
            return True
        before = code.name, value
    return False


def expected_hash(name: str) -> str | None:
    """First 8 digits of the SHA-256 that a file of this name must have; None where the name tells none.

    Eight decimal digits, as in 'model-20240131.pth' and 'iter-00004000.pth', are no hash.
    """
    match = _HASH.search(name)
    return match[1].lower() if match else None


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
        raise ValueError(f'{name} is damaged or is another file: its SHA-256 begins with {digest[:8]}, its '
                         f'name says {expected}. Remove it and get it again, or rename it if the name means something '
                         "else, as the hash of mmengine's own CheckpointHook(published_keys), which is not that of the "
                         'file')


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
