"""Checks for problems whose answers are judged by more than being the reference's.

What EvalPlus 0.3.1 (Apache-2.0) accepts, stated in our own code: in ``evalplus/eval/_special_oracle.py`` and
``evalplus/eval/__init__.py`` two readings of a task are both right, or one that a test can't tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm.sandbox import CallTests, CodeTests

# Source of `accepts(arguments, answer, expected)`, run by the judge.
_SOURCES = {
    "any answer": "def accepts(arguments, answer, expected):\n    return True\n",
    "or zero": "def accepts(arguments, answer, expected):\n    return answer == expected or answer == 0\n",
    # The published solution takes the height for the slant height.
    "or with the height of the pyramid": (
        "from math import sqrt\n\n\n"
        "def accepts(arguments, answer, expected):\n"
        "    base, height = arguments\n"
        "    area = base**2 + 2 * base * sqrt((base / 2) ** 2 + height**2)\n"
        "    return answer == expected or answer == round(area)\n"
    ),
    # The published solution adds up the digits of the difference of the numbers.
    "or padded with zeros": (
        "def accepts(arguments, answer, expected):\n"
        "    one, other = map(str, arguments)\n"
        "    width = max(len(one), len(other))\n"
        "    pairs = zip(one.zfill(width), other.zfill(width))\n"
        "    return answer == expected or answer == sum(abs(int(a) - int(b)) for a, b in pairs)\n"
    ),
}
# Those that the sandbox has itself.
_RULES = {None: "equal", "as sets": "set", "zero of a polynomial": "root"}
RULES = frozenset(rule for rule in (*_SOURCES, *_RULES) if rule is not None)


def check(
    entry_point: str, calls: Sequence[tuple], expected: Sequence[Any], atol: float, oracle: str | None
) -> CallTests | CodeTests:
    """The check of a problem with these calls and expected values, under a rule of `RULES` (None: the same value).

    Raises:
        ValueError: values that are no plain data, or no such rule.
    """
    if oracle in _RULES:
        return CallTests(entry_point, tuple(calls), tuple(expected), atol, _RULES[oracle])
    if oracle not in _SOURCES:
        raise ValueError(f"oracle: there is none named {oracle!r}; there are {', '.join(sorted(RULES))}")
    setup = f"from math import inf, nan\n{_SOURCES[oracle]}\ncalls = {list(calls)!r}\nexpected = {list(expected)!r}\n"
    tests = "".join(
        f"assert accepts(calls[{k}], {entry_point}(*calls[{k}]), expected[{k}])\n" for k in range(len(calls))
    )
    return CodeTests((entry_point,), tests, setup)
