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


class Results:
    """Curves and figures, over the seeds of a checkpoint.

    Args:
        config: of `experiments.rlvr`; data: by part.
    """

    def __init__(self, config: Any, data: Mapping[str, Mapping[str, Any]]) -> None:
        self.config = config
        self._runs = {method: [data[f"{method}, seed {k}"] for k in range(config.seeds)] for method in config.methods}
        self._seed = config.seed

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

    def ahead(name: str, quantity: str, sign: int = 1) -> dict[str, np.ndarray]:
        return {"": sign * (results.of(name, quantity) - results.of("NTP", quantity))}

    found = []
    for name in (name for name in config.methods if name in RA3):
        found += [
            Claim(f"{name}: RLVR starts higher than after NTP", where, "difference in pass@1 before the first step",
                  ahead(name, "pass@1 at first")),
            Claim(f"{name}: RLVR learns faster than after NTP (area under the curve)", where,
                  "difference in mean pass@1 over the course", ahead(name, "pass@1, mean over the course")),
            Claim(f"{name}: RLVR learns faster than after NTP (steps to pass@1 of {config.threshold:g})", where,
                  f"steps saved; {config.steps} where it is never reached", ahead(name, "steps to the threshold", -1)),
            Claim(f"{name}: RLVR adds more than after NTP (its start taken off)", where,
                  "difference in mean pass@1 over the course, less pass@1 at first",
                  ahead(name, "rise of the mean over the first")),
            Claim(f"{name}: RLVR ends higher than after NTP", where, "difference in pass@1 after the last step",
                  ahead(name, "pass@1 in the end")),
            Claim(f"{name}: RLVR keeps the distance to NTP (it does not shrink)", where,
                  "difference in the end, less difference at first",
                  {"": ahead(name, "pass@1 in the end")[""] - ahead(name, "pass@1 at first")[""]}),
        ]  # fmt: skip
    return [*found, *_others(results, where)]


def _others(results: Results, where: str) -> list[Claim]:
    config, found = results.config, []
    rise = {
        name: results.of(name, "pass@1 in the end") - results.of(name, "pass@1 at first") for name in config.methods
    }
    found.append(Claim("RLVR raises held-out pass@1, whatever it starts from", where,
                       "pass@1 in the end, less at first", rise))  # fmt: skip
    most = f"pass@{config.k[-1]}"
    if most != "pass@1":
        widened = {
            name: results.of(name, f"{most} in the end") - results.of(name, f"{most} at first")
            for name in config.methods
        }
        found.append(Claim(f"RLVR raises held-out {most} too", where, f"{most} in the end, less at first", widened))
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
            difference = results.of("blind", quantity) - results.of("NTP", quantity)
            found.append(Claim(f"blind thoughts do not help RLVR ({what})", where, f"difference to NTP, {quantity}",
                               {"": difference}, -np.inf, NOTHING))  # fmt: skip
    if "oracle" in config.methods and "RA3, posterior" in config.methods:
        difference = results.of("oracle", "pass@1 in the end") - results.of("RA3, posterior", "pass@1 in the end")
        found.append(Claim("RLVR closes the distance of RA3, posterior to the oracle", where,
                           "difference in pass@1 in the end", {"": difference}, -np.inf, NOTHING))  # fmt: skip
    return found


def tables(results: Results, folder: Path) -> list[Path]:
    """Means of the middle half with their intervals; the curves; the claims."""
    config = results.config
    rows, cells = [], []
    for method in config.methods:
        found = {quantity: results.band(results.of(method, quantity)) for quantity in QUANTITIES}
        cells.append([method, config.seeds, *map(said, found.values())])
        rows += [[method, quantity, None, *known, config.seeds] for quantity, known in found.items()]
        for name, times in [(f"pass@{k}", results.measured) for k in config.k] + [
            (name, np.arange(1, config.steps + 1))
            for name in ("reward", "no spread", "all failed", "entropy", "tokens")
        ]:
            band = results.band(results.curves(method, name))
            rows += [[method, name, *row, config.seeds] for row in zip(times, *band, strict=True)]
    columns = ["checkpoint", "quantity", "step", "IQM", "low", "high", "seeds"]
    return [
        *style.write_table(folder, "rlvr-table", ["checkpoint", "seeds", *QUANTITIES], cells),
        style.write_csv(folder, "rlvr", columns, rows),
        *style.write_table(folder, "rlvr-claims", COLUMNS, judge(claims(results), COMMAND)),
    ]


def said(band: Interval) -> str:
    """``IQM [low, high]``."""
    return f"{number(float(band.mean))} [{number(float(band.low))}, {number(float(band.high))}]"
