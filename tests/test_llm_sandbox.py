"""Verdicts of the sandbox: what they say, each limit, and what is refused before anything runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llm.sandbox import OUTCOMES, CallTests, CodeTests, Limits, Sandbox, StdioTests, Verdict

ROOT = Path(__file__).parents[1]
ADD = CodeTests(("add",), "assert add(1, 2) == 3\nassert add(2, 2) == 4")


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=1, limits=Limits(seconds=20)) as sandbox:
        yield sandbox


def returns(sandbox, expression, limits=None, before=""):
    """What a function of a program returns."""
    return sandbox.results(f"{before}\ndef f(): return {expression}", "f", [()], limits)[0]


def test_code_names_the_assertion_that_failed(sandbox):
    verdict = sandbox.run("def add(a, b): return 3", ADD)
    assert (verdict.outcome, verdict.test, verdict.seen) == ("failed", 1, "3")
    assert verdict.detail == "assert add(2, 2) == 4"
    assert verdict.seconds > 0 and verdict.cpu_seconds > 0 and verdict.peak_memory > 1 << 20


def test_code_has_setup_and_fresh_names(sandbox):
    check = CodeTests(("f",), "assert f(helper(1)) == 4\nkept = 1", setup="def helper(x): return x + 1\nf = None")
    assert sandbox.run("def helper(x): return 0\ndef f(x): return 2 * x", check).passed
    leak = CodeTests(("f",), "assert 'kept' not in globals() and 'helper' not in globals()\nf(1)")
    assert sandbox.run("def f(x): return 0", leak).passed


def test_code_passes_words_and_types(sandbox):
    tests = """
value = f([1, (2, {3: {4}})], key=b"x", more=1 + 2j)
assert value == ([1, (2, {3: {4}})], b"x", 1 + 2j), value
assert [type(one) for one in value] == [list, bytes, complex] and type(value[0][1]) is tuple
assert f(10 ** 5000, key=float("inf"))[0] == 10 ** 5000
assert f(int)[0] is int
assert list(f(iter([1, 2]))[0]) == [1, 2]
"""
    program = "def f(x, key=None, more=None): return x, key, more"
    verdict = sandbox.run(program, CodeTests(("f",), tests))
    assert verdict.passed, verdict


def test_exceptions_of_the_program_are_the_tests_to_catch(sandbox):
    tests = """
try:
    f(-1)
except ValueError as error:
    assert str(error) == "negative"
else:
    raise AssertionError("no error")
