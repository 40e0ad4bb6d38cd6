# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""A window for pictures, where there is a display."""
import os
import re
import sys

import cv2
import numpy as np

#: Keys that end a run: q and Escape.
_END_KEYS = (ord('q'), 27)
_NAME = 'mgcda'


def check_window() -> None:
    """Refuse where no window can be opened, before anything is computed.

    Raises:
        RuntimeError: OpenCV was built without windows, or there is no display.
    """
    if re.search(r'GUI:\s*NONE', cv2.getBuildInformation()):
        raise RuntimeError('no window can be shown: this OpenCV was built without windows (opencv-python-headless); '
                           'install opencv-python instead, or write pictures to a folder')
    if sys.platform.startswith('linux') and not (os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')):
        raise RuntimeError('no window can be shown: there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set); '
                           'write pictures to a folder instead')


def show_image(image: np.ndarray, wait_time: float = 0) -> bool:
    """Show an image, BGR uint8 (H, W, 3), for some seconds, by 0 until a key is pressed; False after q or Escape."""
    cv2.namedWindow(_NAME, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
    cv2.imshow(_NAME, image)
    return cv2.waitKey(max(round(1000 * wait_time), 1) if wait_time else 0) & 0xFF not in _END_KEYS
