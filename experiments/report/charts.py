"""Interactive charts of the report, drawn from the csv files that experiments wrote; specifications for Plotly.

A chart has panels, of which one is shown at a time: a world, a budget, a quantity. A click on a name in the legend
hides a curve; hovering shows values with their intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from experiments import style
from experiments.evidence import Figures, NoData

Rows = Sequence[Mapping[str, str]]
# What stands beside a point that the mouse is on.
_HOVER, _ENDS = "%{fullData.name}<br>%{x:.4~g}: %{y:.4~g}", " [%{customdata[0]:.4~g}, %{customdata[1]:.4~g}]"
_DASHES = ("solid", "dash", "dashdot", "dot", "longdash", "longdashdot", "5px,2px")
_SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x")


@dataclass(frozen=True)
class Chart:
    """
    Attributes:
        experiment: whose section it stands in.
        title: says what is drawn.
        panels: ``{"name", "data", "layout"}``, the last two as Plotly has them.
    """

    experiment: str
    title: str
    panels: Sequence[Mapping[str, Any]]


def curves(
    rows: Rows, by: Callable[[Mapping[str, str]], str], x: str, y: str, interval: tuple[str, str] | None = None,
    first: int = 0,
) -> list[dict[str, Any]]:  # fmt: skip
    """A curve for each value of ``by``, with error bars where there are intervals; rows without a value are left out.

    Args:
        x, y: columns.
        interval: columns of the ends of the intervals.
        first: number of the first curve, for its colour.
    """
    groups: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        if row[x] and row[y]:
            groups.setdefault(by(row), []).append(row)
    traces = []
    for index, (name, own) in enumerate(groups.items(), first):
        values = [float(row[y]) for row in own]
        trace: dict[str, Any] = {
            "name": name, "x": [float(row[x]) for row in own], "y": values, "mode": "lines+markers", **_look(index),
        }  # fmt: skip
        if interval and all(row[interval[0]] and row[interval[1]] for row in own):
            low, high = ([float(row[end]) for row in own] for end in interval)
            trace["error_y"] = {
                "type": "data", "symmetric": False, "thickness": 1, "width": 2,
                "array": [b - a for a, b in zip(values, high, strict=True)],
                "arrayminus": [a - b for a, b in zip(values, low, strict=True)],
            }  # fmt: skip
            trace["customdata"] = [list(ends) for ends in zip(low, high, strict=True)]
        trace["hovertemplate"] = _HOVER + (_ENDS if "customdata" in trace else "") + "<extra></extra>"
        traces.append(trace)
    return traces


def points(
    rows: Rows, label: str, value: str, interval: tuple[str, str] | None, name: str = "", index: int = 0
) -> dict[str, Any]:
    """Values beside their labels, from top to bottom, with intervals as bars to both sides."""
    own = [row for row in rows if row[value]]
    values = [float(row[value]) for row in own]
    look = _look(index)
    trace: dict[str, Any] = {
        "name": name, "x": values, "y": [row[label] for row in own], "mode": "markers", "marker": look["marker"],
    }  # fmt: skip
    if interval:
        trace["error_x"] = {
            "type": "data", "symmetric": False, "thickness": 1, "width": 3, "color": look["line"]["color"],
            "array": [float(row[interval[1]]) - a for row, a in zip(own, values, strict=True)],
            "arrayminus": [a - float(row[interval[0]]) for row, a in zip(own, values, strict=True)],
        }  # fmt: skip
    return trace


def panel(name: str, data: Sequence[Mapping[str, Any]], x: str, y: str, log: str = "", **layout: Any) -> dict[str, Any]:
    """A panel with titled axes; ``log``: "x", "y" or "xy"."""
    axes = {
        f"{one}axis": {"title": {"text": title}, "automargin": True, **({"type": "log"} if one in log else {})}
        for one, title in (("x", x), ("y", y))
    }
    return {"name": name, "data": list(data), "layout": {**axes, **layout}}


def _look(index: int) -> dict[str, Any]:
    number = index % len(style.COLOURS)
    colour = style.COLOURS[number]
    return {
        "line": {"color": colour, "dash": _DASHES[number], "width": 2},
        "marker": {"color": colour, "symbol": _SYMBOLS[number], "size": 7},
    }


def _values(rows: Rows, column: str) -> list[str]:
    return list(dict.fromkeys(row[column] for row in rows))


# ---- One function a chart --------------------------------------------------------------------------------------------


def _tightness(figures: Figures) -> Chart:
    rows = figures.rows("tightness")
    kinds = (("tight family", 4), ("random largest", 0), ("falsifier", 2))
    data = [points(rows, "statement", column, None, column, index) for column, index in kinds]
    for trace in data:
        trace["marker"] = {**trace["marker"], "symbol": {**_OPEN}[trace["name"]], "size": 9}
    layout = {"height": 120 + 17 * len(rows), "yaxis": {"autorange": "reversed", "automargin": True, "dtick": 1}}
    made = panel("all", data, "measured / bound (a claim breaks above 1)", "")
    made["layout"].update(layout)
    made["layout"]["shapes"] = [
        {"type": "line", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "yref": "paper", "line": {"color": "#D55E00", "width": 1}}
    ]
    return Chart("tightness", "measured / bound of every statement", [made])


_OPEN = {"tight family": "square-open", "random largest": "circle-open", "falsifier": "diamond"}


def _convergence(figures: Figures) -> Chart:
    panels = []
    for world in _values(figures.rows("convergence"), "environment"):
        rows = figures.rows("convergence", {"environment": world})
        data = curves(rows, lambda row: row["decision space"], "N", "error from 0")
        for trace in data:
            trace["mode"] = "lines"
        sharp = curves(rows, lambda row: f"{row['decision space']}, sharp bound", "N", "sharp")
        for trace in sharp:
            trace.update(mode="lines", opacity=0.45)
        panels.append(panel(world, data + sharp, "iterations N", "‖V_N − V*‖", log="y"))
    return Chart("convergence", "error of value iteration, and the sharp bound", panels)


def _pruning(figures: Figures) -> Chart:
    panels = []
    for varied in _values(figures.rows("pruning"), "varied"):
        rows = figures.rows("pruning", {"varied": varied})
        data = curves(rows, lambda row: "measured", varied, "measured", ("low", "high"))
        for index, column in enumerate(("lower", "upper, sharp", "exact"), 1):
            data += curves(rows, lambda row: column, varied, column, first=index)  # noqa: B023  (called at once)
        panels.append(panel(f"as {varied} varies", data, varied, "demonstrations n", log="xy"))
    return Chart("pruning", "demonstrations that prune, between both bounds", panels)


def _regret(figures: Figures) -> Chart:
    panels = []
    rows = figures.rows("regret-table")
    for start, of, budget in dict.fromkeys((row["start"], row["budget of"], row["budget"]) for row in rows):
        own = figures.rows("regret-table", {"start": start, "budget of": of, "budget": budget})
        data = curves(own, lambda row: "regret", "|Z'|", "regret", ("low", "high"))
        data += curves(own, lambda row: "pruning error", "|Z'|", "pruning error", first=1)
        data += curves(own, lambda row: "RL error", "|Z'|", "RL error", first=2)
        panels.append(panel(f"{budget} {of}, from {start}", data, "options kept |Z'|", "share of V*_A", log="x"))
    # First where the best is in between.
    panels.sort(key=lambda one: "backups" not in one["name"])
    return Chart("regret", "regret and its terms against the options kept", panels)


def _tradeoff(figures: Figures) -> Chart:
    panels = []
    for n in _values(figures.rows("tradeoff-table"), "n"):
        rows = figures.rows("tradeoff-table", {"n": n})
        data = curves(rows, lambda row: "regret, sweeps", "τ", "regret, sweeps", ("low", "high"))
        data += curves(rows, lambda row: "regret, learning", "τ", "regret, learning", ("low ", "high "), 1)
        for index, column in enumerate(("bound 4.1", "bound 4.4", "V_max"), 2):
            data += curves(rows, lambda row: column, "τ", column, first=index)  # noqa: B023  (called at once)
        panels.append(panel(f"{n} demonstrations", data, "length of macros τ", "regret", log="y"))
    return Chart("tradeoff", "regret and bounds against the length of macros", panels)


def _pruned_by(word: str, column: str, row: Mapping[str, str]) -> str:
    return f"{row['granularity']}, {word} {row[column]}"


def _posttraining(figures: Figures) -> Chart:
    panels = []
    column = "pruned by, or policy gradient from"
    rows = figures.rows("posttraining")
    most = max(_values(rows, "n"), key=int)
    for world in _values(rows, "world"):
        for kind, names in (
            ("Q-learning", ("nothing", "values", "usage", "frequency")),
            ("policy gradient", ("uniform policy", "learnt policy")),
        ):
            own = [row for row in rows if row["world"] == world and row["n"] == most and row[column] in names]
            word = "pruned by" if kind == "Q-learning" else "from the"
            named = partial(_pruned_by, word, column)
            data = curves(own, named, "steps", "regret (IQM)", ("low", "high"))
            for trace in data:
                if kind == "Q-learning" and not trace["name"].endswith(("nothing", "values")):
                    trace["visible"] = "legendonly"
            title = "regret, share of what the random policy loses"
            panels.append(panel(f"{world}, {kind}, n = {most}", data, "steps of learning", title, log="x"))
    return Chart("posttraining", "learning after mid-training", panels)


def _discovery(figures: Figures) -> Chart:
    panels = []
    rows = figures.rows("discovery-table")
    quantities = [name for name in rows[0] if f"{name}, low" in rows[0]]
    for world in _values(rows, "world"):
        own = [row for row in rows if row["world"] == world]
        for quantity in quantities:
            data = curves(own, lambda row: row["method"], "k", quantity, (f"{quantity}, low", f"{quantity}, high"))
            panels.append(panel(f"{world}: {quantity}", data, "options k", quantity))
    return Chart("discovery", "what options of each method are worth", panels)


def _em(figures: Figures) -> Chart:
    axes = {
        "iterations": ("EM iteration", ""), "gradient": ("policy-gradient step", ""),
        "candidates": ("candidates K", "xy"), "alpha": ("α", ""), "price": ("price c, nats", ""),
    }  # fmt: skip
    panels = []
    for name in _values(figures.rows("em"), "panel"):
        rows = [row for row in figures.rows("em", {"panel": name}) if row["x"] != "inf"]
        x, log = axes.get(name, (name, ""))
        data = curves(rows, lambda row: row["curve"], "x", "mean", ("low", "high"))
        for trace in data:
            if len(data) > 8 and not trace["name"].endswith("log_likelihood"):
                trace["visible"] = "legendonly"
        panels.append(panel(name, data, x, "nats, or as named", log=log))
    return Chart("em", "EM in tables, against the exact answer", panels)


def _variational(figures: Figures) -> Chart:
    panels = []
    rows = figures.rows("variational")
    for world in _values(rows, "world"):
        for start in _values(rows, "start"):
            own = [row for row in rows if row["world"] == world and row["start"] == start]
            lengths = _values(own, "length")
            whole = [row for row in own if row["length"] == lengths[0] and row["quantity"] in _ELBOS]
            data = curves(whole, lambda row: row["quantity"], "1 − α", "mean", ("low", "high"))
            if data:
                panels.append(panel(f"{world}, {start} start", data, "1 − α", "nats", log="x"))
    return Chart("variational", "likelihood and bounds as α changes", panels)


_ELBOS = ("log-likelihood", "soft Bellman q*", "best causal q", "prior as q")


def _lineworld(figures: Figures) -> Chart:
    rows = figures.rows("lineworld-regret")
    data = curves(rows, lambda row: row["decision space"], "episodes", "regret", ("low", "high"))
    return Chart("lineworld", "learning in LineWorld", [panel("all", data, "episodes", "regret", log="x")])


def _midtrain(figures: Figures) -> Chart:
    panels = []
    for study in _values(figures.rows("midtrain"), "study"):
        for quantity in _values(figures.rows("midtrain", {"study": study}), "quantity"):
            rows = [row for row in figures.rows("midtrain", {"study": study, "quantity": quantity}) if row["mean"]]
            several = len(_values(rows, "N")) > 1
            named = [{**row, "label": row["variant"] + (f", N = {row['N']}" if several else "")} for row in rows]
            if named:
                made = panel(f"{study}: {quantity}", [points(named, "label", "mean", ("low", "high"))], quantity, "")
                made["layout"]["yaxis"] = {"autorange": "reversed", "automargin": True, "dtick": 1}
                made["layout"]["height"] = 160 + 24 * len(named)
                panels.append(made)
    return Chart("midtrain", "what each way of mid-training leaves", panels)


def _rlvr(figures: Figures) -> Chart:
    panels = []
    rows = [row for row in figures.rows("rlvr") if row["step"]]
    for rate in _values(rows, "rate"):
        for quantity in _values(rows, "quantity"):
            own = [row for row in rows if row["rate"] == rate and row["quantity"] == quantity]
            data = curves(own, lambda row: row["checkpoint"], "step", "IQM", ("low", "high"))
            if data:
                panels.append(panel(f"{quantity}, rate {rate}", data, "step of RLVR", quantity))
    first = next((k for k, one in enumerate(panels) if one["name"].startswith("pass@1")), 0)
    return Chart("rlvr", "the course of RLVR", [panels[first], *panels[:first], *panels[first + 1 :]])


def _smollm2(figures: Figures) -> Chart:
    rows = figures.rows("smollm2-gains")
    value = "gain of the next line, nats"
    made = panel("next line", [points(rows, "comment", value, ("low", "high"))], value, "")
    made["layout"]["yaxis"] = {"autorange": "reversed", "automargin": True}
    return Chart("smollm2", "what a comment adds to the next line", [made])


_MAKERS: Iterable[Callable[[Figures], Chart]] = (
    _tightness, _convergence, _pruning, _regret, _tradeoff, _variational, _posttraining, _discovery, _em, _lineworld,
    _midtrain, _rlvr, _smollm2,
)  # fmt: skip


def charts(figures: Figures) -> dict[str, Chart]:
    """The charts that the data are there for, by experiment."""
    found = {}
    for make in _MAKERS:
        try:
            chart = make(figures)
        except NoData:
            continue
        if chart.panels:
            found[chart.experiment] = chart
    return found
