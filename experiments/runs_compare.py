"""Two stored runs side by side: what was asked for, with what it was computed, and whether the values are equal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments import fields, records
from experiments.progress import in_words
from experiments.registry import Entry
from experiments.runs import Stored, commit, size, table
from ra3sim import _store


@dataclass(frozen=True)
class Difference:
    """Two parts of one name whose values are not equal bit for bit.

    Attributes:
        value: the name of the value that differs most; largest: by how much, at most, in absolute terms; None where
            that cannot be said (other shapes, words, NaN against a number).
        others: how many other values differ too.
    """

    part: str
    value: str
    largest: float | None
    others: int


@dataclass(frozen=True)
class Comparison:
    """
    Attributes:
        about: name and both values, as text.
        same: parts that are equal bit for bit; different: those that are not.
        only: parts that one of them alone has, for each of the two; damaged: parts that cannot be read.
    """

    about: list[tuple[str, ...]]
    same: list[str]
    different: list[Difference]
    only: tuple[list[str], list[str]]
    damaged: list[str]


def compare(one: Stored, other: Stored, registry: Mapping[str, Entry]) -> Comparison:
    same, different, damaged = [], [], []
    for part in (name for name in one.parts if name in other.parts):
        try:
            found = _differing(_values(one, part), _values(other, part))
        except (ValueError, FileNotFoundError):
            damaged.append(part)
            continue
        if not found:
            same.append(part)
            continue
        sizes = {name: np.inf if value is None else value for name, value in found.items()}
        worst = max(sizes, key=sizes.__getitem__)
        different.append(Difference(part, worst, found[worst], len(found) - 1))
    only = [[part for part in a.parts if part not in b.parts] for a, b in ((one, other), (other, one))]
    return Comparison(_about(one, other, registry), same, different, (only[0], only[1]), damaged)


def lines(one: Stored, other: Stored, found: Comparison) -> list[str]:
    """For people."""
    shown = table(("", f"{one.name}/{one.key[:8]}", f"{other.name}/{other.key[:8]}"), found.about)
    both = len(found.same) + len(found.different) + len(found.damaged)
    shown.append(f"values: {len(found.same)} of {both} parts in common are equal bit for bit")
    for difference in found.different:
        far = "no number" if difference.largest is None else f"by up to {difference.largest:.3g}"
        more = f", and {difference.others} other values" if difference.others else ""
        shown.append(f"  {difference.part}: {difference.value} differs ({far}){more}")
    shown += [f"  {part}: damaged" for part in found.damaged]
    for run, parts in zip((one, other), found.only, strict=True):
        if parts:
            shown.append(f"only in {run.name}/{run.key[:8]}: {', '.join(parts)}")
    return shown


def _about(one: Stored, other: Stored, registry: Mapping[str, Entry]) -> list[tuple[str, ...]]:
    """What differs in config and versions; commit, time and memory of both in any case."""
    configs = [run.config(registry) or {} for run in (one, other)]
    rows = [(name, *map(json.dumps, values)) for name, values in fields.differences(*configs).items()]
    codes = [str((run.manifest or {}).get("version", "?")) for run in (one, other)]
    if codes[0] != codes[1]:
        rows.append(("version of the experiment", *codes))
    versions = [_joined(run, lambda source: source.get("versions", {})) for run in (one, other)]
    rows += [(name, str(a), str(b)) for name, (a, b) in fields.differences(*versions).items()]
    machines = [_joined(run, lambda source: {"machine": source.get("machine")})["machine"] for run in (one, other)]
    if machines[0] != machines[1]:
        rows.append(("machine", *machines))
    rows.append(("commit", *(", ".join(dict.fromkeys(map(commit, run.sources))) or "-" for run in (one, other))))
    rows.append(("time", *(in_words(run.seconds) for run in (one, other))))
    peaks = [run.peak for run in (one, other)]
    rows.append(("peak memory", *("-" if peak is None else size(peak * 2**20) for peak in peaks)))
    return rows


def _joined(run: Stored, pick: Any) -> dict[str, str]:
    """What its parts were computed with; a run that several had a share in has several of each."""
    found: dict[str, dict[str, None]] = {}
    for source in run.sources:
        for name, value in pick(source).items():
            found.setdefault(name, {})[str(value)] = None
    return {name: " / ".join(values) for name, values in found.items()}


def _values(run: Stored, part: str) -> dict[str, Any]:
    arrays, about = _store.read_arrays(run.parts[part][0], "part")
    return records.values(arrays, about)


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float | None]:
    """The values that are not equal bit for bit, with the largest absolute difference."""
    found: dict[str, float | None] = {}
    for name in {**one, **other}:
        if name not in one or name not in other:
            found[name] = None
            continue
        a, b = one[name], other[name]
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            if a.dtype != b.dtype or a.shape != b.shape or a.tobytes() != b.tobytes():
                found[name] = _distance(a, b)
        elif type(a) is not type(b) or a != b:
            found[name] = abs(a - b) if isinstance(a, (int, float)) and isinstance(b, (int, float)) else None
    return found


def _distance(a: np.ndarray, b: np.ndarray) -> float | None:
    if a.shape != b.shape or not all(np.issubdtype(x.dtype, np.number) or x.dtype == bool for x in (a, b)):
        return None
    # Equal infinities and two NaNs are no distance apart.
    kind = np.result_type(a, b, np.float64)
    first, second = a.astype(kind), b.astype(kind)
    away = (first != second) & ~(np.isnan(first) & np.isnan(second))
    if not away.any():
        return 0.0
    largest = float(np.abs(first[away] - second[away]).max())
    return largest if np.isfinite(largest) else None
