# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""The one way that checkpoints are loaded, from files, addresses and all else that mmengine knows.

mmengine hands addresses to a loader that runs whatever code a file holds. :func:`register_loaders` replaces its loaders
of all schemes by the ones here, also for what mmengine, MMSegmentation and MMPreTrain load by themselves, such as
``init_cfg=dict(type='Pretrained', ...)``. What is read are weights, and the few types of
:mod:`mgcda.checkpoint_safety`. Code that calls ``torch.load`` or ``torch.hub`` itself is not changed.
"""
import fcntl
import hashlib
import io
import os
import pickletools
import re
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import torch
from mmengine.fileio import get_file_backend
from mmengine.logging import print_log
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

from .files import remove_temporary_files, replacing

#: The hash that OpenMMLab and PyTorch append to names: the first digits of the SHA-256 of the file. Eight decimal ones
#: are taken for a date or an iteration.
_HASH = re.compile(r'-(?!\d{8})([0-9a-fA-F]{8})\.pth?$')
#: What torch says of a pickle that names or does what it may not.
_UNSAFE = re.compile(r'GLOBAL (?P<name>\S+)|the checkpoint asks for .*|Trying to call .*|Can only (build|create) .*')
#: Seconds without an answer or data after which a download is given up.
TIMEOUT = 60
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
        checkpoint = _load(path, map_location, name, mmap=mmap)
    except _NotMapped:  # the format before PyTorch 1.6
        checkpoint = _load(path, map_location, name)
    if not (local and isinstance(checkpoint, dict) and 'optimizer' in checkpoint):
        check_hash(path, name)
    return checkpoint


class _NotMapped(Exception):
    pass


def _load(file: Path | io.BytesIO, map_location: MapLocation, name: str, mmap: bool = False) -> Any:
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
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    if not digest.hexdigest().startswith(expected):
        raise ValueError(f'{name} is damaged or is another file: its SHA-256 begins with {digest.hexdigest()[:8]}, its '
                         f'name says {expected}. Remove it and get it again, or rename it if the name means something '
                         "else, as the hash of mmengine's own CheckpointHook(published_keys), which is not that of the "
                         'file')


# Loaders of the schemes. mmengine logs their names without 'load_from_'.


def load_from_local(filename: str, map_location: MapLocation = None) -> Any:
    """Load a file."""
    return read_checkpoint(filename, map_location)


def load_from_http(filename: str,
                   map_location: MapLocation = None,
                   model_dir: str | None = None,
                   progress: bool = os.isatty(0)) -> Any:
    """Load from an address, through ``model_dir``, by default the cache of ``torch.hub``.

    A file enters the cache once it is whole, has the hash of its name and has been loaded; one process downloads at a
    time. What lies in the cache is checked in the same way.

    Raises:
        ValueError: As of :func:`read_checkpoint`; nothing of the download is left then.
        ConnectionError: The address cannot be reached, has no such file, or stops sending.
    """
    folder = Path(model_dir or os.path.join(torch.hub.get_dir(), 'checkpoints'))
    folder.mkdir(parents=True, exist_ok=True)
    file_name = os.path.basename(urlparse(filename).path)
    if not file_name:
        raise ValueError(f'{filename} names no file')
    cached = folder / file_name
    if not cached.is_file():
        with _one_at_a_time(folder / f'.{file_name}.lock'):
            if not cached.is_file():  # another process may have got it meanwhile
                return _download(filename, cached, map_location, progress)
    return read_checkpoint(cached, map_location, f'{filename} (kept as {cached})')


def _download(address: str, target: Path, map_location: MapLocation, progress: bool) -> Any:
    print_log(f'Downloads {address} to {target}', logger='current')
    remove_temporary_files(target.parent, re.escape(target.name))  # of downloads that were killed
    with replacing(target) as temporary:
        try:
            _fetch(address, temporary, progress)
        except (OSError, HTTPException, ValueError) as error:
            raise ConnectionError(f'cannot download {address}: {error or type(error).__name__}') from error
        check_hash(temporary, address, target.name)
        return read_checkpoint(temporary, map_location, address)


def _fetch(address: str, path: Path, progress: bool) -> None:
    request = Request(address, headers={'User-Agent': 'mgcda'})
    with urlopen(request, timeout=TIMEOUT) as response, open(path, 'wb') as file:
        length = int(response.headers.get('Content-Length') or -1)
        with torch.hub.tqdm(total=max(length, 0) or None, disable=not progress, unit='B', unit_scale=True) as bar:
            for block in iter(lambda: response.read(1 << 17), b''):
                file.write(block)
                bar.update(len(block))
        if 0 <= length != file.tell():
            raise OSError(f'only {file.tell()} of {length} bytes came')


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Wait until no other process is in here with ``path``; without a wait where the file system has no locks."""
    with open(path, 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # then several may download, each under a name of its own
            pass
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def load_from_ceph(filename: str, map_location: MapLocation = None, backend: str = 'petrel') -> Any:
    """Load from an object store, through mmengine's backend of it."""
    content = get_file_backend(filename, backend_args={'backend': backend}).get(filename)
    return _load(io.BytesIO(content), map_location, filename)


def load_from_pavi(filename: str, map_location: MapLocation = None) -> Any:
    """Load from Pavi's model cloud."""
    try:
        from pavi import modelcloud
    except ImportError:
        raise ImportError(f'{filename} needs the package pavi') from None
    model = modelcloud.get(filename.removeprefix('pavi://'))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, model.name)
        model.download(path)
        return read_checkpoint(path, map_location, filename)


