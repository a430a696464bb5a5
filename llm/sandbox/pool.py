"""The sandbox: a pool of workers that any thread may use."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from llm.sandbox.checks import Check
from llm.sandbox.inside import wire
from llm.sandbox.inside.layers import LEVELS
from llm.sandbox.verdict import Limits, Verdict
from llm.sandbox.worker import Worker, WorkerLost, WorkerStuck

SPARE = 15.0  # seconds beyond the program's own time after which a worker counts as stuck


class Sandbox:
    """Runs programs and says what became of them. A context manager; `run` may be called from several threads."""

    def __init__(self, workers: int | None = None, limits: Limits = Limits(), isolation: str = "full") -> None:
        if workers is None:
            workers = len(os.sched_getaffinity(0))
        if not isinstance(workers, int) or workers < 1:
            raise ValueError(f"workers: must be 1 or more, got {workers!r}")
        self.limits, self.isolation, self.workers = limits, isolation, workers
        self._free: queue.LifoQueue[Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._free.put(None)
        self._all: set[Worker] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """End all workers."""
        with self._lock:
            for worker in self._all:
                worker.close()
            self._all.clear()

    def run(self, program: str | bytes, check: Check, limits: Limits | None = None) -> Verdict:
        """The verdict on one program."""
        limits = limits or self.limits
        runs = len(check.cases) if check.kind == "stdio" else 1
        found = self._decide([program, limits.plain(), check.payload()], runs * limits.seconds + SPARE)
        return Verdict(**{name: value for name, value in found.items() if name != "dirty"})

    def map(self, jobs: Iterable[tuple[str | bytes, Check]]) -> Iterator[Verdict]:
        """Verdicts in the order of the jobs, which are read only a little ahead."""
        with ThreadPoolExecutor(self.workers) as threads:
            ahead: deque[Any] = deque()
            try:
                for program, check in jobs:
                    ahead.append(threads.submit(self.run, program, check))
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
        """What the program returns for each call.

        Raises:
            ValueError: it fails on one.
        """
        limits = limits or self.limits
        job = [program, limits.plain(), ["results", entry_point, [wire.dumps(list(call)) for call in calls]]]
        found = self._decide(job, limits.seconds + SPARE)
        if found["outcome"] != "passed":
            raise ValueError(f"program: {found['outcome']} ({found.get('detail', '')}); give one that works")
        return [wire.loads(one) for one in found["results"]]

    def _decide(self, job: list[Any], seconds: float) -> dict[str, Any]:
        why = ""
        for _ in range(2):
            with self._worker() as worker:
                try:
                    found = worker.ask(job, seconds)
                except (WorkerLost, WorkerStuck) as error:
                    worker.broken, why = True, str(error)
                    continue
            if "fault" not in found:
                worker.broken = bool(found.get("dirty"))
                return found
            worker.broken, why = True, found["fault"]
        return {"outcome": "sandbox error", "detail": why}

    @contextlib.contextmanager
    def _worker(self) -> Iterator[Worker]:
        worker = self._free.get()
        try:
            if worker is None:
                worker = Worker(LEVELS[self.isolation], 64 << 20)
                with self._lock:
                    self._all.add(worker)
            yield worker
        finally:
            if worker is not None and worker.broken:
                worker.close()
                with self._lock:
                    self._all.discard(worker)
                worker = None
            self._free.put(worker)
