"""The pool of workers: what becomes of jobs when workers break, and that nothing piles up or is left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from llm.sandbox import CallTests, CodeTests, Limits, Sandbox, StdioTests, pool
from llm.sandbox.inside import control

ROOT = Path(__file__).parents[1]


def job(k: int, right: bool = True):
    """Whose verdict can't be taken for another's."""
    return f"def f(): return {k if right else -k}", CallTests("f", ((),), (k,))


def tree(pids):
    """These processes and all below them."""
    found = []
    for pid in pids:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            continue
        found += [pid, *tree(map(int, children))]
    return found


def gone(pids, seconds=20.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        states = []
        for pid in pids:
            try:
                states.append(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0])
            except OSError:
                continue
        if all(state == "Z" for state in states):
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(autouse=True)
def scratch(monkeypatch):
    """Where workers make their scratch folders, which other sandboxes on this machine do, too."""
    with tempfile.TemporaryDirectory(prefix="ra3-test-") as folder:
        os.chmod(folder, 0o711)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def workers_of(sandbox):
    return [pid for worker in list(sandbox._all) for pid in worker.pids]


@pytest.mark.parametrize("isolation", ["full", pytest.param("rlimits", marks=pytest.mark.slow)])
def test_killing_at_random_loses_no_verdict_and_doubles_none(isolation):
    drawn, stop, killed = random.Random(0), threading.Event(), []

    def kill(sandbox):
        while not stop.wait(drawn.uniform(0.02, 0.15)):
            pids = tree(workers_of(sandbox))
            if pids:
                pid = drawn.choice(pids)
                try:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                except ProcessLookupError:
                    pass

    jobs = [job(k, k % 4 > 0) for k in range(1, 161)]
    with Sandbox(workers=2, isolation=isolation, retries=50) as sandbox:
        thread = threading.Thread(target=kill, args=(sandbox,))
        thread.start()
        try:
            verdicts = list(sandbox.map(jobs))
        finally:
            stop.set()
            thread.join()
    assert len(killed) > 5 and len(verdicts) == len(jobs)
    for k, verdict in enumerate(verdicts, 1):
        if k % 4:
            # At weaker levels a program might have done this to itself.
            assert verdict.passed or (isolation == "rlimits" and verdict.detail == "ended by SIGKILL"), (k, verdict)
        else:
            assert verdict.seen == str(-k) or (isolation == "rlimits" and verdict.detail == "ended by SIGKILL")


def test_without_retries_a_broken_worker_is_a_sandbox_error():
    with Sandbox(workers=1, retries=0) as sandbox:
        zygote, judge = workers_of(sandbox)
        os.kill(judge, signal.SIGKILL)
        verdict = sandbox.run(*job(1))
        assert verdict.outcome == "sandbox error" and "judge is gone" in verdict.detail and not verdict.counts
        assert sandbox.run(*job(1)).passed
        zygote, judge = workers_of(sandbox)
        os.kill(zygote, signal.SIGKILL)
        assert gone([zygote])
        verdict = sandbox.run(*job(1))
        assert verdict.outcome == "sandbox error" and "zygote is gone" in verdict.detail
        assert sandbox.run(*job(1)).passed


def test_a_program_killed_from_outside_is_no_fault_of_its_own():
    def kill(sandbox):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            # Below the zygote there is only the program.
            programs = [pid for worker in list(sandbox._all) for pid in tree(worker.pids[:1])[2:]]
            if programs:
                time.sleep(0.3)
                os.kill(programs[0], signal.SIGKILL)
                return

    with Sandbox(workers=1, retries=0) as sandbox:
        thread = threading.Thread(target=kill, args=(sandbox,))
        thread.start()
        verdict = sandbox.run("import time\ndef f(): time.sleep(15)", CallTests("f", ((),), (1,)), Limits(seconds=20))
        thread.join()
    assert verdict.outcome == "sandbox error" and "outside" in verdict.detail


def test_a_judge_that_does_not_answer_is_replaced(monkeypatch):
    monkeypatch.setattr(pool, "SPARE", 1.0)
    with Sandbox(workers=1) as sandbox:
        _, judge = workers_of(sandbox)
        os.kill(judge, signal.SIGSTOP)
        assert sandbox.run(*job(1), Limits(seconds=1)).passed
        assert judge not in workers_of(sandbox)


def test_tests_that_a_result_keeps_busy_time_out(monkeypatch):
    with Sandbox(workers=1) as sandbox:
        endless = CodeTests(
            ("f",), "while f() != 1:\n    try:\n        while True: pass\n    except BaseException: pass"
        )
        verdict = sandbox.run("def f(): return 0", endless, Limits(seconds=0.3))
        assert verdict.outcome == "timed out", verdict
        assert sandbox.run(*job(1)).passed
        monkeypatch.setattr(pool, "SPARE", 0.5)
        # In code of C, which nothing interrupts.
        verdict = sandbox.run("def f(): return 8", CodeTests(("f",), "7 ** (7 ** f()) == 1"), Limits(seconds=0.3))
        assert verdict.outcome == "timed out" and "tests" in verdict.detail
        assert sandbox.run(*job(1)).passed


def test_time_outs_are_run_again_alone():
    # It needs a file that its first run leaves outside its scratch folder, which only the weakest level allows.
    with tempfile.NamedTemporaryFile() as mark, Sandbox(workers=2, isolation="process") as plain:
        program = f"""
import time
with open({mark.name!r}, "r+") as file:
    first = not file.read()
    file.write("x")
def f():
    time.sleep(60 if first else 0)
    return 1
