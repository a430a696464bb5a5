"""Options: temporally extended actions as stacked arrays (Sutton, Precup & Singh 1999)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse import csgraph

from ra3sim import _check
from ra3sim.mdp import MDP, _state_mask


@dataclass(frozen=True, eq=False)
class OptionSet:
    """Z options over S states and A primitive actions.

    An option is run by *nodes*. A Markov option is one node that follows itself. A macro-action is open-loop and so not
    Markov in S; it is Markov in (state, step), so it is a chain of nodes, one per step, and its model is still exact.
    In node n at state s an action is drawn from ``policy[n, s]``; on arriving at s' the option ends with probability
    ``termination[n, s']`` (always, if s' is terminal) and otherwise goes on in node ``next_node[n]``.

    Args:
        policy: ``(N, S, A)``, rows sum to 1.
        termination: ``(N, S)``, probability of ending on arrival, in [0, 1].
        initiation: boolean ``(Z, S)``; None: available everywhere.
        names: Z names.
        next_node: ``(N,)``; None: every node follows itself (Markov options).
        start_node: ``(Z,)``; None: option z starts in node z.

    Raises:
        ValueError: wrong shape or range, a row that is no distribution, a node cycle, an option available nowhere.

    >>> import numpy as np
    >>> stay = OptionSet(policy=np.ones((1, 3, 1)), termination=[[0.5, 0.5, 1.0]])
    >>> len(stay), stay.num_states, stay.is_markov
    (1, 3, True)
    """

    policy: Any
    termination: Any
    initiation: Any = None
    names: Any = None
    next_node: Any = None
    start_node: Any = None

    def __post_init__(self) -> None:
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731  (the container is frozen)
        policy = _check.distribution("policy", self.policy, (None, None, None), "nsa")
        nodes, states, _ = policy.shape
        if nodes == 0:
            raise ValueError("policy: no options; an empty decision space leaves nothing to choose")
        termination = _check.real_array("termination", self.termination, (nodes, states), "ns")
        bad = (termination < 0) | (termination > 1)
        if bad.any():
            raise ValueError(f"termination[{_check.first(bad, 'ns')}] lies outside [0, 1]; it is a probability")
        put("policy", _check.freeze(policy))
        put("termination", _check.freeze(termination))
        put("next_node", _check.freeze(_read_nodes("next_node", self.next_node, nodes, nodes)))
        put("start_node", _check.freeze(_read_nodes("start_node", self.start_node, None, nodes)))
        count = len(self.start_node)
        initiation = np.ones((count, states), bool) if self.initiation is None else self.initiation
        initiation = _check.bool_array("initiation", initiation, (count, states), "zs")
        names = [f"option {z}" for z in range(count)] if self.names is None else self.names
        put("names", _check.check_names("names", names, count))
        if not initiation.any(1).all():
            name = self.names[int(np.argmin(initiation.any(1)))]
            raise ValueError(f"initiation: option {name!r} is available in no state; drop it")
        put("initiation", _check.freeze(initiation))
        self.node_order()

    def __len__(self) -> int:
        return len(self.start_node)

    @property
    def num_states(self) -> int:
        return self.policy.shape[1]

    @property
    def num_actions(self) -> int:
        return self.policy.shape[2]

    @property
    def is_markov(self) -> bool:
        """True if no option needs a memory beside the state."""
        return bool((self.next_node == np.arange(len(self.next_node))).all())

    def node_order(self) -> np.ndarray:
        """The nodes, every node before the one that follows it.

        Raises:
            ValueError: nodes follow each other in a circle (one node may follow itself).
        """
        depth = np.zeros(len(self.next_node), np.int64)
        follower = self.next_node.copy()
        active = follower != np.arange(len(follower))
        while active.any():
            if depth.max() > len(depth):
                # After more steps than there are nodes one goes round in the circle itself.
                on_circle = int(follower[np.argmax(depth)])
                raise ValueError(
                    f"next_node: node {on_circle} is followed by itself through others; end the chain in a node that "
                    "follows itself"
                )
            depth[active] += 1
            at = follower[active]
            active_index = np.flatnonzero(active)
            active[active_index] = self.next_node[at] != at
            follower[active_index] = self.next_node[at]
        return np.argsort(-depth, kind="stable")

    @staticmethod
    def primitives(mdp: MDP) -> OptionSet:
        """The primitive actions as options that end after one step."""
        states, actions = mdp.num_states, mdp.num_actions
        policy = np.broadcast_to(np.eye(actions)[:, None, :], (actions, states, actions))
        return OptionSet(policy, np.ones((actions, states)), mdp.available.T | mdp.terminal, mdp.action_names)

    @staticmethod
    def macros(mdp: MDP, sequences: int | Sequence[Sequence[int]]) -> OptionSet:
        """Open-loop action sequences, exactly: equal endings share their nodes.

        A macro is available where every action along every possible path is; it ends early only in terminal states.

        Args:
            sequences: the action sequences, or a length τ >= 1 for all A^τ of them.

        Raises:
            ValueError: an empty sequence, an unknown action, a sequence that stands twice or fits in no state.
        """
        if isinstance(sequences, (int, np.integer)):
            if sequences < 1:
                raise ValueError(f"sequences: a macro has at least one action, got length {sequences}")
            sequences = list(product(range(mdp.num_actions), repeat=int(sequences)))
        macros = [tuple(int(a) for a in sequence) for sequence in sequences]
        if not macros:
            raise ValueError("sequences: none given; an empty decision space leaves nothing to choose")
        for sequence in macros:
            if not sequence or not all(0 <= a < mdp.num_actions for a in sequence):
                raise ValueError(f"sequences: {sequence} needs one or more actions from 0 to {mdp.num_actions - 1}")
        endings = sorted({s[i:] for s in macros for i in range(len(s))}, key=len)
        index = {ending: n for n, ending in enumerate(endings)}
        first_action = np.array([ending[0] for ending in endings])
        one_step = np.array([len(ending) == 1 for ending in endings])
        names = ["-".join(mdp.action_names[a] for a in s) for s in macros]
        feasible = _feasible_macros(mdp, endings, index)
        seen: set[tuple[int, ...]] = set()
        for sequence, name in zip(macros, names, strict=True):
            if sequence in seen:
                raise ValueError(f"sequences: {name!r} stands twice; give it once")
            seen.add(sequence)
            if not feasible[index[sequence]].any():
                raise ValueError(f"sequences: {name!r} can be played in no state; drop it")
        shape = (len(endings), mdp.num_states, mdp.num_actions)
        return OptionSet(
            policy=np.broadcast_to(np.eye(mdp.num_actions)[first_action][:, None, :], shape),
            termination=np.broadcast_to(one_step[:, None], shape[:2]),
            initiation=np.array([feasible[index[s]] for s in macros]),
            names=names,
            next_node=[index[e[1:]] if len(e) > 1 else n for n, e in enumerate(endings)],
            start_node=[index[s] for s in macros],
        )

    @staticmethod
    def point(mdp: MDP, landmarks: Sequence[int]) -> OptionSet:
        """For each landmark, the option that goes there: its policy maximises E[γ^τ], it ends on arrival.

        An option is available where it reaches its landmark, or the end of the episode, for sure, and where E[γ^τ] is
        above 1e-9 (farther away, rounding would choose the way); not at the landmark.

        Raises:
            ValueError: an unknown state, or a landmark that cannot be reached from anywhere.
        """
        landmarks = [int(s) for s in landmarks]
        if not landmarks:
            raise ValueError("landmarks: none given")
        states = np.arange(mdp.num_states)
        policy = np.zeros((len(landmarks), mdp.num_states, mdp.num_actions))
        initiation = np.zeros((len(landmarks), mdp.num_states), bool)
        for z, landmark in enumerate(landmarks):
            if not 0 <= landmark < mdp.num_states:
                raise ValueError(f"landmarks: there is no state {landmark}; states are 0 to {mdp.num_states - 1}")
            ends = (states == landmark) | mdp.terminal
            policy[z], pays = way_to(mdp, landmark, ~ends)
            graph = sp.csr_array(mdp.under(policy[z])[0])
            stuck = ~reaching(graph, ends)
            initiation[z] = pays & ~reaching(drop_rows(graph, ends), stuck) & ~ends
            if not initiation[z].any():
                raise ValueError(f"landmarks: state {landmark} cannot be reached for sure from any other state")
        termination = np.eye(mdp.num_states)[landmarks]
        return OptionSet(policy, termination, initiation, [f"go to {mdp.state_names[s]}" for s in landmarks])

    @staticmethod
    def from_policy(policy: Any, termination: Any, initiation: Any = None, name: str = "option") -> OptionSet:
        """One Markov option: a policy ``(S, A)`` (see `one_hot`), a termination ``(S,)``, an initiation ``(S,)``."""
        policy = _check.distribution("policy", policy, (None, None), "sa")
        termination = _check.real_array("termination", termination, (len(policy),), "s")
        mask = None if initiation is None else _state_mask("initiation", initiation, len(policy))[None]
        return OptionSet(policy[None], termination[None], mask, [name])

    def union(self, *others: OptionSet) -> OptionSet:
        """All options of several sets over the same states and actions."""
        sets = (self, *others)
        for other in others:
            if other.policy.shape[1:] != self.policy.shape[1:]:
                raise ValueError(
                    f"others: options over (S, A) = {other.policy.shape[1:]}, these are over {self.policy.shape[1:]}"
                )
        offsets = np.cumsum([0] + [len(s.next_node) for s in sets[:-1]])
        return OptionSet(
            policy=np.concatenate([s.policy for s in sets]),
            termination=np.concatenate([s.termination for s in sets]),
            initiation=np.concatenate([s.initiation for s in sets]),
            names=[name for s in sets for name in s.names],
            next_node=np.concatenate([s.next_node + o for s, o in zip(sets, offsets, strict=True)]),
            start_node=np.concatenate([s.start_node + o for s, o in zip(sets, offsets, strict=True)]),
        )

    __or__ = union

    def subset(self, options: Sequence[int | str]) -> OptionSet:
        """Some of the options, by number or name, in the given order; nodes that nothing uses any more are dropped."""
        chosen = option_numbers(options, self.names)
        used = np.zeros(len(self.next_node), bool)
        at = self.start_node[chosen]
        while not used[at].all():
            used[at] = True
            at = self.next_node[at]
        renumber = np.cumsum(used) - 1
        return OptionSet(
            policy=self.policy[used],
            termination=self.termination[used],
            initiation=self.initiation[chosen],
            names=[self.names[z] for z in chosen],
            next_node=renumber[self.next_node[used]],
            start_node=renumber[self.start_node[chosen]],
        )

    def __repr__(self) -> str:
        shown = ", ".join(self.names[:4]) + (", ..." if len(self) > 4 else "")
        return f"<OptionSet: Z={len(self)}, S={self.num_states}, A={self.num_actions}: {shown}>"


def one_hot(actions: Any, num_actions: int) -> np.ndarray:
    """A deterministic policy, actions ``(S,)``, as ``(S, A)``; states without a decision (-1) get action 0."""
    return np.eye(num_actions)[np.maximum(np.asarray(actions, dtype=np.int64), 0)]


# Of the values E[γ^τ 1{arrives}] that `way_to` maximises; those not far above it would be decided by rounding.
_WAY_TOLERANCE = 1e-10


def way_to(mdp: MDP, target: int, begin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How to get to a state soon: the policy ``(S, A)`` that maximises E[γ^τ 1{arrives}] before leaving ``begin``.

    Args:
        begin: states ``(S,)`` in which the way is walked; the target is none of them. Elsewhere the policy is action 0.

    Returns:
        The policy, and where (``(S,)``) its value is so far above rounding that it can be relied on.
    """
    # Imported here: planning stands on SMDPs, which stand on options.
    from ra3sim.planning import solve
    from ra3sim.smdp import SMDP

    rows: Any = mdp.rows()
    arrives = rows[:, [target]].toarray() if mdp.is_sparse else rows[:, [target]]
    available = mdp.available & begin[:, None]
    rewards = arrives.reshape(available.shape) * available
    errand = SMDP.from_rows(rows, rewards, available, ~begin, mdp.discount, mdp.action_names, mdp.row_error)
    plan = solve(errand, tolerance=_WAY_TOLERANCE)
    return one_hot(plan.policy, mdp.num_actions), plan.values > 10 * _WAY_TOLERANCE