assert f(1) == 1
"""
    program = "def f(x):\n    if x < 0: raise ValueError('negative')\n    return x"
    assert sandbox.run(program, CodeTests(("f",), tests)).passed
    verdict = sandbox.run(program, CodeTests(("f",), "assert f(1) == 1\nassert f(-2) == 2"))
    assert (verdict.outcome, verdict.test, verdict.seen) == ("crashed", 1, "ValueError: negative")


def test_tests_that_swallow_everything_don_t_save_a_program(sandbox):
    swallow = CodeTests(("f",), "for k in range(3):\n    try:\n        f(k)\n    except BaseException:\n        pass")
    assert sandbox.run("def f(x): return x", swallow).passed
    assert sandbox.run("import os\ndef f(x): os._exit(0)", swallow).outcome == "crashed"


def test_tests_that_never_call_the_program_are_no_pass(sandbox):
    verdict = sandbox.run("def f(x): return x", CodeTests(("f",), "assert True"))
    assert verdict.outcome == "sandbox error" and "never call" in verdict.detail and not verdict.counts


def test_tests_that_pass_what_can_t_be_sent_are_no_failure_of_the_program(sandbox):
    check = CodeTests(("f",), "class A: pass\nassert f(1) == 1\nassert f(A()) == 1")
    verdict = sandbox.run("def f(x): return 1", check)
    assert verdict.outcome == "sandbox error" and "an object of type A" in verdict.detail
    assert sandbox.run("def f(x): return 2", check).outcome == "failed"


def test_methods_of_a_class(sandbox):
    program = "class Solution:\n    n = 0\n    def f(self, x):\n        self.n += x\n        return self.n"
    assert sandbox.run(program, CallTests("Solution.f", ((1,), (2,)), (1, 2))).passed
    assert sandbox.run(
        program, CodeTests(("Solution.f",), "assert Solution.f(3) == 3\nassert Solution().f(4) == 4")
    ).passed
    assert sandbox.run("class Solution: pass", CallTests("Solution.f", ((1,),), (1,))).outcome == "crashed"


@pytest.mark.parametrize(
    ("expression", "expected", "atol", "rule", "passes"),
    [
        ("0.1 + 0.2", 0.3, 0.0, "equal", True),
        ("0.301", 0.3, 0.0, "equal", False),
        ("0.301", 0.3, 0.01, "equal", True),
        ("[1.0, 0.1 + 0.2]", [1.0, 0.3], 0.0, "equal", True),
        ("(1.0, 0.3)", [1.0, 0.3], 1e-3, "equal", False),
        ("[[1.0], [2.1]]", [[1.0], [2.0]], 0.2, "equal", True),
        ("[[1.0], [2.1]]", [[1.0], [2.0]], 0.01, "equal", False),
        ("float('nan')", 1.0, 1e9, "equal", False),
        ("float('inf')", 1.0, 1e9, "equal", False),
        ("10 ** 400", 1.5, 1e9, "equal", False),
        ("True", 1, 0.0, "equal", True),
        ("'a'", 1.0, 1.0, "equal", False),
        ("[2, 1, 1]", [1, 2], 0.0, "equal", False),
        ("[2, 1, 1]", [1, 2], 0.0, "set", True),
        ("[2, 1, 3]", [1, 2], 0.0, "set", False),
        ("[[1]]", [[1]], 0.0, "set", False),
        ("'something'", True, 0.0, "not none", True),
        ("None", True, 0.0, "not none", False),
        ("False", False, 0.0, "not none", True),
    ],
)
def test_results_are_compared_as_evalplus_does(sandbox, expression, expected, atol, rule, passes):
    verdict = sandbox.run(f"def f(): return {expression}", CallTests("f", ((),), (expected,), atol, rule))
    assert verdict.outcome == ("passed" if passes else "failed"), verdict
    assert verdict.test == (None if passes else 0)


def test_a_root_is_any_root(sandbox):
    check = CallTests("root", (([-4.0, 0.0, 1.0],),), (2.0,), 1e-6, "root")  # x^2 = 4
    assert sandbox.run("def root(xs): return -2.0", check).passed
    assert sandbox.run("def root(xs): return 2.1", check).outcome == "failed"


def test_calls_name_the_call(sandbox):
    check = CallTests("f", tuple((k,) for k in range(100)), tuple(range(100)))
    verdict = sandbox.run("def f(k): return k if k != 77 else 'no'", check)
    assert (verdict.outcome, verdict.test, verdict.seen) == ("failed", 77, "'no'")
    verdict = sandbox.run("import os\ndef f(k): return k if k != 77 else os._exit(0)", check)
    assert (verdict.outcome, verdict.test) == ("crashed", 77)
    assert sandbox.run("def f(k): return k", check).passed


def test_scripts_are_compared_line_by_line(sandbox):
    program = "for line in open(0):\n    print(sum(map(float, line.split())) / 3, ' ')\nprint()"
    case = (("1 1\n2 2\n", "0.66666667\n1.3333333"),)
    assert sandbox.run(program, StdioTests(case)).outcome == "failed"
    assert sandbox.run(program, StdioTests(case, tolerance=1e-6)).passed
    verdict = sandbox.run("print(input())", StdioTests((("a", "a"), ("b", "c"))))
    assert (verdict.outcome, verdict.test, verdict.seen) == ("failed", 1, "b\n")
    assert verdict.detail == "case 1: line 1 differs"


def test_a_million_lines(sandbox):
    lines = "\n".join(map(str, range(10**6)))
    program = "import sys\nfor line in sys.stdin: print(int(line))"
    assert sandbox.run(program, StdioTests(((lines, lines),))).passed


def test_results_of_a_reference(sandbox):
    program = "def f(x): return {x: (x, None)}"
    assert sandbox.results(program, "f", [(k,) for k in range(70)]) == [{k: (k, None)} for k in range(70)]
    with pytest.raises(ValueError, match=r"program: failed .*call 2: ZeroDivisionError"):
        sandbox.results("def f(x): return 1 / (2 - x)", "f", [(k,) for k in range(5)])
    with pytest.raises(ValueError, match="calls: there are none"):
        sandbox.results(program, "f", [])


def test_every_program_begins_afresh(sandbox):
    write = CallTests("f", ((),), (None,))
    assert sandbox.run("import os\ndef f():\n    open('left', 'w').close()\n    os.mkdir('d')", write).passed
    assert returns(sandbox, "os.listdir('.')", before="import os") == []
    assert sandbox.run("import builtins, math\nmath.pi = 3\nbuiltins.kept = 1\ndef f(): pass", write).passed
    assert returns(sandbox, "math.pi > 3.1 and not hasattr(builtins, 'kept')", before="import builtins, math") is True


def test_the_same_program_gives_the_same_result_everywhere():
    """Neither the order of sets nor `random` depends on the worker or on what ran before."""
    program = "import random\ndef f(): return [str(set('abcdefgh')), random.random(), random.sample(range(99), 5)]"
    found = []
    for _ in range(2):
        with Sandbox(workers=1) as sandbox:
            found += [sandbox.results(program, "f", [()]) for _ in range(2)]
    assert found[0] == found[1] == found[2] == found[3]


def test_limit_of_seconds(sandbox):
    verdict = sandbox.run("import time\ndef add(a, b): time.sleep(60)", ADD, Limits(seconds=0.3))
    assert verdict.outcome == "timed out" and 0.3 <= verdict.seconds < 5 and verdict.cpu_seconds < 0.3


def test_limit_of_processor_time(sandbox):
    limits = Limits(seconds=60, cpu_seconds=0.2)
    verdict = sandbox.run("def add(a, b):\n    while True: pass", ADD, limits)
    assert verdict.outcome == "timed out" and "processor" in verdict.detail and 0.2 <= verdict.cpu_seconds < 1.5
    assert sandbox.run("import time\ndef add(a, b):\n    time.sleep(0.3)\n    return a + b", ADD, limits).passed


def test_limit_of_memory(sandbox):
    program = "def add(a, b):\n    held = bytes(300 << 20)\n    return a + b"
    assert sandbox.run(program, ADD, Limits(seconds=20, memory=256 << 20)).outcome == "out of memory"
    assert sandbox.run(program, ADD, Limits(seconds=20, memory=512 << 20)).passed


def test_limit_of_output(sandbox):
    check = StdioTests((("", "x" * 1000),))
    assert sandbox.run("print('x' * 1000)", check, Limits(output=2000)).passed
    verdict = sandbox.run("print('x' * 3000)", check, Limits(output=2000))
    assert verdict.outcome == "output too large" and verdict.test == 0
    long = CallTests("f", ((),), ("x" * 1000,))
    assert sandbox.run("def f(): return 'x' * 1000", long, Limits(output=2000)).passed
    assert sandbox.run("def f(): return 'x' * 3000", long, Limits(output=2000)).outcome == "output too large"


def test_limit_of_file_size(sandbox):
    program = "import pathlib\ndef f(n): return pathlib.Path('a').write_bytes(bytes(n))"
    limits = Limits(seconds=20, file_size=6000)
    assert sandbox.results(program, "f", [(6000,)], limits) == [6000]
    with pytest.raises(ValueError, match="File too large"):
        sandbox.results(program, "f", [(6001,)], limits)


def test_limit_of_threads(sandbox):
    program = """
