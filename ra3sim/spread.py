"""Means over seeds or tasks, and how sure they are."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.stats


class Interval(NamedTuple):
    """A mean (of any kind) and the ends of its interval, of 95 % unless said otherwise; numbers or arrays."""

    mean: Any
    low: Any
    high: Any


def interval(values: Any, axis: int = 0, confidence: float = 0.95) -> Interval:
    """Mean over seeds, with Student's interval.

    Raises:
        ValueError: fewer than two seeds.

    >>> float(interval([1.0, 2.0, 3.0]).mean)
    2.0
    """
    values, count = _read(values, axis)
    mean = values.mean(axis)
    half = scipy.stats.t.ppf((1 + confidence) / 2, count - 1) * values.std(axis, ddof=1) / np.sqrt(count)
    return Interval(mean, mean - half, mean + half)


def iqm(values: Any, axis: int = 0) -> np.ndarray:
    """The mean of the middle half (Agarwal et al. 2021): a quarter of the values is left out at each end.

    >>> float(iqm([0.0, 1.0, 2.0, 100.0]))
    1.5
    """
    return scipy.stats.trim_mean(values, 0.25, axis)


def bootstrap_iqm(values: Any, seed: Any, axis: int = 0, resamples: int = 2000) -> Interval:
    """The mean of the middle half of the seeds, with a percentile bootstrap interval of 95 % over them.

    Entries beside the axis are resampled together: what belongs to one seed stays together.

    Args:
        seed: for `numpy.random.default_rng`.

    Raises:
        ValueError: fewer than two seeds.

    >>> [round(float(x), 2) for x in bootstrap_iqm([1.0, 2.0, 3.0, 4.0], seed=0)]
    [2.5, 1.0, 4.0]
    """
    values, count = _read(values, axis)
    values = np.moveaxis(values, axis, 0)
    drawn = np.random.default_rng(seed).integers(count, size=(resamples, count))
    # In parts of 8 MB: all resamples of many curves at once would be large.
    part = max(1, 1_000_000 // values.size)
    means = np.concatenate([iqm(values[drawn[i : i + part]], 1) for i in range(0, resamples, part)])
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return Interval(iqm(values), low, high)


def _read(values: Any, axis: int) -> tuple[np.ndarray, int]:
    values = np.asarray(values, dtype=float)
    count = values.shape[axis]
    if count < 2:
        raise ValueError(f"values: a spread needs at least 2 seeds, got {count}")
    return values, count
