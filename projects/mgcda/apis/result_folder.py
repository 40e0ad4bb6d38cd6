# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""What inference leaves on disk."""
import fcntl
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from mgcda.evaluation.score_maps import SCORE_DTYPES, write_score_map
from mgcda.utils.files import write_file, write_png

from .anomaly_result import AnomalyResult

#: Kind of result -> ending of its files; boxes of all images are in one file.
ENDINGS = dict(overlay='.png', heatmap='.png', scores='.npy')
KINDS = (*ENDINGS, 'boxes')
BOXES_FILE = 'boxes.json'
#: Seconds after which the boxes so far are written.
WRITE_EVERY = 10.0


class ResultFolder:
    """Writes the results of images, each file under a temporary name first.

    ::

        <folder>/overlay/NAME.png    the heat map over the image, and boxes
        <folder>/heatmap/NAME.png    the heat map
        <folder>/scores/NAME.npy     scores (H, W), larger = more anomalous
        <folder>/boxes.json          boxes of all images, by NAME

    Several processes may write to one folder; boxes of other images than one's own stay.

    Args:
        folder: Where to write.
        save: What to write, of 'overlay', 'heatmap', 'scores' and 'boxes'.
        score_dtype: 'float32', or 'float16' for half the size: scores that differ by less than a 2048th part become
            equal.

    Raises:
        ValueError: ``save`` or ``score_dtype`` is none of these; the folder's boxes are damaged.
    """

    def __init__(self, folder: str | Path, save: Sequence[str] = ('overlay', ), score_dtype: str = 'float32') -> None:
        if not save or not set(save) <= set(KINDS):
            raise ValueError(f'save must name some of {", ".join(KINDS)}, got {save!r}')
        if score_dtype not in SCORE_DTYPES:
            raise ValueError(f'score_dtype must be one of {SCORE_DTYPES}, got {score_dtype!r}')
        self.folder = Path(folder)
        self.save = tuple(save)
        self.score_dtype = score_dtype
        self._sources: dict[str, str] = {}
        self._boxes: dict[str, dict[str, Any]] = {}
        self._header: dict[str, Any] = {}
        self._written_at = time.monotonic()
        self._stored = self._read_boxes().get('images', {})

    @property
    def pictures(self) -> list[str]:
        """The kinds of pictures that are written."""
        return [kind for kind in self.save if kind in ('overlay', 'heatmap')]

    def path(self, kind: str, name: str, ending: str = '') -> Path:
        """File of an image or, with the ``ending`` of one, of a video."""
        return self.folder / kind / f'{name}{ending or ENDINGS[kind]}'

    def has(self, name: str) -> bool:
        """Whether all results of an image are there."""
        files = [self.path(kind, name) for kind in self.save if kind in ENDINGS]
        return all(file.is_file() for file in files) and ('boxes' not in self.save or name in self._stored)

    def has_video(self, name: str) -> bool:
        """Whether all results of a video are there; never without pictures, which tell that it came to its end."""
        videos = [self.path(kind, name, '.mp4') for kind in self.pictures]
        scored = 'scores' not in self.save or (self.folder / 'scores' / name).is_dir()
        boxed = 'boxes' not in self.save or any(frame.startswith(f'{name}/') for frame in self._stored)
        return bool(videos) and all(video.is_file() for video in videos) and scored and boxed

    def files(self) -> Iterator[Path]:
        """All results in the folder, of any kind and of any run."""
        for kind in ENDINGS:
            yield from (file for file in (self.folder / kind).rglob('*') if file.suffix in ('.png', '.npy', '.mp4'))
        yield self.folder / BOXES_FILE

    def begin(self, header: dict[str, Any]) -> None:
        """Say what the boxes to be written depend on.

        Raises:
            ValueError: The folder has boxes that depend on something else, or there is no threshold for them.
        """
        if 'boxes' in self.save and header['threshold'] is None:
            raise ValueError("save='boxes' needs a threshold")
        self._header = json.loads(json.dumps(to_json(header), allow_nan=False))
        self._check_header(self._read_boxes())

    def reserve(self, name: str, source: str) -> None:
        """Keep the name of files for one image or frame.

        Raises:
            ValueError: It is taken.
        """
        if name in self._sources:
            raise ValueError(f'{self._sources[name]} and {source} would both be written as {name}')
        self._sources[name] = source

    def write(self, name: str, pictures: dict[str, np.ndarray], result: AnomalyResult, **notes: Any) -> None:
        """Write the results of an image, and from time to time the boxes so far.

        Args:
            name: Of its files, which may lie in subfolders.
            pictures: By kind, BGR uint8 (H, W, 3); those that are not wanted are left out.
            result: Its result.
            **notes: What is noted beside its boxes.

        Raises:
            ValueError: Finite scores are too large for float16.
        """
        for kind, picture in pictures.items():
            if kind in self.save:
                write_png(self.path(kind, name), picture)
        if 'scores' in self.save:
            write_score_map(self.path('scores', name), result.anomaly_scores, self.score_dtype, result.name)
        if 'boxes' in self.save:
            height, width = result.anomaly_scores.shape
            self._boxes[name] = dict(**notes, width=width, height=height, boxes=result.boxes)
            if time.monotonic() - self._written_at >= WRITE_EVERY:
                self.write_boxes()

    def write_boxes(self) -> None:
        """Write the boxes of all images so far, if they are wanted, beside those that are there already.

        Raises:
            ValueError: Another process wrote boxes that depend on something else.
        """
        if not self._boxes:
            return
        with _lock(self.folder):
            stored = self._read_boxes()
            self._check_header(stored)
            images = {**stored.get('images', {}), **to_json(self._boxes)}
            content = dict(format=1, **self._header, images=dict(sorted(images.items())))
            write_file(self.folder / BOXES_FILE, json.dumps(content, indent=1, allow_nan=False).encode())
        self._written_at = time.monotonic()

    def _read_boxes(self) -> dict[str, Any]:
        """Content of the file of boxes, where they are wanted; empty where there is none."""
        path = self.folder / BOXES_FILE
        if 'boxes' not in self.save or not path.is_file():
            return {}
        try:
            content = json.loads(path.read_bytes())
            if not isinstance(content['images'], dict):
                raise TypeError('"images" must be a dict')
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f'{path} is damaged, or of something else ({error}): delete it') from error
        return content

    def _check_header(self, stored: dict[str, Any]) -> None:
        header = {key: value for key, value in stored.items() if key not in ('format', 'images')}
        other = [key for key in {**header, **self._header} if header.get(key) != self._header.get(key)]
        if stored.get('images') and other:
            raise ValueError(f'{self.folder / BOXES_FILE} holds boxes of other settings ({", ".join(other)}): write to '
                             'another folder, or delete it')


def to_json(value: Any) -> Any:
    """A value as JSON holds it: infinite numbers become the strings 'inf' and '-inf'."""
    if isinstance(value, dict):
        return {key: to_json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(entry) for entry in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Keep other processes out of a block that changes a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # which unlocks
