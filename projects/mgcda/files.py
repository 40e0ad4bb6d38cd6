# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Writing files so that none is ever found half-written."""
import io
import os
from pathlib import Path
from typing import Union

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


def checkpoint_bytes(checkpoint: dict) -> bytes:
    """Content of the file that ``torch.save`` writes; the same checkpoint always gives the same bytes."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()
