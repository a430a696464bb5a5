"""What `experiments.rlvr` measured, by checkpoint and seed; its tables, and the claims that the data decide."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments import style
from experiments.midtrain_claims import COLUMNS, Claim, judge
from experiments.midtrain_results import number
from ra3sim.spread import Interval, bootstrap_iqm

BASE = "base"
METHODS = (BASE, "NTP", "blind", "RA3, published", "RA3, split", "RA3, posterior", "oracle")
RA3 = tuple(name for name in METHODS if name.startswith("RA3"))
COMMAND = "ra3 reproduce rlvr"
# Run at another learning rate too. (From the base nothing is learnt at any.)
RATED = METHODS[1:]

# Steps over which the beginning, and the end, of a run is averaged.
FEW = 10
# pass@1 below this is nothing learnt; more groups without a pass than this share are a failure of exploration.
NOTHING, HOPELESS = 0.05, 0.9
QUANTITIES = (
    "pass@1 at first", "pass@1, mean over the course", "rise of the mean over the first", "pass@1 in the end",
    "steps to the threshold", "reward at first", "reward in the end", "groups without spread at first",
    "groups without spread in the end", "groups all failed at first", "groups all failed in the end",
    "entropy at first", "entropy in the end",
)  # fmt: skip


def name_of(method: str, rate: float | None) -> str:
    """Of a checkpoint and the learning rate of its RLVR.

    >>> name_of("NTP", 1e-3)
    'NTP, rate 0.001'
    """
    return f"{method}, rate {rate:g}"


class Results:
    """Curves and figures, over the seeds of a checkpoint.

    Args:
        config: of `experiments.rlvr`; data: by part.
        rate: of learning; None: the main one.
    """

    def __init__(self, config: Any, data: Mapping[str, Mapping[str, Any]], rate: float | None = None) -> None:
        self.config, self._data, self._seed = config, data, config.seed
        self.rate = config.rate if rate is None else rate
        self.methods = [one for one in config.methods if self.rate == config.rate or one in RATED]
        self._runs = {
            method: [data[f"{name_of(method, self.rate)}, seed {k}"] for k in range(config.seeds)]
            for method in self.methods
        }

    def other(self) -> Results | None:
        """The same at the other rate, if there is one."""
        return Results(self.config, self._data, self.config.other_rate) if self.config.other_rate else None

    def both(self, method: str) -> list[Results]:
        """At the rates at which there are runs from this checkpoint."""
        return [one for one in (self, self.other()) if one and method in one.methods]

    def curves(self, method: str, name: str) -> np.ndarray:
        """``(seeds, times)``."""
        return np.array([run[name] for run in self._runs[method]], float)

    @property
    def measured(self) -> np.ndarray:
        """The steps after which held-out tasks were measured."""
        return np.asarray(self._runs["NTP"][0]["measured"])

    def band(self, values: np.ndarray) -> Interval:
        """Mean of the middle half over seeds, with its bootstrap interval."""
        return bootstrap_iqm(values, self._seed)

    def of(self, method: str, quantity: str) -> np.ndarray:
        """``(seeds,)``, one of `QUANTITIES`, or the same of another pass@k."""
        name, _, when = quantity.partition(",") if "mean over" in quantity else quantity.partition(" at ")
        if quantity == "steps to the threshold":
            return self._steps(method)
        if quantity == "rise of the mean over the first":
            return self.of(method, "pass@1, mean over the course") - self.of(method, "pass@1 at first")
        if "mean over" in quantity:
            return self._mean(self.curves(method, name))
        first = bool(when)
        name = name if first else quantity.removesuffix(" in the end")
        name = {"groups without spread": "no spread", "groups all failed": "all failed"}.get(name, name)
        curves = self.curves(method, name)
        if name.startswith("pass@"):
            return curves[:, 0 if first else -1]
        return (curves[:, :FEW] if first else curves[:, -FEW:]).mean(1)

    def _mean(self, curves: np.ndarray) -> np.ndarray:
        """Area under the curve (trapezoids) over its length."""
        return np.trapezoid(curves, self.measured, axis=1) / (self.measured[-1] - self.measured[0])

    def _steps(self, method: str) -> np.ndarray:
        """Steps until pass@1 first reaches the threshold, straight between measurements; all of them if never."""
        found = []
        for curve in self.curves(method, "pass@1"):
            found.append(float(self.measured[-1]))
            for k in np.flatnonzero(curve >= self.config.threshold)[:1]:
                before = slice(max(k - 1, 0), k + 1)
                found[-1] = float(np.interp(self.config.threshold, curve[before], self.measured[before]))
        return np.array(found)


def claims(results: Results) -> list[Claim]:
    """What the paper says of RLVR after RA3, and what else is to be known. Differences are paired by seed."""
    config = results.config
    where = f"N = {config.experts} experts, {config.steps} steps of {config.prompts} × {config.group}"

    def ahead(name: str, *quantities: str, sign: int = 1) -> dict[str, np.ndarray]:
        """The first quantity, less the others, less the same of NTP; at both rates, if there are two."""
        both = results.both(name)

        def of(one: Results, method: str) -> np.ndarray:
            first, *rest = (one.of(method, quantity) for quantity in quantities)
            return first - sum(rest)

        return {f"rate {one.rate:g}" if len(both) > 1 else "": sign * (of(one, name) - of(one, "NTP")) for one in both}

    found = []
    for name in (name for name in config.methods if name in RA3):
        found += [
            Claim(f"{name}: RLVR starts higher than after NTP", where, "difference in pass@1 before the first step",
                  {"": results.of(name, "pass@1 at first") - results.of("NTP", "pass@1 at first")}),
            Claim(f"{name}: RLVR learns faster than after NTP (area under the curve)", where,
                  "difference in mean pass@1 over the course", ahead(name, "pass@1, mean over the course")),
            Claim(f"{name}: RLVR learns faster than after NTP (steps to pass@1 of {config.threshold:g})", where,
                  f"steps saved; {config.steps} where it is never reached",
                  ahead(name, "steps to the threshold", sign=-1)),
            Claim(f"{name}: RLVR adds more than after NTP (its start taken off)", where,
                  "difference in mean pass@1 over the course, less pass@1 at first",
                  ahead(name, "pass@1, mean over the course", "pass@1 at first")),
            Claim(f"{name}: RLVR ends higher than after NTP", where, "difference in pass@1 after the last step",
                  ahead(name, "pass@1 in the end")),
            Claim(f"{name}: RLVR keeps the distance to NTP (it does not shrink)", where,
                  "difference in the end, less difference at first",
                  ahead(name, "pass@1 in the end", "pass@1 at first")),
        ]  # fmt: skip
    return [*found, *_others(results, where)]


def _others(results: Results, where: str) -> list[Claim]:
    config, found = results.config, []

    def between(name: str, first: str, second: str, other: str | None = None) -> dict[str, np.ndarray]:
        """The second quantity, less the first one (of another checkpoint), at each rate."""
        return {
            f"{name}, rate {one.rate:g}": _clean(one.of(name, second) - one.of(other or name, first))
            for one in results.both(name)
        }

    def rise(name: str) -> dict[str, np.ndarray]:
        """Of all checkpoints, over the course of RLVR."""
        parts = (between(method, f"{name} at first", f"{name} in the end") for method in config.methods)
        return {key: values for part in parts for key, values in part.items()}

    found.append(Claim("RLVR raises held-out pass@1, whatever it starts from", where,
                       "pass@1 in the end, less at first", rise("pass@1")))  # fmt: skip
    most = f"pass@{config.k[-1]}"
    if most != "pass@1":
        found.append(Claim(f"RLVR raises held-out {most} too", where, f"{most} in the end, less at first", rise(most)))
    if BASE in config.methods:
        hopeless = results.of(BASE, "groups all failed at first")
        found += [
            Claim("from the base there is nothing to learn from: no program passes", where,
                  f"share of groups all failed, first {FEW} steps", {"": hopeless}, HOPELESS),
            Claim("the base learns nothing", where, "pass@1 in the end", {"": results.of(BASE, "pass@1 in the end")},
                  -np.inf, NOTHING),
        ]  # fmt: skip
    if "blind" in config.methods:
        for quantity, what in (("pass@1, mean over the course", "area"), ("pass@1 in the end", "end")):
            found.append(Claim(f"blind thoughts do not help RLVR ({what})", where, f"difference to NTP, {quantity}",
                               between("blind", quantity, quantity, "NTP"), -np.inf, NOTHING))  # fmt: skip
    if "oracle" in config.methods:
        for name in (name for name in config.methods if name in RA3):
            found.append(Claim(f"{name}: RLVR closes the distance to the oracle", where,
                               "difference in pass@1 in the end",
                               between("oracle", "pass@1 in the end", "pass@1 in the end", name), -np.inf,
                               NOTHING))  # fmt: skip
    return found


def _clean(values: np.ndarray) -> np.ndarray:
    """Equal means may differ in their last digit."""
    return np.round(values, 12)


def tables(results: Results, folder: Path) -> list[Path]:
    """Means of the middle half with their intervals; the curves; the claims."""
    config = results.config
    rows, cells = [], []
    other = results.other()
    for one in (results,) if other is None else (results, other):
        for method in one.methods:
            found = {quantity: one.band(one.of(method, quantity)) for quantity in QUANTITIES}
            cells.append([method, one.rate, config.seeds, *map(said, found.values())])
            rows += [[method, one.rate, quantity, None, *known, config.seeds] for quantity, known in found.items()]
            for name, times in _curves(one):
                band = one.band(one.curves(method, name))
                rows += [[method, one.rate, name, *row, config.seeds] for row in zip(times, *band, strict=True)]
    columns = ["checkpoint", "rate", "quantity", "step", "IQM", "low", "high", "seeds"]
    return [
        *style.write_table(folder, "rlvr-table", ["checkpoint", "rate", "seeds", *QUANTITIES], cells),
        style.write_csv(folder, "rlvr", columns, rows),
        *style.write_table(folder, "rlvr-claims", COLUMNS, judge(claims(results), COMMAND)),
    ]


def _curves(results: Results) -> list[tuple[str, np.ndarray]]:
    """Names, and the steps of their values."""
    steps = np.arange(1, results.config.steps + 1)
    found = [(f"pass@{k}", results.measured) for k in results.config.k]
    return found + [(name, steps) for name in ("reward", "no spread", "all failed", "entropy", "tokens")]


def said(band: Interval) -> str:
    """``IQM [low, high]``."""
    return f"{number(float(band.mean))} [{number(float(band.low))}, {number(float(band.high))}]"
