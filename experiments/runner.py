"""Runs experiments part by part, in this process or in several, and draws what is stored."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import threadpoolctl

from experiments import records, registry
from experiments.progress import Ticker
from experiments.registry import Experiment


@dataclass(frozen=True)
class Plan:
    """An experiment, the config to run it with, and the command that does so (for the record)."""

    experiment: Experiment
    config: Any
    command: str | None = None


@dataclass(frozen=True)
class _Task:
    """One part to compute, in a form that travels to another process."""

    entry: registry.Entry
    config: Any
    part: str
    root: Path
    provenance: dict[str, Any]

    @property
    def label(self) -> str:
        return f"{self.entry.name} {self.part}"


class PartFailed(RuntimeError):
    """The code of a part raised; the cause is chained."""


def reproduce(
    plans: Sequence[Plan],
    out: str | os.PathLike[str],
    runs: str | os.PathLike[str] = "runs",
    jobs: int = 1,
    fresh: bool = False,
    ticker: Callable[[int], Ticker] = Ticker,
) -> list[Path]:
    """Compute the parts that are not stored yet, then draw every plan from what is stored.

    Args:
        plans: what to make.
        out: folder of pictures, csv files and one manifest ``<name>.json`` per experiment.
        runs: folder of the stored parts.
        jobs: processes; the numbers do not depend on it.
        fresh: compute stored parts again.
        ticker: makes the progress display for a number of parts.

    Returns:
        The paths of all files written into ``out``.

    Raises:
        PartFailed: a part raised, or its process died; finished parts are kept.
        ValueError: one experiment stands twice; their files would overwrite each other.
    """
    runs, out = Path(runs), Path(out)
    by_name = {plan.experiment.name: plan for plan in plans}
    if len(by_name) < len(plans):
        raise ValueError("plans: one experiment stands twice; give each its own call and folder")
    tasks, notes = _missing(plans, runs, fresh)
    with ticker(len(tasks)) as shown:
        for note in notes:
            shown.say(note)
        waiting = {name: {task.part for task in tasks if task.entry.name == name} for name in by_name}
        written: list[Path] = []
        # What is stored already is drawn at once, the rest as soon as its last part is there.
        for plan in plans:
            if not waiting[plan.experiment.name]:
                written += draw(plan, out, runs)
        for task in _compute(tasks, jobs, shown):
            left = waiting[task.entry.name]
            left.remove(task.part)
            if not left:
                written += draw(by_name[task.entry.name], out, runs)
    return written


def compute(
    plan: Plan,
    runs: str | os.PathLike[str] = "runs",
    jobs: int = 1,
    fresh: bool = False,
    ticker: Callable[[int], Ticker] = Ticker,
) -> dict[str, dict[str, Any]]:
    """Compute the parts that are not stored yet, draw nothing; returns the data of all parts. As `reproduce`."""
    tasks, notes = _missing([plan], Path(runs), fresh)
    with ticker(len(tasks)) as shown:
        for note in notes:
            shown.say(note)
        for _ in _compute(tasks, jobs, shown):
            pass
    return _stored(plan, Path(runs))


def draw(plan: Plan, out: Path, runs: Path) -> list[Path]:
    """Make the pictures and tables of a plan from stored data alone, and the manifest beside them."""
    from experiments import style

    run = records.Run(plan.experiment, plan.config, runs)
    data = _stored(plan, runs)
    out.mkdir(parents=True, exist_ok=True)
    with style.context():
        paths = [Path(path) for path in plan.experiment.figure(plan.config, data, out)]
    manifest = run.describe(plan.command)
    records.write_json(run.folder / "manifest.json", manifest)
    manifest["drawn_with"] = records.provenance()
    manifest["files"] = {path.name: records.file_hash(path) for path in paths}
    sidecar = out / f"{plan.experiment.name}.json"
    records.write_json(sidecar, manifest)
    return [*paths, sidecar]


def _parts(plan: Plan) -> list[str]:
    parts = list(plan.experiment.parts(plan.config))
    if not parts or len(set(parts)) < len(parts) or not all(isinstance(p, str) for p in parts):
        raise TypeError(f"{plan.experiment.entry.module}: parts must be strings, at least one, each once; got {parts}")
    return parts


def _stored(plan: Plan, runs: Path) -> dict[str, dict[str, Any]]:
    run = records.Run(plan.experiment, plan.config, runs)
    return {part: run.read(part)[0] for part in _parts(plan)}


def _missing(plans: Sequence[Plan], runs: Path, fresh: bool) -> tuple[list[_Task], list[str]]:
    """What is to be computed, and what the user should know about it."""
    tasks: list[_Task] = []
    notes: list[str] = []
    for plan in plans:
        run = records.Run(plan.experiment, plan.config, runs)
        for part in _parts(plan):
            if fresh or not _is_stored(run, part, notes):
                tasks.append(_Task(plan.experiment.entry, plan.config, part, runs, records.provenance()))
    return tasks, notes


def _is_stored(run: records.Run, part: str, notes: list[str]) -> bool:
    try:
        run.read(part)
    except FileNotFoundError:
        return False
    except records.DamagedPart as damage:
        notes.append(f"{run.experiment.name}: the stored part {part!r} is damaged and computed again ({damage})")
        return False
    return True


def _compute(tasks: list[_Task], jobs: int, ticker: Ticker) -> Iterator[_Task]:
    """Compute and store the tasks; yields each one when it is stored."""
    if jobs > 1 and len(tasks) > 1:
        yield from _in_processes(tasks, min(jobs, len(tasks)), ticker)
        return
    for done, task in enumerate(tasks):
        ticker.update(done, task.label)
        try:
            _run_and_store(task, lambda fraction, done=done, task=task: ticker.update(done + fraction, task.label))
        except Exception as error:
            raise PartFailed(_failure(task, error)) from error
        ticker.update(done + 1, task.label)
        yield task


def _run_and_store(task: _Task, progress: Callable[[float], None]) -> None:
    experiment = registry.load(task.entry)
    seed = records.seed_of(experiment.name, task.config.seed, task.part)
    start = time.perf_counter()
    # One thread: sums in another order would give other last digits on another number of cores.
    with threadpoolctl.threadpool_limits(1):
        values = experiment.run_part(task.config, task.part, seed, progress)
    about = {
        "seconds": round(time.perf_counter() - start, 3),
        "seed": {"entropy": seed.entropy, "spawn_key": list(seed.spawn_key)},
        "computed_with": task.provenance,
    }
    records.Run(experiment, task.config, task.root).write(task.part, values, about)


def _failure(task: _Task, error: BaseException) -> str:
    return f"{task.label}: {type(error).__name__}: {error}"


def _in_processes(tasks: list[_Task], jobs: int, ticker: Ticker) -> Iterator[_Task]:
    # spawn: a fork of a process with threads (BLAS, numba, the progress bar) may hang.
    context = multiprocessing.get_context("spawn")
    reports = context.SimpleQueue()
    fractions = dict.fromkeys(range(len(tasks)), 0.0)
    with _shared_cores(jobs):
        pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(reports,))
        try:
            futures = {pool.submit(_work, number, task): number for number, task in enumerate(tasks)}
            pending: set[Future[None]] = set(futures)
            failed: tuple[_Task, BaseException] | None = None
            while pending:
                finished, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                while not reports.empty():
                    number, fraction = reports.get()
                    fractions[number] = fraction
                for future in finished:
                    number = futures[future]
                    if error := future.exception():
                        failed = failed or (tasks[number], error)
                        # The others that run are let finish and are stored; those that wait are given up.
                        pending = {other for other in pending if not other.cancel()}
                        continue
                    fractions[number] = 1.0
                    ticker.update(sum(fractions.values()), tasks[number].label)
                    yield tasks[number]
                if not finished:
                    busy = max(fractions, key=lambda n: fractions[n] * (fractions[n] < 1))
                    ticker.update(sum(fractions.values()), tasks[busy].label)
            if failed:
                task, error = failed
                if isinstance(error, BrokenProcessPool):
                    raise PartFailed("a worker process died (out of memory?); try again with fewer --jobs") from error
                raise PartFailed(_failure(task, error)) from error
        except BaseException:
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _work(number: int, task: _Task) -> None:
    last = 0.0

    def progress(fraction: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > 0.2:
            last = now
            _reports.put((number, min(max(float(fraction), 0.0), 1.0)))

    _run_and_store(task, progress)


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


__all__ = ["PartFailed", "Plan", "compute", "draw", "reproduce"]
