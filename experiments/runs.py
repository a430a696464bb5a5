"""What is stored in a folder of runs: found without computing, told apart by whether it is still of use."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments import fields, records
from experiments.locks import is_held
from experiments.progress import in_words
from experiments.registry import PRESETS, Entry, Experiment, load
from ra3sim import _store

COLUMNS = ("experiment", "key", "config", "parts", "time", "memory", "disk", "commit", "written", "state")
_KEY = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class State:
    """Whether stored data would be read again.

    Attributes:
        words: for people.
        stale: the code has moved on from it; None: nobody can tell.
        total: how many parts the run has; None unless it is current.
    """

    words: str
    stale: bool | None
    total: int | None = None


@dataclass(frozen=True)
class Stored:
    """One folder of data, ``root/<experiment>/<key>/``."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.parent.name

    @property
    def key(self) -> str:
        return self.folder.name

    @cached_property
    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.is_file())

    @cached_property
    def manifest(self) -> dict[str, Any] | None:
        """None: there is none, or it is damaged."""
        try:
            found = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
            return found if found["experiment"] == self.name and found["key"] == self.key else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @cached_property
    def parts(self) -> dict[str, tuple[Path, dict[str, Any]]]:
        """File and what is said about it (`records.Run.write`), by the part's name; without damaged ones."""
        found = {}
        for path in self.files:
            if path.suffix == ".npz" and not path.name.startswith("."):
                try:
                    about = _store.read_header(path, "part")
                    found[about["part"]] = (path, about)
                except (ValueError, KeyError, FileNotFoundError):
                    continue
        return found

    @property
    def abouts(self) -> list[dict[str, Any]]:
        return [about for _, about in self.parts.values()]

    @property
    def seconds(self) -> float:
        return sum(about.get("seconds", 0.0) for about in self.abouts)

    @property
    def peak(self) -> float | None:
        """MiB; None: not measured."""
        return records.largest_peak(self.abouts)

    @property
    def sources(self) -> list[dict[str, Any]]:
        """With what its parts were computed, each once."""
        found: list[dict[str, Any]] = []
        for about in self.abouts:
            if (one := about.get("computed_with", {})) not in found:
                found.append(one)
        return found

    @property
    def is_busy(self) -> bool:
        """Whether a process is at work in it."""
        return any(is_held(path) for path in self.files if path.suffix == ".lock")

    def config(self, registry: Mapping[str, Entry]) -> dict[str, Any] | None:
        """As JSON. Where no manifest says it, it may still be a preset's."""
        if self.manifest is not None:
            return self.manifest.get("config")
        for preset in PRESETS if self.name in registry else ():
            run = _preset(load(registry[self.name]), preset, self.folder.parent.parent)
            if run.folder == self.folder:
                return records.as_json(run.config)
        return None

    def run(self, registry: Mapping[str, Entry]) -> records.Run:
        """To read its parts with.

        Raises:
            ValueError: it is not current; says why.
        """
        if self.name not in registry:
            raise ValueError("no such experiment any more")
        experiment, config = load(registry[self.name]), self.config(registry)
        if config is None:
            raise ValueError("nothing says of which config")
        if self.manifest is not None and self.manifest.get("version") != experiment.version:
            raise ValueError(f"of version {self.manifest.get('version')}, now {experiment.version}")
        try:
            run = records.Run(experiment, fields.from_json(experiment.config_class, config), self.folder.parent.parent)
        except ValueError as error:
            raise ValueError(f"of another Config ({error})") from None
        now = records.as_json(experiment.config_class.preset("full"))
        if config.get("source") != now.get("source"):
            raise ValueError("of other code")
        if run.folder != self.folder:
            raise ValueError("its manifest is of something else")
        return run

    def state(self, registry: Mapping[str, Entry]) -> State:
        try:
            run = self.run(registry)
        except ValueError as error:
            unknown = self.config(registry) is None
            return State(("unknown: " if unknown else "stale: ") + str(error), None if unknown else True)
        total = len(run.experiment.parts(run.config))
        busy = "at work" if self.is_busy else "unfinished"
        return State("current" if len(self.parts) >= total else f"current, {busy}", False, total)