import threading, time
def f():
    threads = []
    try:
        while len(threads) < 200:
            threads.append(threading.Thread(target=time.sleep, args=(60,), daemon=True))
            threads[-1].start()
    except RuntimeError:
        threads.pop()
    return len(threads)
"""
    if not next(iter(sandbox._all)).about["threads"]:
        pytest.skip("threads can't be counted here")
    few, more = (sandbox.results(program, "f", [()], Limits(seconds=20, threads=n))[0] for n in (5, 20))
    assert few <= 5 + 1 and more - few == 15


def test_limit_of_files(sandbox):
    program = "[open('/dev/null') for _ in range(25)]"
    assert returns(sandbox, f"len({program})", Limits(files=40)) == 25
    with pytest.raises(ValueError, match="Too many open files"):
        returns(sandbox, f"len({program})", Limits(files=20))


def test_limits_go_with_a_job():
    program = "import time\ndef add(a, b):\n    time.sleep(0.5)\n    return a + b"
    with Sandbox(workers=2, limits=Limits(seconds=20)) as sandbox:
        jobs = [(program, ADD), (program, ADD, Limits(seconds=0.2)), (program.replace("+ b", "- b"), ADD)]
        assert [one.outcome for one in sandbox.map(jobs)] == ["passed", "timed out", "failed"]


def test_map_keeps_the_order_and_reads_little_ahead():
    read = []

    def jobs():
        for k in range(40):
            read.append(k)
            yield f"def f(): return {k if k % 3 else -1}", CallTests("f", ((),), (k,))

    with Sandbox(workers=2) as sandbox:
        for k, verdict in enumerate(sandbox.map(jobs())):
            assert verdict.passed == bool(k % 3)
            assert len(read) <= k + 3 * 2 + 2
    assert len(read) == 40


def test_texts_of_programs_are_one_clean_line(sandbox):
    program = "def add(a, b): raise ValueError('a\\x1b[2J\\nb\\ud800')"
    verdict = sandbox.run(program, ADD)
    assert "\n" not in verdict.detail and "\x1b" not in verdict.detail
    (verdict.detail + verdict.seen).encode("utf-8")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CodeTests((), "f()"), "entry_points: must be a tuple"),
        (lambda: CodeTests("f", "f()"), "entry_points: must be a tuple"),
        (lambda: CodeTests(("f x",), "f()"), "entry_points: must be a function's name"),
        (lambda: CodeTests(("f",), " \n"), "tests: there are none"),
        (lambda: CodeTests(("f",), "f("), "tests: does not compile"),
        (lambda: CodeTests(("f",), "f()", "x = ("), "setup: does not compile"),
        (lambda: CallTests("a.b.c", ((),), (1,)), "entry_point: must be a function's name"),
        (lambda: CallTests("f", (), ()), "calls: there are none"),
        (lambda: CallTests("f", ((),), (1, 2)), "expected: 2 results for 1 calls"),
        (lambda: CallTests("f", ((object(),),), (1,)), "calls: number 0 holds an object of type object"),
        (lambda: CallTests("f", ((),), (iter(()),)), "expected: number 0 is an iterator"),
        (lambda: CallTests("f", ((),), (1,), -1.0), "atol: must be 0 or more"),
        (lambda: CallTests("f", ((),), (1,), rule="near"), "rule: there is none named 'near'"),
        (lambda: StdioTests(()), "cases: there are none"),
        (lambda: StdioTests((("a", 1),)), "cases: number 0 must be"),
        (lambda: StdioTests((("a", "b"),), tolerance=-1.0), "tolerance: must be None"),
        (lambda: Limits(seconds=0), "seconds: must be a positive number"),
        (lambda: Limits(cpu_seconds=float("nan")), "cpu_seconds: must be a positive number"),
        (lambda: Limits(memory=10), "memory: must be a whole number"),
        (lambda: Limits(threads=True), "threads: must be a whole number"),
        (lambda: Verdict("fine"), "outcome: there is none named 'fine'"),
        (lambda: Sandbox(workers=0), "workers: must be a whole number, 1 or more"),
        (lambda: Sandbox(recycle=0), "recycle: must be"),
        (lambda: Sandbox(isolation="best"), "isolation: there is none named 'best'; there are full"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_error(make, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        make()


def test_bad_jobs_are_one_clear_error(sandbox):
    with pytest.raises(ValueError, match="program: must be text or bytes, got int"):
        sandbox.run(1, ADD)
    with pytest.raises(ValueError, match="check: must be CodeTests, CallTests or StdioTests, got str"):
        sandbox.run("", "assert True")


def test_outcomes_are_named_once():
    assert len(set(OUTCOMES)) == len(OUTCOMES) == 8
    assert Verdict("passed").passed and not Verdict("failed").passed and Verdict("failed").counts


# Runs where a filter of system calls says that there are no namespaces, as in many containers.
CONTAINER = """
import errno, sys
sys.path.insert(0, {root!r})
from llm.sandbox import Sandbox, CodeTests
from llm.sandbox.inside import seccomp, system
system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)
deny = seccomp._error(errno.EPERM)
seccomp.Filter(seccomp._load(0) + seccomp._if("unshare", deny) + seccomp._return(0x7FFF0000)).install()
try:
    Sandbox(workers=1)
