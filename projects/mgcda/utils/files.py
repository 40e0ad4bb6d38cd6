# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Writing files so that none is ever found half-written."""
import errno
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

#: Names that :func:`replacing` gives, of the file ``name``.
_TEMPORARY = re.compile(r'\.(?P<name>.+)\.(?P<pid>\d+)\.tmp')


@contextmanager
def replacing(path: str | Path, sync: bool = False) -> Iterator[Path]:
    """Give a temporary name beside ``path`` to write to, and rename it to ``path`` at the end.

    An error leaves ``path`` as it was, and no temporary file.

    Args:
        path: File to replace or make. Its folder must exist.
        sync: Have the content on the disk before it takes the name, so that not even a crash of the machine leaves a
            file that is empty or cut. Takes some time: for what cannot be made again.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        yield temporary
        if sync:
            _sync(temporary)
        os.replace(temporary, path)
        if sync:
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not path.is_dir() or error.errno != errno.EINVAL:  # some network file systems cannot sync folders
            raise
    finally:
        os.close(descriptor)


def write_file(path: str | Path, data: bytes, sync: bool = False) -> None:
    """Write ``data`` under a temporary name beside ``path``, then rename it; missing folders are made.

    ``sync`` is that of :func:`replacing`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, sync) as temporary:
        temporary.write_bytes(data)


def remove_temporary_files(folder: str | Path, name: str = '.*') -> list[Path]:
    """Remove what killed processes left of :func:`replacing` in a folder.

    What a running process of this machine writes there stays; processes of others must not write to the folder.

    Args:
        folder: Where to look, not below.
        name: Regular expression of the names of the files that were to be written.

    Returns:
        list: The files that were removed.
    """
    folder, removed = Path(folder), []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = _TEMPORARY.fullmatch(path.name)
        if match and re.fullmatch(name, match['name']) and not path.is_dir() and not _is_another(int(match['pid'])):
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _is_another(pid: int) -> bool:
    """Whether a process other than this one has the number."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return pid != os.getpid()


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Write a uint8 image, (H, W) or BGR (H, W, 3), as :func:`write_file` does."""
    done, data = cv2.imencode('.png', image)
    if not done:
        raise OSError(f'cannot encode {path}')
    write_file(path, data.tobytes())


def check_folder(path: str | Path, settings: dict, what: str, optional: Sequence[str] = ()) -> dict[str, Any]:
    """Compare settings with those with which, as the file ``path`` notes, ``what`` of its folder was made.

    Args:
        path: JSON file of :func:`claim_folder`; where there is none, all settings will do.
        settings: Entries that are missing count as None.
        what: What errors call the content of the folder.
        optional: Names of entries that are compared only where both have them.

    Returns:
        dict: What the file notes; empty where there is none.

    Raises:
        ValueError: The folder holds ``what`` of other settings, or the file is damaged.
    """
    path = Path(path)
    if not path.is_file():
        return {}
    advice = 'write to another folder, or make all of them again with --overwrite'
    try:
        noted = dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise ValueError(f'{path} is damaged ({error}): {advice}') from error
    settings = json.loads(_dump(settings))
    compared = (noted.keys() | settings.keys()) - (set(optional) - (noted.keys() & settings.keys()))
    other = sorted(key for key in compared if noted.get(key) != settings.get(key))
    if other:
        raise ValueError(f'{path.parent} holds {what} of other settings ({", ".join(other)}; see {path}): {advice}')
    return noted


def claim_folder(path: str | Path,
                 settings: dict,
                 what: str,
                 overwrite: bool,
                 made: Iterable[Path],
                 optional: Sequence[str] = ()) -> None:
    """Note in the file ``path`` with which settings ``what`` of its folder is made, or compare with what it notes.

    Args:
        path, settings, what, optional: As of :func:`check_folder`.
        overwrite: Where the noted settings differ in anything, remove ``made`` and note the new ones.
        made: The files that such settings may have made, so that none of them passes for one of the new settings.

    Raises:
        ValueError: The folder holds ``what`` of other settings, and they are not to be overwritten.
    """
    path, text = Path(path), _dump(settings)
    if not overwrite:
        check_folder(path, settings, what, optional)
    elif path.is_file() and path.read_bytes() != text:
        for file in list(made):
            file.unlink(missing_ok=True)
    if overwrite or not path.is_file():
        write_file(path, text)


def _dump(settings: dict) -> bytes:
    return json.dumps(settings, indent=1, sort_keys=True, default=str).encode()


def hash_files(config: Any) -> dict[str, str]:
    """The first 16 digits of the SHA-256 of every local file that a part of a config names, such as weights.

    Config files are left out: networks are known by their weights.
    """
    if isinstance(config, dict):
        config = list(config.values())
    if isinstance(config, (list, tuple)):
        return {file: digest for entry in config for file, digest in hash_files(entry).items()}
    if not isinstance(config, str) or config.endswith('.py') or not os.path.isfile(config):
        return {}
    return {config: sha256_of(config)[:16]}


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()
