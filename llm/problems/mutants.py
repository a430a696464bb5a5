"""Wrong solutions made of right ones, to see that tests notice: a constant, an integer or the answer off by one.

A mutant that passes is not always the tests' fault: some changes of a program change nothing that it returns, and where
every test expects the same answer, a constant is right.
"""

from __future__ import annotations

import ast
import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llm.problems.problem import Problem
from llm.sandbox import CallTests, CodeTests

CONSTANTS: tuple[Any, ...] = (None, True, False, 0, 1, "", [])
# Integers of a solution that are changed, from its first line on.
PLACES = 3


@dataclass(frozen=True)
class Mutant:
    """A program, and how it differs from the reference solution."""

    kind: str
    change: str
    program: str


def mutants(problem: Problem, places: int = PLACES) -> list[Mutant]:
    """Of the reference solution of a problem whose program is a function; none of another."""
    if problem.reference is None or problem.entry_point is None or "." in problem.entry_point:
        return []
    code = problem.head + problem.reference
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(code)
    # A solution may define its function twice; the last one counts.
    functions = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == problem.entry_point]
    if not functions:
        return []
    # After the reference, so that its own statements do not call the mutant.
    constants = [
        Mutant("constant", f"returns {value!r}", f"{code}\n\n\n{_constant(problem.entry_point, value)}{problem.tail}")
        for value in CONSTANTS
    ]
    answer = _ANSWER.format(name=problem.entry_point)
    return [
        *constants,
        Mutant("answer off by one", "its answer", f"{code}\n\n\n{answer}{problem.tail}"),
        *(
            Mutant("integer off by one", change, ast.unparse(changed) + "\n" + problem.tail)
            for changed, change in _off_by_one(tree, tree.body.index(functions[-1]), places)
        ),
    ]


# A number is one larger, a truth the other one, a container one shorter.
_ANSWER = """_ra3_right_{name} = {name}


def {name}(*arguments, **named):
    answer = _ra3_right_{name}(*arguments, **named)
    if isinstance(answer, bool) or answer is None:
        return not answer
    if isinstance(answer, (int, float, complex)):
        return answer + 1
    if isinstance(answer, dict):
        return dict(list(answer.items())[:-1]) if answer else {{0: 0}}
    if isinstance(answer, (set, frozenset)):
        return type(answer)(list(answer)[:-1]) if answer else {{0}}
    if isinstance(answer, (str, list, tuple, bytes)):
        return answer[:-1] if answer else [0]
    return None
"""


def _constant(name: str, value: Any) -> str:
    return f"def {name}(*arguments, **named):\n    return {value!r}\n"


def _off_by_one(tree: ast.Module, place: int, places: int) -> Iterator[tuple[ast.Module, str]]:
    """Integers one larger, from the function's beginning, or from the whole solution's if it has none."""
    function: Any = tree.body[place]
    found = list(_integers(function.body)) or list(_integers(tree.body))
    for number in range(min(places, len(found))):
        changed = copy.deepcopy(tree)
        function = changed.body[place]
        constant = (list(_integers(function.body)) or list(_integers(changed.body)))[number]
        before = constant.value
        constant.value += 1
        yield changed, f"line {constant.lineno}: {before + 1} for {before}"


def _integers(statements: list[ast.stmt]) -> Iterator[Any]:
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, ast.Constant) and type(node.value) is int:
                yield node


def expects_only(problem: Problem, value: Any) -> bool:
    """Whether all that a problem's tests ask for is this value; False where they are not simple calls."""
    check = problem.check
    if isinstance(check, CallTests):
        return all(_same(one, value) for one in check.expected)
    if not isinstance(check, CodeTests):
        return False
    asserts = [node for node in ast.walk(ast.parse(check.tests)) if isinstance(node, ast.Assert)]
    return bool(asserts) and all(_asks(one.test, value) for one in asserts)


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:
        return False


def _asks(test: ast.expr, value: Any) -> bool:
    """``f(...)`` and ``f(...) == True`` ask for what is true, ``not f(...)`` for what is not."""
    match test:
        case ast.Compare(ops=[ast.Eq()], comparators=[right]):
            try:
                return _same(ast.literal_eval(right), value)
            except ValueError:
                return False
        case ast.UnaryOp(op=ast.Not()):
            return not value
        case ast.Call():
            return bool(value)
        case ast.Constant():  # `assert True`, as some of HumanEval's tests begin
            return bool(test.value)
    return False
