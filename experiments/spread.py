"""Means over seeds, and how sure they are."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.stats


class Interval(NamedTuple):
    """A mean and the ends of its 95 % interval."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def interval(values: Any, axis: int = 0) -> Interval:
    """Mean over seeds, with Student's 95 % interval.

    Raises:
        ValueError: fewer than two seeds.

    >>> float(interval([1.0, 2.0, 3.0]).mean)
    2.0
    """
    values = np.asarray(values, dtype=float)
    count = values.shape[axis]
    if count < 2:
        raise ValueError(f"values: a spread needs at least 2 seeds, got {count}")
    mean = values.mean(axis)
    half = scipy.stats.t.ppf(0.975, count - 1) * values.std(axis, ddof=1) / np.sqrt(count)
    return Interval(mean, mean - half, mean + half)
