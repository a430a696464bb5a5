"""How well a model with thoughts explains held-out programs: its marginal likelihood, and what it is compared with.

The likelihood of code given thoughts is no likelihood of the code, and it misranks methods: thoughts cost nothing in
it, and only those that happened to be drawn count. So the marginal p(code) = Σ_z p(z) p(code | z) stands beside it, and
the ordinary likelihood of the same tokens, and controls: comments that say nothing, comments of other programs, and
comments that give the next line away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from llm.gains import line_log_likelihoods
from llm.models import kv_bytes_per_token
from llm.program import Program, Row, Thought, Thoughts, assemble
from llm.rollouts import Proposals, TextRollouts
from ra3sim.abstraction import effective_sample_size
from ra3sim.em import run_rollouts, run_smc
from ra3sim.spread import Interval, interval

CONTROLS = ("own", "dummy", "other", "leak")


@dataclass(frozen=True)
class Likelihood:
    """What `measure` finds for n programs; arrays are ``(n,)``, nats summed over a program.

    Attributes:
        tokens: content tokens: what likelihoods are of.
        plain: -log p of the content in the text without thoughts: ordinary cross-entropy, restricted to these tokens.
            Where a line's first content token is where the model could have thought, not to think is part of it.
        blind: -log p(content | z) with thoughts z drawn blind from the model, one draw; not to think is given, too.
        marginal: -log of an estimate of p(content) = Σ_z p(z) p(content | z). Before the logarithm the estimate is
            unbiased, so ``marginal`` is too large on average; it falls to the true value as particles grow.
        sample_size: effective number of the particles at the end; near 1, trust ``marginal`` as an upper bound only.
        lines: where thoughts may stand; thoughts: lines that the blind draw thought about.
        places: lines that the controls stood before, 0 without controls.
        own, dummy, other, leak: by how much the blind draw's own thoughts, a dummy, thoughts of another program, and
            the line itself raise the log-likelihood of the content, beside no thoughts at all (given that none came).
            ``own`` stands at the places that were thought about. NaN where there is nothing to put or no control asked.
        particles: of ``marginal``.
    """

    tokens: np.ndarray
    plain: np.ndarray
    blind: np.ndarray
    marginal: np.ndarray
    sample_size: np.ndarray
    lines: np.ndarray
    thoughts: np.ndarray
    places: np.ndarray
    own: np.ndarray
    dummy: np.ndarray
    other: np.ndarray
    leak: np.ndarray
    particles: int

    def summary(self) -> dict[str, Interval]:
        """Means with 95 % intervals over programs; needs two programs or more.

        ``plain``, ``blind``, ``marginal`` and ``gain`` (plain - marginal) in nats per content token of all programs,
        ``think`` as a share of the lines where thoughts may stand, and the controls in nats for each line that they
        stand before (left out where there are none).
        """
        nats = {"plain": self.plain, "blind": self.blind, "marginal": self.marginal, "gain": self.plain - self.marginal}
        found = {name: ratio(values, self.tokens) for name, values in nats.items()}
        if self.lines.any():
            found["think"] = ratio(self.thoughts, self.lines)
        for name in CONTROLS:
            values, places = getattr(self, name), self.thoughts if name == "own" else self.places
            there = np.isfinite(values)
            if there.sum() >= 2:
                found[name] = ratio(values[there], places[there])
        return found


def measure(
    module: Any, programs: Sequence[Program], closing: Any, *, max_thought: int, seed: int, particles: int = 16,
    dummy: Thought | None = None, leak: Callable[[Program, int], Thought] | None = None,
    places: Sequence[np.ndarray] | None = None, controls: bool = True,
    threshold: float = 0.5, lag: float = 0.1, memory: int = 2**29,
) -> Likelihood:  # fmt: skip
    """Likelihoods of programs under a transformers model. What is drawn depends on the seed and the program's number.

    Args:
        closing: boolean ``(V,)``, array or tensor: the tokens that close a thought (`llm.lines.Lines.closing`).
        max_thought: most tokens of a thought; longer ones are cut off there, as part of the model.
        dummy: the thought that says nothing; None: that control is left out.
        leak: the thought that gives line t of a program away; None: the content of the line, but for tokens that would
            close the thought.
        places: for each program boolean ``(T,)``, where controls stand; None: where the blind draw thought. Leave
            out a first line that has only the mark of the beginning before it: any comment says there that code comes.
        controls: False saves their time.
        threshold, lag: see `ra3sim.em.Posterior`; ``threshold=0`` is plain importance weighting.
        memory: most bytes of keys and values that are held at once, reckoned with thoughts before every line. A program
            that needs more for its particles goes alone.

    Raises:
        ValueError: no programs, one that is too long for the model, or places where no thought may stand.

    About the estimate see `ra3sim.em.run_smc`; particles share out the unit interval for each draw, which keeps it
    unbiased.
    """
    _check(module, programs, particles, places)
    closing = _padded(closing, module)
    seeds = np.random.SeedSequence(seed).spawn(3)
    with _evaluating(module):
        thoughts, blind = draw_thoughts(
            module, programs, closing, max_thought=max_thought, seed=seeds[0], memory=memory
        )
        marginal, sample_size = _marginal(
            module, programs, closing, particles, max_thought, seeds[1], memory, threshold=threshold, lag=lag
        )
        none = [assemble(program, (None,) * len(program)) for program in programs]
        given = _log_likelihoods(module, none, closing)
        # Without markers nothing is given: every token has its whole log-probability.
        plain = _log_likelihoods(module, [replace(row, marker=np.full_like(row.marker, -1)) for row in none], closing)
        found = dict.fromkeys(CONTROLS, np.full(len(programs), np.nan))
        thought = [np.array([latent is not None for latent in latents]) for latents in thoughts]
        there = places if places is not None else thought
        if controls:
            ends = closing.cpu().numpy()
            put = _controls(
                programs, thoughts, there, dummy, leak or partial(_content, ends), np.random.default_rng(seeds[2])
            )
            found |= {name: _gain(module, programs, rows, given, closing) for name, rows in put.items()}
            found["own"] = np.where([here.any() for here in thought], blind - given, np.nan)
    return Likelihood(
        tokens=np.array([int(program.lengths.sum()) for program in programs]),
        plain=-plain, blind=-blind, marginal=-marginal, sample_size=sample_size,
        lines=np.array([int((program.marker >= 0).sum()) for program in programs]),
        thoughts=np.array([int(here.sum()) for here in thought]),
        places=np.array([int(np.sum(here)) if controls else 0 for here in there]),
        particles=particles, **found,
    )  # fmt: skip


def draw_thoughts(
    module: Any, programs: Sequence[Program], closing: Any, *, max_thought: int, seed: np.random.SeedSequence,
    memory: int = 2**29,
) -> tuple[list[Thoughts], np.ndarray]:  # fmt: skip
    """Thoughts drawn blind before the lines of each program, and log p(content | thoughts) ``(n,)``, nats.

    Arguments as in `measure`.
    """
    closing = _padded(closing, module)
    proposals = Proposals(max_thought, prior="model", per_token=False)
    thoughts: dict[int, Thoughts] = {}
    log_likelihood = np.zeros(len(programs))
    with _evaluating(module):
        for numbers in _parts(module, programs, 1, max_thought, memory):
            chosen = [programs[k] for k in numbers]
            rollouts = TextRollouts(module, module, chosen, numbers, 1, closing, proposals, 0.0, seed)
            run_rollouts(rollouts)
            log_likelihood[numbers] = rollouts.log_likelihood.sum(1)
            thoughts |= {int(number): rollouts.latents(row) for row, number in enumerate(numbers)}
    return [thoughts[k] for k in range(len(programs))], log_likelihood


def ratio(values: np.ndarray, by: np.ndarray) -> Interval:
    """Σ values / Σ by over programs, with a 95 % interval (that of its linearisation in them; Cochran 1977).

    Raises:
        ValueError: fewer than two programs, or Σ by = 0.

    >>> [round(float(x), 3) for x in ratio(np.array([1.0, 4.0, 3.0]), np.array([1, 2, 1]))]
    [2.0, 0.137, 3.863]
    """
    if not by.sum() > 0:
        raise ValueError("by: its sum must be positive; there is nothing to divide by")
    mean = values.sum() / by.sum()
    return interval(mean + (values - mean * by) / by.mean())


def _check(module: Any, programs: Sequence[Program], particles: int, places: Sequence[np.ndarray] | None) -> None:
    if not programs:
        raise ValueError("programs: none given")
    if particles < 1:
        raise ValueError(f"particles: must be at least 1, got {particles}")
    longest, most = max(len(program.ids) for program in programs), module.config.max_position_embeddings
    if longest > most:
        raise ValueError(f"programs: one has {longest} tokens, and the model takes {most}; leave long ones out")
    if places is not None:
        if [len(here) for here in places] != [len(program) for program in programs]:
            raise ValueError("places: give one array for each program, with an entry for each of its lines")
        if any((here & (program.marker < 0)).any() for here, program in zip(places, programs, strict=True)):
            raise ValueError("places: no thought may stand where a program's marker is -1")


def _padded(closing: Any, module: Any) -> torch.Tensor:
    """For every id that the model knows, on its device; a model may know more than its tokenizer has."""
    closing = torch.as_tensor(closing)
    padded = torch.zeros(max(len(closing), module.config.vocab_size), dtype=torch.bool)
    padded[: len(closing)] = closing
    return padded.to(next(module.parameters()).device)


@contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """Without dropout, for a while."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def _parts(module: Any, programs: Sequence[Program], group: int, max_thought: int, memory: int) -> Iterator[np.ndarray]:
    """Numbers of the programs that are run together: of like lengths, within the memory."""
    # Before every line a thought with its marker, closer and repeated white space.
    size = [len(program.ids) + len(program) * (max_thought + 3) for program in programs]
    positions = memory // (group * kv_bytes_per_token(module))
    part: list[int] = []
    widest = 0
    for number in sorted(range(len(programs)), key=lambda k: (len(programs[k]), size[k])):
        widest = max(widest, size[number])
        if part and (len(part) + 1) * widest > positions:
            yield np.array(part)
            part, widest = [], size[number]
        part.append(number)
    yield np.array(part)


