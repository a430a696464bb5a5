"""What `experiments.midtrain` measured, by study, variant and number of experts, and the tables of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import style
from experiments.midtrain_runs import ABLATIONS, VARIANTS
from llm.estep import METHODS
from llm.world import WorldConfig
from ra3sim.spread import Interval, interval

METHODS_STUDY, EXPERTS, INGREDIENTS, DEAF = "methods", "experts", "ingredients", "deaf base"
PASS, GREEDY = "pass@1, T=1", "pass@1, T=0"
QUANTITIES = (
    PASS, GREEDY, "plain", "blind", "marginal", "gain", "think", "own", "dummy", "other", "leak", "thoughts think",
    "thoughts inside", "thoughts right", "thoughts information", "thoughts obeys", "thoughts follows",
)  # fmt: skip

# What the sweeps change, where they do not.
PRICE = WorldConfig.price
CANDIDATES = METHODS["ra3-posterior"].estep.candidates


class Results:
    """Values by study, variant and N; differences are paired by repetition: same world, base, experts.

    Args:
        rows: a `experiments.midtrain.Spec` and what its run returned, for each run.
    """

    def __init__(self, rows: Sequence[tuple[Any, Mapping[str, Any]]]) -> None:
        self._runs: dict[tuple[str, str, int], dict[int, Mapping[str, Any]]] = {}
        for spec, found in rows:
            self._runs.setdefault((spec.study, spec.name, spec.size), {})[spec.repetition] = found

    @property
    def cells(self) -> list[tuple[str, str, int]]:
        """Study, variant, N."""
        return list(self._runs)

    def has(self, study: str, name: str, size: int) -> bool:
        return (study, name, size) in self._runs

    def values(self, study: str, name: str, size: int, quantity: str) -> dict[int, float]:
        """By repetition; repetitions in which it was not measured (there were no thoughts, say) are left out."""
        found = self._runs.get((study, name, size), {})
        values = {k: float(run[quantity]) for k, run in found.items() if quantity in run}
        return {k: value for k, value in values.items() if np.isfinite(value)}

    def history(self, study: str, name: str, size: int, quantity: str) -> np.ndarray:
        """``(repetitions, iterations)``, NaN where it was not recorded."""
        found = self._runs[study, name, size]
        return np.array([found[k]["history"][quantity] for k in sorted(found)], dtype=float)

    def method(self, name: str, size: int, main: int, quantity: str) -> dict[int, float]:
        """Of a method on the usual base: ``main`` experts stand in another study than other numbers."""
        return self.values(METHODS_STUDY if size == main else EXPERTS, name, size, quantity)

    def ingredient(self, name: str, size: int, quantity: str) -> np.ndarray:
        """What the full recipe has more than the one without this ingredient, by repetition."""
        full = self.values(METHODS_STUDY, recipe(name), size, quantity)
        return minus(full, self.values(INGREDIENTS, name, size, quantity))

    @property
    def ablations(self) -> list[str]:
        return [name for study, name, _ in self._runs if study == INGREDIENTS and name in ABLATIONS]


def minus(one: Mapping[int, float], other: Mapping[int, float]) -> np.ndarray:
    """Differences in the repetitions that both have."""
    return np.array([one[k] - other[k] for k in sorted(one.keys() & other.keys())])


def recipe(ablation: str) -> str:
    """The method that an ablation takes something away from."""
    method = ABLATIONS[ablation].method
    return "policy gradient, split" if method == "ra3-split" else "posterior"


def spread(values: Any) -> Interval | None:
    """Mean with Student's interval of 95 %; None for fewer than two seeds.

    >>> spread([1.0]) is None
    True
    """
    values = list(values.values()) if isinstance(values, Mapping) else list(values)
    return Interval(*map(float, interval(values))) if len(values) > 1 else None


def number(value: float, digits: int = 2) -> str:
    """With so many decimals, more for small numbers.

    >>> number(0.123), number(-0.00123), number(0.0)
    ('0.12', '-0.0012', '0.00')
    """
    small = 0 < abs(value) < 0.1**digits * 5
    return f"{value:.{digits}g}" if small else f"{value + 0.0:.{digits}f}"


def said(found: Interval | None) -> str | None:
    """``mean [low, high]``."""
    return None if found is None else f"{number(found.mean)} [{number(found.low)}, {number(found.high)}]"


def tables(results: Results, size: int, folder: Path) -> list[Path]:
    """Every mean with its interval: a table to be read, a csv file to be computed with, and the ingredients."""
    cells, rows = [], []
    for study, name, count in results.cells:
        found = {q: results.values(study, name, count, q) for q in QUANTITIES}
        seeds = max(map(len, found.values()))
        known = VARIANTS.get(name) or ABLATIONS.get(name)
        about = known.about if known else "posterior otherwise"
        cells.append([study, name, about, count, seeds, *(said(spread(found[q])) for q in QUANTITIES)])
        for quantity, values in found.items():
            if known := spread(values):
                rows.append([study, name, count, quantity, *known, len(values)])
    paths = style.write_table(folder, "midtrain-table", ["study", "variant", "what", "N", "seeds", *QUANTITIES], cells)
    columns = ["study", "variant", "N", "quantity", "mean", "low", "high", "seeds"]
    paths.append(style.write_csv(folder, "midtrain", columns, rows))
    return paths + _ingredients(results, size, folder)


def _ingredients(results: Results, size: int, folder: Path) -> list[Path]:
    if not results.ablations:
        return []
    rows = []
    for name in results.ablations:
        found = [results.ingredient(name, size, q) for q in (PASS, GREEDY, "marginal", "blind", "thoughts obeys")]
        rows.append([name, recipe(name), len(found[0]), *(said(spread(values)) for values in found)])
    columns = ["changed", "full recipe", "seeds", PASS, GREEDY, "marginal", "blind", "code obeys"]
    columns[3:] = [f"{name}: full − changed" for name in columns[3:]]
    return style.write_table(folder, "midtrain-ingredients", columns, rows)
