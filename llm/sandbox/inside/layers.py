"""The layers of isolation, and how a zygote enters them."""

from __future__ import annotations

import os
import resource
import sys
from typing import Any

from . import landlock, namespaces, seccomp, syscalls, system
from .layout import DEVICES, Layout, layout, reachable

# From the strongest: each level and the layers it is made of.
LEVELS: dict[str, tuple[str, ...]] = {
    "full": ("namespaces", "landlock", "seccomp", "rlimits"),
    "landlock+seccomp": ("landlock", "seccomp", "rlimits"),
    "rlimits": ("rlimits",),
    "process": (),
}
USERS = 64000  # where root is at hand, programs run as users from here, which own nothing
NOBODY = 65534


def enter(layers: tuple[str, ...], scratch: str, scratch_bytes: int, number: int) -> dict[str, Any]:
    """Restrict this process, for good, by these layers; returns what came of it.

    Args:
        layers: of `LEVELS`.
        scratch: a folder for programs, where no namespace has its own.
        scratch_bytes: room in it, where it can be limited.
        number: of the worker, for a user of its own.

    Raises:
        OSError: a layer is not to be had.
    """
    found = layout()
    about: dict[str, Any] = {"user": os.geteuid(), "threads": False}
    user = USERS + number % 1000 if os.geteuid() == 0 else os.geteuid()
    os.umask(0o022)
    if "namespaces" in layers:
        try:
            about["namespaces"] = namespaces.enter(found, scratch_bytes)
        except OSError as error:
            raise OSError(error.errno, f"namespaces: {error.strerror}") from None
        scratch = namespaces.SCRATCH
        about["threads"] = True
    os.umask(0o077)
    os.chdir(scratch)
    os.environ.clear()
    os.environ.update({"HOME": scratch, "TMPDIR": scratch, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"})
    if layers:
        about.update(_user(found, user, scratch, own_root="namespaces" in layers))
        system.drop_capabilities()
        system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)
        system.prctl(system.PR_SET_DUMPABLE, 0)
    if "namespaces" in layers:
        system.prctl(system.PR_SET_PDEATHSIG, 9)
    if "landlock" in layers:
        try:
            version, readable = landlock.version(), (*found.readable, *found.entries())
            landlock.restrict(readable, found.library, DEVICES, scratch)
            about["landlock"] = version
        except OSError as error:
            raise OSError(error.errno, f"landlock: {error.strerror}") from None
    if "seccomp" in layers:
        if not syscalls.KNOWN:
            raise OSError(38, f"seccomp: the numbers of {os.uname().machine} are not known")
        try:
            seccomp.Filter(seccomp.base(modes="namespaces" in layers)).install()
        except OSError as error:
            raise OSError(error.errno, f"seccomp: {error.strerror}") from None
    else:
        system.prctl(system.PR_SET_CHILD_SUBREAPER, 1)
    about["scratch"] = scratch
    return about


def _user(found: Layout, user: int, scratch: str, own_root: bool) -> dict[str, Any]:
    """Become a user who owns nothing but the scratch folder, if root is at hand and that user can read Python."""
    if os.geteuid() != 0:
        return {}
    for one in (user, NOBODY):
        os.chown(scratch, one, one)
        if own_root or _serves(found, one, scratch):
            try:
                os.setgroups([])
                os.setresgid(one, one, one)
                os.setresuid(one, one, one)
                return {"user": one, "threads": True}
            except OSError:
                pass  # there is no such user in a container with few
        os.chown(scratch, 0, 0)
    return {}


def _serves(found: Layout, user: int, scratch: str) -> bool:
    """Whether this user can read Python and write to the scratch folder."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            status = 0 if reachable(found) and os.access(scratch, os.W_OK | os.X_OK) else 1
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def limits(order: Any, layers: tuple[str, ...], threads: bool) -> list[tuple[int, int]]:
    """Resource limits of a program's process: (which, how much)."""
    found = [(resource.RLIMIT_CORE, 0)]
    if "rlimits" not in layers:
        return found
    # The zygote looks at the clock more closely; this is for its failure.
    found += [
        (resource.RLIMIT_AS, order.memory), (resource.RLIMIT_CPU, int(order.cpu_seconds) + 2),
        (resource.RLIMIT_FSIZE, order.file_size), (resource.RLIMIT_NOFILE, order.files),
        (resource.RLIMIT_MSGQUEUE, 0), (resource.RLIMIT_MEMLOCK, 0),
    ]  # fmt: skip
    if threads:
        # Counted for each user: beside the zygote there is nobody.
        found.append((resource.RLIMIT_NPROC, order.threads + 2))
    return found


if sys.platform != "linux":
    raise ImportError("the sandbox needs Linux")
