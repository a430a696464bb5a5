"""Pictures of `experiments.midtrain`: methods against experts and over iterations; what each ingredient does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from experiments import midtrain_claims, midtrain_results, style
from experiments.midtrain_results import (
    CANDIDATES,
    DEAF,
    GREEDY,
    INGREDIENTS,
    METHODS_STUDY,
    PASS,
    PRICE,
    Results,
    recipe,
    spread,
)  # fmt: skip
from experiments.midtrain_runs import ABLATIONS
from ra3sim.envs.lineworld import LineWorld

# In this order they get the house style's looks.
ORDER = (
    "NTP", "posterior", "oracle", "policy gradient, published", "policy gradient, split", "blind", "dummy",
    "NTP, stopped early", "NTP, strong decay",
)  # fmt: skip
_SWEPT = ORDER[:3]
_OVER_TIME = ORDER[:7]
# What thoughts say is drawn where this share of the segments is thought about, or more.
_SOME = 0.05
_HOLLOW: dict[str, Any] = {"markerfacecolor": "white"}


def draw(config: Any, rows: Sequence[tuple[Any, Mapping[str, Any]]], folder: Path) -> list[Path]:
    """Pictures, tables and claims of the runs in ``rows``, a `experiments.midtrain.Spec` and its data for each."""
    results = Results(rows)
    paths = style.save(_methods(config, results), folder, "midtrain")
    if results.ablations:
        paths += style.save(_ingredients(config, results), folder, "midtrain-ingredients")
    paths += style.save(_others(config, results), folder, "midtrain-sweeps")
    paths += midtrain_results.tables(results, config.size, folder)
    found = midtrain_claims.judge(midtrain_claims.claims(results, config))
    return paths + style.write_table(folder, "midtrain-claims", midtrain_claims.COLUMNS, found)


def look(name: str) -> dict[str, Any]:
    """Of a method: the house style's, and open marks beyond it."""
    place = ORDER.index(name)
    return style.line(place) | (_HOLLOW | {"color": "0.4"} if place >= len(style.COLOURS) else {})


def _bar(axis: Any, x: Any, found: Sequence[Any], across: bool = False, **looks: Any) -> None:
    """Means with their intervals; places without data stay empty. ``across``: values along x, ``x`` along y."""
    there = [(place, known) for place, known in zip(x, found, strict=True) if known is not None]
    if there:
        place, (mean, low, high) = np.array([p for p, _ in there]), np.transpose([known for _, known in there])
        where = (mean, place) if across else (place, mean)
        axis.errorbar(*where, **{"xerr" if across else "yerr": [mean - low, high - mean]}, elinewidth=0.7, **looks)


def _letters(axes: Iterable[Any]) -> None:
    for letter, axis in zip("abcdefghi", (axis for axis in axes if axis.get_title()), strict=False):
        axis.set_title(f"({letter}) {axis.get_title()}", fontsize=7.5)


# ---- Methods ---------------------------------------------------------------------------------------------------------


def _methods(config: Any, results: Results) -> Any:
    picture, axes = style.subplots(3, 3, height=7.9)
    _against_experts(axes[0], config, results)
    _over_iterations(axes[1], config, results)
    _all_methods(axes[2], config, results)
    _letters(axes.flat)
    handles = [Line2D([], [], label=name, **look(name)) for name in _OVER_TIME]
    handles.append(Line2D([], [], label="NTP, cross-entropy (c)", **_PLAIN))
    picture.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=6.5, handlelength=3.4)
    picture.suptitle(
        f"mid-training on expert programs without comments: means of {config.seeds} seeds, 95 % intervals (Student)\n"
        "(d, e: intervals after the last iteration are in h)",
        fontsize=8,
    )
    return picture


def _against_experts(axes: Sequence[Any], config: Any, results: Results) -> None:
    def found(name: str, quantity: str) -> list[Any]:
        return [spread(results.method(name, n, config.size, quantity)) for n in config.sizes]

    for axis, quantity in zip(axes, (PASS, GREEDY, "marginal"), strict=True):
        # Side by side, so that bars can be told apart.
        for shift, name in zip((0.94, 1.0, 1.06), _SWEPT, strict=True):
            _bar(axis, shift * np.array(config.sizes), found(name, quantity), **look(name))
        axis.set(xscale="log", xlabel="expert programs N")
        axis.set_xticks(config.sizes, [str(n) for n in config.sizes], minor=False)
        axis.set_xticks([], minor=True)
    _bar(axes[2], config.sizes, found("NTP", "plain"), **_PLAIN)
    axes[0].set(ylim=(0, 1.03), ylabel="pass@1 on held-out tasks", title="sampled programs (T = 1)")
    axes[1].set(ylim=(0, 1.03), title="greedy programs (T = 0)")
    axes[2].set(yscale="log", ylabel="nats per line", title="held-out marginal NLL")


