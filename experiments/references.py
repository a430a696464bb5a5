"""`ra3 references`: do the tests of benchmarks accept their own reference solutions, and notice wrong ones?

What was found of a problem is kept in the folder of runs, so that an interrupted check goes on. Only the tables are
meant for others; they hold no text of a benchmark but names and the changes that mutants made.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import style
from llm.journal import Journal
from llm.problems import Judge, Problem, load
from llm.problems.mutants import CONSTANTS, expects_only, mutants
from llm.runs import RunStopped

KINDS = ("constant", "answer off by one", "integer off by one")
COLUMNS = (
    "benchmark", "problems", "malformed lines", "references that pass", *(
        f"{kind}: {what}" for kind in KINDS for what in ("mutants", "fail", "pass")
    ), "pass by right: all tests expect that constant", "CPU seconds of references",
)  # fmt: skip
EXPLAINED = "all tests expect it"
UNTOLD = "the tests don't tell it from the reference"
# Problems whose mutants run together.
_TOGETHER = 8


@dataclass(frozen=True)
class Found:
    """Of one benchmark: its row of the table, exceptions ``(problem, what, why)``, and mutants that pass."""

    row: list[Any]
    exceptions: list[tuple[str, str, str]]
    survivors: list[tuple[str, str, str, str]]


def check(name: str, judge: Judge, folder: Path, tell: Callable[[float, str], None]) -> Found:
    """Run all reference solutions of a benchmark, and mutants of them.

    Args:
        folder: where what is found is kept.
        tell: is told what share is done, and of what.

    Raises:
        ValueError, FileNotFoundError: it can't be read.
        RunStopped: the sandbox failed.
    """
    benchmark = name.partition(":")[0]
    problems, malformed = load(name, examples=False)
    ready = judge.prepare(problems, lambda done, total: tell(0.3 * done / max(total, 1), f"{benchmark}: references"))
    folder.mkdir(parents=True, exist_ok=True)
    digests = hashlib.sha256("".join(one.digest() for one in problems).encode()).hexdigest()[:12]
    with Journal(folder / f"{benchmark}-{digests}.jsonl") as journal:
        known = {one["problem"]: one for one in journal.records}
        left = [one for one in ready.problems if one.name not in known]
        done = len(known)
        for first in range(0, len(left), _TOGETHER):
            some = left[first : first + _TOGETHER]
            new = list(_verdicts(some, judge))
            journal.append(new)
            known |= {one["problem"]: one for one in new}
            done += len(some)
            tell(0.3 + 0.7 * done / len(ready.problems), f"{benchmark}: mutants")
    return _found(benchmark, ready.problems, [known[one.name] for one in ready.problems], malformed, ready.broken)


def _verdicts(problems: Sequence[Problem], judge: Judge) -> Iterator[dict[str, Any]]:
    made = {one.name: mutants(one) for one in problems}
    jobs = [(one, program) for one in problems if (program := one.reference_program) is not None]
    jobs += [(one, mutant.program) for one in problems for mutant in made[one.name]]
    found = judge.verdicts(jobs, again=False)
    if any(not verdict.counts for verdict in found):
        raise RunStopped("the sandbox could not judge a program; what is finished is kept. Give the command again")
    references = iter(found)
    of_reference = {one.name: next(references) for one in problems if one.reference is not None}
    of_mutants = references
    for one in problems:
        yield {
            "problem": one.name,
            "reference": of_reference[one.name].outcome if one.name in of_reference else None,
            "cpu_seconds": of_reference[one.name].cpu_seconds if one.name in of_reference else 0.0,
            "mutants": [
                {"kind": mutant.kind, "change": mutant.change, "outcome": next(of_mutants).outcome}
                for mutant in made[one.name]
            ],
        }


def _found(
    benchmark: str, problems: Sequence[Problem], verdicts: Sequence[dict[str, Any]], malformed: Sequence[Any],
    broken: Sequence[Any],
) -> Found:  # fmt: skip
    made: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    rightly = 0
    survivors = []
    constants = {f"returns {value!r}": value for value in CONSTANTS}
    for problem, verdict in zip(problems, verdicts, strict=True):
        for mutant in verdict["mutants"]:
            made[mutant["kind"]] += 1
            if mutant["outcome"] != "passed":
                continue
            passed[mutant["kind"]] += 1
            right = mutant["kind"] == "constant" and expects_only(problem, constants[mutant["change"]])
            rightly += right
            survivors.append((problem.name, mutant["kind"], mutant["change"], EXPLAINED if right else UNTOLD))
    counts = [count for kind in KINDS for count in (made[kind], made[kind] - passed[kind], passed[kind])]
    sound = sum(one["reference"] == "passed" for one in verdicts)
    exceptions = [(one.name, one.outcome, one.detail) for one in broken]
    for one in verdicts:
        if one["reference"] != "passed":
            there = one["reference"] is not None
            exceptions.append(
                (one["problem"], one["reference"] if there else "is not there", "not always" if there else "")
            )
    exceptions += [(Path(one.place).name, "is malformed", one.why) for one in malformed]
    total = len(problems) + len(broken)
    seconds = sum(one["cpu_seconds"] for one in verdicts)
    return Found([benchmark, total, len(malformed), sound, *counts, rightly, round(seconds, 1)], exceptions, survivors)


def write(out: Path, found: Sequence[Found]) -> list[Path]:
    """Tables: problems-references, problems-exceptions, problems-mutants (those that pass)."""
    named = [(one.row[0], one) for one in found]
    return [
        *style.write_table(out, "problems-references", COLUMNS, [one.row for one in found]),
        *style.write_table(
            out, "problems-exceptions", ("benchmark", "problem", "its reference", "reason"),
            [(name, *row) for name, one in named for row in one.exceptions],
        ),
        *style.write_table(
            out, "problems-mutants", ("benchmark", "problem", "mutant", "change", "why it passes"),
            [(name, *row) for name, one in named for row in one.survivors],
        ),
    ]  # fmt: skip
