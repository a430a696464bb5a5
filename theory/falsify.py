"""A search for counterexamples: at random, then up the gradient of measured / bound, many restarts at once.

The instance's parameters are real numbers (transitions and policies through softmax, terminations, rewards and discount
through sigmoid), and models of options, optimal values and value iteration are differentiated by JAX. Half of the
restarts look for a counterexample of the statement, half for one of its overstated twin, which has one: a search that
does not find it is no good.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from theory.arithmetic import Arithmetic, Axis, masked, policy_values
from theory.bound import FLOAT, Draw, Instance, Statement, ratio


class Differentiable(Arithmetic):
    """JAX in double precision (inside ``jax.enable_x64``)."""

    name = "jax"

    def number(self, numerator: int, denominator: int = 1) -> Any:
        return jnp.asarray(numerator / denominator)

    def array(self, values: Any) -> Any:
        return jnp.asarray(np.asarray(values, dtype=float))

    def solve(self, matrix: Any, right: Any) -> Any:
        """For matrix = I - M with powers of M that vanish, as all have here that are solved."""
        # Σ_j M^j by doubling, one step of refinement with the derivative of a solution: quick to compile, unlike LU.
        eye = jnp.eye(matrix.shape[-1])

        def double(_: int, carry: Any) -> Any:
            total, power = carry
            return total + total @ power, power @ power

        start = (jnp.broadcast_to(eye, matrix.shape), eye - matrix)
        inverse = lax.fori_loop(0, _DOUBLINGS, double, lax.stop_gradient(start))[0]
        first = lax.stop_gradient(inverse @ right)
        return first + inverse @ (right - matrix @ first)

    def max(self, values: Any, axis: Axis = None) -> Any:
        return jnp.max(values, axis)

    def argmax(self, values: Any, axis: int = 0) -> Any:
        return jnp.argmax(values, axis)

    def where(self, mask: Any, yes: Any, no: Any) -> Any:
        return jnp.where(mask, yes, no)

    def log(self, values: Any) -> Any:
        return jnp.log(values)

    def exp(self, values: Any) -> Any:
        return jnp.exp(values)

    def stack(self, arrays: Sequence[Any], axis: int = 0) -> Any:
        return jnp.stack(list(arrays), axis)

    def optimal_policy(self, R: Any, P: Any, available: np.ndarray) -> Any:
        # The optimum moves with the parameters as the value of the optimal policy does (envelope theorem), so the
        # policy itself needs no gradient. So few states need so few improvements.
        R, P = lax.stop_gradient((R, P))

        def improve(_: int, policy: Any) -> Any:
            return jnp.argmax(masked(self, R + P @ policy_values(self, R, P, policy), available), 0)

        return lax.fori_loop(0, 2 * R.shape[1] + 2, improve, jnp.asarray(available.argmax(0)))


JAX = Differentiable()
# Sums of 2^14 powers: enough for M of norm .99, which is the most that discounts are drawn to be.
_DOUBLINGS = 14


@dataclass(frozen=True)
class Search:
    """
    Attributes:
        tried: instances drawn at random, of statement and twin alike.
        undefined: for how many of them the ratio of the statement is no number.
        random: their largest ratio for the statement; ``spread``: median and 95 % quantile.
        best: the largest ratio for the statement after the ascent, and the parameters of that instance.
        twin: likewise of the twin.
    """

    tried: int
    undefined: int
    random: float
    spread: tuple[float, float]
    best: float
    reals: np.ndarray
    uniforms: np.ndarray
    twin: float
    twin_reals: np.ndarray
    twin_uniforms: np.ndarray


def search(statement: Statement, seed: int, *, draws: int = 4096, steps: int = 200, batch: int = 128) -> Search:
    """Look for a counterexample of a statement and for one of its twin.

    Args:
        draws: random instances.
        steps: of the ascent.
        batch: restarts of the ascent, from the best random instances: half of them for each.
    """
    rng = np.random.default_rng(seed)
    climb = _climber(statement) if statement.differentiable else _hill_climber(statement, rng)
    kept: list[_Pool] = [_Pool(batch // 2), _Pool(batch // 2)]
    tried, ratios = 0, []
    while tried < draws:
        reals, uniforms = Draw.parameters(statement.family, rng, batch)
        scores = climb(reals, uniforms, np.arange(batch) % 2, 0)[1]
        ratios.append(scores[:, 0])
        for which, pool in enumerate(kept):
            pool.add(scores[:, which], reals, uniforms)
        tried += batch
    reals, uniforms = (np.concatenate(both) for both in zip(*(pool.parameters() for pool in kept), strict=True))
    which = np.repeat([0, 1], batch // 2)
    reals, scores = climb(reals, uniforms, which, steps)
    for number, pool in enumerate(kept):
        rows = which == number
        pool.add(scores[rows, number], reals[rows], uniforms[rows])
    (one, other) = (pool.best() for pool in kept)
    seen = np.concatenate(ratios)
    # The climber keeps its -inf where there is no number that is larger.
    undefined = ~np.isfinite(seen)
    seen = np.where(undefined, np.inf, seen)
    middle, high = (float(q) for q in np.quantile(seen, [0.5, 0.95], method="lower"))
    return Search(tried, int(undefined.sum()), float(seen.max()), (middle, high), *one, *other)


class _Pool:
    """The best parameters so far."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.found: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def add(self, scores: np.ndarray, reals: np.ndarray, uniforms: np.ndarray) -> None:
        if self.found is not None:
            before = zip(self.found, (scores, reals, uniforms), strict=True)
            scores, reals, uniforms = (np.concatenate(pair) for pair in before)
        order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")[: self.size]
        self.found = scores[order], reals[order], uniforms[order]

    def parameters(self) -> tuple[np.ndarray, np.ndarray]:
        """Reals and uniforms of all that are kept."""
        assert self.found is not None
        return self.found[1:]

    def best(self) -> tuple[float, np.ndarray, np.ndarray]:
        assert self.found is not None
        scores, reals, uniforms = self.found
        return float(scores[0]), reals[0], uniforms[0]


