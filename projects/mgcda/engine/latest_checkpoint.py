# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Which checkpoint of a folder a training resumes from."""
import logging
import os
import zipfile
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mgcda.utils.checkpoints import UnsafeCheckpoint, read_checkpoint

#: File that names the last checkpoint of a training.
POINTER = 'last_checkpoint'


def find_latest_checkpoint(work_dir: str | Path,
                           out_dir: str | Path | None = None,
                           resumable: bool = True) -> Path | None:
    """The newest whole checkpoint of a training: the one of the last iteration.

    The log says which it is, and why where `last_checkpoint` names another. Best, published and other files that no
    training resumes from are left out. The folder may have been moved since.

    Args:
        work_dir: Folder of the training.
        out_dir: The one of its CheckpointHook, if any, in which a folder of the name of ``work_dir`` is searched, too.
        resumable: Leave out what was saved without an optimizer. Such will do for a test.

    Returns:
        Path, optional: None where there is no checkpoint at all.

    Raises:
        ValueError: There are some, but none is whole, or none that a training can resume from.
        UnsafeCheckpoint: The one that `last_checkpoint` names holds objects that could run code. A ValueError, too.
    """
    work_dir = Path(work_dir)
    pointer, folders = work_dir / POINTER, [work_dir]
    if out_dir is not None and '://' not in str(out_dir):
        folders.append(Path(out_dir) / os.path.basename(os.path.abspath(work_dir)))
    named = pointer.read_text(errors='replace').strip() if pointer.is_file() else None
    name = Path(named or '').name
    found, damaged, others = _find_checkpoints(folders, name, resumable)
    for _, _, path in sorted(found, reverse=True):
        try:
            read_whole(path)
        except ValueError as error:
            damaged[path] = str(error)
            continue
        if path.name == name:
            print_log(f'Resumes from {path}', logger='current')
        else:
            reason = next((error for file, error in damaged.items() if file.name == name), None)
            print_log(
                f'Resumes from {path}, the newest whole checkpoint: {reason or _describe(pointer, named, folders)}',
                logger='current',
                level=logging.WARNING)
        return path
    if damaged:
        raise ValueError(f'{next((damaged[path] for path in damaged if path.name == name), [*damaged.values()][0])}. '
                         f'No other checkpoint in {work_dir} is whole: remove what is damaged to start from the '
                         'beginning')
    # A run that was killed before its first checkpoint may have left best ones.
    early = named is None and all(file.startswith('best_') for file in others)
    if others and resumable and not early:
        raise ValueError(f'{work_dir} holds checkpoints, but none to resume from: {", ".join(sorted(others))} have no '
                         'optimizer, as best and published ones and those of save_optimizer=False. Give --cfg-options '
                         'load_from=FILE without --resume to start from the weights of one, or another --work-dir')
    if named and ('://' in named or Path(named).is_file()):
        raise ValueError(f'{pointer} names {named}, which is in no folder of this training: give --cfg-options '
                         f'load_from={named} to resume from it, or remove {pointer} to start from the beginning')
    if named is not None or others:
        print_log(
            'There is no checkpoint to resume from, so that the training starts from the beginning: '
            f'{_describe(pointer, named, folders)}{", but only " * bool(others)}{", ".join(others)}',
            logger='current',
            level=logging.WARNING)
    return None


def _describe(pointer: Path, named: str | None, folders: list[Path]) -> str:
    """Why the file that the pointer names isn't taken."""
    if named is None:
        return f'there is no {pointer}'
    if not named:
        return f'{pointer} is empty'
    if any((folder / Path(named).name).is_file() for folder in folders):
        return f'{named}, which {pointer} names, is older'
    return f'{named}, which {pointer} names, does not exist in {" or ".join(map(str, folders))}'


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


def _find_checkpoints(folders: list[Path], named: str,
                      resumable: bool) -> tuple[list[tuple[int, bool, Path]], dict[Path, str], list[str]]:
    """Iterations of checkpoints, whether they have the name, and their files; errors of damaged ones; other ones."""
    found, damaged, others = [], {}, []
    for path in sorted({path for folder in folders for path in folder.glob('*.pth')}):
        if path.name.startswith('.'):
            continue
        if path.name.startswith('best_'):
            others.append(path.name)
            continue
        try:
            checkpoint = read_checkpoint(path, mmap=True)
        except UnsafeCheckpoint as error:
            if path.name == named:
                raise
            print_log(str(error), logger='current', level=logging.WARNING)
            continue
        except ValueError as error:
            damaged[path] = str(error)
            continue
        meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
        if isinstance(meta, dict) and isinstance(meta.get('iter'), int):
            if 'optimizer' in checkpoint or ('state_dict' in checkpoint and not resumable):
                found.append((meta['iter'], path.name == named, path))
            elif 'state_dict' in checkpoint:
                others.append(path.name)
    return found, damaged, others
