"""Log-probabilities of rows under a causal language model: one full forward pass, in float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from llm.program import Row


class LogProbs(NamedTuple):
    """The two parts of `llm.program.Row`'s log-probabilities, ``(N,)`` each, for the N predicted positions."""

    decision: torch.Tensor
    token: torch.Tensor


@dataclass(frozen=True)
class Batch:
    """Rows side by side (``pack=False``: padded on the right) or end to end (``pack=True``).

    Neither needs an attention mask: what comes later is never seen, and packed rows are told apart by positions that
    start again (transformers reads them so if, and only if, there is no mask).

    Attributes:
        input_ids, position_ids: ``(B, L)``.
        where: ``(N,)`` flat index into ``(B, L)`` of the token *before* each predicted one.
        target, marker: ``(N,)`` ids; close: boolean ``(N,)``.
        weight, decision_weight: ``(N,)``.
        row, position: ``(N,)``, which row, and which of its ids is predicted.
        tokens: number of real tokens; B·L less that is padding.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    where: torch.Tensor
    target: torch.Tensor
    marker: torch.Tensor
    close: torch.Tensor
    weight: torch.Tensor
    decision_weight: torch.Tensor
    row: torch.Tensor
    position: torch.Tensor
    tokens: int


def collate(rows: Sequence[Row], *, pack: bool = False, pad: int = 0, device: Any = "cpu") -> Batch:
    """Put rows together; see `Batch`.

    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("rows: none given")
    lengths = [len(row.ids) for row in rows]
    width = sum(lengths) if pack else max(lengths)
    starts = np.cumsum([0, *lengths[:-1]]) if pack else np.arange(len(rows)) * width
    size = width if pack else width * len(rows)
    ids, positions = np.full(size, pad), np.zeros(size, np.int64)
    for row, start, length in zip(rows, starts, lengths, strict=True):
        ids[start : start + length] = row.ids
        positions[start : start + length] = np.arange(length)
    shape = (1 if pack else len(rows), width)

    def join(name: str, kind: Any = None) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([getattr(row, name)[1:] for row in rows]).astype(kind)).to(device)

    def put(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    return Batch(
        input_ids=put(ids.reshape(shape)),
        position_ids=put(positions.reshape(shape)),
        where=put(np.concatenate([start + np.arange(n - 1) for start, n in zip(starts, lengths, strict=True)])),
        target=join("ids", np.int64),
        marker=join("marker", np.int64),
        close=join("close", bool),
        weight=join("weight", np.float32),
        decision_weight=join("decision_weight", np.float32),
        row=put(np.repeat(np.arange(len(rows)), np.array(lengths) - 1)),
        position=put(np.concatenate([np.arange(1, n) for n in lengths])),
        tokens=sum(lengths),
    )


def log_probs(model: Any, batch: Batch, closing: torch.Tensor) -> LogProbs:
    """Both parts of the log-probability of every predicted token, with gradients if they are enabled.

    Args:
        model: a causal LM of transformers (called with ``input_ids``, ``position_ids``, ``use_cache=False``).
        closing: boolean ``(V,)``, the tokens that close a thought.
    """
    logits = model(input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False).logits
    logits = logits.flatten(0, 1)[batch.where].float()
    return split_log_probs(logits, batch.target, batch.marker, batch.close, closing)


def split_log_probs(
    logits: torch.Tensor, target: torch.Tensor, marker: torch.Tensor, close: torch.Tensor, closing: torch.Tensor
) -> LogProbs:
    """`LogProbs` from float32 logits ``(N, V)`` of the positions; the rest as in `Batch`."""
    total = logits.logsumexp(-1)
    token = logits.gather(-1, target[:, None])[:, 0] - total
    decision = torch.zeros_like(token)
    at = torch.nonzero(marker >= 0)[:, 0]
    if len(at):
        log_think, log_act = decision_log_probs(logits[at], total[at], marker[at])
        thinks = target[at] == marker[at]
        decision = decision.index_put((at,), torch.where(thinks, log_think, log_act))
        token = token.index_put((at,), torch.where(thinks, torch.zeros_like(log_act), token[at] - log_act))
    at = torch.nonzero(close)[:, 0]
    if len(at):
        token = token.index_put((at,), logits[at][:, closing[: logits.shape[-1]]].logsumexp(-1) - total[at])
    return LogProbs(decision, token)


def decision_log_probs(
    logits: torch.Tensor, total: torch.Tensor, marker: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """log κ and log(1 - κ), ``(N,)`` each, where κ is the probability of the marker.

    The second is summed over the other tokens, so that it keeps its digits where κ is nearly 1.
    """
    log_think = logits.gather(-1, marker[:, None])[:, 0] - total
    others = logits.scatter(-1, marker[:, None], -torch.inf)
    return log_think, others.logsumexp(-1) - total
