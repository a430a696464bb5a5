"""LineWorld: a small programming language that is a table with exact solutions and a text for a language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from ra3sim import _check
from ra3sim.envs.lineworld import draws
from ra3sim.envs.lineworld._read import count
from ra3sim.envs.lineworld.machine import Machine
from ra3sim.envs.lineworld.skills import draw_inputs, draw_rules, draw_templates
from ra3sim.envs.lineworld.table import LineTable
from ra3sim.envs.lineworld.tasks import LineProgram, LineTask, Registers, Verdict, as_registers

SPLITS = ("expert", "held out", "all")
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": dict(skills=3, length=2, depth=2, lines=3, modes=1, words=3, ambiguity=2, tests=1),
    "table": dict(skills=8, words=4, modes=1, ambiguity=4, modulus=3),
    "text": {},
}

MAX_TASKS = 2_000_000
_MAX_PROGRAMS = 200_000
# Tasks are made so many at a time: the machine runs that many programs side by side.
_BLOCK = 4096


@dataclass(frozen=True)
class LineWorld:
    """A language of register programs, skills made of its lines, and tasks that ask for skills by words.

    A program has D segments of L lines, H = D L lines in all. A *skill* is a template of L lines, another one in each
    *mode*. A task asks for a skill in each segment by a pair (word, mode) and gives the outputs of some test inputs.
    Experts translate word u into skill ``rule[u]``; a pretraining corpus may follow ``wrong_rule`` instead. Everything
    is drawn from ``seed``; the same arguments give the same world.

    Args:
        skills: K, at least 2.
        length: L, lines of a skill.
        depth: D, segments of a program.
        lines: A, size of the alphabet of lines: the primitive actions.
        modes: M.
        words: U, at most K.
        ambiguity: how many skills share a first line, in each mode; 1: the first line tells the skill (if the alphabet
            has fewer lines than there are groups, groups share first lines, as evenly as may be).
        registers: R.
        modulus: what registers are reduced by, from 2 to 1000.
        tests: T, number of test inputs.
        discount: γ in [0, 1), per line.
        held_out: share of the tasks that experts never show.
        seed: of templates, rules, inputs and the split, each from a stream of its own.

    Raises:
        ValueError: naming the argument, the place and the remedy.

    >>> world = LineWorld.preset("tiny")
    >>> world.num_tasks, world.horizon
    (9, 4)
    >>> task = world.task([(0, 0), (2, 0)])
    >>> print(world.text(world.program(task)))
    # f(4, 3) = (0, 3)
    # w0.m0 w2.m0
    a += b
    a, b = b, a
    a, b = b, a
    a += b
    <BLANKLINE>
    >>> world.verify(task, "a += b").reason
    'the program has 1 line and needs 4'
    """

    skills: int = 10
    length: int = 3
    depth: int = 3
    lines: int = 6
    modes: int = 4
    words: int = 10
    ambiguity: int = 5
    registers: int = 2
    modulus: int = 5
    tests: int = 2
    discount: float = 0.95
    held_out: float = 0.2
    seed: int = 0
    machine: Machine = field(init=False, repr=False, compare=False)
    templates: np.ndarray = field(init=False, repr=False, compare=False)  # (M, K, L) line numbers
    rule: np.ndarray = field(init=False, repr=False, compare=False)  # (U,) skills
    wrong_rule: np.ndarray = field(init=False, repr=False, compare=False)  # (U,) skills
    inputs: Registers = field(init=False, repr=False, compare=False)  # (T, R)

    def __post_init__(self) -> None:
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731  (the container is frozen)
        for name in ("length", "depth", "modes", "words", "tests"):
            put(name, count(name, getattr(self, name), 1))
        put("skills", count("skills", self.skills, 2))  # one skill leaves no wrong rule
        put("seed", count("seed", self.seed))
        put("ambiguity", count("ambiguity", self.ambiguity, 1, self.skills))
        if self.words > self.skills:
            raise ValueError(
                f"words: {self.words} words cannot stand for different ones of {self.skills} skills; take at most "
                f"{self.skills} words"
            )
        put("discount", _check.check_discount(self.discount))
        put("machine", Machine(self.registers, self.modulus, self.lines))
        for name in ("registers", "modulus", "lines"):
            put(name, getattr(self.machine, name))
        self._check_tasks()
        rng = [np.random.default_rng([stream, self.seed]) for stream in range(3)]
        templates = draw_templates(self.machine, self.modes, self.skills, self.length, self.ambiguity, rng[0])
        put("templates", _check.freeze(templates))
        for name, rule in zip(("rule", "wrong_rule"), draw_rules(self.words, self.skills, rng[1]), strict=True):
            put(name, _check.freeze(rule))
        put("inputs", draw_inputs(self.machine, self.tests, rng[2]))

    @staticmethod
    def preset(name: str, **overrides: Any) -> LineWorld:
        """A world of a size for a purpose, with some arguments changed.

        "tiny": all programs and tasks can be enumerated. "table": for exact tabular experiments; 4 of 8 skills are the
        experts'. "text": for a small language model, with 10 words and 4 modes.

        Raises:
            ValueError: there is no such preset, or an argument that does not exist or does not fit.

        >>> LineWorld.preset("table", seed=3).num_tasks
        64
        """
        if name not in PRESETS:
            raise ValueError(f"name: there is no preset {name!r}; choose one of {', '.join(map(repr, PRESETS))}")
        known = [f.name for f in LineWorld.__dataclass_fields__.values() if f.init]
        if unknown := sorted(set(overrides) - set(known)):
            raise ValueError(f"overrides: there is no argument {unknown[0]!r}; there are {', '.join(known)}")
        return LineWorld(**{**PRESETS[name], **overrides})

    @property
    def horizon(self) -> int:
        """H, the lines of a program."""
        return self.depth * self.length

    @property
    def num_tasks(self) -> int:
        """(U M)^D: all requests, each with the outputs of the experts' program."""
        return (self.words * self.modes) ** self.depth

    def task(self, requests: Sequence[tuple[int, int]]) -> LineTask:
        """The task of D requests (word, mode), with the outputs of the experts' program.

        Raises:
            ValueError: not D pairs, an unknown word or an unknown mode.
        """
        return self.task_at(self.task_index(requests))

    def task_index(self, requests: Sequence[tuple[int, int]]) -> int:
        """The number, from 0 to ``num_tasks - 1``, of the task of these requests; errors as in `task`."""
        shape = f"requests: give {self.depth} pairs (word, mode), got {requests!r}"
        try:
            pairs = [(word, mode) for word, mode in requests]
        except (TypeError, ValueError):
            raise ValueError(shape) from None
        if len(pairs) != self.depth:
            raise ValueError(shape)
        index = 0
        for place, (word, mode) in enumerate(pairs):
            word = count(f"requests[{place}], word", word, 0, self.words - 1)
            mode = count(f"requests[{place}], mode", mode, 0, self.modes - 1)
            index = index * self.words * self.modes + word * self.modes + mode
        return index

    def task_at(self, index: int) -> LineTask:
        """The task of a number; words and modes are its digits, the last request changing first.

        Raises:
            ValueError: there is no such number.
        """
        return self.tasks_at([count("index", index, 0, self.num_tasks - 1)])[0]

    def tasks_at(self, indices: Any) -> list[LineTask]:
        """The tasks of numbers ``(n,)``, run side by side."""
        words, modes = self._requests(np.asarray(indices, dtype=np.int64))
        outputs = self.machine.run(self.lines_of(modes, self.rule[words]), self.inputs)
        return draws.make_tasks(self, words, modes, outputs)

    def split(self, name: str) -> np.ndarray:
        """The numbers, ascending, of the tasks of a split: "expert", "held out", or "all".

        Raises:
            ValueError: there is no such split.
        """
        if name not in SPLITS:
            raise ValueError(f"split: there is no split {name!r}; choose one of {', '.join(map(repr, SPLITS))}")
        return np.arange(self.num_tasks) if name == "all" else self._splits[name]

    def tasks(self, split: str = "all") -> Iterator[LineTask]:
        """All tasks of a split, by their numbers; errors as in `split`."""
        indices = self.split(split)
        return (t for first in range(0, len(indices), _BLOCK) for t in self.tasks_at(indices[first : first + _BLOCK]))

    def held_out_tasks(self, count: int | None = None, seed: int = 0) -> list[LineTask]:
        """All held-out tasks by their numbers, or ``count`` of them in a random order, which repeats none before all
        have had their turn."""
        return draws.held_out_tasks(self, count, seed)

    def pretraining(
        self,
        count: int,
        seed: int,
        rule: str = "random",
        *,
        commented: float = 0.6,
        segments: float = 0.8,
        wrong_comments: float = 0.03,
    ) -> list[LineProgram]:
        """Programs for uniformly random requests that pass their own tests, whether or not they do what was asked.

        The first n of a larger draw with the same seed are the same.

        Args:
            rule: "random": skills are drawn uniformly, whatever the words; "wrong": every segment's skill is
                ``wrong_rule[word]``; "both": each segment's is that with probability 1/2, else uniformly random.
            commented: probability that a program has comments at all.
            segments: probability that a segment of such a program has one.
            wrong_comments: probability that a comment names another skill than the segment's, uniformly.

        Raises:
            ValueError: a negative count or seed, an unknown rule, a share that is no probability.
        """
        return draws.pretraining(self, count, seed, rule, commented, segments, wrong_comments)

    def expert(self, count: int, seed: int) -> list[LineProgram]:
        """Experts' programs, without comments, for tasks drawn uniformly from the experts' split.

        The first n of a larger draw with the same seed are the same.

        Raises:
            ValueError: a negative count or seed.
        """
        return draws.expert(self, count, seed)

    def program(self, task: LineTask, skills: Sequence[int] | None = None, comments: Any = None) -> LineProgram:
        """The program that writes D skills (None: the experts') in the modes of a task; it need not pass the tests.

        Args:
            comments: D skills for comments to name, -1 for none; None: no comments at all.

        Raises:
            ValueError: not D skills, or an unknown one.
        """
        words, modes = np.array(task.requests).T
        chosen = [self.rule[words].tolist() if skills is None else skills, [-1] * self.depth]
        if comments is not None:
            chosen[1] = comments
        for name, values, least in zip(("skills", "comments"), chosen, (0, -1), strict=True):
            if len(values) != self.depth:
                raise ValueError(f"{name}: give {self.depth}, one a segment, got {values!r}")
            for place, value in enumerate(values):
                count(f"{name}[{place}]", value, least, self.skills - 1)
        lines = self.lines_of(modes[None], np.array(chosen[0])[None])[0]
        return LineProgram(task, tuple(lines.tolist()), tuple(chosen[0]), tuple(chosen[1]), self)

    def lines_of(self, modes: np.ndarray, skills: np.ndarray) -> np.ndarray:
        """The lines ``(n, H)`` of programs with these modes and skills, both ``(n, D)``."""
        return self.templates[modes, skills].reshape(len(skills), self.horizon)

    def all_programs(self) -> np.ndarray:
        """Every program there is, ``(A^H, H)`` line numbers.

        Raises:
            ValueError: more than 200,000.
        """
        if self.lines**self.horizon > _MAX_PROGRAMS:
            raise ValueError(
                f"lines: {self.lines}^{self.horizon} programs are more than {_MAX_PROGRAMS:,}; take a smaller world, "
                "such as the preset 'tiny'"
            )
        return np.array(list(product(range(self.lines), repeat=self.horizon)))

    def prompt(self, task: LineTask) -> str:
        """The task as comment lines: one for each test, one for the requests."""
        tests = [f"# f{_say(i)} = {_say(o)}\n" for i, o in zip(task.inputs, task.outputs, strict=True)]
        return "".join(tests) + "# " + " ".join(f"w{word}.m{mode}" for word, mode in task.requests) + "\n"

    def text(self, program: LineProgram) -> str:
        """The prompt and the program, one line an action, with comments such as ``# s7`` before segments."""
        parts = [self.prompt(program.task)]
        for step, line in enumerate(program.lines):
            segment, phase = divmod(step, self.length)
            if phase == 0 and program.comments[segment] >= 0:
                parts.append(f"# s{program.comments[segment]}\n")
            parts.append(self.machine.statements[line] + "\n")
        return "".join(parts)

    def parse(self, text: str) -> tuple[int, ...]:
        """The line numbers of a text; comment lines and blank lines are passed over.

        Raises:
            ValueError: a line that is not in the alphabet.
        """
        return self.machine.parse(text)

    def verify(self, task: LineTask, text: str) -> Verdict:
        """Whether a text is a program of exactly H lines that passes the tests; no text makes this raise."""
        try:
            lines = self.parse(text)
        except ValueError as error:
            return Verdict(False, str(error), None)
        if len(lines) != self.horizon:
            plural = "" if len(lines) == 1 else "s"
            return Verdict(False, f"the program has {len(lines)} line{plural} and needs {self.horizon}", None)
        outputs = as_registers(self.machine.run([lines], task.inputs)[0].tolist())
        for test, (got, wanted) in enumerate(zip(outputs, task.outputs, strict=True)):
            if got != wanted:
                return Verdict(False, f"f{_say(task.inputs[test])} is {_say(got)}, not {_say(wanted)}", outputs)
        return Verdict(True, "passed", outputs)

    def table(self) -> LineTable:
        """The world as states, actions and options; made once.

        Raises:
            ValueError: the registers of all tests can be in too many states.
        """
        return self._table

    @cached_property
    def _table(self) -> LineTable:
        return LineTable(self)

    @cached_property
    def _splits(self) -> dict[str, np.ndarray]:
        order = np.random.default_rng([3, self.seed]).permutation(self.num_tasks)
        held = round(self.held_out * self.num_tasks)
        return {"held out": np.sort(order[:held]), "expert": np.sort(order[held:])}

    def _requests(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Words and modes, ``(n, D)`` each, of task numbers ``(n,)``."""
        base = self.words * self.modes
        digits = indices[:, None] // base ** np.arange(self.depth)[::-1] % base
        return np.divmod(digits, self.modes)

    def _check_tasks(self) -> None:
        if self.num_tasks > MAX_TASKS:
            raise ValueError(
                f"words: ({self.words} words x {self.modes} modes)^{self.depth} tasks are more than {MAX_TASKS:,}; "
                "take fewer words or modes, or a smaller depth"
            )
        try:
            held = round(self.held_out * self.num_tasks) if 0 < self.held_out < 1 else -1
        except TypeError:
            raise ValueError(f"held_out: must be a share between 0 and 1, got {self.held_out!r}") from None
        if not 0 < held < self.num_tasks:
            raise ValueError(
                f"held_out: must leave tasks on both sides, got {self.held_out!r} of {self.num_tasks} tasks; take a "
                "share between 0 and 1, or more words, modes or depth"
            )


def _say(values: Sequence[int]) -> str:
    return f"({', '.join(map(str, values))})"
