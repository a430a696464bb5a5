"""Pictures of `experiments.rlvr`: learning curves, what there is to learn from, and where each checkpoint ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from experiments import rlvr_results, style
from experiments.rlvr_results import BASE, METHODS, Results
from ra3sim.spread import interval

# In this order they get the house style's looks; what is most alike in a print in grey stands apart in the picture.
_ORDER = ("NTP", "RA3, posterior", "oracle", "RA3, published", "RA3, split", "blind", BASE)
_DOT = {"color": "k", "linestyle": "", "marker": "o"}


def draw(config: Any, data: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    results = Results(config, data)
    return style.save(_picture(results), folder, "rlvr") + rlvr_results.tables(results, folder)


def look(name: str) -> dict[str, Any]:
    return style.line(_ORDER.index(name))


def _picture(results: Results) -> Any:
    config = results.config
    picture, axes = style.subplots(2, 3, height=5.4)
    steps = np.arange(1, config.steps + 1)
    other = results.other()
    second = (other or results, "pass@1" if other else f"pass@{config.k[-1]}")
    panels = (
        (axes[0, 0], results, "pass@1", results.measured, f"held-out pass@1, rate {results.rate:g}"),
        (axes[0, 1], *second, results.measured, f"held-out {second[1]}, rate {second[0].rate:g}"),
        (axes[1, 0], second[0], "reward", steps, f"training reward, rate {second[0].rate:g}"),
        (axes[1, 1], second[0], "no spread", steps, f"groups all alike, rate {second[0].rate:g}"),
    )
    for axis, shown, name, times, title in panels:
        for method in shown.methods:
            _band(axis, shown, method, name, times)
        axis.set(ylim=(-0.03, 1.03), xlabel="GRPO steps", title=title)
    for axis in axes[0, :2] if other else axes[0, :1]:
        axis.axhline(config.threshold, color="0.5", linewidth=0.6, linestyle=":")
    _all(axes[0, 2], results)
    _differences(axes[1, 2], results)
    for letter, axis in zip("abcdef", axes.flat, strict=True):
        axis.set_title(f"({letter}) {axis.get_title()}", fontsize=7.5)
    handles = [Line2D([], [], label=name, **look(name)) for name in config.methods]
    picture.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=6.5, handlelength=3.4)
    picture.suptitle(
        f"GRPO on pass or fail, after mid-training on {config.experts} expert programs: means of the middle half of "
        f"{config.seeds} seeds,\n95 % bootstrap intervals (e: without; d, e: runs of ten steps; f: means, paired, "
        "Student)",
        fontsize=8,
    )
    return picture


def _band(axis: Any, results: Results, method: str, name: str, times: np.ndarray) -> None:
    curves = results.curves(method, name)
    if len(times) > len(results.measured):
        times, curves = _averaged(times, curves)
    band = results.band(curves)
    shown = look(method) | {"markevery": max(len(times) // 5, 1)}
    axis.plot(times, band.mean, **shown)
    if name in ("pass@1", "reward"):
        axis.fill_between(times, band.low, band.high, color=shown["color"], alpha=0.13, linewidth=0)


def _averaged(times: np.ndarray, curves: np.ndarray, width: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Means over runs of ``width`` steps (fewer at the end), at their middle."""
    cuts = [slice(k, k + width) for k in range(0, len(times), width)]
    return np.array([times[cut].mean() for cut in cuts]), np.stack([curves[:, cut].mean(1) for cut in cuts], 1)


def _bar(axis: Any, places: Any, found: Sequence[Any], **looks: Any) -> None:
    mean, low, high = np.array([[float(x) for x in one] for one in found]).T
    # An interval of resampled means need not hold the mean to the last digit.
    ends = np.clip([mean - low, high - mean], 0, None)
    axis.errorbar(mean, places, xerr=ends, elinewidth=0.7, **looks)


def _all(axis: Any, results: Results) -> None:
    """At the rate that is the better one for NTP."""
    shown = better(results)
    names = [name for name in METHODS if name in shown.methods]
    places = np.arange(len(names))[::-1].astype(float)
    marks: tuple[tuple[str, str, float, dict[str, Any], str], ...] = (
        ("pass@1 at first", "D", 0.22, {"markerfacecolor": "white"}, "at first"),
        ("pass@1, mean over the course", "s", 0.0, {"color": "0.45"}, "mean over the course"),
        ("pass@1 in the end", "o", -0.22, {}, "in the end"),
    )
    for quantity, marker, shift, looks, label in marks:
        found = [shown.band(shown.of(name, quantity)) for name in names]
        _bar(axis, places + shift, found, **_DOT | {"marker": marker, "label": label} | looks)
    axis.set_yticks(places, names, fontsize=6)
    axis.set(xlim=(-0.03, 1.03), ylim=(-0.6, len(names) + 0.9), xlabel="held-out pass@1")
    axis.set_title(f"each checkpoint, rate {shown.rate:g}")
    axis.legend(fontsize=5, loc="upper left", ncols=3, columnspacing=0.4, handletextpad=0.0, borderpad=0.0)


def better(results: Results) -> Results:
    """Those of the rate at which NTP ends higher."""
    return max(results.both("NTP"), key=lambda one: one.of("NTP", "pass@1 in the end").mean())


def _differences(axis: Any, results: Results) -> None:
    """pass@1 in the end, at each rate."""
    names = [name for name in METHODS if name in results.methods and name != "NTP"]
    places = np.arange(len(names))[::-1].astype(float)
    for number, one in enumerate(results.both("NTP")):
        own = [(place, name) for place, name in zip(places, names, strict=True) if name in one.methods]
        where = np.array([place for place, _ in own]) + (0.12 if number == 0 else -0.12)
        found = [interval(one.of(name, "pass@1 in the end") - one.of("NTP", "pass@1 in the end")) for _, name in own]
        looks = {"markerfacecolor": "white", "marker": "s"} if number == 0 else {}
        _bar(axis, where, found, **_DOT | looks | {"label": f"rate {one.rate:g}"})
    axis.axvline(0, color="k", linewidth=0.6)
    axis.set_yticks(places, names, fontsize=6)
    axis.set(ylim=(-0.6, len(names) + 0.5), xlabel="pass@1 in the end, less NTP's", title="against NTP, paired")
    axis.legend(fontsize=5.5, loc="upper left", ncols=2)
