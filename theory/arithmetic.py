"""The same formulas in three arithmetics: floats (NumPy and the planner), floats with derivatives (JAX), exact numbers.

A statement is written once, with the operators of arrays and the functions below. Exact arrays are NumPy arrays of
objects: rationals (`flint.fmpq`), and real balls with outward rounding (`flint.arb`) where a logarithm or exponential
was taken. A comparison of balls is true only if it is certain.

JAX's arithmetic is in `theory.falsify`, the only place that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import flint
import numpy as np

from ra3sim.mdp import MDP
from ra3sim.options import OptionSet
from ra3sim.planning import solve
from ra3sim.smdp import SMDP

# Of the balls: about 60 decimal digits.
flint.ctx.prec = 200

Axis = int | tuple[int, ...] | None


class Arithmetic:
    """What formulas may use besides ``+ - * / ** @``, ``.sum``, comparison with 0 and indexing.

    Arrays are made by `array` and `number`; an instance of a statement holds arrays of one arithmetic.
    """

    name: str

    def number(self, numerator: int, denominator: int = 1) -> Any:
        """A fraction."""
        raise NotImplementedError

    def array(self, values: Any) -> Any:
        """Whole numbers, `Fraction`s or numbers of this arithmetic, nested at will."""
        raise NotImplementedError

    def solve(self, matrix: Any, right: Any) -> Any:
        """``matrix^-1 right`` for ``(..., n, n)`` and ``(..., n, m)``."""
        raise NotImplementedError

    def max(self, values: Any, axis: Axis = None) -> Any:
        raise NotImplementedError

    def argmax(self, values: Any, axis: int = 0) -> Any:
        """Whole numbers; of equals the first. Not differentiated."""
        raise NotImplementedError

    def where(self, mask: Any, yes: Any, no: Any) -> Any:
        raise NotImplementedError

    def log(self, values: Any) -> Any:
        """-inf for 0."""
        raise NotImplementedError

    def exp(self, values: Any) -> Any:
        raise NotImplementedError

    def stack(self, arrays: Sequence[Any], axis: int = 0) -> Any:
        raise NotImplementedError

    def eye(self, size: int) -> Any:
        return self.array(np.eye(size, dtype=int))

    def zeros(self, *shape: int) -> Any:
        return self.array(np.zeros(shape, dtype=int))

    def min(self, values: Any, axis: Axis = None) -> Any:
        return -self.max(-values, axis)

    def maximum(self, one: Any, other: Any) -> Any:
        return self.max(self.stack([one + 0 * other, other + 0 * one]), 0)  # of one shape

    def abs(self, values: Any) -> Any:
        return self.max(self.stack([values, -values]), 0)

    def option_model(self, instance: Mapping[str, Any]) -> tuple[Any, Any]:
        """R ``(Z, S)`` and P ``(Z, S, S)`` of Markov options (Sutton, Precup & Singh 1999, section 3)."""
        transitions, rewards, discount, policy, termination = (instance[key] for key in OPTION_KEYS)
        step = discount * (policy[:, :, None, :] @ transitions)[:, :, 0]  # (Z, S, S')
        system = self.eye(rewards.shape[0]) - step * (1 - termination)[:, None]
        ending = step * termination[:, None]
        # One solution for the reward and for every state where the option may end.
        right = [(policy * rewards).sum(-1), *(ending[..., s] for s in range(rewards.shape[0]))]
        solution = self.solve(system, self.stack(right, -1))
        return solution[..., 0], solution[..., 1:]

    def optimal_policy(self, R: Any, P: Any, available: np.ndarray) -> Any:
        """An optimal option for each state, ``(S,)``, not differentiated."""
        raise NotImplementedError


OPTION_KEYS = ("transitions", "rewards", "discount", "policy", "termination")


class Float(Arithmetic):
    """Double precision; models of options and optimal policies are those of `ra3sim.smdp` and `ra3sim.planning`."""

    name = "float"

    def number(self, numerator: int, denominator: int = 1) -> float:
        return numerator / denominator

    def array(self, values: Any) -> np.ndarray:
        return np.asarray(values, dtype=float)

    def solve(self, matrix: Any, right: Any) -> np.ndarray:
        return np.linalg.solve(matrix, right)

    def max(self, values: Any, axis: Axis = None) -> Any:
        return np.max(values, axis)

    def argmax(self, values: Any, axis: int = 0) -> np.ndarray:
        return np.argmax(values, axis)

    def where(self, mask: Any, yes: Any, no: Any) -> np.ndarray:
        return np.where(mask, yes, no)

    def log(self, values: Any) -> Any:
        with np.errstate(divide="ignore"):
            return np.log(values)

    def exp(self, values: Any) -> Any:
        return np.exp(values)

    def stack(self, arrays: Sequence[Any], axis: int = 0) -> np.ndarray:
        return np.stack(arrays, axis)

    def option_model(self, instance: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        transitions, rewards, discount, policy, termination = (instance[key] for key in OPTION_KEYS)
        options = OptionSet(policy, termination, np.ones(termination.shape, bool))
        smdp = SMDP.from_options(MDP(transitions, rewards, float(discount)), options)
        return np.asarray(smdp.R), np.asarray(smdp.P)

    def optimal_policy(self, R: Any, P: Any, available: np.ndarray) -> np.ndarray:
        largest = float(np.abs(R).max(initial=0, where=available)) / (1 - float(P.sum(-1).max()))
        tolerance = 1e-10 * max(largest, 1.0)
        return solve(SMDP(R, P, available), tolerance=tolerance).policy


class Exact(Arithmetic):
    """Rationals; balls where a logarithm or an exponential was taken."""

    name = "exact"

    def number(self, numerator: int, denominator: int = 1) -> flint.fmpq:
        return flint.fmpq(int(numerator), int(denominator))

    def array(self, values: Any) -> np.ndarray:
        return _each(_exact, np.asarray(values, dtype=object))

    def solve(self, matrix: Any, right: Any) -> np.ndarray:
        if matrix.ndim > 2:
            return self.stack([self.solve(a, b) for a, b in zip(matrix, right, strict=True)])
        rational = not any(isinstance(x, flint.arb) for x in [*matrix.flat, *right.flat])
        kind: Any = flint.fmpq_mat if rational else flint.arb_mat
        solution = kind(matrix.tolist()).solve(kind(right.tolist()))
        return np.array(solution.tolist(), dtype=object).reshape(right.shape)

    def max(self, values: Any, axis: Axis = None) -> Any:
        values = np.asarray(values, dtype=object)
        if axis is None:
            return _larger.reduce(values.ravel())
        for one in sorted(np.atleast_1d(axis) % values.ndim, reverse=True):
            values = _larger.reduce(values, axis=one)
        return values

    def argmax(self, values: Any, axis: int = 0) -> np.ndarray:
        return np.apply_along_axis(lambda row: max(range(len(row)), key=row.__getitem__), axis, values).astype(int)

    def where(self, mask: Any, yes: Any, no: Any) -> np.ndarray:
        return np.where(mask, np.asarray(yes, dtype=object), np.asarray(no, dtype=object))

    def log(self, values: Any) -> Any:
        return _each(lambda x: flint.arb(x).log() if x != 0 else flint.arb("-inf"), values)

    def exp(self, values: Any) -> Any:
        return _each(lambda x: flint.arb(x).exp(), values)

    def stack(self, arrays: Sequence[Any], axis: int = 0) -> np.ndarray:
        return np.stack([np.asarray(a, dtype=object) for a in arrays], axis)

    def optimal_policy(self, R: Any, P: Any, available: np.ndarray) -> np.ndarray:
        # Howard's policy iteration. Numbers are exact: equals do not count as better, so it ends.
        states = np.arange(R.shape[1])
        policy = available.argmax(0)
        while True:
            value = policy_values(self, R, P, policy)
            Q = masked(self, R + P @ value, available)
            best = self.argmax(Q)
            better = np.array(Q[best, states] > value, dtype=bool)
            if not better.any():
                return policy
            policy = np.where(better, best, policy)


FLOAT, EXACT = Float(), Exact()


def policy_values(xp: Arithmetic, R: Any, P: Any, policy: Any) -> Any:
    """Values ``(..., S)`` of deterministic policies over options ``(..., S)``."""
    states = np.arange(R.shape[1])
    return xp.solve(xp.eye(len(states)) - P[policy, states], R[policy, states][..., None])[..., 0]


def optimal_values(xp: Arithmetic, R: Any, P: Any, available: np.ndarray | None = None) -> Any:
    """V* ``(S,)`` over options with the models R ``(Z, S)`` and P ``(Z, S, S)``."""
    available = np.ones(R.shape, bool) if available is None else available
    return policy_values(xp, R, P, xp.optimal_policy(R, P, available))


def masked(xp: Arithmetic, Q: Any, available: np.ndarray) -> Any:
    """Q ``(Z, S)``, with less than every entry where an option is not available."""
    return Q if available.all() else xp.where(available, Q, xp.min(Q) - 1)


def backup(xp: Arithmetic, R: Any, P: Any, V: Any, available: np.ndarray | None = None) -> Any:
    """T V ``(S,)``."""
    Q = R + P @ V
    return xp.max(Q if available is None else masked(xp, Q, available), 0)


def iterates(xp: Arithmetic, R: Any, P: Any, V_0: Any, count: int, available: np.ndarray | None = None) -> Any:
    """V_0, T V_0, ..., T^count V_0, ``(count + 1, S)``."""
    values = [V_0]
    for _ in range(count):
        values.append(backup(xp, R, P, values[-1], available))
    return xp.stack(values)


def _each(function: Callable[[Any], Any], values: Any) -> Any:
    if not isinstance(values, np.ndarray):
        return function(values)
    result = np.empty(values.shape, dtype=object)
    result.ravel()[:] = [function(x) for x in values.flat]
    return result


def _exact(value: Any) -> Any:
    if isinstance(value, (flint.fmpq, flint.arb)):
        return value
    if isinstance(value, Fraction):
        return flint.fmpq(value.numerator, value.denominator)
    if isinstance(value, (float, np.floating)):
        return flint.fmpq(*float(value).as_integer_ratio())
    return flint.fmpq(int(value))


def _max_of_two(one: Any, other: Any) -> Any:
    if isinstance(one, flint.arb) or isinstance(other, flint.arb):
        return flint.arb(one).max(flint.arb(other))
    return max(one, other)


_larger = np.frompyfunc(_max_of_two, 2, 1)
