"""What of the file system a program needs: Python's standard library and what it loads, four devices, no more."""

from __future__ import annotations

import os
import sys
import sysconfig
from typing import NamedTuple

DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
# Other people's packages can hold anything, published tests with their answers included.
HIDDEN = ("site-packages", "dist-packages")
_ZONES = "/usr/share/zoneinfo"


class Layout(NamedTuple):
    """Absolute paths.

    Attributes:
        readable: files, and folders with all in them.
        library: Python's standard library; of it all is readable but `HIDDEN`.
        links: (path, target) of symbolic links at the root by which the loader finds libraries.
    """

    readable: tuple[str, ...]
    library: tuple[str, ...]
    links: tuple[tuple[str, str], ...]

    def entries(self) -> list[str]:
        """What is in the standard library, without what is hidden."""
        return [
            os.path.join(folder, name) for folder in self.library for name in os.listdir(folder) if name not in HIDDEN
        ]


def layout() -> Layout:
    """Of this interpreter; call it before the view is restricted."""
    library = tuple(dict.fromkeys(os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")))
    readable: list[str] = []
    for folder in sorted({os.path.dirname(path) for path in _mapped()}):
        inside = any(folder == one or folder.startswith(one + "/") for one in library)
        if not inside and any(one.startswith(folder + "/") for one in library):
            # The standard library is in the same folder, and with it whatever was installed beside it.
            readable += [os.path.join(folder, name) for name in os.listdir(folder) if ".so" in name]
        elif not inside:
            readable.append(folder)
    if os.path.isdir(_ZONES):
        readable.append(os.path.realpath(_ZONES))
    links = tuple((f"/{name}", os.readlink(f"/{name}")) for name in ("lib", "lib64") if os.path.islink(f"/{name}"))
    return Layout(tuple(readable), library, links)


def _mapped() -> set[str]:
    """Shared libraries that this process has loaded."""
    with open("/proc/self/maps") as lines:
        paths = {line.split(maxsplit=5)[5].strip() for line in lines if line.count("/")}
    return {path for path in paths if ".so" in os.path.basename(path) and os.path.isabs(path)}


def reachable(found: Layout) -> bool:
    """Whether the present user can read it."""
    try:
        return all(os.access(path, os.R_OK) for path in (*found.library, *found.readable)) and bool(sys.version)
    except OSError:
        return False
