"""How figures look, and how they are written: the same bytes for the same data."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from ra3sim import _store

# Okabe & Ito (2008), safe for colour-blind readers, in an order in which neighbours differ in lightness; line styles
# and markers change as well, so that a print in grey can be read.
COLOURS = ("#000000", "#E69F00", "#0072B2", "#56B4E9", "#D55E00", "#CC79A7", "#009E73")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

# Widths in inches of one and two columns of a page.
COLUMN, PAGE = 3.4, 7.0

_SETTINGS: dict[str, Any] = {
    "axes.grid": True,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8,
    "figure.titlesize": 9,
    "font.family": "DejaVu Sans",  # comes with Matplotlib: the same on every machine
    "font.size": 8,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.4,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
    "svg.hashsalt": "ra3",
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
}


@contextlib.contextmanager
def context() -> Iterator[None]:
    """The house style inside the block, whatever the user's own Matplotlib settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        settings: Any = _SETTINGS
        mpl.rcParams.update(settings)
        yield


def line(index: int) -> dict[str, Any]:
    """Colour, line style and marker of the curve with this number; they repeat after 7.

    >>> line(1)["color"], line(8) == line(1)
    ('#E69F00', True)
    """
    i = index % len(COLOURS)
    return {"color": COLOURS[i], "linestyle": LINES[i], "marker": MARKERS[i]}


def subplots(rows: int = 1, columns: int = 1, *, width: float = PAGE, height: float = 2.4, **options: Any) -> Any:
    """A figure and its axes, as ``pyplot.subplots`` gives them, in the house style; sizes in inches.

    The figure belongs to no window and to no global list, so there is nothing to close.
    """
    with context():
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(rows, columns, **options)


def save(figure: Figure, folder: str | os.PathLike[str], name: str) -> list[Path]:
    """Write ``name.pdf`` (vectors) and ``name.png``, atomically and without dates; returns both paths."""
    paths = []
    for suffix, metadata in ((".pdf", {"CreationDate": None}), (".png", {"Software": None})):
        path = Path(folder) / f"{name}{suffix}"
        with context(), _store.atomic_path(path) as temporary:
            figure.savefig(temporary, metadata=metadata)
        paths.append(path)
    return paths


def write_csv(folder: str | os.PathLike[str], name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    """Write ``name.csv`` with every digit, atomically; None is an empty cell.

    Raises:
        ValueError: a row whose length is not that of ``columns``.
    """
    cells = _rectangle(columns, rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_plain(cell) for cell in row] for row in cells)
    path = Path(folder) / f"{name}.csv"
    _store.write_text(path, text.getvalue())
    return path


def write_table(
    folder: str | os.PathLike[str], name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], digits: int = 4
) -> list[Path]:
    """Write ``name.csv`` with every digit and ``name.md``, a Markdown table rounded to ``digits`` significant ones.

    Numbers stand to the right; None is an empty cell in csv and a dash in Markdown.

    Raises:
        ValueError: a row whose length is not that of ``columns``.
    """
    path = Path(folder) / f"{name}.md"
    _store.write_text(path, markdown(columns, rows, digits))
    return [write_csv(folder, name, columns, rows), path]


def markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]], digits: int = 4) -> str:
    """The Markdown table of `write_table`; it ends in a newline.

    Raises:
        ValueError: a row whose length is not that of ``columns``.
    """
    cells = _rectangle(columns, rows)
    numeric = [all(row[c] is None or _is_number(_plain(row[c])) for row in cells) for c in range(len(columns))]
    shown = [[_short(cell, digits) for cell in row] for row in cells]
    lines = ["| " + " | ".join(row) + " |" for row in [[_short(c, digits) for c in columns], *shown]]
    lines.insert(1, "|" + "|".join("---:" if right else "---" for right in numeric) + "|")
    return "\n".join(lines) + "\n"


def _rectangle(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    cells = [list(row) for row in rows]
    for number, row in enumerate(cells):
        if len(row) != len(columns):
            raise ValueError(f"rows[{number}]: {len(row)} cells for {len(columns)} columns ({', '.join(columns)})")
    return cells


def _is_number(cell: Any) -> bool:
    return isinstance(cell, (int, float)) and not isinstance(cell, bool)


def _plain(cell: Any) -> Any:
    """NumPy scalars (also 0-d arrays) as Python's, whose text is the shortest that gives the number back."""
    return cell.item() if isinstance(cell, (np.generic, np.ndarray)) else cell


def _short(cell: Any, digits: int) -> str:
    cell = _plain(cell)
    if cell is None:
        return "–"
    return f"{cell:.{digits}g}" if isinstance(cell, float) else str(cell).replace("|", "\\|").replace("\n", " ")
