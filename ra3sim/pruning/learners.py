"""Three ways to prune a decision space from demonstrations: by values, by use, and by smoothed frequency.

An expert's demonstrations show actions, not values. `value_consistent` is what theorem 3.5 of Zhang et al. (2025)
speaks of, and needs an oracle for values; `usage` keeps what the expert used; `frequency` is what next-token prediction
learns: a prior over options in each state, which excludes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ra3sim import _check
from ra3sim.options import OptionSet
from ra3sim.pruning.hitting import Infeasible, smallest_hitting_set
from ra3sim.pruning.oracle import PruningOracle
from ra3sim.tasks.family import TOLERANCE

METHODS = ("auto", "exact", "greedy", "hitting")
"""How `value_consistent` can be asked to search."""


@dataclass(frozen=True, eq=False)
class Pruned:
    """A decision space after pruning, and why.

    Attributes:
        options: what is kept.
        kept: numbers of these among the candidates, in the order in which they were chosen.
        evidence: one number for each candidate, kept or dropped, ``(Z,)``; `evidence_is` says of what.
        evidence_is: in words.
        tested, refuted: candidates that were looked at, and how many of these the demonstrations speak against; they
            are subsets for `value_consistent`, single options for `usage` and `frequency`.
        smallest: True if no smaller set is consistent; None: not known.
        added: options kept against the evidence, because some state would have had none.
        prior: probability of each candidate in each state ``(Z, S)``, if one was learnt.
    """

    options: OptionSet
    kept: tuple[int, ...]
    evidence: np.ndarray
    evidence_is: str
    tested: int
    refuted: int
    smallest: bool | None = None
    added: tuple[int, ...] = ()
    prior: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.kept)

    def __repr__(self) -> str:
        return f"<Pruned: {len(self)} of {len(self.evidence)} options, {self.refuted} of {self.tested} refuted>"


def value_consistent(
    oracle: PruningOracle,
    tasks: Sequence[int] | np.ndarray,
    *,
    epsilon: float = 0.0,
    limit: int | None = None,
    method: str = "auto",
) -> Pruned:
    """A set that no demonstrated task refutes: Δ(M_i, Z') <= ε for all of them (theory, section 2).

    Args:
        tasks: numbers of the demonstrated tasks, repeats allowed.
        epsilon: ε.
        limit: most options to keep. ``"greedy"`` stops there whatever is refuted (and counts it); the exact methods
            refuse.
        method: ``"hitting"``: a smallest hitting set of the tasks' good options, by MILP; smallest of all where one
            option is enough for a task, else adequate but perhaps not smallest (theory 2.8, 2.9), and there may be no
            good option at all. ``"greedy"``: forward selection by the mean of max(Δ, ε). ``"exact"``: a smallest
            adequate set whatever the tasks, for few candidates: by implicit hitting sets (Karp & Moreno-Centeno 2013):
            each maximal inadequate set says that one of the others is needed. ``"auto"``: hitting where the shape of
            the tasks shows that one option is enough, else greedy.

    Returns:
        Evidence: the largest Δ over the tasks if this one option were dropped (of a kept one) or kept (of a dropped
        one); inf where some state would have no option.

    Raises:
        ValueError: no task or an unknown one, ε < 0, a limit below 1, an unknown method.
        Infeasible: no set within the limit; names tasks that can't be served together.

    >>> from ra3sim.envs import chain
    >>> from ra3sim.tasks import TaskFamily
    >>> family = TaskFamily([chain(5, discount=0.5, start=s) for s in (0, 3)])
    >>> value_consistent(PruningOracle(family, OptionSet.macros(family[0], 2)), [0, 1], method="exact").kept
    (3,)
    """
    seen = _read_tasks(tasks, len(oracle.family))
    total = len(oracle.options)
    if not epsilon >= 0:
        raise ValueError(f"epsilon: must be >= 0, got {epsilon!r}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit: must keep at least 1 option, got {limit}")
    if method not in METHODS:
        raise ValueError(f"method: unknown {method!r}; known are {', '.join(METHODS)}")
    if method == "auto":
        method = "hitting" if oracle.one_is_enough else "greedy"
    search = _Search(oracle, seen, epsilon)
    if method == "greedy":
        kept = search.greedy(total if limit is None else limit)
    elif method == "hitting":
        kept = search.hitting(limit)
    else:
        kept = search.exact(limit)
    smallest = True if method == "exact" or (method == "hitting" and oracle.one_is_enough) else None
    tested, refuted = len(search.verdicts), sum(search.verdicts.values())
    flipped = np.array([search.worst(set(kept) ^ {z}) for z in range(total)])
    return Pruned(
        oracle.options.subset(kept), kept, flipped,
        "the largest Δ over the tasks if this option were dropped (kept ones) or kept (dropped ones)",
        tested, refuted, smallest,
    )  # fmt: skip


class _Search:
    """Subsets tried against the demonstrated tasks."""

    def __init__(self, oracle: PruningOracle, seen: np.ndarray, epsilon: float) -> None:
        self.oracle, self.seen, self.epsilon = oracle.on(seen), seen, epsilon
        self.verdicts: dict[frozenset[int], bool] = {}

    def refuted(self, kept: Any) -> bool:
        key = frozenset(kept)
        if key not in self.verdicts:
            self.verdicts[key] = bool(self.oracle.refutes(key, self.epsilon).any())
        return self.verdicts[key]

    def worst(self, kept: Any) -> float:
        return float(self.oracle.pruning_error(kept).max())

    def greedy(self, limit: int) -> tuple[int, ...]:
        kept: list[int] = []
        rest = list(range(len(self.oracle.options)))
        while rest and len(kept) < limit:
            losses = []
            for z in rest:
                self.refuted([*kept, z])
                # What is below ε is as good as ε, and differences below the planners' error are none.
                losses.append(np.maximum(self.oracle.pruning_error([*kept, z]), self.epsilon + TOLERANCE).mean())
            kept.append(rest.pop(int(np.argmin(losses))))
            if not self.refuted(kept):
                break
        return tuple(kept)

    def hitting(self, limit: int | None) -> tuple[int, ...]:
        total = len(self.oracle.options)
        good = np.array([~self.oracle.refutes([z], self.epsilon) for z in range(total)]).T
        for z in range(total):
            self.refuted([z])
        if (lost := ~good.any(1)).any():
            task = int(self.seen[lost.argmax()])
            raise Infeasible(
                f"method: no option alone is good (Δ <= {self.epsilon:g}) in task {task}, so hitting sets do not "
                "apply; take 'greedy' or 'exact'", [task], 2,
            )  # fmt: skip
        try:
            kept = smallest_hitting_set(good, limit)
        except Infeasible as conflict:
            raise self._named(conflict, [[int(self.seen[row])] for row in conflict.rows], limit) from None
        self.refuted(kept)
        return kept

    def exact(self, limit: int | None) -> tuple[int, ...]:
        total = len(self.oracle.options)
        cuts = np.zeros((0, total), bool)
        witnesses: list[list[int]] = []
        while True:
            try:
                kept = smallest_hitting_set(cuts, limit)
            except Infeasible as conflict:
                raise self._named(conflict, [witnesses[row] for row in conflict.rows], limit) from None
            if kept and not self.refuted(kept):
                return kept
            # Adequacy is monotone: grow the set as far as it stays refuted; an adequate one holds something else.
            grown = set(kept)
            for z in range(total):
                if z not in grown and self.refuted(grown | {z}):
                    grown.add(z)
            cuts = np.vstack([cuts, [z not in grown for z in range(total)]])
            witnesses.append(self.seen[self.oracle.refutes(grown, self.epsilon)].tolist())

    def _named(self, conflict: Infeasible, tasks: list[list[int]], limit: int | None) -> Infeasible:
        named = sorted({task for some in tasks for task in some})
        return Infeasible(
            f"limit: tasks {', '.join(map(str, named))} can't be served with Δ <= {self.epsilon:g} by {limit} options, "
            f"they need at least {conflict.needed}; raise the limit or ε, or leave tasks out",
            named, conflict.needed,
        )  # fmt: skip


def usage(options: OptionSet, counts: Any, *, at_least: int = 1, limit: int | None = None) -> Pruned:
    """Keep what the expert used: options that were begun at least so often, the most used first.

    Args:
        options: the candidates Z.
        counts: how often each one was begun in each state, ``(Z, S)``.
        at_least: fewer uses than this speak against an option.
        limit: most options to keep; None: all that were used.

    Returns:
        Evidence: the number of uses. Options that some state needs are `Pruned.added`.

    Raises:
        ValueError: counts of another shape, negative, or all zero; a limit or ``at_least`` below 1; a state that no
            candidate can be begun in.
    """
    counts = _read_counts(options, counts)
    if at_least < 1 or (limit is not None and limit < 1):
        raise ValueError(f"at_least, limit: must be at least 1, got {at_least} and {limit}")
    used = counts.sum(1)
    order = np.argsort(-used, kind="stable")
    kept = [int(z) for z in order if used[z] >= at_least][:limit]
    if not kept:
        raise ValueError(
            f"at_least: no option was used {at_least} times; the most used one was {int(used.max())} times"
        )
    added = _cover(options, kept, used)
    kept += added
    return Pruned(
        options.subset(kept), tuple(kept), used, "how often the expert used it",
        len(options), int((used < at_least).sum()), added=tuple(added),
    )  # fmt: skip


def frequency(
    options: OptionSet, counts: Any, *, smoothing: float = 0.5, backoff: float = 1.0, nucleus: float = 1.0
) -> Pruned:
    """The prior over options that next-token prediction learns, smoothed; the likeliest ones as a set.

    π(z|s) ∝ n(z, s) + λ p(z) over what is available in s, with p(z) ∝ n(z) + η: where a state was seen seldom, what is
    frequent elsewhere stands in (a Dirichlet prior around p; MacKay & Peto 1995).

    Args:
        options: the candidates Z.
        counts: how often each one was begun in each state, ``(Z, S)``; all zero is no demonstration at all.
        smoothing: η > 0, so that nothing is excluded.
        backoff: λ > 0.
        nucleus: in each state keep the fewest options with so much prior probability together, likeliest first (top-p;
            Holtzman et al. 2020); 1 keeps everything. The options kept can then be begun in fewer states.

    Returns:
        Evidence: the prior's mean over the states seen, by how often. No option is ever refuted by a prior.
        `Pruned.prior` has all candidates, also dropped ones, before the nucleus is cut out.

    Raises:
        ValueError: as `usage`; smoothing or backoff that is not positive; a nucleus outside (0, 1].

    >>> import numpy as np
    >>> from ra3sim.envs import chain
    >>> moves = OptionSet.primitives(chain(3))
    >>> frequency(moves, [[0, 0, 0], [3, 0, 0]], smoothing=1.0).prior[:, :2].round(2).tolist()
    [[0.05, 0.2], [0.95, 0.8]]
    """
    counts = _read_counts(options, counts)
    for name, value in (("smoothing", smoothing), ("backoff", backoff)):
        if not 0 < value < np.inf:
            raise ValueError(f"{name}: must be a positive number, got {value!r}")
    if not 0 < nucleus <= 1:
        raise ValueError(f"nucleus: must lie in (0, 1], got {nucleus!r}")
    overall = counts.sum(1) + smoothing
    weights = (counts + backoff * (overall / overall.sum())[:, None]) * options.initiation
    mass = weights.sum(0)
    prior = np.divide(weights, mass, out=np.zeros_like(weights), where=mass > 0)
    seen = counts.sum(0)
    seen = seen if seen.any() else (mass > 0).astype(float)
    evidence = prior @ (seen / seen.sum())
    likely = options.initiation if nucleus == 1 else options.initiation & _nucleus(prior, nucleus)
    kept = [int(z) for z in np.argsort(-evidence, kind="stable") if likely[z].any()]
    return Pruned(
        replace(options.subset(kept), initiation=likely[kept]), tuple(kept), evidence,
        "its mean prior probability over the states seen", len(options), 0, prior=prior,
    )  # fmt: skip


def _nucleus(prior: np.ndarray, share: float) -> np.ndarray:
    """In each state the fewest options with ``share`` of the prior, likeliest first, ``(Z, S)``."""
    order = np.argsort(-prior, axis=0, kind="stable")
    ordered = np.take_along_axis(prior, order, 0)
    before = np.cumsum(ordered, axis=0) - ordered
    inside = np.zeros(prior.shape, bool)
    # Sums are rounded: what is missing by that is not one option more.
    np.put_along_axis(inside, order, before < share - 1e-12, 0)
    return inside


def _cover(options: OptionSet, kept: Sequence[int], evidence: np.ndarray) -> list[int]:
    """What else must be kept so that every state in which a candidate can be begun has one: most evidence first."""
    added: list[int] = []
    bare = options.initiation.any(0) & ~options.initiation[list(kept)].any(0)
    while bare.any():
        helps = options.initiation[:, bare].sum(1)
        best = max(np.flatnonzero(helps), key=lambda z: (evidence[z], helps[z]))
        added.append(int(best))
        bare &= ~options.initiation[best]
    return added


def _read_tasks(tasks: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    seen = np.unique(np.asarray(tasks))
    if seen.size == 0:
        raise ValueError("tasks: no demonstration; give at least one")
    if seen.dtype.kind not in "iu" or seen[0] < 0 or seen[-1] >= count:
        raise ValueError(f"tasks: numbers of tasks run from 0 to {count - 1}, got {seen.tolist()}")
    return seen


def _read_counts(options: OptionSet, counts: Any) -> np.ndarray:
    shape = (len(options), options.num_states)
    counts = _check.real_array("counts", counts, shape, "zs")
    if (counts < 0).any():
        raise ValueError(f"counts[{_check.first(counts < 0, 'zs')}] is negative; it says how often an option was begun")
    wrong = (counts > 0) & ~options.initiation
    if wrong.any():
        raise ValueError(
            f"counts[{_check.first(wrong, 'zs')}] > 0, but the option is not available there; were they counted for "
            "other options?"
        )
    return counts
