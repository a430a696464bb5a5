"""Problems whose programs read and write, or implement a method: LiveCodeBench, Codeforces, AReaL.

Formats: LiveCodeBench's records (Jain et al. 2024, arXiv 2403.07974; data set ``livecodebench/code_generation_lite``),
the same problems as SandboxFusion keeps them (``content, test, labels``), the data set ``open-r1/codeforces``
(``title, description, input_format, output_format, examples, official_tests, time_limit``), and AReaL's code data, such
as ``inclusionAI/AReaL-boba-2-RL-Code`` (``task, query_id, prompt, input_output``).
"""

from __future__ import annotations

import base64
import json
import pickletools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llm.problems.files import Wrong, field, text
from llm.problems.own import cases, number
from llm.problems.problem import FENCED, Problem
from llm.sandbox import CallTests, StdioTests

# Tests of one problem, unpacked.
MAX_TESTS = 2**29

# LiveCodeBench gives these to every program: names that contest code uses without importing them.
_MODULES = (
    "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics", "itertools",
    "functools", "operator", "io", "sys", "json", "typing",
)  # fmt: skip
_STARS = [f"from {one} import *\n" for one in _MODULES] + [f"import {one}\n" for one in _MODULES[:-1]]
HEAD = "".join(_STARS) + "from builtins import *\nsys.setrecursionlimit(50000)\n\n"

# Calls a function or a method, and makes a tuple a list: answers are JSON, which has no tuples.
_ANSWER = """

def ra3_answer(*arguments):
    found = {function}(*arguments)
    return list(found) if isinstance(found, tuple) else found
"""

_FORMAT = (
    "### Format: Read the input from stdin and write the answer to stdout. Put the program between these lines.\n"
    "```python\n# YOUR CODE HERE\n```\n\n### Answer:\n\n"
)
_STARTER = "### Format: Complete this code, between these lines.\n```python\n{starter}\n```\n\n### Answer:\n\n"
# Of a test, as LiveCodeBench has it; of all tests of a method together at most.
LCB_SECONDS, MAX_SECONDS = 6.0, 60.0


def livecodebench(record: Mapping[str, Any]) -> Problem:
    """A record of LiveCodeBench's own format, or of SandboxFusion's."""
    return _fusion(record) if "content" in record else _official(record)


def _official(record: Mapping[str, Any]) -> Problem:
    starter = text(record, "starter_code", default="")
    metadata = _json(text(record, "metadata", default="{}"), dict, "metadata")
    tests = _inputs(_json(text(record, "public_test_cases", default="[]"), list, "public_test_cases"))
    tests += _inputs(private_tests(text(record, "private_test_cases", default="[]")))
    asked = _STARTER.format(starter=starter) if starter.strip() else _FORMAT
    return _problem(
        text(record, "question_id"), "livecodebench", f"### Question:\n{text(record, 'question_content')}\n\n{asked}",
        tests, metadata.get("func_name"), starter, LCB_SECONDS, "LiveCodeBench, without examples; format in our words",
    )  # fmt: skip


def _fusion(record: Mapping[str, Any]) -> Problem:
    labels = _json(text(record, "labels", default="{}"), dict, "labels")
    packed = field(record, object, "test")
    found = unpacked(packed) if isinstance(packed, str) else packed
    if isinstance(found, Mapping):
        found = found.get("input_output", found)
    tests = _json(found, dict, "test") if isinstance(found, str) else found
    if not isinstance(tests, Mapping):
        raise Wrong("'test' holds no inputs and outputs")
    content = text(record, "content")
    # Its canonical_solution is a placeholder that exits.
    name = str(labels.get("task_id") or field(record, object, "id"))
    return _problem(
        name, "livecodebench", content, _pairs(tests), tests.get("fn_name"), content, LCB_SECONDS,
        "LiveCodeBench, prompt as SandboxFusion has it",
    )  # fmt: skip


def areal(record: Mapping[str, Any]) -> Problem:
    """A record of AReaL's code data: a prompt as it is to be read, and texts for stdin or a function."""
    if record.get("task") != "code":
        raise Wrong(f"its 'task' must be 'code', got {record.get('task')!r}")
    tests = _json(text(record, "input_output"), dict, "input_output")
    prompt = text(record, "prompt")
    found = _problem(
        str(field(record, object, "query_id")), "areal", prompt, _pairs(tests), tests.get("fn_name"), prompt,
        LCB_SECONDS, "AReaL's code data, prompt as it is there",
    )  # fmt: skip
    # Answers that reason have headings.
    return replace(found, stop=())


