"""What the subcommands of `ra3` share: how they say what is wrong, and how they compute."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console


class InputError(Exception):
    """What the user gave cannot be used; the message is one line that says what to do."""


@dataclass(frozen=True, kw_only=True)
class Computing:
    """Options of all that computes parts of experiments."""

    jobs: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """Number of processes; the results do not depend on it (default: one per core)."""
    runs: Path = Path("runs")
    """Folder of the stored data."""
    fresh: bool = False
    """Compute again what is stored."""
    address: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS", help_behavior_hint="")] = None
    """Compute by Ray, not in processes of this machine: local, auto, HOST:PORT or ray://HOST:PORT."""
    any_versions: bool = False
    """With --address: also on machines that have other versions; the results may then differ in the last digits."""

    @contextlib.contextmanager
    def computing(self, out: Path, seed: int | None) -> Iterator[dict[str, Any]]:
        """Check the options; enters with the arguments of `experiments.runner` that they stand for.

        What Ray, or a machine of its cluster, refuses is the user's to mend too.

        Raises:
            InputError: naming the option.
        """
        from experiments.cluster import Cluster, NotTheSame, Unreachable

        if self.jobs is not None and self.jobs < 1:
            raise InputError(f"--jobs: at least 1, got {self.jobs}")
        if seed is not None and seed < 0:
            raise InputError(f"--seed: at least 0, got {seed}")
        check_folders({"--out": out, "--runs": self.runs})
        if self.address is None and self.any_versions:
            raise InputError("--any-versions: goes with --address")
        try:
            cluster = self.address and Cluster(self.address, self.jobs, self.any_versions)
        except ValueError as error:
            raise InputError(f"--{error}") from None
        try:
            yield {"runs": self.runs, "jobs": self.jobs or cores(), "fresh": self.fresh, "cluster": cluster or None}
        except Unreachable as error:
            raise InputError(f"--{error}") from None
        except NotTheSame as error:
            raise InputError(str(error)) from None


def check_folders(folders: dict[str, Path]) -> None:
    """Make the folders that options name.

    Raises:
        InputError: one can't be made, or not be written to; names the option.
    """
    for option, folder in folders.items():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{option}: {folder} cannot be made a folder ({error.strerror})") from None
        if not os.access(folder, os.W_OK):
            raise InputError(f"{option}: {folder} cannot be written to")


def sayer(console: Console) -> Callable[[str], None]:
    """Prints lines for people, each as one line however long it is."""
    return partial(console.print, markup=False, highlight=False, soft_wrap=True)


def fail(message: str, code: int) -> int:
    """Say what went wrong in one line; returns the exit code."""
    print(f"ra3: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