def _marginal(
    module: Any, programs: Sequence[Program], closing: torch.Tensor, particles: int, max_thought: int,
    seed: np.random.SeedSequence, memory: int, **knobs: float,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Log of the estimate of p(content), and the effective number of particles."""
    proposals = Proposals(max_thought, prior="model", per_token=False, stratified=True)
    draws, resampling = seed.spawn(2)
    uniforms = np.random.default_rng(resampling).random((len(programs), max(map(len, programs))))
    log_evidence, sample_size = np.zeros((2, len(programs)))
    for numbers in _parts(module, programs, particles, max_thought, memory):
        chosen = [programs[k] for k in numbers]
        rollouts = TextRollouts(module, module, chosen, numbers, particles, closing, proposals, 0.0, draws)
        smc = run_smc(rollouts, uniforms[numbers], **knobs)
        log_evidence[numbers], sample_size[numbers] = smc.log_evidence, effective_sample_size(smc.weights)
    return log_evidence, sample_size


def _log_likelihoods(module: Any, rows: Sequence[Row], closing: torch.Tensor) -> np.ndarray:
    """log p of the content of each row given its thoughts, and that no others came: ``(n,)``."""
    return np.array([values.sum() for values in line_log_likelihoods(module, rows, closing)])


def _controls(
    programs: Sequence[Program], thoughts: Sequence[Thoughts], places: Sequence[np.ndarray], dummy: Thought | None,
    leak: Callable[[Program, int], Thought], rng: np.random.Generator,
) -> dict[str, dict[int, Row]]:  # fmt: skip
    """Rows with the comments of each control, by the numbers of the programs that have any."""
    pool = [(k, latent) for k, latents in enumerate(thoughts) for latent in latents if latent is not None]
    owner = np.array([k for k, _ in pool])
    rows: dict[str, dict[int, Row]] = {"dummy": {}, "other": {}, "leak": {}}
    for k, (program, here) in enumerate(zip(programs, places, strict=True)):
        at = np.flatnonzero(here).tolist()
        others = np.flatnonzero(owner != k)
        put: dict[str, list[Thought]] = {"leak": [leak(program, t) for t in at]}
        if dummy is not None:
            put["dummy"] = [dummy] * len(at)
        if len(others):
            put["other"] = [pool[j][1] for j in rng.choice(others, len(at))]
        for name, latents in put.items():
            # Comments that are all empty would be no control.
            if at and (name != "leak" or any(latents)):
                before = dict(zip(at, latents, strict=True))
                rows[name][k] = assemble(program, [before.get(t) for t in range(len(program))])
    return rows


def _gain(
    module: Any, programs: Sequence[Program], rows: dict[int, Row], given: np.ndarray, closing: torch.Tensor
) -> np.ndarray:
    """What rows with comments have more than ``given`` none, ``(n,)``; NaN for programs without a row."""
    found = np.full(len(programs), np.nan)
    if rows:
        numbers = list(rows)
        found[numbers] = _log_likelihoods(module, list(rows.values()), closing) - given[numbers]
    return found


def _content(ends: np.ndarray, program: Program, t: int) -> Thought:
    """The content of line t, without what would end a thought."""
    line = program.line(t)
    return tuple(line[program.content[program.cuts[t] : program.cuts[t + 1]] & ~ends[line]].tolist())
