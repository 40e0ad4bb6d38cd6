# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""One training at a time in a folder."""
import logging
import os
from pathlib import Path

from mmengine.logging import print_log

from mgcda.utils.files import remove_temporary_files
from mgcda.utils.folder_lock import FolderInUse, FolderLock, NoLocks

LOCK_FILE = '.training.lock'
#: The locks of this process: folders may be held again by what runs in it.
_held: dict[Path, FolderLock] = {}


def hold_training_folder(folder: str | Path) -> None:
    """Hold a folder for a training of this process; what a killed one left half-written there is removed.

    Raises:
        FolderInUse: A training of another process holds it; it says which and since when.
    """
    folder = Path(folder).resolve()
    if folder in _held:
        return
    try:
        _held[folder] = FolderLock(folder / LOCK_FILE, 'another training')
    except FolderInUse as error:
        raise FolderInUse(f'{error}: wait for it, end it, or give this one another --work-dir') from None
    except NoLocks as error:
        print_log(f'{error}: nothing would stop a second training in {folder}', logger='current', level=logging.WARNING)
    for path in remove_temporary_files(folder):
        print_log(f'Removed {path}, which a killed run left half-written', logger='current')


def release_training_folder(folder: str | Path) -> None:
    """Give a folder up, if this process holds it."""
    lock = _held.pop(Path(folder).resolve(), None)
    if lock is not None:
        lock.release()


os.register_at_fork(after_in_child=_held.clear)
