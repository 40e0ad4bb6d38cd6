# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mgcda.apis.video import DEFAULT_FPS, VideoFile, check_video, read_frames


def grey(value: int, height: int = 33, width: int = 47) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


@pytest.fixture
def video(tmp_path) -> Path:
    with VideoFile(tmp_path / 'new/grey.mp4', 12.5) as file:
        for value in (40, 120, 200):
            file.write(grey(value))
    return tmp_path / 'new/grey.mp4'


def test_what_is_written_is_read(video) -> None:
    assert [path.name for path in video.parent.iterdir()] == ['grey.mp4']
    assert check_video(str(video)) == (12.5, 3)
    frames = list(read_frames(str(video)))
    assert [round(frame.mean(), -1) for frame in frames] == [40, 120, 200]
    assert all(frame.shape == (34, 48, 3) for frame in frames)  # the codec has even sizes
    assert len(list(read_frames(str(video), 2))) == 2


def test_an_interrupted_video_is_not_there(video) -> None:
    before = video.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        with VideoFile(video, 10) as file:
            file.write(grey(0))
            raise KeyboardInterrupt
    assert video.read_bytes() == before and len(list(video.parent.iterdir())) == 1
    with VideoFile(video.with_name('empty.mp4'), 10):
        pass
    assert len(list(video.parent.iterdir())) == 1


def test_frames_of_another_size_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match=r'a frame is \(20, 10\), the first was \(47, 33\)'):
        with VideoFile(tmp_path / 'a.mp4', 10) as file:
            file.write(grey(0))
            file.write(grey(0, 10, 20))
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_read_is_named(video, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match='none.mp4'):
        check_video(str(tmp_path / 'none.mp4'))
    content = video.read_bytes()
    (tmp_path / 'cut.mp4').write_bytes(content[:len(content) // 2])
    with pytest.raises(ValueError, match='cut.mp4 cannot be read as a video'):
        check_video(str(tmp_path / 'cut.mp4'))
    with pytest.raises(ValueError, match='webcam 97 cannot be opened'):
        check_video(97)


def test_cameras_that_name_no_rate_have_one(monkeypatch, video) -> None:
    film = cv2.VideoCapture

    class Camera:  # no subclass of OpenCV's type, which cannot have any: Python crashes when they are collected

        def __init__(self, source: str) -> None:
            self.film = film(source)

        def get(self, key: int) -> float:
            return 0.0

        def __getattr__(self, name: str) -> Any:
            return getattr(self.film, name)

    monkeypatch.setattr(cv2, 'VideoCapture', Camera)
    assert check_video(str(video)) == (DEFAULT_FPS, None)
