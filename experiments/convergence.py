"""‖V_N - V*‖ against N for decision spaces of growing duration, and both bounds (theory, section 3).

Every number is exact planning: nothing is drawn at random, so there are no seeds and no spread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments import style
from ra3sim.envs import chain, fourrooms, from_gymnasium, hallway_options
from ra3sim.mdp import MDP
from ra3sim.options import OptionSet
from ra3sim.planning import Plan, solve, value_iteration
from ra3sim.smdp import SMDP, expected_durations
from theory.convergence import (
    error_from_below,
    published_error_bound,
    published_iterations,
    sharp_error_bound,
    sharp_iterations,
)

VERSION = 1
# The goal of Sutton, Precup & Singh (1999), figure 2: a hallway, so that the hallway options alone can reach it.
_GOAL = (6, 8)


@dataclass(frozen=True)
class Config:
    """
    Attributes:
        discount: γ of every environment.
        accuracy: ε as a share of the largest primitive reward |r|.
        chain_length, chain_macros, fourrooms_macros, taxi_macros, frozenlake_macros: size, and lengths τ of the macros.
        seed: unused (nothing is random), asked for by every experiment's contract.
    """

    discount: float = 0.95
    accuracy: float = 1e-3
    chain_length: int = 50
    chain_macros: tuple[int, ...] = (2, 4, 8)
    fourrooms_macros: tuple[int, ...] = (2, 4)
    taxi_macros: tuple[int, ...] = (2, 3)
    frozenlake_macros: tuple[int, ...] = (2, 4)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.discount < 1:
            raise ValueError(f"discount: must lie in (0, 1), got {self.discount}")
        if not 0 < self.accuracy < 1:
            raise ValueError(f"accuracy: must lie in (0, 1), got {self.accuracy}")

    @staticmethod
    def preset(name: str) -> Config:
        if name == "smoke":
            return Config(
                chain_length=12, chain_macros=(2,), fourrooms_macros=(2,), taxi_macros=(), frozenlake_macros=(2,)
            )
        return Config()


def parts(config: Config) -> list[str]:
    return ["chain", "FourRooms", "Taxi", "FrozenLake", "pitfall"]


def run_part(
    config: Config, part: str, seed: np.random.SeedSequence, progress: Callable[[float], None]
) -> dict[str, Any]:
    mdp, spaces = _pitfall(config) if part == "pitfall" else _spaces(config, part)
    optimum = solve(mdp, tolerance=1e-9)
    epsilon = config.accuracy * float(np.abs(mdp.rewards[mdp.available]).max())
    result: dict[str, Any] = {"spaces": list(spaces), "title": mdp.name, "epsilon": epsilon, "discount": mdp.discount}
    plans = {}
    for number, (name, options) in enumerate(spaces.items()):
        smdp = SMDP.from_options(mdp, options)
        plan = plans[name] = solve(smdp, tolerance=1e-9)
        measured = _measure(smdp, plan, epsilon, part == "pitfall")
        if name == "both":
            # The policy of the options alone, of which both sets together contain a copy with the same numbers.
            policy, steps = plans["hallway options"].policy, len(measured["errors"]) - 1
            result["certificate"] = error_from_below(smdp, plan, np.zeros(smdp.num_states), steps, policy)
        lengths = expected_durations(mdp, options)
        measured["options"] = len(options)
        measured["duration"] = [float(f(lengths)) for f in (np.nanmin, np.nanmean, np.nanmax)]
        measured["start gap"] = float(mdp.start @ (optimum.values - plan.values))
        result |= {f"{number} {key}": value for key, value in measured.items()}
        progress((number + 1) / len(spaces))
    return result


def _spaces(config: Config, part: str) -> tuple[MDP, dict[str, OptionSet]]:
    """The environment and its decision spaces, the shortest durations first."""
    if part == "chain":
        mdp, lengths = chain(config.chain_length, config.discount, start=0), config.chain_macros
    elif part == "FourRooms":
        mdp, lengths = fourrooms(_GOAL, config.discount), config.fourrooms_macros
    elif part == "Taxi":
        mdp, lengths = from_gymnasium("Taxi-v4", config.discount).to_sparse(), config.taxi_macros
    else:
        mdp, lengths = from_gymnasium("FrozenLake-v1", config.discount, map_name="8x8"), config.frozenlake_macros
    spaces = {"primitives": OptionSet.primitives(mdp)} | {f"macros τ = {n}": OptionSet.macros(mdp, n) for n in lengths}
    if part == "FourRooms":
        spaces["hallway options"] = hallway_options(mdp)
    return mdp, spaces


def _pitfall(config: Config) -> tuple[MDP, dict[str, OptionSet]]:
    """Primitives, options, and both: keeping one primitive action makes γ̄ = γ (Mann & Mannor 2014 saw the effect)."""
    mdp = fourrooms(_GOAL, config.discount)
    options, primitives = hallway_options(mdp), OptionSet.primitives(mdp)
    return mdp, {"primitives": primitives, "hallway options": options, "both": options | primitives}


def _measure(smdp: SMDP, plan: Plan, epsilon: float, from_above: bool) -> dict[str, Any]:
    """Errors of value iteration from V_0 = 0 (and from above), down to a tenth of ε, and the iterations to ε."""
    bounds = (smdp.gamma_bar, smdp.reward_bound)
    most = max(sharp_iterations(epsilon / 10, *bounds), 2)
    result: dict[str, Any] = {
        "gamma_bar": smdp.gamma_bar,
        "reward_bound": smdp.reward_bound,
        "reference_bound": plan.value_bound,
        "errors": _errors(smdp, plan.values, np.zeros(smdp.num_states), most),
        "sharp": sharp_iterations(epsilon, *bounds),
        "published": published_iterations(epsilon, *bounds),
    }
    result["measured"] = _first_within(result["errors"], epsilon)
    if from_above:
        above = np.full(smdp.num_states, smdp.reward_bound / (1 - smdp.gamma_bar))
        result["errors above"] = _errors(smdp, plan.values, above, most)
        result["measured above"] = _first_within(result["errors above"], epsilon)
    return result


def _errors(smdp: SMDP, reference: np.ndarray, V_0: np.ndarray, iterations: int) -> np.ndarray:
    """‖V_N - V*‖ for N = 0 .. ``iterations``."""
    trace = value_iteration(smdp, V_0, iterations=iterations, trace=True).trace
    return np.abs(trace - reference).max(1)


def _first_within(errors: np.ndarray, epsilon: float) -> int:
    """The first N with an error of ε at most.

    Raises:
        RuntimeError: there is none, though the sharp bound says that there must be.
    """
    within = np.flatnonzero(errors <= epsilon)
    if not within.size:
        raise RuntimeError(f"the error is {errors[-1]:.3g} after {len(errors) - 1} iterations, above ε = {epsilon:.3g}")
    return int(within[0])


def figure(config: Config, data: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    picture, axes = style.subplots(2, 3, height=4.9)
    panels = dict(zip(["chain", "FourRooms", "Taxi", "FrozenLake"], axes.flat[:4], strict=True))
    for part, axis in panels.items():
        _draw_bounds(axis, data[part])
        axis.set_title(f"{data[part]['title']} (γ = {config.discount:g})")
    _draw_pitfall(axes.flat[4], data["pitfall"])
    axes.flat[4].set_title(f"{data['pitfall']['title']}: options with primitives kept")
    _draw_key(axes.flat[5], config)
    paths = style.save(picture, folder, "convergence")
    columns, rows = _table(data)
    paths += style.write_table(folder, "convergence-table", columns, rows)
    paths.append(style.write_csv(folder, "convergence", *_curves(data)))
    return paths


def _draw_bounds(axis: Any, part: Mapping[str, Any]) -> None:
    last = max(part[f"{number} sharp"] for number in range(len(part["spaces"])))
    grid = np.arange(int(1.05 * last) + 1)
    for number in range(len(part["spaces"])):
        look = style.line(number)
        bounds = (part[f"{number} gamma_bar"], part[f"{number} reward_bound"])
        label = _label(part, number)
        axis.plot(part[f"{number} errors"], color=look["color"], marker=look["marker"], markevery=_MARKS, label=label)
        axis.plot(grid, sharp_error_bound(grid, *bounds), color=look["color"], linestyle="--", linewidth=0.9)
        axis.plot(grid, published_error_bound(grid, *bounds), color=look["color"], linestyle=":", linewidth=0.9)
    _frame(axis, part, grid[-1])


def _draw_pitfall(axis: Any, part: Mapping[str, Any]) -> None:
    """From below (filled marks) and from above (open marks); for both sets together, the bounds on either."""
    for number in range(len(part["spaces"])):
        look = style.line(number)
        shared = {"color": look["color"], "marker": look["marker"], "markevery": _MARKS}
        axis.plot(part[f"{number} errors"], label=_label(part, number), **shared)
        axis.plot(part[f"{number} errors above"], linestyle="-.", markerfacecolor="white", **shared)
    both = len(part["spaces"]) - 1
    colour = style.line(both)["color"]
    axis.plot(part["certificate"], color="0.6", linewidth=3, zorder=0)
    grid = np.arange(int(1.05 * part[f"{both} sharp"]) + 1)
    bound = sharp_error_bound(grid, part[f"{both} gamma_bar"], part[f"{both} reward_bound"])
    axis.plot(grid, bound, color=colour, linestyle="--", linewidth=0.9)
    _frame(axis, part, grid[-1])


def _label(part: Mapping[str, Any], number: int) -> str:
    return f"{part['spaces'][number]}, γ̄ = {float(part[f'{number} gamma_bar']):.3f}"


_MARKS = 0.12


def _frame(axis: Any, part: Mapping[str, Any], last: int) -> None:
    axis.axhline(part["epsilon"], color="0.5", linewidth=0.7)
    axis.set(xlabel="iterations N", ylabel="‖V$_N$ − V*‖ (reward units)", yscale="log", xlim=(0, last))
    # Room above the curves for the legend.
    top = max(float(line.get_ydata()[0]) for line in axis.lines)
    axis.set_ylim(part["epsilon"] / 10, top * 10 ** (0.75 * len(part["spaces"])))
    axis.legend(loc="upper right", fontsize=6.5, handlelength=1.6, borderaxespad=0.2, labelspacing=0.4)


def _draw_key(axis: Any, config: Config) -> None:
    axis.axis("off")
    axis.plot([], [], color="0.2", marker="o", label="measured, V$_0$ = 0")
    axis.plot(
        [],
        [],
        color="0.2",
        linestyle="-.",
        marker="o",
        markerfacecolor="white",
        label="measured, V$_0$ = R$_{max}$/(1−γ̄)",
    )
    axis.plot([], [], color="0.2", linestyle="--", linewidth=0.9, label="sharp bound γ̄$^N$ R$_{max}$/(1−γ̄)")
    axis.plot([], [], color="0.2", linestyle=":", linewidth=0.9, label="published e$^{−(1−γ̄)N}$ R$_{max}$/(1−γ̄)")
    axis.plot([], [], color="0.6", linewidth=3, label="bound from below, π: hallway options")
    axis.plot([], [], color="0.5", linewidth=0.7, label=f"ε = {config.accuracy:g} max |r|")
    axis.legend(loc="center", fontsize=8)


def _table(data: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    table = []
    for environment, part in data.items():
        for number, space in enumerate(part["spaces"]):
            get = lambda key, part=part, number=number: part.get(f"{number} {key}")  # noqa: E731
            bound = sharp_error_bound(
                np.arange(len(get("errors"))), float(get("gamma_bar")), float(get("reward_bound"))
            )
            shortest, mean, longest = get("duration")
            table.append({
                "environment": environment,
                "decision space": space,
                "options": get("options"),
                "E[τ] min": shortest,
                "E[τ] mean": mean,
                "E[τ] max": longest,
                "γ̄": get("gamma_bar"),
                "R_max": get("reward_bound"),
                "ε": part["epsilon"],
                "N measured": get("measured"),
                "N from above": get("measured above"),
                "N sharp": get("sharp"),
                "N published": get("published"),
                "measured / sharp": get("measured") / get("sharp"),
                "largest error / sharp bound": float(np.max(get("errors") / bound)),
                # Both values carry a certified error below 1e-9, so smaller differences are none.
                "V*_A − V*_Z' at start": round(get("start gap"), 8) + 0.0,
            })  # fmt: skip
    return list(table[0]), [list(row.values()) for row in table]


def _curves(data: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    rows = []
    for name, part in data.items():
        for number, space in enumerate(part["spaces"]):
            bounds = (part[f"{number} gamma_bar"], part[f"{number} reward_bound"])
            above = part.get(f"{number} errors above")
            for n, error in enumerate(part[f"{number} errors"]):
                sharp, published = float(sharp_error_bound(n, *bounds)), float(published_error_bound(n, *bounds))
                rows.append(
                    [name, space, n, float(error), sharp, published, None if above is None else float(above[n])]
                )
    return ["environment", "decision space", "N", "error from 0", "sharp", "published", "error from above"], rows
