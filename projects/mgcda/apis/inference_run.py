# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""The loop of all inference: images and videos in; pictures, score maps and boxes out."""
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from types import MappingProxyType
from typing import Any

import numpy as np
from mmengine.utils import ProgressBar

from mgcda.visualization import show_image

from .anomaly_result import AnomalyResult, Prediction
from .inputs import ImageType
from .result_folder import ResultFolder
from .video import VideoFile, VideoSource, check_video, read_frames

#: By kind, BGR uint8 (H, W, 3).
Pictures = dict[str, np.ndarray]


class WindowClosed(Exception):
    """The user ended the run in its window."""


@dataclass(frozen=True)
class InferenceRun:
    """Draws, saves and shows what a model predicts, image by image.

    Both ``AnomalyInferencer`` and ``InferenceJob`` run it, in a ``with`` block, which writes the boxes so far when it
    ends, also by an error.

    Args:
        predict: From images to their predictions, in order.
        draw: From an image, its result and a kind to a picture of that kind.
        folder: Where to write; None writes nothing.
        kinds: Kinds of pictures to draw besides those that are written or shown.
        show: Show the overlays in a window; closing it raises :class:`WindowClosed`.
        wait_time: Seconds that each stays there; 0 waits for a key, or in a video does not wait.
        progress: Print progress bars.
    """

    predict: Callable[[Iterable[ImageType]], Iterator[Prediction]]
    draw: Callable[[np.ndarray, AnomalyResult, str], np.ndarray]
    folder: ResultFolder | None = None
    kinds: Collection[str] = ()
    show: bool = False
    wait_time: float = 0
    progress: bool = False

    def __enter__(self) -> 'InferenceRun':
        return self

    def __exit__(self, *error: object) -> None:
        if self.folder is not None:
            self.folder.write_boxes()

    def images(self, named: Sequence[tuple[str, ImageType]]) -> Iterator[tuple[Prediction, Pictures]]:
        """Score images, each with the name of its files.

        Yields:
            Each prediction with its pictures, when they are written, before one is shown.

        Raises:
            ValueError: Files of two images would have one name.
        """
        notes = [(name, dict(path=name if isinstance(image, np.ndarray) else str(image))) for name, image in named]
        if self.folder is not None:
            for name, note in notes:
                self.folder.reserve(name, note['path'])
        yield from self._score([image for _, image in named], notes, len(named))

    def video(self, name: str, source: VideoSource, max_frames: int | None, say: Callable[..., Any]) -> None:
        """Score the frames of a video or webcam; Ctrl-C and the window end a webcam and keep what was recorded.

        ``say``: called as ``print`` with what the user should know.
        """
        info = check_video(source)
        total = min((known for known in (info.num_frames, max_frames) if known is not None), default=None)
        started, number, ended = time.monotonic(), 0, False

        def notes() -> Iterator[tuple[str, dict[str, Any]]]:
            for frame in count():
                label = f'{name}/{frame:06d}'
                if self.folder is not None:
                    self.folder.reserve(label, str(source))
                yield label, dict(path=source, frame=frame, time=frame / info.fps)

        with ExitStack() as stack:
            files: dict[str, VideoFile] = {}
            if self.folder is not None:
                for kind in self.folder.pictures:
                    files[kind] = stack.enter_context(VideoFile(self.folder.path(kind, name, '.mp4'), info.fps))
            try:
                frames = read_frames(source, max_frames)
                for number, _ in enumerate(self._score(frames, notes(), total, files, pause=1e-3), start=1):
                    if total is None:
                        pace = number / (time.monotonic() - started)
                        say(f'\r{number} frames, {pace:.1f} a second', end='', flush=True)
            except (WindowClosed, KeyboardInterrupt):
                if isinstance(source, str):
                    raise
                ended = True
            if self.folder is not None:
                self.folder.write_boxes()  # the videos get their names last
        say(f'\n{name}: {number} frames, {number / (time.monotonic() - started):.2f} a second')
        if total is not None and number < total:
            say(f'{source} says that it has {info.num_frames} frames, but only {number} could be read')
        if ended:
            raise WindowClosed

    def _score(self,
               images: Iterable[ImageType],
               notes: Iterable[tuple[str, dict[str, Any]]],
               total: int | None,
               videos: Mapping[str, VideoFile] = MappingProxyType({}),
               pause: float = 0) -> Iterator[tuple[Prediction, Pictures]]:
        """``notes``: for each image the name of its files, and what is noted beside its boxes."""
        kinds = {
            *self.kinds, *(['overlay'] if self.show else []), *([] if self.folder is None else self.folder.pictures)
        }
        bar = ProgressBar(total, file=sys.stdout) if self.progress and total else None
        for (name, note), prediction in zip(notes, self.predict(images)):
            pictures = {kind: self.draw(prediction.image, prediction.result, kind) for kind in kinds}
            for kind, video in videos.items():
                video.write(pictures[kind])
            if self.folder is not None:
                self.folder.write(name, {} if videos else pictures, prediction.result, **note)
            if bar is not None:
                bar.update()
            yield prediction, pictures
            if self.show and not show_image(pictures['overlay'], self.wait_time or pause):
                raise WindowClosed
