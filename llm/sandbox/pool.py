"""The sandbox: a pool of workers that any thread may use."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from llm.sandbox.checks import CallTests, Check, CodeTests, StdioTests
from llm.sandbox.inside import wire
from llm.sandbox.isolation import layers_of, less_than
from llm.sandbox.link import WorkerLost, WorkerStuck
from llm.sandbox.verdict import Limits, Verdict
from llm.sandbox.worker import NotIsolated, Worker

SPARE = 15.0  # seconds beyond the program's own time after which a worker counts as stuck


class Sandbox:
    """Runs programs that nobody vouches for. A context manager; several threads may use one.

    Args:
        workers: so many programs at once, in processes of their own. None: one for each core.
        limits: of programs that come without their own.
        isolation: "full", "landlock+seccomp", "rlimits" or "process": exactly that; `python -m llm.sandbox` shows what
            the machine offers and what each can't stop.
        scratch: bytes of room in a program's scratch folder (at "full"; else a file's size is all that is limited).
        recycle: jobs after which a worker is replaced by a new one, so that nothing can pile up in it.
        retries: how often a job is given to another worker when one broke.
        rerun_timeouts: run a program that timed out once more with nothing beside it, and take that verdict.

    Raises:
        ValueError: an argument is wrong, or the machine does not offer the isolation.
    """

    def __init__(
        self, workers: int | None = None, limits: Limits | None = None, isolation: str = "full", *,
        scratch: int = 64 << 20, recycle: int = 2000, retries: int = 1, rerun_timeouts: bool = False,
    ) -> None:  # fmt: skip
        workers = len(os.sched_getaffinity(0)) if workers is None else workers
        for name, value, least in (
            ("workers", workers, 1), ("scratch", scratch, 1 << 16), ("recycle", recycle, 1), ("retries", retries, 0),
        ):  # fmt: skip
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name}: must be a whole number, {least} or more, got {value!r}")
        self._layers = layers_of(isolation)
        self.workers, self.limits, self.isolation = workers, limits or Limits(), isolation
        self.recycle, self.retries, self.rerun_timeouts, self._scratch = recycle, retries, rerun_timeouts, scratch
        self._free: queue.LifoQueue[Worker | None] = queue.LifoQueue()
        self._lock, self._alone, self._owner = threading.Lock(), threading.Lock(), os.getpid()
        self._all: set[Worker] | None = set()
        self._finalizer = weakref.finalize(self, _close_all, self._all, self._owner)
        for _ in range(workers - 1):
            self._free.put(None)
        # What is not offered is known at once.
        self._free.put(self._started())

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """End all workers and whatever they run. It can't be used afterwards."""
        with self._lock:
            self._finalizer()
            self._all = None

    def run(self, program: str | bytes, check: Check, limits: Limits | None = None) -> Verdict:
        """The verdict on one program.

        Args:
            program: Python source; bytes as they would stand in a file.
            check: what it has to do.

        Raises:
            ValueError: an argument of another type, or the sandbox is closed. Whatever the program does is a verdict.
        """
        limits = limits or self.limits
        if not isinstance(check, (CodeTests, CallTests, StdioTests)):
            raise ValueError(f"check: must be CodeTests, CallTests or StdioTests, got {type(check).__name__}")
        job = _job(program, limits, check.text)
        seconds = limits.seconds * (len(check.cases) if isinstance(check, StdioTests) else 1)
        verdict = _verdict(self._decide(job, seconds))
        if verdict.outcome == "timed out" and self.rerun_timeouts:
            with self._nothing_beside():
                return _verdict(self._decide(job, seconds))
        return verdict

    def map(self, jobs: Iterable[tuple[str | bytes, Check]]) -> Iterator[Verdict]:
        """Verdicts in the order of the jobs (program, check[, limits]), which are read only a little ahead."""
        with ThreadPoolExecutor(self.workers) as threads:
            ahead: deque[Any] = deque()
            try:
                for job in jobs:
                    ahead.append(threads.submit(self.run, *job))
                    if len(ahead) > 3 * self.workers:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for one in ahead:
                    one.cancel()

    def results(
        self, program: str | bytes, entry_point: str, calls: Sequence[Sequence[Any]], limits: Limits | None = None
    ) -> list[Any]:
        """What a program returns for each call, as of a reference solution.

        Raises:
            ValueError: it fails on one, which the message names.
        """
        limits = limits or self.limits
        asked_for = tuple(tuple(call) for call in calls)
        CallTests(entry_point, asked_for, (None,) * len(asked_for))  # refuses what can't be sent
        asked = ["results", entry_point, [wire.dumps(list(call)) for call in asked_for]]
        found = self._decide(_job(program, limits, wire.dumps(asked)), limits.seconds)
        if found["outcome"] != "passed":
            raise ValueError(f"program: {found['outcome']} ({found.get('detail', '')}); give one that works")
        return [wire.loads(one) for one in found["results"]]

    def _decide(self, job: str, seconds: float) -> dict[str, Any]:
        """The judge's answer; a worker that breaks is no answer."""
        why, stuck = "", 0
        for _ in range(self.retries + 1):
            try:
                found = self._ask(job, seconds + SPARE)
            except WorkerStuck:
                stuck += 1
                why = f"the judge gave no answer for {SPARE:.0f} s more than the program's time"
            except WorkerLost as error:
                why = str(error)
            else:
                if "fault" not in found:
                    return found
                why = found["fault"]
        if stuck == self.retries + 1:
            # It is the program's results that keep its tests busy, in code that nothing interrupts.
            return {"outcome": "timed out", "detail": "the tests did not come to an end with what it returned"}
        return {"outcome": "sandbox error", "detail": why}

    def _ask(self, job: str, seconds: float) -> dict[str, Any]:
        if os.getpid() != self._owner:
            raise ValueError("sandbox: it belongs to another process; make one after the fork")
        worker = self._free.get()
        try:
            if worker is None:
                worker = self._started()
            sound = False
            try:
                found = worker.ask(job, seconds)
                sound = "fault" not in found and not found.get("dirty") and worker.jobs < self.recycle
            finally:
                if not sound:
                    self._discard(worker)
                    worker = None
            return found
        finally:
            self._free.put(worker)

    def _started(self) -> Worker:
        if self._all is None:
            raise ValueError("sandbox: it is closed; make a new one")
        try:
            worker = Worker(self._layers, self._scratch)
        except NotIsolated as error:
            raise ValueError(
                f"isolation: {self.isolation!r} is not to be had here ({error}); allow less in so many words"
                f"{less_than(self.isolation)}, or see python -m llm.sandbox"
            ) from None
        with self._lock:
            if self._all is not None:
                self._all.add(worker)
                return worker
        worker.close()
        raise ValueError("sandbox: it is closed; make a new one")

    def _discard(self, worker: Worker) -> None:
        worker.close()
        with self._lock:
            if self._all is not None:
                self._all.discard(worker)

    @contextlib.contextmanager
    def _nothing_beside(self) -> Iterator[None]:
        """Hold all workers but one."""
        with self._alone:
            held = [self._free.get() for _ in range(self.workers)]
            try:
                self._free.put(held.pop())
                yield
            finally:
                for one in held:
                    self._free.put(one)


def _close_all(workers: set[Worker], owner: int) -> None:
    if os.getpid() == owner:
        while workers:
            workers.pop().close()


def _job(program: str | bytes, limits: Limits, check: str) -> str:
    if not isinstance(program, (str, bytes)):
        raise ValueError(f"program: must be text or bytes, got {type(program).__name__}")
    return f"[{wire.dumps(program)},{wire.dumps(limits.plain())},{check}]"


def _verdict(found: dict[str, Any]) -> Verdict:
    found.pop("dirty", None)
    # It may be the program's own words: no control characters, and nothing that can't be written to a file.
    words = " ".join("".join(c if c.isprintable() else " " for c in found.get("detail", "")).split())
    seen = found.get("seen")
    if seen is not None:
        seen = seen.encode("utf-8", "backslashreplace").decode()
    return Verdict(**{**found, "detail": words, "seen": seen})
