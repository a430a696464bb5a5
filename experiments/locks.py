"""Who is at work on what: files that the system locks, and frees when their process is gone, however it went."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

_BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


class Lock:
    """A lock of one process against the others. The file is there only while the lock is held, or after a kill.

    Where the file system has no locks (some network ones), everyone gets it: a part may then be computed twice, with
    the same values.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def take(self) -> bool:
        """False: another process has it.

        Raises:
            OSError: the file cannot be made.
        """
        if self._file is not None:
            return False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in _BUSY:
                    os.close(file)
                    return False
            # Its holder may have removed the file after it was opened here: this lock would then be on nothing.
            if _is(self.path, file):
                self._file = file
                return True
            os.close(file)

    def release(self) -> None:
        """Give it back, if it is held."""
        if self._file is not None:
            # First removed, then unlocked: nobody else's file is removed.
            self.path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None

    def is_taken(self) -> bool:
        """Whether somebody is at it at this moment."""
        return self._file is not None or is_held(self.path)


def is_held(path: Path) -> bool:
    """Whether a process has locked a file; it need not exist."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _BUSY
    return False


def _is(path: Path, file: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), os.fstat(file))
    return False
