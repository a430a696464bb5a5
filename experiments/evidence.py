"""What claims are judged from: the csv files and manifests that experiments wrote."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from experiments.verdicts import side, together, verdict
from ra3sim.spread import Interval


class NoData(LookupError):
    """The data that a claim wants are not there; the message says which."""


@dataclass(frozen=True)
class Found:
    """What was found of a claim.

    Attributes:
        text: the numbers with their intervals, for people.
        verdict: one of `experiments.verdicts`.
        seeds: how many, as text; "exact" where nothing is random.
        why: what a reader must know to understand the verdict.
    """

    text: str
    verdict: str
    seeds: str
    why: str = ""


@dataclass(frozen=True)
class Figures:
    """The folder with the csv files and manifests (``paper_figs``)."""

    folder: Path
    _known: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def rows(self, name: str, match: Mapping[str, Any] = MappingProxyType({})) -> list[dict[str, str]]:
        """Rows of ``name.csv`` whose cells are those of ``match`` (a tuple: one of several); at least one.

        Raises:
            NoData: there is no such file, column or row.
        """
        found = self._once(f"{name}.csv", lambda text: list(csv.DictReader(io.StringIO(text))))
        for column, wanted in match.items():
            allowed = {str(one) for one in (wanted if isinstance(wanted, tuple) else (wanted,))}
            if found and column not in found[0]:
                raise NoData(f"{name}.csv has no column {column!r}")
            found = [row for row in found if row[column] in allowed]
        if not found:
            raise NoData(f"{name}.csv has no row with {', '.join(map(str, match.values())) or 'anything'}")
        return found

    def row(self, name: str, match: Mapping[str, Any]) -> dict[str, str]:
        """The one row that matches.

        Raises:
            NoData: there is none, or more than one.
        """
        found = self.rows(name, match)
        if len(found) > 1:
            raise NoData(f"{name}.csv has {len(found)} rows with {', '.join(map(str, match.values()))}")
        return found[0]

    def manifest(self, experiment: str) -> Mapping[str, Any]:
        """Manifest of an experiment.

        Raises:
            NoData: it was not made.
        """
        return self._once(f"{experiment}.json", json.loads)

    def _once(self, name: str, read: Callable[[str], Any]) -> Any:
        if name not in self._known:
            path = self.folder / name
            try:
                self._known[name] = read(path.read_text(encoding="utf-8"))
            except FileNotFoundError:
                raise NoData(f"no {name}") from None
            except ValueError as error:
                raise ValueError(f"{path} is damaged ({error}); make it again") from None
        return self._known[name]


def known(row: Mapping[str, str], mean: str, low: str = "low", high: str = "high") -> Interval:
    """The interval in three cells of a row.

    Raises:
        NoData: an empty cell.
    """
    try:
        return Interval(*(float(row[name]) for name in (mean, low, high)))
    except (ValueError, KeyError):
        raise NoData(f"no value of {mean}") from None


def number(value: float) -> str:
    """Three digits; without the noise of rounding around 0.

    >>> number(0.12345), number(-3e-17), number(12.0)
    ('0.123', '0', '12')
    """
    return "0" if abs(value) < 1e-15 else f"{value:.3g}"


def said(found: Interval) -> str:
    """``mean [low, high]``."""
    return f"{number(found.mean)} [{number(found.low)}, {number(found.high)}]"


def intervals(
    found: Mapping[str, Interval], seeds: Iterable[Any], above: float = 0.0, below: float = float("inf")
) -> Found:
    """Of values that lie between ``above`` and ``below`` if the claim is true."""
    text = "; ".join(f"{name}: {said(one)}" if name else said(one) for name, one in found.items())
    return Found(text, verdict([side(one, above, below) for one in found.values()]), how_many(seeds))


def decided(text: str, holds: Iterable[bool], seeds: str = "exact", why: str = "") -> Found:
    """Of comparisons that are true or false, without an interval; "exact" is what is computed, not drawn."""
    return Found(text, verdict([1 if one else -1 for one in holds]), seeds, why)


def judged(figures: Figures, name: str, *claims: str) -> Found:
    """Of claims that an experiment has judged already, in ``name.csv``."""
    rows = [figures.row(name, {"claim": claim}) for claim in claims]
    column = "found, mean [95 % interval]"
    return Found(
        "; ".join(f"{row['measured']}: {row[column]}" for row in rows if row[column]),
        together(row["verdict"] for row in rows),
        how_many(row["seeds"] for row in rows),
    )


def by_world(figures: Figures, name: str, *claims: str) -> Found:
    """Of claims judged world by world, as differences."""
    rows = figures.rows(name, {"claim": claims})
    found = [f"{row['world']}: {said(known(row, 'difference'))}" for row in rows]
    text = "share of what the random policy loses: " + "; ".join(found)
    return Found(
        text, verdict([side(known(row, "difference")) for row in rows]), how_many(row["seeds"] for row in rows)
    )


def how_many(seeds: Iterable[Any]) -> str:
    """``5`` or ``3-5``.

    >>> how_many(["3", 5, "5"]), how_many(["3–5"])
    ('3–5', '3–5')
    """
    counts = sorted({int(part) for one in seeds for part in str(one).split("–") if part})
    return "–".join(map(str, dict.fromkeys([counts[0], counts[-1]]))) if counts else ""


def seeds_of(figures: Figures, experiment: str) -> str:
    """How many seeds an experiment was made with, as text."""
    return str(figures.manifest(experiment)["config"].get("seeds", ""))
