"""A latent model learnt from demonstrations by exact EM, from several random starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ra3sim.abstraction import TemporalPrior
from ra3sim.em import RA3
from ra3sim.latent.model import LatentModel
from ra3sim.latent.trajectories import Trajectories
from ra3sim.latent.world import TableWorld


@dataclass(frozen=True)
class Learnt:
    """The best of several runs of EM.

    Args:
        model: with the largest objective.
        objectives: ``(restarts,)``, log-likelihood plus the smoothing's share, nats per step.
        iterations: ``(restarts,)``, EM iterations; `limit` of them means that EM had not settled.
        best: which restart the model is from.
    """

    model: LatentModel
    objectives: np.ndarray
    iterations: np.ndarray
    best: int


def learn(
    trajectories: Trajectories,
    prior: TemporalPrior,
    *,
    restarts: int,
    seed: Any,
    by_state: bool = True,
    fixed_first: bool = False,
    smoothing: float = 0.01,
    prior_smoothing: float = 0.1,
    persistence: float = 0.0,
    concentration: float = 20.0,
    available: Any = None,
    limit: int = 500,
    tolerance: float = 1e-6,
) -> Learnt:
    """EM with the exact E-step from random policies; the likelihood has many local maxima, so start often.

    Args:
        prior: where to start, or with ``by_state=False`` where to stay.
        restarts: number of random starts.
        seed: for `numpy.random.SeedSequence`.
        by_state: learn when latents end and which one follows, state by state (`OptionPrior`): options.
        fixed_first: learn the policies under the fixed prior before that. It helps where few states say little about
            ends (positions in a program) and harms where every state has its own (places on a map).
        smoothing, prior_smoothing, persistence: see `LatentModel.fit`. Persistence keeps EM from explaining one option
            by pieces of others that meet at some state, a common local maximum.
        concentration: of the random policies around the uniform one.
        available: boolean ``(S, A)``, actions that can be taken; None: all.
        limit, tolerance: stop after so many iterations, or when one gains less than this, nats per step.

    Raises:
        ValueError: no restart, or what `TableWorld` and `LatentModel` refuse.
    """
    if restarts < 1:
        raise ValueError(f"restarts: must be at least 1, got {restarts}")
    sequence = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    objectives, iterations = np.empty(restarts), np.empty(restarts, np.int64)
    best, model = -1, None
    for number, child in enumerate(sequence.spawn(restarts)):
        sizes = (prior.num_latents, trajectories.num_states, trajectories.num_actions)
        found = LatentModel.random(*sizes, prior, child, available, concentration)
        iterations[number] = 0
        for options in [False, True] if by_state and fixed_first else [by_state]:
            world = TableWorld(
                trajectories, prior, contexts="state", smoothing=smoothing, prior_smoothing=prior_smoothing,
                persistence=persistence, available=available, exact_record=False,
                model=found.with_option_prior() if options else found,
            )  # fmt: skip
            found, objectives[number], count = _climb(world, limit, tolerance)
            iterations[number] += count
        if model is None or objectives[number] > objectives[best]:
            best, model = number, found
    assert model is not None
    return Learnt(model, objectives, iterations, best)


def _climb(world: TableWorld, limit: int, tolerance: float) -> tuple[LatentModel, float, int]:
    """EM until an iteration gains less than ``tolerance``: model, objective in nats per step, iterations."""
    loop = RA3(world, "exact")
    state, before = loop.init(), -np.inf
    while True:
        # The E-step measures the model that it was given: what an iteration made is judged by the next.
        penalty = world.penalty(state.model)
        after = loop.step(state)
        total = after.history[-1]["elbo"] * len(world.trajectories) + penalty
        objective = total / world.trajectories.num_steps
        if objective - before < tolerance or state.iteration == limit:
            return state.model, objective, state.iteration
        state, before = after, objective
