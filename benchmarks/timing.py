"""Paired timings: two commands in turn, so that a drift of the machine hits both."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
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


@dataclass(frozen=True)
class Row:
    """One line of the table: what, against what, seconds of both, the ratio and the target it is held to."""

    task: str
    method: str
    other: str
    pair: Pair
    target: str


def table(rows: Iterable[Row]) -> Iterator[str]:
    """Lines of Markdown, each as soon as its row is measured."""
    yield "| task | ours, ms | other | other, ms | other / ours: median (min to max) | target |"
    yield "|---|---:|---|---:|---:|---:|"
    for row in rows:
        ratios = row.pair.ratios
        yield (
            f"| {row.task} ({row.method}) | {_ms(row.pair.ours)} | {row.other} | {_ms(row.pair.other)} | "
            f"**{np.median(ratios):.2f}** ({ratios.min():.2f} to {ratios.max():.2f}) | {row.target} |"
        )


def versions(*packages: str) -> str:
    """Of Python, these packages and the machine."""
    named = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"Python {platform.python_version()}, {named}, {platform.machine()}"


def _ms(seconds: np.ndarray) -> str:
    return f"{1000 * np.median(seconds):.3g}"


def pair(
    ours: Callable[[], Any], other: Callable[[], Any], runs: int, other_scale: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Pair:  # fmt: skip
    """Time two callables in turn after one warm-up of each; ``other_scale`` multiplies the other's seconds."""
    times = np.empty((runs + 1, 2))
    for run in range(runs + 1):
        for column, call in enumerate((ours, other)):
            start = clock()
            call()
            times[run, column] = clock() - start
    return Pair(times[1:, 0], times[1:, 1] * other_scale)


@njit(cache=True, fastmath={"reassoc", "contract"})
def stream(array):
    """Read every entry of a flat array once: the time of a sweep cannot be less."""
    total = 0.0
    for i in range(array.shape[0]):
        total += array[i]
    return total
