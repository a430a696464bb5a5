"""Tasks of a LineWorld as problems: an interpreter of our own judges them, so that no process is needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from llm.lineworld import LineWorldText
from llm.problems.problem import WHOLE, Problem
from llm.sandbox import Verdict
from ra3sim.envs.lineworld import LineTask, LineWorld

PRESET = "text"
BENCHMARKS = {"lineworld": "expert", "lineworld-held-out": "held out"}


@dataclass(frozen=True)
class LineWorldCheck:
    """The tests of a task in the world of a preset."""

    preset: str
    task: LineTask

    def verdict(self, program: str) -> Verdict:
        found = text_of(self.preset).world.verify(self.task, program)
        return Verdict("passed" if found.passed else "failed", "" if found.passed else found.reason)


@cache
def text_of(preset: str = PRESET) -> LineWorldText:
    return LineWorldText(LineWorld.preset(preset))


def problems(benchmark: str, count: int | None, seed: int) -> list[Problem]:
    """Tasks in a random order that goes with the seed: of those that experts show, or of those held out.

    The held-out ones are in the order of `LineWorld.held_out_tasks`.

    Raises:
        ValueError: there are not so many.
    """
    text = text_of()
    numbers = text.world.split(BENCHMARKS[benchmark])
    count = len(numbers) if count is None else count
    if not 1 <= count <= len(numbers):
        raise ValueError(f"problems: {benchmark} has {len(numbers)} tasks, got {count}; give a number from 1 to that")
    if benchmark == "lineworld":
        tasks = text.world.tasks_at(np.random.default_rng([seed, 1]).permutation(numbers)[:count])
    else:
        tasks = text.world.held_out_tasks(count, seed)
    return [_problem(benchmark, text, task) for task in tasks]


def _problem(benchmark: str, text: LineWorldText, task: LineTask) -> Problem:
    """Text after the H-th line of a program would be more of it, so nothing but the end of the text stops it."""
    program = text.world.program(task)
    return Problem(
        name="LineWorld/" + ",".join(f"w{word}.m{mode}" for word, mode in task.requests),
        benchmark=benchmark, prompt=text.prompt(task), rule=WHOLE, reference=text.code(program),
        check=LineWorldCheck(PRESET, task),
        settings={"prompt": f"LineWorld, preset {PRESET!r}, requests", "examples": 0, "source": "this project"},
    )  # fmt: skip
