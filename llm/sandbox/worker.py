"""A judge and its zygote, as the caller sees them."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from llm.sandbox.inside import cleaning, control, wire
from llm.sandbox.link import Link, WorkerLost

HERE = Path(__file__).parent
START = 30.0  # seconds that a worker may take to start
# Bare interpreters: nothing of the environment, no site packages, sets of strings in the same order every time.
_FLAGS = ("-s", "-S", "-P")
_BOOT = "import sys; sys.path.insert(0, {!r}); from inside import {}; del sys.path[0]; {}.main({})"


class NotIsolated(ValueError):
    """The machine does not offer what was asked for."""


class Worker:
    """Two processes; one job at a time.

    Args:
        layers: of isolation, for the processes of programs.
        scratch_bytes: room in their scratch folder, where it can be limited.

    Attributes:
        about: what the zygote says of itself: the user that programs run as, whether threads are counted.
        jobs: how many it was given; broken: it must not be used any more.

    Raises:
        NotIsolated: a layer is not to be had.
        WorkerLost: it did not start.
    """

    def __init__(self, layers: tuple[str, ...], scratch_bytes: int) -> None:
        ours, judges = socket.socketpair()
        judge_side, zygote_side = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link, self.jobs, self.broken = Link(ours), 0, False
        self._processes: list[subprocess.Popen] = []
        # In namespaces there is one that nobody else sees.
        self._scratch = "" if "namespaces" in layers else tempfile.mkdtemp(prefix="ra3-scratch-")
        try:
            zygote = [zygote_side.fileno(), layers, self._scratch, scratch_bytes]
            self._processes.append(_start("zygote", zygote, zygote_side))
            self.about = _ready(judge_side, zygote_side)
            judge = [judges.fileno(), judge_side.fileno(), self._scratch]
            self._processes.append(_start("judge", judge, judges, judge_side))
            judges.close()
            self._link.receive(time.monotonic() + START)
        except BaseException:
            self.close()
            raise
        finally:
            for one in (judges, judge_side, zygote_side):
                one.close()

    @property
    def pids(self) -> list[int]:
        return [one.pid for one in self._processes]

    def ask(self, job: str, seconds: float) -> dict[str, Any]:
        """The judge's answer to a job, which is text.

        Raises:
            WorkerLost: one of the processes is gone.
            WorkerStuck: no answer within so many seconds.
        """
        self.jobs += 1
        deadline = time.monotonic() + seconds
        self._link.send(job, deadline)
        answer = self._link.receive(deadline)
        if not isinstance(answer, dict) or not ("fault" in answer or "outcome" in answer):
            raise WorkerLost("the judge sent what is no verdict")
        return answer

    def close(self) -> None:
        """Kill both; with them goes whatever they started."""
        self.broken = True
        self._link.close()
        for one in self._processes:
            one.kill()
        for one in self._processes:
            one.wait()
        if self._scratch:
            cleaning.remove(self._scratch)


def _start(name: str, arguments: list[Any], *sockets: socket.socket) -> subprocess.Popen:
    program = _BOOT.format(str(HERE), name, name, ", ".join(map(repr, arguments)))
    return subprocess.Popen(
        # Not that of the virtual environment.
        [sys._base_executable, *_FLAGS, "-c", program],  # type: ignore[attr-defined]  # undocumented, but there
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        pass_fds=[one.fileno() for one in sockets], start_new_session=True, cwd="/",
        env={"PYTHONHASHSEED": "0", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "2"},
    )  # fmt: skip


def _ready(link: socket.socket, other: socket.socket) -> dict[str, Any]:
    """What the zygote says of itself when it is ready."""
    other.close()  # so that its end is seen
    waiting = select.poll()
    waiting.register(link, select.POLLIN)
    if not waiting.poll(1000 * START):
        raise WorkerLost(f"the zygote did not start within {START:.0f} s")
    data = link.recv(1 << 12)
    if data[:1] == control.READY:
        return wire.loads(data[1:].decode("ascii"))
    if data[:1] == control.FAULT:
        raise NotIsolated(data[1:].decode("utf-8", "replace"))
    raise WorkerLost("the zygote did not start")
