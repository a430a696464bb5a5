"""SMDP Q-learning over options (Bradtke & Duff 1994; Sutton, Precup & Singh 1999, section 3.2), compiled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from ra3sim.learning import _kernels
from ra3sim.mdp import MDP
from ra3sim.options import OptionSet


class OptionProblem:
    """An MDP and the options that an agent may choose from, in the arrays that the compiled loop reads.

    Raises:
        ValueError: options over other states or actions, a start in a terminal state.
    """

    def __init__(self, mdp: MDP, options: OptionSet) -> None:
        if options.policy.shape[1:] != (mdp.num_states, mdp.num_actions):
            raise ValueError(
                f"options: over (S, A) = {options.policy.shape[1:]}, the MDP has ({mdp.num_states}, {mdp.num_actions})"
            )
        if (mdp.start[mdp.terminal] > 0).any():
            raise ValueError("mdp: may start in a terminal state, where nothing can be done")
        self.mdp, self.options = mdp, options
        rows = sp.csr_array(mdp.rows(), copy=True)
        rows.eliminate_zeros()
        total = np.concatenate([[0.0], np.cumsum(rows.data)])
        cumulated = total[1:] - np.repeat(total[rows.indptr[:-1]], np.diff(rows.indptr))
        self._arrays = (
            rows.indptr.astype(np.int64),
            rows.indices.astype(np.int64),
            cumulated,
            np.ascontiguousarray(mdp.rewards),
            np.ascontiguousarray(mdp.terminal),
            np.cumsum(mdp.start),
            np.cumsum(options.policy, axis=-1),
            np.ascontiguousarray(options.termination),
            np.ascontiguousarray(options.next_node),
            np.ascontiguousarray(options.start_node),
            np.ascontiguousarray(options.initiation),
            mdp.discount,
        )


@dataclass(frozen=True)
class Learning:
    """Where learning stands.

    Args:
        Q: ``(Z, S)``.
        visits: ``(Z, S)``, updates of each entry.
        episodes, steps: done so far; steps are primitive ones.
        stream: two words, the state of the random stream.
    """

    Q: np.ndarray
    visits: np.ndarray
    episodes: int
    steps: int
    stream: np.ndarray

    def greedy(self, options: OptionSet) -> np.ndarray:
        """The greedy option of every state, ``(S,)``, the first among equals; -1 where none is available."""
        values = np.where(options.initiation, self.Q, -np.inf)
        return np.where(options.initiation.any(0), values.argmax(0), -1)


@dataclass(frozen=True)
class SMDPQLearning:
    """ε-greedy Q-learning in which one update covers a whole option: Q += η (R + γ^τ max Q(s') − Q).

    Args:
        step_size: η in (0, 1].
        epsilon: probability of a uniformly random available option.
        initial: of Q.
        max_steps: primitive steps after which an episode is cut; what it cut is not learnt from.

    Raises:
        ValueError: a value out of range.

    >>> from ra3sim import OptionSet
    >>> from ra3sim.envs import chain
    >>> mdp = chain(5, discount=0.5, start=0)
    >>> problem = OptionProblem(mdp, OptionSet.macros(mdp, 2))
    >>> learner = SMDPQLearning()
    >>> state = learner.update(problem, learner.init(problem, seed=0), episodes=200)
    >>> int(state.greedy(problem.options)[0]), state.Q.max(0)[0].round(3)
    (3, np.float64(0.125))
    """

    step_size: float = 0.5
    epsilon: float = 0.2
    initial: float = 0.0
    max_steps: int = 10_000

    def __post_init__(self) -> None:
        if not 0 < self.step_size <= 1:
            raise ValueError(f"step_size: must lie in (0, 1], got {self.step_size}")
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon: must lie in [0, 1], got {self.epsilon}")
        if not np.isfinite(self.initial):
            raise ValueError(f"initial: must be finite, got {self.initial}")
        if self.max_steps < 1:
            raise ValueError(f"max_steps: must be at least 1, got {self.max_steps}")

    def init(self, problem: OptionProblem, seed: Any) -> Learning:
        """Nothing learnt yet; ``seed`` is for `numpy.random.SeedSequence`."""
        sequence = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
        shape = (len(problem.options), problem.mdp.num_states)
        return Learning(np.full(shape, float(self.initial)), np.zeros(shape, np.int64), 0, 0,
                        sequence.generate_state(2, np.uint64) | np.uint64(1))  # fmt: skip

    def update(self, problem: OptionProblem, state: Learning, episodes: int) -> Learning:
        """Learn from so many episodes more; one call for n + m gives what two calls for n and for m give.

        Raises:
            ValueError: an episode comes to a state, not terminal, in which no option is available.
        """
        Q, visits, stream = state.Q.copy(), state.visits.copy(), state.stream.copy()
        steps = _kernels.q_learning(
            *problem._arrays, episodes, self.max_steps, self.step_size, self.epsilon, Q, visits, stream
        )
        if steps < 0:
            raise ValueError(
                f"options: none is available in state {problem.mdp.state_names[-1 - steps]}, where an episode came to; "
                "add one, or let options end elsewhere"
            )
        return replace(
            state, Q=Q, visits=visits, episodes=state.episodes + episodes, steps=state.steps + steps, stream=stream
        )
