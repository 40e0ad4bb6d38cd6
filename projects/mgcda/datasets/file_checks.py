# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Looking at the files of one sample and noting everything that is wrong, where loading stops at the first fault."""
import hashlib
import os
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from mgcda.labels import ANOMALY, NORMAL

from .image_io import DAMAGED, read_bytes, read_plane
from .maps import size_problems
from .transforms.load_anomaly_annotations import to_target
from .transforms.load_dissimilarity_maps import read_map
from .transforms.load_image import LoadImage

_GREYSCALE_MODES = ('1', 'L', 'I', 'I;16', 'F')


@dataclass
class SampleReport:
    """What was found in the files of a sample.

    Args:
        problems: what is wrong, each naming its file.
        size: (H, W) of the image; None where it cannot be read.
        digest: of the content of image and overlay; None where a file is missing.
        values: values in the label file.
        num_normal, num_anomaly: pixels of the label; None where there is no label, or none that can be read.
    """
    problems: list[str] = field(default_factory=list)
    size: tuple[int, int] | None = None
    digest: bytes | None = None
    values: frozenset[int] = frozenset()
    num_normal: int | None = None
    num_anomaly: int | None = None


def check_sample(info: dict, resize_label: bool = False, resize_maps: bool = False) -> SampleReport:
    """Read image, label and maps of a sample.

    Args:
        info: entry of a data set's ``load_data_list``; its ``label_map`` must be a dict where it has a label.
        resize_label: whether the label may differ in size from the image.
        resize_maps: whether maps of one network may differ in size from each other.
    """
    report = SampleReport()
    try:
        files = [info[key] for key in ('img_path', 'overlay_path') if key in info]
        report.digest = hashlib.blake2b(b''.join(map(read_bytes, files)), digest_size=16).digest()
        report.size = LoadImage().transform(dict(info))['img_shape']
    except (OSError, ValueError) as error:
        report.problems.append(str(error))
    if 'seg_map_path' in info:
        _check_label(info, resize_label, report)
    sizes = {}
    for kind, path in info.get('map_paths', {}).items():
        _check_map(kind, path, sizes, report)
    if not resize_maps:
        report.problems.extend(size_problems(sizes, info.get('map_paths', {})))
    return report


def _check_label(info: dict, resize: bool, report: SampleReport) -> None:
    path = info['seg_map_path']
    try:
        label = read_plane(path)
        if label.dtype.kind not in 'ui':
            raise ValueError(f'label file {path} holds {label.dtype}; it must hold integers')
    except (OSError, ValueError) as error:
        report.problems.append(str(error))
        return
    if report.size is not None and not resize and label.shape[:2] != tuple(report.size):
        report.problems.append(f'label file {path} is {label.shape[1]}x{label.shape[0]}, but its image '
                               f'{report.size[1]}x{report.size[0]}; they must be of one size')
    counts = np.bincount(label.reshape(-1)) if label.dtype.kind == 'u' else None
    report.values = frozenset((np.unique(label) if counts is None else np.flatnonzero(counts)).tolist())
    try:
        target = to_target(label, info['label_map'], path)
    except ValueError as error:
        report.problems.append(str(error))
        return
    report.num_normal = int(np.count_nonzero(target == NORMAL))
    report.num_anomaly = int(np.count_nonzero(target == ANOMALY))


def _check_map(kind: str, path: str, sizes: dict[str, tuple[int, int]], report: SampleReport) -> None:
    """Note the size of a map that is as it should be."""
    try:
        loaded = read_map(kind, path)
        if kind == 'synthesis':
            with Image.open(path) as image:
                if image.mode in _GREYSCALE_MODES:
                    raise ValueError(f'synthesis map {path} has one channel; it must be an image in colours')
    except (OSError, ValueError) as error:
        report.problems.append(str(error))
        return
    sizes[kind] = loaded.shape[:2]


def check_object_image(path: str, size: tuple[int, int]) -> list[str]:
    """Problems of a COCO image that objects are cut from, as far as its header tells them.

    Args:
        path: the image.
        size: (H, W) that the annotation file says.
    """
    if not os.path.isfile(path):
        return [f'COCO image not found: {path}']
    try:
        with Image.open(path) as image:
            width, height = image.size
    except DAMAGED as error:
        return [f'COCO image {path} is no readable image ({error})']
    if (height, width) != tuple(size):
        return [f'COCO image {path} is {width}x{height}, but the annotation file says {size[1]}x{size[0]}']
    return []
