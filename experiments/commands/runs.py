"""`ra3 runs`: its subcommands. What the user gave wrong is a ValueError of one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments.registry import Entry, find


@dataclass(frozen=True)
class ListRuns:
    """Say what is stored: of which config, how far, how long it took, how much memory, and whether it is of use."""

    runs: Path = Path("runs")
    """Folder of the stored data; runs of language models below it are listed too."""
    experiment: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: all)")] = None
    """Only of this experiment."""

    def run(self, registry: Mapping[str, Entry]) -> int:
        from experiments import runs, runs_llm

        _check(self.runs, self.experiment, registry)
        found = runs.find(self.runs, registry, self.experiment)
        lines = runs.table(runs.COLUMNS, list(runs.rows(found, registry))) if found else []
        folders = [] if self.experiment else runs_llm.find(self.runs)
        if folders:
            lines += [""] * bool(lines) + runs.table(runs_llm.COLUMNS, list(runs_llm.rows(folders, self.runs)))
        print("\n".join(lines or [f"nothing is stored in {self.runs}"]))
        return 0


@dataclass(frozen=True)
class CompareRuns:
    """Compare two stored runs: config, versions, time, memory, and whether their values are equal bit for bit."""

    first: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FIRST")]
    """Its key, the beginning of it, NAME/KEY, or its folder."""
    second: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SECOND")]
    """The other one."""
    runs: tuple[Path, ...] = (Path("runs"),)
    """Folder of the stored data; of two, the second run is looked for in the second."""

    def run(self, registry: Mapping[str, Entry]) -> int:
        from experiments import runs, runs_compare

        if not 1 <= len(self.runs) <= 2:
            raise ValueError(f"--runs: one folder or two, got {len(self.runs)}")
        for folder in self.runs:
            _check(folder, None, registry)
        one = runs.named(self.first, self.runs[0], registry)
        other = runs.named(self.second, self.runs[-1], registry)
        print("\n".join(runs_compare.lines(one, other, runs_compare.compare(one, other, registry))))
        return 0


@dataclass(frozen=True)
class CleanRuns:
    """Say what could be removed, and with --yes remove it: stale runs, damaged or half-written files, dead locks.

    Data of a run that is current, and runs of language models, are never removed.
    """

    runs: Path = Path("runs")
    """Folder of the stored data."""
    experiment: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: all)")] = None
    """Only of this experiment."""
    yes: bool = False
    """Remove it."""

    def run(self, registry: Mapping[str, Entry]) -> int:
        from experiments import runs, runs_clean

        _check(self.runs, self.experiment, registry)
        found = runs_clean.leftovers(self.runs, registry, self.experiment)
        for one in found:
            print(f"{one.path}: {one.why}, {runs.size(one.size)}")
        whole = runs.size(sum(one.size for one in found))
        if self.yes:
            runs_clean.remove(found)
            print(f"removed: {len(found)}, {whole}")
        else:
            print(f"to remove: {len(found)}, {whole}{'; --yes removes them' if found else ''}")
        return 0


def _check(folder: Path, experiment: str | None, registry: Mapping[str, Entry]) -> None:
    if not folder.is_dir():
        raise ValueError(f"--runs: no folder {folder}; give the one that `ra3 reproduce --runs` was given")
    # Data of an experiment that is no more can be asked for by its folder's name.
    if experiment is not None and not (folder / experiment).is_dir():
        find([experiment], registry)