def _scores(xp: Arithmetic, statement: Statement, instance: Instance) -> Any:
    """The largest ratio of the statement and of its twin, which may have a side in common."""
    measured, bound = statement.measured_side(xp, instance), statement.bound_side(xp, instance)
    twin = statement.overstated
    other_measured = measured if twin.measured is None else twin.measured(xp, instance)
    other_bound = bound if twin.bound is None else twin.bound(xp, instance)
    pairs = ((measured, bound), (other_measured, other_bound))
    return xp.stack([xp.max(ratio(xp, *pair, statement.equality)) for pair in pairs])


Climber = Callable[[np.ndarray, np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def _climber(statement: Statement) -> Climber:
    """(reals, uniforms, which, steps) -> the best reals on the way up, and scores ``(B, 2)`` of statement and twin."""
    optimiser = optax.adam(0.1)

    def objective(reals: Any, uniforms: Any, which: Any) -> Any:
        both = _scores(JAX, statement, statement.family(Draw(JAX, reals, uniforms)))
        return jnp.log(jnp.maximum(both[which], 1e-30)), both

    def step(reals: Any, uniforms: Any, which: Any, state: Any, best: Any) -> Any:
        slope, both = jax.grad(objective, has_aux=True)(reals, uniforms, which)
        slope = jnp.where(jnp.isfinite(slope), slope, 0.0)
        better = both[which] > best[1][which]
        best = (jnp.where(better, reals, best[0]), jnp.where(better, both, best[1]))
        change, state = optimiser.update(-slope, state)
        return reals + change, state, best

    steps_of = jax.jit(jax.vmap(step), compiler_options=_quick_to_compile())

    def climb(reals: np.ndarray, uniforms: np.ndarray, which: np.ndarray, steps: int) -> Any:
        with jax.enable_x64(True):
            reals, uniforms, which = (jnp.asarray(x) for x in (reals, uniforms, which))
            best = (reals, jnp.asarray(np.full((len(reals), 2), -np.inf)))
            state = jax.vmap(optimiser.init)(reals)
            for _ in range(steps + 1):
                reals, state, best = steps_of(reals, uniforms, which, state, best)
            return np.asarray(best[0]), np.asarray(best[1])

    return climb


@functools.cache
def _quick_to_compile() -> dict[str, Any]:
    """Options of the compiler: a program that runs for a second is not worth ten of optimisation."""
    chosen = {}
    for name, value in (("xla_backend_optimization_level", 0), ("xla_cpu_use_fusion_emitters", False)):
        try:
            jax.jit(lambda x: x + 1, compiler_options={name: value})(0.0)
            chosen[name] = value
        except jax.errors.JaxRuntimeError:
            # Another version of the compiler, or another device, without that option.
            continue
    return chosen


def _hill_climber(statement: Statement, rng: np.random.Generator) -> Climber:
    """The same without gradients: steps at random, kept if they are none down."""

    def scores(reals: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        pairs = zip(reals, uniforms, strict=True)
        return np.array([_scores(FLOAT, statement, statement.family(Draw(FLOAT, *pair))) for pair in pairs])

    def climb(reals: np.ndarray, uniforms: np.ndarray, which: np.ndarray, steps: int) -> Any:
        best, rows = scores(reals, uniforms), np.arange(len(which))
        for _ in range(steps):
            moved = reals + rng.choice([0.1, 1.0], (len(reals), 1)) * rng.standard_normal(reals.shape)
            found = scores(moved, uniforms)
            better = found[rows, which] >= best[rows, which]
            reals, best = np.where(better[:, None], moved, reals), np.where(better[:, None], found, best)
        return reals, best

    return climb
