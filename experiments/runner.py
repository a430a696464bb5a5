"""Runs experiments part by part, here, in several processes or on a Ray cluster, and draws what is stored."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import processes, records
from experiments.cluster import Cluster
from experiments.progress import Ticker
from experiments.registry import Experiment
from experiments.work import PartFailed, Task


@dataclass(frozen=True)
class Plan:
    """An experiment, the config to run it with, and the command that does so (for the record)."""

    experiment: Experiment
    config: Any
    command: str | None = None


def reproduce(
    plans: Sequence[Plan],
    out: str | os.PathLike[str],
    runs: str | os.PathLike[str] = "runs",
    jobs: int = 1,
    fresh: bool = False,
    cluster: Cluster | None = None,
    ticker: Callable[[int], Ticker] = Ticker,
) -> list[Path]:
    """Compute the parts that are not stored yet, then draw every plan from what is stored.

    Args:
        plans: what to make.
        out: folder of pictures, csv files and one manifest ``<name>.json`` per experiment.
        runs: folder of the stored parts.
        jobs: processes; the numbers do not depend on it.
        fresh: compute stored parts again.
        cluster: compute there, not in processes of this machine.
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
        for task in _compute(tasks, jobs, cluster, shown):
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
    cluster: Cluster | None = None,
    ticker: Callable[[int], Ticker] = Ticker,
) -> dict[str, dict[str, Any]]:
    """Compute the parts that are not stored yet, draw nothing; returns the data of all parts. As `reproduce`."""
    sweep([plan], runs, jobs, fresh, cluster, ticker)
    return _stored(plan, Path(runs))


def sweep(
    plans: Sequence[Plan],
    runs: str | os.PathLike[str] = "runs",
    jobs: int = 1,
    fresh: bool = False,
    cluster: Cluster | None = None,
    ticker: Callable[[int], Ticker] = Ticker,
) -> list[records.Run]:
    """Compute the parts of many plans, among them one experiment with several configs; draws nothing.

    Arguments and errors as `reproduce`; the runs, in the order of the plans.
    """
    runs = Path(runs)
    found = {run.folder: plan for plan in plans for run in [records.Run(plan.experiment, plan.config, runs)]}
    tasks, notes = _missing(list(found.values()), runs, fresh)
    with ticker(len(tasks)) as shown:
        for note in notes:
            shown.say(note)
        waiting = Counter(task.run.folder for task in tasks)
        for task in _compute(tasks, jobs, cluster, shown):
            folder = task.run.folder
            waiting[folder] -= 1
            if not waiting[folder]:
                _write_manifest(found[folder], runs)
    return [records.Run(plan.experiment, plan.config, runs) for plan in plans]


def draw(plan: Plan, out: Path, runs: Path) -> list[Path]:
    """Make the pictures and tables of a plan from stored data alone, and the manifest beside them."""
    from experiments import style

    data = _stored(plan, runs)
    out.mkdir(parents=True, exist_ok=True)
    with style.context():
        paths = [Path(path) for path in plan.experiment.figure(plan.config, data, out)]
    manifest = _write_manifest(plan, runs)
    manifest["drawn_with"] = records.provenance()
    manifest["files"] = {path.name: records.file_hash(path) for path in paths}
    sidecar = out / f"{plan.experiment.name}.json"
    records.write_json(sidecar, manifest)
    return [*paths, sidecar]


def _write_manifest(plan: Plan, runs: Path) -> dict[str, Any]:
    run = records.Run(plan.experiment, plan.config, runs)
    manifest = run.describe(plan.command)
    records.write_json(run.manifest, manifest)
    return manifest


def _parts(plan: Plan) -> list[str]:
    parts = list(plan.experiment.parts(plan.config))
    if not parts or len(set(parts)) < len(parts) or not all(isinstance(p, str) for p in parts):
        raise TypeError(f"{plan.experiment.entry.module}: parts must be strings, at least one, each once; got {parts}")
    return parts


def _stored(plan: Plan, runs: Path) -> dict[str, dict[str, Any]]:
    run = records.Run(plan.experiment, plan.config, runs)
    return {part: run.read(part)[0] for part in _parts(plan)}


def _missing(plans: Sequence[Plan], runs: Path, fresh: bool) -> tuple[list[Task], list[str]]:
    """What is to be computed, and what the user should know about it."""
    tasks: list[Task] = []
    notes: list[str] = []
    for plan in plans:
        run = records.Run(plan.experiment, plan.config, runs)
        missing = [part for part in _parts(plan) if fresh or not _is_stored(run, part, notes)]
        if missing:
            run.begin(plan.command)
        provenance = records.provenance()
        tasks += [Task(plan.experiment.entry, plan.config, part, runs, provenance, fresh) for part in missing]
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


def _compute(tasks: list[Task], jobs: int, cluster: Cluster | None, ticker: Ticker) -> Iterator[Task]:
    """Compute and store the tasks; yields each one when it is stored."""
    if cluster and tasks:
        return cluster.compute(tasks, ticker)
    if jobs > 1 and len(tasks) > 1:
        return processes.in_processes(tasks, min(jobs, len(tasks)), ticker)
    return processes.in_series(tasks, ticker)


__all__ = ["PartFailed", "Plan", "compute", "draw", "reproduce", "sweep"]
