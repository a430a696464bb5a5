"""Reference solutions: run once, kept, and asked before any model is; oracles, limits of time, mutants."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import problem_samples as samples
import pytest
from problem_samples import write

from experiments import cli, references
from llm.problems import Judge, load
from llm.problems.expected import FLOOR, Reference, prepare
from llm.problems.mutants import CONSTANTS, expects_only, mutants
from llm.problems.oracles import RULES, check
from llm.problems.problem import Problem
from llm.runs import RunStopped
from llm.sandbox import CallTests, CodeTests, Limits, Sandbox, Verdict


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(1, Limits(seconds=10.0), "process") as sandbox:
        yield sandbox


class Counting:
    """A sandbox that counts what it is asked."""

    def __init__(self, sandbox, verdict=None):
        self.sandbox, self.verdict, self.programs, self.answers = sandbox, verdict, 0, 0

    def run(self, *arguments):
        self.programs += 1
        return self.verdict or self.sandbox.run(*arguments)

    def results(self, *arguments):
        self.answers += 1
        return self.sandbox.results(*arguments)


def plus(**changes):
    base = {"entry_point": "f", "calls": ((1,), (2.5,)), "atol": 0.0, "oracle": None}
    reference = changes.pop("reference", "def f(x):\n    return {x}, 2 * x\n")
    one = Problem("p", "jsonl", "", Reference(**(base | changes)), rule="is the program", reference=reference)
    return one


def test_what_the_reference_returns_is_what_is_right(sandbox, tmp_path):
    ready = prepare([plus()], lambda: sandbox, cache=tmp_path)
    (one,) = ready.problems
    assert one.check == CallTests("f", ((1,), (2.5,)), (({1}, 2), ({2.5}, 5.0)))
    assert one.seconds == FLOOR
    assert sandbox.run("def f(x):\n    return set([x]), x + x\n", one.check).passed
    wrong = sandbox.run("def f(x):\n    return [x], x + x\n", one.check)
    assert wrong.outcome == "failed" and wrong.test == 0


def test_it_is_run_once_on_a_machine(sandbox, tmp_path):
    found, _ = load(f"humaneval:{write(tmp_path / 'h.jsonl', samples.HUMANEVAL)}")
    found += [plus()]
    first, second = Counting(sandbox), Counting(sandbox)
    told = []
    ready = prepare(found, lambda: first, cache=tmp_path, jobs=1, tell=lambda *one: told.append(one))
    assert (first.programs, first.answers) == (3, 1) and told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    again = prepare(found, lambda: second, cache=tmp_path)
    assert (second.programs, second.answers) == (0, 0) and again == ready
    # Another solution, or other inputs, are run.
    third = Counting(sandbox)
    others = [plus(reference="def f(x):\n    return x\n"), plus(calls=((3,),)), plus(atol=0.5)]
    for one in others:
        prepare([one], lambda: third, cache=tmp_path)
    assert (third.programs, third.answers) == (3, 3)


@pytest.mark.parametrize("spoil", [lambda path: path.write_text("{"), lambda path: path.write_bytes(b"\xff\xfe")])
def test_a_damaged_entry_is_made_again(spoil, sandbox, tmp_path):
    ready = prepare([plus()], lambda: sandbox, cache=tmp_path)
    (path,) = (tmp_path / "references").iterdir()
    spoil(path)
    counting = Counting(sandbox)
    again = prepare([plus()], lambda: counting, cache=tmp_path)
    assert counting.answers == 1 and [one.check for one in again.problems] == [one.check for one in ready.problems]
    assert [one.name for one in (tmp_path / "references").iterdir()] == [path.name]


def test_tests_that_fail_on_their_own_reference_are_reported(sandbox, tmp_path):
    wrong = samples.OWN[0] | {"name": "wrong", "reference": "    return a - b\n"}
    raises = samples.OWN[0] | {"name": "raises", "reference": "    raise OSError\n"}
    path = write(tmp_path / "own.jsonl", [*samples.OWN, wrong, raises])
    found, malformed = load(f"jsonl:{path}")
    assert not malformed
    odd = [
        plus(reference="def f(x):\n    return object()\n"),
        plus(reference="import random\nrandom.seed()\n\ndef f(x):\n    return random.random()\n"),
        plus(reference="import os\n\ndef f(x):\n    return os.getpid()\n"),
    ]
    for place, one in enumerate(odd):
        odd[place] = dataclasses.replace(one, name=f"odd {place}")
    ready = prepare(found + odd, lambda: sandbox, cache=tmp_path)
    assert [one.name for one in ready.problems] == ["add", "pair", "echo"]
    told = {one.name: str(one) for one in ready.broken}
    assert set(told) == {"wrong", "raises", "odd 0", "odd 1", "odd 2"}
    assert "wrong: its reference solution failed (assert add(1, 2) == 3" in told["wrong"]
    assert "gives no answers" in told["odd 0"] and "object" in told["odd 0"]
    # What failed is tried again, for the machine may have been at fault.
    counting = Counting(sandbox)
    prepare(found + odd, lambda: counting, cache=tmp_path)
    assert counting.programs + counting.answers >= 5


def test_the_failures_of_the_sandbox_are_nobody_elses(sandbox, tmp_path):
    found, _ = load(f"humaneval:{write(tmp_path / 'h.jsonl', samples.HUMANEVAL)}")
    failing = Counting(sandbox, Verdict("sandbox error", "the judge died"))
    with pytest.raises(RunStopped, match=r"^HumanEval/0: the sandbox could not run its reference solution"):
        prepare(found, lambda: failing, cache=tmp_path, jobs=1)
    assert not list(tmp_path.glob("references/*"))


def test_limits_of_time_are_four_times_what_the_reference_takes(sandbox, tmp_path):
    found, _ = load(f"humaneval:{write(tmp_path / 'h.jsonl', samples.HUMANEVAL[:1])}")
    slow = Counting(sandbox, Verdict("passed", seconds=3.0, cpu_seconds=2.0))
    (one,) = prepare(found, lambda: slow, cache=tmp_path).problems
    assert one.seconds == 8.0
    (kept,) = prepare(found, lambda: None, cache=tmp_path).problems
    assert kept.seconds == 8.0
    with Judge(1, "process", cache=tmp_path) as judge:
        limits = judge.limits_of(one)
        assert (limits.seconds, limits.cpu_seconds, limits.memory) == (16.0, 8.0, judge.limits.memory)
        assert judge.limits_of(dataclasses.replace(one, seconds=None)).seconds == FLOOR


def test_a_program_that_is_slow_beside_others_runs_once_more_alone(tmp_path, monkeypatch):
    one = plus()
    other = dataclasses.replace(one, name="q")
    with Judge(2, "process", cache=tmp_path) as judge:
        asked = []

        def run(self, program, check, limits=None):
            asked.append(program)
            return Verdict("timed out" if asked.count(program) == 1 and program == "slow" else "passed")

        monkeypatch.setattr(Sandbox, "run", run)
        found = judge.verdicts([(one, "slow"), (one, "quick"), (one, "quick"), (other, "quick")])
        assert [verdict.outcome for verdict in found] == ["passed"] * 4
        assert sorted(asked) == ["quick", "quick", "slow", "slow"] and asked[-1] == "slow"
        asked.clear()
        assert judge.verdicts([(one, "slow")], again=False)[0].outcome == "timed out"


# Oracles: (arguments, the reference's answer, answers that are right, answers that are not)
ORACLES = {
    "any answer": [((36, 57), False, [True, 7, None], [])],
    "or zero": [((8,), 7, [7, 0], [1, -7])],
    "or with the height of the pyramid": [((3, 4), 33, [33, 35], [34])],
    "or padded with zeros": [((123, 256), 7, [7], [8]), ((10, 9), 1, [1, 10], [9])],
    "as sets": [(((1, 2), (2, 1)), (1, 2), [(2, 1), [1, 2, 2], {1, 2}], [(1,), (1, 3)])],
    "zero of a polynomial": [(([6, 2],), -3.0, [-3.0, -3.00001], [3.0, -2.9])],
}


@pytest.mark.parametrize("rule", ORACLES)
def test_two_readings_of_a_task_may_be_right(rule, sandbox):
    for arguments, expected, right, wrong in ORACLES[rule]:
        made = check("f", [arguments], [expected], 1e-4 if "zero of" in rule else 0.0, rule)
        for answers, passes in ((right, True), (wrong, False)):
            for answer in answers:
                verdict = sandbox.run(f"def f(*arguments):\n    return {answer!r}\n", made)
                assert verdict.passed == passes, (answer, verdict)
        if rule != "any answer":
            assert not sandbox.run("def f(*arguments):\n    return 'text'\n", made).passed
        assert not sandbox.run("def f(*arguments):\n    raise ValueError\n", made).passed


def test_every_oracle_is_tried():
    assert set(ORACLES) == RULES
    with pytest.raises(ValueError, match=r"^oracle: there is none named 'magic'"):
        check("f", [()], [1], 0.0, "magic")


def test_whether_there_is_a_match_is_what_counts(sandbox, tmp_path):
    path = write(tmp_path / "m.jsonl", [samples.MBPP_PLUS[1]])
    (one,), _ = load(f"mbpp+:{path}")
    (one,) = prepare([one], lambda: sandbox, cache=tmp_path).problems
    assert one.check.expected == (True, False)
    for code, passes in (
        ("def check_str(s):\n    return s[0] in 'aeiou'\n", True),
        ("import re\ndef check_str(s):\n    return re.search('^[aeiou]', s)\n", True),
        ("def check_str(s):\n    return 'yes' if s[0] == 'a' else None\n", True),
        ("def check_str(s):\n    return 'yes' if s[0] == 'a' else ''\n", False),
        ("def check_str(s):\n    return True\n", False),
    ):
        assert sandbox.run(one.program(code), one.check).passed == passes, code


# Mutants


def test_mutants_fail(sandbox, tmp_path):
    records = [*samples.HUMANEVAL, *samples.MBPP[:2], samples.MBPP_ODD[1]]
    found = load(f"humaneval:{write(tmp_path / 'h.jsonl', records[:2])}")[0]
    found += load(f"mbpp:{write(tmp_path / 'm.jsonl', records[2:])}", examples=False)[0]
    for one in found:
        made = mutants(one)
        kinds = [mutant.kind for mutant in made]
        assert kinds.count("constant") == len(CONSTANTS) and kinds.count("answer off by one") == 1
        assert kinds.count("integer off by one") >= 1
        for mutant in made:
            assert not sandbox.run(mutant.program, one.check, Limits(seconds=5)).passed, (one.name, mutant)


def test_an_answer_off_by_one_is_another_answer(sandbox):
    answers = [0, -1.5, True, False, None, "", "ab", [], [1], (1, 2), {}, {1: 2}, set(), {3}, 2j, b"x"]
    one = Problem(
        "p", "jsonl", "", CodeTests(("f",), "assert f(0) == 0"), rule="is the program", entry_point="f",
        reference=f"def f(k):\n    return {answers!r}[k]\n",
    )  # fmt: skip
    (mutant,) = [mutant for mutant in mutants(one) if mutant.kind == "answer off by one"]
    found = sandbox.results(mutant.program, "f", [(k,) for k in range(len(answers))])
    assert all(other != answer for other, answer in zip(found, answers, strict=True))


def test_a_constant_that_all_tests_expect_is_right():
    def of(tests):
        return Problem("p", "jsonl", "", CodeTests(("f",), tests), rule="is the program")

    assert expects_only(of("assert f(1) == True\nassert f(2)\n"), True)
    assert not expects_only(of("assert f(1) == True\nassert f(2) == False\n"), True)
    assert expects_only(of("assert not f(1)\nassert f(2) == False\n"), False)
    assert expects_only(of("assert f(1) == []\n"), []) and not expects_only(of("assert f(1) == []\n"), "")
    assert not expects_only(of("for x in (1, 2):\n    assert f(x) == g(x)\n"), True)
    calls = Problem("p", "jsonl", "", CallTests("f", ((1,), (2,)), (0, 0)), rule="is the program")
    assert expects_only(calls, 0) and not expects_only(calls, 1)


def test_what_has_no_function_has_no_mutants():
    assert mutants(load("lineworld:1")[0][0]) == []
    assert mutants(Problem("p", "jsonl", "", None, rule="is the program", reference="x = 1", entry_point="f")) == []


# The command


def arguments(tmp_path, *names):
    return [
        "references",
        *names,
        "--out",
        str(tmp_path / "out"),
        "--runs",
        str(tmp_path / "runs"),
        "--isolation",
        "process",
    ]


def test_the_tables_name_every_exception(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RA3SIM_CACHE", str(tmp_path / "cache"))
    always = samples.OWN[0] | {"name": "always", "tests": "assert add(1, 2)\nassert add(2, 2) == True\n"}
    always["reference"] = "    unused = 3\n    return a > 0\n"
    wrong = samples.OWN[0] | {"name": "wrong", "reference": "    return a - b\n"}
    none = {name: value for name, value in samples.OWN[0].items() if name != "reference"} | {"name": "none"}
    path = write(tmp_path / "own.jsonl", [*samples.OWN, always, wrong, none, "{\n"])
    assert cli.main(arguments(tmp_path, f"jsonl:{path}")) == 0
    assert "jsonl: 4 of 6 reference solutions pass" in capsys.readouterr().out
    rows = (tmp_path / "out" / "problems-exceptions.md").read_text()
    assert "| jsonl | wrong | failed | assert add(1, 2) == 3" in rows and "| jsonl | none | is not there |" in rows
    assert "| jsonl | own.jsonl:7 | is malformed | not JSON" in rows and str(tmp_path) not in rows
    passing = (tmp_path / "out" / "problems-mutants.md").read_text()
    assert "| jsonl | always | constant | returns True | all tests expect it |" in passing
    assert f"| {references.UNTOLD} |" in passing
    table = (tmp_path / "out" / "problems-references.md").read_text().splitlines()
    assert table[0].startswith("| benchmark | problems |") and table[2].startswith("| jsonl | 6 | 1 | 4 | 21 |")
    # What was found is kept.
    monkeypatch.setattr(references, "_verdicts", None)
    assert cli.main(arguments(tmp_path, f"jsonl:{path}")) == 0


def test_what_can_not_be_checked_is_one_line(tmp_path, capsys):
    assert cli.main(arguments(tmp_path, "mbpp:absent.jsonl")) == 2
    assert "ra3: error: problems: no file absent.jsonl" in capsys.readouterr().err
    assert cli.main(arguments(tmp_path)) == 2


@pytest.mark.slow
def test_all_of_humaneval_passes_and_its_mutants_fail(tmp_path, monkeypatch):
    """At full isolation: 164 solutions pass; no constant and no answer that is off by one does."""
    monkeypatch.setenv("RA3SIM_CACHE", str(tmp_path / "cache"))
    found, _ = load("humaneval")
    with Judge() as judge:
        ready = judge.prepare(found)
        assert not ready.broken and len(ready.problems) == 164
        some = [(one, mutant) for one in ready.problems for mutant in mutants(one)[: len(CONSTANTS) + 1 : 3]]
        verdicts = judge.verdicts([(one, mutant.program) for one, mutant in some], again=False)
        assert len(some) == 492 and not [one for one, verdict in zip(some, verdicts, strict=True) if verdict.passed]


def test_the_digest_of_problems_is_that_of_another_process(tmp_path):
    """Sets of texts are spelled in another order there."""
    code = (
        "import runpy; digest = runpy.run_path('llm/problems/problem.py')['digest']; "
        "print(digest([{chr(k) for k in range(97, 120)}, frozenset({'x', 'y'})]))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, cwd=Path(__file__).parents[1],
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1
