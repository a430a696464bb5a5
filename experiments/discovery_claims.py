"""What is said of methods of option discovery, and whether the data of `experiments.discovery` bear it out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats

from experiments.verdicts import HOLDS, IN_PART, NOT
from ra3sim.spread import bootstrap_iqm

COLUMNS = ("claim", "where", "measured", "value", "low", "high", "comparisons that bear it out", "verdict")
# Differences of planners' values below this are none.
_ROUNDING = 1e-9
_SEED = 0


@dataclass(frozen=True)
class Numbers:
    """Stored values by world and method; the first axis is k, as in ``counts``, the second the seed."""

    data: Mapping[str, Mapping[str, Any]]
    primitives: str
    told: str

    @property
    def worlds(self) -> list[str]:
        return list(dict.fromkeys(part.split(": ")[0] for part in self.data))

    @property
    def methods(self) -> list[str]:
        """Without the primitives alone."""
        names = dict.fromkeys(part.split(": ")[1] for part in self.data)
        return [name for name in names if name != self.primitives]

    def part(self, world: str, method: str) -> Mapping[str, Any]:
        return self.data[f"{world}: {method}"]

    def has(self, world: str, what: str) -> bool:
        return what in self.part(world, self.primitives)

    def values(self, world: str, method: str, what: str) -> np.ndarray:
        return np.asarray(self.part(world, method)[what], dtype=float)

    def relative(self, world: str, method: str, what: str) -> np.ndarray:
        """Share of what the primitives alone need, ``(K, seeds)``."""
        return self.values(world, method, what) / self.values(world, self.primitives, what)[0]


@dataclass(frozen=True)
class Claim:
    """
    Attributes:
        text, where, measured: for people.
        comparisons: differences by name, each over seeds, that are positive if the claim is true.
        strict: False: not negative is enough.
    """

    text: str
    where: str
    measured: str
    comparisons: Mapping[str, Any]
    strict: bool = True


def judge(claims: Sequence[Claim]) -> list[list[Any]]:
    """A row for each claim: the mean over its comparisons, seed by seed, with its interval, and the verdict.

    A comparison bears a claim out if its 95 % interval lies on the claim's side. All do: the claim holds. Not all, but
    the mean over them does: it holds in part.

    >>> found = judge([Claim("more", "here", "apples", {"one": [3.0, 4.0, 5.0], "other": [-1.0, -2.0, 2.0]})])
    >>> found[0][-2:]
    ['1 of 2', 'holds in part']
    """
    # All at once: a bootstrap of many columns costs hardly more than that of one.
    columns = [[*claim.comparisons.values(), np.mean(list(claim.comparisons.values()), axis=0)] for claim in claims]
    found = bootstrap_iqm(np.array([one for some in columns for one in some]), _SEED, axis=1)
    rows, first = [], 0
    for claim in claims:
        last = first + len(claim.comparisons)
        borne = found.low[first : last + 1] > (_ROUNDING if claim.strict else -_ROUNDING)
        right = int(borne[:-1].sum())
        verdict = HOLDS if right == last - first else IN_PART if borne[-1] else NOT
        summary = [float(end[last]) for end in found]
        rows.append([claim.text, claim.where, claim.measured, *summary, f"{right} of {last - first}", verdict])
        first = last + 1
    return rows


def claims(numbers: Numbers, steps: Iterable[int]) -> list[Claim]:
    """Those that the data can decide; differences are paired by seed."""
    rows = [*_planning(numbers), *_pruning(numbers)]
    for place, budget in enumerate(steps):
        rows += _learning(numbers, place, budget)
    return [*rows, *_lengths(numbers)]


# Their options can begin in one state alone, so their control is one of that kind.
_ONE_STATE = ("covering", "average_planning_time")
_SAVED = "sweeps saved, share of the primitives'"
_LOST = "difference in regret, share of V*"


def _versus(
    numbers: Numbers, what: str, better: str, others: Iterable[str], worlds: Iterable[str] | None = None
) -> dict[str, Any]:
    """By how much a method needs less than each other one, for every world and k."""
    return {
        f"{world}, {other}, k = {count}": numbers.relative(world, other, what)[k]
        - numbers.relative(world, better, what)[k]
        for world in (numbers.worlds if worlds is None else worlds)
        for other in others
        for k, count in enumerate(numbers.part(world, better)["counts"])
    }


def _planning(numbers: Numbers) -> list[Claim]:
    rows, every = [], numbers.methods
    told, apart = numbers.told, [m for m in every if m != numbers.told]
    if told in every:
        # The promise is among point options that begin in one state; others may begin in many.
        kin = [m for m in apart if m in (*_ONE_STATE, "random pairs")]
        for whom, rivals in (("other options that begin in one state", kin), ("any other method", apart)):
            for world in numbers.worlds if rivals else ():
                claim = f"{told}, made for the task, needs no more sweeps than {whom} (Jinnai et al. 2019)"
                rows.append(Claim(claim, world, _SAVED, _versus(numbers, "sweeps", told, rivals, [world]), False))
    for method in apart:
        control = "random pairs" if method in _ONE_STATE else "random"
        if method not in ("random", "random pairs") and control in every:
            for what, how in (("sweeps", ""), ("state sweeps", " on average over states")):
                claim = f"{method}: fewer sweeps{how} than {control}"
                rows.append(Claim(claim, "all worlds", _SAVED, _versus(numbers, what, method, [control])))
    for rivals in (("covering", "random pairs"), ("random", "eigenoptions", "betweenness")):
        if {"average_planning_time", *rivals} <= set(every):
            claim = "average_planning_time: fewer sweeps on average over states than " + ", ".join(rivals)
            found = _versus(numbers, "state sweeps", "average_planning_time", rivals)
            rows.append(Claim(f"{claim} (Ivanov et al. 2025)", "all worlds", _SAVED, found))
    kinds = (("sweeps", "", _SAVED), ("state sweeps", " on average over states", _SAVED),
             ("backups", "", "backups saved, share of the primitives'"))  # fmt: skip
    for what, how, unit in kinds:
        for method in every:
            claim = f"{method}: fewer {what.split()[-1]}{how} than with the primitives alone"
            rows.append(Claim(claim, "all worlds", unit, _alone(numbers, what, method)))
    return rows


def _alone(numbers: Numbers, what: str, method: str) -> dict[str, Any]:
    """By how much a method needs less than the primitives alone."""
    return {
        f"{world}, k = {count}": 1 - numbers.relative(world, method, what)[k]
        for world in numbers.worlds
        for k, count in enumerate(numbers.part(world, method)["counts"])
    }


def _pruning(numbers: Numbers) -> list[Claim]:
    worlds = [world for world in numbers.worlds if numbers.has(world, "pruned")]
    return [
        Claim(
            f"{method}: options make good for a primitive action that is missing",
            "all worlds",
            "difference in pruning error, share of V*",
            {
                f"{world}, k = {count}": numbers.values(world, numbers.primitives, "pruned")[0]
                - numbers.values(world, method, "pruned")[k]
                for world in worlds
                for k, count in enumerate(numbers.part(world, method)["counts"])
            },
        )
        for method in numbers.methods
        if worlds
    ]


def _learning(numbers: Numbers, place: int, budget: int) -> list[Claim]:
    worlds = [world for world in numbers.worlds if numbers.has(world, "regret")]
    every, where = numbers.methods, f"after {budget:,} steps"

    def regret(world: str, method: str) -> np.ndarray:
        return numbers.values(world, method, "regret")[..., place]

    def against(method: str, other: str) -> dict[str, Any]:
        return {
            f"{world}, k = {count}": regret(world, other)[0 if other == numbers.primitives else k]
            - regret(world, method)[k]
            for world in worlds
            for k, count in enumerate(numbers.part(world, method)["counts"])
        }

    if not worlds:
        return []
    rows = [
        Claim(
            f"{method}: less regret than with the primitives alone", where, _LOST, against(method, numbers.primitives)
        )
        for method in every
    ]
    for better, other, source in (
        ("betweenness", "random", "Şimşek & Barto 2009"),
        ("covering", "eigenoptions", "Jinnai, Park et al. 2019"),
        ("ra3", "ddo", "this project asks"),
        ("ra3", "macros", "this project asks"),
    ):
        if better in every and other in every:
            claim = f"{better}: less regret than {other} ({source})"
            rows.append(Claim(claim, where, _LOST, against(better, other)))
    return rows


def _lengths(numbers: Numbers) -> list[Claim]:
    """Rank correlations over methods (not the one that is told the task), for each world, k and seed."""
    apart = [m for m in numbers.methods if m != numbers.told]
    if len(apart) < 3:
        return []

    def ranks(one: Any, other: Any, sign: int, worlds: list[str]) -> dict[str, Any]:
        found = {}
        for world in worlds:
            for k, count in enumerate(numbers.part(world, apart[0])["counts"]):
                first, second = (np.array([get(world, m)[k] for m in apart]) for get in (one, other))
                pairs = [
                    scipy.stats.kendalltau(a, b).statistic if np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0
                    for a, b in zip(first.T, second.T, strict=True)
                ]
                found[f"{world}, k = {count}"] = sign * np.array(pairs)
        return found

    def value(what: str) -> Any:
        return lambda world, method: numbers.values(world, method, what)

    def share(world: str, method: str) -> np.ndarray:
        """Pairs of option and state at which a method's options can begin."""
        return value("covered")(world, method) * value("duration")(world, method)

    unit = "Kendall's τ over methods"
    rows = [
        Claim("methods with longer options need fewer sweeps", "all worlds", unit,
             ranks(value("duration"), value("sweeps"), -1, numbers.worlds)),
        Claim("methods with longer options that can begin in more states (product) need fewer sweeps", "all worlds",
             unit, ranks(share, value("sweeps"), -1, numbers.worlds)),
    ]  # fmt: skip
    worlds = [world for world in numbers.worlds if numbers.has(world, "regret")]
    for place, when in ((0, "least"), (-1, "most")):
        found = ranks(value("sweeps"), lambda w, m, p=place: value("regret")(w, m)[..., p], 1, worlds)
        if found:
            claim = "methods that need fewer sweeps have less regret"
            rows.append(Claim(claim, f"Q-learning, {when} steps", unit, found))
    return rows
