"""pass@k: the probability that one of k samples passes, from n samples a problem; intervals over problems.

Chen et al. 2021 (arXiv 2107.03374), equation 1: of n samples of which c pass, a random subset of k holds none that
passes with probability C(n - c, k) / C(n, k). One minus that is unbiased for each problem, and the benchmark's figure
is their mean. (1 - (1 - c/n)^k is not: it is too small.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean over problems, with the ends of its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def pass_at_k(samples: Sequence[int], passed: Sequence[int], k: int) -> np.ndarray:
    """Of each problem: float64 ``(problems,)``, from the numbers of its samples and of those that pass.

    >>> pass_at_k([4, 4, 4], [0, 1, 3], 2).tolist()
    [0.0, 0.5, 1.0]

    Raises:
        ValueError: no problems; fewer samples than k, or none; more that pass than there are.
    """
    n, c = np.asarray(samples), np.asarray(passed)
    if n.ndim != 1 or n.shape != c.shape or not len(n):
        raise ValueError(f"samples: one number for each problem, and as many passed, got {n.shape} and {c.shape}")
    if not (np.issubdtype(n.dtype, np.integer) and np.issubdtype(c.dtype, np.integer)):
        raise ValueError(f"samples: whole numbers, got {n.dtype} and {c.dtype}")
    if k < 1:
        raise ValueError(f"k: must be at least 1, got {k}")
    if n.min() < k:
        short = int((n < k).sum())
        raise ValueError(
            f"k: pass@{k} needs {k} samples of each problem, but {short} of {len(n)} have fewer ({n.min()} at least); "
            "draw more, or ask for a smaller k"
        )
    if c.min() < 0 or (c > n).any():
        raise ValueError("passed: from 0 to the number of samples")
    # C(n - c, k) / C(n, k) as a product of k factors, each of them exact to rounding; a factor 0 where n - c < k.
    i = np.arange(k)
    factors = np.clip((n - c)[:, None] - i, 0, None) / (n[:, None] - i)
    return 1.0 - factors.prod(1)


def interval(values: np.ndarray, seed: int, level: float = 0.95, draws: int = DRAWS) -> Estimate:
    """The mean of ``(problems,)`` with a percentile bootstrap interval: problems are drawn anew, ``draws`` times.

    It says how far another set of such problems would give another mean; that other samples of the same model would is
    in it too, for each problem's value varies by them.

    Raises:
        ValueError: no values, or some that are not finite (a sample is missing: judge it first).
    """
    values = np.asarray(values, float)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError("values: one finite number for each problem")
    if not 0 < level < 1:
        raise ValueError(f"level: must lie between 0 and 1, got {level}")
    rng = np.random.default_rng(seed)
    # A part at a time: all draws at once would be a large array.
    means = np.concatenate(
        [values[rng.integers(len(values), size=(draws // 10, len(values)))].mean(1) for _ in range(10)]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(values.mean()), float(low), float(high))


def difference(one: np.ndarray, other: np.ndarray, seed: int, level: float = 0.95, draws: int = DRAWS) -> Estimate:
    """Mean of ``other - one`` over the same problems, in the same order, with its interval.

    Raises:
        ValueError: not the same number of problems.
    """
    one, other = np.asarray(one, float), np.asarray(other, float)
    if one.shape != other.shape:
        raise ValueError(f"other: of the same problems, got {other.shape} against {one.shape}")
    return interval(other - one, seed, level, draws)
