# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Which checkpoint of a folder a training resumes from."""
import logging
import zipfile
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mgcda.utils.checkpoints import UnsafeCheckpoint, read_checkpoint

#: File that names the last checkpoint of a training.
POINTER = 'last_checkpoint'


def find_latest_checkpoint(work_dir: str | Path) -> Path | None:
    """The checkpoint that `last_checkpoint` of a folder names, or the newest whole one if that is missing or damaged.

    The log says which it is. The folder may have been moved since. Newest is the one of the last iteration; best,
    published and other files that no training resumes from are left out.

    Returns:
        Path, optional: None where the folder has no checkpoint at all.

    Raises:
        ValueError: It has some, but none is whole.
        UnsafeCheckpoint: The one that it is to be holds objects that could run code. A ValueError, too.
    """
    pointer, work_dir = Path(work_dir) / POINTER, Path(work_dir)
    named = pointer.read_text(errors='replace').strip() if pointer.is_file() else None
    folders, problem = [work_dir], None
    if named is not None:
        folders.append(Path(named).parent)
        path = next((path for path in (work_dir / Path(named).name, Path(named)) if path.is_file()), None)
        problem = f'{pointer} is empty' if not named else f'{named}, which {pointer} names, does not exist'
        if path is not None:
            try:
                read_whole(path)
                print_log(f'Resumes from {path}', logger='current')
                return path
            except UnsafeCheckpoint:
                raise
            except ValueError as error:
                problem = str(error)
    found, damaged = _find_resumable(folders)
    for _, path in sorted(found, reverse=True):
        try:
            read_whole(path)
        except ValueError as error:
            damaged.append(str(error))
            continue
        print_log(
            f'Resumes from {path}, the newest whole checkpoint: {problem or f"there is no {pointer}"}',
            logger='current',
            level=logging.WARNING)
        return path
    if damaged:
        raise ValueError(f'{damaged[0]}. No other checkpoint in {work_dir} is whole: remove what is damaged to start '
                         'from the beginning')
    if problem:
        print_log(
            f'There is no checkpoint to resume from, so that the training starts from the beginning: {problem}',
            logger='current',
            level=logging.WARNING)
    return None


def read_whole(path: Path) -> Any:
    """Load a checkpoint, its tensors left on the disk, once all of its bytes are found to be those that were written.

    Raises:
        ValueError: They are not.
    """
    checkpoint = read_checkpoint(path, mmap=True)
    if zipfile.is_zipfile(path):  # has checksums, which PyTorch does not look at
        try:
            with zipfile.ZipFile(path) as archive:
                spoiled = archive.testzip()
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            spoiled = error
        if spoiled is not None:
            raise ValueError(f'{path} is not a checkpoint, or is damaged (the checksum of {spoiled} is wrong)')
    return checkpoint


def _find_resumable(folders: list[Path]) -> tuple[list[tuple[int, Path]], list[str]]:
    """Iterations and files of checkpoints with all that resuming needs; errors of those that cannot be read."""
    found, damaged = [], []
    for path in sorted({path for folder in folders for path in folder.glob('*.pth')}):
        if path.name.startswith(('best_', '.')):
            continue
        try:
            checkpoint = read_checkpoint(path, mmap=True)
        except UnsafeCheckpoint as error:
            print_log(str(error), logger='current', level=logging.WARNING)
            continue
        except ValueError as error:
            damaged.append(str(error))
            continue
        meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
        if isinstance(meta, dict) and isinstance(meta.get('iter'), int) and 'optimizer' in checkpoint:
            found.append((meta['iter'], path))
    return found, damaged
