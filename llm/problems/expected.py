"""What is right, and how long it may take, found by running reference solutions once; kept on disk.

`prepare` runs the reference solution of every problem that has one. It shows that the tests are right before any model
is blamed, gives the expected values of problems that are judged against their reference, and calibrates time limits. It
does so once on a machine: what passed is kept in ``$RA3SIM_CACHE`` or ``~/.cache/ra3sim``, under a hash of program and
inputs.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llm.problems import oracles
from llm.problems.lineworld import LineWorldCheck
from llm.problems.problem import Problem, digest
from llm.runs import RunStopped
from llm.sandbox import Limits, Sandbox, Verdict
from llm.sandbox.inside import wire
from ra3sim import _store

# EvalPlus gives 4 times what the reference takes, and 1 second at least for each input; ours is for all of them.
FACTOR, FLOOR = 4.0, 4.0
# References take a few seconds of the processor, one of MBPP+ a minute; by the clock more on a machine that is busy.
PATIENCE = 300.0
_FORMAT = 1


@dataclass(frozen=True)
class Reference:
    """To be judged by what the reference solution returns for these calls.

    Attributes:
        entry_point: the function to call.
        calls: arguments of each call.
        atol: absolute tolerance of numbers; 0: exact, but for floats (`llm.sandbox.CallTests`).
        oracle: name of a rule in `oracles.RULES`; None: the same value.
    """

    entry_point: str
    calls: tuple[tuple, ...]
    atol: float = 0.0
    oracle: str | None = None


@dataclass(frozen=True)
class Broken:
    """A problem that can't be used: its own reference solution does not pass."""

    name: str
    outcome: str
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: its reference solution {self.outcome}{f' ({self.detail})' if self.detail else ''}"


@dataclass(frozen=True)
class Prepared:
    """Problems ready to judge with, in the order they came, and those that are broken."""

    problems: list[Problem]
    broken: list[Broken]


def prepare(
    problems: Sequence[Problem], sandbox: Callable[[], Sandbox], *, cache: Path | None = None, jobs: int | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Prepared:  # fmt: skip
    """Run what reference solutions have not been run yet on this machine.

    Args:
        sandbox: called for one when it is needed.
        cache: folder; None: the project's.
        jobs: so many at once; None: one a core.
        tell: is told how many of how many are done.

    Raises:
        RunStopped: the sandbox failed.
    """
    folder = folder_of(cache)
    found: dict[int, Problem | Broken] = {}
    left = []
    for place, problem in enumerate(problems):
        if problem.reference is None:
            found[place] = problem
        elif isinstance(problem.check, LineWorldCheck):
            found[place] = _ready(problem, None, problem.check.verdict(problem.reference))
        elif (kept := _read(folder / _key(problem))) is not None:
            found[place] = _ready(problem, *kept)
        else:
            left.append(place)
    if left:
        box = sandbox()
        tell(0, len(left))
        with ThreadPoolExecutor(jobs or len(os.sched_getaffinity(0))) as pool:
            for count, (place, one) in enumerate(
                zip(left, pool.map(lambda place: _run(problems[place], box, folder), left), strict=True), 1
            ):
                found[place] = one
                tell(count, len(left))
    ordered = [found[place] for place in range(len(problems))]
    return Prepared(
        [one for one in ordered if isinstance(one, Problem)], [one for one in ordered if isinstance(one, Broken)]
    )


def folder_of(cache: Path | None = None) -> Path:
    return Path(cache or os.environ.get("RA3SIM_CACHE") or Path.home() / ".cache" / "ra3sim") / "references"


def _run(problem: Problem, sandbox: Sandbox, folder: Path) -> Problem | Broken:
    limits, check = Limits(seconds=4 * PATIENCE, cpu_seconds=PATIENCE), problem.check
    program, answers = problem.reference_program, None
    assert program is not None  # those without a reference are not run
    if isinstance(check, Reference):
        try:
            answers = sandbox.results(program, check.entry_point, check.calls, limits)
        except ValueError as error:
            why = str(error).removeprefix("program: ").removesuffix("; give one that works")
            _check_sandbox(why, problem)
            return Broken(problem.name, "gives no answers", why)
        check = oracles.check(check.entry_point, check.calls, answers, check.atol, check.oracle)
    verdict = sandbox.run(program, check, limits)
    _check_sandbox(verdict.outcome, problem)
    if verdict.passed:
        # What failed is run again next time: the machine may have been busy.
        _write(folder / _key(problem), answers, verdict)
    return _ready(problem, answers, verdict)


def _check_sandbox(outcome: str, problem: Problem) -> None:
    """The sandbox's failures are nobody else's."""
    if outcome.startswith("sandbox error"):
        raise RunStopped(f"{problem.name}: the sandbox could not run its reference solution; give the command again")


def _ready(problem: Problem, answers: list[Any] | None, verdict: Verdict) -> Problem | Broken:
    if not verdict.passed:
        return Broken(problem.name, verdict.outcome, verdict.detail)
    check = problem.check
    if isinstance(check, Reference):
        assert answers is not None  # it passed, so it gave some
        check = oracles.check(check.entry_point, check.calls, answers, check.atol, check.oracle)
    seconds = problem.seconds
    if seconds is None:
        # Of the processor, for the clock runs on while others have it.
        seconds = max(FLOOR, FACTOR * verdict.cpu_seconds)
    return replace(problem, check=check, seconds=seconds)


def _key(problem: Problem) -> str:
    """The answers may change with the version of Python, and what is right with this code."""
    version = ".".join(platform.python_version_tuple()[:2])
    return digest([_FORMAT, version, problem.reference_program, problem.check]) + ".json"


def _write(path: Path, answers: list[Any] | None, verdict: Verdict) -> None:
    _store.write_text(path, wire.dumps([answers, verdict.seconds, verdict.cpu_seconds]))


def _read(path: Path) -> tuple[list[Any] | None, Verdict] | None:
    """None if it isn't there, or is damaged: then it is made again."""
    try:
        answers, seconds, cpu_seconds = wire.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return answers, Verdict("passed", seconds=seconds, cpu_seconds=cpu_seconds)
