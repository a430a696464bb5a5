"""A statement of the theory as an object: what it says, what it bounds, and what must be true of an instance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from theory.arithmetic import EXACT, FLOAT, Arithmetic

Instance = dict[str, Any]
Side = Callable[[Arithmetic, Instance], Any]

# Floating point: sides may miss each other by this share, or by this much where both are next to 0.
RELATIVE, ABSOLUTE = 1e-7, 1e-10


class Draw:
    """Random entries of an instance, from free real parameters (through softmax and sigmoid) and uniform numbers.

    A family of instances is one function of a `Draw`: with NumPy it gives random instances, with JAX differentiable
    ones, with exact numbers the same ones rounded to fractions.

    Args:
        reals, uniforms: as many as `count` says; None: zeros, as many as are asked for.
        denominator: exact distributions and shares are fractions of about this denominator.
    """

    def __init__(self, xp: Arithmetic, reals: Any = None, uniforms: Any = None, denominator: int = 24) -> None:
        self.xp, self.denominator = xp, denominator
        self._stores = {"real": reals, "uniform": uniforms}
        self.used = {"real": 0, "uniform": 0}

    @classmethod
    def count(cls, family: Callable[[Draw], Instance]) -> tuple[int, int]:
        """How many reals and uniform numbers a family takes."""
        draw = cls(FLOAT)
        family(draw)
        return draw.used["real"], draw.used["uniform"]

    @classmethod
    def random(cls, xp: Arithmetic, family: Callable[[Draw], Instance], rng: np.random.Generator) -> Draw:
        """A draw with its own parameters, tame or wild."""
        reals, uniforms = cls.parameters(family, rng, 1)
        return cls(xp, reals[0], uniforms[0])

    @classmethod
    def parameters(
        cls, family: Callable[[Draw], Instance], rng: np.random.Generator, batch: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reals ``(batch, n)`` of several scales, and uniforms ``(batch, m)``."""
        reals, uniforms = cls.count(family)
        scale = rng.choice([0.5, 1.0, 2.0, 4.0], (batch, 1))
        return scale * rng.standard_normal((batch, reals)), rng.random((batch, uniforms))

    def distribution(self, *shape: int) -> Any:
        """Positive, the last axis sums to 1."""
        logits = self._take("real", shape)
        if self.xp is EXACT:
            weights = np.exp(logits - logits.max(-1, keepdims=True))
            whole = np.rint(self.denominator * weights / weights.sum(-1, keepdims=True)).astype(int).clip(1)
            return self.xp.array(whole) / self.xp.array(whole.sum(-1, keepdims=True))
        weights = self.xp.exp(logits - self.xp.max(logits, -1)[..., None])
        return weights / weights.sum(-1)[..., None]

    def unit(self, *shape: int) -> Any:
        """In (0, 1)."""
        reals = self._take("real", shape)
        if self.xp is EXACT:
            whole = np.rint(self.denominator / (1 + np.exp(-reals))).astype(int).clip(1, self.denominator - 1)
            return self.xp.array(whole)[()] / self.denominator
        return 1 / (1 + self.xp.exp(-reals))

    def whole(self, high: int, *shape: int) -> Any:
        """Whole numbers below ``high``; not differentiated."""
        return (self._take("uniform", shape) * high).astype(int)

    def _take(self, kind: str, shape: tuple[int, ...]) -> Any:
        first, size = self.used[kind], math.prod(shape)
        self.used[kind] += size
        store = self._stores[kind]
        if store is None:
            return np.zeros(shape)
        return store[first : first + size].reshape(shape)


@dataclass(frozen=True)
class Assumption:
    """What an instance must satisfy; ``holds(xp, instance)`` decides it."""

    name: str
    text: str
    holds: Callable[[Arithmetic, Instance], Any]


@dataclass(frozen=True)
class Overstated:
    """A twin of a statement that claims too much, so that a search for counterexamples has one to find."""

    text: str
    bound: Side | None = None
    measured: Side | None = None


@dataclass(frozen=True)
class Without:
    """An assumption that cannot be left out: ``instance(xp)`` breaks it alone, and the claim with it."""

    assumption: str
    instance: Callable[[Arithmetic], Instance]