_PLAIN: dict[str, Any] = {"color": "0.4", "linestyle": ":", "marker": "_"}


def _over_iterations(axes: Sequence[Any], config: Any, results: Results) -> None:
    panels = (
        ("track blind", "nats per line", "cross-entropy given blind comments"),
        ("track marginal", "nats per line", "held-out marginal NLL"),
        ("think", "share of lines", "thoughts in the E-step"),
    )
    for axis, (quantity, unit, title) in zip(axes, panels, strict=True):
        for name in _OVER_TIME:
            history = results.history(METHODS_STUDY, name, config.size, quantity)
            x = np.arange(1, history.shape[1] + 1)
            axis.plot(x, history.mean(0), **look(name))
        axis.set(xlabel=f"iteration (N = {config.size})", ylabel=unit, title=title)
    for axis in axes[:2]:
        axis.set_yscale("log")
    # Down to nothing, and collapse to be seen.
    axes[2].set_yscale("symlog", linthresh=midtrain_claims.COLLAPSE)
    axes[2].set_ylim(-0.0003, 0.6)
    axes[2].set_yticks([0, 0.001, 0.01, 0.1, 1 / 3], ["0", ".001", ".01", ".1", "⅓"])
    axes[2].set_yticks([], minor=True)


def _all_methods(axes: Sequence[Any], config: Any, results: Results) -> None:
    places = np.arange(len(ORDER))[::-1]

    def of(name: str, quantity: str, scale: float = 1.0) -> Any:
        return spread([scale * one for one in results.values(METHODS_STUDY, name, config.size, quantity).values()])

    def found(quantity: str) -> list[Any]:
        return [of(name, quantity) for name in ORDER]

    thinks = [(known := of(name, "thoughts think")) is not None and known.mean >= _SOME for name in ORDER]

    _bar(axes[0], places, found(PASS), across=True, **_DOT)
    _bar(axes[0], places - 0.22, found(GREEDY), across=True, **_DOT | _HOLLOW)
    _bar(axes[1], places, found("marginal"), across=True, **_DOT)
    _bar(axes[1], places - 0.22, found("blind"), across=True, **_DOT | _HOLLOW | {"marker": "D"})
    most = np.log(LineWorld.preset("text").skills)
    says = (
        ("thoughts right", 1.0, "name the true skill", "o", 0.0),
        ("thoughts information", 1 / most, f"information / {most:.2f} nats", "s", 0.2),
        ("thoughts obeys", 1.0, "code obeys", "^", -0.2),
    )
    for quantity, scale, label, marker, shift in says:
        dots: dict[str, Any] = _DOT | {"marker": marker, "label": label} | (_HOLLOW if marker == "s" else {})
        shown = [of(name, quantity, scale) if some else None for name, some in zip(ORDER, thinks, strict=True)]
        _bar(axes[2], places + shift, shown, across=True, **dots)
    axes[0].set(xlim=(0, 1.03), xlabel="pass@1 (open: T = 0)", title=f"all methods, N = {config.size}")
    axes[1].set(xscale="log", xlabel="marginal NLL, nats per line\n(open: given blind comments)", title="likelihood")
    axes[2].set(xlim=(-0.03, 1.03), xlabel="share, or probability", title="what thoughts say")
    axes[2].legend(fontsize=5.5, loc="lower right", bbox_to_anchor=(1.0, 0.0), frameon=True, framealpha=0.9)
    axes[0].set_yticks(places, ORDER, fontsize=6)
    for axis in axes:
        axis.set_ylim(-0.6, len(ORDER) - 0.4)
    for axis in axes[1:]:
        axis.set_yticks(places, [""] * len(ORDER))


_DOT: dict[str, Any] = {"color": "k", "linestyle": "", "marker": "o"}


# ---- Ingredients -----------------------------------------------------------------------------------------------------


