# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Anomaly score maps on disk: reading those of any code, and writing our own."""
import io
from pathlib import Path

import cv2
import h5py
import numpy as np
from PIL import Image
from torch import Tensor

from mgcda.utils.files import write_file

#: Types that score maps are written in.
SCORE_DTYPES = ('float32', 'float16')
#: File name extensions that :func:`read_scores` knows.
SCORE_SUFFIXES = ('.npy', '.npz', '.hdf5', '.h5', '.tif', '.tiff', '.png')
#: Entry of the HDF5 files of SegmentMeIfYouCan.
SMIYC_KEY = 'value'


def read_scores(path: str | Path, key: str | None = None, scale: float | None = None) -> np.ndarray:
    """Read the score map of one image.

    ``.npy``; ``.npz`` and ``.hdf5``/``.h5`` with one array, with an entry ``value`` (SegmentMeIfYouCan's), or with the
    entry ``key``; ``.tif``/``.tiff``; ``.png`` of 8 or 16 bit. Dimensions of length 1 beside height and width are
    dropped.

    Args:
        path: The file; its extension tells the format.
        key: Name of the array in an ``.npz`` or HDF5 file; other formats have none.
        scale: Stored values are divided by it, as in ``255`` or ``65535`` for integers that stand for [0, 1]. None
            leaves them as they are, which is enough wherever only the order counts.

    Returns:
        (H, W), float64 where the file holds float64 or integers of more than 16 bits, else float32.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Unknown extension, a damaged file, no or several arrays, values that are no real numbers or NaN, not
            one value a pixel, or a scale that is not positive. The message names the file.
    """
    path = Path(path)
    if scale is not None and not scale > 0:
        raise ValueError(f'scale must be positive, got {scale}')
    suffix = path.suffix.lower()
    if suffix not in SCORE_SUFFIXES:
        raise ValueError(f'{path}: score maps end on {", ".join(SCORE_SUFFIXES)}')
    if not path.is_file():
        raise FileNotFoundError(f'score map {path} does not exist')
    reader = _READERS[suffix]
    try:
        arrays = reader(path, key)
    except Exception as error:  # the libraries raise errors of a dozen types for damaged files
        raise ValueError(f'{path} is damaged or no {suffix} file of numbers: {error}') from error
    return _check(_choose(arrays, key, path), scale, path)


def find_scores(folder: str | Path, suffix: str | None = None) -> dict[str, Path]:
    """Score maps in a folder: name without ``suffix`` (by default any of :data:`SCORE_SUFFIXES`) -> path.

    Raises:
        ValueError: Two files of one name; none at all.
    """
    folder = Path(folder)
    suffixes = SCORE_SUFFIXES if suffix is None else (suffix, )
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        end = next((end for end in suffixes if path.name.lower().endswith(end.lower())), None)
        if end is None or path.name.startswith('.') or not path.is_file():
            continue
        name = path.name[:-len(end)]
        if name in found:
            raise ValueError(f'{found[name]} and {path} are both score maps of {name}: keep one, or name its suffix')
        found[name] = path
    if not found:
        raise ValueError(f'no score maps in {folder}: nothing there ends on {" or ".join(suffixes)}')
    return found


def _read_npy(path: Path, key: str | None) -> dict[str, np.ndarray]:
    return {'': np.load(path, allow_pickle=False)}


def _read_npz(path: Path, key: str | None) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in _needed(archive.files, key)}


def _read_hdf5(path: Path, key: str | None) -> dict[str, np.ndarray]:
    with h5py.File(path, 'r') as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        return {name: file[name][()] for name in _needed(names, key)}


def _read_tiff(path: Path, key: str | None) -> dict[str, np.ndarray]:
    data = np.frombuffer(path.read_bytes(), np.uint8)
    done, pages = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED) if data.size else (False, ())
    if not done or len(pages) != 1:
        raise ValueError(f'{len(pages)} pages could be decoded, there must be 1')
    return {'': pages[0]}


def _read_png(path: Path, key: str | None) -> dict[str, np.ndarray]:
    # Pillow, unlike OpenCV, refuses files that are cut off.
    with Image.open(io.BytesIO(path.read_bytes()), formats=('PNG', )) as image:
        if image.mode == 'P':
            raise ValueError('it holds indices of colours')
        return {'': np.asarray(image)}


