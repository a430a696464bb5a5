"""Programs with their thoughts, for people: in the terminal, and as one HTML file.

Three numbers stand beside a line: κ, the probability that the model thinks before it; its log-likelihood in nats; and,
beside a thought, what it adds to the lines up to the next thought. Signs say what the colours say.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text

_NEWLINE = re.compile(r"\r\n|\r|\n")


class Shown(NamedTuple):
    """One row of the display: a thought, or a row of code (numbers None where they do not belong)."""

    text: str
    is_thought: bool
    kappa: float | None = None
    log_likelihood: float | None = None
    gain: float | None = None


def load(run: Path) -> list[dict[str, Any]]:
    """The records of a run's folder, or of a file like its ``thoughts.jsonl``.

    Raises:
        FileNotFoundError: there are none.
        ValueError: they are damaged.
    """
    from llm import records  # with torch, which the display needs no part of

    path = run / "thoughts.jsonl" if run.is_dir() else run
    if not path.is_file():
        raise FileNotFoundError(f"run: no {path}; give the folder of a run with an iteration behind it")
    found = records.read(path)
    for number, record in enumerate(found, 1):
        if not isinstance(record.get("lines"), list):
            raise ValueError(f'run: program {number} of {path} has no "lines"; only what a run wrote can be shown')
    return found


def rows(record: Mapping[str, Any]) -> Iterator[Shown]:
    """What is shown of a record, from top to bottom."""
    for part in _NEWLINE.split(record.get("prompt", "").rstrip("\r\n")):
        if part:
            yield Shown(part, False)
    for t, line in enumerate(record["lines"]):
        parts = _NEWLINE.split(line["code"])
        # The newline that ends the row before, or this one.
        parts = parts[1:] if len(parts) > 1 and not parts[0].strip() else parts
        parts = parts[:-1] if len(parts) > 1 and not parts[-1].strip() else parts
        numbered = False
        for part in parts:
            if numbered or not part.strip():
                yield Shown(part, False)
                continue
            numbered = True
            thought = record["thoughts"].get(t)
            if thought is not None:
                space = part[: len(part) - len(part.lstrip())]
                yield Shown(f"{space}#{thought}", True, gain=line["gain"])
            yield Shown(part, False, line["kappa"], line["log_likelihood"])


def printable(text: str) -> str:
    """The text with control characters spelt out: a model may write any, and a terminal would obey them."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text.expandtabs(4))


def title(number: int, record: Mapping[str, Any]) -> str:
    """One line about a program."""
    worth = [line["gain"] for line in record["lines"] if line["gain"] is not None]
    found = f"{number}. {record.get('name') or record.get('program')}"
    if "iteration" in record:
        found += f" (iteration {record['iteration']})"
    found += f": {len(record['lines'])} lines, {len(record['thoughts'])} thoughts"
    return printable(found + (f" that gain {_signed(sum(worth))} nats together" if worth else ""))


def show(console: Console, numbered: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
    """Print programs, each with its number."""
    for number, record in numbered:
        console.print(Text(title(number, record), style="bold"), soft_wrap=True)
        if not record.get("sound", True):
            console.print(Text("   with its thoughts this is another program for Python", style="bold red"))
        console.print(Text("    κ  log p   gain", style="dim"))
        for row in rows(record):
            console.print(_row(row), soft_wrap=True)
        console.print()


def _row(row: Shown) -> Text:
    found = Text(no_wrap=True)
    found.append("     " if row.kappa is None else f"{row.kappa:5.2f}", style=_warmth(row.kappa))
    found.append("       " if row.log_likelihood is None else f"{row.log_likelihood:7.1f}", style="dim")
    gain = "       " if row.gain is None else f"{_signed(row.gain):>7}"
    found.append(gain, style="bold green" if (row.gain or 0) > 0 else "bold red")
    found.append(" │ ", style="dim")
    return found.append(printable(row.text), style="italic cyan" if row.is_thought else "")


def _warmth(kappa: float | None) -> str:
    return "bold" if (kappa or 0) >= 0.5 else "" if (kappa or 0) >= 0.05 else "dim"


def _signed(gain: float) -> str:
    return f"{gain:+.2f}".replace("-", "−")


def page(numbered: Sequence[tuple[int, Mapping[str, Any]]]) -> str:
    """One HTML file that needs nothing else."""
    parts = [_section(number, record) for number, record in numbered]
    return _PAGE.replace("{{style}}", _STYLE).replace("{{body}}", "\n".join(parts))


def _section(number: int, record: Mapping[str, Any]) -> str:
    cells = "\n".join(map(_cells, rows(record)))
    wrong = (
        "" if record.get("sound", True) else "<p class=wrong>With its thoughts this is another program for Python.</p>"
    )
    head = "<tr><th>κ<th>log p<th>gain<th>code</tr>"
    return f"<section><h2>{_safe(title(number, record))}</h2>{wrong}\n<table>{head}\n{cells}\n</table></section>"


def _cells(row: Shown) -> str:
    kappa = likelihood = gain = ""
    if row.kappa is not None:
        kappa = f'<span class=bar style="width:{2.4 * row.kappa:.2f}em"></span>{row.kappa:.2f}'
    if row.log_likelihood is not None:
        likelihood = f"{row.log_likelihood:.1f}".replace("-", "−")
    if row.gain is not None:
        gain = f"<span class={'good' if row.gain > 0 else 'bad'}>{_signed(row.gain)}</span>"
    kind = " class=thought" if row.is_thought else ""
    numbers = "".join(f"<td class=number>{cell}" for cell in (kappa, likelihood, gain))
    return f"<tr{kind}>{numbers}<td><pre>{_safe(row.text)}</pre></tr>"


def _safe(text: str) -> str:
    return html.escape(printable(text))


_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --faint: #666; --line: #ccc; --thought: #0b4a75;
  --wash: #eaf3fa; --good: #0a6b2d; --bad: #a31621; --bar: #b9cfe0 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #161616; --faint: #9a9a9a; --line: #444;
  --thought: #a8d4f5; --wash: #1d2a35; --good: #7fd89a; --bad: #ff9a9a; --bar: #34536b } }
body { color: var(--ink); background: var(--paper); font: 15px/1.4 system-ui, sans-serif; margin: 2em auto;
  max-width: 75em; padding: 0 1em }
h2 { font-size: 1em; margin: 2em 0 .5em }
section { overflow-x: auto }
table { border-collapse: collapse }
th { color: var(--faint); font-weight: normal; font-size: .85em; text-align: right; padding: 0 .6em }
th:last-child { text-align: left }
td { padding: 0 .6em; vertical-align: baseline }
td:last-child { border-left: 1px solid var(--line) }
pre { font: 13px/1.45 ui-monospace, monospace; margin: 0 }
.number { color: var(--faint); font: 12px ui-monospace, monospace; text-align: right; white-space: nowrap }
.bar { display: inline-block; height: .7em; background: var(--bar); margin-right: .4em }
.thought td:last-child { background: var(--wash); border-left: 3px solid var(--thought) }
.thought pre { color: var(--thought); font-style: italic }
.good { color: var(--good); font-weight: bold }
.bad { color: var(--bad); text-decoration: underline }
.wrong { color: var(--bad); font-weight: bold }
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Thoughts</title>
<style>{{style}}</style></head><body>
<h1>Thoughts</h1>
<p>κ: the probability that the model thinks before a line. log p: of the line, in nats. gain: what a thought adds to the
log p of the lines up to the next thought.</p>
{{body}}
</body></html>
"""
