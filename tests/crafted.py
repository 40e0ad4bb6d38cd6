# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints that run code when they are loaded carelessly, and a server that hands out files."""
import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f'touch {self.mark}', )


def write_crafted(path: Path, mark: Path, **entries: object) -> None:
    """Write a checkpoint of ``entries`` that makes ``mark``."""
    torch.save(dict(entries, payload=Payload(mark)), path)


class _Handler(SimpleHTTPRequestHandler):

    def log_message(self, *args: object) -> None:
        self.server.requests.append(self.path)


@contextmanager
def serve(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve the files of a folder; the address, and what is asked for."""
    with ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(_Handler, directory=str(folder))) as server:
        server.requests = []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f'http://127.0.0.1:{server.server_address[1]}', server.requests
        finally:
            server.shutdown()
            thread.join()
