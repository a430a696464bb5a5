"""Pictures and tables of `experiments.posttraining`, and what its data say about the paper's claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import style
from experiments.verdicts import side, verdict
from ra3sim.spread import Interval, bootstrap_iqm, interval

TERMS = ("expressivity gap", "pruning error", "RL error")
# Of the bootstrap; the pictures are a function of the data alone.
_BOOTSTRAP = 0

_CURVES = (
    ("primitives", "nothing"),
    ("primitives", "values"),
    ("macros", "nothing"),
    ("macros", "values"),
    ("discovered", "values"),
    ("everything", "nothing"),
    ("everything", "values"),
)
_AGAINST_N = ("nothing", "values", "usage", "frequency")
_POLICIES = (
    ("primitives", "uniform policy"),
    ("primitives", "learnt policy"),
    ("everything", "uniform policy"),
    ("everything", "learnt policy"),
)


class World:
    """The results of one world: terms of regret ``(seeds, steps, 3)`` by granularity, pruner and n."""

    def __init__(self, name: str, blocks: Sequence[Mapping[str, Any]]) -> None:
        self.name = name
        self._terms: dict[Any, Any] = {}
        self._sizes: dict[Any, Any] = {}
        for key in blocks[0]:
            if key == "gamma_bar":
                continue
            label, _, sizes = key.partition(":")
            granularity, pruner, n = label.split(", ")
            store = self._sizes if sizes else self._terms
            store[granularity, pruner, int(n)] = np.concatenate([block[key] for block in blocks])
        self.gamma_bar = blocks[0]["gamma_bar"]

    def terms(self, granularity: str, pruner: str, n: int) -> np.ndarray:
        return self._terms[granularity, pruner, n]

    def regret(self, granularity: str, pruner: str, n: int) -> np.ndarray:
        """``(seeds, steps)``"""
        return self.terms(granularity, pruner, n).sum(-1)

    def mean_regret(self, granularity: str, pruner: str, n: int) -> np.ndarray:
        """The mean over the checkpoints, which are about equally far apart in log steps, ``(seeds,)``."""
        return self.regret(granularity, pruner, n).mean(1)

    def sizes(self, granularity: str, pruner: str, n: int) -> np.ndarray:
        """|Ẑ|, ``(seeds,)``."""
        return self._sizes[granularity, pruner, n]

    @property
    def cells(self) -> list[tuple[str, str, int]]:
        return list(self._terms)


def draw(config: Any, parts: Sequence[str], data: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    worlds = [
        World(name, [data[part] for part in parts if part.startswith(f"{name}, ")]) for name in config.worlds
    ]  # fmt: skip
    paths = _curves(config, worlds, folder) + _halves(config, worlds, folder)
    return paths + _table(config, worlds, folder) + _claims_table(config, worlds, folder)


def summary(values: Any) -> Interval:
    """Mean of the middle half of the seeds, with a bootstrap interval of 95 %."""
    return bootstrap_iqm(values, _BOOTSTRAP)


def _curves(config: Any, worlds: Sequence[World], folder: Path) -> list[Path]:
    rows = len(worlds)
    picture, axes = style.subplots(rows, 4, height=1.0 + 2.3 * rows, squeeze=False)
    most = config.demonstrations[-1]
    for row, world in zip(axes, worlds, strict=True):
        for number, (granularity, pruner) in enumerate(_CURVES):
            label = f"{granularity}, {'all' if pruner == 'nothing' else 'pruned'}"
            _band(row[0], config.steps, world.regret(granularity, pruner, most), label, number)
        cells = [("everything", pruner, n) for n in config.demonstrations for pruner in _AGAINST_N]
        gap = np.repeat(np.arange(len(config.demonstrations)), len(_AGAINST_N))
        _bars(row[1], world, cells, [f"n = {n}, {pruner}" for _, pruner, n in cells], -1, gap)
        for number, (granularity, policy) in enumerate(_POLICIES):
            label = f"{granularity}, {policy.replace(' policy', '')}"
            _band(row[2], config.steps, world.regret(granularity, policy, most), label, number)
        names = [f"{g}, {'all' if p == 'nothing' else p}" for g, p in _BARS]
        _bars(row[3], world, [(*cell, most) for cell in _BARS], names, len(config.steps) // 2)
        row[0].set_ylabel(f"{world.name}\nregret / that of chance")
        for axis in row[[0, 2]]:
            axis.set(xscale="log", xlabel="primitive steps of learning")
            axis.set_ylim(bottom=0)
    titles = (
        f"Q-learning after\n{most} demonstrations",
        f"the terms after {config.steps[-1]:,} steps,\neverything, pruned by",
        f"policy gradient from the uniform\nor the learnt policy, n = {most}",
        f"the terms after {config.steps[len(config.steps) // 2]:,} steps,\nn = {most}",
    )
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=7)
    axes[0][0].set_ylim(0, 2.1 * axes[0][0].get_ylim()[1])  # room for the legend above the curves
    for axis, place in zip(axes[0], ("upper right", "best", "lower left", "best"), strict=True):
        axis.legend(fontsize=5, loc=place)
    picture.suptitle(f"Middle-half means of {config.seeds} seeds; bands are 95 % bootstrap intervals")
    return style.save(picture, folder, "posttraining")


def _band(axis: Any, x: Sequence[float], values: np.ndarray, label: str, number: int) -> None:
    known, look = summary(values), style.line(number)
    axis.plot(x, known.mean, label=label, **look)
    axis.fill_between(x, known.low, known.high, color=look["color"], alpha=0.13, linewidth=0)


_BARS = (
    ("primitives", "nothing"), ("primitives", "values"), ("macros", "nothing"), ("macros", "values"),
    ("discovered", "values"), ("everything", "nothing"), ("everything", "values"), ("everything", "usage"),
    ("everything", "frequency"),
)  # fmt: skip


def _bars(
    axis: Any, world: World, cells: Sequence[tuple[str, str, int]], names: Sequence[str], place: int, gap: Any = 0
) -> None:
    """The three terms, stacked, at a checkpoint: means over seeds, which add up, and the sum's 95 % interval."""
    x, bottom = np.arange(len(cells)) + gap, np.zeros(len(cells))
    for number, (name, hatch) in enumerate(zip(TERMS, ("", "///", "..."), strict=True)):
        height = np.array([world.terms(*cell)[:, place, number].mean() for cell in cells]).clip(0)
        colour = ("0.2", "0.6", "0.92")[number]
        axis.bar(x, height, bottom=bottom, label=name, color=colour, hatch=hatch, edgecolor="k", linewidth=0.4)
        bottom += height
    known = interval(np.stack([world.regret(*cell)[:, place] for cell in cells], 1))
    axis.errorbar(x, bottom, [known.mean - known.low, known.high - known.mean], fmt="none", ecolor="k", elinewidth=0.7)
    axis.set_xticks(x, names, rotation=90, fontsize=5)
    axis.set_axisbelow(True)
    axis.set_ylim(bottom=0)


