# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""The one way that checkpoints are loaded, from files, addresses and all else that mmengine knows.

mmengine hands addresses to a loader that runs whatever code a file holds. :func:`register_loaders` replaces its loaders
of all schemes by the ones here, also for what mmengine, MMSegmentation and MMPreTrain load by themselves, such as
``init_cfg=dict(type='Pretrained', ...)``. Code that calls ``torch.load`` or ``torch.hub`` itself is not changed.
"""
import fcntl
import io
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import torch
from mmengine.fileio import get_file_backend
from mmengine.logging import print_log
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

from ..files import remove_temporary_files, replacing
from .reading import MapLocation, check_hash, load_safely, read_checkpoint, weights_of

#: Seconds without an answer or data after which a download is given up.
TIMEOUT = 60

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
    return load_safely(io.BytesIO(content), map_location, filename)


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


def load_checkpoint(filename: str) -> Any:
    """Load from a file, an address or whatever else mmengine knows, onto the CPU."""
    return CheckpointLoader.load_checkpoint(filename, map_location='cpu')


def check_checkpoint_file(filename: str) -> None:
    """Refuse a local file that is missing, is no checkpoint, or asks to run code. Remote ones are checked when loaded.

    Raises:
        FileNotFoundError: No such file.
        ValueError: As of :func:`read_checkpoint`, or it holds no weights.
    """
    if '://' not in filename:
        weights_of(read_checkpoint(filename, mmap=True), filename)


def register_loaders() -> None:
    """Replace mmengine's loaders of all schemes by those here. Calling it again changes nothing."""
    for loader, prefixes in _SCHEMES.items():
        CheckpointLoader.register_scheme(prefixes, loader, force=True)
        setattr(mmengine_checkpoint, loader.__name__, loader)
