"""The theory as code: statements that can be evaluated, checked exactly, and attacked (see ``theory/README.md``)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType

from theory.bound import Statement

_MODULES = (
    "regret",
    "survival",
    "hitting",
    "lower",
    "convergence",
    "certificates",
    "total_regret",
    "demonstrations",
    "variational",
    "causal",
    "limits",
    "thinking",
)


@cache
def statements() -> Mapping[str, Statement]:
    """All statements by name, in the order of their numbers."""
    every = [one for module in _MODULES for one in importlib.import_module(f"theory.{module}").STATEMENTS]
    every.sort(key=lambda statement: tuple(map(int, statement.number.split("."))))
    return MappingProxyType({statement.name: statement for statement in every})


def find(names: Sequence[str] = ()) -> list[Statement]:
    """The statements of the given names, each once, in the given order; no name: all.

    Raises:
        ValueError: an unknown name; lists the known ones.
    """
    known = statements()
    for name in names:
        if name not in known:
            raise ValueError(f"no statement {name!r}; known are: {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names or known)]


__all__ = ["Statement", "find", "statements"]
