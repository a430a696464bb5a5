"""Forks one process for each program, and holds the clock while it lives. It sees no program, no test, no result."""

from __future__ import annotations

import builtins
import gc
import os
import select
import signal
import socket
import sys
import time

from . import child, cleaning, control, layers, seccomp, wire

# What programs import most; each costs memory that a fork has to copy the map of.
PRELOADED = (
    "bisect", "collections", "copy", "functools", "hashlib", "heapq", "itertools", "json", "math", "operator", "random",
    "re", "string", "typing",
)  # fmt: skip
_WARM = """
from typing import List
import math
class _C:
    def f(self, x: List[int], *a, y=1, **k) -> int:
        return sorted([i for i in x if i], key=lambda v: -v)
try:
    d = {str(i): (i, f"{i:.2f}") for i in range(9)}
    while d: d.popitem()
    _C().f([1, 2, 3]); max(1, 2); "a b".split(); "".join(("a", "b")); 1 / 0
except ZeroDivisionError as error:
    str(error)
"""


def main(number: int, layers_wanted: tuple[str, ...], scratch: str, scratch_bytes: int) -> None:
    """Serve orders that come on the socket of this number until it is closed."""
    link = socket.socket(fileno=number)
    _preload()
    vars(builtins).update(exit=_exit, quit=_exit)
    # What the compiler makes once is made here, and not in every child.
    exec(compile(_WARM, "<warm>", "exec"), {})
    try:
        about = layers.enter(layers_wanted, scratch, scratch_bytes, os.getpid())
    except OSError as error:
        link.send(control.FAULT + str(error.strerror).encode())
        return
    last = seccomp.Last() if "seccomp" in layers_wanted else None
    setting = child.Setting(layers_wanted, about["threads"], last)
    gc.collect()
    gc.freeze()
    gc.disable()
    link.send(control.READY + wire.dumps(about).encode())
    while True:
        data, descriptors = control.receive(link)
        if not data:
            return
        if data[:1] != control.RUN:
            continue  # a process that was to be killed had ended already
        order = control.Order.unpacked(data)
        try:
            started = time.monotonic()
            process = os.fork()
        except OSError as error:
            _close(descriptors)
            link.send(control.FAULT + f"fork: {error.strerror}".encode())
            continue
        if process == 0:
            link.detach()
            child.main(order, descriptors, setting)
        _close(descriptors)
        ended = _watch(link, process, order, started, filtered=last is not None)
        clean = cleaning.sweep(about["scratch"], processes=last is None)
        try:
            link.send(ended._replace(dirty=not clean).packed())
        except OSError:
            return  # nobody is there any more


def _exit(status: object = None) -> None:
    """What the module `site`, which is not loaded, gives programs."""
    raise SystemExit(status)


def _preload() -> None:
    # Importing `random` has every child seeded anew from the system: dear, and another result every time.
    register, os.register_at_fork = os.register_at_fork, lambda **_: None
    try:
        for name in PRELOADED:
            __import__(name)
    finally:
        os.register_at_fork = register
    sys.modules["random"].seed(0)


def _watch(link: socket.socket, process: int, order: control.Order, started: float, filtered: bool) -> control.Ended:
    """Wait for the end of a process, or make it."""
    life = os.pidfd_open(process)
    waiting = select.poll()
    waiting.register(life, select.POLLIN)
    waiting.register(link, select.POLLIN)
    # The clock of another process's processor time, as clock_getcpuclockid gives it.
    clock, cause = (~process << 3) | 2, control.OWN
    while True:
        left = started + order.seconds - time.monotonic()
        try:
            cpu_left = order.cpu_seconds - time.clock_gettime(clock)
        except OSError:
            cpu_left = order.cpu_seconds
        if left <= 0 or cpu_left <= 0:
            cause = control.WALL if left <= 0 else control.CPU
            break
        # Several threads use it up faster than the clock goes.
        events = waiting.poll(1000 * min(left, max(cpu_left / 4, 0.02)) + 1)
        if any(number == life for number, _ in events):
            break
        if events:
            link.recv(256)  # either to kill it, or nobody is there any more
            cause = control.ASKED
            break
    os.close(life)
    os.kill(process, signal.SIGKILL)
    _, status, usage = os.wait4(process, 0)
    used = usage.ru_utime + usage.ru_stime
    if cause == control.OWN and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        # With the filter it can't kill itself in this way; and for its processor time there is a limit, too.
        if used >= order.cpu_seconds:
            cause = control.CPU
        elif filtered:
            cause = control.OUTSIDE
    return control.Ended(cause, 0, status, time.monotonic() - started, used, 1024 * usage.ru_maxrss)


def _close(descriptors: list[int]) -> None:
    for one in descriptors:
        os.close(one)
