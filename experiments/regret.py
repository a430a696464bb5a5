"""Regret in its three terms against the number of options kept |Z'| (theory, section 1).

Tasks are goals in FourRooms; they start in a corner, or anywhere. The candidates Z are primitives (so the expressivity
gap is 0: theory 1.3), hallway options and all macros of some lengths. Z' grows by greedy forward selection with the
exact pruning error Δ on training goals until none is left, then by the rest of Z in random order. On held-out goals, as
shares of their mean V*_A:

    regret = expressivity gap V*_A − V*_Z  +  pruning error V*_Z − V*_Z'  +  RL error V*_Z' − V^π

with π greedy after a fixed number of sweeps of value iteration, of backups of single options (sweeps times |Z'|), or of
primitive steps of SMDP Q-learning. Every value is exact; goals, order and learning change with the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments import style
from experiments.checks import check_ascending, check_seeds
from experiments.pruned import after_steps, after_sweeps
from ra3sim.envs import fourrooms_goals, hallway_options
from ra3sim.learning import SMDPQLearning
from ra3sim.options import OptionSet
from ra3sim.pruning import PruningOracle, value_consistent
from ra3sim.spread import interval
from ra3sim.tasks import goals_in_fourrooms

VERSION = 2
STARTS = {"corner": 0, "anywhere": None}
TERMS = ("expressivity gap", "pruning error", "RL error")


@dataclass(frozen=True)
class Config:
    """
    Attributes:
        map_size, slip, discount: of FourRooms.
        macros: lengths of the macros among the candidates.
        training, held_out: how many goals of each kind a seed draws.
        sizes: |Z'|, ascending; sizes above |Z| are left out, and |Z| itself is added.
        sweeps, backups, steps: budgets, ascending; the one in the middle (of two the second) is drawn.
        step_size: η of Q-learning.
        seeds: draws of goals, each with its own learning.
    """

    map_size: int = 7
    slip: float = 0.1
    discount: float = 0.95
    macros: tuple[int, ...] = (2, 3)
    training: int = 12
    held_out: int = 12
    sizes: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64)
    sweeps: tuple[int, ...] = (2, 4, 8)
    backups: tuple[int, ...] = (32, 96, 288)
    steps: tuple[int, ...] = (1000, 10_000)
    step_size: float = 0.3
    seeds: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        check_seeds(self.seeds)
        for name in ("sizes", "sweeps", "backups", "steps"):
            check_ascending(name, getattr(self, name))
        goals = len(_goals(self))
        if min(self.training, self.held_out) < 1 or self.training + self.held_out > goals:
            raise ValueError(f"training, held_out: at least 1 each and {goals} in all, the number of goals")

    @staticmethod
    def preset(name: str) -> Config:
        if name == "smoke":
            return Config(
                map_size=6, macros=(2,), training=3, held_out=2, sizes=(1, 2, 4), sweeps=(2,), backups=(8,),
                steps=(100,), seeds=2,
            )  # fmt: skip
        return Config()


def parts(config: Config) -> list[str]:
    return list(STARTS)


def _goals(config: Config) -> np.ndarray:
    """Goals in the rooms, but for the start."""
    goals = fourrooms_goals(config.map_size)
    return goals[goals != 0]


def oracle_of(config: Config, start: int | None) -> PruningOracle:
    """All goals, with primitives, hallway options (made where there is no goal) and macros."""
    family = goals_in_fourrooms(
        _goals(config), config.discount, slip=config.slip, size=config.map_size, start=start, sparse=False
    )
    macros = [OptionSet.macros(family.world, length) for length in config.macros]
    return PruningOracle(family, OptionSet.primitives(family.world).union(hallway_options(family.world), *macros))


def run_part(
    config: Config, part: str, seed: np.random.SeedSequence, progress: Callable[[float], None]
) -> dict[str, Any]:
    oracle = oracle_of(config, STARTS[part])
    total = len(oracle.options)
    sizes = [size for size in config.sizes if size < total] + [total]
    terms: dict[str, list[Any]] = {name: [] for name in ("sweeps", "backups", "steps")}
    for number, child in enumerate(seed.spawn(config.seeds)):
        rng = np.random.default_rng(child)
        drawn = rng.permutation(len(oracle.family))
        held_out = drawn[config.training : config.training + config.held_out]
        order = list(value_consistent(oracle, drawn[: config.training], method="greedy").kept)
        order += list(rng.permutation(np.setdiff1d(np.arange(total), order)))
        learning = int(rng.integers(2**32))
        rows = [_terms(config, oracle, order[:size], held_out, learning) for size in sizes]
        for name in terms:
            terms[name].append([row[name] for row in rows])
        progress((number + 1) / config.seeds)
    return {"sizes": sizes, **{name: np.array(values) for name, values in terms.items()}}


def _terms(
    config: Config, oracle: PruningOracle, kept: Sequence[int], tasks: np.ndarray, learning: int
) -> dict[str, list[np.ndarray]]:
    """For every kind of budget the mean terms over tasks for each budget, ``(budgets, 3)``, shares of the mean V*_A."""
    primitive, whole, best = oracle.primitive[tasks], oracle.whole[tasks], oracle.values(kept)[tasks]

    def split(values: np.ndarray) -> np.ndarray:
        terms = [(primitive - whole).mean(), (whole - best).mean(), (best - values).mean()]
        return np.array(terms) / primitive.mean()

    def planned(sweeps: int) -> np.ndarray:
        return split(after_sweeps(oracle, tasks, kept, sweeps))

    learner = SMDPQLearning(step_size=config.step_size, max_steps=200)
    return {
        "sweeps": [planned(sweeps) for sweeps in config.sweeps],
        "backups": [planned(max(1, backups // len(kept))) for backups in config.backups],
        "steps": [split(values) for values in after_steps(oracle, tasks, kept, config.steps, learner, learning)],
    }


_PANELS = (
    ("corner", "sweeps", "{} sweeps of value iteration,\nstart in a corner"),
    ("corner", "backups", "{} backups (sweeps × |Z'|),\nstart in a corner"),
    ("corner", "steps", "{} steps of Q-learning,\nstart in a corner"),
    ("anywhere", "steps", "{} steps of Q-learning,\nstart anywhere"),
)


def figure(config: Config, data: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    picture, axes = style.subplots(1, 4, height=2.7, sharey=True)
    for axis, (start, kind, title) in zip(axes, _PANELS, strict=True):
        budgets, found = getattr(config, kind), data[start]
        _draw(axis, found["sizes"], found[kind][:, :, len(budgets) // 2])
        axis.set_title(title.format(f"{budgets[len(budgets) // 2]:,}"), fontsize=7)
    axes[0].set_ylabel("share of V*$_A$, held-out goals")
    axes[0].legend(fontsize=5.5, loc="upper right")
    picture.suptitle(f"FourRooms {config.map_size}: means of {config.seeds} seeds, bands are 95 % intervals (Student)")
    rows = []
    for start, found in data.items():
        for kind in ("sweeps", "backups", "steps"):
            for place, budget in enumerate(getattr(config, kind)):
                rows += [[start, kind, budget, *row] for row in _rows(found["sizes"], found[kind][:, :, place])]
    paths = style.save(picture, folder, "regret")
    columns = ["start", "budget of", "budget", "|Z'|", *TERMS, "regret", "low", "high", "minimum"]
    return paths + style.write_table(folder, "regret-table", columns, rows, digits=3)


def _rows(sizes: Sequence[int], terms: np.ndarray) -> list[list[Any]]:
    """One row for each size, of terms ``(seeds, sizes, 3)``."""
    total = interval(terms.sum(-1))
    best = int(total.mean.argmin())
    rows = []
    for i, size in enumerate(sizes):
        mean = [round(float(x), 7) + 0.0 for x in terms[:, i].mean(0)]  # below: the planners' certified error
        rows.append([size, *mean, total.mean[i], total.low[i], total.high[i], i == best])
    return rows


def _draw(axis: Any, sizes: Sequence[int], terms: np.ndarray) -> None:
    """The three terms and their sum, with its minimum marked."""
    curves = {**{name: terms[:, :, i] for i, name in enumerate(TERMS)}, "regret (sum)": terms.sum(-1)}
    for number, (name, values) in zip((3, 1, 2, 0), curves.items(), strict=True):
        known, look = interval(values), style.line(number)
        axis.plot(sizes, known.mean, label=name, **look)
        axis.fill_between(sizes, known.low, known.high, color=look["color"], alpha=0.15, linewidth=0)
    best = int(known.mean.argmin())
    axis.plot(sizes[best], known.mean[best], "*", color="k", markersize=9, label="smallest regret", zorder=5)
    axis.text(0.97, 0.45, f"smallest at\n|Z'| = {sizes[best]}", transform=axis.transAxes, ha="right", fontsize=7)
    ticks = [size for size in sizes if size in (1, 2, 4, 8, 16, 32) or size == sizes[-1]]
    axis.set(xscale="log", xlabel="options kept |Z'|", ylim=(-0.03, None))
    axis.set_xticks(ticks, [str(size) for size in ticks])
    axis.minorticks_off()