_READERS = {
    '.npy': _read_npy,
    '.npz': _read_npz,
    '.hdf5': _read_hdf5,
    '.h5': _read_hdf5,
    '.tif': _read_tiff,
    '.tiff': _read_tiff,
    '.png': _read_png
}


def _needed(names: list[str], key: str | None) -> list[str]:
    """The names that are worth reading: the one asked for, SegmentMeIfYouCan's, or all."""
    wanted = SMIYC_KEY if key is None else key.strip('/')
    return [wanted] if wanted in names else list(names)


def _choose(arrays: dict[str, np.ndarray], key: str | None, path: Path) -> np.ndarray:
    """The array asked for, or the only one."""
    if list(arrays) == ['']:
        if key is not None:
            raise ValueError(f'{path} has no entry {key!r}: only .npz and HDF5 files have entries')
        return np.asarray(arrays[''])
    if key is not None and list(arrays) != [key.strip('/')]:
        raise ValueError(f'{path} has no entry {key!r}, but {sorted(arrays)}')
    if len(arrays) != 1:
        raise ValueError(f'{path} holds {len(arrays)} arrays, {sorted(arrays)}: name the one of the scores as key')
    return np.asarray(next(iter(arrays.values())))


def _check(array: np.ndarray, scale: float | None, path: Path) -> np.ndarray:
    """The array as floats (H, W)."""
    if array.dtype.kind not in 'biuf':
        raise ValueError(f'{path} holds {array.dtype}, not real numbers')
    scores = array.squeeze() if array.ndim > 2 else array
    if scores.ndim != 2 or not scores.size:
        raise ValueError(f'{path} has the shape {array.shape}; a score map has one value a pixel, (H, W)')
    wide = scores.dtype.itemsize > (4 if scores.dtype.kind == 'f' else 2)
    scores = scores.astype(np.float64 if wide else np.float32)
    num_nan = int(np.isnan(scores).sum())
    if num_nan:
        raise ValueError(f'{path} holds NaN at {num_nan} pixels; every pixel needs a score')
    if scale is not None:
        scores /= scores.dtype.type(scale)
    return scores


class ScoreMapFolder:
    """Writes ``<folder>/<data set>/<image stem>.npy``, (H, W), each under a temporary name first.

    The first map removes the ``results.json`` that an earlier run left: it is not of these maps.

    Args:
        folder: Where to write.
        dtype: 'float32', or 'float16' for half the size: scores that differ by less than a 2048th part become equal.

    Raises:
        ValueError: If ``dtype`` is another.
    """

    def __init__(self, folder: str | Path, dtype: str = 'float32') -> None:
        if dtype not in SCORE_DTYPES:
            raise ValueError(f'score_dtype must be one of {SCORE_DTYPES}, got {dtype!r}')
        self.folder = Path(folder)
        self.dtype = dtype
        self._images: dict[Path, str] = {}

    def write(self, scores: Tensor, dataset_name: str, img_path: str) -> None:
        """Write the scores (1, H, W) of an image.

        Raises:
            ValueError: If another image was written to the same file, or finite scores are too large for float16.
        """
        path = self.folder / dataset_name / f'{Path(img_path).stem}.npy'
        if path in self._images:
            raise ValueError(f'{self._images[path]} and {img_path} would both be written to {path}')
        if not self._images:
            (self.folder / 'results.json').unlink(missing_ok=True)
        self._images[path] = img_path
        write_score_map(path, scores[0].detach().float().cpu().numpy(), self.dtype, img_path)


def write_score_map(path: Path, scores: np.ndarray, dtype: str, img_path: str) -> None:
    """Write the scores (H, W) of an image as ``.npy``, under a temporary name first.

    Raises:
        ValueError: If finite scores are too large for the type.
    """
    with np.errstate(over='ignore'):
        converted = scores.astype(dtype)
    if not np.array_equal(np.isinf(converted), np.isinf(scores)):
        raise ValueError(f'{img_path}: scores up to {np.abs(scores).max():g} are too large for {dtype}; '
                         "score_dtype='float32' keeps them")
    buffer = io.BytesIO()
    np.save(buffer, converted)
    write_file(path, buffer.getvalue())
