"""Runs the pages of the documentation: the code of a page in order, in one namespace, as a reader would type it.

A fenced block of python is executed, one of sh is a call of the `ra3` command, and a block of text right after either
is what it must have printed, white space and ``...`` (anything) aside.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from experiments import cli

DOCS = Path(__file__).parents[1] / "docs"
_FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """Code of a page, the line where it begins, and what is shown after it (None: nothing)."""

    kind: str
    code: str
    line: int
    shown: str | None


def blocks(text: str) -> Iterator[Block]:
    """The blocks of a page that are code."""
    found = list(_FENCE.finditer(text))
    for one, after in zip(found, [*found[1:], None], strict=True):
        if one[1] not in ("python", "sh"):
            continue
        follows = after is not None and after[1] == "text" and not text[one.end() : after.start()].strip()
        yield Block(one[1], one[2], text.count("\n", 0, one.start()) + 2, after[2] if follows else None)


def run(page: Path) -> types.ModuleType:
    """Execute the code of a page in the current folder; the namespace that it leaves behind.

    Raises:
        AssertionError: a command failed, or something else was printed than the page shows; says which line.
    """
    # A module of its own, so that classes and functions of the page have a home, as those in a file have.
    module = types.ModuleType(f"page_{page.stem.replace('-', '_')}")
    sys.modules[module.__name__] = module
    for block in blocks(page.read_text(encoding="utf-8")):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if block.kind == "python":
                # Empty lines before it, so that a traceback names the line of the page.
                exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), module.__dict__)
            else:
                _commands(block, page)
        if block.shown is not None and not doctest.OutputChecker().check_output(
            block.shown, printed.getvalue(), _FLAGS
        ):
            raise AssertionError(
                f"{page.name}, line {block.line}: shown is\n{block.shown}\nand printed was\n{printed.getvalue()}"
            )
    return module


def _commands(block: Block, page: Path) -> None:
    for line in block.code.replace("\\\n", " ").splitlines():
        program, *arguments = shlex.split(line, comments=True) or [""]
        assert program in ("", "ra3"), f"{page.name}, line {block.line}: {line!r} is no call of ra3"
        if program:
            code = cli.main(arguments)
            assert code == 0, f"{page.name}, line {block.line}: {line!r} ends with {code}"
