"""What thoughts do for the expert's lines: log-likelihoods line by line, and the gain of each thought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from llm.mstep import split
from llm.program import CONTENT, Program, Row, Thoughts, assemble
from llm.scoring import collate, log_probs

# Logits of one pass: so many float32 numbers at most (half a gigabyte).
_LOGITS = 2**27


@torch.no_grad()
def line_log_likelihoods(module: Any, rows: Sequence[Row], closing: torch.Tensor) -> list[np.ndarray]:
    """log π of the content of each line, nats, ``(T,)`` for each row; a line without a thought given that none came."""
    most = max(_LOGITS // module.config.vocab_size, 1)
    found: dict[int, np.ndarray] = {}
    for part in split(rows, most, pack=False):
        batch = collate(part, device=closing.device)
        token = log_probs(module, batch, closing).token.double().cpu().numpy()
        sizes = np.cumsum([len(row.ids) - 1 for row in part])[:-1]
        for row, values in zip(part, np.split(token, sizes), strict=True):
            content = row.kind[1:] == CONTENT
            T = int(row.line.max()) + 1
            found[id(row)] = np.bincount(row.line[1:][content], values[content], minlength=T)
    return [found[id(row)] for row in rows]


def gains(
    module: Any, programs: Sequence[Program], thoughts: Sequence[Thoughts], closing: torch.Tensor
) -> list[np.ndarray]:
    """What each thought adds to the log-likelihood of the lines up to the next thought, beside leaving it out.

    Other thoughts stay. ``(T,)`` for each program, in nats; NaN where there is no thought.
    """
    rows, asked = [], []
    for k, (program, latents) in enumerate(zip(programs, thoughts, strict=True)):
        places = [t for t, thought in enumerate(latents) if thought is not None]
        if places:
            rows.append(assemble(program, latents))
            asked.append((k, -1, 0))
        for t, end in zip(places, [*places[1:], len(latents)], strict=False):
            without = tuple(None if u == t else thought for u, thought in enumerate(latents))
            rows.append(assemble(program, without))
            asked.append((k, t, end))
    found = [np.full(len(program), np.nan) for program in programs]
    whole = np.zeros(0)
    for (k, t, end), values in zip(asked, line_log_likelihoods(module, rows, closing) if rows else [], strict=True):
        if t < 0:
            whole = values
        else:
            found[k][t] = whole[t:end].sum() - values[t:end].sum()
    return found
