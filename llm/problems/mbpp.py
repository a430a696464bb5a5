"""MBPP (Austin et al. 2021, arXiv 2108.07732): a sentence and three tests; 974 tasks (CC BY 4.0).

A file of JSON lines with ``task_id, text (or prompt), code, test_list, test_setup_code``, or the data set
``google-research-datasets/mbpp`` of the hub. Asked as in the paper: three tasks with their solutions first (numbers 2,
3 and 4), tests shown, the code between [BEGIN] and [DONE]. Models are measured on the tasks 11 to 510.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from llm.problems.files import Malformed, Wrong, collect, field, python, records, text, texts
from llm.problems.problem import WHOLE, Problem
from llm.sandbox import CodeTests

EXAMPLES = (2, 3, 4)
TEST = range(11, 511)
_ASK = (
    "You are an expert Python programmer, and here is your task: {task} Your code should pass these tests:\n\n{tests}\n"
)


def load(where: str, benchmark: str, examples: bool) -> tuple[list[Problem], list[Malformed]]:
    """All tasks ("mbpp"), or those that models are measured on ("mbpp-test").

    Args:
        examples: three solved tasks first, but for the one that is asked.

    Raises:
        FileNotFoundError, ValueError: as `llm.problems.files.read`; also if the examples are not there.
    """
    found = list(records(where, "train+test+validation+prompt", benchmark))
    by_number = {one.get("task_id"): one for _, one in found if isinstance(one, Mapping)}
    if examples and (missing := [str(one) for one in EXAMPLES if one not in by_number]):
        raise ValueError(
            f"examples: {where} lacks the tasks {', '.join(missing)}, which stand solved in the prompt; give the whole "
            "file, or ask without examples"
        )

    def make(record: Mapping[str, Any]) -> Problem:
        shown = [by_number[one] for one in EXAMPLES if one != number(record)] if examples else []
        return problem(record, shown)

    if benchmark == "mbpp-test":
        found = [(place, one) for place, one in found if not isinstance(one, Mapping) or one.get("task_id") in TEST]
    return collect(found, make, where, benchmark)


def problem(record: Mapping[str, Any], examples: Sequence[Mapping[str, Any]] = ()) -> Problem:
    """A task, asked after these other tasks with their solutions."""
    code, tests = text(record, "code"), texts(record, "test_list")
    if not tests:
        raise Wrong("it has no tests")
    setup = text(record, "test_setup_code", default="") or "\n".join(texts(record, "test_imports", ()))
    python(code, "code"), python("\n".join(tests), "test_list"), python(setup, "test_setup_code")
    check, tail, entry_point = _check(code, tests, setup)
    return Problem(
        name=f"MBPP/{number(record)}", benchmark="mbpp", rule=WHOLE, stop=("[DONE]",), tail=tail,
        prompt="".join(f"{_asked(one)}{_plain(one['code'])}\n[DONE]\n\n" for one in examples) + _asked(record),
        entry_point=entry_point, reference=code, check=check,
        settings={
            "prompt": "as in Austin et al. 2021, with all tests shown",
            "examples": [number(one) for one in examples],
            "source": "Austin et al. 2021",
        },
    )  # fmt: skip


def number(record: Mapping[str, Any]) -> int:
    return field(record, int, "task_id")


def _asked(record: Mapping[str, Any]) -> str:
    tests = "\n".join(one.strip() for one in texts(record, "test_list"))
    return _ASK.format(task=text(record, "text", "prompt").strip(), tests=tests) + "[BEGIN]\n"


def _plain(code: str) -> str:
    return code.replace("\r\n", "\n").strip()


# Where the tests call the program with objects that are no plain data (of its own classes, or types), the calls are
# made in the program's process, and the judge compares the answer.
_CASES = """

{setup}


def ra3_case(number):
    return [{cases}][number]()
"""


def _check(code: str, tests: Sequence[str], setup: str) -> tuple[CodeTests, str, str]:
    """The check, what the program needs for it at its end, and the function that is asked for.

    Raises:
        Wrong: the tests call nothing that the code defines, or can't be taken apart where they must be.
    """
    tree = ast.parse(code)
    imports = "\n".join(ast.unparse(one) for one in tree.body if isinstance(one, (ast.Import, ast.ImportFrom)))
    functions = {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}
    used = _names("\n".join([setup, *tests]))
    entry_points = tuple(sorted(functions & used - _stored(setup)))
    if not entry_points:
        raise Wrong("its tests call no function that 'code' defines")
    classes = {one.name for one in tree.body if isinstance(one, ast.ClassDef)}
    if not used & classes and not any(_passes_names(test) for test in tests):
        # In the published evaluation the tests share a namespace with the program, and so its imports.
        return CodeTests(entry_points, "\n".join(tests) + "\n", f"{imports}\n{setup}\n"), "", entry_points[-1]
    cases, asserts = [], []
    for count, test in enumerate(tests):
        (statement,) = ast.parse(test.strip()).body
        match statement:
            case ast.Assert(test=ast.Compare(left=answer, ops=[ast.Eq()], comparators=[right])):
                cases.append(f"lambda: {ast.unparse(answer)}")
                asserts.append(f"assert ra3_case({count}) == {ast.unparse(right)}\n")
            case _:
                raise Wrong(f"test {count} uses objects of the program's own, and is not of the form `... == value`")
    tail = _CASES.format(setup=setup, cases=", ".join(cases))
    return CodeTests(("ra3_case",), "".join(asserts)), tail, entry_points[-1]


def _passes_names(test: str) -> bool:
    """Whether what is compared calls something with a name, rather than with values."""
    statement: Any
    (statement,) = ast.parse(test.strip()).body
    left = statement.test.left if isinstance(getattr(statement, "test", None), ast.Compare) else statement
    calls = [node for node in ast.walk(left) if isinstance(node, ast.Call)]
    passed = [one for call in calls for one in [*call.args, *(word.value for word in call.keywords)]]
    return any(isinstance(one, ast.Name) for one in passed)


def _names(code: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}


def _stored(code: str) -> set[str]:
    return {
        node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