except ValueError as error:
    print(error)
with Sandbox(workers=1, isolation="landlock+seccomp") as sandbox:
    print(sandbox.run("def f(): return 1", CodeTests(("f",), "assert f() == 1")).outcome)
"""


def test_it_refuses_to_run_with_less_than_was_asked_for():
    done = subprocess.run(
        [sys.executable, "-c", CONTAINER.format(root=str(ROOT))], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("isolation: 'full' is not to be had here (namespaces: unshare: Operation not permitted)")
    assert "isolation='landlock+seccomp'" in first and second == "passed"


def test_the_probe_says_what_is_to_be_had():
    done = subprocess.run(
        [sys.executable, "-m", "llm.sandbox"], capture_output=True, text=True, timeout=120, cwd=ROOT, check=True
    )
    for level in ("full", "landlock+seccomp", "rlimits", "process"):
        assert any(line.startswith(level) for line in done.stdout.splitlines()), done.stdout
    assert "can't stop a program that wants to: learn which files exist" in done.stdout


AS_USER = """
import sys
sys.path.insert(0, sys.argv[1])
from llm.sandbox import CallTests, Sandbox
with Sandbox(workers=1, isolation=sys.argv[2]) as sandbox:
    print(sandbox.results("import os\\ndef f(): return os.getuid()", "f", [()])[0])
    print(sandbox.run("def f(): return open('/etc/passwd').read()", CallTests("f", ((),), (1,))).outcome)
    print(sandbox.run("import os\\ndef f(): return os.fork()", CallTests("f", ((),), (1,))).outcome)
"""


@pytest.mark.parametrize("level", ["full", "landlock+seccomp"])
def test_it_works_for_an_ordinary_user_too(level):
    if os.geteuid() != 0:
        pytest.skip("this is one already")
    # An interpreter that others may run.
    python = next((one for one in (sys._base_executable, "/usr/bin/python3") if _others_can(one)), None)
    if python is None:
        pytest.skip("no Python of 3.11 or later that an ordinary user can run here")
    command = [python, "-B", "-c", AS_USER, str(ROOT), level]
    done = subprocess.run(
        command, user=65534, group=65534, extra_groups=[], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    user, reading, forking = done.stdout.split("\n")[:3]
    assert user == "65534" and reading in ("crashed", "forbidden") and forking == "forbidden"


def _others_can(python: str) -> bool:
    try:
        command = [
            python,
            "-c",
            "import os, sys; os.listdir(sys.argv[1]); assert sys.version_info >= (3, 11)",
            str(ROOT),
        ]
        return subprocess.run(command, user=65534, group=65534, extra_groups=[], capture_output=True).returncode == 0
    except OSError:
        return False
