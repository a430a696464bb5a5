"""What a LineWorld hands out: tasks, programs, verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ra3sim.envs.lineworld.world import LineWorld

Registers = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class LineTask:
    """Requests, and what a program has to do to the test inputs.

    Args:
        requests: D pairs (word, mode), one a segment.
        inputs: registers ``(T, R)`` before the program runs.
        outputs: registers ``(T, R)`` after it, modulo the modulus.
    """

    requests: tuple[tuple[int, int], ...]
    inputs: Registers
    outputs: Registers


@dataclass(frozen=True)
class LineProgram:
    """A program made of skills, for a task that it passes or not.

    Args:
        task: what it is for.
        lines: H line numbers.
        skills: D skill numbers, one a segment.
        comments: the skill that the comment before each of the D segments names, -1 without one.
        world: where it was written.
    """

    task: LineTask
    lines: tuple[int, ...]
    skills: tuple[int, ...]
    comments: tuple[int, ...]
    world: LineWorld = field(repr=False)

    @property
    def text(self) -> str:
        """The prompt and the program: `LineWorld.text`."""
        return self.world.text(self)


@dataclass(frozen=True)
class Verdict:
    """Whether a text passes the tests of a task, and if not, why.

    Args:
        passed: every test gave what it should.
        reason: "passed", or the first thing that is wrong.
        outputs: registers ``(T, R)`` after the program; None if it was not run.
    """

    passed: bool
    reason: str
    outputs: Registers | None


def as_registers(values: list[list[int]]) -> Registers:
    """Nested lists of ints as nested tuples."""
    return tuple(map(tuple, values))
