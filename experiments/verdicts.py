"""How a claim is judged from intervals: the same words and rules wherever claims are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ra3sim.spread import Interval

HOLDS, IN_PART, NOT, OPEN = "holds", "holds in part", "not reproduced", "not decided"
# It takes models, data or machines that are not at hand; or what it is judged by was not computed this time.
UNTESTABLE, MISSING = "not testable here", "not computed"


def side(known: Interval, above: float = 0.0, below: float = np.inf) -> int:
    """1: the interval lies within the bounds, -1: outside, 0: it holds a bound."""
    if known.low > above and known.high < below:
        return 1
    return -1 if known.high <= above or known.low >= below else 0


def verdict(sides: Sequence[int], one: bool = False) -> str:
    """All comparisons bear the claim out (or one, if that is enough): it holds; some: in part. None, and one at least
    speaks against it: not reproduced. Otherwise the intervals are too wide to tell.

    >>> verdict([1, 1]), verdict([1, -1]), verdict([0, -1]), verdict([0])
    ('holds', 'holds in part', 'not reproduced', 'not decided')
    """
    if 1 in sides:
        return HOLDS if one or set(sides) == {1} else IN_PART
    return NOT if -1 in sides or one else OPEN


def together(verdicts: Iterable[str]) -> str:
    """The verdict on a claim that consists of claims.

    >>> together(["holds", "holds"]), together(["holds", "not decided"]), together(["not reproduced", "not decided"])
    ('holds', 'holds in part', 'not reproduced')
    """
    found = set(verdicts)
    if len(found) == 1:
        return found.pop()
    return IN_PART if {HOLDS, IN_PART} & found else NOT if NOT in found else OPEN


__all__ = ["HOLDS", "IN_PART", "MISSING", "NOT", "OPEN", "UNTESTABLE", "side", "together", "verdict"]
