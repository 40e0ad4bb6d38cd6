# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Thresholds from a false positive rate on images without anomalies or on a data set with labels, and their files."""
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from mmengine.utils import ProgressBar
from mmseg.registry import DATASETS

from mgcda.datasets.anomaly_dataset import AnomalyDataset
from mgcda.evaluation.curves import FPRThreshold
from mgcda.labels import ANOMALY, IGNORE, NORMAL, OUTLIER
from mgcda.scores.fitting.score_file import fingerprint
from mgcda.utils.configs import leaf_configs
from mgcda.utils.files import write_file

from .anomaly_inferencer import AnomalyInferencer, LoadedImage
from .inference import kind_of
from .inputs import ImageType, list_images


class Calibration(NamedTuple):
    """A threshold, and what it was found on.

    ``fpr``: the part of the normal pixels with a score above the ``threshold``, at most ``target_fpr``.
    """
    threshold: float
    fpr: float
    target_fpr: float
    data: str
    num_images: int
    num_pixels: int


def calibrate(inferencer: AnomalyInferencer,
              data: ImageType | Sequence[ImageType],
              target_fpr: float = 0.05) -> Calibration:
    """The threshold that a given part of all normal pixels exceeds.

    Args:
        inferencer: Of the model.
        data: Name of a data set with labels that the config tests or validates on, or defines; or images whose pixels
            are all normal, as of a call of the inferencer. Where labels are classes, all pixels but ignored ones and
            outliers are normal.
        target_fpr: In (0, 1).

    Raises:
        FileNotFoundError, ValueError: There are no such images, no such data set, or no normal pixels.
    """
    if not 0 < target_fpr < 1:
        raise ValueError(f'target_fpr must be between 0 and 1, got {target_fpr}')
    if isinstance(data, str) and not os.path.exists(data):
        samples, number = _labelled(inferencer, data)
    else:
        items = list_images(data)
        samples, number = ((result.anomaly_scores for _, result in inferencer.stream(items)), len(items))
    bar = ProgressBar(number, file=sys.stdout) if inferencer.show_progress else None
    pixels = FPRThreshold()
    for scores in samples:
        pixels.update(scores)
        if bar is not None:
            bar.update()
    if not pixels.num_normal:
        raise ValueError(f'{data} has no normal pixels')
    threshold, fpr = pixels.compute(target_fpr)
    source = os.fspath(data) if isinstance(data, (str, os.PathLike)) else f'{number} images'
    return Calibration(threshold, fpr, target_fpr, source, number, pixels.num_normal)


def find_data_sets(cfg: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Data sets that a config tests and validates on, and others for tests that it defines, by name."""
    leaves: list[dict[str, Any]] = []
    for loader in ('test_dataloader', 'val_dataloader'):
        leaves += leaf_configs((cfg.get(loader) or {}).get('dataset') or {})
    leaves += [entry for entry in cfg.values() if isinstance(entry, dict) and entry.get('test_mode')]
    named: dict[str, dict[str, Any]] = {}
    for leaf in leaves:
        kind = DATASETS.get(leaf['type']) if isinstance(leaf.get('type'), str) else None
        if kind is not None:
            named.setdefault(leaf.get('dataset_name') or getattr(kind, 'DEFAULT_NAME', None) or kind.__name__, leaf)
    return named


def _labelled(inferencer: AnomalyInferencer, name: str) -> tuple[Iterator[np.ndarray], int]:
    """Scores (P,) of the normal pixels of each image of a data set, and the number of images."""
    known = find_data_sets(inferencer.cfg)
    if name not in known:
        raise ValueError(f'{name!r} is neither a file or folder of images nor a data set of the config, which has '
                         f'{", ".join(known) or "none"}')
    leaf = {key: value for key, value in known[name].items() if key not in ('maps_root', 'map_kinds')}
    # Maps come online, as they do of one's own images.
    leaf['pipeline'] = [step for step in leaf['pipeline'] if kind_of(step) != 'LoadDissimilarityMaps']
    dataset = DATASETS.build(dict(leaf, serialize_data=False))  # no other process reads it
    if getattr(dataset, 'labels_hidden', False):
        raise ValueError(f'the labels of {name} are hidden')
    return _normal_scores(inferencer, dataset), len(dataset)


def _normal_scores(inferencer: AnomalyInferencer, dataset: Sequence[dict[str, Any]]) -> Iterator[np.ndarray]:
    classes = not isinstance(dataset, AnomalyDataset) or set(dataset.allowed_targets) != {NORMAL, ANOMALY, IGNORE}
    for index in range(len(dataset)):
        packed = dataset[index]
        sample = packed['data_samples']
        loaded = LoadedImage(sample.img_path, None, packed['inputs'], sample)
        predicted = inferencer.forward([loaded])[0]
        scores = inferencer.postprocess(sample.img_path, predicted).anomaly_scores
        labels = sample.gt_sem_seg.data[0].cpu().numpy()
        if labels.shape != scores.shape:
            raise ValueError(f'{sample.img_path}: the label is {labels.shape}, the image {scores.shape}')
        yield scores[labels < OUTLIER if classes else labels == NORMAL]


def write_threshold(path: str, calibration: Calibration, inferencer: AnomalyInferencer) -> None:
    """Write a threshold, what it was found on, and which score of which weights it is of."""
    content = dict(
        format=1, **calibration._asdict(), score=inferencer.score_name, fingerprint=fingerprint(inferencer.model))
    write_file(path, json.dumps(content, indent=1).encode())


def read_threshold(path: str) -> dict[str, Any]:
    """Content of a file of :func:`write_threshold`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or of something else.
    """
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
        missing = {'threshold', 'score', 'fingerprint'} - set(content)
        if missing or not isinstance(content['threshold'], (int, float)):
            raise ValueError(f'it lacks {", ".join(sorted(missing)) or "a number as its threshold"}')
    except FileNotFoundError:
        raise FileNotFoundError(f'threshold file {path} does not exist: --calibrate writes it') from None
    except (ValueError, TypeError) as error:
        raise ValueError(f'{path} is no threshold file, or is damaged: {error}') from error
    return content


def check_threshold(path: str, content: dict[str, Any], inferencer: AnomalyInferencer) -> None:
    """Refuse the threshold of another score or of other weights.

    Raises:
        ValueError: It is of another one.
    """
    if content['score'] != inferencer.score_name:
        raise ValueError(f'{path} is a threshold of the score {content["score"]}, not of {inferencer.score_name}')
    if content['fingerprint'] != fingerprint(inferencer.model):
        raise ValueError(f'{path} is a threshold of other weights: calibrate anew')
