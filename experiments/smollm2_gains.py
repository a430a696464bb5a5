"""What comments before a line do for it and for all lines after it, under a language model as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from experiments.smollm2_runs import Base
from llm.gains import line_log_likelihoods
from llm.lines import Lines
from llm.program import Program, assemble
from llm.records import code
from llm.rollouts import Proposals, TextRollouts
from ra3sim.em import run_rollouts

CONTROLS = ("leak", "todo", "random")
# As good as 1: κ̃ = floor + (1 - floor) κ must stay below 1, so that its logarithm is known.
_SURELY = 1 - 1e-12


def measure(
    config: Any, base: Base, numbers: Sequence[int], seed: np.random.SeedSequence, progress: Callable[[float], None]
) -> dict[str, Any]:
    """Log-likelihoods of held-out programs (by their numbers) from a random line on, with one comment before it.

    Returns:
        With P = len(numbers): ``line (P,)``, ``lines (P,)`` (from there to the end), ``tokens (P, 2)`` content tokens,
        ``none (P, 2)`` without a comment, ``leak``, ``todo``, ``random`` ``(P, 2)`` with what gives the line away, with
        "TODO", with another program's line, ``sampled (P, S, 2)``; nats, of the next line alone and of all lines to
        the end. ``text``: [place, comment] of what was drawn.
    """
    draws, choices = seed.spawn(2)
    rng = np.random.default_rng(choices)
    programs = [base.held_out[number] for number in numbers]
    places = [int(rng.choice(np.flatnonzero((one.marker >= 0) & (one.lengths > 0)))) for one in programs]
    rests = [from_line(one, t) for one, t in zip(programs, places, strict=True)]
    drawn, thoughts = _sampled(config, base, rests, draws)
    progress(0.6)
    comments: dict[str, list[str | None]] = {"none": [None] * len(rests), "todo": [" TODO"] * len(rests)}
    comments["leak"] = [" " + _texts(base.lines, one)[t] for one, t in zip(programs, places, strict=True)]
    comments["random"] = [" " + _line_of_another(base, number, rng) for number in numbers]
    found = {}
    for done, (name, texts) in enumerate(comments.items()):
        found[name] = _given(base, rests, texts)
        progress(0.6 + 0.1 * (done + 1))
    lengths = [one.lengths for one in rests]
    return {
        **found,
        "sampled": drawn,
        "line": np.array(places),
        "lines": np.array([len(one) for one in rests]),
        "tokens": np.array([[one[0], one.sum()] for one in lengths]),
        "text": [
            [f"{one.name}, line {t}", base.lines.thought_text(thought)]
            for one, t, some in zip(programs, places, thoughts, strict=True)
            for thought in some
        ],
    }


def from_line(program: Program, t: int) -> Program:
    """The lines from t on; what was before is the prompt, and a thought may stand before line t alone."""
    content, marker = program.content.copy(), np.full(len(program) - t, -1)
    content[: program.cuts[t]] = False
    marker[0] = program.marker[t]
    return replace(
        program, cuts=program.cuts[t:], split=np.where(marker < 0, 0, program.split[t:]), marker=marker,
        content=content, closer=program.closer[t:],
    )  # fmt: skip


def _sampled(
    config: Any, base: Base, rests: Sequence[Program], seed: np.random.SeedSequence
) -> tuple[np.ndarray, list[list[Any]]]:
    """``(P, S, 2)`` with comments as the model draws them, and these."""
    S = config.samples
    proposals = Proposals(config.max_thought, per_token=False)
    closing = torch.from_numpy(base.lines.closing)
    rollouts = TextRollouts(
        base.module, base.module, rests, range(len(rests)), S, closing, proposals, 0.0, seed, floor=_SURELY
    )  # fmt: skip
    run_rollouts(rollouts)
    found = rollouts.log_likelihood.reshape(len(rests), S, -1)
    thoughts = [[rollouts.latents(i * S + g)[0] for g in range(S)] for i in range(len(rests))]
    return np.stack([found[..., 0], found.sum(-1)], -1), thoughts


def _given(base: Base, rests: Sequence[Program], texts: Sequence[str | None]) -> np.ndarray:
    """``(P, 2)`` with given comments."""
    rows = []
    for rest, text in zip(rests, texts, strict=True):
        thought = None if text is None else base.lines.thought(text)
        rows.append(assemble(rest, (thought, *[None] * (len(rest) - 1))))
    found = line_log_likelihoods(base.module, rows, torch.from_numpy(base.lines.closing))
    return np.array([[values[0], values.sum()] for values in found])


def _line_of_another(base: Base, number: int, rng: np.random.Generator) -> str:
    """The text of a random line of another held-out program."""
    other = base.held_out[(number + rng.integers(1, len(base.held_out))) % len(base.held_out)]
    return str(rng.choice(_texts(base.lines, other)))


def _texts(lines: Lines, program: Program) -> list[str]:
    """The text of each line, of several physical ones the first, without white space around."""
    return [text.strip().splitlines()[0] for text in code(lines, program)]
