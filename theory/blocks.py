"""A family of tasks that is hard to prune, with the exact performance of the best learner there (this project).

k blocks of m options; each hides one right option, uniformly at random. A task picks block j with probability
w = 4σ/k, else it needs nothing. It is solved by any of its good options: the right one of its block and each other one
of the block with probability 1/2. A set of k options, one from each block, fails with probability w/2 for each block
where it is wrong, so it is (ε, σ)-bad iff at least half of its blocks are wrong.

After N demonstrations of a block, the candidates that were good in all of them are C, |C| = 1 + Bin(m - 1, 2^-N), the
right one is any of them with equal probability, and no choice is right with more than 1/|C|. So all learners that
choose candidates are equally good, and none is better: `theory/README.md`, statement 2.11.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.optimize
import scipy.stats

from theory.arithmetic import EXACT, FLOAT, Arithmetic
from theory.pruning import check_count, check_delta, check_sigma, closed_samples, sharp_samples


@dataclass(frozen=True)
class Blocks:
    """
    Args:
        k: blocks, and options to keep.
        m: options of a block.
        sigma: σ; a learner fails if its set fails with this probability or more.

    Raises:
        ValueError: no block, fewer than 2 options in it, σ outside (0, 1/4].
    """

    k: int
    m: int
    sigma: float

    def __post_init__(self) -> None:
        if check_count("k", self.k) == 0:
            raise ValueError("k: the decision space is empty; it needs at least one block")
        if check_count("m", self.m) < 2:
            raise ValueError(f"m: a block needs at least 2 options to choose from, got {self.m}")
        if check_sigma(self.sigma) > 0.25:
            raise ValueError(f"sigma: blocks have probability 4 σ together, so at most 1/4, got {self.sigma!r}")

    @property
    def options(self) -> int:
        """|Z|."""
        return self.k * self.m

    @property
    def rate(self) -> float:
        """w, the probability of each block."""
        return 4 * self.sigma / self.k

    @property
    def enough(self) -> int:
        """With so many blocks right, fewer than half are wrong."""
        return self.k // 2 + 1

    def upper(self, delta: float) -> int:
        """Demonstrations that are enough for every consistent learner (`sharp_samples`)."""
        return sharp_samples(self.options, self.k, self.sigma, delta)

    def upper_closed(self, delta: float) -> int:
        """The same in closed form (`closed_samples`)."""
        return closed_samples(self.options, self.k, self.sigma, delta)

    def lower(self, delta: float) -> int:
        """Demonstrations that every learner needs (2.14): the largest over θ in (0, 1] of

        (θ ln m - ln(c / (1 - δ))) / ln(1 + w (2^θ - 1)), c = k / (⌊k/2⌋ + 1).

        >>> Blocks(4, 16, 0.05).lower(0.1)
        51
        """
        certain = math.log(self.k / self.enough / (1 - check_delta(delta)))

        def needed(theta: float) -> float:
            return (theta * math.log(self.m) - certain) / math.log1p(self.rate * (2**theta - 1))

        best = scipy.optimize.minimize_scalar(lambda theta: -needed(theta), bounds=(1e-3, 1), method="bounded").x
        return max(0, math.ceil(max(needed(best), needed(1.0))))

    def lower_closed(self, delta: float) -> int:
        """Demonstrations that every learner needs (2.13): (k / 4σ) ln(m (1 - δ) / 2)."""
        share = self.m * (1 - check_delta(delta)) / 2
        return max(0, math.ceil(math.log(share) / self.rate))

    def most_failure(self, n: Any) -> np.ndarray:
        """min(1, C(|Z|, k) (1 - σ)^n), for n = ``n`` (a number or an array): of any consistent learner (2.3)."""
        exponent = math.log(math.comb(self.options, self.k)) + np.asarray(n, float) * math.log1p(-self.sigma)
        return np.exp(np.minimum(exponent, 0))

    def most_failure_closed(self, n: Any) -> np.ndarray:
        """min(1, (e|Z|/k)^k exp(-σ n)): the failure probability that the closed form of n allows (2.5)."""
        return np.exp(np.minimum(self.k * (1 + math.log(self.m)) - np.asarray(n, float) * self.sigma, 0))

    def least_failure(self, n: Any) -> np.ndarray:
        """1 - min over θ of c m^-θ (1 + w (2^θ - 1))^n, or 0: of any learner (2.14)."""
        theta = np.linspace(0, 1, 201)
        exponent = np.multiply.outer(n, np.log1p(self.rate * (2**theta - 1))) - theta * math.log(self.m)
        return 1 - np.minimum(1, self.k / self.enough * np.exp(exponent.min(-1)))

    def order(self) -> float:
        """k log2(m) / (4σ), which the demonstrations needed divided by it tend to 1 for, as m grows."""
        return math.log2(self.m) / self.rate


# ---- Exactly ---------------------------------------------------------------------------------------------------------


def right_given(xp: Arithmetic, k: int, m: int, most: int, other: Any = None, worst: bool = False) -> Any:
    """The distribution of the number of right blocks, given how many demonstrations were of any block.

    Args:
        most: at most so many.
        other: probability that an option is good that is not the right one; None: 1/2.
        worst: of the learner that is wrong wherever a wrong candidate is left, else of any other consistent one.

    Returns:
        ``(most + 1, k + 1)``.
    """
    half = xp.number(1, 2) if other is None else other
    right = xp.stack([_right(xp, m, half, N, worst) for N in range(most + 1)])
    split = np.subtract.outer(np.arange(most + 1), np.arange(most + 1))  # M - M'
    blank = xp.zeros(most + 1, most + 1)
    found = xp.zeros(most + 1, k + 1)
    found[0, 0] = xp.number(1)
    for j in range(1, k + 1):
        # Of M demonstrations of j blocks, N ~ Bin(M, 1/j) are of the last: row M from row M - 1.
        last, share = xp.zeros(most + 1, most + 1), xp.number(1, j)
        last[0, 0] = xp.number(1)
        for M in range(most):
            last[M + 1] = (1 - share) * last[M]
            last[M + 1, 1:] += share * last[M, :-1]
        last = xp.where(split >= 0, np.take_along_axis(last, split.clip(0), 1), blank)
        chance = right[split.clip(0)]
        moved = np.concatenate([blank[:, :1], found[:, :-1]], 1)
        found = (last * chance) @ moved + (last * (1 - chance)) @ found
    return found


def _right(xp: Arithmetic, m: int, other: Any, N: int, worst: bool) -> Any:
    """Pr(a consistent choice in a block is right | N demonstrations of it)."""
    q = other**N
    if worst:
        return (1 - q) ** (m - 1)
    if xp is EXACT:
        return (1 - (1 - q) ** m) / (m * q)
    # Neither 1 - (1 - q)^m nor q itself may vanish by rounding.
    return 1.0 if q < 1e-300 else -math.expm1(m * math.log1p(-q)) / (m * q) if q < 1 else 1 / m


@lru_cache(maxsize=512)
def _success_given(exact: bool, k: int, m: int, most: int, other: Any, worst: bool) -> Any:
    """Pr(more than half of the blocks are right | M demonstrations of any block), ``(most + 1,)``."""
    return right_given(EXACT if exact else FLOAT, k, m, most, other, worst)[:, k // 2 + 1 :].sum(1)


def success(xp: Arithmetic, k: int, m: int, rate: Any, n: int, other: Any = None, worst: bool = False) -> Any:
    """Pr(a consistent learner gets more than half of the blocks right), with n demonstrations; for small n."""
    most = next(size for size in (16, 64, 256, n) if size >= n)
    given = _success_given(xp is EXACT, k, m, most, other, worst)
    share = k * rate
    terms = [math.comb(n, M) * share**M * (1 - share) ** (n - M) * given[M] for M in range(n + 1)]
    return sum(terms[1:], terms[0])


def failure(family: Blocks, n: int, worst: bool = False) -> float:
    """The probability that the set that is learnt from n demonstrations is (ε, σ)-bad, for large n too.

    Args:
        worst: of the worst consistent learner that takes one option from each block, else of the best of all learners.

    Raises:
        ValueError: n < 0.

    >>> failure(Blocks(1, 2, 0.25), n=1)
    0.25
    """
    check_count("n", n)
    # With so many demonstrations of blocks the failure probability is next to nothing, and with more it is less: what
    # is less than about 1e-10 comes out as too large.
    most = math.ceil(family.k * (math.log2(family.m) + 6)) + 80
    given = _success_given(False, family.k, family.m, most, None, worst)
    seen = np.arange(n + 1)
    return float(scipy.stats.binom.pmf(seen, n, 4 * family.sigma) @ (1 - given[seen.clip(max=most)]))


def needed_exactly(family: Blocks, delta: float, worst: bool = False) -> int:
    """The smallest n with `failure` at most δ.

    >>> needed_exactly(Blocks(1, 2, 0.25), delta=0.25)
    1
    """
    check_delta(delta)
    low, high = -1, 1
    while failure(family, high, worst) > delta:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if failure(family, middle, worst) > delta else (low, middle)
    return high
