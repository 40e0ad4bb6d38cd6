# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Writing files so that none is ever found half-written."""
import io
import json
import os
from pathlib import Path
from typing import Union

import cv2
import numpy as np
import torch


def write_file(path: Union[str, Path], data: bytes) -> None:
    """Write ``data`` under a temporary name beside ``path``, then rename it; missing folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_png(path: Union[str, Path], image: np.ndarray) -> None:
    """Write a uint8 image, (H, W) or BGR (H, W, 3), as :func:`write_file` does."""
    done, data = cv2.imencode('.png', image)
    if not done:
        raise OSError(f'cannot encode {path}')
    write_file(path, data.tobytes())


def claim_folder(path: Union[str, Path], settings: dict, what: str, overwrite: bool) -> None:
    """Note in the file ``path`` with which settings ``what`` of its folder is made, or compare with what it notes.

    Raises:
        ValueError: The folder holds ``what`` of other settings, and they are not to be overwritten.
    """
    path = Path(path)
    text = json.dumps(settings, indent=1, sort_keys=True, default=str)
    if overwrite or not path.is_file():
        write_file(path, text.encode())
    elif path.read_text(encoding='utf-8') != text:
        raise ValueError(f'{path.parent} holds {what} of other settings (see {path}): write to another folder, or make '
                         'all of them again with --overwrite')


def checkpoint_bytes(checkpoint: dict) -> bytes:
    """Content of the file that ``torch.save`` writes; the same checkpoint always gives the same bytes."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()
