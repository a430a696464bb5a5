"""Options that minimise planning time: how soon value iteration is done (Jinnai et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from ra3sim.discovery._centers import approximate_centers, exact_centers, exact_cover, greedy_cover, radius
from ra3sim.discovery._points import join
from ra3sim.discovery.method import Method
from ra3sim.mdp import MDP
from ra3sim.options import OptionSet, drop_rows, one_hot, reaching
from ra3sim.planning import solve

SOLVERS = ("approximate", "exact")
_COLUMNS = 256


def find(
    mdp: MDP,
    num_options: int,
    *,
    seed: Any = 0,
    sweeps: int | None = None,
    solver: str = "approximate",
    epsilon: float = 1e-6,
) -> OptionSet:
    """Point options, each from one state along the optimal policy to the end of the episode, for one given task.

    Without ``sweeps``, the problem MIMO: the options with which the number of sweeps of value iteration is smallest
    (A-MIMO: distances, an asymmetric k-center, options from the centres). With ``sweeps``, the problem MOMI: the fewest
    options with which so many sweeps are enough (A-MOMI: distances, a set cover, options from the states chosen).

    The distance of s from c is the number of sweeps after which V(s) is within epsilon of V*(s) if V(c) = V*(c) is
    given, see `Distances`. Where moves are certain the result is what the paper promises: O(log* n) times the fewest
    sweeps, or (1 + ln n) times the fewest options; with ``solver="exact"`` the best. Where moves slip the centres are
    chosen by the same distances, one centre at a time; several centres together may do better, so that the number of
    sweeps is at most what the distances say, but the options need not be the best ones.

    Args:
        seed: not used.
        sweeps: None, or the number of sweeps that must be enough; then ``num_options`` is the most to use.
        solver: "approximate", or "exact": integer programs, for some hundreds of states.
        epsilon: how close a value must be.

    Raises:
        ValueError: a setting out of range; no state from which the optimal policy ends the episode for sure; more
            options needed than asked for, or none.
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver: unknown {solver!r}; known are {', '.join(SOLVERS)}")
    given = Distances.of(mdp, epsilon)
    if sweeps is None:
        centers = (approximate_centers if solver == "approximate" else exact_centers)(
            given.matrix, given.free, num_options
        )
    else:
        if sweeps < 1:
            raise ValueError(f"sweeps: at least one, got {sweeps}")
        cover = greedy_cover if solver == "approximate" else exact_cover
        fewest = cover(given.matrix <= sweeps - 1, given.free > sweeps - 1)
        if fewest is None or len(fewest) > num_options:
            needed = "no" if fewest is None else len(fewest)
            raise ValueError(f"num_options: {needed} options make {sweeps} sweeps enough; allow more of either")
        if not (centers := fewest):
            raise ValueError(f"sweeps: {sweeps} are enough without any option; ask for fewer")
    return join([given.option(mdp, center) for center in centers], "planning_time")


@dataclass(frozen=True, eq=False)
class Distances:
    """How many sweeps each state needs, given the value of another one.

    Attributes:
        states: the n states that are not terminal.
        matrix: ``(n, n)``: sweeps of value iteration until V(row) is within epsilon of V*, if V(column) = V* from the
            start, and at most ``free``; infinite in columns from which the optimal policy may never end the episode.
            With options from the states C, 1 + max over rows of min over C is enough, and needed where moves are
            certain: one sweep to set the values of C.
        free: ``(n,)``: sweeps without any option, less one (and not below 0).
        policy: an optimal policy ``(S, A)``.
    """

    states: np.ndarray
    matrix: np.ndarray
    free: np.ndarray
    policy: np.ndarray

    @staticmethod
    def of(mdp: MDP, epsilon: float = 1e-6) -> Distances:
        """The distances, from the lowest value that rewards allow (0 if none is negative): values then only grow."""
        if not epsilon > 0:
            raise ValueError(f"epsilon: must be positive, got {epsilon!r}")
        plan = solve(mdp, tolerance=epsilon / 100)
        policy = one_hot(plan.policy, mdp.num_actions)
        states = np.flatnonzero(~mdp.terminal)
        step = drop_rows(sp.csr_array(mdp.under(policy)[0]), mdp.terminal)
        ends = ~reaching(step, ~reaching(step, mdp.terminal))
        if not ends[states].any():
            raise ValueError(
                "mdp: planning_time needs a task whose optimal policy ends the episode for sure; give it a goal"
            )
        sweeps = np.empty((len(states), len(states) + 1))
        for first in range(0, sweeps.shape[1], _COLUMNS):
            part = slice(first, first + _COLUMNS)
            given = np.append(-1, states)[part]
            sweeps[:, part] = sweeps_given(mdp, plan.values, given, epsilon)[states]
        free = np.maximum(sweeps[:, 0] - 1, 0)
        matrix = np.where(ends[states], np.minimum(sweeps[:, 1:], free[:, None]), np.inf)
        return Distances(states, matrix, free, policy)

    def sweeps(self, centers: list[int]) -> int:
        """How many sweeps are enough with options from some of the nodes."""
        return int(radius(self.matrix, self.free, centers)) + 1

    def option(self, mdp: MDP, center: int) -> OptionSet:
        """The option from a node: the optimal policy until the episode ends."""
        begin = np.arange(mdp.num_states) == self.states[center]
        name = f"{mdp.state_names[self.states[center]]} to the end"
        return OptionSet.from_policy(self.policy, mdp.terminal.astype(float), begin, name)


def lowest_values(mdp: MDP) -> np.ndarray:
    """Values ``(S,)`` that no policy falls below: those of the lowest reward for ever, or 0."""
    lowest = min(0.0, mdp.rewards.min(initial=0, where=mdp.available)) / (1 - mdp.discount)
    return np.where(mdp.terminal, 0.0, lowest)


def sweeps_given(mdp: MDP, values: np.ndarray, given: np.ndarray, epsilon: float) -> np.ndarray:
    """Sweeps of value iteration ``(S, G)`` until each state is within epsilon of its value, from `lowest_values`.

    Args:
        values: V* ``(S,)``.
        given: ``(G,)``: for each column, the state whose value is given from the start; -1: none.
    """
    S, A = mdp.num_states, mdp.num_actions
    rows = sp.csr_array(mdp.rows())
    missing = np.where(mdp.available, mdp.rewards, -np.inf)[..., None]
    columns = np.flatnonzero(given >= 0)
    V = np.repeat(lowest_values(mdp)[:, None], len(given), axis=1)
    sweeps = np.zeros(V.shape, np.int64)
    made = 0
    while True:
        V[given[columns], columns] = values[given[columns]]
        far = np.abs(V - values[:, None]) > epsilon
        if not far.any():
            return sweeps
        made += 1
        sweeps[far] = made
        V = (missing + mdp.discount * (rows @ V).reshape(S, A, -1)).max(1)
        V[mdp.terminal] = 0


METHOD = Method(
    name="planning_time",
    title="options that minimise planning time",
    source="Jinnai, Abel, Hershkowitz, Littman & Konidaris 2019, Finding Options that Minimize Planning Time, ICML",
    needs="mdp",
    find=find,
    deviations=(
        "The k-center is approximated after Panigrahy and Vishwanathan (1998), O(log* n), not after Archer (2001), "
        "O(log* k).",
        "Centres that are left over are chosen by the sum of distances, not at random.",
        "Values start from a lower bound, so that costs are allowed.",
    ),
)
