"""Rollouts on an engine without a session: thoughts are sampled after prefixes, and everything is scored at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llm.engine import Counts, Engine
from llm.program import CONTENT, MARKER, Program, Thoughts, assemble
from llm.rollouts import Proposals
from ra3sim.abstraction.interface import Step


class SampledRollouts:
    """G rollouts of each of I programs, for E-steps that weight whole trajectories: ``Posterior(threshold=0)``.

    The same distribution and the same attributes as `llm.rollouts.TextRollouts`; the draws are others. All lines are
    drawn when the object is made: per line one call of `sample` for the decision and one for those who think, then
    `score` for the trajectories, and for the probability of thinking at lines without (equal prefixes once).

    Args:
        engine: thinks and scores; other arguments as in `TextRollouts`.
        requests: most that are scored in one call.
        reward: the engine that scores the expert's lines; None: the same.

    Attributes:
        counts: tokens of the answers that were asked for, which is what an engine with a prefix cache computes.

    Raises:
        ValueError: proposals that need more than samples: stratified ones, another temperature than 1, a floor only
            above some probability, the prior of another engine; in `select`, always.

    The end of a thought has in ``log_q`` the log-probability of the token that ended it (`TextRollouts`: of any that
    would). It stands in ``log_prior`` too, so weights are the same.
    """

    def __init__(
        self, engine: Engine, programs: Sequence[Program], numbers: Any, group: int, closing: Any,
        proposals: Proposals, price: float, seed: np.random.SeedSequence, floor: float = 0.0, requests: int = 256,
        reward: Engine | None = None,
    ) -> None:  # fmt: skip
        if proposals.stratified or proposals.temperature != 1 or (floor and proposals.floor_above):
            raise ValueError(
                "proposals: an engine without a session takes stratified=False, temperature=1 and floor_above=0 only; "
                "use llm.rollouts.TextRollouts for others"
            )
        if reward is not None and proposals.prior == "model":
            raise ValueError(
                "prior: with rewards of another model an engine without a session takes 'price' only, got 'model'"
            )
        self._engine, self._requests, self.counts = engine, requests, Counts()
        self.programs, self.group, self.proposals = programs, group, proposals
        self.price, self.floor = price, floor
        T, B = max(map(len, programs)), len(programs) * group
        self.mask = np.arange(T) < np.array([len(program) for program in programs])[:, None]
        self.thoughts: list[list[Any]] = [[None] * len(programs[b // group]) for b in range(B)]
        self.closed = np.ones((B, T), bool)
        self.think = np.zeros((B, T), bool)
        self._log_what = np.zeros((B, T))
        self._prefixes = [list(programs[b // group].ids[: programs[b // group].cuts[0]]) for b in range(B)]
        closing = np.asarray(closing)
        for t in range(T):
            self._draw(t, numbers, closing, seed)
        self.log_kappa, self._log_act, self.log_likelihood = self._score(engine)
        if reward is not None:
            self.log_likelihood = self._score(reward)[2]
        kappa = np.exp(self.log_kappa)
        with np.errstate(divide="ignore"):
            self._log_think = np.log(np.where(kappa > 0, floor + (1 - floor) * kappa, 0))
        self._log_not = np.where(kappa > 0, np.log1p(-floor), 0) + self._log_act
        moved = (1 - floor) * np.exp(self.log_kappa - np.where(kappa > 0, self._log_think, 0))
        self.credit = np.where(self.think, moved, 1)

    def step(self, t: int) -> Step:
        think, what = self.think[:, t], self._log_what[:, t]
        log_q = np.where(think, self._log_think[:, t] + what, self._log_not[:, t])
        if self.proposals.prior == "price":
            log_prior = np.where(think, what - self.price, 0.0)
        else:
            log_prior = np.where(think, self.log_kappa[:, t] + what, self._log_act[:, t])
        length: np.ndarray | None = None
        bonus: np.ndarray | None = None
        if self.proposals.per_token:
            tokens = [max(program.lengths[t], 1) if t < len(program) else 1 for program in self.programs]
            length = np.repeat(np.array(tokens, float)[:, None], self.group, 1)
        if self.proposals.format_penalty:
            ill = [here and not (self.closed[b, t] and self.thoughts[b][t]) for b, here in enumerate(think)]
            bonus = -self.proposals.format_penalty * self._full(np.array(ill, float))
        drawn, q, prior, likelihood = map(self._full, (think, log_q, log_prior, self.log_likelihood[:, t]))
        return Step(drawn, q, prior, likelihood, length, bonus, self._full(np.exp(self.log_kappa[:, t])))

    def select(self, ancestors: np.ndarray) -> None:
        raise ValueError("threshold: these rollouts can't be resampled; use Posterior(threshold=0)")

    def latents(self, b: int) -> Thoughts:
        """The thoughts of a row."""
        return tuple(self.thoughts[b])

    def _full(self, values: np.ndarray) -> np.ndarray:
        return values.reshape(-1, self.group)

    def _draw(self, t: int, numbers: Any, closing: np.ndarray, seed: np.random.SeedSequence) -> None:
        """Decide and write before line t in every row, and append the line."""
        rows = [b for b in range(len(self.thoughts)) if self.mask[b // self.group, t]]
        able = [b for b in rows if self._program(b).marker[t] >= 0]
        keys = {b: (int(numbers[b // self.group]), b % self.group, t) for b in able}
        own = {b: np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, *keys[b])) for b in able}
        states = {b: own[b].generate_state(3, np.uint32).tolist() for b in able}
        forced = {b for b in able if states[b][2] < self.floor * 2**32}
        asked = [b for b in able if b not in forced]
        none = np.zeros(len(closing), bool)
        before = {b: [*self._prefixes[b], *self._program(b).opener(t)] for b in able}
        first = self._sample([before[b][:-1] for b in asked], none, 1, [states[b][0] for b in asked])
        thinks = forced | {b for b, sample in zip(asked, first, strict=True) if sample.ids[0] == before[b][-1]}
        who = [b for b in able if b in thinks]
        most = self.proposals.max_thought
        found = self._sample([before[b] for b in who], closing, most, [states[b][1] for b in who])
        for b, sample in zip(who, found, strict=True):
            self.think[b, t], self.thoughts[b][t], self.closed[b, t] = True, sample.ids, sample.stop is not None
            self._log_what[b, t] = sum(sample.log_probs) + (sample.stop or 0)
            self._prefixes[b] = [*before[b], *sample.ids, *self._program(b).closer[t]]
        for b in rows:
            self._prefixes[b] += list(self._program(b).line(t))

    def _sample(self, prefixes: list[Any], stop: np.ndarray, most: int, seeds: list[int]) -> list[Any]:
        if not prefixes:
            return []
        found = self._engine.sample(prefixes, stop=stop, max_new_tokens=most, seeds=seeds)
        self._count(sum(len(one.ids) + (one.stop is not None) for one in found))
        return found

    def _count(self, tokens: int) -> None:
        self.counts.computed += tokens
        self.counts.needed += tokens

    def _score(self, engine: Engine) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The trajectories as they are under a model: log κ, log(1 - κ) where they did not think, and of the lines."""
        shape = (len(self.thoughts), self.mask.shape[1])
        log_kappa, log_act, log_likelihood = np.full(shape, -np.inf), np.zeros(shape), np.zeros(shape)
        rows = [assemble(self._program(b), thoughts) for b, thoughts in enumerate(self.thoughts)]
        asked: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}

        def ask(ids: np.ndarray, until: int, more: Any) -> int:
            return asked.setdefault((tuple(ids[:until].tolist()), tuple(int(x) for x in more)), len(asked))

        whole = [
            ask(row.ids, self._program(b).cuts[0], row.ids[self._program(b).cuts[0] :]) for b, row in enumerate(rows)
        ]
        acted = [
            (b, row.line[at], ask(row.ids, at, row.marker[at : at + 1]))
            for b, row in enumerate(rows)
            for at in np.flatnonzero((row.marker >= 0) & (row.kind != MARKER)).tolist()
        ]
        values: list[np.ndarray] = []
        pairs = list(asked)
        for k in range(0, len(pairs), self._requests):
            values += engine.score(*zip(*pairs[k : k + self._requests], strict=True))
        self._count(sum(map(len, values)))
        for b, t, place in acted:
            log_kappa[b, t] = values[place][0]
            # A decision that was drawn has a probability, even where float32 has none left for it.
            log_act[b, t] = np.log(max(-np.expm1(float(values[place][0])), 1e-12))
        for b, (row, place) in enumerate(zip(rows, whole, strict=True)):
            value = np.concatenate([np.zeros(self._program(b).cuts[0]), values[place]])
            thought, content = row.kind == MARKER, row.kind == CONTENT
            log_kappa[b, row.line[thought]] = value[thought]
            np.add.at(log_likelihood[b], row.line[content], value[content])
            # To act is a decision of its own: the line is scored given that no thought came.
            decided = row.line[content & (row.marker >= 0)]
            log_likelihood[b, decided] -= log_act[b, decided]
        return log_kappa, log_act, log_likelihood

    def _program(self, b: int) -> Program:
        return self.programs[b // self.group]