def load_from_torchvision(filename: str, map_location: MapLocation = None) -> Any:
    """Load weights of torchvision by their name."""
    return load_from_http(_look_up(mmengine_checkpoint.get_torchvision_models(), filename), map_location)


def load_from_openmmlab(filename: str, map_location: MapLocation = None) -> Any:
    """Load weights of mmengine's list by their name."""
    name = filename.split('://', 1)[1]
    renamed = mmengine_checkpoint.get_deprecated_model_names().get(name)
    if renamed is not None:
        print_log(f'{filename} is now called {renamed}', logger='current')
    place = _look_up(mmengine_checkpoint.get_external_models(), f'openmmlab://{renamed or name}')
    if place.startswith(('http://', 'https://')):
        return load_from_http(place, map_location)
    return read_checkpoint(os.path.join(mmengine_checkpoint._get_mmengine_home(), place), map_location)


def load_from_mmcls(filename: str, map_location: MapLocation = None) -> Any:
    """Load weights of MMClassification by their name: those of the backbone."""
    checkpoint = load_from_http(_look_up(mmengine_checkpoint.get_mmcls_models(), filename), map_location)
    return mmengine_checkpoint._process_mmcls_checkpoint(checkpoint)


def _look_up(places: dict[str, str], filename: str) -> str:
    scheme, name = filename.split('://', 1)
    if name not in places:
        raise ValueError(f'{filename} is not known to mmengine; {scheme}:// has {", ".join(sorted(places)[:5])}, ...')
    return places[name]


_SCHEMES = {
    load_from_local: ('', ),
    load_from_http: ('http://', 'https://'),
    load_from_pavi: ('pavi://', ),
    load_from_ceph: (r'(\S+\:)?s3://', r'(\S+\:)?petrel://'),
    load_from_torchvision: ('modelzoo://', 'torchvision://'),
    load_from_openmmlab: ('open-mmlab://', 'openmmlab://'),
    load_from_mmcls: ('mmcls://', )
}


def register_loaders() -> None:
    """Replace mmengine's loaders of all schemes by those here. Calling it again changes nothing."""
    for loader, prefixes in _SCHEMES.items():
        CheckpointLoader.register_scheme(prefixes, loader, force=True)
        setattr(mmengine_checkpoint, loader.__name__, loader)
