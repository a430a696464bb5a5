"""Whether what a program gave is what was asked for: only plain data, which the judge has read itself."""

from __future__ import annotations

import math
from typing import Any

from . import wire

RULES = ("equal", "set", "not none", "root")
_RTOL = 1e-7  # of numpy.allclose as EvalPlus calls it
_FLOATS = 1e-6  # EvalPlus's tolerance for floats where a problem names none


def same_result(given: Any, expected: Any, atol: float, rule: str, call: str) -> bool:
    """EvalPlus's comparison (evalplus/eval/__init__.py), without its ways to be deceived.

    Args:
        call: the arguments as text.

    >>> same_result(0.1 + 0.2, 0.3, 0.0, "equal", "[]"), same_result([1.0], [2.0], 0.0, "equal", "[]")
    (True, False)
    """
    try:
        return _same(given, expected, atol, rule, call)
    except (ArithmeticError, TypeError, ValueError, RecursionError):
        # Numbers that are too large for each other, mostly.
        return False


def _same(given: Any, expected: Any, atol: float, rule: str, call: str) -> bool:
    if rule == "root":
        return _is_number(given) and abs(_polynomial(wire.loads(call)[0], given)) <= (atol or _FLOATS)
    if rule == "set":
        return set(given) == set(expected)
    if rule == "not none":
        return (given if type(given) is bool else given is not None) == expected
    if given == expected:
        return True
    if atol == 0 and _has_floats(expected):
        atol = _FLOATS
    return atol != 0 and type(given) is type(expected) and _close(given, expected, atol)


def _polynomial(coefficients: Any, x: float) -> float:
    return sum(c * x**k for k, c in enumerate(coefficients))


def _has_floats(value: Any) -> bool:
    """A float, or a list or tuple of nothing else."""
    if type(value) in (list, tuple):
        return bool(value) and all(type(one) is float for one in value)
    return type(value) is float


def _is_number(value: Any) -> bool:
    return type(value) in (int, float, bool)


def _close(given: Any, expected: Any, atol: float) -> bool:
    if type(expected) in (list, tuple):
        if type(given) not in (list, tuple) or len(given) != len(expected):
            return False
        return all(_close(one, other, atol) for one, other in zip(given, expected, strict=True))
    if type(expected) is complex or type(given) is complex:
        return all(type(one) in (int, float, complex) for one in (given, expected)) and abs(given - expected) <= atol
    if not (_is_number(given) and _is_number(expected)):
        return False
    if math.isinf(given) or math.isinf(expected):
        return given == expected
    return abs(given - expected) <= atol + _RTOL * abs(expected)


def same_output(given: str, expected: str, tolerance: float | None) -> int | None:
    """The first line (from 0) that differs, or None. Spaces that end lines and empty lines at the end don't count.

    >>> same_output("1 2 \\n3\\n\\n", "1 2\\n3", None), same_output("0.5000001", "0.5", 1e-6)
    (None, None)
    >>> same_output("1\\n2", "1\\n3", None)
    1
    """
    ours, theirs = _lines(given), _lines(expected)
    for k in range(max(len(ours), len(theirs))):
        if k >= len(ours) or k >= len(theirs):
            return k
        if ours[k] != theirs[k] and not _same_words(ours[k], theirs[k], tolerance):
            return k
    return None


def _lines(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _same_words(line: str, other: str, tolerance: float | None) -> bool:
    words, others = line.split(), other.split()
    if len(words) != len(others):
        return False
    return all(
        one == two or (tolerance is not None and _same_number(one, two, tolerance))
        for one, two in zip(words, others, strict=True)
    )


def _same_number(word: str, other: str, tolerance: float) -> bool:
    try:
        if tolerance == 0 and not set(word + other) & set(".eE"):
            # Large integers that differ may be the same float.
            return int(word) == int(other)
        one, two = float(word), float(other)
    except ValueError:
        return False
    # nan is no answer, and no number is near to infinity.
    return math.isfinite(one) and math.isfinite(two) and abs(one - two) <= tolerance * max(1.0, abs(two))
