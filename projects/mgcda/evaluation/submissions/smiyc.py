# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Score maps as SegmentMeIfYouCan's benchmark suite stores them, and its rules.

``anomaly_p/METHOD/SET/FRAME.hdf5`` with one array ``value``, float16 (H, W), compressed, larger = more anomalous
(public code, August 2023: ``evaluation.py`` and ``datasets/dataset_io.py``). The suite takes quantiles of each frame's
scores for its bins, so that an infinite score spoils the frame, and scores that are equal in float16 are one.
"""
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from mgcda.utils.files import write_file

from ..score_maps import SMIYC_KEY

FOLDER = 'anomaly_p'
IMAGE_ENDING = '_leftImg8bit'
#: Codes of the rank map: the float16 values 0, ..., 1 in ascending order, which are those of the bits 0 to 0x3c00.
NUM_RANKS = 0x3c00


@dataclass(frozen=True)
class SMIYCSplit:
    """Frames of a set that are scored together, with names that begin as in ``prefixes``.

    ``count``: how many there are; of a smaller number ``subset`` alone is scored, too. Empty ``prefixes``: all frames
    that are in no other split. Frames beginning as in ``unscored`` may be there or not.
    """
    count: int
    prefixes: tuple[str, ...] = ()
    unscored: tuple[str, ...] = ()
    subset: int | None = None


#: Folder of a set -> its splits, as the public code lists them.
SMIYC_SETS: dict[str, dict[str, SMIYCSplit]] = {
    'AnomalyTrack-all': dict(test=SMIYCSplit(100), validation=SMIYCSplit(10, ('validation', ))),
    'ObstacleTrack-all': dict(
        test=SMIYCSplit(327),
        validation=SMIYCSplit(30, ('validation_', ), tuple(f'validation_{i}' for i in (19, *range(21, 30)))),
        snowstorm=SMIYCSplit(55, ('snowstorm1_', 'snowstorm2_')),
        night=SMIYCSplit(30, ('driveway_', ))),
    'LostAndFound-test': dict(test=SMIYCSplit(1203, subset=1043)),  # test-NoKnown has a part of the frames
}
#: Data set of this project -> the set that its frames belong to.
SET_OF_BENCHMARK = {
    'RoadAnomaly21': 'AnomalyTrack-all',
    'RoadObstacle21': 'ObstacleTrack-all',
    'LostAndFound_test': 'LostAndFound-test',
    'LostAndFound_testNoKnown': 'LostAndFound-test',
}


def frame_id(stem: str) -> str:
    """Name of a frame by the name of its image without extension."""
    return stem.removesuffix(IMAGE_ENDING)


def smiyc_path(root: str | Path, method: str, set_name: str, frame: str) -> Path:
    """File of a frame below ``root``."""
    return Path(root, FOLDER, method, set_name, f'{frame}.hdf5')


def to_float16(scores: np.ndarray) -> np.ndarray:
    """Scores rounded to float16.

    Raises:
        ValueError: A score is infinite, or becomes so because it is beyond float16's 65504.
    """
    with np.errstate(over='ignore'):
        rounded = scores.astype(np.float16)
    if not np.isfinite(rounded).all():
        raise ValueError(f'scores from {scores.min():g} to {scores.max():g} do not fit into float16, which ends at '
                         '65504: map them, for instance by their ranks')
    return rounded


class RankMap:
    """A non-decreasing map of the scores of a whole data set to the 15,361 float16 values in [0, 1].

    Half of the steps are spread evenly over the ranks, half ever more finely towards the largest scores, where the
    anomalies are. Different scores may become equal, but no two change their order. Infinite scores are allowed.

    Args:
        scores: Scores of the data set, or an even sample of them; any shape, no NaN.
    """

    def __init__(self, scores: np.ndarray) -> None:
        ordered = np.sort(scores, axis=None)
        half, last = NUM_RANKS // 2, ordered.size - 1
        even = np.linspace(0, last, half)
        fine = last + 1 - np.geomspace(1, last + 1, NUM_RANKS - half)
        ranks = np.unique(np.concatenate([even, fine]).round().astype(np.int64).clip(0, last))
        self.steps = np.unique(ordered[ranks])

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """float16 of the same shape, in [0, 1]."""
        return np.searchsorted(self.steps, scores, side='right').astype(np.uint16).view(np.float16)


def write_smiyc(path: str | Path, scores: np.ndarray) -> None:
    """Write the score map of a frame, float16 (H, W), whole or not at all."""
    if scores.dtype != np.float16 or scores.ndim != 2:
        raise ValueError(f'{path}: scores must be float16 (H, W), got {scores.dtype} {scores.shape}')
    buffer = io.BytesIO()
    with h5py.File(buffer, 'w') as file:
        file.create_dataset(SMIYC_KEY, data=scores, compression='gzip', compression_opts=9)
    write_file(path, buffer.getvalue())


def check_frames(set_name: str, frames: Iterable[str], partial: bool = False) -> dict[str, int]:
    """Compare the frames of a set with the benchmark's splits.

    Returns:
        Number of frames of each split that has any.

    Raises:
        ValueError: Unless ``partial``, a split is there in part. Always, if a split has too many frames or there is
            none at all.
    """
    splits = SMIYC_SETS[set_name]
    counts = Counter(name for name in (_split_of(frame, splits) for frame in frames) if name is not None)
    if not counts:
        raise ValueError(f'{set_name} has no frames')
    for name, count in counts.items():
        wanted = splits[name].count
        if count > wanted or (count not in (wanted, splits[name].subset) and not partial):
            raise ValueError(f'{set_name}: {count} frames of {name}, the benchmark has {wanted}' +
                             ('' if count > wanted else '; a part can be written with --partial, but not submitted'))
    return {name: counts[name] for name in splits if name in counts}


def _split_of(frame: str, splits: dict[str, SMIYCSplit]) -> str | None:
    """Name of the split of a frame; None for frames that are not scored."""
    rest = None
    for name, split in splits.items():
        if not split.prefixes:
            rest = name
        elif frame.startswith(split.prefixes):
            return None if frame.startswith(split.unscored) else name
    return rest


def check_smiyc(root: str | Path,
                method: str,
                partial: bool = False,
                sizes: dict[str, tuple[int, int]] | None = None) -> dict[str, dict[str, int]]:
    """Read all files of a method back and compare them with the benchmark's rules.

    Args:
        root: The folder that holds ``anomaly_p``.
        method: Name of the method.
        partial: Allow splits that are there in part.
        sizes: Frame -> (H, W) that its map must have, for the frames that are named; the suite scores only maps of the
            image's size right.

    Returns:
        Set -> split -> number of frames.

    Raises:
        ValueError: An unknown set, a file that breaks a rule, or an incomplete split; the message names it.
    """
    found: dict[str, dict[str, int]] = {}
    for folder in sorted(Path(root, FOLDER, method).iterdir()):
        if folder.name not in SMIYC_SETS:
            raise ValueError(f'{folder}: the benchmark has no such set, but {", ".join(SMIYC_SETS)}')
        frames: list[str] = []
        for path in sorted(folder.iterdir()):
            if path.suffix != '.hdf5':
                raise ValueError(f'{path} does not belong into a submission of .hdf5 files')
            frames.append(path.stem)
            _check_file(path, (sizes or {}).get(path.stem))
        found[folder.name] = check_frames(folder.name, frames, partial)
    if not found:
        raise ValueError(f'{Path(root, FOLDER, method)} holds no set')
    return found


def _check_file(path: Path, size: tuple[int, int] | None) -> None:
    """One array ``value``, float16, finite, (H, W)."""
    try:
        with h5py.File(path, 'r') as file:
            value = file[SMIYC_KEY]
            shape, dtype, finite = value.shape, value.dtype, bool(np.isfinite(value[()]).all())
    except (OSError, KeyError, AttributeError, TypeError) as error:  # the last two: a group, strings
        raise ValueError(f'{path} is damaged or has no array {SMIYC_KEY!r}: {error}') from error
    if dtype != np.float16 or len(shape) != 2:
        raise ValueError(f'{path} must hold float16 (H, W), got {dtype} {shape}')
    if not finite:
        raise ValueError(f'{path} holds scores that are not finite')
    if size is not None and shape != tuple(size):
        raise ValueError(f'{path} is {shape}, its image {tuple(size)}')
