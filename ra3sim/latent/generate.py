"""Demonstrations drawn from a latent-option model that acts in an MDP."""

from __future__ import annotations

from typing import Any

import numpy as np

from ra3sim.latent.model import LatentModel
from ra3sim.latent.trajectories import Trajectories
from ra3sim.mdp import MDP
from ra3sim.simulate import _RowSampler


def generate(
    model: LatentModel, mdp: MDP, count: int, steps: int, seed: Any
) -> tuple[Trajectories, np.ndarray, np.ndarray]:
    """Let a latent-option model act: ``count`` trajectories, each to a terminal state or for ``steps`` steps.

    Args:
        seed: for `numpy.random.default_rng`.

    Returns:
        The trajectories; the latents that drew the actions, ``(N,)``; where a latent was drawn anew, boolean ``(N,)``.

    Raises:
        ValueError: fewer than one trajectory or step, an MDP of other states or actions, a start in a terminal state.
    """
    if count < 1 or steps < 1:
        raise ValueError(f"count, steps: must be at least 1, got {count} and {steps}")
    if (mdp.num_states, mdp.num_actions) != model.policy.shape[1:]:
        raise ValueError(
            f"mdp: has (S, A) = ({mdp.num_states}, {mdp.num_actions}), the model is over {model.policy.shape[1:]}"
        )
    if (mdp.start[mdp.terminal] > 0).any():
        raise ValueError("mdp: may start in a terminal state, where nothing can be done")
    rng = np.random.default_rng(seed)
    S, A = mdp.num_states, mdp.num_actions
    ends, choice = model.prior_tables()
    next_state = _RowSampler(mdp.rows())
    actions = _RowSampler(model.policy.reshape(-1, A))
    choose = _RowSampler(choice)
    state = _RowSampler(mdp.start[None]).draw(np.zeros(count, np.int64), rng).astype(np.int64)
    latent = np.full(count, max(model.start, 0))
    running = np.arange(count)
    shape = (count, steps)
    seen, done, drawn, fresh = (np.zeros(shape, np.int64) for _ in range(4))
    lengths = np.full(count, steps)
    for t in range(steps):
        here, now = state[running], latent[running]
        anew = rng.random(running.size) < ends[here, now]
        if t == 0 and model.start < 0:
            anew[:] = True
        now = np.where(anew, choose.draw(here, rng), now)
        act = actions.draw(now * S + here, rng)
        seen[running, t], done[running, t], drawn[running, t], fresh[running, t] = here, act, now, anew
        latent[running] = now
        state[running] = next_state.draw(here * A + act, rng)
        over = mdp.terminal[state[running]]
        lengths[running[over]] = t + 1
        running = running[~over]
        if not running.size:
            break
    kept = np.arange(steps) < lengths[:, None]
    trajectories = Trajectories(seen[kept], done[kept], np.concatenate([[0], np.cumsum(lengths)]), S, A)
    return trajectories, drawn[kept], fresh[kept].astype(bool)
