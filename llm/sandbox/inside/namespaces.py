"""Namespaces: a root of its own with next to nothing in it, no network, no other processes, no privileges.

They are made once for each worker, as root directly, else by way of a user namespace.
"""

from __future__ import annotations

import os

from . import system
from .layout import DEVICES, HIDDEN, Layout

SCRATCH = "/tmp"
_EACH = (
    system.CLONE_NEWNS | system.CLONE_NEWUTS | system.CLONE_NEWIPC | system.CLONE_NEWPID | system.CLONE_NEWNET
    | system.CLONE_NEWCGROUP
)  # fmt: skip
_KEPT = {os.ST_NOEXEC: system.MS_NOEXEC, os.ST_NOATIME: system.MS_NOATIME, os.ST_NODIRATIME: system.MS_NODIRATIME,
         os.ST_RELATIME: system.MS_RELATIME}  # fmt: skip
_ONE = os.ST_NOSUID | os.ST_RDONLY


def enter(found: Layout, scratch_bytes: int) -> str:
    """Make the namespaces and go on as the first process in them; the old process waits and ends with it.

    Args:
        found: what is to be seen.
        scratch_bytes: room in the scratch folder, which is `SCRATCH`.

    Returns:
        How they were made.

    Raises:
        OSError: the machine does not allow it.
    """
    how = "made by root"
    try:
        system.unshare(_EACH)
    except PermissionError:
        own, group = os.geteuid(), os.getegid()
        system.unshare(_EACH | system.CLONE_NEWUSER)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{own} {own} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
        how = "made by way of a user namespace"
    _root(found, scratch_bytes)
    first = os.fork()
    if first:
        os.closerange(0, 1 << 16)
        _, status = os.waitpid(first, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    return how


def _root(found: Layout, scratch_bytes: int) -> None:
    system.mount("none", "/", None, system.MS_REC | system.MS_PRIVATE)
    root = _place((*found.readable, *found.library))
    system.mount("root", root, "tmpfs", system.MS_NOSUID | system.MS_NODEV, "size=1m,nr_inodes=4096,mode=755")
    for path in (*found.readable, *found.library):
        _bind(path, root + path, system.MS_NODEV)
    for folder in found.library:
        for name in HIDDEN:
            if os.path.isdir(os.path.join(folder, name)):
                flags = system.MS_RDONLY | system.MS_NOSUID | system.MS_NODEV
                system.mount("hidden", root + os.path.join(folder, name), "tmpfs", flags, "size=4k,mode=755")
    for path in DEVICES:
        _bind(path, root + path, 0)
    for path, target in found.links:
        if not os.path.lexists(root + path):
            os.symlink(target, root + path)
    os.makedirs(root + SCRATCH, exist_ok=True)
    options = f"size={scratch_bytes},nr_inodes=4096,mode=700"
    system.mount("scratch", root + SCRATCH, "tmpfs", system.MS_NOSUID | system.MS_NODEV | system.MS_NOEXEC, options)
    os.chdir(root)
    system.pivot_root(".", ".")
    system.umount(".", system.MNT_DETACH)
    flags = system.MS_RDONLY | system.MS_NOSUID | system.MS_NODEV | system.MS_REMOUNT | system.MS_BIND
    system.mount("none", "/", None, flags)
    os.chdir(SCRATCH)


def _place(sources: tuple[str, ...]) -> str:
    """A folder that can be covered by the new root without hiding what is to be in it."""
    for path in ("/mnt", "/media", "/srv", "/tmp", "/proc"):
        if os.path.isdir(path) and not any((one + "/").startswith(path + "/") for one in sources):
            return path
    raise FileNotFoundError(2, "no folder to put a new root on")


def _bind(path: str, target: str, flags: int) -> None:
    """Show a file or folder, read-only."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    system.mount(path, target, None, system.MS_BIND)
    # What its own mount forbids can't be allowed here.
    held = os.statvfs(path).f_flag
    for bit, flag in _KEPT.items():
        flags |= flag if held & bit else 0
    if path in DEVICES:
        flags |= system.MS_NODEV if held & os.ST_NODEV else 0
    flags |= system.MS_BIND | system.MS_REMOUNT | system.MS_NOSUID | system.MS_RDONLY
    system.mount("none", target, None, flags)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
