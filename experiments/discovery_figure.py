"""Draws the experiment `experiments.discovery`: curves, options on the map, the table, the claims."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from experiments import discovery_claims, style
from experiments.discovery_claims import Numbers
from ra3sim.envs._grid import MOVES, Grid
from ra3sim.envs.fourrooms import fourrooms_grid
from ra3sim.spread import bootstrap_iqm

# So many options of each method are drawn.
SHOWN = 4
PRIMITIVES, TOLD = "primitives", "planning_time"
_BEYOND = ({"linestyle": (0, (4, 1, 1, 1, 1, 1)), "marker": "<"}, {"linestyle": (0, (2, 2)), "marker": ">"},
           {"linestyle": (0, (6, 2)), "marker": "p"})  # fmt: skip
_END, _WALL, _GOAL = "#56B4E9", "0.25", "#E69F00"


def look(number: int) -> dict[str, Any]:
    """The house style's curves, then open marks with line styles of their own."""
    usual = style.line(number)
    if number < len(style.COLOURS):
        return usual
    return usual | _BEYOND[(number - len(style.COLOURS)) % len(_BEYOND)] | {"markerfacecolor": "white"}


def draw(config: Any, data: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    numbers = Numbers(data, PRIMITIVES, TOLD)
    spreads = _spreads(config, numbers)
    paths = style.save(_curves(config, numbers, spreads), folder, "discovery")
    paths += style.save(_maps(config, numbers), folder, "discovery-options")
    paths += style.write_table(folder, "discovery-table", *_table(numbers, spreads), digits=3)
    rows = discovery_claims.judge(discovery_claims.claims(numbers, config.steps))
    return paths + style.write_table(folder, "discovery-claims", discovery_claims.COLUMNS, rows, digits=2)


# What is drawn and tabled, by the name of its stored values; regret has one for each budget.
_NAMES = {
    "sweeps": "sweeps",
    "state sweeps": "sweeps, mean over states",
    "backups": "backups",
    "pruned": "pruning error",
    "alone": "options alone",
}
# The mean of the middle half and its interval, by world, method, quantity and place of k.
_Spreads = Mapping[tuple[str, str, str, int], tuple[float, float, float]]


def _regret(budget: int) -> str:
    return f"regret, {budget:,} steps"


def _spreads(config: Any, numbers: Numbers) -> _Spreads:
    """All of them by one bootstrap: of many columns it costs hardly more than of one."""
    columns = {}
    for world in numbers.worlds:
        for method in [PRIMITIVES, *numbers.methods]:
            part = numbers.part(world, method)
            for k in range(len(part["counts"])):
                for name in set(_NAMES) & set(part):
                    columns[world, method, _NAMES[name], k] = part[name][k]
                for place, budget in enumerate(config.steps if "regret" in part else ()):
                    columns[world, method, _regret(budget), k] = part["regret"][k][:, place]
    found = np.transpose(bootstrap_iqm(list(columns.values()), 0, axis=1))
    # Values below the planners' certified error are none.
    shown = ([round(float(x), 7) + 0.0 for x in ends] for ends in found)
    return {key: (mean, low, high) for key, (mean, low, high) in zip(columns, shown, strict=True)}


def _curves(config: Any, numbers: Numbers, spreads: _Spreads) -> Any:
    picture, axes = style.subplots(2, 4, height=4.6)
    budget = _regret(config.steps[len(config.steps) // 2])
    first, plain, grid = numbers.worlds
    panels = [(first, "sweeps"), (plain, "sweeps"), (grid, "sweeps"), None]
    panels += [(world, what) for what in ("pruning error", budget) for world in (first, grid)]
    labels = {
        "sweeps": f"sweeps to ε = {config.epsilon:g}",
        "pruning error": "Δ, one action missing (of V*)",
        budget: f"{budget} (of V*)",
    }
    for axis, panel in zip(axes.flat, panels, strict=True):
        if panel is not None:
            _panel(axis, numbers, spreads, *panel)
            axis.set(ylim=(0, None), ylabel=labels[panel[1]])
    axes[0, 3].axis("off")
    handles = [
        Line2D([], [], label=_label(method), linewidth=1.0, **look(number))
        for number, method in enumerate(numbers.methods)
    ]
    handles.append(Line2D([], [], color="0.5", linewidth=0.8, label="primitives alone (k = 0)"))
    axes[0, 3].legend(handles=handles, loc="center", fontsize=6.5, handlelength=3.6)
    picture.suptitle(
        f"primitives and k discovered options, held-out goals: interquartile means of {config.seeds} seeds, "
        "95 % intervals (bootstrap)",
        fontsize=7.5,
    )
    return picture


def _label(method: str) -> str:
    return f"{method} (told the goal)" if method == TOLD else method


def _panel(axis: Any, numbers: Numbers, spreads: _Spreads, world: str, what: str) -> None:
    """One quantity against k, the primitives alone first; curves stand side by side, so that bars can be told apart."""
    methods, alone = numbers.methods, spreads[world, PRIMITIVES, what, 0]
    axis.axhline(alone[0], color="0.5", linewidth=0.8, zorder=0)
    axis.axhspan(*alone[1:], color="0.9", zorder=0)
    counts = [0, *numbers.part(world, methods[0])["counts"]]
    for number, method in enumerate(methods):
        x = np.arange(len(counts)) + 0.5 * ((number + 0.5) / len(methods) - 0.5)
        mean, low, high = np.transpose([alone, *(spreads[world, method, what, k] for k in range(len(counts) - 1))])
        bars = np.maximum([mean - low, high - mean], 0)
        style_of = look(number) | {"markersize": 2.6, "markeredgewidth": 0.6}
        axis.errorbar(x, mean, bars, linewidth=0.8, elinewidth=0.5, **style_of)
    axis.set_xticks(range(len(counts)), [str(count) for count in counts])
    axis.set_xlabel("options k")
    axis.set_title(world, fontsize=7.5)


def _maps(config: Any, numbers: Numbers) -> Any:
    """The first options of every method in FourRooms, two methods a row."""
    methods = numbers.methods
    rows = -(-len(methods) // 2)
    picture, axes = style.subplots(rows, 2 * SHOWN, height=1.02 * rows + 0.55, squeeze=False)
    grid = fourrooms_grid(config.map_size)
    for axis in axes.flat:
        axis.axis("off")
    for number, method in enumerate(methods):
        part = numbers.part(numbers.worlds[0], method)
        row, first = divmod(number, 2)
        for place in range(min(SHOWN, len(part.get("map begin", ())))):
            _map(axes[row, first * SHOWN + place], grid, part, place)
        axes[row, first * SHOWN].set_title(_label(method), fontsize=7, loc="left", pad=3)
    key = [
        Patch(facecolor=_WALL, label="wall"),
        Patch(facecolor=_END, label="ends on arriving (the fuller, the likelier)"),
        Line2D([], [], color="k", linewidth=0, marker=r"$\rightarrow$", markersize=8, label="runs; may begin here"),
        Line2D([], [], color="0.6", linewidth=0, marker=r"$\rightarrow$", markersize=8, label="only passes here"),
        Line2D([], [], color="k", linewidth=0, marker="o", markerfacecolor="none", label="the only place to begin"),
        Patch(facecolor=_GOAL, edgecolor="k", hatch="////", label="goal told"),
    ]
    picture.legend(handles=key, loc="outside lower center", ncols=3, fontsize=6.5)
    picture.suptitle(
        f"the first {min(SHOWN, config.maps)} of {config.maps} options in FourRooms {config.map_size} (first seed); "
        "arrows: the likeliest move, the longer the likelier"
    )
    return picture


def _map(axis: Any, grid: Grid, part: Mapping[str, Any], option: int) -> None:
    axis.axis("on")
    axis.grid(False)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set(visible=True, linewidth=0.6)
    height, width = grid.free.shape
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="equal")
    _squares(axis, np.argwhere(~grid.free), _WALL)
    for goal in part["map goals"]:
        row, column = grid.cells[goal]
        axis.add_patch(
            Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=_GOAL, hatch="//////", linewidth=0.4, zorder=2)
        )
    node, following = int(part["map begin"][option]), part["map next"]
    if following[node] != node:
        _macro(axis, grid, part, node)
        return
    policy, termination = part["map policy"][node], part["map termination"][node]
    begins = part["map initiation"][option]
    runs, arrives = _where(grid, policy, termination, begins)
    ends = arrives & (termination > 0.02)
    chance = np.sqrt(np.clip(termination[ends], 0, 1))
    _squares(axis, grid.cells[ends], _END, chance)
    moves = policy.argmax(1)
    for states, colour, order in ((runs & ~begins, "0.6", 3), (runs & begins, "k", 4)):
        at, step = grid.cells[states], MOVES[moves[states]] * policy.max(1)[states, None]
        if len(at):
            axis.quiver(at[:, 1] - 0.4 * step[:, 1], at[:, 0] - 0.4 * step[:, 0], 0.8 * step[:, 1], 0.8 * step[:, 0],
                        color=colour, zorder=order, angles="xy", scale_units="xy", scale=1, width=0.016,
                        headwidth=3.6, headlength=3.2, headaxislength=3.0, minlength=0.1)  # fmt: skip
    if begins.sum() == 1:
        row, column = grid.cells[int(begins.argmax())]
        axis.plot(column, row, "o", color="k", markerfacecolor="none", markersize=6.5, markeredgewidth=0.8, zorder=5)


def _where(grid: Grid, policy: np.ndarray, termination: np.ndarray, begins: np.ndarray) -> tuple[np.ndarray, ...]:
    """Where the option acts, and where its moves arrive, if none slips."""
    to, runs = grid.moves(), begins.copy()
    while True:
        arrives = np.zeros_like(runs)
        for move in range(len(MOVES)):
            arrives[to[runs & (policy[:, move] > 0.02), move]] = True
        more = runs | (arrives & (termination < 0.98))
        if (more == runs).all():
            return runs, arrives
        runs = more


def _macro(axis: Any, grid: Grid, part: Mapping[str, Any], node: int) -> None:
    """A macro can begin anywhere and looks at nothing: its moves in a row, from the middle of the map."""
    moves = [int(part["map policy"][node, 0].argmax())]
    while part["map next"][node] != node:
        node = int(part["map next"][node])
        moves.append(int(part["map policy"][node, 0].argmax()))
    text = "".join("↑→↓←"[move] for move in moves)
    row, column = (np.array(grid.free.shape) - 1) / 2
    box = {"facecolor": "white", "edgecolor": "k", "linewidth": 0.5, "boxstyle": "round,pad=0.25"}
    axis.text(column, row, text, ha="center", va="center", fontsize=8, bbox=box, zorder=5)


def _squares(axis: Any, cells: np.ndarray, colour: str, side: Any = 1.0) -> None:
    sides = np.broadcast_to(side, len(cells))
    squares = [Rectangle((c - s / 2, r - s / 2), s, s) for (r, c), s in zip(cells, sides, strict=True)]
    axis.add_collection(PatchCollection(squares, facecolor=colour, edgecolor="none", zorder=1))


def _table(numbers: Numbers, spreads: _Spreads) -> tuple[list[str], list[list[Any]]]:
    """Every mean with its interval: one row for each world, method and k."""
    columns = ["world", "method", "k", "found", "E[τ]", "states covered"]
    names = [*_NAMES.values(), *dict.fromkeys(key[2] for key in spreads if key[2] not in _NAMES.values())]
    for name in names:
        columns += [name, f"{name}, low", f"{name}, high"]
    rows = []
    for world in numbers.worlds:
        for method in [PRIMITIVES, *numbers.methods]:
            part = numbers.part(world, method)
            for k, count in enumerate(part["counts"]):
                means = [float(np.mean(part[name][k])) for name in ("found", "duration", "covered")]
                ends = [end for name in names for end in spreads.get((world, method, name, k), (None,) * 3)]
                rows.append([world, _label(method), count, *means, *ends])
    return columns, rows
