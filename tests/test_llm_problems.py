"""Benchmarks become problems whose own solutions pass; what is no problem is named, and the rest goes on."""

import base64
import json
import pickle
import random
import zlib

import problem_samples as samples
import pytest
from problem_samples import write

from llm import problems
from llm.problems import BENCHMARKS, Judge, load
from llm.problems.expected import Reference
from llm.problems.files import Wrong
from llm.problems.mbpp import TEST
from llm.problems.problem import CONTINUES, FENCED, WHOLE, Problem, digest, fenced, sanitised
from llm.problems.stdio import plain_pickle, private_tests, unpacked
from llm.sandbox import CallTests, CodeTests, StdioTests

RECORDS = {
    "humaneval": samples.HUMANEVAL, "humaneval+": samples.HUMANEVAL_PLUS, "mbpp+": samples.MBPP_PLUS,
    "mbpp": samples.MBPP + samples.MBPP_ODD, "codeforces": [samples.CODEFORCES], "jsonl": samples.OWN,
    "livecodebench": [samples.official(), samples.method(), samples.fusion(), samples.fusion("firstItems")],
}  # fmt: skip


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    with Judge(2, isolation="process", cache=tmp_path_factory.mktemp("cache")) as judge:
        yield judge


@pytest.fixture
def made(tmp_path):
    def made(benchmark, records=None, name="problems.jsonl", **options):
        path = write(tmp_path / name, RECORDS[benchmark.removesuffix("-test")] if records is None else records)
        return load(f"{benchmark}:{path}", **options)

    return made


@pytest.mark.parametrize("benchmark", RECORDS)
@pytest.mark.parametrize("name", ["problems.jsonl", "problems.jsonl.gz"])
def test_every_format_is_read(benchmark, name, made):
    found, malformed = made(benchmark, name=name)
    assert not malformed and len(found) == len(RECORDS[benchmark])
    assert len({one.name for one in found}) == len(found)
    for one in found:
        assert one.benchmark == benchmark and one.prompt and one.about()["source"]
        json.dumps(one.about())


@pytest.mark.parametrize("benchmark", ["humaneval", "humaneval+", "mbpp", "mbpp+", "jsonl"])
def test_reference_solutions_pass_and_others_do_not(benchmark, made, judge):
    found, _ = made(benchmark)
    ready = judge.prepare(found)
    assert not ready.broken and [one.name for one in ready.problems] == [one.name for one in found]
    right = [(one, one.reference_program) for one in ready.problems]
    assert [verdict.outcome for verdict in judge.verdicts(right)] == ["passed"] * len(found)
    wrong = [(one, one.head + "    pass\n" + one.tail) for one in ready.problems if one.name != "Mbpp/164"]
    assert not any(verdict.passed for verdict in judge.verdicts(wrong))


SOLUTIONS = {
    "abc000_a": "n = input()\nprint(sum(map(int, input().split())))\n",
    "atcoder/abc000_a": "print(sum(map(int, sys.stdin.read().split()[1:])))\n",
    "2727": "class Solution:\n    def firstItems(self, xs: List[int], n: int):\n        return tuple(xs[:n])\n",
    "leetcode/1": "class Solution:\n    def firstItems(self, xs, n):\n        return xs[:n]\n",
    "1/A": "n, m, a = map(int, input().split())\nprint(-(-n // a) * -(-m // a))\n",
}


@pytest.mark.parametrize("benchmark", ["livecodebench", "codeforces"])
def test_contest_problems_are_judged(benchmark, made, judge):
    """Without imports, as contest code is; with talk and fences around it; a tuple for a list is right."""
    found, _ = made(benchmark)
    talk = {one.name: f"Here it is.\n```python\n{SOLUTIONS[one.name]}```\nIt works." for one in found}
    right = judge.verdicts([(one, one.program(talk[one.name])) for one in found])
    assert [one.outcome for one in right] == ["passed"] * len(found), right
    wrong = judge.verdicts([(one, one.program("```\nprint(7)\n```")) for one in found])
    assert not any(one.passed for one in wrong)
    assert judge.prepare(found).problems == found  # no reference solutions: nothing to run


