"""Draws the experiment `experiments.smollm2`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import style
from llm import thoughts
from llm.likelihood import ratio
from ra3sim import _store
from ra3sim.spread import Interval, interval

Data = Mapping[str, Mapping[str, Any]]

_COMMENTS = {
    "leak": "line itself",
    "todo": '"TODO"',
    "best": "best of {}",
    "sampled": "sampled",
    "random": "other's line",
}
_LIKELIHOODS = ("plain", "blind", "marginal")
_WORTH_IT = 0.05  # nats
_RING = {"marker": "o", "linestyle": "none", "markersize": 8, "markerfacecolor": "none", "markeredgecolor": "0.4"}


def draw(config: Any, data: Data, folder: Path) -> list[Path]:
    gains, methods = _gains(data), _methods(data)
    picture, axes = style.subplots(2, 3, height=4.6)
    _comments(axes[0, 0], config, gains)
    _course(axes[0, 1], methods, "think", "share of lines in the E-step", "lines thought about")
    _course(axes[0, 2], methods, "kappa", "mean over lines", "κ: probability to think")
    _course(axes[1, 0], methods, "gain", "nats per thought", "gain of imitated thoughts")
    _changes(axes[1, 1], data["before"], methods)
    _cost(axes[1, 2], methods)
    _legend(picture, axes[0, 1], methods)
    paths = style.save(picture, folder, "smollm2")
    paths += style.write_table(folder, "smollm2", *_table(data["before"], methods), digits=3)
    paths += style.write_table(folder, "smollm2-gains", *_gains_table(config, data["before"], gains), digits=3)
    paths += style.write_table(folder, "smollm2-course", *_courses(methods), digits=3)
    paths.append(style.write_csv(folder, "smollm2-comments", *_drawn(gains)))
    page = folder / "smollm2-thoughts.html"
    records = [
        {**record, "name": f"{record['method']}: {record['name']}"}
        for part in (data["before"], *methods.values())
        for record in part["records"]
    ]
    _store.write_text(page, thoughts.page(list(enumerate(records, 1))))
    return [*paths, page]


def _methods(data: Data) -> dict[str, Mapping[str, Any]]:
    return {name: part for name, part in data.items() if "loss" in part}


def _gains(data: Data) -> dict[str, Any]:
    """What comments add, of the next line and of all to the end: ``(P, 2)``, ``each (P, S, 2)``; the rest as it is."""
    parts = [part for name, part in data.items() if name.startswith("gains ")]
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "text"}
    none = found.pop("none")
    for name in ("leak", "todo", "random"):
        found[name] = found[name] - none
    found["each"] = found.pop("sampled") - none[:, None]
    found["sampled"], found["best"] = found["each"].mean(1), found["each"].max(1)
    return found | {"text": [one for part in parts for one in part["text"]]}


def _comments(axis: Any, config: Any, gains: Mapping[str, Any]) -> None:
    for number, (label, of) in enumerate((("next line", 0), ("mean of all lines to the end", 1))):
        look = style.line(2 * number) | {"linestyle": "none"}
        for row, name in enumerate(_COMMENTS):
            found = _next(gains[name]) if of == 0 else _rest(gains[name], gains["lines"])
            _dot(axis, found, row + 0.13 * (1 - 2 * number), look, label if row == 0 else None)
    axis.axvline(0, color="0.4", linewidth=0.8)
    names = [label.format(config.samples) for label in _COMMENTS.values()]
    axis.set_yticks(range(len(names)), names, fontsize=6)
    axis.set(xlabel="gain (nats per line)", title="a comment's gain, base model")
    axis.set_ylim(len(_COMMENTS) + 0.7, -0.5)
    _inside(axis)


def _inside(axis: Any, columns: int = 1) -> None:
    """A legend under the last row."""
    small = {"handlelength": 1, "handletextpad": 0.3, "columnspacing": 0.8, "borderaxespad": 0.2}
    # Layout would make room for it beside the axes.
    axis.legend(fontsize=5.5, loc="lower center", ncols=columns, **small).set_in_layout(False)


def _next(values: np.ndarray) -> Interval:
    return interval(values[:, 0])


def _rest(values: np.ndarray, lines: np.ndarray) -> Interval:
    return ratio(values[:, 1], lines)


def _dot(axis: Any, found: Interval, y: float, look: Mapping[str, Any], label: str | None) -> None:
    spread = [[found.mean - found.low], [found.high - found.mean]]
    axis.errorbar([found.mean], [y], xerr=spread, label=label, capsize=2, elinewidth=0.8, **look)


def _course(axis: Any, methods: Mapping[str, Any], key: str, label: str, title: str) -> None:
    for number, part in enumerate(methods.values()):
        x, values = np.arange(1, len(part[key]) + 1), part[key]
        if not np.isfinite(values).any():
            continue
        axis.plot(x, values, **style.line(number))
        gone = part["collapsed"] > 0
        axis.plot(x[gone], values[gone], **_RING)
    if key == "gain":
        axis.axhline(0, color="0.4", linewidth=0.8)
    else:
        axis.set_ylim(-0.07 * axis.get_ylim()[1], None)
    axis.set_xticks(range(1, 1 + max(len(part[key]) for part in methods.values())))
    axis.set(xlabel="iteration", ylabel=label, title=title)


def _legend(picture: Any, axis: Any, methods: Mapping[str, Any]) -> None:
    handles = [axis.plot([], [], label=name, **style.line(number))[0] for number, name in enumerate(methods)]
    handles += axis.plot([], [], label="collapsed", **_RING)
    picture.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=6)


def _names(axis: Any, methods: Mapping[str, Any]) -> None:
    short = [name.replace("policy gradient, ", "gradient,\n") for name in methods]
    axis.set_yticks(range(len(methods)), short, fontsize=6)


def _changes(axis: Any, before: Mapping[str, Any], methods: Mapping[str, Any]) -> None:
    for number, kind in enumerate(_LIKELIHOODS):
        look = style.line((0, 2, 4)[number]) | {"linestyle": "none"}
        for row, part in enumerate(methods.values()):
            found = ratio(part[kind] - before[kind], part["tokens"])
            _dot(axis, found, row + 0.2 * (number - 1), look, kind if row == 0 else None)
    axis.axvline(0, color="0.4", linewidth=0.8)
    _names(axis, methods)
    axis.set(xlabel="change of −log p (nats/token)", title="held-out code, after − before")
    axis.set_ylim(len(methods) + 0.7, -0.6)
    _inside(axis, 3)


def _cost(axis: Any, methods: Mapping[str, Any]) -> None:
    unit = _seconds(methods["NTP"])
    for row, part in enumerate(methods.values()):
        estep, mstep = (part[key].sum() / unit for key in ("estep_seconds", "mstep_seconds"))
        axis.barh(row, mstep, color="0.35", label="M-step" if row == 0 else None)
        axis.barh(row, estep, left=mstep, color="0.8", edgecolor="0.35", label="E-step" if row == 0 else None)
        axis.text(mstep + estep, row, f" {mstep + estep:.1f}", va="center", fontsize=7)
    _names(axis, methods)
    axis.set(xlabel="processor time (NTP = 1)", title="cost")
    axis.margins(x=0.2)
    axis.set_axisbelow(True)
    axis.set_ylim(len(methods) + 0.3, -0.6)
    _inside(axis, 2)


def _seconds(part: Mapping[str, Any]) -> float:
    return float(part["estep_seconds"].sum() + part["mstep_seconds"].sum())


def _table(before: Mapping[str, Any], methods: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """One row for each model: likelihoods of held-out code, what it thinks, and what it cost."""
    columns = ["model"]
    for kind in _LIKELIHOODS:
        columns += [f"{kind}, nats per token", f"{kind} low", f"{kind} high"]
        columns += [f"{kind} change", f"{kind} change low", f"{kind} change high"]
    columns += ["effective particles", "lines thought about", "κ", "κ low", "κ high", "cost, NTP = 1", "programs"]
    columns.append("seeds")
    rows = []
    for name, part in {"before": before, **methods}.items():
        row: list[Any] = [name]
        for kind in _LIKELIHOODS:
            row += ratio(part[kind], part["tokens"])
            change = ratio(part[kind] - before[kind], part["tokens"])
            row += [None] * 3 if part is before else change
        cost = None if part is before else _seconds(part) / _seconds(methods["NTP"])
        row += [part["sample_size"].mean(), part["thoughts"].sum() / part["lines"].sum(), *_kappa(part), cost]
        rows.append([*row, len(part["tokens"]), 1])
    return columns, rows


def _kappa(part: Mapping[str, Any]) -> Interval:
    """Mean over lines where a thought may stand, and its interval over programs."""
    sums = np.array([one.sum() for one in np.split(part["line_kappa"], np.cumsum(part["lines"])[:-1])])
    return ratio(sums, part["lines"])


def _gains_table(config: Any, before: Mapping[str, Any], gains: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    rows: list[list[Any]] = []
    for name, label in _COMMENTS.items():
        each = gains["each"] if name == "sampled" else gains[name][:, None]
        share = interval((each > _WORTH_IT).mean(1))
        rows.append([
            label.format(config.samples), *_next(gains[name]), *_rest(gains[name], gains["lines"]),
            share.mean[0], max(share.low[0], 0.0), min(share.high[0], 1.0), share.mean[1], len(each),
        ])  # fmt: skip
    share = f"share above {_WORTH_IT:g}"
    columns = [
        "comment", "gain of the next line, nats", "low", "high", "of all to the end, nats per line", "low to the end",
        "high to the end", f"{share}, next line", "share low", "share high", f"{share}, to the end", "programs",
    ]  # fmt: skip
    return columns, rows


def _courses(methods: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Every number of every iteration."""
    columns = {
        "think": "lines thought about", "kappa": "κ", "spread": "spread of advantages", "gain": "gain, nats a thought",
        "kept": "thoughts kept", "ess": "effective candidates", "nats": "−log p of code given thoughts, nats per token",
        "collapsed": "collapsed", "loss": "M-step loss, nats per token", "estep_seconds": "E-step, s of the processor",
        "mstep_seconds": "M-step, s of the processor",
    }  # fmt: skip
    rows = []
    for name, part in methods.items():
        for k in range(len(part["loss"])):
            values = [float(part[key][k]) for key in columns]
            rows.append([name, k + 1, *(value if np.isfinite(value) else None for value in values)])
    return ["method", "iteration", *columns.values()], rows


def _drawn(gains: Mapping[str, Any]) -> tuple[list[str], list[Sequence[Any]]]:
    """The comments that the base model drew, and what each adds."""
    values = gains["each"].reshape(-1, 2)
    rows: list[Sequence[Any]] = [[*text, *gain] for text, gain in zip(gains["text"], values, strict=True)]
    return ["place", "comment", "gain of the next line, nats", "gain of all lines to the end, nats"], rows
