"""What a program has to do. The judge holds these; the process of the program never sees them."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from llm.sandbox.inside import wire
from llm.sandbox.inside.compare import RULES


@dataclass(frozen=True)
class CodeTests:
    """Trusted Python source that calls the program's functions.

    `setup` runs first, in a fresh namespace; then each entry point is bound to a function that has the program's
    process compute the result; then `tests` runs. Arguments and results are plain typed data: None, bool, int, float,
    complex, str, bytes, list, tuple, dict, set, frozenset, nested. An exception of the program is raised again here if
    it is a built-in one, else as RuntimeError. The program passes if `tests` ends without an exception and has called
    it at least once.

    >>> CodeTests(("add",), "assert add(1, 2) == 3").kind
    'code'

    Raises:
        ValueError: no entry point or no tests, a name that is none, or source that does not compile.
    """

    entry_points: tuple[str, ...]
    tests: str
    setup: str = ""
    kind: str = field(default="code", init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.entry_points, str) or not self.entry_points:
            raise ValueError(f"entry_points: must be a tuple of one name or more, got {self.entry_points!r}")
        for name in self.entry_points:
            _check_name(name, "entry_points")
        if not self.tests.strip():
            raise ValueError("tests: there are none; a program can't pass nothing")
        for what in ("setup", "tests"):
            try:
                compile(getattr(self, what), f"<{what}>", "exec", dont_inherit=True)
            except (SyntaxError, ValueError) as error:
                raise ValueError(f"{what}: does not compile ({error}); mend the problem") from None

    @functools.cached_property
    def text(self) -> str:
        """For the judge."""
        return wire.dumps(["code", list(self.entry_points), self.tests, self.setup])


@dataclass(frozen=True)
class CallTests:
    """Calls of one function and what they must return, compared as EvalPlus does.

    Args:
        entry_point: a function, or "Class.method" of a class that is made without arguments anew for each call.
        calls: the positional arguments of each.
        expected: the result of each.
        atol: numbers may differ by so much (and 1e-7 of their size); with 0, floats by 1e-6.
        rule: "equal", or what EvalPlus does for some problems: "set" (as sets), "not none" (expected is whether there
            is a result), "root" (the result is a root of the polynomial in the first argument, to `atol`).

    Raises:
        ValueError: no calls, not as many results as calls, data of other types.
    """

    entry_point: str
    calls: tuple[tuple[Any, ...], ...]
    expected: tuple[Any, ...]
    atol: float = 0.0
    rule: str = "equal"
    kind: str = field(default="calls", init=False, repr=False)

    def __post_init__(self) -> None:
        _check_name(self.entry_point, "entry_point")
        if not self.calls:
            raise ValueError("calls: there are none; a program can't pass nothing")
        if len(self.calls) != len(self.expected):
            raise ValueError(f"expected: {len(self.expected)} results for {len(self.calls)} calls; give one for each")
        if self.rule not in RULES:
            raise ValueError(f"rule: there is none named {self.rule!r}; there are {', '.join(RULES)}")
        if not (isinstance(self.atol, (int, float)) and math.isfinite(self.atol) and self.atol >= 0):
            raise ValueError(f"atol: must be 0 or more, got {self.atol!r}")
        for what in ("calls", "expected"):
            for k, one in enumerate(getattr(self, what)):
                if isinstance(one, Iterator):
                    raise ValueError(f"{what}: number {k} is an iterator, which can be read once only; give a list")
                try:
                    wire.pack(one)
                except (wire.NotPlain, RecursionError) as error:
                    raise ValueError(f"{what}: number {k} holds {error}; give plain data") from None

    @functools.cached_property
    def text(self) -> str:
        """For the judge, which passes the calls on as they are: each is text of its own."""
        calls = [wire.dumps(list(call)) for call in self.calls]
        expected = [wire.dumps(one) for one in self.expected]
        return wire.dumps(["calls", self.entry_point, calls, expected, float(self.atol), self.rule])


@dataclass(frozen=True)
class StdioTests:
    """Runs of the program as a script: what it reads, and what it must write.

    Words are compared line by line; spaces at the ends of lines and empty lines at the end don't count.

    Args:
        cases: (stdin, expected stdout) of each run.
        tolerance: words that are numbers may differ by so much, absolutely or relatively; None: not at all.

    Raises:
        ValueError: no cases, or other things than text.
    """

    cases: tuple[tuple[str, str], ...]
    tolerance: float | None = None
    kind: str = field(default="stdio", init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.cases:
            raise ValueError("cases: there are none; a program can't pass nothing")
        for k, case in enumerate(self.cases):
            if len(case) != 2 or not all(isinstance(one, str) for one in case):
                raise ValueError(f"cases: number {k} must be (stdin, stdout), two strings, got {case!r:.80}")
        if self.tolerance is not None and not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise ValueError(f"tolerance: must be None, or 0 or more, got {self.tolerance!r}")

    @functools.cached_property
    def text(self) -> str:
        """For the judge."""
        return wire.dumps(["stdio", [list(case) for case in self.cases], self.tolerance])


Check = CodeTests | CallTests | StdioTests
"""What a program can be held against."""


def _check_name(name: Any, what: str) -> None:
    if not (isinstance(name, str) and all(part.isidentifier() for part in name.split("."))) or name.count(".") > 1:
        raise ValueError(f"{what}: must be a function's name, or 'Class.method', got {name!r}")
