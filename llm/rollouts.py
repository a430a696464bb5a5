"""Thoughts drawn line by line before the expert's lines: the rollouts of `ra3sim.abstraction` for a language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from llm.engine import Session, draw
from llm.program import Program, Thoughts
from llm.scoring import decision_log_probs
from ra3sim.abstraction.interface import Step


@dataclass(frozen=True)
class Proposals:
    """How thoughts are proposed and what they are charged.

    Args:
        max_thought: most tokens of a thought; one that is longer is cut off there.
        floor_above: the E-step's floor raises the probability κ of thinking only where κ is larger than this: where the
            model would never think, it stays as it is.
        temperature: of the tokens of thoughts.
        stratified: the members of a group share out the unit interval for every draw, so that likely thoughts are not
            all missed; each member's own draws stay independent and uniform.
        prior: what the weights of the posterior take as p(z): "price": e^{-c} for a thought against 1 for none, and the
            policy's own distribution over what is thought; "model": the model's own probabilities of both.
        per_token: rewards are means over the content tokens of a line, not sums.
        format_penalty: taken off the reward for an ill-formed thought (empty, or cut off).
    """

    max_thought: int = 16
    floor_above: float = 0.0
    temperature: float = 1.0
    stratified: bool = False
    prior: str = "price"
    per_token: bool = True
    format_penalty: float = 0.0

    def __post_init__(self) -> None:
        if self.max_thought < 1:
            raise ValueError(f"max_thought: must be at least 1, got {self.max_thought}")
        if not 0 <= self.floor_above < 1:
            raise ValueError(f"floor_above: must lie in [0, 1), got {self.floor_above}")
        if not 0 < self.temperature < np.inf:
            raise ValueError(f"temperature: must be a positive number, got {self.temperature}")
        if self.prior not in ("price", "model"):
            raise ValueError(f"prior: must be 'price' or 'model', got {self.prior!r}")
        if not 0 <= self.format_penalty < np.inf:
            raise ValueError(f"format_penalty: must be at least 0, got {self.format_penalty}")


class TextRollouts:
    """G rollouts of each of I programs: arrays ``(I, G)`` a step, rows of the sessions are i G + g.

    Args:
        policy: transformers model that thinks.
        reward: the one that scores the expert's lines; the same object: its passes serve both.
        programs: I of them; numbers: what tells them apart in the seeds (their place in the corpus).
        closing: boolean ``(V,)``, the tokens that close a thought.
        price: c of a thought, for the weights of the posterior.
        floor: κ is raised to floor + (1 - floor) κ.

    Attributes:
        mask: boolean ``(I, T)``.
        thoughts: I·G lists of T thoughts or None; closed: boolean ``(I G, T)``, whether it ended by itself.
        log_kappa: ``(I G, T)``, log of the policy's own probability of thinking; -inf where no thought may stand.
        log_likelihood: ``(I G, T)``, of the content of each line, nats.
        credit: ``(I G, T)``, by how much a raised decision moves with the policy's own (1 without a floor).
        counts: tokens computed by the policy's passes.
    """

    def __init__(
        self, policy: Any, reward: Any, programs: Sequence[Program], numbers: Any, group: int,
        closing: torch.Tensor, proposals: Proposals, price: float, seed: np.random.SeedSequence,
        floor: float = 0.0,
    ) -> None:  # fmt: skip
        T = max(map(len, programs))
        self.programs, self.group, self.proposals = programs, group, proposals
        self.price, self.floor = price, floor
        self.mask = np.arange(T) < np.array([len(program) for program in programs])[:, None]
        self._closing = closing
        self._lines = [_Line.of(program) for program in programs]
        self._marker = np.full((len(programs), T), -1)
        for i, program in enumerate(programs):
            self._marker[i, : len(program)] = program.marker
        pairs = zip(programs, numbers, strict=True)
        B = len(programs) * group
        self._uniforms = np.zeros((B, T, 1 + proposals.max_thought))
        for i, (program, number) in enumerate(pairs):
            self._uniforms[i * group : (i + 1) * group, : len(program)] = _uniforms(
                program, number, group, proposals, seed
            )
        self.thoughts: list[list[Any]] = [[None] * len(programs[b // group]) for b in range(B)]
        self.closed = np.ones((B, T), bool)
        self.think = np.zeros((B, T), bool)
        self.log_kappa = np.full((B, T), -np.inf)
        self.log_likelihood = np.zeros((B, T))
        self.credit = np.ones((B, T))
        self._next = 0
        # The prompt is computed once for all of a group.
        starts = [program.ids[: program.cuts[0] + program.split[0]] for program in programs]
        self._sessions = [self._begin(model, starts) for model in ([policy] if policy is reward else [policy, reward])]
        self.counts = self._sessions[0].counts

    def _begin(self, model: Any, starts: list[np.ndarray]) -> Session:
        session = Session(model, len(starts), max(len(program.ids) for program in self.programs))
        session.append(np.arange(len(starts)), starts, score=False)
        session.select(np.repeat(np.arange(len(starts)), self.group))
        return session

    def step(self, t: int) -> Step:
        rows = np.flatnonzero(np.repeat(self.mask[:, t], self.group))
        policy, reward = self._sessions[0], self._sessions[-1]
        own = self._decide(policy, rows, t)
        log_think, log_act, credit = self._raise(*own)
        think = self._uniforms[rows, t, 0] < np.exp(log_think)
        scorer = own if reward is policy else self._decide(reward, rows, t)
        log_q_what, log_p_what = self._write(rows[think], t)
        likelihood = self._advance(rows, think, scorer[1], t)
        self.think[rows, t], self.log_kappa[rows, t], self.credit[rows, t] = think, own[0], np.where(think, credit, 1)
        self.log_likelihood[rows, t] = likelihood
        self._next = t + 1
        log_q, log_prior = np.where(think, log_think, log_act), np.where(think, scorer[0], scorer[1])
        log_q[think] += log_q_what
        if self.proposals.prior == "price":
            # What is thought has the policy's own probability on both sides.
            log_prior = np.where(think, -self.price, 0.0)
            log_p_what = log_q_what
        log_prior[think] += log_p_what
        length = bonus = None
        if self.proposals.per_token:
            tokens = [max(line.length[t], 1) if t < len(line.length) else 1 for line in self._lines]
            length = np.repeat(np.array(tokens, float)[:, None], self.group, 1)
        if self.proposals.format_penalty:
            bonus = np.zeros(len(rows))
            bonus[think] = [-self.proposals.format_penalty * self._ill_formed(b, t) for b in rows[think]]
            bonus = self._full(rows, bonus)
        return Step(
            self._full(rows, think), self._full(rows, log_q), self._full(rows, log_prior),
            self._full(rows, likelihood), length, bonus, self._full(rows, np.exp(own[0])),
        )  # fmt: skip

    def think_probability(self) -> np.ndarray:
        t = self._next
        rows = np.flatnonzero(np.repeat(self.mask[:, t], self.group))
        log_think, _, _ = self._raise(*self._decide(self._sessions[0], rows, t))
        return self._full(rows, np.exp(log_think))

    def select(self, ancestors: np.ndarray) -> None:
        rows = (np.arange(len(ancestors))[:, None] * self.group + ancestors).ravel()
        for session in self._sessions:
            session.select(rows)
        self.thoughts = [list(self.thoughts[b]) for b in rows]
        for name in ("closed", "think", "log_kappa", "log_likelihood", "credit"):
            setattr(self, name, getattr(self, name)[rows])

    def latents(self, b: int) -> Thoughts:
        """The thoughts of a row."""
        return tuple(self.thoughts[b])

    def _ill_formed(self, b: int, t: int) -> bool:
        return not self.closed[b, t] or not self.thoughts[b][t]

    def _full(self, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
        """``(I, G)`` from the values of some rows; 0 elsewhere."""
        full = np.zeros(len(self.thoughts), values.dtype)
        full[rows] = values
        return full.reshape(-1, self.group)

    def _decide(self, session: Session, rows: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        """log κ and log(1 - κ) of rows under a session's model; κ = 0 where no thought may stand."""
        log_think, log_act = np.full(len(rows), -np.inf), np.zeros(len(rows))
        marker = self._marker[rows // self.group, t]
        may = marker >= 0
        if may.any():
            logits = session.logits[session.index(rows[may])]
            found = decision_log_probs(logits, logits.logsumexp(-1), torch.from_numpy(marker[may]).to(logits.device))
            log_think[may], log_act[may] = (part.double().cpu().numpy() for part in found)
        return log_think, log_act

    def _raise(self, log_think: np.ndarray, log_act: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Both decisions with the floor, and d log κ̃ / d log κ."""
        floor = self.floor
        if floor == 0:
            return log_think, log_act, np.ones(len(log_think))
        kappa = np.exp(log_think)
        raised = kappa > self.proposals.floor_above
        new = np.where(raised, floor + (1 - floor) * kappa, kappa)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(raised, (1 - floor) * kappa / new, 1.0)
            return np.log(new), np.where(raised, np.log1p(-floor) + log_act, log_act), share

    def _write(self, rows: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Let these rows think; the log-probabilities of what they thought as it was drawn, and under the reward model.

        The end of a thought is an event, whichever token it was; where the limit cut it off, there is none.
        """
        policy, reward = self._sessions[0], self._sessions[-1]
        log_q, log_p = np.zeros(len(rows)), np.zeros(len(rows))
        if not len(rows):
            return log_q, log_p
        most, temperature = self.proposals.max_thought, self.proposals.temperature
        markers = self._marker[rows // self.group, t][:, None]
        policy.append(rows, markers, score=False)
        written, size = np.zeros((len(rows), most), np.int64), np.full(len(rows), most)
        going = np.arange(len(rows))
        for j in range(most):
            logits = policy.logits[policy.index(rows[going])]
            token, log_drawn = draw(logits, self._uniforms[rows[going], t, j + 1], temperature)
            ended = self._closing[token].cpu().numpy()
            log_q[going] += self._log_event(logits / temperature, log_drawn, ended)
            if reward is policy:
                plain = log_drawn if temperature == 1 else logits.log_softmax(-1).gather(-1, token[:, None])[:, 0]
                log_p[going] += self._log_event(logits, plain, ended)
            token = token.cpu().numpy()
            size[going[ended]] = j
            going, token = going[~ended], token[~ended]
            written[going, j] = token
            if not len(going):
                break
            policy.append(rows[going], token[:, None], score=False)
        closed = size < most
        self.closed[rows, t] = closed
        for b, ids, length in zip(rows.tolist(), written.tolist(), size.tolist(), strict=True):
            self.thoughts[b][t] = tuple(ids[:length])
        if reward is not policy:
            chunks = [[m, *self.thoughts[b][t]] for b, m in zip(rows.tolist(), markers[:, 0].tolist(), strict=True)]
            values = reward.append(rows, chunks)
            assert values is not None
            log_p += [value[1:].sum() for value in values]
            log_p += self._log_event(reward.logits[reward.index(rows)], torch.zeros(len(rows)), closed)
        return log_q, log_p

    def _log_event(self, logits: torch.Tensor, log_token: torch.Tensor, ended: np.ndarray) -> np.ndarray:
        """``(b,)``: log-probability of a token, or, where a thought has ended, of all that end it together."""
        found = log_token.double().cpu().numpy()
        if ended.any():
            some = logits[torch.from_numpy(ended).to(logits.device)]
            log_end = some[:, self._closing[: logits.shape[-1]]].logsumexp(-1) - some.logsumexp(-1)
            found[ended] = log_end.double().cpu().numpy()
        return found

    def _advance(self, rows: np.ndarray, think: np.ndarray, log_act: np.ndarray, t: int) -> np.ndarray:
        """Append the expert's line t, and the white space of the next; log-likelihood of the line's content."""
        lines = [self._lines[b // self.group] for b in rows]
        chunks = [line.after_thought[t] if new else line.after_act[t] for line, new in zip(lines, think, strict=True)]
        if t + 1 < self.mask.shape[1]:
            for session in self._sessions[:-1]:
                session.append(rows, chunks, score=False)
        values = self._sessions[-1].append(rows, chunks)
        assert values is not None
        masks = [
            line.content_thought[t] if new else line.content_act[t] for line, new in zip(lines, think, strict=True)
        ]
        found = np.array([value[mask].sum() for value, mask in zip(values, masks, strict=True)], np.float64)
        # To act is a decision of its own: the line is scored given that no thought came.
        decided = np.array([line.decided[t] for line in lines]) & ~think
        return found - np.where(decided, log_act, 0)


@dataclass(frozen=True)
class _Line:
    """What is appended at each line of a program, with and without a thought before it; and which of it is content."""

    after_act: list[np.ndarray]
    after_thought: list[np.ndarray]
    content_act: list[np.ndarray]
    content_thought: list[np.ndarray]
    decided: list[bool]
    length: np.ndarray

    @staticmethod
    def of(program: Program) -> _Line:
        parts: tuple[list, ...] = ([], [], [], [], [])
        for t in range(len(program)):
            first, end, split = program.cuts[t], program.cuts[t + 1], program.split[t]
            until = end + (program.split[t + 1] if t + 1 < len(program) else 0)
            closer = np.array(program.closer[t], np.int64)
            content = program.content[first:until].copy()
            content[end - first :] = False
            parts[0].append(program.ids[first + split : until])
            parts[1].append(np.concatenate([closer, program.ids[first:until]]))
            parts[2].append(content[split:])
            parts[3].append(np.concatenate([np.zeros(len(closer), bool), content]))
            parts[4].append(bool(program.marker[t] >= 0 and content[split]))
        act, thought, content_act, content_thought, decided = parts
        return _Line(act, thought, content_act, content_thought, decided, program.lengths)


def _uniforms(
    program: Program, number: int, group: int, proposals: Proposals, seed: np.random.SeedSequence
) -> np.ndarray:
    """Uniform numbers ``(G, T, 1 + max_thought)``: for the decision and each token of each line of each member."""
    shape = (len(program), 1 + proposals.max_thought)

    def rng(*key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, number, *key)))

    own = np.stack([rng(member).random(shape) for member in range(group)])
    if not proposals.stratified:
        return own
    strata = rng(group, 0).random((group, *shape)).argsort(0)
    return (strata + own) / group
