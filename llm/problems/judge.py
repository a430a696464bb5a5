"""Judges programs of any problem: in the sandbox, or by the interpreter of a LineWorld."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from llm.problems.expected import FLOOR, Prepared, prepare
from llm.problems.lineworld import LineWorldCheck
from llm.problems.problem import Problem
from llm.sandbox import Limits, Sandbox, Verdict


class Judge:
    """A context manager; its sandbox starts when it is first needed.

    Args:
        jobs: programs at once; None: one a core.
        isolation: level that the sandbox must have (`llm.sandbox`).
        limits: of every program; the time is the problem's own where it has one.
        cache: folder for what reference solutions gave; None: the project's.
    """

    def __init__(
        self, jobs: int | None = None, isolation: str = "full", limits: Limits | None = None, cache: Path | None = None
    ) -> None:
        self.jobs = jobs or len(os.sched_getaffinity(0))
        self.isolation, self.cache = isolation, cache
        self.limits = Limits(seconds=FLOOR) if limits is None else limits
        self._sandbox: Sandbox | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *error: Any) -> None:
        with self._lock:
            sandbox, self._sandbox = self._sandbox, None
        if sandbox is not None:
            sandbox.__exit__(*error)

    def sandbox(self) -> Sandbox:
        """The sandbox, started.

        Raises:
            ValueError: this machine can't isolate programs as was asked for.
        """
        with self._lock:
            if self._sandbox is None:
                self._sandbox = Sandbox(self.jobs, self.limits, self.isolation).__enter__()
            return self._sandbox

    def prepare(
        self, problems: Sequence[Problem], tell: Callable[[int, int], None] = lambda done, total: None
    ) -> Prepared:
        """`llm.problems.expected.prepare` in this sandbox."""
        return prepare(problems, self.sandbox, cache=self.cache, jobs=self.jobs, tell=tell)

    def verdicts(self, jobs: Sequence[tuple[Problem, str]], again: bool = True) -> list[Verdict]:
        """Of programs of problems that are ready; the same program is run once.

        Args:
            again: a program that is too slow runs once more, alone, for the others may have slowed it down.
        """
        keys = [(id(problem), program) for problem, program in jobs]
        distinct = {key: job for key, job in zip(keys, jobs, strict=True)}
        found = dict(zip(distinct, self._all(list(distinct.values())), strict=True))
        for key, verdict in found.items():
            if again and verdict.outcome == "timed out":
                found[key] = self._one(distinct[key])
        return [found[key] for key in keys]

    def _all(self, jobs: list[tuple[Problem, str]]) -> list[Verdict]:
        if all(isinstance(problem.check, LineWorldCheck) for problem, _ in jobs):
            return [self._one(job) for job in jobs]
        with ThreadPoolExecutor(self.jobs) as pool:
            return list(pool.map(self._one, jobs))

    def _one(self, job: tuple[Problem, str]) -> Verdict:
        problem, program = job
        if isinstance(problem.check, LineWorldCheck):
            return problem.check.verdict(program)
        return self.sandbox().run(program, problem.check, self.limits_of(problem))

    def limits_of(self, problem: Problem) -> Limits:
        """With the problem's time of the processor, and twice as much by the clock, for others may be at work."""
        if problem.seconds is None:
            return self.limits
        return replace(self.limits, seconds=2 * problem.seconds, cpu_seconds=problem.seconds)
