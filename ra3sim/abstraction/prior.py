"""What a new thought costs: the temporal prior over latents (Zhang et al. 2025, section 4), or a fixed price."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ra3sim.abstraction import _arrays


@dataclass(frozen=True)
class TemporalPrior:
    """p(z_t | z_{t-1}) = α 1{z_t = z_{t-1}} + (1 - α) / Z (Zhang et al. 2025, section 4).

    The objective with this prior is the evidence lower bound: there is a bonus for the entropy of q. Its twin without
    one is `ThoughtPrice`: log p = `log_keep` - `price` · 1{z_t ≠ z_{t-1}}.

    Args:
        num_latents: Z >= 1; with one latent nothing new can be thought.
        keep: α in [0, 1].
        start: the latent before the first step, so that z_0 ~ p(· | start); None: z_0 is uniform.

    Raises:
        ValueError: one of them is out of range.

    >>> prior = TemporalPrior(num_latents=4, keep=0.5)
    >>> prior.think_rate, round(math.exp(prior.log_keep), 12), round(math.exp(prior.log_think), 12)
    (0.375, 0.625, 0.125)
    """

    num_latents: int
    keep: float
    start: int | None = None

    def __post_init__(self) -> None:
        _check_latents(self)
        object.__setattr__(self, "keep", _arrays.check_fraction("keep", self.keep))

    @property
    def think_rate(self) -> float:
        """ρ = (1 - α)(Z - 1) / Z, the probability of any new latent; below 1 always."""
        return (1 - self.keep) * (self.num_latents - 1) / self.num_latents

    @property
    def log_keep(self) -> float:
        """log(α + (1 - α) / Z) = log(1 - ρ)."""
        return math.log(self.keep + (1 - self.keep) / self.num_latents)

    @property
    def log_think(self) -> float:
        """log((1 - α) / Z), the log probability of one particular other latent; -inf if none can come."""
        possible = self.num_latents > 1 and self.keep < 1
        return math.log((1 - self.keep) / self.num_latents) if possible else -math.inf

    @property
    def log_first(self) -> float:
        """-log Z, the log probability of every z_0 of a free start.

        Raises:
            ValueError: the start is fixed: then the first step is like any other.
        """
        _check_free(self)
        return -math.log(self.num_latents)

    @property
    def price(self) -> float:
        """c = `log_keep` - `log_think`, the price of a new thought with the same odds; inf if none can come.

        >>> TemporalPrior(num_latents=3, keep=1.0).price, TemporalPrior(num_latents=3, keep=0.0).price
        (inf, 0.0)
        """
        return self.log_keep - self.log_think

    def matrix(self) -> np.ndarray:
        """p(z_t | z_{t-1}), ``(Z, Z)``, one row for every z_{t-1}.

        >>> TemporalPrior(num_latents=2, keep=0.5).matrix()
        array([[0.75, 0.25],
               [0.25, 0.75]])
        """
        other = (1 - self.keep) / self.num_latents
        return np.where(np.eye(self.num_latents, dtype=bool), self.keep + other, other)

    def first(self) -> np.ndarray:
        """The distribution of z_0, ``(Z,)``."""
        return np.full(self.num_latents, 1 / self.num_latents) if self.start is None else self.matrix()[self.start]

    def log_prob(self, think: Any, dtype: Any = None) -> Any:
        """`log_think` where a (particular) new thought came, else `log_keep`, elementwise.

        The first step of a free start is neither: `log_first` is for it.

        Args:
            think: boolean, an array of NumPy, JAX or torch, of any shape.
            dtype: of the result, in the words of that library; None: its default (for torch, that is float32).

        Raises:
            ValueError: ``think`` is no boolean array.

        >>> TemporalPrior(num_latents=2, keep=0.5).log_prob(np.array([True, False])).round(3)
        array([-1.386, -0.288])
        """
        return _choose(think, self.log_think, self.log_keep, dtype)


@dataclass(frozen=True)
class ThoughtPrice:
    """A fixed price c >= 0 for every new thought: log π(a_t | s_t, z_t) - c · 1{z_t ≠ z_{t-1}} (this project).

    That is the reward with which reinforcement learning is done (Zhang et al. 2025, section 5). It has no entropy
    term, so that its best q is deterministic: the Viterbi path under `temporal`, which has the same odds.

    Args:
        num_latents: Z >= 1; None where latents are not counted, as the comments of a language model.
        price: c in [0, inf], in nats; at inf nothing new is thought.
        start: the latent before the first step; None: z_0 is free and costs nothing.

    Raises:
        ValueError: one of them is out of range.
    """

    num_latents: int | None
    price: float
    start: int | None = None

    def __post_init__(self) -> None:
        _check_latents(self)
        object.__setattr__(self, "price", _arrays.check_not_negative("price", self.price))

    @property
    def log_first(self) -> float:
        """0: the z_0 of a free start costs nothing.

        Raises:
            ValueError: the start is fixed: then the first step is like any other.
        """
        _check_free(self)
        return 0.0

    def log_prob(self, think: Any, dtype: Any = None) -> Any:
        """-c where a new thought came, else 0 (for c = inf too); arguments and errors as `TemporalPrior.log_prob`.

        >>> ThoughtPrice(num_latents=2, price=np.inf).log_prob(np.array([True, False]))
        array([-inf,   0.])
        """
        return _choose(think, -self.price, 0.0, dtype)

    def temporal(self) -> TemporalPrior:
        """The prior whose odds of one particular new latent against keeping are e^{-c}: `TemporalPrior.price` is c.

        α = (1 - e^{-c}) / (1 + (Z - 1) e^{-c}), for then keeping has probability 1 / (1 + (Z - 1) e^{-c}). Above
        c = 36 or so, α is rounded to 1. With one latent every α is the same prior, of infinite price.

        >>> ThoughtPrice(num_latents=3, price=math.log(4)).temporal()
        TemporalPrior(num_latents=3, keep=0.5, start=None)

        Raises:
            ValueError: latents are not counted.
        """
        if self.num_latents is None:
            raise ValueError("num_latents: latents that are not counted have no temporal prior; give their number")
        keep = -math.expm1(-self.price) / (1 + (self.num_latents - 1) * math.exp(-self.price))
        return TemporalPrior(self.num_latents, keep, self.start)


def _check_latents(prior: TemporalPrior | ThoughtPrice) -> None:
    for name in ("num_latents", "start"):
        value = getattr(prior, name)
        if value is None and (name == "start" or isinstance(prior, ThoughtPrice)):
            continue
        try:
            value = operator.index(value)
        except TypeError:
            raise ValueError(f"{name}: must be a whole number, got {value!r}") from None
        object.__setattr__(prior, name, value)
    if prior.num_latents is not None and prior.num_latents < 1:
        raise ValueError(f"num_latents: must be at least 1, got {prior.num_latents}")
    if prior.start is not None and not 0 <= prior.start < (prior.num_latents or prior.start + 1):
        allowed = "be 0 or more" if prior.num_latents is None else f"lie in 0..{prior.num_latents - 1}"
        raise ValueError(f"start: must {allowed}, got {prior.start}; None stands for a free start")


def _check_free(prior: TemporalPrior | ThoughtPrice) -> None:
    if prior.start is not None:
        raise ValueError(f"start: fixed at {prior.start}, so that the first step is like any other; use log_prob")


def _choose(think: Any, new: float, same: float, dtype: Any) -> Any:
    xp = _arrays.namespace(think=think)
    _arrays.check_boolean(xp, "think", think)
    # Spelled out, because torch would make two Python floats a float32 even beside float64 arrays.
    device = _arrays.device(think)
    return xp.where(think, xp.asarray(new, dtype=dtype, device=device), xp.asarray(same, dtype=dtype, device=device))
