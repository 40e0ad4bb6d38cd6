# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Check the Python environment that this runs in: complete distributions, importable libraries, system libraries.

It needs nothing but the standard library, so that it can say what is missing.
"""
import argparse
import csv
import importlib
import os
import shutil
import sys
from importlib import metadata

IMPORTS = ('numpy', 'scipy', 'sklearn', 'matplotlib', 'h5py', 'pycocotools.mask', 'torch', 'torchvision', 'mmengine',
           'mmcv', 'mmseg', 'mmpretrain', 'pytest', 'hypothesis')
SAME_IMPORT_NAME = (('mmcv', 'mmcv-lite', 'onedl-mmcv'), ('mmengine', 'mmengine-lite', 'onedl-mmengine'),
                    ('mmsegmentation', 'onedl-mmsegmentation'), ('mmpretrain', 'onedl-mmpretrain'))
# Shared libraries that Python cannot bring, and the Debian packages that hold them.
DEBIAN_PACKAGES = {
    'libGL.so': 'libgl1',
    'libEGL.so': 'libegl1',
    'libgthread-2.0.so': 'libglib2.0-0',
    'libglib-2.0.so': 'libglib2.0-0',
    'libSM.so': 'libsm6',
    'libXext.so': 'libxext6',
    'libXrender.so': 'libxrender1',
    'libgomp.so': 'libgomp1',
}


def remove_leftovers() -> None:
    """Delete what only an interrupted pip leaves: packages set aside as ``~name``, metadata folders without any."""
    for folder in {path for path in sys.path if path.endswith('site-packages') and path.startswith(sys.prefix)}:
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if name.startswith('~') or (name.endswith('.dist-info')
                                        and not os.path.isfile(os.path.join(path, 'METADATA'))):
                shutil.rmtree(path, ignore_errors=True)


def find_broken() -> list[str]:
    """``name==version`` of each installed distribution of which a file is missing or cut short.

    mgcda itself is left out: the set-up installs it anew each time.
    """
    broken = []
    for distribution in metadata.distributions():
        name, root = distribution.metadata['Name'], str(distribution.locate_file(''))
        if name in (None, 'mgcda') or not root.startswith(sys.prefix):
            continue
        record = distribution.read_text('RECORD')
        if not record or any(is_damaged(root, *row) for row in csv.reader(record.splitlines())):
            broken.append(f'{name}=={distribution.version}')
    return sorted(broken)


def is_damaged(root: str, path: str, digest: str = '', size: str = '') -> bool:
    """Whether a file of a RECORD (path, digest, size) is missing, or of another size; compiled files do not count."""
    if path.endswith('.pyc') or not size:
        return False
    try:
        return os.stat(os.path.join(root, path)).st_size != int(size)
    except FileNotFoundError:
        return True


def find_doubles() -> list[str]:
    """Distributions that share an import name: each overwrites the files of the other."""
    messages = []
    for names in SAME_IMPORT_NAME:
        present = [name for name in names if installed_version(name)]
        if len(present) > 1:
            messages.append(f'{" and ".join(present)} bring the same package: uninstall both, then install one of them')
    return messages


def installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def explain_import_error(module: str, error: Exception) -> str:
    """What to install, where a shared library of the system is missing."""
    for library, package in DEBIAN_PACKAGES.items():
        if library in str(error):
            return (f'import {module} fails because {library} is missing from the system. On Debian or Ubuntu: '
                    f'apt-get install {package}' +
                    (' (OpenCV needs libgl1 and libglib2.0-0)' if module == 'cv2' else ''))
    return f'import {module} fails: {type(error).__name__}: {error}'


def find_import_errors() -> list[str]:
    messages = []
    for module in ('cv2', ) + IMPORTS:
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever a broken library raises while it is imported
            messages.append(explain_import_error(module, error))
            if module == 'cv2':  # the mm libraries import cv2: they would only repeat this
                break
    return messages


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--list-broken',
        action='store_true',
        help='remove what an interrupted pip left and print name==version of incomplete distributions, nothing else')
    args = parser.parse_args()
    if args.list_broken:
        remove_leftovers()
        print(*find_broken())
        return 0
    messages = find_doubles() or find_import_errors()
    for message in messages:
        print(f'[setup] error: {message}', file=sys.stderr)
    return 1 if messages else 0


if __name__ == '__main__':
    sys.exit(main())
