# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Finding the images and videos to be scored."""
import os
from collections.abc import Mapping, Sequence
from glob import glob, has_magic
from typing import Any

import numpy as np

from mgcda.datasets.anomaly_dataset import IMAGE_SUFFIXES
from mgcda.datasets.image_io import check_complete, read_bytes
from mgcda.datasets.pairing import list_files

from .video import VideoSource, check_video

#: An image: file, or BGR uint8 (H, W, 3).
ImageType = str | os.PathLike | np.ndarray
#: Endings of the images of a folder; also in capital letters.
IMAGE_ENDINGS = tuple(
    ending for suffix in (*IMAGE_SUFFIXES, '.bmp', '.tif', '.tiff') for ending in (suffix, suffix.upper()))
VIDEO_ENDINGS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv')


def list_images(inputs: ImageType | Sequence[ImageType]) -> list[ImageType]:
    """Images of a folder (those that lie directly in it), or those of a list; a single image is a list of one.

    Raises:
        FileNotFoundError: There is none.
    """
    if isinstance(inputs, (str, os.PathLike)) and os.path.isdir(inputs):
        return list(_images_of(os.fspath(inputs)).values())
    items: list[Any] = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    if not items:
        raise FileNotFoundError('there is no image: the list of inputs is empty')
    return items


def find_inputs(text: str) -> dict[str, VideoSource]:
    """What a text names: image, folder of images, pattern of images and videos, video, or number of a webcam.

    Returns:
        dict: By the name of its results, files and numbers of webcams.

    Raises:
        FileNotFoundError: It names nothing.
        ValueError: Two files would have results of one name.
    """
    if text.isdecimal() and not os.path.exists(text):
        return {f'webcam{text}': int(text)}
    if os.path.isdir(text):
        return dict(_images_of(text))
    paths = [text] if os.path.isfile(text) else []
    if not paths and has_magic(text):
        paths = sorted(path for path in glob(text, recursive=True) if path.endswith(IMAGE_ENDINGS) or is_video(path))
    if not paths:
        raise FileNotFoundError(f'input not found: {text} is no image, video or folder, and no pattern of images')
    common = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    named: dict[str, VideoSource] = {}
    for path in paths:
        name = os.path.splitext(os.path.relpath(os.path.abspath(path), common))[0]
        if name in named:
            raise ValueError(f'{named[name]} and {path} would have results of one name: give one of them')
        named[name] = path
    return named


def is_video(source: VideoSource) -> bool:
    """Whether an input is a webcam or, by its ending, a video."""
    return isinstance(source, int) or source.lower().endswith(VIDEO_ENDINGS)


def check_inputs(inputs: Mapping[str, VideoSource]) -> None:
    """Refuse inputs that are missing or damaged, before a model is built.

    Raises:
        FileNotFoundError, ValueError: Naming the file or webcam.
    """
    for source in inputs.values():
        if is_video(source):
            check_video(source)
        else:
            check_complete(read_bytes(str(source)), str(source))


def _images_of(folder: str) -> dict[str, str]:
    files = list_files(folder, IMAGE_ENDINGS, 'images', recursive=False)
    return {name: os.path.join(folder, path) for name, path in files.items()}
