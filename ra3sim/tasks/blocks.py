"""The family that is hard to prune, as MDPs: blocks of options that hide one right option each (this project)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ra3sim.mdp import MDP
from ra3sim.tasks._choice import check_count
from ra3sim.tasks.family import TaskFamily


class BlockDraw(NamedTuple):
    """Independent tasks of one family of blocks.

    Attributes:
        right: the hidden right option of each block, 0 .. m - 1, ``(k,)``.
        block: the block of each task, ``(n,)``; k: none, the task needs nothing.
        good: which options are good in each task that has a block, ``(n', k m)``; option i of block j is j m + i.
    """

    right: np.ndarray
    block: np.ndarray
    good: np.ndarray


def draw_blocks(k: int, m: int, sigma: float, n: int, rng: np.random.Generator) -> BlockDraw:
    """Right options, and n tasks given them: each block has probability 4σ/k, no block the rest.

    The good options of a task are the right one of its block and each other one of the block with probability 1/2.
    """
    right = rng.integers(m, size=k)
    block = rng.choice(k + 1, size=n, p=[4 * sigma / k] * k + [max(0.0, 1 - 4 * sigma)])
    chosen = block[block < k]
    within = rng.random((len(chosen), m)) < 0.5
    within[np.arange(len(chosen)), right[chosen]] = True
    good = np.zeros((len(chosen), k, m), bool)
    good[np.arange(len(chosen)), chosen] = within
    return BlockDraw(right, block, good.reshape(len(chosen), k * m))


def blocks(k: int, m: int, sigma: float, count: int, seed: int) -> TaskFamily:
    """``count`` tasks of one decision among k m options: a good one pays 1, any other nothing; then it is over.

    A sample, given the right options, which the names of the actions give away. If a task needs nothing, every option
    is good. A set of options loses 1 where it has no good one; of one option a block, w of them wrong, that is 2wσ/k
    in expectation. See `theory.blocks` for what learners can do here.

    Args:
        k: blocks.
        m: options of a block.
        sigma: σ; blocks have probability 4σ together.
        count: how many tasks are drawn.
        seed: of the right options and the tasks.

    Raises:
        ValueError: no block, no task, fewer than 2 options in a block, σ outside (0, 1/4].

    >>> blocks(2, 3, sigma=0.1, count=50, seed=0)
    <blocks 2 x 3: a sample of 50 tasks, S=2, A=6, discount=0>
    """
    check_count("k", k)
    check_count("m", m, 2)
    check_count("count", count)
    if not 0 < sigma <= 0.25:
        raise ValueError(f"sigma: blocks have probability 4 σ together, so it lies in (0, 1/4], got {sigma!r}")
    drawn = draw_blocks(k, m, sigma, count, np.random.default_rng(seed))
    rewards = np.zeros((count, 2, k * m))
    rewards[:, 0] = 1
    rewards[drawn.block < k, 0] = drawn.good
    transitions = np.zeros((2, k * m, 2))
    transitions[:, :, 1] = 1
    names = [f"block {j}, option {i}" + (", right" if i == drawn.right[j] else "") for j in range(k) for i in range(m)]
    arguments: dict[str, Any] = {"start": 0, "terminal": [1], "state_names": ["start", "end"], "action_names": names}
    return TaskFamily(
        # One decision: the discount never comes to bear.
        [MDP(transitions, r, 0.0, name=_name(b, k), **arguments) for r, b in zip(rewards, drawn.block, strict=True)],
        sampled=True,
        name=f"blocks {k} x {m}",
    )


def _name(block: int, k: int) -> str:
    return "a task that needs nothing" if block == k else f"a task of block {block}"
