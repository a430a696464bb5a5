"""Parts on this machine: one after the other, or in several processes.

Another command at work on the same folder has parts of its own under lock: these wait until the rest is done, and are
then read, or computed if the other one died.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

from experiments.progress import Ticker
from experiments.work import PartFailed, Task, attempt

# Between two looks at what other processes do.
POLL_SECONDS = 0.2


def _tell(ticker: Ticker, done: float, label: str, fraction: float) -> None:
    ticker.update(done + fraction, label)


def in_series(tasks: list[Task], ticker: Ticker) -> Iterator[Task]:
    """Compute and store the tasks; yields each one when it is stored.

    Raises:
        PartFailed: a part raised.
    """
    queue, done, busy = deque(tasks), 0, 0
    while queue:
        task = queue.popleft()
        ticker.update(done, task.label)
        try:
            mine = attempt(task, partial(_tell, ticker, done, task.label))
        except Exception as error:
            raise PartFailed(task.failure(error)) from error
        if mine:
            done, busy = done + 1, 0
            ticker.update(done, task.label)
            yield task
            continue
        queue.append(task)
        busy += 1
        if busy >= len(queue):
            ticker.update(done, f"{task.label} (another process is at it)")
            busy = 0
            time.sleep(POLL_SECONDS)


def in_processes(tasks: list[Task], jobs: int, ticker: Ticker) -> Iterator[Task]:
    """As `in_series`, in so many processes."""
    # spawn: a fork of a process with threads (BLAS, numba, the progress bar) may hang.
    context = multiprocessing.get_context("spawn")
    reports = context.SimpleQueue()
    fractions = dict.fromkeys(range(len(tasks)), 0.0)
    with _shared_cores(jobs):
        pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(reports,))
        try:
            futures = {pool.submit(_work, number, task): number for number, task in enumerate(tasks)}
            pending: set[Future[bool]] = set(futures)
            elsewhere: set[int] = set()
            failed: tuple[Task, BaseException] | None = None
            while pending or (elsewhere and not failed):
                finished = _wait(pending)
                pending -= finished
                while not reports.empty():
                    number, fraction = reports.get()
                    fractions[number] = fraction
                for future in finished:
                    number = futures[future]
                    if error := future.exception():
                        failed = failed or (tasks[number], error)
                        # The others that run are let finish and are stored; those that wait are given up.
                        pending = {other for other in pending if not other.cancel()}
                    elif not future.result():
                        elsewhere.add(number)
                    else:
                        fractions[number] = 1.0
                        ticker.update(sum(fractions.values()), tasks[number].label)
                        yield tasks[number]
                for number in [n for n in elsewhere if not failed and not tasks[n].run.lock(tasks[n].part).is_taken()]:
                    elsewhere.remove(number)
                    future = pool.submit(_work, number, tasks[number])
                    futures[future] = number
                    pending.add(future)
                if not finished:
                    busy = max(fractions, key=lambda n: fractions[n] * (fractions[n] < 1))
                    ticker.update(sum(fractions.values()), tasks[busy].label)
            if failed:
                task, error = failed
                if isinstance(error, BrokenProcessPool):
                    raise PartFailed("a worker process died (out of memory?); try again with fewer --jobs") from error
                raise PartFailed(task.failure(error)) from error
        except BaseException:
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _wait(pending: set[Future[bool]]) -> set[Future[bool]]:
    if not pending:
        time.sleep(POLL_SECONDS)
    return wait(pending, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED).done


def _work(number: int, task: Task) -> bool:
    last = 0.0

    def progress(fraction: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > 0.2:
            last = now
            _reports.put((number, min(max(float(fraction), 0.0), 1.0)))

    return attempt(task, progress)


_reports: Any = None


def _start_worker(reports: Any) -> None:
    global _reports
    _reports = reports
    # Ctrl-C reaches every process of the terminal; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _shared_cores(jobs: int) -> Iterator[None]:
    """New processes share the cores: read by numba and BLAS when they are imported."""
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    new = {
        "NUMBA_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OMP_NUM_THREADS": threads,
    }
    old = {name: os.environ.get(name) for name in new}
    os.environ.update({name: value for name, value in new.items() if old[name] is None})
    try:
        yield
    finally:
        for name, value in old.items():
            if value is None:
                os.environ.pop(name, None)
