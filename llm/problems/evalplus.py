"""HumanEval+ and MBPP+ (Liu et al. 2023, arXiv 2305.01210): many more inputs; what is right, the reference says.

Files of JSON lines as EvalPlus publishes them (HumanEvalPlus v0.1.10, MbppPlus v0.2.0), or the data sets
``evalplus/humanevalplus`` and ``evalplus/mbppplus`` of the hub where they have the same fields: ``task_id, prompt,
entry_point, canonical_solution, base_input, plus_input, atol``. Stop sequences, conversions of inputs and special
oracles are facts about EvalPlus 0.3.1 (Apache-2.0): ``evalplus/provider/utility.py, data/mbpp.py, eval/__init__.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from llm.problems.expected import Reference
from llm.problems.files import Wrong, field, text
from llm.problems.own import number
from llm.problems.problem import Problem

_COMMON = ("\nif __name__", "\ndef main(", "\nprint(")
STOP = {
    "humaneval+": (*_COMMON, "\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert "),
    "mbpp+": (*_COMMON, '\n"""', "\nassert"),
}
_PROMPTS = {
    "humaneval+": "signature and docstring, without white space around them, and a newline",
    "mbpp+": "docstring with the task and one test, without white space around it, and a newline",
}

# Whose answers are judged otherwise than by equality or closeness, by entry point.
ORACLES = {
    "humaneval+": {"find_zero": "zero of a polynomial"},
    "mbpp+": {
        "are_equivalent": "any answer", "sum_div": "or zero", "surface_Area": "or with the height of the pyramid",
        "digit_distance_nums": "or padded with zeros",
        **dict.fromkeys(
            ("similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum",
             "intersection_array", "find_dissimilar", "Diff"), "as sets",
        ),
    },
}  # fmt: skip
# Their answers are matches of regular expressions, of which only counts whether there is one.
_MATCHES = ("check_str", "text_match_three", "text_starta_endb")
_MATCH_OR_NOT = """

_ra3_{name} = {name}


def {name}(*arguments):
    found = _ra3_{name}(*arguments)
    return found if isinstance(found, bool) else found is not None
"""


def problem(record: Mapping[str, Any], benchmark: str) -> Problem:
    """One of "humaneval+" or "mbpp+"."""
    name, prompt = text(record, "task_id"), text(record, "prompt").strip() + "\n"
    entry_point = text(record, "entry_point")
    if not entry_point.isidentifier():
        raise Wrong(f"'entry_point' must be a name, got {entry_point!r}")
    # Where there are no more, the published file has an empty object.
    inputs = [one for part in ("base_input", "plus_input") for one in record.get(part) or field(record, object, part)]
    if not inputs:
        raise Wrong("it has no inputs")
    if not all(isinstance(one, list) for one in inputs):
        raise Wrong("an input must be a list of arguments")
    convert = _conversion(name, benchmark)
    try:
        calls = tuple(tuple(convert(one)) for one in inputs)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise Wrong(f"its inputs are not those of {name} ({error})") from None
    return Problem(
        name=name, benchmark=benchmark, prompt=prompt, head=prompt, stop=STOP[benchmark], entry_point=entry_point,
        tail=_MATCH_OR_NOT.format(name=entry_point) if benchmark == "mbpp+" and entry_point in _MATCHES else "",
        reference=text(record, "canonical_solution"),
        check=Reference(entry_point, calls, number(record, "atol", 0.0), ORACLES[benchmark].get(entry_point)),
        settings={"prompt": _PROMPTS[benchmark], "examples": 0, "source": "EvalPlus 0.3.1"},
    )  # fmt: skip


def _each(inputs: list) -> list:
    return [tuple(one) for one in inputs]


def _inside(inputs: list) -> list:
    return [[tuple(item) for item in one] for one in inputs]


def _deep(value: Any) -> Any:
    return tuple(map(_deep, value)) if isinstance(value, list) else value


# What JSON has no types for, by the number of the task: which lists are tuples, sets or complex numbers.
_CONVERSIONS: dict[Callable[[list], Any], tuple[int, ...]] = {
    _each: (
        2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726, 740, 744, 809,
    ),
    _inside: (63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780),
    lambda one: [[tuple(item) for item in one[0]], one[1]]: (75, 413, 444, 753),
    lambda one: [one[0], tuple(one[1])]: (106, 750),
    lambda one: [tuple(one[0]), *one[1:]]: (250, 307, 405, 446, 617, 720, 763, 808),
    lambda one: _each(_inside(one)): (259, 401, 445),
    lambda one: [tuple(tuple(item) if isinstance(item, list) else item for item in one[0])]: (278,),
    lambda one: [[set(item) if isinstance(item, list) and item else {} for item in one[0]]]: (115,),
    lambda one: [float(one[0]), complex(one[1])]: (124,),
    lambda one: [complex(one[0])]: (252,),
    lambda one: [{key: tuple(value) for key, value in one[0].items()}, *one[1:]]: (722,),
    _deep: (580, 615, 791),
}  # fmt: skip
_BY_NUMBER = {number: convert for convert, numbers in _CONVERSIONS.items() for number in numbers}


def _conversion(name: str, benchmark: str) -> Callable[[list], Any]:
    task = name.rpartition("/")[2]
    return _BY_NUMBER.get(int(task), tuple) if benchmark == "mbpp+" and task.isdecimal() else tuple


humaneval, mbpp = partial(problem, benchmark="humaneval+"), partial(problem, benchmark="mbpp+")
