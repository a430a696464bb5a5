"""Programs as token ids, cut into lines, and the same programs with thoughts in place.

A program is tokenised once, as a whole. Its lines are runs of those ids; a thought is more ids put between two of
them, so that the ids of the code are the same with and without thoughts. `llm.lines` makes programs from text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Thought = tuple[int, ...]
Thoughts = tuple[Thought | None, ...]


@dataclass(frozen=True)
class Program:
    """T lines of token ids.

    A thought before line t stands as ``ids[cuts[t] : cuts[t] + split[t]]`` (the white space that the line begins with),
    ``marker[t]`` (what opens a comment there), the thought's own ids, ``closer[t]``; the line follows, whole. So the
    decision whether to think falls after ``split[t]`` tokens of the line, between the marker and all other tokens.

    Attributes:
        ids: ``(n,)``, the prompt and the code, as the tokenizer makes them of the whole text.
        cuts: ``(T + 1,)``, line t is ``ids[cuts[t] : cuts[t + 1]]``; ``ids[: cuts[0]]``, at least one token, is
            context that is never scored (a prompt, or a mark of the beginning). The last cut is n.
        split: ``(T,)``, how many tokens of the line stand before the decision: 0 <= split < the line's length.
        marker: ``(T,)``, the token that opens a thought; -1 where none may stand.
        content: boolean ``(n,)``, tokens that carry code: what likelihoods are of. White space that leads a line, the
            prompt and the end mark are not content.
        closer: T tuples of ids that end a thought (() where the line's own white space begins with the newline).
        text: the text, and in it
        code_start: the character at which the code begins, after the prompt.
        name: where it comes from, for people: "json/decoder.py:JSONDecoder.decode".
        about: provenance (path, licence, ...), JSON-able.
    """

    ids: np.ndarray
    cuts: np.ndarray
    split: np.ndarray
    marker: np.ndarray
    content: np.ndarray
    closer: tuple[Thought, ...]
    text: str = ""
    code_start: int = 0
    name: str = ""
    about: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        T, n = len(self.split), len(self.ids)
        shapes = (self.cuts.shape, self.marker.shape, self.content.shape, len(self.closer))
        if shapes != ((T + 1,), (T,), (n,), T):
            raise ValueError(f"cuts: shapes of cuts, marker, content, closer do not fit {T} lines of {n} ids: {shapes}")
        lengths = np.diff(self.cuts)
        if T == 0 or self.cuts[0] < 1 or self.cuts[-1] != n or (lengths < 1).any():
            raise ValueError(f"cuts: must rise from at least 1 to {n}, one line or more, got {self.cuts.tolist()}")
        if ((self.split < 0) | (self.split >= lengths)).any():
            raise ValueError("split: every line needs a token after its decision")
        before = np.repeat(self.cuts[:-1] + self.split, lengths) > np.arange(self.cuts[0], n)
        if self.content[self.cuts[0] :][before].any():
            raise ValueError("split: what stands before a decision is white space; none of it may be content")
        first = self.ids[self.cuts[:-1] + self.split]
        if ((self.marker >= 0) & (first == self.marker)).any():
            raise ValueError("marker: a line that begins with the marker can't be told from a thought; give -1 there")
        bare = np.array([not closer for closer in self.closer]) & (self.marker >= 0)
        if self.content[self.cuts[:-1]][bare].any():
            raise ValueError("closer: a thought before a line that begins with content needs a newline of its own")

    def __len__(self) -> int:
        return len(self.split)

    def line(self, t: int) -> np.ndarray:
        """The ids of line t."""
        return self.ids[self.cuts[t] : self.cuts[t + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Content tokens of each line, ``(T,)``."""
        return np.add.reduceat(self.content.astype(np.int64), self.cuts[:-1])

    def opener(self, t: int) -> np.ndarray:
        """What stands before a thought at line t: white space and the marker."""
        return np.append(self.line(t)[: self.split[t]], self.marker[t])

    def as_one_action(self) -> Program:
        """The same ids as one line: one thought before everything, horizon 1, as in BRiTE (Zhong et al. 2025)."""
        one = np.array([self.cuts[0], self.cuts[-1]])
        return replace(self, cuts=one, split=self.split[:1], marker=self.marker[:1], closer=self.closer[:1])


@dataclass(frozen=True)
class Row:
    """Ids to compute log-probabilities of, and what each position counts for; all arrays are ``(n,)``.

    The token at i is predicted from those before it. Its log-probability has two parts:

    * where ``marker[i] < 0`` and not ``close[i]``: decision 0, token log p(ids[i]);
    * at a decision, ``marker[i] >= 0``, with κ = p(marker[i]): decision log κ and token 0 if ids[i] is the marker, else
      decision log(1 - κ) and token log p(ids[i]) - log(1 - κ);
    * at the end of a thought, ``close[i]``: decision 0, token log Σ p over all tokens that close a thought.

    The sum of both parts is the usual log-probability, but at the ends of thoughts.

    Attributes:
        ids, marker, close: as above. Position 0 is never predicted.
        weight, decision_weight: what the two parts count for in a loss: -Σ weight · token + decision_weight · decision.
        line: number of the line that a token belongs to, -1 for the prompt.
        kind: 0 prompt, 1 white space of a line, 2 content of a line, 3 marker, 4 thought, 5 the end of a thought (the
            position after it, whichever token stands there). Kind 5 wins over 1 and 2.
    """

    ids: np.ndarray
    marker: np.ndarray
    close: np.ndarray
    weight: np.ndarray
    decision_weight: np.ndarray
    line: np.ndarray
    kind: np.ndarray


PROMPT, SPACE, CONTENT, MARKER, THOUGHT, END = range(6)


def assemble(
    program: Program, thoughts: Sequence[Thought | None], *, closed: Sequence[bool] | None = None,
    forget: Sequence[bool] | None = None, train_prompt: bool = False,
) -> Row:  # fmt: skip
    """The program with thoughts in place, weighted for imitation (the M-step): every token after the prompt counts 1.

    Args:
        thoughts: one for each line, None where there is none.
        closed: False where the thought was cut off by its length limit, so that its end is no decision of the model's:
            then nothing is predicted there. None: all ended by themselves.
        forget: True where the decision whether to think is not to be imitated (its weight is 0).
        train_prompt: count the prompt too.

    Raises:
        ValueError: a thought where none may stand, or not one entry for each line.

    The ends of thoughts are predicted as the token that stands there (``close`` is False everywhere): that is what
    imitation of the whole text wants. `llm.policy` sets it for the policy gradient.
    """
    T = len(program)
    if len(thoughts) != T:
        raise ValueError(f"thoughts: give one for each of {T} lines (None for no thought), got {len(thoughts)}")
    parts: list[tuple[np.ndarray, int, int]] = [(program.ids[: program.cuts[0]], -1, PROMPT)]
    decisions: list[tuple[int, int]] = []  # position, line
    ends: list[tuple[int, int]] = []
    at = int(program.cuts[0])

    def put(ids: Any, line: int, kind: int) -> None:
        nonlocal at
        ids = np.asarray(ids, dtype=np.int64)
        parts.append((ids, line, kind))
        at += len(ids)

    for t, thought in enumerate(thoughts):
        split, chunk = int(program.split[t]), program.line(t)
        if thought is not None:
            if program.marker[t] < 0:
                raise ValueError(f"thoughts: none may stand before line {t} of {program.name or 'the program'}")
            put(chunk[:split], t, SPACE)
            decisions.append((at, t))
            put([program.marker[t]], t, MARKER)
            put(thought, t, THOUGHT)
            ends.append((at, t))
            put(program.closer[t], t, SPACE)
            put(chunk, t, SPACE)
        else:
            if program.marker[t] >= 0:
                decisions.append((at + split, t))
            put(chunk, t, SPACE)
    ids = np.concatenate([part for part, _, _ in parts])
    line = np.concatenate([np.full(len(part), t) for part, t, _ in parts])
    kind = np.concatenate([np.full(len(part), k) for part, _, k in parts])
    code = kind == SPACE
    weight = np.ones(len(ids), np.float32)
    if not train_prompt:
        weight[kind == PROMPT] = 0
    weight[0] = 0
    marker, decision_weight = np.full(len(ids), -1), np.zeros(len(ids), np.float32)
    for position, t in decisions:
        marker[position] = program.marker[t]
        decision_weight[position] = 0 if forget is not None and forget[t] else 1
    # The code's tokens appear in their order, so what is content in the program is content here; openers repeat the
    # white space of their line, which is found by going from the end of each line backwards.
    here = np.flatnonzero(code)
    own = np.zeros(len(ids), bool)
    for t in range(T):
        mine = here[line[here] == t][-len(program.line(t)) :]
        own[mine] = program.content[program.cuts[t] : program.cuts[t + 1]]
    kind[own] = CONTENT
    for position, t in ends:
        kind[position] = END
        if closed is not None and not closed[t]:
            weight[position] = 0
    return Row(ids, marker, np.zeros(len(ids), bool), weight, decision_weight, line, kind)