def test_a_limit_of_time_that_a_benchmark_states(made, judge):
    (one,), _ = made("codeforces")
    limits = judge.limits_of(one)
    assert (one.seconds, limits.cpu_seconds, limits.seconds) == (6.0, 6.0, 12.0)
    (slow,), _ = made("codeforces", [samples.CODEFORCES | {"time_limit": 3}])
    assert slow.seconds == 15.0


@pytest.mark.parametrize(
    "printed,passes",
    [("6", True), ("6.0", True), (" 6 \n\n", True), ("6e0", True), ("7", False), ("6 6", False), ("six", False)],
)
def test_livecodebench_compares_numbers_by_value(printed, passes, made, judge):
    (one,), _ = made("livecodebench", [samples.official(private="[]")])
    assert judge.verdicts([(one, one.program(f"print({printed!r})"))])[0].passed == passes


def test_large_integers_that_differ_are_not_the_same(made, judge):
    case = [{"input": "", "output": "50000000000000001", "testtype": "stdin"}]
    (one,), _ = made("livecodebench", [samples.official(private="[]", public_test_cases=json.dumps(case))])
    programs = [one.program(f"print({number})") for number in (50000000000000001, 50000000000000000)]
    assert [verdict.passed for verdict in judge.verdicts([(one, program) for program in programs])] == [True, False]


def test_a_method_has_the_time_of_all_its_tests(made):
    (one,), _ = made("livecodebench", [samples.method()])
    assert one.seconds == 12.0


# How models are asked


def test_humaneval_is_asked_as_published(made):
    found, _ = made("humaneval")
    record = samples.HUMANEVAL[0]
    assert found[0].prompt == record["prompt"] == found[0].head
    assert found[0].stop == ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
    text = "    return [2 * x for x in xs]\n\ndef other():\n    pass"
    assert found[0].program(text) == record["prompt"] + "    return [2 * x for x in xs]\n"
    whole, malformed = load("humaneval")
    assert (len(whole), malformed) == (164, [])
    assert load("humaneval", limit=3)[0] == whole[:3]


def test_white_space_at_the_end_of_prompts_can_be_left_out(made, judge):
    for benchmark in ("humaneval", "humaneval+", "mbpp+"):
        plain, _ = made(benchmark)
        found, _ = made(benchmark, strip=True)
        for one, other in zip(plain, found, strict=True):
            assert other.prompt == one.prompt.rstrip() == other.head and other.prompt != one.prompt
            assert other.reference_program == one.reference_program
            assert "stripped" in other.about() and other.digest() != one.digest()
        assert not judge.prepare(found).broken


def test_mbpp_is_asked_after_three_solved_tasks(made):
    found, _ = made("mbpp", samples.MBPP)
    by_name = {one.name: one for one in found}
    prompt = by_name["MBPP/11"].prompt
    ask = (
        "You are an expert Python programmer, and here is your task: Write a function to add {0} to a number. Your code"
    )
    parts = prompt.split("[BEGIN]\n")
    assert [part.count("[DONE]") for part in parts] == [0, 1, 1, 1, 0]
    for number, part in zip((2, 3, 4, 11), parts[:4], strict=True):
        assert ask.format(number) in part and f"assert add_{number}(5) == {number + 5}\n" in part
    assert parts[1].startswith("def add_2(x):\n  return x + 2\n[DONE]\n\n") and prompt.endswith("[BEGIN]\n")
    assert by_name["MBPP/11"].about()["examples"] == [2, 3, 4]
    # A task is not shown its own solution.
    assert by_name["MBPP/3"].about()["examples"] == [2, 4] and "x + 3" not in by_name["MBPP/3"].prompt
    assert by_name["MBPP/11"].program("def add_11(x): return x + 11\n[DONE]\nmore") == "def add_11(x): return x + 11\n"
    alone, _ = made("mbpp", samples.MBPP[4:], examples=False)
    assert alone[0].prompt.startswith("You are") and alone[0].prompt.count("[BEGIN]") == 1
    with pytest.raises(ValueError, match=r"^examples: .* lacks the tasks 2, 3, 4, which stand solved in the prompt"):
        made("mbpp", samples.MBPP[4:])


