# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Score maps on disk: those that a test leaves for its user, and those that a metric keeps for a second pass."""
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mgcda.labels import IGNORE
from mgcda.utils.files import write_file

SCORE_DTYPES = ('float32', 'float16')


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


class KeptFrames:
    """Scores and labels of frames in a temporary folder, deleted with this object.

    A frame takes 4 bytes for each valid pixel, the others being dropped, and 1 byte for each label. The folder lies
    where Python's ``tempfile`` puts it: the variable TMPDIR names another place.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix='mgcda_')
        self._frames: dict[str, list[Path]] = {}

    def keep(self, dataset_name: str, scores: Tensor, labels: Tensor) -> None:
        """Keep a frame: scores (H, W), labels (H, W) of 0, 1, 255."""
        frames = self._frames.setdefault(dataset_name, [])
        path = Path(self._folder.name, f'{len(self._frames)}_{len(frames)}.npz')
        valid_scores = scores[labels != IGNORE].float().cpu().numpy()
        np.savez(path, scores=valid_scores, labels=labels.to(torch.uint8).cpu().numpy())
        frames.append(path)

    def frames(self, dataset_name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Scores (H, W), 0 where the label is 255, and labels (H, W) of all frames of a data set."""
        for path in self._frames.get(dataset_name, ()):
            with np.load(path) as content:
                labels, valid_scores = content['labels'], content['scores']
            scores = np.zeros(labels.shape, np.float32)
            scores[labels != IGNORE] = valid_scores
            yield scores, labels
