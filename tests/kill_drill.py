# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Killing a process at a chosen moment of its writing: in the middle of a file, or before or after any step around it.

Configs import this module; where ``KILL_DRILL`` is set to ``EVENT,SHARE`` it is armed by that.
"""
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.fileio import LocalBackend

#: What a checkpoint says of the time and place of its run.
OF_THE_RUN = ('time', 'cfg', 'experiment_name', 'mmengine_version')


def arm(event: int, share: float, kill: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGKILL)) -> None:
    """Kill this process at the ``event``-th step of writing from now on (counted from 0).

    Steps are: a checkpoint is written, and ``share`` of its bytes are there; a file is synced, renamed, removed, each
    before and after.
    """
    left = [event]

    def count() -> bool:
        left[0] -= 1
        return left[0] < 0

    def around(function: Callable) -> Callable:

        def call(*args: Any, **kwargs: Any) -> Any:
            if count():
                kill()
            result = function(*args, **kwargs)
            if count():
                kill()
            return result

        return call

    def put(self: LocalBackend, content: bytes, path: str) -> None:
        if count():
            with open(path, 'wb') as file:
                file.write(content[:int(share * len(content))])
            kill()
        write(self, content, path)

    write, LocalBackend.put = LocalBackend.put, put
    os.fsync, os.replace, os.remove = around(os.fsync), around(os.replace), around(os.remove)


def kill_group() -> None:
    """As where a machine goes down: all processes of the study at once."""
    os.killpg(os.getpgid(0), signal.SIGKILL)


def outcome(folder: Path) -> dict[str, Any]:
    """All that counts of a folder of a run: names of files, and what its checkpoints hold."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.suffix not in ('.log', '.py'))
    content: dict[str, Any] = dict(names=[name for name in names if not name.endswith('.lock')])
    content['last'] = Path((folder / 'last_checkpoint').read_text()).name
    for path in folder.glob('*.pth'):
        checkpoint = torch.load(path, weights_only=True)
        hub = checkpoint.pop('message_hub')['runtime_info']
        checkpoint['kept'] = {
            key: Path(value).name if key.startswith(('best_ckpt', 'last_ckpt')) else value
            for key, value in sorted(hub.items()) if key.startswith(('best_', 'last_ckpt', 'keep_', 'outdated_'))
        }
        checkpoint['meta'] = {key: value for key, value in checkpoint['meta'].items() if key not in OF_THE_RUN}
        content[path.name] = checkpoint
    return content


if 'KILL_DRILL' in os.environ:
    _event, _share = os.environ['KILL_DRILL'].split(',')
    arm(int(_event), float(_share), kill_group)