def test_models_are_measured_on_the_tasks_11_to_510(made):
    found, malformed = made("mbpp-test", [*samples.MBPP, "{broken\n"])
    assert [one.name for one in found] == ["MBPP/11", "MBPP/510"] and len(malformed) == 1
    assert len(TEST) == 500


def test_evalplus_is_asked_as_it_asks(made):
    (one, _), _ = made("humaneval+")
    assert one.prompt == 'def half(x: float) -> float:\n    """ Half of x. """\n'
    assert {"\nassert ", "\ndef ", "\nif __name__"} < set(one.stop)
    two = made("mbpp+")[0][0]
    assert two.prompt.startswith('"""\nShared') and two.prompt.endswith('"""\n') and '\n"""' in two.stop
    assert two.check.calls[0] == ((1, 2, 3), (3, 2)) and two.check.oracle == "as sets"


# Numbers of tasks, what JSON has, what the tests are made of: facts about MbppPlus v0.2.0.
CONVERTED = [
    (2, [[1], [2]], [(1,), (2,)]), (63, [[[1, 2]]], [[(1, 2)]]), (75, [[[1, 2]], 3], [[(1, 2)], 3]),
    (106, [[1], [2]], [[1], (2,)]), (115, [[[1, 2], []]], [[{1, 2}, {}]]), (124, ["0", "1j"], [0.0, 1j]),
    (250, [[1, 2], 3], [(1, 2), 3]), (252, [1], [1 + 0j]), (259, [[[1, 2]]], [((1, 2),)]),
    (278, [[1, [2, 3]]], [(1, (2, 3))]), (307, [[1], 2, [3]], [(1,), 2, [3]]),
    (580, [[1, [2, [3]]]], [(1, (2, (3,)))]), (722, [{"a": [1, 2]}, 3], [{"a": (1, 2)}, 3]),
    (5, [[1, [2]]], [[1, [2]]]),
]  # fmt: skip


@pytest.mark.parametrize("number,given,wanted", CONVERTED)
def test_inputs_that_json_has_no_types_for(number, given, wanted, made):
    record = samples.MBPP_PLUS[2] | {"task_id": f"Mbpp/{number}", "base_input": [given], "plus_input": []}
    (one,), _ = made("mbpp+", [record])
    assert one.check.calls == (tuple(wanted),)
    assert [type(a) for a in one.check.calls[0]] == [type(a) for a in wanted]


def test_tests_that_pass_objects_call_the_program_in_its_own_process(made):
    found = {one.name: one for one in made("mbpp")[0]}
    for name in ("MBPP/601", "MBPP/927", "MBPP/533"):
        assert found[name].check.entry_points == ("ra3_case",) and "ra3_case" in found[name].tail
        # The judge alone knows what is right.
        assert "== 4" not in found[name].tail
    assert found["MBPP/596"].check.entry_points == ("size",) and "import sys" in found["MBPP/596"].check.setup
    assert found["MBPP/126"].check.entry_points == ("sum",) and not found["MBPP/126"].tail


def test_lineworld_problems(judge):
    found, _ = load("lineworld-held-out:20", seed=3)
    again, _ = load("lineworld-held-out:20", seed=3)
    assert found == again and len({one.name for one in found}) == 20
    others, _ = load("lineworld:20", seed=3)
    assert not {one.name for one in others} & {one.name for one in found}
    ready = judge.prepare(found)
    assert not ready.broken
    assert all(one.passed for one in judge.verdicts([(one, one.program(one.reference)) for one in found]))
    lines = found[0].reference.splitlines()
    wrong = judge.verdicts([(found[0], "\n".join(lines[:-1])), (found[0], "garbage\n\0"), (found[0], "")])
    assert [one.outcome for one in wrong] == ["failed"] * 3 and "needs" in wrong[0].detail


