"""Puts the page together from the files of a folder of results."""

from __future__ import annotations

import base64
import html
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.offline

from experiments import claims, records
from experiments.claims import VERDICTS, Row
from experiments.evidence import Figures, NoData
from experiments.judges_theory import ATTACKED
from experiments.progress import in_words
from experiments.registry import EXPERIMENTS
from experiments.report.captions import Caption, captions
from experiments.report.charts import Chart, charts
from ra3sim import _store

_HERE = Path(__file__).parent
# In the order of a reader's questions: the theory, its two halves, both together, discovery, language models.
ORDER = (
    "tightness", "convergence", "pruning", "regret", "tradeoff", "posttraining", "variational", "em", "discovery",
    "lineworld", "midtrain", "rlvr", "smollm2",
)  # fmt: skip


def build(figs: Path, out: Path, runs: Sequence[Path] = ()) -> Path:
    """Write the report of the results in a folder.

    Args:
        figs: what `ra3 reproduce`, `ra3 verify` and `ra3 claims` wrote.
        out: the HTML file.
        runs: folders of `ra3 midtrain` whose thoughts the page shows too.

    Raises:
        FileNotFoundError: no such folder, or a run without thoughts.
        ValueError: a damaged file.
    """
    figures = Figures(figs)
    paper, statements = claims.rows(figures)
    manifests = _manifests(figures)
    if not manifests:
        raise ValueError(f"figs: {figs} has no results; `ra3 reproduce --out {figs}` makes them")
    drawn, said = charts(figures), captions()
    sections = [_section(figs, name, manifests[name], said.get(name), drawn.get(name)) for name in manifests]
    page = {
        "style": _read("page.css"),
        "script": _read("page.js"),
        # A closing tag inside of a script would end it.
        "plotly": plotly.offline.get_plotlyjs().replace("</script", "<\\/script"),
        "charts": json.dumps({name: list(chart.panels) for name, chart in drawn.items()}).replace("</", "<\\/"),
        "about": f"{len(manifests)} experiments; {len(paper)} claims of the paper, {len(statements)} statements.",
        "counts": _counts([*paper, *statements]),
        "nav": _nav(manifests),
        "verdict-options": "".join(f"<option>{_safe(one)}</option>" for one in VERDICTS),
        "where-options": "".join(f"<option>{_safe(one)}</option>" for one in dict.fromkeys(row.where for row in paper)),
        "claims": "\n".join(map(_claim, [*paper, *statements])),
        "verified": _safe(claims.count(statements, "statements")) if statements else "",
        "statements": _statements(figures),
        "figures": "\n".join(sections),
        "thoughts": _thoughts(figs, runs),
        "environment": _environment(),
        "runs": _runs(manifests),
    }
    parts = re.split(r"\{\{([\w-]+)\}\}", _read("page.html"))
    _store.write_text(out, "".join(page[part] if k % 2 else part for k, part in enumerate(parts)))
    return out


def _manifests(figures: Figures) -> dict[str, Mapping[str, Any]]:
    found = {}
    for name in (*ORDER, *(name for name in EXPERIMENTS if name not in ORDER)):
        try:
            found[name] = figures.manifest(name)
        except NoData:
            continue
    return found


def _nav(names: Mapping[str, Any]) -> str:
    anchors = ["claims", "statements", *names, "thoughts", "environment"]
    return "".join(f'<a href="#{name}">{_safe(name)}</a>' for name in anchors)


def _counts(rows: Sequence[Row]) -> str:
    counts = Counter(row.verdict for row in rows)
    return "".join(f"{_badge(one, f'{counts[one]} ')}" for one in VERDICTS if counts[one])


def _badge(verdict: str, before: str = "") -> str:
    return f'<span class="verdict {verdict.replace(" ", "-")}">{_safe(before + verdict)}</span>'


def _claim(row: Row) -> str:
    names = ("measured", "why", "seeds", "command", "run")
    more = "".join(
        f"<dt>{name}<dd>{f'<code>{_safe(value)}</code>' if name == 'command' else _safe(value)}"
        for name, value in zip(names, row.cells(names), strict=True)
        if value
    )
    return (
        f'<tbody data-verdict="{_safe(row.verdict)}" data-where="{_safe(row.where)}">'
        f'<tr class="claim" tabindex="0" role="button" aria-expanded="false"><td>{_safe(row.claim)}'
        f"<td>{_safe(row.source)}<td>{_safe(row.where)}<td>{_badge(row.verdict)}</tr>"
        f'<tr class="more" hidden><td colspan="4"><dl>{more or "<dt>no data"}</dl></td></tr></tbody>'
    )


