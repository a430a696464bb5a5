"""The table of claims: every claim of the paper and every statement of the theory, judged from stored results.

Nothing here computes: rows are read from what `ra3 reproduce` and `ra3 verify` wrote, so that a claim can't say
something else than its figure.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments import paper_claims, style
from experiments.evidence import Figures, Found, NoData
from experiments.judges_theory import ATTACKED
from experiments.paper_claims import TABLES, Claim
from experiments.verdicts import HOLDS, IN_PART, MISSING, NOT, OPEN, UNTESTABLE
from ra3sim import _store

COLUMNS = ("claim", "source", "where", "measured", "seeds", "verdict", "why", "command", "run")
SHOWN = ("claim", "source", "where", "measured", "seeds", "verdict", "command", "run")
VERDICTS = (HOLDS, IN_PART, NOT, OPEN, UNTESTABLE, MISSING)
BEGIN, END = "<!-- claims: begin -->", "<!-- claims: end -->"
# Experiments that judge claims of their own, beyond those of the paper.
DETAILS = ("discovery", "posttraining", "midtrain", "rlvr")

LEGEND = """Judged by `ra3 claims` from the results in this folder; brackets are 95 % intervals over the seeds.

* **holds**: every comparison bears it out, its interval being on the claim's side. **holds in part**: some do.
* **not reproduced**: none does, and one at least is on the other side.
* **not decided**: the intervals are too wide to tell.
* **not testable here**: it takes what this project's machines don't have. **not computed**: these results are of a
  smaller study.

*tables*: finite MDPs, exact. *LineWorld*: a small language model, from scratch, on a made-up language with known
intents. *SmolLM2*: a real model of 135 M weights on the standard library, on a CPU. *GPU*: models of 1 to 8 billion
weights."""


@dataclass(frozen=True)
class Row:
    """One claim with its verdict; the fields are `COLUMNS`. ``run``: the key of the stored run."""

    claim: str
    source: str
    where: str
    measured: str
    seeds: str
    verdict: str
    why: str
    command: str
    run: str

    def cells(self, columns: Sequence[str] = COLUMNS) -> list[str]:
        return [getattr(self, name) for name in columns]


def rows(figures: Figures) -> tuple[list[Row], list[Row]]:
    """The paper's claims, and the statements of the theory, as judged from the results in a folder.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a damaged file in it.
    """
    if not figures.folder.is_dir():
        raise FileNotFoundError(f"figs: no folder {figures.folder}; `ra3 reproduce` makes one")
    return [_judge(claim, figures) for claim in paper_claims.CLAIMS], _statements(figures)


def write(folder: str | os.PathLike[str], readme: Path | None = None) -> tuple[list[Path], list[Row]]:
    """Write ``claims.csv`` and ``claims.md`` into the folder of the results; and into the README, between the marks.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a damaged file in it, or a README without the marks.
    """
    figures = Figures(Path(folder))
    paper, statements = rows(figures)
    every = [*paper, *statements]
    paths = [
        style.write_csv(folder, "claims", COLUMNS, [row.cells() for row in every]),
        Path(folder) / "claims.md",
    ]
    _store.write_text(paths[1], page(figures, paper, statements))
    if readme is not None:
        text = readme.read_text(encoding="utf-8")
        before, begin, rest = text.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise ValueError(f"readme: {readme} has no lines {BEGIN} and {END}")
        _store.write_text(readme, f"{before}{BEGIN}\n{summary(paper, statements)}{END}{after}")
        paths.append(readme)
    return paths, every


def page(figures: Figures, paper: Sequence[Row], statements: Sequence[Row]) -> str:
    """All of it as Markdown."""
    whys = [f"* *{row.claim}* ({row.where}): {row.why}." for row in paper if row.why]
    parts = [
        "# Claims", LEGEND, count(paper, "claims of the paper"),
        style.markdown(SHOWN, [row.cells(SHOWN) for row in paper]).strip(),
        "## What to know of single rows", "\n".join(whys),
        "## Statements of the theory", count(statements, "statements, with proofs in `theory/README.md`"),
        style.markdown(SHOWN, [row.cells(SHOWN) for row in statements]).strip(),
        "## Claims that single experiments judge", details(figures),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def summary(paper: Sequence[Row], statements: Sequence[Row]) -> str:
    """What the README shows: the paper's claims, and how many statements hold."""
    columns = ("claim", "where", "verdict", "measured", "command")
    failed = [row.claim for row in statements if row.verdict != HOLDS]
    theory = f"{len(statements) - len(failed)} of the {len(statements)} statements of the theory hold (`ra3 verify`)"
    return (
        f"{count(paper, 'claims of the paper')} {theory}{': all but ' + '; '.join(failed) if failed else ''}.\n\n"
        + style.markdown(columns, [row.cells(columns) for row in paper])
    )


def count(some: Sequence[Row], of: str) -> str:
    """How many claims there are of each verdict, as a sentence."""
    counts = Counter(row.verdict for row in some)
    return f"{len(some)} {of}: " + ", ".join(f"{one} {counts[one]}" for one in VERDICTS if counts[one]) + "."


def details(figures: Figures) -> str:
    """How many of the claims that experiments judge by themselves are true; a table in Markdown."""
    lines = []
    for name in DETAILS:
        try:
            counts = Counter(row["verdict"] for row in figures.rows(f"{name}-claims"))
        except NoData:
            continue
        lines.append([f"[{name}]({name}-claims.md)", counts.total(), *(counts[one] for one in VERDICTS[:-2])])
    return style.markdown(("experiment", "claims", *VERDICTS[:-2]), lines).strip()


def _judge(claim: Claim, figures: Figures) -> Row:
    command, run = "", ""
    try:
        if claim.experiment:
            manifest = figures.manifest(claim.experiment)
            command, run = _command(claim, manifest["command"]), f"{claim.experiment} {manifest['key']}"
        found = claim.judge(figures)
    except NoData as missing:
        # Data of another preset, say, do not have every row.
        command = _command(claim, None)
        found = Found("", MISSING, "", f"the results have no such data ({missing})")
    return Row(claim.text, claim.source, claim.where, found.text, found.seeds, found.verdict, found.why, command, run)


def _command(claim: Claim, command: str | None) -> str:
    if claim.experiment == "tightness":
        return "ra3 verify"
    return (command or f"ra3 reproduce {claim.experiment}").replace(" --preset full --seed 0", "")


def _statements(figures: Figures) -> list[Row]:
    """One row for each statement that was verified; none if none was."""
    try:
        found = figures.manifest("verify")
        drawn = figures.manifest("tightness")
        run = f"tightness {drawn['key']}" if drawn["config"]["budget"] == found["budget"] else ""
    except NoData:
        return []
    made = []
    for one in found["statements"]:
        name = one["statement"].removesuffix(" (=)")
        measured = (
            f"measured/bound at most {one['largest ratio']:.4g} in {one['tried']:,} random instances, "
            f"{one[ATTACKED]:.4g} under attack, {one['tight family']:.4g} on the tight family; "
            f"{one['exactly']} exactly"
        )
        made.append(
            Row(
                f"{one['number']} {name}: {one['claim']}", one["source"], TABLES, measured, str(found["seed"]),
                HOLDS if one["verdict"] == "holds" else NOT, "; ".join(one["failures"]), f"ra3 verify {name}", run,
            )
        )  # fmt: skip
    return made
