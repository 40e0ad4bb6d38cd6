# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Reading videos and webcams, and writing videos so that none is ever found half-written."""
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

#: A file, or the number of a webcam.
VideoSource = str | int
#: Frames per second where neither file nor camera says so.
DEFAULT_FPS = 25.0


class VideoInfo(NamedTuple):
    """What is known of a video: frames per second, and their number, None where it is not known."""
    fps: float
    num_frames: int | None


def check_video(source: VideoSource) -> VideoInfo:
    """Open a video and read its first frame.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: No frame can be read.
    """
    if isinstance(source, str) and not os.path.isfile(source):
        raise FileNotFoundError(f'video not found: {source}')
    capture = cv2.VideoCapture(source)
    try:
        if not capture.isOpened() or not capture.read()[0]:
            what = f'webcam {source} cannot be opened, or gives no picture'
            raise ValueError(
                what if isinstance(source, int) else
                f'{source} cannot be read as a video: it is damaged, or OpenCV lacks its codec')
        fps, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    finally:
        capture.release()
    return VideoInfo(fps if 0 < fps < 1000 else DEFAULT_FPS,
                     int(count) if isinstance(source, str) and count > 0 else None)


def read_frames(source: VideoSource, max_frames: int | None = None) -> Iterator[np.ndarray]:
    """Frames of a video, BGR uint8 (H, W, 3), at most ``max_frames``; a webcam has no end."""
    capture = cv2.VideoCapture(source)
    number = 0
    try:
        while max_frames is None or number < max_frames:
            done, frame = capture.read()
            if not done:
                return
            yield frame
            number += 1
    finally:
        capture.release()


class VideoFile:
    """An MP4 video (codec mp4v) under a temporary name, which gets its own when the block ends without an error.

    The codec has even sizes only: the last row or column of others is doubled.

    Args:
        path: Of the video; missing folders are made.
        fps: Frames per second.

    Raises:
        ValueError: OpenCV cannot write it; a frame has another size than the first.
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        self.path = Path(path)
        self.fps = fps
        self._temporary = self.path.with_name(f'.{self.path.stem}.{os.getpid()}.tmp{self.path.suffix}')
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def __enter__(self) -> 'VideoFile':
        return self

    def write(self, frame: np.ndarray) -> None:
        """Add a frame, BGR uint8 (H, W, 3)."""
        size = frame.shape[1::-1]
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._size = size
            even = (size[0] + size[0] % 2, size[1] + size[1] % 2)
            self._writer = cv2.VideoWriter(str(self._temporary), cv2.VideoWriter.fourcc(*'mp4v'), self.fps, even)
            if not self._writer.isOpened():
                raise ValueError(f'{self.path} cannot be written: this OpenCV has no encoder for it')
        if size != self._size:
            raise ValueError(f'{self.path}: a frame is {size}, the first was {self._size}')
        self._writer.write(cv2.copyMakeBorder(frame, 0, size[1] % 2, 0, size[0] % 2, cv2.BORDER_REPLICATE))

    def __exit__(self, error: type | None, *args: Any) -> None:
        if self._writer is not None:
            self._writer.release()
            if error is None:
                os.replace(self._temporary, self.path)
        self._temporary.unlink(missing_ok=True)
