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
        with os.scandir(scratch) as found:
            names = [(one.name, one.is_dir(follow_symlinks=False)) for one in found]
        return not names or _empty(scratch, names)
    # Whatever it is, a new worker is clean.
    except (OSError, RecursionError):
        return False


def _empty(scratch: str, names: list[tuple[str, bool]]) -> bool:
    count = 0
    for name, is_folder in names:
        path = os.path.join(scratch, name)
        if not is_folder:
            os.unlink(path)
            count += 1
            continue
        os.chmod(path, 0o700)
        for folder, folders, files in os.walk(path, topdown=True):
            # Before it is listed: the program may have shut it.
            for one in folders:
                inner = os.path.join(folder, one)
                if not os.path.islink(inner):
                    os.chmod(inner, 0o700)
            count += len(folders) + len(files)
            if count > MOST:
                return False
        for folder, folders, files in os.walk(path, topdown=False):
            for one in files:
                os.unlink(os.path.join(folder, one))
            for one in folders:
                inner = os.path.join(folder, one)
                os.unlink(inner) if os.path.islink(inner) else os.rmdir(inner)
        os.rmdir(path)
    return not os.listdir(scratch)


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