@dataclass(frozen=True)
class Statement:
    """``measured <= bound`` (or ``==``) for every instance that meets the assumptions.

    Args:
        name: as the command line has it; number: its place in `theory/README.md`.
        claim: in one sentence and a formula.
        source: "paper, theorem 3.6" or "this project".
        assumptions: checked, in this order, before anything is computed.
        family: random instances, a function of a `Draw`.
        measured_side, bound_side: numbers or arrays of one shape, >= 0; of any instance, nothing is checked.
        tight: instances on which the two sides meet or come near, and ``attains``: how near (the ratio).
        overstated: the twin that must be refuted.
        without: the assumption that is needed, and why.
        equality: the sides are equal.
        differentiable: the falsifier may use gradients (else random search and hill climbing).
        interval: a side is transcendental: exact checks are by balls, else by rationals.
        real: named instances (in floats) from environments and programs that were not made for this.
    """

    name: str
    number: str
    claim: str
    source: str
    assumptions: tuple[Assumption, ...]
    family: Callable[[Draw], Instance]
    measured_side: Side
    bound_side: Side
    tight: Callable[[Arithmetic], Iterable[Instance]]
    overstated: Overstated
    without: Without
    attains: float = 1.0
    equality: bool = False
    differentiable: bool = True
    interval: bool = False
    real: Callable[[], Iterable[tuple[str, Instance]]] | None = None

    def measured(self, instance: Instance, xp: Arithmetic = FLOAT) -> Any:
        """The left side.

        Raises:
            ValueError: the instance is outside the assumptions; says which.
        """
        self.check(instance, xp)
        return self.measured_side(xp, instance)

    def bound(self, instance: Instance, xp: Arithmetic = FLOAT) -> Any:
        """The right side; errors as `measured`."""
        self.check(instance, xp)
        return self.bound_side(xp, instance)

    def check(self, instance: Instance, xp: Arithmetic = FLOAT) -> None:
        """
        Raises:
            ValueError: an assumption that does not hold of the instance.
        """
        for assumption in self.assumptions:
            if not assumption.holds(xp, instance):
                raise ValueError(f"{self.name}: the assumption {assumption.name!r} fails: {assumption.text}")

    def ratio(self, instance: Instance) -> float:
        """The largest measured / bound, in floats (for an equality, or its inverse): above 1 the claim is wrong."""
        self.check(instance)
        return float(
            np.max(ratio(FLOAT, self.measured_side(FLOAT, instance), self.bound_side(FLOAT, instance), self.equality))
        )

    def holds(self, instance: Instance, xp: Arithmetic = FLOAT) -> bool:
        """Whether the claim is true of the instance: exactly, or in floats up to `RELATIVE` and `ABSOLUTE`."""
        self.check(instance, xp)
        return claim_is_true(xp, self, instance)

    def twin(self) -> Statement:
        """The overstated twin, a statement like any other but for its being wrong."""
        return replace(
            self,
            name=f"{self.name} (overstated)",
            claim=self.overstated.text,
            measured_side=self.overstated.measured or self.measured_side,
            bound_side=self.overstated.bound or self.bound_side,
        )


def ratio(xp: Arithmetic, measured: Any, bound: Any, equality: bool) -> Any:
    """measured / bound, elementwise, in floats (0 / 0 is 0); of an equality, the larger of it and its inverse."""
    if equality:
        measured, bound = measured + _EVEN, bound + _EVEN
        return xp.maximum(measured / bound, bound / measured)
    return measured / (bound + _FLOOR)


# Added to both sides of an equality before they are divided, so that rounding next to 0 does not count.
_EVEN = 1e-3
# Added to the bound of an inequality, for the same reason.
_FLOOR = 1e-7


def claim_is_true(xp: Arithmetic, statement: Statement, instance: Instance) -> bool:
    """`Statement.holds`, of any instance: nothing is assumed."""
    measured, bound = statement.measured_side(xp, instance), statement.bound_side(xp, instance)
    pairs = list(zip(*(np.ravel(side) for side in np.broadcast_arrays(measured, bound)), strict=True))
    if xp is not EXACT:
        slack = [RELATIVE * abs(b) + ABSOLUTE for _, b in pairs]
        return all(
            m <= b + s and (not statement.equality or m >= b - s) for (m, b), s in zip(pairs, slack, strict=True)
        )
    if statement.equality:
        return all(_equal(m, b) for m, b in pairs)
    return all(m <= b or _equal(m, b) for m, b in pairs)


def _equal(one: Any, other: Any) -> bool:
    """Rationals: equal. Balls: they overlap, and are too small for anything but equality to explain it."""
    difference = one - other
    if difference == 0:
        return True
    return hasattr(difference, "rad") and difference.contains(0) and difference.rad() < 1e-40
