"""Every statement of the theory checked (`ra3 verify`), and how tight each one is.

The ratio measured / bound of random instances, of the falsifier's best one, and on the statement's tight family; 1 is
where the claim would break. The figure shows the same numbers that ``ra3 verify`` prints.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import theory
from experiments import records, style
from ra3sim import _store
from theory.instances import save
from theory.verify import BUDGETS, verify

VERSION = 1

COLUMNS = (
    "number",
    "statement",
    "source",
    "tried",
    "largest ratio",
    "tight family",
    "exactly",
    "falsifier's best",
    "overstated twin",
    "needs",
    "verdict",
)


@dataclass(frozen=True)
class Config:
    """
    Attributes:
        statements: names; nothing: all.
        budget: how much is tried (`theory.verify.BUDGETS`).
        source: stands for the code that is checked, so that a verdict on other code is never taken for one on this.
    """

    statements: tuple[str, ...] = ()
    budget: str = "full"
    seed: int = 0
    source: str = field(default_factory=lambda: records.source_digest("theory", "ra3sim"))

    def __post_init__(self) -> None:
        theory.find(self.statements)
        if self.budget not in BUDGETS:
            raise ValueError(f"budget: must be one of {', '.join(BUDGETS)}, got {self.budget!r}")

    @staticmethod
    def preset(name: str) -> Config:
        if name == "smoke":
            return Config(("contraction", "sharp-error"), "small")
        return Config(budget="small") if name == "quick" else Config()


def parts(config: Config) -> list[str]:
    return [statement.name for statement in theory.find(config.statements)]


def run_part(
    config: Config, part: str, seed: np.random.SeedSequence, progress: Callable[[float], None]
) -> dict[str, Any]:
    found = verify(theory.statements()[part], config.budget, int(seed.generate_state(1)[0]))
    result: dict[str, Any] = {
        "tried": found.tried,
        "largest": found.largest,
        "spread": list(found.spread),
        "tight": found.tight,
        "exact": found.exact,
        "kind": found.kind,
        "adversarial": found.adversarial,
        "twin": found.twin,
        "without": found.without,
        "failures": found.failures,
    }
    for name, instance in found.instances.items():
        result |= {f"{name}: {key}": np.asarray(value) for key, value in instance.items()}
    return result


def table(data: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each statement, with the columns of `COLUMNS`."""
    rows = []
    for name, found in data.items():
        statement = theory.statements()[name]
        cells = (
            statement.number,
            f"{name} (=)" if statement.equality else name,
            statement.source,
            found["tried"],
            found["largest"],
            found["tight"],
            f"{found['exact']} {found['kind']}",
            found["adversarial"],
            found["twin"],
            found["without"],
            "holds" if not found["failures"] else "FAILS: " + "; ".join(found["failures"]),
        )
        rows.append(dict(zip(COLUMNS, cells, strict=True)))
    return rows


def show(data: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the table (on a narrow terminal without sources, which are in the files); below it, in full, what fails."""
    console = Console() if Console().is_terminal else Console(width=200)
    shown = [name for name in COLUMNS if console.width >= 150 or name not in ("source", "needs")]
    printed = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in shown:
        printed.add_column(name.replace(" ", "\n"), no_wrap=name != "source")
    for row in table(data):
        row["verdict"] = row["verdict"].partition(":")[0]
        cells = [row[name] for name in shown]
        printed.add_row(*(escape(f"{cell:.4g}" if isinstance(cell, float) else str(cell)) for cell in cells))
    console.print(printed)
    for name, found in data.items():
        for failure in found["failures"]:
            console.print(f"{name}: {failure}", markup=False, highlight=False, soft_wrap=True)


def write(folder: Path, stem: str, config: Config, data: Mapping[str, Mapping[str, Any]]) -> list[Path]:
    """The table as csv, Markdown and JSON (claims and failures in full), and the falsifier's best instances."""
    rows = table(data)
    paths = style.write_table(folder, stem, COLUMNS, [list(row.values()) for row in rows], digits=6)
    full = [
        {**row, "claim": statement.claim, "overstated": statement.overstated.text, "failures": data[name]["failures"]}
        for row, (name, statement) in zip(rows, ((name, theory.statements()[name]) for name in data), strict=True)
    ]
    about = {"budget": config.budget, "seed": config.seed, **records.provenance(), "statements": full}
    path = folder / f"{stem}.json"
    _store.write_text(path, json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    instances: dict[str, dict[str, Any]] = {}
    for name, found in data.items():
        for key, value in found.items():
            which, _, entry = key.partition(": ")
            if entry:
                instances.setdefault(f"{name}, {which}", {})[entry] = value
    save(folder / f"{stem}-instances.npz", instances)
    return [*paths, path, folder / f"{stem}-instances.npz"]


def figure(config: Config, data: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    names = list(data)
    picture, axis = style.subplots(height=0.6 + 0.19 * len(names))
    rows = np.arange(len(names))[::-1]
    for row, name in zip(rows, names, strict=True):
        middle, high = data[name]["spread"]
        axis.plot([middle, high], [row, row], color="0.6", linewidth=3, solid_capstyle="butt")
    marks = (
        ("tight", "s", "none", 8, "tight family"),
        ("largest", "o", "white", 4, "random: largest (bar: median to 95 % quantile)"),
        ("adversarial", "D", "0.2", 4, "falsifier: largest"),
    )
    for key, marker, face, size, label in marks:
        values = [float(data[name][key]) for name in names]
        axis.plot(values, rows, marker, color="k", markerfacecolor=face, markersize=size, label=label, linestyle="none")
    axis.axvline(1, color="#D55E00", linewidth=0.8)
    labels = [
        f"{theory.statements()[name].number}  {row['statement']}" for name, row in zip(names, table(data), strict=True)
    ]
    axis.set_yticks(rows, labels)
    axis.set(xlim=(-0.02, 1.05), ylim=(-0.7, len(names) - 0.3), xlabel="measured / bound (a claim breaks above 1)")
    axis.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3, fontsize=6.5)
    columns = ["statement", "random median", "random 95 %", "random largest", "falsifier", "tight family", "twin"]
    cells = [
        [name, *found["spread"], found["largest"], found["adversarial"], found["tight"], found["twin"]]
        for name, found in data.items()
    ]
    return [*style.save(picture, folder, "tightness"), style.write_csv(folder, "tightness", columns, cells)]
