"""What a problem is, and how a model's text becomes the program that is judged."""

from __future__ import annotations

import ast
import hashlib
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

# How the program is found in what a model wrote.
CONTINUES, WHOLE, FENCED = "continues the prompt", "is the program", "fenced"
RULES = (CONTINUES, WHOLE, FENCED)

SANITISED = (
    "of the text up to the last line with which it is Python: imports, definitions and assignments; with an entry "
    "point those of them that it needs"
)


@dataclass(frozen=True)
class Problem:
    """A task with what it takes to judge a solution.

    Attributes:
        name: unique in its benchmark, e.g. "HumanEval/0".
        benchmark: as `llm.problems.load` names it.
        prompt: what a model continues.
        check: one of the sandbox's checks, `lineworld.LineWorldCheck`, or `expected.Reference`, of which
            `expected.prepare` makes a check of the sandbox.
        stop: a completion ends before the first of these texts.
        rule: one of `RULES`: the program is code of the prompt and the completion; the completion itself; or the last
            fenced block in it (all of it, if there is none).
        head, tail: what stands before and after that in the program.
        entry_point: the function that is called; None for programs that read and write.
        reference: the published solution, as a completion; None if there is none.
        seconds: of the processor, for one run: what the benchmark states; None: as the reference solution takes
            (`expected.prepare`), or by default.
        settings: how the benchmark asks (source of the prompt, examples in it, ...), recorded with results.
    """

    name: str
    benchmark: str
    prompt: str
    check: Any
    stop: tuple[str, ...] = ()
    rule: str = CONTINUES
    head: str = ""
    tail: str = ""
    entry_point: str | None = None
    reference: str | None = None
    seconds: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule: must be one of {', '.join(map(repr, RULES))}, got {self.rule!r}")
        if not all(self.stop):
            raise ValueError("stop: an empty text would end every completion at once; leave it out")

    def cut(self, text: str) -> str:
        """A completion up to the first stop sequence."""
        return cut(text, self.stop)

    def code(self, completion: str) -> str:
        """The model's own code, without head and tail."""
        text = self.cut(completion)
        return fenced(text) if self.rule == FENCED else text

    def program(self, completion: str, *, sanitise: bool = False) -> str:
        """What is run to judge a completion; with ``sanitise``, as `SANITISED` says."""
        code = self.head + self.code(completion)
        return (sanitised(code, self.entry_point) if sanitise else code) + self.tail

    @property
    def reference_program(self) -> str | None:
        """The published solution as a program."""
        return None if self.reference is None else self.head + self.reference + self.tail

    def digest(self) -> str:
        """Tells apart problems that ask or judge otherwise."""
        return digest([self.name, self.prompt, self.stop, self.rule, self.head, self.tail, self.check, self.reference])

    def about(self) -> dict[str, Any]:
        """How the benchmark asks, for the record."""
        return {
            "benchmark": self.benchmark, "stop": list(self.stop), "program": self.rule, "sanitised": SANITISED,
            **self.settings,
        }  # fmt: skip


def digest(value: Any) -> str:
    """Of plain data and dataclasses of it; the same in every process."""
    return hashlib.blake2b(_spelled(value).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _spelled(value: Any) -> str:
    """As repr, but sets in order: theirs changes from process to process."""
    if is_dataclass(value):
        named = [(one.name, getattr(value, one.name)) for one in fields(value) if one.compare]
        return type(value).__name__ + _spelled(named)
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}[{','.join(map(_spelled, value))}]"
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}[{','.join(sorted(map(_spelled, value)))}]"
    if isinstance(value, dict):
        return f"dict{_spelled(list(value.items()))}"
    # repr refuses integers of more than 4300 digits.
    return hex(value) if type(value) is int else repr(value)


def cut(text: str, stop: Sequence[str]) -> str:
    """A text up to the first of the stop sequences.

    >>> cut("    return x\\n\\ndef g", ["\\ndef", "\\nif"])
    '    return x\\n'
    """
    return text[: min((place for one in stop if (place := text.find(one)) >= 0), default=len(text))]


_FENCE = re.compile(r"^[ \t]*```[ \t]*\w*[ \t]*\r?\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)
_OPEN = re.compile(r"^[ \t]*```[ \t]*\w*[ \t]*\r?\n", re.MULTILINE)


def fenced(text: str) -> str:
    """The last block between lines of three backticks; what follows a fence that never closes; else all of it.

    >>> fenced("So:\\n```python\\nx = 1\\n```\\nDone.")
    'x = 1\\n'
    """
    if blocks := _FENCE.findall(text):
        return blocks[-1]
    opening = _OPEN.search(text)
    return text[opening.end() :] if opening else text


def sanitised(code: str, entry_point: str | None = None) -> str:
    """What is left of a program without talk after it, top-level calls, prints and tests (`SANITISED`).

    It is returned as it is if no beginning of it is a program.

    >>> sanitised("import os\\ndef f(x):\\n    return x\\n\\nprint(f(1))\\nThis prints 1.", "f")
    'import os\\ndef f(x):\\n    return x\\n'
    """
    tree, code = _longest(code)
    if tree is None:
        return code
    kept = [one for one in tree.body if isinstance(one, _KEPT)]
    if entry_point is not None:
        kept = _needed(kept, entry_point.partition(".")[0])
    if not kept:
        return code
    lines = code.split("\n")
    return "".join("\n".join(lines[_first(one) - 1 : one.end_lineno]) + "\n" for one in kept)


_KEPT = (
    ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign,
    ast.AugAssign,
)  # fmt: skip


def _longest(code: str) -> tuple[ast.Module | None, str]:
    """The longest beginning, by lines, that parses; None if it holds no statement."""
    # The parser takes these three for the end of a line, and no other character.
    code = code.replace("\r\n", "\n").replace("\r", "\n")
    lines = code.split("\n")
    end = len(lines)
    while end > 0:
        text = "\n".join(lines[:end])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            # Whatever else follows, the line of the error stays wrong.
            end = min(end, getattr(error, "lineno", None) or end) - 1
            continue
        return (tree, text) if tree.body else (None, code)
    return None, code


def _needed(kept: list[Any], name: str) -> list[Any]:
    """Imports, and what ``name`` uses, directly or not; everything if it is not there."""
    defines = {id(one): _defined(one) for one in kept}
    if not any(name in names for names in defines.values()):
        return kept
    wanted, queue = {name}, [name]
    while queue:
        one = queue.pop()
        for statement in kept:
            if one in defines[id(statement)]:
                new = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)} - wanted
                wanted |= new
                queue += sorted(new)
    return [one for one in kept if isinstance(one, (ast.Import, ast.ImportFrom)) or defines[id(one)] & wanted]


def _defined(statement: Any) -> set[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {statement.name}
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return {node.id for target in targets if target for node in ast.walk(target) if isinstance(node, ast.Name)}


def _first(statement: Any) -> int:
    decorators = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(one.lineno for one in decorators)])