# ---- The two halves --------------------------------------------------------------------------------------------------

_CELLS = {
    "neither": ("primitives", "nothing"),
    "pruned": ("primitives", "values"),
    "extended": ("macros", "nothing"),
    "both": ("macros", "values"),
}


def halves(world: World, n: int, step: int | None = None) -> dict[str, np.ndarray]:
    """Regret that pruning and duration take away, ``(seeds,)``: each its mean over the other's two levels (Shapley's
    share of the whole), and the interaction, what both together take away beyond the sum of each alone.

    Args:
        step: number of a checkpoint; None: the mean over all.
    """
    cell = {
        name: world.mean_regret(*where, n) if step is None else world.regret(*where, n)[:, step]
        for name, where in _CELLS.items()
    }
    return {
        "pruning": (cell["neither"] - cell["pruned"] + cell["extended"] - cell["both"]) / 2,
        "duration": (cell["neither"] - cell["extended"] + cell["pruned"] - cell["both"]) / 2,
        "both": cell["neither"] - cell["both"],
        "interaction": cell["pruned"] + cell["extended"] - cell["neither"] - cell["both"],
    }


def _halves(config: Any, worlds: Sequence[World], folder: Path) -> list[Path]:
    picture, axes = style.subplots(2, len(worlds), height=4.2, squeeze=False)
    most, rows = config.demonstrations[-1], []
    for column, world in zip(axes.T, worlds, strict=True):
        for number, (name, where) in enumerate(_CELLS.items()):
            _band(column[0], config.steps, world.regret(*where, most), name, number)
        short, long = (world.gamma_bar[name] for name in ("primitives", "macros"))
        title = f"{world.name}\nγ̄ = {short:.2f}, of macros {long:.2f}"
        column[0].set(xscale="log", xlabel="primitive steps of learning", title=title)
        column[0].set_ylim(bottom=0)
        found = [halves(world, most, step) for step in range(len(config.steps))]
        for number, name in enumerate(("pruning", "duration", "interaction")):
            _band(column[1], config.steps, np.stack([one[name] for one in found], 1), name, number + 4)
        column[1].axhline(0, color="k", linewidth=0.6)
        column[1].set(xscale="log", xlabel="primitive steps of learning")
        for where, one in [("mean", halves(world, most)), *zip(config.steps, found, strict=True)]:
            for name, values in one.items():
                rows.append([world.name, where, name, *summary(values), config.seeds])
    axes[0][0].set_ylabel("regret / that of chance")
    axes[1][0].set_ylabel("regret taken away by")
    axes[0][0].legend(fontsize=6)
    axes[1][0].legend(fontsize=6)
    picture.suptitle(f"Primitives or macros of {config.macro}, all or pruned by values after {most} demonstrations")
    paths = style.save(picture, folder, "posttraining-halves")
    columns = ["world", "steps", "half", "regret taken away", "low", "high", "seeds"]
    return paths + style.write_table(folder, "posttraining-halves", columns, rows, digits=3)