def find(root: Path, registry: Mapping[str, Entry], name: str | None = None) -> list[Stored]:
    """All data of experiments below a folder of runs; other folders are passed by."""
    found = []
    for folder in sorted(root.glob("*/*")):
        if folder.is_dir() and _KEY.fullmatch(folder.name) and name in (None, folder.parent.name):
            one = Stored(folder)
            if one.name in registry or one.manifest is not None:
                found.append(one)
    return found


def named(text: str, root: Path, registry: Mapping[str, Entry]) -> Stored:
    """A run by its folder, by its key, by the beginning of its key, or as NAME/KEY.

    Raises:
        ValueError: there is none, or there are several.
    """
    folder = Path(text)
    if folder.is_dir() and _KEY.fullmatch(folder.resolve().name):
        return Stored(folder.resolve())
    name, _, start = text.rpartition("/")
    found = [one for one in find(root, registry) if one.key.startswith(start) and name in ("", one.name)]
    if len(found) != 1 or not start:
        several = ", ".join(f"{one.name}/{one.key}" for one in found[:5])
        what = f"several runs begin so: {several}" if found else f"no such run in {root}"
        raise ValueError(f"{text}: {what}; `ra3 runs list` says what there is")
    return found[0]


def rows(found: Sequence[Stored], registry: Mapping[str, Entry]) -> Iterator[tuple[str, ...]]:
    """One row of `COLUMNS` for each."""
    for one in found:
        state = one.state(registry)
        yield (
            one.name,
            one.key[:8],
            summary(one, registry),
            f"{len(one.parts)}/{'?' if state.total is None else state.total}",
            in_words(one.seconds),
            "-" if one.peak is None else size(one.peak * 2**20),
            size(disk(one.files)),
            ", ".join(dict.fromkeys(commit(source) for source in one.sources)) or "-",
            when(one.files),
            state.words,
        )


def summary(one: Stored, registry: Mapping[str, Entry]) -> str:
    """Its preset, or the nearest preset with what is different."""
    config = one.config(registry)
    if config is None or one.name not in registry:
        return "-"
    best: tuple[str, dict[str, Any]] | None = None
    # Where quick is no less than another one, the other name says more.
    for preset in sorted(PRESETS, key="quick".__eq__):
        other = records.as_json(load(registry[one.name]).config_class.preset(preset))
        found = fields.differences(other, config)
        if best is None or len(found) < len(best[1]):
            best = (preset, found)
    assert best is not None
    preset, found = best
    shown = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, (_, value) in found.items()]
    return ", ".join([preset, *shown[:3], *(["..."] if len(shown) > 3 else [])])


def commit(source: Mapping[str, Any]) -> str:
    """A short one; + if the source differed from it."""
    return f"{source['commit'][:7]}{'+' if source.get('dirty') else ''}" if source.get("commit") else "?"


def disk(files: Sequence[Path]) -> int:
    """Bytes."""
    return sum(path.stat().st_size for path in files)


def size(count: float) -> str:
    """
    >>> size(900), size(2**20 * 1.5), size(2**31)
    ('1 KiB', '1.5 MiB', '2.0 GiB')
    """
    if count < 2**20:
        return f"{-(-count // 2**10):.0f} KiB"
    return f"{count / 2**20:.1f} MiB" if count < 2**30 else f"{count / 2**30:.1f} GiB"


def when(files: Sequence[Path]) -> str:
    """When the last of them was written, in local time."""
    last = max((path.stat().st_mtime for path in files), default=None)
    return "-" if last is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(last))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """
    >>> table(("a", "long"), [("1", "x"), ("22", "y")])
    ['a   long', '1   x', '22  y']
    """
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    lines = [columns, *rows]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _preset(experiment: Experiment, preset: str, root: Path) -> records.Run:
    return records.Run(experiment, experiment.config_class.preset(preset), root)
