"""How much memory a piece of work took at most."""

from __future__ import annotations

import contextlib
import re
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROCESS = Path("/proc/self")


@dataclass
class Peak:
    """
    Attributes:
        mib: resident memory in MiB (2^20 bytes), of the process or of its largest child; None until the work has ended.
    """

    mib: float | None = None


@contextlib.contextmanager
def measured() -> Iterator[Peak]:
    """Measure the peak of what happens inside, with what the process held before (modules, compiled code).

    On Linux the kernel's high-water mark is set back first, so that earlier work of the same process does not count.
    Where that cannot be done it does count: the figure is then an upper bound. A child counts from the moment it has
    ended, alone, not in sum with others, and only if it was larger than every child before: the system keeps no more
    of children than their maximum.

    >>> with measured() as peak:
    ...     block = bytearray(2**26)
    >>> peak.mib > 64
    True
    """
    _set_back()
    before = _largest_child()
    peak = Peak()
    try:
        yield peak
    finally:
        child = _largest_child()
        peak.mib = round(max(_high_water(), child if child > before else 0.0), 1)


def of_process() -> float:
    """Peak of this process so far, or of its largest child, in MiB; since it began, or since `measured` began."""
    return round(max(_high_water(), _largest_child()), 1)


def _set_back() -> None:
    with contextlib.suppress(OSError):
        (_PROCESS / "clear_refs").write_text("5")


def _high_water() -> float:
    with contextlib.suppress(OSError):
        if found := re.search(r"^VmHWM:\s*(\d+) kB", (_PROCESS / "status").read_text(), re.MULTILINE):
            return int(found[1]) / 1024
    return _mib(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _largest_child() -> float:
    return _mib(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def _mib(maximum: int) -> float:
    """Of `getrusage`, which counts in KiB, but on macOS in bytes."""
    return maximum / (2**20 if sys.platform == "darwin" else 2**10)
