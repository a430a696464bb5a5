"""One part of one experiment: how it is computed, stored, and shared out among processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import threadpoolctl

from experiments import records, registry
from ra3sim import _memory


class PartFailed(RuntimeError):
    """The code of a part raised, or its process died; the cause is chained."""


@dataclass(frozen=True)
class Task:
    """One part to compute, in a form that travels to another process.

    Attributes:
        provenance: of the process that gives the task; one that computes in another place has its own.
        fresh: compute it even if it is stored.
    """

    entry: registry.Entry
    config: Any
    part: str
    root: Path
    provenance: dict[str, Any]
    fresh: bool = False

    @property
    def label(self) -> str:
        return f"{self.entry.name} {self.part}"

    @property
    def run(self) -> records.Run:
        return records.Run(registry.load(self.entry), self.config, self.root)

    def is_stored(self) -> bool:
        try:
            self.run.read(self.part)
        except (FileNotFoundError, records.DamagedPart):
            return False
        return True

    def failure(self, error: BaseException) -> str:
        return f"{self.label}: {type(error).__name__}: {error}"


def computed(task: Task, progress: Callable[[float], None]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values of a part, and about them: wall time, peak memory, seed, provenance."""
    experiment = registry.load(task.entry)
    seed = records.seed_of(experiment.name, task.config.seed, task.part)
    start = time.perf_counter()
    # One thread: sums in another order would give other last digits on another number of cores.
    with threadpoolctl.threadpool_limits(1), _memory.measured() as peak:
        values = experiment.run_part(task.config, task.part, seed, progress)
    about = {
        "seconds": round(time.perf_counter() - start, 3),
        "peak_memory_mib": peak.mib,
        "seed": {"entropy": seed.entropy, "spawn_key": list(seed.spawn_key)},
        "computed_with": task.provenance,
    }
    return values, about


def attempt(task: Task, progress: Callable[[float], None]) -> bool:
    """Compute and store a part, unless another process has done so; False: another one is at it."""
    run = task.run
    lock = run.lock(task.part)
    if not lock.take():
        return False
    try:
        if task.fresh or not task.is_stored():
            run.write(task.part, *computed(task, progress))
    finally:
        lock.release()
    return True
