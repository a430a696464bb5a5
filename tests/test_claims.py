"""The table of claims: every verdict follows from the data, and can change with them."""

from __future__ import annotations

import contextlib
import csv
import json
import operator
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest

import theory
from experiments import claims, cli
from experiments.claims import COLUMNS, HOLDS, IN_PART, MISSING, NOT, OPEN, UNTESTABLE
from experiments.evidence import Figures, NoData
from experiments.paper_claims import CLAIMS, GPU

FIGS = Path(__file__).parent.parent / "paper_figs"
JUDGED = [claim for claim in CLAIMS if claim.experiment]


@pytest.fixture
def figs(tmp_path) -> Path:
    """A copy of the results that may be changed."""
    folder = tmp_path / "figs"
    shutil.copytree(FIGS, folder, ignore=shutil.ignore_patterns("*.png", "*.pdf", "*.npz", "claims.*"))
    return folder


def edit(path: Path, change) -> None:
    """Change each row of a csv file."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        change(row)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_all_claims_of_the_abstract_and_all_statements_have_a_row():
    paper, statements = claims.rows(Figures(FIGS))
    assert [row.claim for row in paper] == [claim.text for claim in CLAIMS]
    assert len({(row.claim, row.where) for row in paper}) == len(paper)
    assert [row.claim.split(":")[0] for row in statements] == [f"{one.number} {one.name}" for one in theory.find()]
    for row in paper:
        # What can't be tested here needs other machines; everything else was computed, and says by what.
        assert (row.verdict == UNTESTABLE) == (row.where == GPU)
        assert row.why if row.where == GPU else row.measured and row.seeds and row.command and row.run
    assert {row.verdict for row in paper} == {HOLDS, IN_PART, NOT, OPEN, UNTESTABLE}


def test_the_run_is_that_of_the_manifest():
    for row in claims.rows(Figures(FIGS))[0]:
        if row.run:
            name, key = row.run.split()
            assert json.loads((FIGS / f"{name}.json").read_text())["key"] == key


# Columns by which rows are found, named or counted.
_KEYS = {"n", "N", "k", "m", "seeds", "budget", "|Z'|", "τ", "x", "sigma", "delta", "number", "programs", "rate"}


@dataclass(frozen=True)
class Other(Figures):
    """Results that came out otherwise: numbers are ``change``d, verdicts mean the opposite."""

    change: Callable[[float], float] = operator.neg

    def rows(self, name, match=MappingProxyType({})):
        return [self._other(row, match) for row in super().rows(name, match)]

    def _other(self, row, match):
        found = {column: cell if column in {*match, *_KEYS} else self._cell(cell) for column, cell in row.items()}
        for column in row:
            other = column.replace("low", "high")
            if other != column and other in row and float(found[column] or 0) > float(found[other] or 0):
                found[column], found[other] = found[other], found[column]
        return found

    def _cell(self, cell):
        if cell in (HOLDS, IN_PART, NOT, OPEN):
            return NOT if cell in (HOLDS, IN_PART) else HOLDS
        if re.fullmatch(r"[-+.\d\[\], e]+", cell):
            return re.sub(r"-?\d[\d.]*(e[-+]?\d+)?", lambda found: f"{self.change(float(found[0])):.17g}", cell)
        return cell


# What would settle claims that a change of all numbers alike leaves open: a file, rows of it, and what they would say.
_SETTLED = (
    ("A short effective horizon makes planning faster", "convergence-table",
     {"environment": "FourRooms", "decision space": "macros τ = 4"}, {"N measured": "10"}, HOLDS),
    ("It finds latent structure: thoughts name the skill of the lines to come (policy gradient as published)",
     "midtrain", {"study": "methods", "variant": "posterior"}, {"variant": "policy gradient, published"}, HOLDS),
    ("N iterations of the published bound", "convergence-table", {}, {"N sharp": "1"}, NOT),
    ("Keep one primitive action", "convergence-table", {"decision space": "both"}, {"N measured": "49"}, IN_PART),
    ("Samples: Q-learning over more options", "regret-table", {"|Z'|": "92"}, {"low": "0.9", "high": "1"}, HOLDS),
    ("Samples: Q-learning over more options", "regret-table", {"|Z'|": "92"}, {"low": "0", "high": "0.01"}, NOT),
    ("The price c governs how often it thinks: nearly", "midtrain", {"variant": "c = 0", "quantity": "think"},
     {"mean": "0.95", "low": "0.93", "high": "0.97"}, HOLDS),
    ("Mid-training by RA3 leaves a higher held-out", "smollm2", {"model": "NTP"},
     {"marginal change low": "4", "marginal change high": "6"}, HOLDS),
)  # fmt: skip


@pytest.mark.parametrize(("words", "file", "match", "cells", "verdict"), _SETTLED, ids=lambda value: str(value)[:30])
def test_claims_that_other_numbers_would_settle(figs, words, file, match, cells, verdict):
    (claim,) = [claim for claim in JUDGED if claim.text.startswith(words)]
    changed = 0

    def change(row):
        nonlocal changed
        if all(row[column] == value for column, value in match.items()):
            row.update(cells)
            changed += 1
        elif "variant" in cells and row["variant"] == cells["variant"]:
            row["variant"] = "another"

    edit(figs / f"{file}.csv", change)
    assert changed
    assert claim.judge(Figures(figs)).verdict == verdict != claim.judge(Figures(FIGS)).verdict


@pytest.mark.parametrize(
    "claim",
    [claim for claim in JUDGED if not any(claim.text.startswith(words) for words, *_ in _SETTLED)],
    ids=lambda claim: claim.text[:60],
)
def test_other_data_would_give_another_verdict(claim):
    """Numbers of the other sign, or all large, or all small: under one of these at least the verdict is another."""
    as_is = claim.judge(Figures(FIGS)).verdict
    found = set()
    for change in (operator.neg, lambda value: 1e3 + value, lambda value: value / 1e3 - 1e3):
        with contextlib.suppress(NoData):
            found.add(claim.judge(Other(FIGS, change)).verdict)
    assert found - {as_is, UNTESTABLE}


def test_data_that_are_not_there_are_said_to_be_missing(figs):
    (figs / "rlvr-claims.csv").unlink()
    (figs / "regret.json").unlink()
    edit(figs / "em-options.csv", lambda row: row.update(AMI=""))
    found = {row.claim: row for row in claims.rows(Figures(figs))[0]}
    for words, missing in {
        "RLVR converges faster after RA3 (posterior": "no rlvr-claims.csv",
        "A subspace in between": "no regret.json",
        "It finds latent structure that lasts": "no value of AMI",
    }.items():
        (row,) = [row for claim, row in found.items() if claim.startswith(words)]
        assert row.verdict == MISSING and missing in row.why and row.command.startswith("ra3 reproduce ")
        assert not row.measured


def test_a_row_that_matches_twice_is_no_evidence():
    with pytest.raises(NoData, match=r"convergence\.csv has 2370 rows"):
        Figures(FIGS).row("convergence", {})
    with pytest.raises(NoData, match="no column 'nonsense'"):
        Figures(FIGS).rows("convergence", {"nonsense": 1})


def test_a_statement_that_fails_is_told(figs):
    data = json.loads((figs / "verify.json").read_text())
    data["statements"][3]["verdict"] = "FAILS: a counterexample"
    data["statements"][3]["failures"] = ["a counterexample"]
    (figs / "verify.json").write_text(json.dumps(data))
    statements = claims.rows(Figures(figs))[1]
    assert [row.verdict for row in statements].count(NOT) == 1 and statements[3].why == "a counterexample"
    assert "53 of the 54 statements of the theory hold" in claims.summary([], statements)
    assert statements[3].claim in claims.summary([], statements)


def test_the_command_writes_tables_and_readme(figs, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{claims.BEGIN}\nwhat was there\n{claims.END}\nafter\n", encoding="utf-8")
    assert cli.main(["claims", "--figs", str(figs), "--readme", str(readme)]) == 0
    assert "claims of the paper" in capsys.readouterr().out
    with open(figs / "claims.csv", encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert tuple(found[0]) == COLUMNS and len(found) == len(CLAIMS) + 54
    text = readme.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{claims.BEGIN}\n") and text.endswith(f"{claims.END}\nafter\n")
    assert "what was there" not in text
    assert all(claim.text.replace("|", "\\|") in text for claim in CLAIMS)
    page = (figs / "claims.md").read_text(encoding="utf-8")
    assert "| [discovery](discovery-claims.md) | 108 |" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda figs, readme: shutil.rmtree(figs), "figs: no folder"),
        (lambda figs, readme: readme.write_text("nothing"), "has no lines <!-- claims: begin -->"),
        (lambda figs, readme: (figs / "verify.json").write_text("{"), "verify.json is damaged"),
    ],
)
def test_bad_input_is_one_line(figs, tmp_path, capsys, change, message):
    readme = tmp_path / "README.md"
    readme.write_text(f"{claims.BEGIN}\n{claims.END}\n")
    change(figs, readme)
    assert cli.main(["claims", "--figs", str(figs), "--readme", str(readme)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