def option_numbers(options: Sequence[int | str], names: Sequence[str]) -> np.ndarray:
    """Numbers of the named or numbered options, each at most once.

    Raises:
        ValueError: none, an unknown one, or one that stands twice.
    """
    options = [options] if isinstance(options, (str, int, np.integer)) else list(options)
    numbers = []
    for option in options:
        if isinstance(option, str):
            if option not in names:
                known = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
                raise ValueError(f"options: there is no option {option!r}; known are {known}")
            numbers.append(names.index(option))
        elif not 0 <= int(option) < len(names):
            raise ValueError(f"options: there is no option {option}; numbers run from 0 to {len(names) - 1}")
        else:
            numbers.append(int(option))
    if not numbers:
        raise ValueError("options: none chosen; an empty decision space leaves nothing to choose")
    if len(set(numbers)) < len(numbers):
        twice = next(z for z in numbers if numbers.count(z) > 1)
        raise ValueError(f"options: {names[twice]!r} stands twice; choose it once")
    return np.array(numbers)


def reaching(graph: sp.csr_array, targets: np.ndarray) -> np.ndarray:
    """States ``(S,)`` from which a path of positive entries of ``graph`` (S, S) leads into ``targets``."""
    return reached(sp.csr_array(graph.T), targets)


def reached(graph: sp.csr_array, sources: np.ndarray) -> np.ndarray:
    """States ``(S,)`` that a path of positive entries of ``graph`` (S, S) leads to from ``sources``, these included."""
    if not sources.any():
        return sources.copy()
    states = len(sources)
    start = np.flatnonzero(sources)
    # One extra node with an edge to every source makes it a search from a single node.
    indices = np.concatenate([graph.indices, start])
    indptr = np.append(graph.indptr, graph.indptr[-1] + start.size)
    data = np.concatenate([graph.data > 0, np.ones(start.size, bool)]).astype(np.int8)
    joined = sp.csr_array((data, indices, indptr), shape=(states + 1, states + 1))
    joined.eliminate_zeros()
    order = csgraph.breadth_first_order(joined, states, return_predecessors=False)
    mask = np.zeros(states + 1, bool)
    mask[order] = True
    return mask[:states]