def _ingredients(config: Any, results: Results) -> Any:
    picture, axes = style.subplots(1, 2, height=1.0 + 0.25 * len(results.ablations), sharey=True)
    _left_out(axes, config, results)
    _letters(axes)
    picture.suptitle(_few("one ingredient left out or changed", config))
    return picture


def _others(config: Any, results: Results) -> Any:
    picture, axes = style.subplots(2, 3, height=4.0, sharex="col", sharey="row")
    _sweeps(axes[:, :2], config, results)
    _bases(axes[:, 2], config, results)
    _letters(axes[0])
    picture.suptitle(_few("other settings, another base", config))
    return picture


def _few(what: str, config: Any) -> str:
    return (
        f"{what}, N = {config.size}: means of {config.few_seeds} seeds, 95 % intervals (Student; differences: paired)"
    )


def _left_out(axes: Sequence[Any], config: Any, results: Results) -> None:
    names = results.ablations
    places = np.arange(len(names))[::-1]
    for axis, quantity, sign in zip(axes, (PASS, "marginal"), (-1, -1), strict=True):
        for full, dots in (("posterior", _DOT), ("policy gradient, split", _DOT | _HOLLOW | {"marker": "s"})):
            found = [
                spread(sign * results.ingredient(name, config.size, quantity)) if recipe(name) == full else None
                for name in names
            ]
            _bar(axis, places, found, across=True, **dots)
        axis.axvline(0, color="k", linewidth=0.6)
    axes[0].set_yticks(places, [f"{name}\n({ABLATIONS[name].about})" for name in names], fontsize=5.5)
    axes[0].set(xlabel="pass@1 at T = 1 (left of 0: worse)", title="pass@1, difference to the full recipe")
    axes[1].set(xlabel="nats per line (right of 0: worse)", title="marginal NLL, difference to the full recipe")


def _first(config: Any, results: Results, study: str, name: str, quantity: str) -> Any:
    """Of the repetitions that all of these studies have."""
    values = results.values(study, name, config.size, quantity)
    return spread([value for k, value in values.items() if k < config.few_seeds])


def _sweeps(axes: Any, config: Any, results: Results) -> None:
    sweeps = (
        ("c", sorted({*config.prices, PRICE}), PRICE, "price c of a thought, nats"),
        ("K", sorted({*config.candidates, CANDIDATES}), CANDIDATES, "candidates K"),
    )
    for column, (letter, values, usual, label) in zip(axes.T, sweeps, strict=True):
        places = np.arange(len(values))

        def found(quantity: str, letter: str = letter, values: Any = values, usual: Any = usual) -> list[Any]:
            return [
                _first(config, results, METHODS_STUDY, "posterior", quantity)
                if value == usual
                else _first(config, results, INGREDIENTS, f"{letter} = {value:g}", quantity)
                for value in values
            ]

        _bar(column[0], places - 0.06, found(PASS), **look("posterior"))
        _bar(column[0], places + 0.06, found(GREEDY), **look("posterior") | _HOLLOW | {"linestyle": ""})
        _bar(column[1], places, found("marginal"), **look("posterior"))
        column[1].set_xticks(places, [f"{value:g}" for value in values])
        column[1].set_xlabel(label)
        column[0].set_title(f"posterior, other {letter}")
    axes[0, 0].set(ylim=(0, 1.03), ylabel="pass@1 (open: T = 0)")
    axes[1, 0].set(yscale="log", ylabel="marginal NLL,\nnats per line")


def _bases(axes: Sequence[Any], config: Any, results: Results) -> None:
    places = np.arange(len(_SWEPT))
    for shift, study, dots in ((-0.12, METHODS_STUDY, _DOT), (0.12, DEAF, _DOT | _HOLLOW | {"marker": "D"})):
        for axis, quantity in zip(axes, (PASS, "marginal"), strict=True):
            found = [_first(config, results, study, name, quantity) for name in _SWEPT]
            label = "reads tasks, half wrongly" if study == METHODS_STUDY else "can't read tasks"
            _bar(axis, places + shift, found, label=label, **dots)
    axes[0].set_title("two bases")
    axes[0].legend(fontsize=5.5, loc="upper left")
    axes[1].set_xticks(places, _SWEPT)
    axes[1].set_xlim(-0.5, len(_SWEPT) - 0.5)
