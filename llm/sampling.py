"""Completions of prompts that end at texts: what a benchmark asks of a model.

Stop sequences are text, and tokens know nothing of them ("\\ndef" may come as "\\n", "d", "ef"). Ids are drawn one by
one, what they spell is looked at as it grows, and the text is cut before the first stop sequence. What is drawn depends
on the seed and the prompt alone, as in `llm.engine.InProcess`; a prompt is computed once for all its samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch

from llm.engine import Session, draw
from llm.problems.problem import cut


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        max_tokens: of a completion.
        temperature: 0: the likeliest token.
        top_p: only the likeliest tokens that together have this probability, and no token more than it takes
            (Holtzman et al. 2020), after the temperature.

    Raises:
        ValueError: out of range.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens: must be at least 1, got {self.max_tokens}")
        if not 0 <= self.temperature < np.inf:
            raise ValueError(f"temperature: must be 0 or a positive number, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: must lie in (0, 1], got {self.top_p}")


@dataclass(frozen=True)
class Request:
    """One prompt, the texts that end its completions, and a seed for each completion."""

    prompt: str
    stop: tuple[str, ...]
    seeds: tuple[Any, ...]


@dataclass(frozen=True)
class Completion:
    """What was drawn.

    Attributes:
        text: up to the first stop sequence.
        ids: all that was drawn, without the token that ended it.
        ended: "stop" (a stop sequence came), "end" (a token that ends a text), "length" (the limit).
    """

    text: str
    ids: tuple[int, ...]
    ended: str


class Writer:
    """Writes completions with a transformers model and its tokenizer.

    Any special token ends a text, as the end of the text, of a turn, of a file do; but not the unknown one, nor the one
    that begins a text.

    Args:
        begin: what stands before a prompt: "tokenizer": what the tokenizer puts there itself; "bos": the token that
            begins a text (the one that ends it, where there is no other), as in mid-training.

    Attributes:
        prompt_tokens, drawn_tokens: how many were computed so far; a prompt counts once for all its samples.

    Raises:
        ValueError: no tokenizer, or no token that ends (or, if asked for, begins) a text.
    """

    def __init__(self, model: Any, tokenizer: Any, begin: Literal["tokenizer", "bos"] = "tokenizer") -> None:
        if tokenizer is None:
            raise ValueError("model: it holds no tokenizer; save one with it")
        self.model, self.tokenizer = model, tokenizer
        self.prompt_tokens = self.drawn_tokens = 0
        about = model.config.get_text_config()
        self._limit = getattr(about, "max_position_embeddings", None)
        special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id, tokenizer.bos_token_id}
        special |= {tokenizer.eos_token_id} - {None}
        given = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
        special |= {given} if isinstance(given, int) else set(given or ())
        self._ends = np.zeros(about.vocab_size, bool)
        self._ends[[one for one in special if one < about.vocab_size]] = True
        if not self._ends.any():
            raise ValueError("model: its tokenizer has no token that ends a text; set its eos_token")
        # Ids that no token has end a text too.
        self._ends[len(tokenizer) :] = True
        self._begin: list[int] | None = None
        if begin == "bos":
            first = [one for one in (tokenizer.bos_token_id, tokenizer.eos_token_id) if one is not None]
            if not first:
                raise ValueError("begin: the tokenizer has no token that begins a text; use 'tokenizer'")
            self._begin = first[:1]

    def encode(self, prompt: str) -> list[int]:
        """Ids of a prompt with what stands before it.

        Raises:
            ValueError: there are none.
        """
        if self._begin is not None:
            return [*self._begin, *self.tokenizer.encode(prompt, add_special_tokens=False)]
        ids = list(self.tokenizer.encode(prompt))
        # Some tokenizers close what they encode.
        if len(ids) > 1 and ids[-1] == self.tokenizer.eos_token_id:
            ids.pop()
        if not ids:
            raise ValueError("prompt: it is empty, and the tokenizer puts nothing before it; use begin='bos'")
        return ids

    def check(self, name: str, prompt: str, sampling: Sampling) -> None:
        """Refuse a prompt that leaves no room.

        Raises:
            ValueError: naming it.
        """
        length = len(self.encode(prompt))
        if self._limit is not None and length + sampling.max_tokens > self._limit:
            raise ValueError(
                f"max_tokens: the prompt of {name} has {length} tokens, with {sampling.max_tokens} more it passes the "
                f"model's {self._limit}; take fewer, or leave the problem out"
            )

    @torch.no_grad()
    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """Completions of each request, one for each seed, all in one batch.

        Raises:
            ValueError: none asked for.
        """
        if not requests or not all(request.seeds for request in requests):
            raise ValueError("requests: give at least one, each with one seed or more")
        prefixes = [self.encode(request.prompt) for request in requests]
        session = Session(self.model, len(requests), max(map(len, prefixes)) + min(sampling.max_tokens, 256))
        session.append(np.arange(len(requests)), prefixes, score=False)
        owner = np.repeat(np.arange(len(requests)), [len(request.seeds) for request in requests])
        session.select(owner)
        seeds = [seed for request in requests for seed in request.seeds]
        uniforms = np.array([np.random.default_rng(seed).random(sampling.max_tokens) for seed in seeds])
        stops = [_Stop(self.tokenizer, requests[k].stop) for k in owner.tolist()]
        found: list[list[int]] = [[] for _ in owner]
        ended = ["length"] * len(owner)
        rows = np.arange(len(owner))
        for place in range(sampling.max_tokens):
            drawn = _draw(session.logits, uniforms[rows, place], sampling).cpu().numpy()
            self.drawn_tokens += len(rows)
            going = np.ones(len(rows), bool)
            for k, (row, token) in enumerate(zip(rows.tolist(), drawn.tolist(), strict=True)):
                if self._ends[token]:
                    ended[row], going[k] = "end", False
                    continue
                found[row].append(token)
                if stops[row].seen(found[row]):
                    ended[row], going[k] = "stop", False
            rows, drawn = rows[going], drawn[going]
            if not len(rows) or place + 1 == sampling.max_tokens:
                break
            if not going.all():
                session.select(np.flatnonzero(going))
            session.append(np.arange(len(rows)), drawn[:, None], score=False)
        self.prompt_tokens += sum(map(len, prefixes))
        texts = [cut(self.text(prefixes[owner[row]], ids), requests[owner[row]].stop) for row, ids in enumerate(found)]
        completions = [Completion(*one) for one in zip(texts, map(tuple, found), ended, strict=True)]
        places = np.cumsum([0, *(len(request.seeds) for request in requests)])
        return [completions[first:last] for first, last in pairwise(places)]

    def text(self, prefix: Sequence[int], ids: Sequence[int]) -> str:
        """What ids spell after a prefix: some tokenizers drop a space where a text begins."""
        before, whole = _decode(self.tokenizer, prefix), _decode(self.tokenizer, [*prefix, *ids])
        return whole[len(before) :] if whole.startswith(before) else _decode(self.tokenizer, ids)


_FEW = 512


def nucleus(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    """Logits ``(b, V)`` with all but the likeliest tokens at -inf: as few as have together at least ``top_p``."""
    if top_p == 1:
        return logits
    p = logits.double().softmax(-1)
    # Few tokens are enough as a rule, and to sort them all takes longer than a small model's pass.
    ordered, order = p.topk(min(_FEW, p.shape[-1]))
    if (ordered.sum(-1) < top_p).any():
        ordered, order = p.sort(dim=-1, descending=True, stable=True)
    # A token is kept if those before it have not enough.
    kept = ordered.cumsum(-1) - ordered < top_p
    found = torch.full_like(logits, -torch.inf)
    return found.scatter(-1, order, logits.gather(-1, order).masked_fill(~kept, -torch.inf))


def _draw(logits: torch.Tensor, uniforms: np.ndarray, sampling: Sampling) -> torch.Tensor:
    if sampling.temperature == 0 or sampling.top_p == 1:
        return draw(logits, uniforms, sampling.temperature)[0]
    return draw(nucleus(logits / sampling.temperature, sampling.top_p), uniforms)[0]


class _Stop:
    """Sees stop sequences in ids that grow."""

    def __init__(self, tokenizer: Any, stop: Sequence[str]) -> None:
        self.tokenizer, self.stop = tokenizer, stop
        # A token spells a byte at least; the first of those looked at may be the end of a character.
        self.reach = max((len(one.encode()) for one in stop), default=0) + 4

    def seen(self, ids: Sequence[int]) -> bool:
        """Whether one has just been completed."""
        if not self.stop:
            return False
        tail = _decode(self.tokenizer, ids[-self.reach :])
        return any(one in tail for one in self.stop)


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
