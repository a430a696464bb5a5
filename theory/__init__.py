"""The theory as code: statements that can be evaluated, checked exactly, and attacked (see ``theory/README.md``)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType

from theory.bound import Statement

# In the order of `theory/README.md`.
_MODULES = ("convergence", "certificates")


@cache
def statements() -> Mapping[str, Statement]:
    """All statements by name."""
    found: dict[str, Statement] = {}
    for module in _MODULES:
        for statement in importlib.import_module(f"theory.{module}").STATEMENTS:
            if statement.name in found:
                raise ValueError(f"statements: {statement.name!r} stands twice")
            found[statement.name] = statement
    return MappingProxyType(found)


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
