# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Finding the files of a data set and pairing them up."""
import os
import re
from collections.abc import Callable, Sequence

#: What is done with a problem of a data set: raising it, or, to find more of them, noting it.
Refuse = Callable[[str], None]
#: Why a test set cannot be scored, for error messages.
HIDDEN_LABELS = ('the labels of the test set are hidden, and only the benchmark itself scores it: submit the score '
                 'maps through tools/export_submission.py')
_SHOWN = 20


def raise_problem(problem: str) -> None:
    """Raise the problem as a ValueError."""
    raise ValueError(problem)


def list_files(folder: str, suffixes: str | Sequence[str], what: str, recursive: bool = True) -> dict[str, str]:
    """Files below a folder that end on one of the suffixes: name without suffix -> path relative to the folder.

    Sorted by name; hidden files and folders are left out, links to folders followed.

    Raises:
        FileNotFoundError: no such folder, or no such file in it.
        ValueError: two files that differ in their suffix only.
    """
    suffixes = (suffixes, ) if isinstance(suffixes, str) else tuple(suffixes)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f'folder of {what} not found: {folder}; check data_root and data_prefix')
    found: dict[str, str] = {}
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith('.')) if recursive else []
        for name in names:
            path = os.path.relpath(os.path.join(root, name), folder)
            suffix = next((suffix for suffix in suffixes if path.endswith(suffix)), None)
            if suffix is None or name.startswith('.'):
                continue
            stem = path[:-len(suffix)]
            if stem in found:
                raise ValueError(f'two {what} of the same name in {folder}: {found[stem]} and {path}; keep one')
            found[stem] = path
    if not found:
        raise FileNotFoundError(f'no {what} in {folder}: nothing there ends on {" or ".join(suffixes)}')
    return dict(sorted(found.items()))


def find_layout(data_root: str | None, layouts: dict[str, dict]) -> str:
    """Name of the first layout whose folder ``data_prefix.img_path`` is below ``data_root``, or of the first of all."""
    present = (name for name, layout in layouts.items()
               if os.path.isdir(os.path.join(data_root or '', layout['data_prefix']['img_path'])))
    return next(present, next(iter(layouts)))


def listing(names: Sequence[str]) -> str:
    """The names for an error message, the first of them if they are many."""
    names = sorted(names)
    rest = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
    return ', '.join(names[:_SHOWN]) + rest


def by_base_name(files: dict[str, str], what: str, folder: str, refuse: Refuse = raise_problem) -> dict[str, str]:
    """Files of :func:`list_files` by name without folders, sorted by it.

    Raises:
        ValueError: two files of the same name in different folders.
    """
    found: dict[str, str] = {}
    for stem, path in files.items():
        first = found.setdefault(os.path.basename(stem), path)
        if first != path:
            refuse(f'two {what} of the same name below {folder}: {first} and {path}; keep one')
    return dict(sorted(found.items()))


def pair_by_name(images: dict[str, str],
                 others: dict[str, str],
                 what: str,
                 folder: str,
                 refuse: Refuse = raise_problem) -> list[tuple[str, str]]:
    """Pairs (image, other) of equal names.

    Raises:
        ValueError: files of either kind are left over; the message lists them.
    """
    problems = []
    missing = images.keys() - others.keys()
    if missing:
        problems.append(f'{len(missing)} images without {what}: {listing([images[name] for name in missing])}')
    surplus = others.keys() - images.keys()
    if surplus:
        problems.append(f'{len(surplus)} {what}s without image: {listing([others[name] for name in surplus])}')
    if problems:
        refuse(f'images and {what}s in {folder} do not pair up: ' + '; '.join(problems))
    return [(path, others[name]) for name, path in images.items() if name in others]


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Sorting key that takes runs of digits for numbers, which stand before letters: 1, 2, 10, a, b1, b2, b10."""
    parts = re.findall(r'[0-9]+|[^0-9]+', name)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def pair_by_order(images: dict[str, str],
                  others: dict[str, str],
                  what: str,
                  folder: str,
                  refuse: Refuse = raise_problem) -> list[tuple[str, str]]:
    """Pairs (image, other) of files that sort alike in natural order; none where their numbers differ.

    Names may differ: 1.png, 2.png and 10.png go with 1_label.png, 2_label.png and 10_label.png.

    Raises:
        ValueError: the numbers of files differ; the message lists the names that only one of them has.
    """
    if len(images) != len(others):
        refuse(f'{len(images)} images but {len(others)} {what}s in {folder}: they must sort alike. '
               f'Only among the images: {listing([images[n] for n in images.keys() - others.keys()])}. '
               f'Only among the {what}s: {listing([others[n] for n in others.keys() - images.keys()])}')
        return []
    first, second = ([files[name] for name in sorted(files, key=natural_order)] for files in (images, others))
    return list(zip(first, second))
