"""Paired timings: two commands in turn, so that a drift of the machine hits both."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit


@dataclass(frozen=True)
class Pair:
    """Seconds of ours and of the other, ``(runs,)`` each, in the order in which they ran."""

    ours: np.ndarray
    other: np.ndarray

    @property
    def ratios(self) -> np.ndarray:
        """other / ours, run by run: above 1 we are faster."""
        return self.other / self.ours


def pair(ours: Callable[[], Any], other: Callable[[], Any], runs: int, other_scale: float = 1.0) -> Pair:
    """Time two callables in turn after one warm-up of each; ``other_scale`` multiplies the other's seconds."""
    times = np.empty((runs + 1, 2))
    for run in range(runs + 1):
        for column, call in enumerate((ours, other)):
            start = time.perf_counter()
            call()
            times[run, column] = time.perf_counter() - start
    return Pair(times[1:, 0], times[1:, 1] * other_scale)


@njit(cache=True, fastmath={"reassoc", "contract"})
def stream(array):
    """Read every entry of a flat array once: the time of a sweep cannot be less."""
    total = 0.0
    for i in range(array.shape[0]):
        total += array[i]
    return total
