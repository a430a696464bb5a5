"""What the thoughts of a model say in a LineWorld, where the truth is known, and whether its code does as they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llm.engine import InProcess
from llm.likelihood import draw_thoughts, ratio
from llm.lineworld import LineWorldText
from llm.program import Program, Thoughts
from ra3sim.envs.lineworld import LineProgram, LineTask
from ra3sim.spread import Interval, interval

# "#", " s7", and one more that would make it no skill's name.
_MAX_THOUGHT = 3


def insight(
    module: Any, text: LineWorldText, cases: Sequence[LineTask | LineProgram], seed: int, *, batch: int = 4096
) -> dict[str, Interval]:
    """Thoughts drawn blind before the lines of programs, and code written after comments that are put there.

    Args:
        cases: programs, or tasks (then the experts' programs for them), two or more.
        batch: most rows that are scored at once.

    Returns:
        Means with 95 % intervals over programs:

        * ``think``: share of the segments that were thought about at their first line; ``inside``: share of all other
          lines that were.
        * ``right``: share of the thoughts at first lines that name the segment's true skill; ``information``: between
          what they name and the true skill, nats, with a jackknife over programs that takes away the bias of
          first order of the plug-in estimate (Miller 1955). Both are left out where fewer than two programs have such
          thoughts. What names no skill counts as one more name.
        * ``obeys``: probability that the model, after a comment with another skill than the true one, writes that
          skill's lines in the mode that is asked for, and no comment between them; a model that ignores comments has
          0. ``follows``: the same after the true skill's name. Its own thoughts stand before earlier segments.

    Raises:
        ValueError: fewer than two cases.
    """
    if len(cases) < 2:
        raise ValueError(f"cases: give two or more for an interval, got {len(cases)}")
    experts = [text.world.program(case) if isinstance(case, LineTask) else case for case in cases]
    programs = text.programs(experts)
    draws, choices = np.random.SeedSequence(seed).spawn(2)
    thoughts, _ = draw_thoughts(module, programs, text.lines.closing, max_thought=_MAX_THOUGHT, seed=draws)
    there = np.array([[latent is not None for latent in latents] for latents in thoughts])
    true = np.array([expert.skills for expert in experts])
    length, skills = text.world.length, text.world.skills
    first = there[:, ::length]
    found = {"think": interval(first.mean(1))}
    if length > 1:
        found["inside"] = interval(there.reshape(len(cases), -1, length)[..., 1:].mean((1, 2)))
    if (first.any(1)).sum() >= 2:
        named = np.array([[-1 if x is None else text.named(x) for x in latents[::length]] for latents in thoughts])
        found["right"] = ratio((first & (named == true)).sum(1), first.sum(1))
        tables = np.zeros((len(cases), skills + 1, skills))
        program, segment = np.nonzero(first)
        np.add.at(tables, (program, named[program, segment], true[program, segment]), 1)
        found["information"] = information(tables[first.any(1)])
    # Round the skills by 1 to K - 1 from the true one: uniform over the others.
    others = (true + np.random.default_rng(choices).integers(1, skills, true.shape)) % skills
    for name, forced in (("obeys", others), ("follows", true)):
        found[name] = interval(_obeyed(module, text, experts, programs, thoughts, forced, batch).mean(1))
    return found


def information(tables: np.ndarray) -> Interval:
    """Mutual information in nats of the two variables whose counts are in ``tables (n, J, K)``, one for each program.

    The jackknife's estimate n I - (n - 1) mean of I without one program, and its interval; a bias of order 1/n is
    gone. It can be slightly negative. Thoughts of one program need not be independent.
    """
    n = len(tables)
    total = tables.sum(0)
    whole, without = _plug_in(total[None])[0], _plug_in(total - tables)
    return interval(n * whole - (n - 1) * without)


def _plug_in(tables: np.ndarray) -> np.ndarray:
    p = tables / tables.sum((-2, -1), keepdims=True)
    independent = p.sum(-1, keepdims=True) * p.sum(-2, keepdims=True)
    return np.sum(p * np.log(np.where(p > 0, p, 1) / np.where(p > 0, independent, 1)), (-2, -1))


def _obeyed(
    module: Any, text: LineWorldText, experts: Sequence[LineProgram], programs: Sequence[Program],
    thoughts: Sequence[Thoughts], forced: np.ndarray, batch: int,
) -> np.ndarray:  # fmt: skip
    """Probability of the forced skills' lines after their comments, ``(n, D)``."""
    prefixes, continuations = [], []
    for n, (expert, program) in enumerate(zip(experts, programs, strict=True)):
        other = text.program(text.world.program(expert.task, forced[n].tolist()))
        for segment, skill in enumerate(forced[n]):
            t = segment * text.world.length
            comment = [*program.opener(t), *text.skills[skill], *program.closer[t]]
            prefixes.append([*_before(program, thoughts[n], t), *comment])
            # Up to the last statement: a program's last line carries the mark of the end too.
            stop = np.flatnonzero(other.content[: other.cuts[t + text.world.length]])[-1] + 1
            continuations.append(other.ids[other.cuts[t] : stop])
    engine, found = InProcess(module), []
    for k in range(0, len(prefixes), batch):
        found += engine.score(prefixes[k : k + batch], continuations[k : k + batch])
    return np.exp([values.sum(dtype=float) for values in found]).reshape(forced.shape)


def _before(program: Program, thoughts: Thoughts, t: int) -> list[int]:
    """Ids of the prompt and the lines before t, with their thoughts."""
    ids = list(program.ids[: program.cuts[0]])
    for u in range(t):
        if (thought := thoughts[u]) is not None:
            ids += [*program.opener(u), *thought, *program.closer[u]]
        ids += list(program.line(u))
    return ids
