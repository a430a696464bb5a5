"""Functions and classes cut out of Python source, as text that is valid on its own."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

KINDS = ("function", "class", "module")
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Limits:
    """How long a piece may be: physical lines, and characters with the final newline."""

    min_lines: int = 3
    max_lines: int = 100
    max_chars: int = 5000

    def __post_init__(self) -> None:
        if not 1 <= self.min_lines <= self.max_lines:
            raise ValueError(f"min_lines: must be from 1 to max_lines, {self.max_lines}, got {self.min_lines}")
        if self.max_chars < 1:
            raise ValueError(f"max_chars: must be at least 1, got {self.max_chars}")

    def verdict(self, text: str) -> str:
        """'' if the text fits, else 'too short' or 'too long'."""
        lines = text.count("\n")
        if lines > self.max_lines or len(text) > self.max_chars:
            return "too long"
        return "too short" if lines < self.min_lines else ""


@dataclass(frozen=True)
class Piece:
    """A part of a file: its kind, its qualified name ('' for a module), first line (from 1), text and `Limits.verdict`.

    The text ends with one newline.
    """

    kind: str
    name: str
    line: int
    text: str
    verdict: str


def parse(text: str) -> ast.Module:
    """``ast.parse`` without its warnings.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: as the parser does, the last two for deep nesting.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text)


def pieces(text: str, kinds: Sequence[str], limits: Limits) -> Iterator[Piece]:
    """The outermost parts that are of these kinds and short enough, in order; no text comes twice.

    A module or class that is too long is opened, a function is not: it comes with the verdict 'too long'. So the
    methods of a class come by themselves only if the class doesn't fit or classes are not asked for.

    Args:
        text: the file, with newlines as ``\\n``.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: see `parse`.
    """
    tree = parse(text)
    if "module" in kinds and tree.body:
        whole = text.rstrip() + "\n"
        verdict = limits.verdict(whole)
        if verdict != "too long" or not set(kinds) - {"module"}:
            yield Piece("module", "", 1, whole, verdict)
            return
    # Not str.splitlines: for Python a form feed, among others, doesn't end a line.
    lines = text.split("\n")
    yield from _descend(tree.body, lines, "", kinds, limits)


def _descend(
    body: list[ast.stmt], lines: list[str], prefix: str, kinds: Sequence[str], limits: Limits
) -> Iterator[Piece]:
    for node in _definitions(body):
        kind = "class" if isinstance(node, ast.ClassDef) else "function"
        name = prefix + node.name
        verdict = ""
        if kind in kinds:
            text = cut(lines, node)
            verdict = limits.verdict(text)
            if not (kind == "class" and verdict == "too long" and "function" in kinds):
                yield Piece(kind, name, _first_line(node), text, verdict)
                continue
        if kind == "class":
            yield from _descend(node.body, lines, f"{name}.", kinds, limits)


def _definitions(body: list[ast.stmt]) -> Iterator[Any]:
    """Functions and classes among the statements, those under ``if``, ``try`` and the like included."""
    for statement in body:
        if isinstance(statement, _DEFINITIONS):
            yield statement
            continue
        for field in ("body", "handlers", "cases", "orelse", "finalbody"):
            parts = getattr(statement, field, [])
            for part in parts if isinstance(parts, list) else []:
                yield from _definitions([part] if isinstance(part, ast.stmt) else part.body)


def _first_line(node: Any) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def cut(lines: list[str], node: Any) -> str:
    """The lines of a definition, decorators and comments included, with its indentation taken off.

    The lines inside a string stay as they are, except that docstrings move with the code where all their lines can:
    the syntax tree is the original's but for the indentation of docstrings, which `inspect.cleandoc` evens out.
    """
    first = _first_line(node)
    own = lines[first - 1 : node.end_lineno]
    # A form feed begins the indentation anew.
    own[0] = own[0].lstrip("\f")
    indent = own[0][: len(own[0]) - len(own[0].lstrip())]
    if indent:
        fixed = _fixed_lines(lines, node, indent)
        own = [line if first + i in fixed else _dedent(line, indent) for i, line in enumerate(own)]
    return "\n".join(own) + "\n"