"""
        check, limits = CallTests("f", ((),), (1,)), Limits(seconds=0.5)
        assert plain.run(program, check, limits).outcome == "timed out"
        os.truncate(mark.name, 0)
        with Sandbox(workers=2, isolation="process", rerun_timeouts=True) as patient:
            jobs = [(program, check, limits), job(2), job(3), job(4)]
            assert all(verdict.passed for verdict in patient.map(jobs))
            never = "import time\ndef f(): time.sleep(60)"
            assert patient.run(never, check, limits).outcome == "timed out"


def test_workers_are_replaced_in_time():
    with Sandbox(workers=1, recycle=5) as sandbox:
        seen = []
        for k in range(12):
            seen.append(tuple(workers_of(sandbox)))
            assert sandbox.run(*job(k)).passed
        assert len({pids for pids in seen if pids}) == 3


@pytest.mark.parametrize("isolation", ["full", "landlock+seccomp"])
def test_nothing_is_left_behind(scratch, isolation):
    sandbox = Sandbox(workers=2, isolation=isolation)
    endless = threading.Thread(target=lambda: quietly(sandbox, "while True: pass"))
    endless.start()
    time.sleep(0.5)
    pids = tree(workers_of(sandbox))
    assert len(pids) >= 3
    for worker in list(sandbox._all):
        for zygote in tree(worker.pids[:1])[:2]:
            os.kill(zygote, signal.SIGSTOP)  # so that it can't see that its time has come
    sandbox.close()
    endless.join()
    assert gone(pids)
    assert not list(scratch.iterdir())
    with pytest.raises(ValueError, match="sandbox: it is closed"):
        sandbox.run(*job(1))


def quietly(sandbox, program):
    try:
        sandbox.run(program, job(1)[1], Limits(seconds=60))
    except ValueError:
        pass  # closed meanwhile


KILLED = """
import sys, tempfile, threading, time
sys.path.insert(0, {root!r})
tempfile.tempdir = {scratch!r}
from llm.sandbox import CallTests, Limits, Sandbox
sandbox = Sandbox(workers=1, isolation={isolation!r})
print(*[pid for worker in sandbox._all for pid in worker.pids], flush=True)
sandbox.run("while True: pass", CallTests("f", ((),), (1,)), Limits(seconds=2))
time.sleep(60)
"""


@pytest.mark.parametrize("isolation", ["full", "landlock+seccomp"])
def test_workers_end_with_a_caller_that_is_killed(scratch, isolation):
    program = KILLED.format(root=str(ROOT), scratch=str(scratch), isolation=isolation)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    with process:
        pids = [int(one) for one in process.stdout.readline().split()]
        time.sleep(0.5)
        every = tree(pids)
        process.kill()
    assert len(every) >= 3 and gone(every)
    assert not list(scratch.iterdir())


@pytest.mark.filterwarnings("ignore:os.fork")  # JAX has threads, if another test has used it
def test_a_forked_process_must_make_its_own():
    with Sandbox(workers=1) as sandbox:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                sandbox.run(*job(1))
            except ValueError as error:
                os.write(writing, str(error).encode())
            finally:
                os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        assert b"it belongs to another process" in os.read(reading, 999)
        os.close(reading)
        assert sandbox.run(*job(1)).passed


def test_several_threads_share_one_sandbox():
    found = {}

    def work(first):
        for k in range(first, first + 10):
            found[k] = sandbox.run(*job(k, k % 2 == 0)).passed

    with Sandbox(workers=2) as sandbox:
        threads = [threading.Thread(target=work, args=(100 * k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 40 and all(passed == (k % 2 == 0) for k, passed in found.items())


@pytest.mark.slow
def test_a_thousand_programs_leave_no_trace(scratch):
    """Memory, descriptors, processes and files of judge and zygote are after 1000 programs what they were after 200."""
    programs = [
        (lambda k: job(k)),
        (lambda k: job(k, right=False)),
        (lambda k: (f"x_{k} = {k}\ndef g(n): return [n] * {k}", CodeTests(("g",), f"assert len(g({k})) == {k}"))),
        (lambda k: (f"print(int(input()) + {k})", StdioTests(((f"{k}", f"{2 * k}"),)))),
        (lambda k: ("import os\nos._exit(0)", job(k)[1])),
        (lambda k: (f"def f(): raise ValueError('{k}' * 1000)", job(k)[1])),
        (lambda k: (f"def f(): return ['{k}'] * 20000", job(k)[1])),
        (lambda k: ("open('a', 'w').write('x')\nimport os\nos.makedirs('b/c')\ndef f(): pass", job(k)[1])),
        (lambda k: ("def f(", job(k)[1])),
        (lambda k: ("import os\nos.fork()", job(k)[1])),
    ]  # fmt: skip
    wanted = ["passed", "failed", "passed", "passed", "crashed", "crashed", "failed", "failed", "crashed", "forbidden"]
    with Sandbox(workers=1, recycle=10_000) as sandbox:
        pids = tree(workers_of(sandbox))
        marks = []
        for k in range(1, 1001):
            assert sandbox.run(*programs[k % 10](k)).outcome == wanted[k % 10], k
            if k in (200, 1000):
                marks.append([(resident(pid), len(os.listdir(f"/proc/{pid}/fd"))) for pid in pids])
        assert tree(workers_of(sandbox)) == pids
    for (memory, descriptors), (later, more) in zip(*marks, strict=True):
        assert later <= memory + (1 << 20) and more == descriptors, marks
    assert gone(pids)
    assert not list(scratch.iterdir())


def resident(pid):
    """Bytes of its own, not those that a file could be read for again."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


def test_an_end_from_outside_is_told_from_others():
    assert len({control.OWN, control.WALL, control.CPU, control.ASKED, control.OUTSIDE}) == 5