def _table(config: Any, worlds: Sequence[World], folder: Path) -> list[Path]:
    rows = []
    for world in worlds:
        for granularity, pruner, n in world.cells:
            terms, regret = world.terms(granularity, pruner, n), world.regret(granularity, pruner, n)
            size = world.sizes(granularity, pruner, n)
            for place, steps in enumerate(config.steps):
                means = [round(float(x), 7) + 0.0 for x in terms[:, place].mean(0)]
                known = summary(regret[:, place])
                rows.append(
                    [world.name, granularity, pruner, n, float(size.mean()), steps, *means, *known, len(regret)]
                )
    columns = ["world", "granularity", "pruned by, or policy gradient from", "n", "|Z'|", "steps", *TERMS]
    columns += ["regret (IQM)", "low", "high", "seeds"]
    return [style.write_csv(folder, "posttraining", columns, rows)]


# ---- Claims ----------------------------------------------------------------------------------------------------------


def _claims(config: Any, world: World) -> list[tuple[str, np.ndarray]]:
    """Claims about this world, each with a difference ``(seeds,)`` that is positive if it is true."""
    least, most = config.demonstrations[0], config.demonstrations[-1]
    mean = world.mean_regret
    two = halves(world, most)

    def error(n: int) -> np.ndarray:
        return world.terms("everything", "values", n)[:, 0, 1]

    last = {pruner: world.regret("everything", pruner, most)[:, -1] for pruner in _AGAINST_N}
    return [
        ("pruning lowers the regret of learning over primitives",
         mean("primitives", "nothing", most) - mean("primitives", "values", most)),
        ("extended actions lower the regret of learning, unpruned",
         mean("primitives", "nothing", most) - mean("macros", "nothing", most)),
        ("pruning lowers the regret of learning over macros",
         mean("macros", "nothing", most) - mean("macros", "values", most)),
        ("both halves together lower it", two["both"]),
        ("pruning: its share of that", two["pruning"]),
        ("duration: its share of that", two["duration"]),
        ("together they do more than the sum of each alone", two["interaction"]),
        ("discovered options, pruned, beat the primitives",
         mean("primitives", "nothing", most) - mean("discovered", "values", most)),
        ("everything, pruned, beats everything",
         mean("everything", "nothing", most) - mean("everything", "values", most)),
        ("more demonstrations lower the pruning error on held-out tasks", error(least) - error(most)),
        ("values prune better than usage: final regret", last["usage"] - last["values"]),
        ("usage prunes better than the frequency's top-p: final regret", last["frequency"] - last["usage"]),
        ("the learnt prior as initial policy lowers the regret of policy gradient, primitives",
         mean("primitives", "uniform policy", most) - mean("primitives", "learnt policy", most)),
        ("the learnt prior as initial policy lowers the regret of policy gradient, everything",
         mean("everything", "uniform policy", most) - mean("everything", "learnt policy", most)),
    ]  # fmt: skip


def _claims_table(config: Any, worlds: Sequence[World], folder: Path) -> list[Path]:
    rows = []
    for world in worlds:
        for claim, difference in _claims(config, world):
            found = summary(difference)
            rows.append([claim, world.name, *found, len(difference), verdict([side(found)])])
    rows.sort(key=lambda row: [claim for claim, _ in _claims(config, worlds[0])].index(row[0]))
    columns = ["claim", "world", "difference", "low", "high", "seeds", "verdict"]
    return style.write_table(folder, "posttraining-claims", columns, rows, digits=3)
