"""What may be removed from a folder of runs: data that no command would read again, and what kills left behind."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments import records
from experiments.locks import Lock
from experiments.registry import Entry
from experiments.runs import Stored, disk, find

# A file that is being written is younger; what is older nobody writes any more.
_HALF_WRITTEN_SECONDS = 60.0


@dataclass(frozen=True)
class Leftover:
    """Something to remove: a folder of a run, or one file of it."""

    path: Path
    why: str
    size: int


def leftovers(
    root: Path, registry: Mapping[str, Entry], name: str | None = None, clock: Callable[[], float] = time.time
) -> list[Leftover]:
    """Runs that are stale, parts that are damaged, files half written, locks of nobody.

    Nothing of a run in which a process is at work, and no data that can be read of one that is current, or of which
    nobody can tell.
    """
    found = []
    for run in find(root, registry, name):
        if run.is_busy:
            continue
        state = run.state(registry)
        if state.stale:
            found.append(Leftover(run.folder, state.words, disk(run.files)))
            continue
        damaged = _damaged(run, registry) if state.stale is False else {}
        for path in run.files:
            if why := damaged.get(path) or _why(path, clock):
                found.append(Leftover(path, why, path.stat().st_size))
    return found


def remove(found: list[Leftover]) -> None:
    """Remove them; what somebody began to work on meanwhile stays."""
    for one in found:
        if one.path.is_dir():
            if not Stored(one.path).is_busy:
                shutil.rmtree(one.path)
        elif one.path.suffix == ".lock":
            lock = Lock(one.path)
            if lock.take():
                lock.release()
        else:
            one.path.unlink(missing_ok=True)


def _damaged(run: Stored, registry: Mapping[str, Entry]) -> dict[Path, str]:
    """Parts that a command would compute again, each read as a whole."""
    current, found = run.run(registry), {}
    for part in current.experiment.parts(current.config):
        try:
            current.read(part)
        except FileNotFoundError:
            continue
        except records.DamagedPart:
            found[current.path(part)] = f"damaged: part {part}"
    return found


def _why(path: Path, clock: Callable[[], float]) -> str | None:
    if path.suffix == ".lock":
        return "a lock that nobody holds"
    if path.name.startswith(".") and clock() - path.stat().st_mtime > _HALF_WRITTEN_SECONDS:
        return "half written"
    return None
