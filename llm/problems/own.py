"""Problems of one's own, as JSON lines.

    {"name": "add", "prompt": "def add(a, b):\\n", "entry_point": "add", "tests": "assert add(1, 2) == 3"}

``name`` and ``prompt``, and one of these:

* ``tests`` (Python, run by the judge), ``entry_point`` or ``entry_points`` (what the program defines), ``setup`` first;
* ``calls`` and ``expected`` (a list of arguments and a result for each call), ``entry_point``, ``atol``;
* ``cases``: ``{"input": ..., "output": ...}`` of a program that reads and writes; ``tolerance`` of numbers in them.

Where it is wanted: ``program``, "continues the prompt" (as it is without), "is the program" or "fenced"; ``stop``,
texts that end a completion; ``head`` and ``tail`` of the program; ``reference``, a solution in the form of a
completion; ``seconds``, the time limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm.problems.files import Wrong, field, text, texts
from llm.problems.problem import CONTINUES, Problem
from llm.sandbox import CallTests, CodeTests, StdioTests

KINDS = ("tests", "calls", "cases")
KNOWN = {
    "name", "prompt", "tests", "entry_point", "entry_points", "setup", "calls", "expected", "atol", "cases",
    "tolerance", "program", "stop", "head", "tail", "reference", "seconds",
}  # fmt: skip


def problem(record: Mapping[str, Any]) -> Problem:
    if unknown := sorted(set(record) - KNOWN):
        raise Wrong(f"there is no field {unknown[0]!r}; there are {', '.join(sorted(KNOWN))}")
    given = [kind for kind in KINDS if kind in record]
    if len(given) != 1:
        raise Wrong(f"give one of 'tests', 'calls' and 'cases', got {' and '.join(map(repr, given)) or 'none'}")
    prompt, rule = text(record, "prompt"), text(record, "program", default=CONTINUES)
    head = text(record, "head", default=prompt if rule == CONTINUES else "")
    check = {"tests": _tests, "calls": _calls, "cases": _cases}[given[0]](record)
    return Problem(
        name=text(record, "name"), benchmark="jsonl", prompt=prompt, check=check, rule=rule, head=head,
        tail=text(record, "tail", default=""), stop=texts(record, "stop", ()), entry_point=_entry_point(check),
        reference=text(record, "reference", default=None), seconds=number(record, "seconds", None),
        settings={"source": "a file of one's own"},
    )  # fmt: skip


def _tests(record: Mapping[str, Any]) -> CodeTests:
    names = texts(record, "entry_points", default=[])
    names = names or (text(record, "entry_point"),)
    return CodeTests(names, text(record, "tests"), text(record, "setup", default=""))


def _calls(record: Mapping[str, Any]) -> CallTests:
    calls, expected = field(record, list, "calls"), field(record, list, "expected")
    if not all(isinstance(one, list) for one in calls):
        raise Wrong("each of 'calls' must be a list of arguments")
    atol = number(record, "atol", 0.0)
    return CallTests(text(record, "entry_point"), tuple(map(tuple, calls)), tuple(expected), atol)


def _cases(record: Mapping[str, Any]) -> StdioTests:
    return StdioTests(cases(field(record, list, "cases")), number(record, "tolerance", None))


def cases(found: list[Any]) -> tuple[tuple[str, str], ...]:
    """Inputs and outputs of ``[{"input": ..., "output": ...}]``."""
    for one in found:
        if not isinstance(one, Mapping) or not all(isinstance(one.get(name), str) for name in ("input", "output")):
            raise Wrong("a test must have 'input' and 'output', both texts")
    return tuple((one["input"], one["output"]) for one in found)


def number(record: Mapping[str, Any], name: str, default: Any) -> Any:
    """A number, 0 or more."""
    value = record.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise Wrong(f"{name!r} must be a number, 0 or more, got {value!r}")
    return float(value)


def _entry_point(check: Any) -> str | None:
    if isinstance(check, CodeTests):
        return check.entry_points[0] if len(check.entry_points) == 1 else None
    return check.entry_point if isinstance(check, CallTests) else None
