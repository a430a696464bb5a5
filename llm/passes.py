"""Which rows an update takes, and which of them go through the model together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from llm.program import Row


def batches(count: int, batch: int, updates: int, seed: int | np.random.SeedSequence) -> Iterator[np.ndarray]:
    """Indices of the rows of each update, ``(batch,)``: all rows in random order, then again in another, and so on."""
    if count < 1:
        raise ValueError(f"count: must be at least 1, got {count}")
    root = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)

    def endless() -> Iterator[int]:
        epoch = 0
        while True:
            key = np.random.SeedSequence(root.entropy, spawn_key=(*root.spawn_key, epoch))
            yield from np.random.default_rng(key).permutation(count)
            epoch += 1

    order = endless()
    for _ in range(updates):
        yield np.fromiter(order, np.int64, batch)


def split(rows: Sequence[Row], max_tokens: int | None, pack: bool) -> list[list[Row]]:
    """Rows for each pass, so that none computes more than ``max_tokens``, padding included; the longest come first."""
    if max_tokens is None or not rows:
        return [list(rows)] if rows else []
    passes: list[list[Row]] = []
    room: list[int] = []
    for row in sorted(rows, key=lambda row: -len(row.ids)):
        for k, part in enumerate(passes):
            cost = len(row.ids) if pack else len(part[0].ids)
            if cost <= room[k]:
                part.append(row)
                room[k] -= cost
                break
        else:
            passes.append([row])
            room.append(max_tokens - len(row.ids))
    return passes


def blank(row: Row) -> Row:
    """The row, counting nothing."""
    return replace(row, weight=np.zeros_like(row.weight), decision_weight=np.zeros_like(row.decision_weight))


@torch.no_grad()
def check_packing(model: Any) -> None:
    """Refuse a model that does not tell packed rows apart.

    Raises:
        ValueError: the second of two packed rows sees the first.
    """
    ids = torch.arange(8, device=model.device)[None] % model.config.vocab_size
    other = torch.cat([ids[:, :4].flip(1), ids[:, 4:]], 1)
    positions = torch.arange(4, device=model.device).repeat(2)[None]
    one, two = (model(input_ids=x, position_ids=positions, use_cache=False).logits[:, 4:].float() for x in (ids, other))
    if (one - two).abs().max() > 1e-3 * one.std():
        raise ValueError(f"pack: {type(model).__name__} sees across packed rows; use pack=False")
