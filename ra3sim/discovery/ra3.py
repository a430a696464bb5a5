"""RA3 in tables: latents under the temporal prior, and their options (Zhang et al. 2025, section 4)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ra3sim.abstraction import TemporalPrior
from ra3sim.discovery._latents import check_available, to_options
from ra3sim.discovery.method import Method
from ra3sim.em import RA3
from ra3sim.latent import LatentModel, TableWorld, Trajectories, expect, learn
from ra3sim.mdp import MDP
from ra3sim.options import OptionSet


def find(
    mdp: MDP,
    demonstrations: Trajectories,
    num_options: int,
    *,
    seed: Any,
    keep: float = 0.8,
    estep: Any = "exact",
    restarts: int = 4,
    iterations: int = 300,
    smoothing: float = 0.01,
    tolerance: float = 1e-5,
    concentration: float = 20.0,
    support: float = 1.0,
    threshold: float = 0.05,
) -> OptionSet:
    """EM with a prior that keeps a latent with probability α and else draws one of all; then options of the latents.

    Under that prior a latent ends with one probability everywhere. What an option needs is where another latent takes
    over: it ends on arriving in s with the posterior probability of a change, given that it arrives there, which the
    E-step has (`switch_probability`). Where it begins, see `ra3sim.discovery._latents.to_options`.

    Args:
        keep: α of the temporal prior, which stays.
        estep: "exact", "posterior", "policy_gradient", or an instance of such an E-step (see `ra3sim.em.RA3`).
        restarts: random starts, of which the one with the largest (exact) objective is kept.
        iterations: of EM at most; E-steps that sample make them all.
        smoothing, tolerance, concentration: see `ra3sim.latent.learn`; the tolerance is of the exact E-step.
        support: expected visits from which on an option is trusted in a state.
        threshold: actions less probable than this are left out.

    Raises:
        ValueError: actions that the MDP does not have, what `ra3sim.latent.learn` and `RA3` refuse, no option with
            support.
    """
    check_available(mdp, demonstrations)
    if not 0 < keep <= 1:
        raise ValueError(f"keep: must lie in (0, 1], got {keep}; a latent that is never kept is no option")
    prior = TemporalPrior(num_options, keep)
    if isinstance(estep, str) and estep == "exact":
        model = learn(
            demonstrations, prior, restarts=restarts, seed=seed, by_state=False, smoothing=smoothing,
            concentration=concentration, available=mdp.available, limit=iterations, tolerance=tolerance,
        ).model  # fmt: skip
    else:
        model = _climb(mdp, demonstrations, prior, estep, restarts, iterations, smoothing, concentration, seed)
    visits, changes = switch_probability(model, demonstrations)
    return to_options(mdp, model, visits, changes, support, threshold, "ra3")


def switch_probability(model: LatentModel, demonstrations: Trajectories) -> tuple[np.ndarray, np.ndarray]:
    """Expected decisions of each latent, ``(Z, S)``, and P(z_t != z | z_{t-1} = z, s_t = s, all actions), averaged.

    Forward-backward counts arrivals and new draws. Of the steps that keep a latent, the share that has drawn it again,
    r = (1 - α)/Z / (α + (1 - α)/Z), is the same under every posterior, so new draws = changes + r (arrivals - changes).
    A latent that never arrives somewhere ends there. α must be positive.
    """
    assert isinstance(model.prior, TemporalPrior)
    again = (1 - model.prior.keep) / model.num_latents
    r = again / (model.prior.keep + again)
    found = expect(model.with_option_prior(), demonstrations).statistics
    assert found.arrived is not None and found.ended is not None  # an option prior counts them
    arrived = np.maximum(found.arrived, 1e-300)
    share = np.where(found.arrived > 0, found.ended / arrived, 1.0)
    return found.counts.sum(-1), ((share - r) / (1 - r)).clip(0, 1)


def _climb(
    mdp: MDP, demonstrations: Trajectories, prior: TemporalPrior, estep: Any, restarts: int, iterations: int,
    smoothing: float, concentration: float, seed: Any,
) -> LatentModel:  # fmt: skip
    """The model with the largest objective after so many iterations from each start."""
    if restarts < 1 or iterations < 1:
        raise ValueError(f"restarts, iterations: must be at least 1, got {restarts} and {iterations}")
    sizes = (prior.num_latents, demonstrations.num_states, demonstrations.num_actions)
    best, model = -np.inf, None
    for child in np.random.SeedSequence(seed).spawn(restarts):
        start, draws = child.spawn(2)
        world = TableWorld(
            demonstrations, prior, contexts="state", smoothing=smoothing, available=mdp.available,
            model=LatentModel.random(*sizes, prior, start, mdp.available, concentration), exact_record=False,
        )  # fmt: skip
        loop = RA3(world, estep, seed=int(draws.generate_state(1)[0]))
        state = loop.init()
        for _ in range(iterations):
            state = loop.step(state)
        objective = float(expect(state.model, demonstrations).log_likelihood.sum()) + world.penalty(state.model)
        if model is None or objective > best:
            best, model = objective, state.model
    assert model is not None
    return model


METHOD = Method(
    name="ra3",
    title="RA3 in tables",
    source="Zhang et al. 2025, Learning to Reason as Action Abstractions with Scalable Mid-Training RL, "
    "arXiv 2509.25810",
    needs="demonstrations",
    find=find,
    deviations=(
        "Policies are tables, and the M-step is in closed form, with smoothing.",
        "The E-step is exact by default; the published one is estep='policy_gradient'.",
        "The published method makes no options: here a latent's option ends where the posterior changes it, and begins "
        "where the demonstrations support it.",
        "The best of several starts by its objective.",
    ),
)
