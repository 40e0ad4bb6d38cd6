# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Reading image files strictly: what is missing, cut off or damaged is an error that names the file."""
import io
import os
import struct
import zlib

import cv2
import mmcv
import numpy as np
from PIL import Image

_PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_JPEG_SIGNATURE = b'\xff\xd8'
_JPEG_END = b'\xff\xd9'
# An end marker is looked for in this many last bytes: some cameras append a few bytes of their own.
_JPEG_TAIL = 64
#: What Pillow raises for files that are damaged or no images.
DAMAGED = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def read_bytes(path: str, what: str = 'image') -> bytes:
    """Content of a file.

    Raises:
        FileNotFoundError: the file is missing; the message says ``what`` it should have been.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f'{what} not found: {path}')
    with open(path, 'rb') as file:
        return file.read()


def _check_png(data: bytes, path: str) -> None:
    """Walk the chunks of a PNG up to its end chunk and compare their checksums."""
    view, position = memoryview(data), len(_PNG_SIGNATURE)
    while True:
        if position + 12 > len(data):
            raise ValueError(f'{path} is a truncated PNG: its end chunk is missing after {len(data)} bytes')
        length, kind = struct.unpack_from('>I4s', data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            raise ValueError(f'{path} is a truncated PNG: {len(data)} bytes, at least {end + 4} expected')
        if zlib.crc32(view[position + 4:end]) != struct.unpack_from('>I', data, end)[0]:
            raise ValueError(f'{path} is a damaged PNG: wrong checksum of its chunk at byte {position}')
        if kind == b'IEND':
            return
        position = end + 4


def _check_other(data: bytes, path: str) -> None:
    """Let Pillow, which refuses incomplete files, decode the file once."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except DAMAGED as error:
        raise ValueError(f'{path} is truncated or no readable image ({error}); replace the file') from error


def check_complete(data: bytes, path: str) -> None:
    """Refuse image files that are cut off or damaged, which OpenCV decodes silently.

    PNG: every chunk's checksum. JPEG: the end marker. Anything else, and JPEGs with an unusual end: strict decoding.

    Raises:
        ValueError: the file is truncated, damaged or no image; the message names it.
    """
    if data.startswith(_PNG_SIGNATURE):
        _check_png(data, path)
    elif not (data.startswith(_JPEG_SIGNATURE) and _JPEG_END in data[-_JPEG_TAIL:]):
        _check_other(data, path)


def read_image(path: str, flag: str = 'color', backend: str = 'cv2', what: str = 'image') -> np.ndarray:
    """Read an image, uint8: (H, W, 3) BGR, or (H, W) with ``flag='grayscale'``.

    Args:
        flag: a flag of ``mmcv.imfrombytes``.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_bytes` and :func:`check_complete`.
    """
    data = read_bytes(path, what)
    check_complete(data, path)
    try:
        image = mmcv.imfrombytes(data, flag=flag, backend=backend)
    except (*DAMAGED, cv2.error) as error:
        raise ValueError(f'{path} cannot be decoded as an image: {error}') from error
    if image is None:
        raise ValueError(f'{path} cannot be decoded as an image; replace the file')
    return image


def read_plane(path: str, what: str = 'label file') -> np.ndarray:
    """Read a single-channel image (H, W) as stored; palette images give their indices.

    An image with several equal channels counts as one; uint8 unless the file holds wider integers.

    Raises:
        FileNotFoundError, ValueError: missing, truncated or damaged, or with channels that differ.
    """
    data = read_bytes(path, what)
    if data.startswith(_PNG_SIGNATURE):
        _check_png(data, path)
    try:
        with Image.open(io.BytesIO(data)) as image:
            plane = np.array(image)
    except DAMAGED as error:
        raise ValueError(f'{path} is truncated or no readable image ({error}); replace the file') from error
    if plane.dtype == bool:
        plane = plane.astype(np.uint8)
    if plane.ndim == 3:
        colours = plane[..., :1] if plane.shape[2] == 2 else plane[..., :3]  # what is left is opacity
        if not (colours == plane[..., :1]).all():
            raise ValueError(f'{what} {path} has {plane.shape[2]} channels that differ; it must be single-channel')
        plane = np.ascontiguousarray(plane[..., 0])
    return plane


def read_overlay(path: str) -> np.ndarray:
    """Read what is added to an image, int16 (H, W, 3) in BGR order, from the entry ``rgb`` of a ``.npz`` file.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is damaged or has no such entry.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f'overlay not found: {path}')
    try:
        with np.load(path, allow_pickle=False) as content:
            overlay = content['rgb']
    except Exception as error:  # NumPy and zipfile raise errors of a dozen types for damaged files
        raise ValueError(f"{path} is damaged or no .npz file with an entry 'rgb': {error}") from error
    if overlay.ndim != 3 or overlay.shape[2] != 3:
        raise ValueError(f"the entry 'rgb' of {path} must have the shape (H, W, 3), got {overlay.shape}")
    return overlay[..., ::-1].astype(np.int16)