def test_a_lineworld_needs_no_sandbox(tmp_path):
    with Judge(1, isolation="process", cache=tmp_path) as judge:
        found = judge.prepare(load("lineworld:3")[0]).problems
        assert judge.verdicts([(one, one.reference) for one in found])[0].passed
        assert judge._sandbox is None


# What is no problem


BROKEN = {
    "humaneval": [
        ({"task_id": "HumanEval/9"}, "it has no 'prompt'"),
        (samples.HUMANEVAL[0] | {"task_id": 9}, "'task_id' must be a str, not a int"),
        (samples.HUMANEVAL[0] | {"task_id": "x", "entry_point": "a.b c"}, "'entry_point' must be a name"),
        (samples.HUMANEVAL[0] | {"task_id": "x", "test": "def check(:"}, "'test' is no Python"),
        (samples.HUMANEVAL[0] | {"task_id": "x", "prompt": "a\0b"}, "'prompt' holds a NUL"),
        (samples.HUMANEVAL[0], "another problem has the name 'HumanEval/0'"),
        ("{not json}\n", "not JSON"), ("[1, 2]\n", "a record is a JSON object, this is a list"),
        ("\udcff\n", "not JSON"),
    ],
    "mbpp": [
        (samples.MBPP[0] | {"task_id": 7, "test_list": []}, "it has no tests"),
        (samples.MBPP[0] | {"task_id": "7"}, "'task_id' must be a int, not a str"),
        (samples.MBPP[0] | {"task_id": 7, "test_list": ["assert f(1) == 2"]}, "its tests call no function that 'code'"),
        (samples.MBPP[0] | {"task_id": 7, "test_list": "assert 1"}, "'test_list' must be a list"),
        (samples.MBPP_ODD[0] | {"task_id": 7, "test_list": ["assert span([Pair(1, 2)], 1)"]}, "test 0 uses objects"),
    ],
    "mbpp+": [
        (samples.MBPP_PLUS[0] | {"task_id": "x", "base_input": [], "plus_input": []}, "it has no inputs"),
        (samples.MBPP_PLUS[0] | {"task_id": "x", "base_input": [1]}, "an input must be a list of arguments"),
        (samples.MBPP_PLUS[0] | {"task_id": "x", "atol": "small"}, "'atol' must be a number"),
        (samples.MBPP_PLUS[0] | {"task_id": "Mbpp/124", "base_input": [["a", "b"]]}, "its inputs are not those of"),
    ],
    "livecodebench": [
        (samples.official(private="!!", question_id="x"), "its packed tests can't be read"),
        (samples.official(private="[]", public_test_cases="[]", question_id="x"), "it has no tests"),
        (samples.official(private='[{"input": 1}]', question_id="x"), "a test must have 'input' and 'output'"),
        (samples.official(metadata="[]", question_id="x"), "'metadata' must hold a dict"),
        (samples.method(question_id="x", metadata='{"func_name": "a b"}'), "the function's name must be a name"),
        (samples.method(question_id="x", private_test_cases='[{"input": "[", "output": "1"}]'), "'input' is not JSON"),
        (samples.fusion() | {"test": {"inputs": ["1"], "outputs": []}}, "'inputs' and 'outputs' must be as many"),
        (samples.fusion() | {"test": 3}, "'test' holds no inputs"),
    ],
    "codeforces": [
        (samples.CODEFORCES | {"id": "x", "interaction_format": "talk"}, "it is interactive"),
        (samples.CODEFORCES | {"id": "x", "generated_checker": "print(1)"}, "several outputs are right"),
        (samples.CODEFORCES | {"id": "x", "input_mode": "file"}, "it reads 'file'"),
        (samples.CODEFORCES | {"id": "x", "time_limit": "1 second"}, "'time_limit' must be a number"),
    ],
    "jsonl": [
        ({"name": "x", "prompt": "p"}, "give one of 'tests', 'calls' and 'cases', got none"),
        (samples.OWN[0] | {"name": "x", "cases": []}, "give one of 'tests', 'calls' and 'cases', got 'tests' and"),
        (samples.OWN[0] | {"name": "x", "test": "1"}, "there is no field 'test'"),
        (samples.OWN[0] | {"name": "x", "stop": [""]}, "stop: an empty text"),
        (samples.OWN[0] | {"name": "x", "program": "magic"}, "rule: must be one of"),
        (samples.OWN[0] | {"name": "x", "tests": "assert ("}, "tests: does not compile"),
        (samples.OWN[1] | {"name": "x", "expected": [1]}, "expected: 1 results for 2 calls"),
        (samples.OWN[2] | {"name": "x", "cases": [["a", "b"]]}, "a test must have 'input'"),
        (samples.OWN[2] | {"name": "x", "seconds": -1}, "'seconds' must be a number"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    "benchmark,record,why",
    [(name, *one) for name, some in BROKEN.items() for one in some],
    ids=[f"{name}-{place}" for name, some in BROKEN.items() for place in range(len(some))],
)
def test_a_malformed_line_is_named_and_the_rest_goes_on(benchmark, record, why, made, tmp_path):
    sound = RECORDS[benchmark]
    path = tmp_path / "mixed.jsonl"
    lines = [one if isinstance(one, str) else json.dumps(one) + "\n" for one in [sound[0], record, *sound[1:]]]
    path.write_bytes("".join([*lines[:1], "\n", *lines[1:]]).encode("utf-8", "surrogateescape"))
    found, malformed = load(f"{benchmark}:{path}", examples=False)
    assert [one.name for one in found] == [one.name for one in made(benchmark, examples=False)[0]]
    assert [one.place for one in malformed] == [f"{path}:3"] and why in malformed[0].why


def test_a_file_of_a_list_is_read(tmp_path):
    path = tmp_path / "problems.json"
    path.write_text(json.dumps(samples.HUMANEVAL))
    assert len(load(f"humaneval:{path}")[0]) == 2
    path.write_text(json.dumps([*samples.HUMANEVAL, 3]))
    assert [str(one) for one in load(f"humaneval:{path}")[1]] == [
        f"{path}, record 3: a record is a JSON object, this is a int"
    ]


def test_what_can_not_be_had_is_one_clear_message(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=r"^problems: there are none named 'humanevil'; there are humaneval, "):
        load("humanevil")
    with pytest.raises(ValueError, match=r"^problems: mbpp is read from a file; give mbpp:PATH"):
        load("mbpp")
    with pytest.raises(FileNotFoundError, match=r"^problems: no file .*absent.jsonl; give mbpp\+'s file"):
        load(f"mbpp+:{tmp_path / 'absent.jsonl'}")
    with pytest.raises(ValueError, match=r"^limit: must be at least 1"):
        load("humaneval", limit=0)
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(ValueError, match=r"^problems: .*empty.jsonl holds none in the format of jsonl$"):
        load(f"jsonl:{tmp_path / 'empty.jsonl'}")
    (tmp_path / "cut.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00junk")
    with pytest.raises(ValueError, match=r"^problems: .*cut.jsonl.gz can't be read"):
        load(f"humaneval:{tmp_path / 'cut.jsonl.gz'}")
    with pytest.raises(ValueError, match=r"^problems: 'lineworld:N' needs a number of tasks"):
        load("lineworld:many")
    with pytest.raises(ValueError, match=r"^problems: lineworld-held-out has \d+ tasks, got 99999999"):
        load("lineworld-held-out:99999999")
    assert set(BENCHMARKS) >= {
        "humaneval", "humaneval+", "mbpp", "mbpp-test", "mbpp+", "livecodebench", "codeforces", "jsonl", "lineworld",
        "lineworld-held-out",
    }  # fmt: skip


def test_data_sets_come_through_datasets(monkeypatch):
    """The real call, with a data set in memory in place of the download."""
    import datasets

    asked = []

    def load_dataset(name, config, *, split):
        asked.append((name, config, split))
        return datasets.Dataset.from_list(samples.HUMANEVAL)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found, malformed = load("humaneval:openai/openai_humaneval@main")
    assert asked == [("openai/openai_humaneval", "main", "test")] and len(found) == 2 and not malformed


def test_a_hub_that_is_out_of_reach_is_one_clear_message(monkeypatch):
    import datasets

    def load_dataset(*arguments, **options):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(FileNotFoundError, match=r"^problems: 'nobody/nothing' is neither a file nor .*no route\)$"):
        load("codeforces:nobody/nothing")


# Packed tests


def test_packed_tests_are_read_without_running_anything(tmp_path):
    ran = tmp_path / "ran"

    class Hostile:
        def __reduce__(self):
            return (open, (str(ran), "w"))

    for value in (Hostile(), {"a": Hostile()}, [1], 3, {1: "a"}, b"bytes", {"a": {"b": "c"}}, None):
        with pytest.raises(Wrong, match="its packed tests can't be read"):
            unpacked(samples.packed(value))
    assert not ran.exists()
    for protocol in range(1, pickle.HIGHEST_PROTOCOL + 1):
        for value in ("", "text", "é" * 300, {"input_output": "{}"}):
            assert plain_pickle(pickle.dumps(value, protocol)) == value


def test_packed_tests_have_a_size():
    value = base64.b64encode(zlib.compress(pickle.dumps("0" * 10_000_000))).decode()
    assert len(value) < 20_000
    with pytest.raises(Wrong, match=r"more than 1,000,000 bytes"):
        unpacked(value, limit=1_000_000)
    assert len(unpacked(value)) == 10_000_000


def test_damaged_packed_tests_are_wrong_and_nothing_else():
    sound = base64.b64decode(samples.packed({"input_output": "x" * 50}))
    rng = random.Random(0)
    for _ in range(300):
        damaged = bytearray(zlib.decompress(sound))
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        del damaged[rng.randrange(1, len(damaged)) :]
        try:
            unpacked(base64.b64encode(zlib.compress(bytes(damaged))).decode())
        except Wrong:
            continue
        pytest.fail(f"{damaged!r} was read")
    for cut in range(len(sound) - 1):
        with pytest.raises(Wrong):
            private_tests(base64.b64encode(sound[:cut]).decode())


# Programs of what models write


def problem(**options):
    check = CodeTests(("f",), "assert f(1) == 1")
    return Problem(**({"name": "p", "benchmark": "jsonl", "prompt": "def f(x):\n", "check": check} | options))


def test_completions_become_programs():
    text = "    return x\n\nprint(f(1))"
    assert problem(head="def f(x):\n", stop=("\nprint",)).program(text) == "def f(x):\n    return x\n"
    assert problem(rule=WHOLE, tail="\nend").program("x = 1") == "x = 1\nend"
    assert problem(rule=FENCED).program("Well:\n```python\na = 1\n```\n or\n```\nb = 2\n```\n") == "b = 2\n"
    assert problem(rule=FENCED).program("a = 1\n") == "a = 1\n"
    assert problem(rule=FENCED).program("So:\n```py\na = 1\n") == "a = 1\n"
    assert fenced("  ```\r\nx\r\n  ```") == "x\r\n"
    assert problem(rule=CONTINUES, stop=("b", "a")).cut("xxaxb") == "xx"


def test_sanitising_leaves_what_is_needed():
    code = (
        "import os\nfrom math import pi\n\nBASE = 2\nUNUSED = 3\n\n\ndef helper(x):\n    return x * BASE\n\n\n"
        "def unused():\n    pass\n\n\n@staticmethod\ndef f(x):\n    return helper(x)\n\n\nassert f(1) == 2\n"
        "if __name__ == '__main__':\n    print(f(2))\n\nThis function doubles.\n"
    )
    found = sanitised(code, "f")
    assert found == (
        "import os\nfrom math import pi\nBASE = 2\ndef helper(x):\n    return x * BASE\n"
        "@staticmethod\ndef f(x):\n    return helper(x)\n"
    )
    assert "UNUSED" in sanitised(code) and "unused" in sanitised(code) and "print" not in sanitised(code)
    assert sanitised("no program at all, is it", "f") == "no program at all, is it"
    assert sanitised("print(1)\n", "f") == "print(1)\n"  # a script is left as it is
    one = problem(head="def f(x):\n", entry_point="f")
    assert one.program("    return x\n\nThat's it", sanitise=True) == "def f(x):\n    return x\n"
    assert problem(entry_point="f", tail="\ntail()").program("x", sanitise=True).endswith("\ntail()")


def test_the_longest_beginning_that_is_a_program_is_found():
    """Skipping to the line of an error loses nothing: compared with trying every beginning."""
    import ast
    import inspect
    import textwrap

    from llm.problems.problem import _longest

    sources = [inspect.getsource(textwrap), inspect.getsource(samples)]
    rng = random.Random(1)
    found = 0
    for _ in range(150):
        lines = rng.choice(sources).split("\n")
        first = rng.choice([place for place, line in enumerate(lines[:-30]) if line.startswith(("def", "class", "#"))])
        lines = lines[first : first + rng.randint(1, 30)]
        for _ in range(rng.randint(0, 2)):
            lines.insert(
                rng.randrange(len(lines) + 1),
                rng.choice(["This is it.", "x = (", '"""', "  return", "y = 'a", "\\", "f(1"]),
            )
        code = "\n".join(lines)
        tree, text = _longest(code)
        wanted = None
        for end in range(len(lines), 0, -1):
            part = "\n".join(code.split("\n")[:end])
            try:
                wanted = part if ast.parse(part).body else None
                break
            except SyntaxError:
                continue
        assert (text if tree else None) == wanted
        found += wanted is not None
    assert found > 60


def test_digests_tell_problems_apart_and_nothing_else():
    one = problem()
    assert one.digest() == problem().digest() == problem(seconds=3.0, settings={"a": 1}).digest()
    changed = [
        problem(**{name: value})
        for name, value in (
            ("name", "q"), ("prompt", "x"), ("stop", ("a",)), ("rule", WHOLE), ("head", "h"), ("tail", "t"),
            ("reference", "r"), ("check", CodeTests(("f",), "assert f(1) == 2")),
            ("check", Reference("f", (({"b", "a"},),))),
        )
    ]  # fmt: skip
    assert len({other.digest() for other in changed} | {one.digest()}) == len(changed) + 1


def test_digests_do_not_depend_on_the_order_of_sets():
    """It changes from process to process; here with equal sets that were built otherwise."""
    words = [f"w{k}" for k in range(40)]
    one, other = set(words), set(reversed(words))
    collide = {8, 0, 16}, {16, 0, 8}
    assert repr(collide[0]) != repr(collide[1]) or repr(one) != repr(other)
    assert digest(10**5000) != digest(10**5000 + 1)  # longer than Python writes in decimals
    assert digest([one, collide[0]]) == digest([other, collide[1]])
    assert (
        digest({"a": 1}) != digest({"a": 2}) and digest((1,)) != digest([1]) and digest({1}) != digest(frozenset({1}))
    )


def test_checks_are_those_of_the_sandbox(made):
    kinds = {name: {type(one.check) for one in made(name)[0]} for name in RECORDS}
    assert kinds["humaneval"] == kinds["mbpp"] == {CodeTests}
    assert kinds["humaneval+"] == kinds["mbpp+"] == {Reference}
    assert kinds["livecodebench"] == {StdioTests, CallTests} and kinds["codeforces"] == {StdioTests}
    assert kinds["jsonl"] == {CodeTests, CallTests, StdioTests}


def test_the_package_shows_what_it_says():
    assert set(problems.__all__) == {
        "BENCHMARKS", "Broken", "Judge", "Malformed", "Prepared", "Problem", "load", "prepare",
    }  # fmt: skip
