"""What one program leaves is gone before the next one runs."""

from __future__ import annotations

import contextlib
import os
import signal
import stat

MOST = 10_000  # files, folders or processes that are removed; with more the worker is replaced


def sweep(scratch: str, processes: bool) -> bool:
    """Empty the scratch folder and, where programs can start some, kill the processes that are left.

    Returns:
        Whether nothing is left.
    """
    try:
        if processes and not _kill_all():
            return False
        if stat.S_IMODE(os.stat(scratch).st_mode) != 0o700:
            os.chmod(scratch, 0o700)
        return empty(scratch)
    # Whatever it is, a new worker is clean.
    except OSError:
        return False


def empty(folder: str) -> bool:
    """Remove what is in a folder, however deep; whether nothing is left.

    Raises:
        OSError: something resists.
    """
    # Folders in folders are moved up, so that no path is ever too long and nothing is too deep.
    waiting, count = os.listdir(folder), 0
    while waiting and count < MOST:
        path = os.path.join(folder, waiting.pop())
        count += 1
        if not _is_folder(path):
            os.unlink(path)
            continue
        os.chmod(path, 0o700)
        for name in os.listdir(path):
            inner = os.path.join(path, name)
            count += 1
            if _is_folder(inner):
                os.chmod(inner, 0o700)
                waiting.append(f".up-{count}")
                os.rename(inner, os.path.join(folder, waiting[-1]))
            else:
                os.unlink(inner)
        os.rmdir(path)
    return not waiting


def remove(folder: str) -> None:
    """The folder and what is in it, if that can be done."""
    # What a program left is no reason to fail.
    with contextlib.suppress(OSError):
        empty(folder)
        os.rmdir(folder)


def _is_folder(path: str) -> bool:
    return stat.S_ISDIR(os.lstat(path).st_mode)


def _kill_all() -> bool:
    """Kill what is left below this process; orphans have come to it (it is their reaper)."""
    for _ in range(MOST):
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            children = [int(one) for one in file.read().split()]
        if not children:
            return True
        for one in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        for one in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(one, 0)
    return False
