# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""What Fishyscapes' servers give to a submitted container and expect of it (fishyscapes.com/submission, public code).

Input: ``DDDD_*.png``, each D a digit. Output for each: ``DDDD_anomaly.npy``, a number a pixel, larger = more anomalous,
and ``DDDD_segmentation.npy``, an integer class a pixel, here Cityscapes train ids; both of the image's size.
"""
import re
from pathlib import Path

import numpy as np
from PIL import Image

from mgcda.labels import NUM_CITYSCAPES_CLASSES

from ..score_maps import read_scores

_IMAGE_NAME = re.compile(r'(\d{4})_.*\.png')
ANOMALY_ENDING, SEGMENTATION_ENDING = '_anomaly.npy', '_segmentation.npy'


def find_inputs(folder: str | Path) -> dict[str, Path]:
    """Images of an input folder: number ``DDDD`` -> path, in ascending order.

    Raises:
        FileNotFoundError: No such folder, or no image in it.
        ValueError: Two images of one number, whose outputs would be one.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f'folder of images not found: {folder}')
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        match = _IMAGE_NAME.fullmatch(path.name)
        if match is None:
            continue
        if match[1] in found:
            raise ValueError(f'{found[match[1]]} and {path} have the same number')
        found[match[1]] = path
    if not found:
        raise FileNotFoundError(f'no images in {folder}: nothing there is named DDDD_*.png')
    return found


def check_fishyscapes(inputs: str | Path, outputs: str | Path) -> int:
    """Read all outputs of a container back and compare them with the rules.

    Args:
        inputs: The folder of images that it was given.
        outputs: The folder that it wrote to.

    Returns:
        Number of images.

    Raises:
        FileNotFoundError: An output is missing.
        ValueError: An output breaks a rule, belongs to no image, or holds one value only; the message names it.
    """
    outputs, images = Path(outputs), find_inputs(inputs)
    for number, path in images.items():
        with Image.open(path) as image:
            size = image.height, image.width
        scores = read_scores(_existing(outputs / (number + ANOMALY_ENDING)))
        _check_size(outputs / (number + ANOMALY_ENDING), scores, size)
        if scores.min() == scores.max():
            raise ValueError(f'{outputs / (number + ANOMALY_ENDING)} gives all pixels the same score, {scores.min()}')
        _check_segmentation(_existing(outputs / (number + SEGMENTATION_ENDING)), size)
    for path in outputs.iterdir():
        number = next((path.name.removesuffix(ending)
                       for ending in (ANOMALY_ENDING, SEGMENTATION_ENDING) if path.name.endswith(ending)), None)
        if number is not None and number not in images:
            raise ValueError(f'{path} belongs to no image in {inputs}')
    return len(images)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f'{path} is missing')
    return path


def _check_segmentation(path: Path, size: tuple) -> None:
    try:
        classes = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f'{path} is damaged or no .npy file of numbers: {error}') from error
    if classes.dtype.kind not in 'iu':
        raise ValueError(f'{path} must hold integers, got {classes.dtype}')
    _check_size(path, classes, size)
    if classes.min() < 0 or classes.max() >= NUM_CITYSCAPES_CLASSES:
        raise ValueError(f'{path} must hold train ids 0 to {NUM_CITYSCAPES_CLASSES - 1}, got {classes.min()} to '
                         f'{classes.max()}')


def _check_size(path: Path, array: np.ndarray, size: tuple) -> None:
    if array.shape != size:
        raise ValueError(f'{path} is {array.shape}, its image {size}')
