# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Holding a folder, so that no two processes write to it."""
import errno
import fcntl
import json
import os
import socket
import time
import weakref
from pathlib import Path

#: Errors of file systems that have no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class FolderInUse(OSError):
    """Another process holds the folder."""


class NoLocks(OSError):
    """The file system of the folder cannot lock files."""


class FolderLock:
    """Hold a folder through a lock on a file in it, as long as this process lives or until :meth:`release`.

    The kernel gives up the lock of a process that dies, so that nothing is left over. The file notes who holds it; it
    stays, as removing it would let two processes hold two files of one name. Processes that are forked do not hold the
    lock, or workers that outlive a killed process would; one that is started with ``pass_fds=[lock.fileno()]`` does.

    Args:
        path: The file, which is made where it is missing, with its folder.
        what: What errors say is using the folder, such as 'another training'.

    Raises:
        FolderInUse: Another lock holds the file, of this or of another process; it says which and since when.
        NoLocks: The file system cannot lock files.
        OSError: The file is a link or a folder, or another user's.
    """
    _held: 'weakref.WeakSet[FolderLock]' = weakref.WeakSet()

    def __init__(self, path: str | Path, what: str) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise type(error)(
                error.errno,
                f'{path} cannot be opened to hold {path.parent} ({error.strerror}): it must be a file, no link, '
                'that this user may write. Remove it if nobody uses the folder, or take another folder') from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._descriptor, 0)
            note = dict(host=socket.gethostname(), pid=os.getpid(), since=time.strftime('%Y-%m-%d %H:%M:%S'))
            os.write(self._descriptor, json.dumps(note).encode())
        except BlockingIOError:
            holder = _describe(os.read(self._descriptor, 4096))
            os.close(self._descriptor)
            raise FolderInUse(f'{path.parent} is in use by {what} ({holder})') from None
        except OSError as error:
            os.close(self._descriptor)
            if error.errno in _NO_LOCKS:
                raise NoLocks(f'the file system of {path.parent} has no locks ({error.strerror})') from None
            raise
        self._held.add(self)

    def fileno(self) -> int:
        """The descriptor of the lock: a child that inherits it holds the folder, too, as long as it lives."""
        return self._descriptor

    def release(self) -> None:
        """Give the folder up. Calling it again changes nothing."""
        if self in self._held:
            self._held.discard(self)
            os.close(self._descriptor)

    def __enter__(self) -> 'FolderLock':
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    @classmethod
    def _forget(cls) -> None:
        """Close the locks of the parent in a process that was forked."""
        for lock in list(cls._held):
            lock.release()


def _describe(note: bytes) -> str:
    try:
        holder = json.loads(note)
        return f'host {holder["host"]}, process {holder["pid"]}, since {holder["since"]}'
    except (ValueError, KeyError, TypeError):  # it has only just taken the lock
        return 'a process that has just started'


os.register_at_fork(after_in_child=FolderLock._forget)