def _statements(figures: Figures) -> str:
    try:
        found = figures.manifest("verify")["statements"]
    except NoData:
        return "<p>Not verified here: <code>ra3 verify</code>.</p>"
    columns = ("tried", "largest ratio", ATTACKED, "tight family", "exactly", "overstated twin")
    head = "".join(f'<th class="number">{_safe(name)}' for name in columns)
    lines = []
    for one in found:
        cells = "".join(f'<td class="number">{_safe(_short(one[name]))}' for name in columns)
        text = (
            f"<b>{_safe(one['statement'])}</b> {_safe(one['claim'])}<br><span class=faint>{_safe(one['source'])}</span>"
        )
        verdict = "holds" if one["verdict"] == "holds" else "not reproduced"
        lines.append(f"<tr><td>{_safe(one['number'])}<td>{text}{cells}<td>{_badge(verdict)}</tr>")
    table = f"<thead><tr><th>no.<th>statement{head}<th>verdict</tr></thead>"
    return f'<div class="wide"><table id="verification">{table}<tbody>{"".join(lines)}</tbody></table></div>'


def _section(figs: Path, name: str, manifest: Mapping[str, Any], caption: Caption | None, chart: Chart | None) -> str:
    title = manifest.get("title", name)
    pictures = [file for file in sorted(manifest["files"], key=len) if file.endswith(".png")]
    parts = [f'<section id="{name}"><h2>{_safe(name)}: {_safe(title)}</h2>', caption.what if caption else ""]
    for file in pictures:
        image = f'<img loading="lazy" src="{_picture(figs / file)}" alt="{_safe(f"{file}: {title}")}">'
        parts.append(f"<figure>{image}</figure>")
    if caption:
        parts.append(f'<div class="caption">{caption.shows}</div>')
    command = manifest.get("command") or f"ra3 reproduce {name}"
    note = "" if "--preset full" in command else " Numbers in the text are of the full study, pictures of this one."
    parts.append(f'<p class="faint">Made by <code>{_safe(command)}</code>, run {_safe(manifest["key"])}.{note}</p>')
    if chart:
        parts.append(_chart(chart))
    return "\n".join([*parts, "</section>"])


def _chart(chart: Chart) -> str:
    options = "".join(f'<option value="{k}">{_safe(one["name"])}</option>' for k, one in enumerate(chart.panels))
    name = chart.experiment
    return (
        f'<div class="chart" data-chart="{name}"><label>look closer: <select>{options}</select></label>'
        '<div class="plot"></div><p class="faint">Point at a curve for its values; click a name in the legend to hide '
        "a curve, twice to see it alone.</p></div>"
    )


def _picture(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _thoughts(figs: Path, runs: Sequence[Path]) -> str:
    from llm import thoughts

    pages = {}
    for path in sorted(figs.glob("*-thoughts.html")):
        pages[path.stem] = path.read_text(encoding="utf-8")
    for run in runs:
        pages[str(run)] = thoughts.page(list(enumerate(thoughts.load(run), 1)))
    if not pages:
        return "<p>None here: <code>ra3 reproduce smollm2</code>, or <code>ra3 report --thoughts RUN</code>.</p>"
    options = "".join(f'<option value="{k}">{_safe(name)}</option>' for k, name in enumerate(pages))
    frames = "".join(
        f'<iframe class="thoughts" title="{_safe(name)}" srcdoc="{html.escape(text)}"{" hidden" if k else ""}></iframe>'
        for k, (name, text) in enumerate(pages.items())
    )
    return f'<label>thoughts of <select id="thoughts-of">{options}</select></label>{frames}'


def _environment() -> str:
    found = records.provenance()
    rows = {**found["versions"], "machine": found["machine"], "cores": found["cores"], "commit": found["commit"]}
    cells = "".join(
        f"<tr><td>{_safe(name)}<td>{_safe(value)}</tr>" for name, value in rows.items() if value is not None
    )
    return f'<table id="versions" style="width:auto"><tbody>{cells}</tbody></table>'


def _runs(manifests: Mapping[str, Mapping[str, Any]]) -> str:
    names = ("experiment", "command", "run", "parts", "time", "peak memory, MiB", "commit")
    lines = []
    for name, one in manifests.items():
        sources = one["computed_with"]
        commits = ", ".join(dict.fromkeys(f"{(source['commit'] or '–')[:9]}" for source in sources))
        cells = (
            name, one.get("command") or "", one["key"], len(one["parts"]), in_words(one["seconds"]),
            _short(one.get("peak_memory_mib")), commits,
        )  # fmt: skip
        lines.append("<tr>" + "".join(f"<td>{_safe(cell)}" for cell in cells) + "</tr>")
    head = "".join(f"<th>{name}" for name in names)
    table = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="wide"><table id="runs">{table}</table></div>'


def _short(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _safe(text: Any) -> str:
    return html.escape(str(text))


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
