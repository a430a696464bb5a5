"""Folders that `ra3 midtrain`, `ra3 rlvr` and `ra3 evaluate` left, listed beside the data of experiments."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.locks import is_held
from experiments.progress import in_words
from experiments.records import largest_peak
from experiments.runs import disk, size, when

COLUMNS = ("folder", "model", "iterations", "time", "memory", "disk", "commit", "written", "state")


def find(root: Path) -> list[Path]:
    """The folders below (`llm.runs` says what is in them); what lies within one is part of it."""
    found = []
    for folder, below, files in os.walk(root):
        if {"config.json", "versions.json"} <= set(files):
            found.append(Path(folder))
            below.clear()
        below.sort()
    return found


def rows(found: list[Path], root: Path) -> Iterator[tuple[str, ...]]:
    """One row of `COLUMNS` for each."""
    for folder in found:
        config, versions = _read(folder / "config.json", {}), _read(folder / "versions.json", [])
        files = [path for path in folder.rglob("*") if path.is_file()]
        seconds = [one["seconds"] for one in versions if "seconds" in one]
        peak = largest_peak(versions)
        done, total = _lines(folder / "metrics.jsonl"), config.get("iterations", config.get("steps"))
        state = "done" if (folder / "done").is_file() else "at work" if is_held(folder / ".lock") else "unfinished"
        yield (
            str(folder.relative_to(root)),
            str(config.get("model", "-")),
            f"{done}" if total is None else f"{done}/{total}",
            in_words(sum(seconds)) if seconds else "-",
            "-" if peak is None else size(peak * 2**20),
            size(disk(files)),
            ", ".join(dict.fromkeys((one.get("commit") or "?")[:7] for one in versions)) or "-",
            when(files),
            state,
        )


def _read(path: Path, otherwise: Any) -> Any:
    """What is there, if it is of the same type."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return otherwise
    return found if isinstance(found, type(otherwise)) else otherwise


def _lines(path: Path) -> int:
    try:
        return len(path.read_bytes().splitlines())
    except OSError:
        return 0
