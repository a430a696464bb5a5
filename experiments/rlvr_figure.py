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
    panels = (
        (axes[0, 0], "pass@1", results.measured, "held-out pass@1"),
        (axes[0, 1], f"pass@{config.k[-1]}", results.measured, f"held-out pass@{config.k[-1]}"),
        (axes[1, 0], "reward", steps, "reward on training tasks"),
        (axes[1, 1], "no spread", steps, "groups without spread"),
    )
    for axis, name, times, title in panels:
        for method in config.methods:
            _band(axis, results, method, name, times)
        axis.set(ylim=(-0.03, 1.03), xlabel="GRPO steps", title=title)
    axes[0, 0].axhline(config.threshold, color="0.5", linewidth=0.6, linestyle=":")
    _all(axes[0, 2], results)
    _differences(axes[1, 2], results)
    for letter, axis in zip("abcdef", axes.flat, strict=True):
        axis.set_title(f"({letter}) {axis.get_title()}", fontsize=7.5)
    handles = [Line2D([], [], label=name, **look(name)) for name in config.methods]
    picture.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=6.5, handlelength=3.4)
    picture.suptitle(
        f"GRPO on pass or fail, after mid-training on {config.experts} expert programs: means of the middle half of "
        f"{config.seeds} seeds,\n95 % bootstrap intervals (b, e: without; d, e: runs of ten steps; f: means, paired, "
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


def _bar(axis: Any, places: Sequence[float], found: Sequence[Any], **looks: Any) -> None:
    mean, low, high = np.array([[float(x) for x in one] for one in found]).T
    # An interval of resampled means need not hold the mean to the last digit.
    ends = np.clip([mean - low, high - mean], 0, None)
    axis.errorbar(mean, places, xerr=ends, elinewidth=0.7, **looks)


def _all(axis: Any, results: Results) -> None:
    names = [name for name in METHODS if name in results.config.methods]
    places = np.arange(len(names))[::-1].astype(float)
    shown = (
        ("pass@1 at first", "D", 0.22, {"markerfacecolor": "white"}, "at first"),
        ("pass@1, mean over the course", "s", 0.0, {"color": "0.45"}, "mean over the course"),
        ("pass@1 in the end", "o", -0.22, {}, "in the end"),
    )
    for quantity, marker, shift, other, label in shown:
        found = [results.band(results.of(name, quantity)) for name in names]
        _bar(axis, places + shift, found, **_DOT | {"marker": marker, "label": label} | other)
    axis.set_yticks(places, names, fontsize=6)
    axis.set(xlim=(-0.03, 1.03), ylim=(-0.6, len(names) - 0.4), xlabel="held-out pass@1", title="each checkpoint")
    axis.legend(fontsize=5.5, loc="upper right", frameon=True, framealpha=0.9)


def _differences(axis: Any, results: Results) -> None:
    names = [name for name in METHODS if name in results.config.methods and name != "NTP"]
    places = np.arange(len(names))[::-1].astype(float)
    shown = (
        ("pass@1, mean over the course", "s", 0.1, {"color": "0.45"}, "mean over the course"),
        ("pass@1 in the end", "o", -0.15, {}, "in the end"),
    )
    for quantity, marker, shift, other, label in shown:
        found = [interval(results.of(name, quantity) - results.of("NTP", quantity)) for name in names]
        _bar(axis, places + shift, found, **_DOT | {"marker": marker, "label": label} | other)
    axis.axvline(0, color="k", linewidth=0.6)
    axis.set_yticks(places, names, fontsize=6)
    axis.set(ylim=(-0.6, len(names) - 0.4), xlabel="difference in pass@1", title="against NTP, paired")