def _dedent(line: str, indent: str) -> str:
    # Comments and continued lines may stand further left than the code.
    return line[len(indent) :] if line.startswith(indent) else line.lstrip(" \t")


def _fixed_lines(lines: list[str], node: Any, indent: str) -> set[int]:
    """Numbers of the lines that begin inside a string and can't be moved without changing what it says."""
    parts: Any = ast.walk(node)
    docstrings = {id(part.body[0].value) for part in parts if _has_docstring(part)}
    fixed: set[int] = set()
    for part in _strings(node):
        if part.end_lineno > part.lineno:
            inside = _inside_strings(lines[part.lineno - 1 : part.end_lineno], part)
            if id(part) not in docstrings or not _movable(lines, inside, part.value, indent):
                fixed.update(inside)
    return fixed


def _strings(node: ast.AST) -> Iterator[Any]:
    """String constants and f-strings, but nothing inside of f-strings, whose parts are no literals of their own."""
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, (ast.Constant, ast.JoinedStr)):
            yield part
        else:
            waiting.extend(ast.iter_child_nodes(part))


def _movable(lines: list[str], inside: list[int], value: str, indent: str) -> bool:
    """Whether every line of the docstring has the indentation, and is a line of the file too (no escapes)."""
    indented = all(lines[row - 1].startswith(indent) or not lines[row - 1].strip() for row in inside)
    joined = any(lines[row - 2].endswith("\\") for row in inside)
    return indented and not joined and value.count("\n") == len(inside)


def _has_docstring(node: ast.AST) -> bool:
    return isinstance(node, _DEFINITIONS) and ast.get_docstring(node, clean=False) is not None


def _inside_strings(own: list[str], part: Any) -> list[int]:
    """Numbers of the lines, of those that the string constant spans, that begin inside one of its literals."""
    # The columns of a syntax tree count UTF-8 bytes. The end is cut first: it may be on the same line.
    own = [*own[:-1], own[-1].encode()[: part.end_col_offset].decode()]
    own[0] = own[0].encode()[part.col_offset :].decode()
    inside: list[int] = []
    depth = begin = 0
    # In brackets, so that literals in a row may stand on lines of their own.
    for token in tokenize.generate_tokens(io.StringIO("(" + "\n".join(own) + "\n)").readline):
        name = tokenize.tok_name[token.type]
        if name == "FSTRING_START":
            depth, begin = depth + 1, begin if depth else token.start[0]
        elif name == "FSTRING_END":
            depth -= 1
            if not depth:
                inside.extend(range(begin + 1, token.end[0] + 1))
        elif name == "STRING" and not depth:
            inside.extend(range(token.start[0] + 1, token.end[0] + 1))
    return [part.lineno + row - 1 for row in inside]


def strip_comments(text: str) -> str:
    """The program without its comments; lines that hold nothing else go. The syntax tree stays the same.

    Raises:
        SyntaxError, tokenize.TokenError: the text can't be read as Python.
    """
    lines = text.split("\n")
    kept: list[str | None] = list(lines)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            rest = lines[row - 1][:column].rstrip()
            continued = row > 1 and lines[row - 2].endswith("\\")
            kept[row - 1] = rest if rest or continued else None
    return "\n".join(line for line in kept if line is not None)


def digest(tree: ast.AST) -> bytes:
    """16 bytes that are equal for equal syntax trees: white space, comments and places in the file don't count."""
    parts: list[str] = []
    waiting: list[Any] = [tree]
    while waiting:  # not ast.dump, whose recursion fails on long sums
        node = waiting.pop()
        if isinstance(node, ast.AST):
            parts.append(type(node).__name__)
            waiting.extend(getattr(node, field, None) for field in node._fields if field != "ctx")
        elif isinstance(node, list):
            parts.append(f"[{len(node)}")
            waiting.extend(node)
        else:
            # repr refuses integers of more than 4300 digits.
            parts.append(hex(node) if type(node) is int else repr(node))
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()
