"""Eigenoptions: climb an eigenvector of the state graph's Laplacian (Machado, Bellemare & Bowling 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from ra3sim.discovery._graph import StateGraph, eigenvectors, laplacian
from ra3sim.discovery._points import join
from ra3sim.discovery.method import Method
from ra3sim.mdp import MDP
from ra3sim.options import OptionSet, one_hot
from ra3sim.planning import solve
from ra3sim.smdp import SMDP

# An option ends where no more intrinsic value than this can be had; the planner's error is a tenth of it.
_NOTHING = 1e-9


def find(
    mdp: MDP,
    num_options: int,
    *,
    seed: Any = 0,
    normalised: bool = True,
    discount: float | None = None,
    threshold: float = 0.0,
) -> OptionSet:
    """Two options, up and down, for each eigenvector, in the order of the smallest nonzero eigenvalues.

    An eigenvector e is an *eigenpurpose*: a step from s to s' earns e(s') - e(s) (definition 3.1). The option follows
    the policy that earns most, where it may also stop at any time; it ends where nothing more is to be had, and can
    begin everywhere else (section 3.2). It ends for sure: of the states that it would go round in for ever, it has
    nothing to earn in the one where e is largest.

    Args:
        seed: not used.
        normalised: the normalised Laplacian, as published, or D - A.
        discount: of the intrinsic rewards; None: the MDP's.
        threshold: see `StateGraph.of`.

    Raises:
        ValueError: the state graph falls apart.
    """
    graph = StateGraph.of(mdp, threshold)
    graph.check_connected("eigenoptions")
    _, vectors = eigenvectors(laplacian(graph.undirected(), normalised))
    found: list[OptionSet] = []
    for number in range(1, len(graph)):
        for sign, direction in ((1, "up"), (-1, "down")):
            purpose = np.zeros(mdp.num_states)
            purpose[graph.states] = sign * vectors[:, number]
            option = climb(mdp, purpose, mdp.discount if discount is None else discount, f"eigen {number} {direction}")
            found += [option] if option is not None else []
            if len(found) == num_options:
                return join(found, "eigenoptions")
    return join(found, "eigenoptions")


def climb(mdp: MDP, purpose: np.ndarray, discount: float, name: str) -> OptionSet | None:
    """The option of one eigenpurpose ``(S,)``; None if there is nothing to earn from any state that can be visited."""
    S, A = mdp.num_states, mdp.num_actions
    earned = (mdp.rows() @ purpose).reshape(S, A) - purpose[:, None]
    # One more option, which stops: it earns nothing and leads nowhere.
    outcomes = [discount * sp.csr_array(mdp.action_matrix(a)) for a in range(A)] + [sp.csr_array((S, S))]
    rewards = np.append(np.where(mdp.available, earned, 0.0).T, np.zeros((1, S)), axis=0)
    available = np.append(mdp.available.T, np.ones((1, S), bool), axis=0)
    plan = solve(SMDP(rewards, outcomes, available, terminal=mdp.terminal), tolerance=_NOTHING / 10)
    going_on = plan.values > _NOTHING
    # Symmetric worlds have actions that are as good as each other but for rounding, which is not the same everywhere.
    values = np.stack([rewards[a] + outcomes[a] @ plan.values for a in range(A)])
    equal = mdp.available.T & (values >= values.max(0, where=mdp.available.T, initial=-np.inf) - _NOTHING)
    begin = going_on & mdp.reachable()
    if not begin.any():
        return None
    policy = one_hot(np.where(going_on, equal.argmax(0), 0), A)
    return OptionSet.from_policy(policy, (~going_on).astype(float), begin, name)


METHOD = Method(
    name="eigenoptions",
    title="eigenoptions",
    source="Machado, Bellemare & Bowling 2017, A Laplacian Framework for Option Discovery in Reinforcement Learning, "
    "ICML",
    needs="mdp",
    find=find,
    deviations=(
        "The graph is read from the transition model, not from sampled transitions.",
        "Equal eigenvalues leave the eigenvectors open; a fixed rule picks a basis. Of equally good actions an option "
        "takes the first.",
        "An eigenpurpose from which no visited state can earn anything (its actions are one-way) is passed over.",
    ),
)