def drop_rows(graph: sp.csr_array, rows: np.ndarray) -> sp.csr_array:
    """``graph`` with the marked rows emptied."""
    result = sp.csr_array(sp.diags_array((~rows).astype(float)) @ graph)
    result.eliminate_zeros()
    return result


def _feasible_macros(mdp: MDP, endings: list[tuple[int, ...]], index: dict[tuple[int, ...], int]) -> np.ndarray:
    """States ``(N, S)`` in which a whole sequence can be played, whatever happens; ``endings`` in order of length."""
    feasible = np.zeros((len(endings), mdp.num_states), bool)
    steps = [sp.csr_array(mdp.action_matrix(a)) for a in range(mdp.num_actions)]
    for n, ending in enumerate(endings):
        feasible[n] = mdp.available[:, ending[0]]
        if len(ending) > 1:
            blocked = ~feasible[index[ending[1:]]] & ~mdp.terminal
            feasible[n] &= ~((steps[ending[0]] > 0) @ blocked)
    return feasible


def _read_nodes(name: str, value: Any, count: int | None, nodes: int) -> np.ndarray:
    if value is None:
        return np.arange(nodes)
    array = _check.any_array(name, value)
    if array.ndim != 1 or (count is not None and len(array) != count) or array.dtype.kind not in "iu":
        raise ValueError(f"{name}: must be a vector of node numbers, got shape {array.shape}, dtype {array.dtype}")
    if array.size == 0:
        raise ValueError(f"{name}: no options; an empty decision space leaves nothing to choose")
    if array.min() < 0 or array.max() >= nodes:
        raise ValueError(f"{name}: node numbers run from 0 to {nodes - 1}, got {value!r}")
    return array.astype(np.int64)
