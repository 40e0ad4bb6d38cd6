# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""What inference leaves on disk."""
import json
import math
from pathlib import Path
from typing import Any, Dict, List, Sequence, Union

import numpy as np

from mgcda.evaluation.score_maps import SCORE_DTYPES, write_score_map
from mgcda.files import write_file, write_png

from .anomaly_result import AnomalyResult

#: Kind of result -> ending of its files; boxes of all images are in one file.
ENDINGS = dict(overlay='.png', heatmap='.png', scores='.npy')
KINDS = (*ENDINGS, 'boxes')
BOXES_FILE = 'boxes.json'


class ResultFolder:
    """Writes the results of images, each file under a temporary name first.

    ::

        <folder>/overlay/NAME.png    the heat map over the image, and boxes
        <folder>/heatmap/NAME.png    the heat map
        <folder>/scores/NAME.npy     scores (H, W), larger = more anomalous
        <folder>/boxes.json          boxes of all images, by NAME

    Args:
        folder: Where to write.
        save: What to write, of 'overlay', 'heatmap', 'scores' and 'boxes'.
        score_dtype: 'float32', or 'float16' for half the size: scores that differ by less than a 2048th part become
            equal.
        overwrite: Forget the boxes that an earlier run left; without, those of other images stay.

    Raises:
        ValueError: ``save`` or ``score_dtype`` is none of these; the folder's boxes are damaged.
    """

    def __init__(self,
                 folder: Union[str, Path],
                 save: Sequence[str] = ('overlay', ),
                 score_dtype: str = 'float32',
                 overwrite: bool = False) -> None:
        if not save or not set(save) <= set(KINDS):
            raise ValueError(f'save must name some of {", ".join(KINDS)}, got {save!r}')
        if score_dtype not in SCORE_DTYPES:
            raise ValueError(f'score_dtype must be one of {SCORE_DTYPES}, got {score_dtype!r}')
        self.folder = Path(folder)
        self.save = tuple(save)
        self.score_dtype = score_dtype
        self._boxes: Dict[str, Dict[str, Any]] = {}
        self._written: Dict[str, str] = {}
        if 'boxes' in self.save and not overwrite and (self.folder / BOXES_FILE).is_file():
            self._boxes = _read_images(self.folder / BOXES_FILE)

    @property
    def pictures(self) -> List[str]:
        """The kinds of pictures that are written."""
        return [kind for kind in self.save if kind in ('overlay', 'heatmap')]

    def path(self, kind: str, name: str, ending: str = '') -> Path:
        """File of an image or, with the ``ending`` of one, of a video."""
        return self.folder / kind / f'{name}{ending or ENDINGS[kind]}'

    def has(self, name: str) -> bool:
        """Whether all results of an image are there."""
        files = [self.path(kind, name) for kind in self.save if kind in ENDINGS]
        return all(file.is_file() for file in files) and ('boxes' not in self.save or name in self._boxes)

    def has_video(self, name: str) -> bool:
        """Whether all results of a video are there; never without pictures, which tell that it came to its end."""
        videos = [self.path(kind, name, '.mp4') for kind in self.pictures]
        scored = 'scores' not in self.save or (self.folder / 'scores' / name).is_dir()
        boxed = 'boxes' not in self.save or any(frame.startswith(f'{name}/') for frame in self._boxes)
        return bool(videos) and all(video.is_file() for video in videos) and scored and boxed

    def write(self, name: str, pictures: Dict[str, np.ndarray], result: AnomalyResult, **notes: Any) -> None:
        """Write the results of an image.

        Args:
            name: Of its files, which may lie in subfolders.
            pictures: By kind, BGR uint8 (H, W, 3); those that are left out are not written.
            result: Its result.
            **notes: What is noted beside its boxes.

        Raises:
            ValueError: Another image was written under the name, or finite scores are too large for float16.
        """
        if name in self._written:
            raise ValueError(f'{self._written[name]} and {result.name} would both be written as {name}')
        self._written[name] = result.name
        for kind, picture in pictures.items():
            write_png(self.path(kind, name), picture)
        if 'scores' in self.save:
            write_score_map(self.path('scores', name), result.anomaly_scores, self.score_dtype, result.name)
        if 'boxes' in self.save:
            height, width = result.anomaly_scores.shape
            self._boxes[name] = dict(**notes, width=width, height=height, boxes=result.boxes)

    def write_boxes(self, settings: Dict[str, Any]) -> None:
        """Write the boxes of all images so far, if they are wanted, with what they depend on."""
        if 'boxes' in self.save:
            content = dict(format=1, **settings, images=dict(sorted(self._boxes.items())))
            write_file(self.folder / BOXES_FILE, json.dumps(to_json(content), indent=1, allow_nan=False).encode())


def to_json(value: Any) -> Any:
    """A value as JSON holds it: infinite numbers become the strings 'inf' and '-inf'."""
    if isinstance(value, dict):
        return {key: to_json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(entry) for entry in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def _read_images(path: Path) -> Dict[str, Dict[str, Any]]:
    try:
        images = json.loads(path.read_bytes())['images']
        if not isinstance(images, dict):
            raise TypeError('"images" must be a dict')
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path} is damaged, or of something else ({error}): delete it') from error
    return images