def codeforces(record: Mapping[str, Any]) -> Problem:
    if record.get("input_mode") not in (None, "stdio"):
        raise Wrong(f"it reads {record['input_mode']!r}, and only stdin and stdout can be judged")
    if record.get("interaction_format"):
        raise Wrong("it is interactive, which can't be judged here")
    if record.get("generated_checker"):
        raise Wrong("several outputs are right, and its checker is a program that isn't run here")
    examples = _inputs(field(record, list, "examples", default=[]))
    official = _inputs(field(record, list, "official_tests", default=[]))
    shown = "".join(f"Input:\n{one.rstrip()}\nOutput:\n{other.rstrip()}\n\n" for one, other in examples)
    parts = {"Input": text(record, "input_format", default=""), "Output": text(record, "output_format", default="")}
    question = "\n\n".join(
        [text(record, "title", default=""), text(record, "description")]
        + [f"{name}\n{part}" for name, part in parts.items() if part]
        + [f"Examples\n{shown.rstrip()}" if shown else ""]
        + [f"Note\n{note}" if (note := text(record, "note", default="")) else ""]
    )
    limit = number(record, "time_limit", None)
    # Limits are for compiled languages.
    seconds = None if limit is None else max(LCB_SECONDS, 5.0 * limit)
    return _problem(
        text(record, "id"), "codeforces", f"### Question:\n{question.strip()}\n\n{_FORMAT}", official or examples, None,
        "", seconds, "open-r1/codeforces, format in our words",
    )  # fmt: skip


def _problem(
    name: str, benchmark: str, prompt: str, tests: Sequence[tuple[str, str]], function: str | None, starter: str,
    seconds: float | None, source: str,
) -> Problem:  # fmt: skip
    if not tests:
        raise Wrong("it has no tests")
    check: Any
    if function:
        if not function.isidentifier():
            raise Wrong(f"the function's name must be a name, got {function!r}")
        called = f"Solution().{function}" if "class Solution" in starter else function
        calls = tuple(tuple(_json(line, object, "input") for line in one.split("\n")) for one, _ in tests)
        expected = tuple(_json(other, object, "output") for _, other in tests)
        check, tail = CallTests("ra3_answer", calls, expected), _ANSWER.format(function=called)
        # The limit is for a test, and the sandbox's for all calls.
        seconds = None if seconds is None else min(len(calls) * seconds, MAX_SECONDS)
    else:
        # LiveCodeBench compares numbers by value: 1.0 is 1.
        check, tail = StdioTests(tuple(tests), tolerance=0.0 if benchmark == "livecodebench" else None), ""
    return Problem(
        name=name, benchmark=benchmark, prompt=prompt, check=check, rule=FENCED, head=HEAD, tail=tail, stop=("###",),
        seconds=seconds, settings={"prompt": source, "examples": 0, "source": source.partition(",")[0]},
    )  # fmt: skip


def _inputs(found: list[Any]) -> list[tuple[str, str]]:
    return list(cases(found))


def _pairs(tests: Mapping[str, Any]) -> list[tuple[str, str]]:
    inputs, outputs = (field(tests, list, name) for name in ("inputs", "outputs"))
    if len(inputs) != len(outputs) or not all(isinstance(one, str) for one in [*inputs, *outputs]):
        raise Wrong(f"'inputs' and 'outputs' must be as many texts each, got {len(inputs)} and {len(outputs)}")
    return list(zip(inputs, outputs, strict=True))


def _json(value: str, kind: type, name: str) -> Any:
    try:
        found = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise Wrong(f"{name!r} is not JSON ({error})") from None
    if not isinstance(found, kind):
        raise Wrong(f"{name!r} must hold a {kind.__name__}, not a {type(found).__name__}")
    return found


def private_tests(value: str) -> list[Any]:
    """LiveCodeBench's ``private_test_cases``: a JSON list, or that list pickled, packed by zlib and in base64."""
    try:
        found = json.loads(value)
    except ValueError:
        found = unpacked(value)
        found = _json(found, list, "private_test_cases") if isinstance(found, str) else found
    if not isinstance(found, list):
        raise Wrong(f"'private_test_cases' must hold a list, not a {type(found).__name__}")
    return found


_TEXTS = frozenset({"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"})
_NOTHING = frozenset({"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"})


def plain_pickle(content: bytes) -> Any:
    """A pickle of one text, or of a dict of texts, read without the pickle machine, which runs what it reads.

    Raises:
        ValueError: it holds anything else.
    """
    stack: list[Any] = []
    for code, argument, _ in pickletools.genops(content):
        if code.name in _TEXTS:
            stack.append(argument)
        elif code.name == "EMPTY_DICT" and not stack:
            stack.append({})
        elif code.name == "SETITEM" and len(stack) == 3 and isinstance(stack[0], dict):
            stack[0][stack[1]] = stack[2]
            del stack[1:]
        elif code.name == "STOP" and len(stack) == 1:
            return stack[0]
        elif code.name not in _NOTHING:
            raise ValueError(f"it is more than text: {code.name}")
    raise ValueError("it has no end")


def unpacked(value: str, limit: int = MAX_TESTS) -> Any:
    """What base64 of zlib of a pickle holds (`plain_pickle`), if that is no more than ``limit`` bytes.

    Raises:
        Wrong: it is not.
    """
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(base64.b64decode(value, validate=True), limit)
        if unpacker.unconsumed_tail:
            raise ValueError(f"more than {limit:,} bytes")
        if not unpacker.eof:
            raise ValueError("cut off")
        return plain_pickle(content)
    except (ValueError, zlib.error) as error:
        raise Wrong(f"its packed tests can't be read ({str(error)[:200]})") from None
