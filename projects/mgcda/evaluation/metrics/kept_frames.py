# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mgcda.labels import IGNORE


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
