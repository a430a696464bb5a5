"""Worked examples in docstrings, shown as code.

The house writes them as the standard library does, as bare ``>>>`` lines that `doctest` finds; in Markdown these would
be quotations.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^( *)>>> .*\n?(?:^ *\S.*\n?)*", re.MULTILINE)


class Examples(griffe.Extension):
    """Puts a fence around every example."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub(_fenced, obj.docstring.value)


def _fenced(found: re.Match[str]) -> str:
    indent, text = found[1], found[0].rstrip("\n")
    return f"{indent}```pycon\n{text}\n{indent}```\n"
