"""Corpora and tasks drawn from a LineWorld.

Every program takes one row of a matrix of uniform numbers, which NumPy fills row by row: so the first n programs of a
larger draw with the same seed are the same, and corpora that differ in one share differ nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ra3sim.envs._grid import check_probability
from ra3sim.envs.lineworld import _read
from ra3sim.envs.lineworld.tasks import LineProgram, LineTask, as_registers

if TYPE_CHECKING:
    from ra3sim.envs.lineworld.world import LineWorld

RULES = ("random", "wrong", "both")
# Streams of random numbers; a world's own things are drawn from streams 0 to 3.
_PRETRAINING, _EXPERT, _HELD_OUT = 4, 5, 6


def pretraining(
    world: LineWorld,
    count: int,
    seed: int,
    rule: str,
    commented: float,
    segments: float,
    wrong_comments: float,
) -> list[LineProgram]:
    """What `LineWorld.pretraining` says."""
    if rule not in RULES:
        raise ValueError(f"rule: there is no rule {rule!r}; choose one of {', '.join(map(repr, RULES))}")
    for name, share in (("commented", commented), ("segments", segments), ("wrong_comments", wrong_comments)):
        check_probability(name, share)
    depth = world.depth
    uniform = _rng(world, _PRETRAINING, seed).random((_read.count("count", count), 7 * depth + 1))
    with_comments = uniform[:, -1:] < commented
    word, mode, skill, follow, segment, wrong, other = np.split(uniform[:, :-1], 7, axis=1)
    words, modes, skills = (_below(n, u) for n, u in ((world.words, word), (world.modes, mode), (world.skills, skill)))
    share = {"random": 0.0, "wrong": 1.0, "both": 0.5}[rule]
    skills = np.where(follow < share, world.wrong_rule[words], skills)
    # Going on by 1 to K - 1 from the right one, round the skills, is uniform over the others.
    others = (skills + 1 + _below(world.skills - 1, other)) % world.skills
    comments = np.where(wrong < wrong_comments, others, skills)
    comments = np.where(with_comments & (segment < segments), comments, -1)
    lines = world.lines_of(modes, skills)
    tasks = make_tasks(world, words, modes, world.machine.run(lines, world.inputs))
    return _programs(world, tasks, lines, skills, comments)


def expert(world: LineWorld, count: int, seed: int) -> list[LineProgram]:
    """What `LineWorld.expert` says."""
    indices = world.split("expert")
    uniform = _rng(world, _EXPERT, seed).random(_read.count("count", count))
    tasks = world.tasks_at(indices[_below(len(indices), uniform)])
    words, modes = np.moveaxis(np.array([task.requests for task in tasks], np.int64).reshape(-1, world.depth, 2), 2, 0)
    skills = world.rule[words]
    return _programs(world, tasks, world.lines_of(modes, skills), skills, np.full(skills.shape, -1))


def held_out_tasks(world: LineWorld, count: int | None, seed: int) -> list[LineTask]:
    """What `LineWorld.held_out_tasks` says."""
    indices = world.split("held out")
    if count is not None:
        rounds = -(-_read.count("count", count) // len(indices))
        rng = _rng(world, _HELD_OUT, seed)
        indices = np.concatenate([indices[:0], *(rng.permutation(indices) for _ in range(rounds))])[:count]
    return world.tasks_at(indices)


def make_tasks(world: LineWorld, words: np.ndarray, modes: np.ndarray, outputs: np.ndarray) -> list[LineTask]:
    """Tasks of words and modes ``(n, D)`` each and outputs ``(n, T, R)``."""
    return [
        LineTask(tuple(zip(word, mode, strict=True)), world.inputs, as_registers(output))
        for word, mode, output in zip(words.tolist(), modes.tolist(), outputs.tolist(), strict=True)
    ]


def _programs(
    world: LineWorld, tasks: list[LineTask], lines: np.ndarray, skills: np.ndarray, comments: np.ndarray
) -> list[LineProgram]:
    rows = zip(tasks, lines.tolist(), skills.tolist(), comments.tolist(), strict=True)
    return [LineProgram(task, tuple(one), tuple(two), tuple(three), world) for task, one, two, three in rows]


def _rng(world: LineWorld, stream: int, seed: int) -> np.random.Generator:
    return np.random.default_rng([stream, world.seed, _read.count("seed", seed)])


def _below(number: int, uniform: np.ndarray) -> np.ndarray:
    """Numbers from 0 to ``number - 1``, equally likely up to rounding."""
    return (uniform * number).astype(np.int64)
