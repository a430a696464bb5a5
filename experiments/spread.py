"""Means over seeds, and how sure they are; checks of the configs that ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats


def check_seeds(seeds: int) -> None:
    """
    Raises:
        ValueError: fewer than two; the message is that of a config's field ``seeds``.
    """
    if seeds < 2:
        raise ValueError(f"seeds: a spread needs at least 2, got {seeds}")


def check_ascending(name: str, values: Sequence[int]) -> None:
    """
    Raises:
        ValueError: nothing, or not ascending whole numbers from 1 on; names the field.
    """
    if not values or values[0] < 1 or list(values) != sorted(set(values)):
        raise ValueError(f"{name}: must be ascending whole numbers, 1 or more, got {values}")


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
