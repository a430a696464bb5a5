"""Two commands on one folder share out the work; one that is killed loses the part that it was at, and nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_experiment
import numpy as np
import pytest

from experiments import processes, records, registry, runner, work
from experiments.locks import Lock
from experiments.progress import Ticker

TESTS = Path(__file__).resolve().parent
WALKS = tuple("abcdefgh")
SCRIPT = """
import sys, fake_experiment as f
from experiments import registry, runner
if __name__ == "__main__":
    print("here", flush=True)
    plan = runner.Plan(registry.load(f.ENTRY), f.Config(walks=tuple("abcdefgh")))
    runner.compute(plan, sys.argv[1], int(sys.argv[2]))
"""


def plan() -> runner.Plan:
    return runner.Plan(registry.load(fake_experiment.ENTRY), fake_experiment.Config(walks=WALKS))


def task(folder: Path, part: str = "a", fresh: bool = False) -> work.Task:
    return work.Task(fake_experiment.ENTRY, fake_experiment.Config(), part, folder, {}, fresh)


def test_one_at_a_time(tmp_path):
    first, second = Lock(tmp_path / "x" / "a.lock"), Lock(tmp_path / "x" / "a.lock")
    assert first.take() and first.is_taken() and second.is_taken()
    assert not first.take() and not second.take()
    second.release()  # not its own
    assert first.is_taken()
    first.release()
    assert not second.is_taken() and not first.path.exists()
    assert second.take()
    second.release()


def test_a_lock_that_nobody_holds_is_no_lock(tmp_path):
    (tmp_path / "a.lock").touch()
    lock = Lock(tmp_path / "a.lock")
    assert not lock.is_taken() and lock.take()
    lock.release()


def test_a_file_that_its_holder_removed_is_not_locked(tmp_path, monkeypatch):
    """Opened before the holder gives it back, locked after: the lock would be on a file that is gone."""
    import fcntl

    path, asked = tmp_path / "a.lock", []
    holder, late, third = Lock(path), Lock(path), Lock(path)
    assert holder.take()
    real = fcntl.flock

    def flock(file, how):
        asked.append(file)
        if len(asked) == 1:
            holder.release()
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert late.take() and len(asked) == 2
    assert not third.take()
    late.release()


def test_without_locks_everybody_works(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(38, "no such system call")

    monkeypatch.setattr("fcntl.flock", refused)
    assert Lock(tmp_path / "a.lock").take() and Lock(tmp_path / "a.lock").take()


def test_a_part_that_another_stored_meanwhile_is_not_computed_again(tmp_path, monkeypatch):
    monkeypatch.setenv(fake_experiment.LOG, str(tmp_path / "log"))
    assert work.attempt(task(tmp_path), lambda _: None) and work.attempt(task(tmp_path), lambda _: None)
    assert (tmp_path / "log").read_text() == "a\n"
    assert work.attempt(task(tmp_path, fresh=True), lambda _: None)
    assert (tmp_path / "log").read_text() == "a\na\n"
    lock = task(tmp_path, "b").run.lock("b")
    assert lock.take() and not work.attempt(task(tmp_path, "b"), lambda _: None)
    lock.release()
    assert work.attempt(task(tmp_path, "b"), lambda _: None)


def test_a_part_that_fails_leaves_no_lock(tmp_path, monkeypatch):
    monkeypatch.setenv(fake_experiment.FAIL, "a")
    with pytest.raises(ZeroDivisionError):
        work.attempt(task(tmp_path), lambda _: None)
    assert not task(tmp_path).run.lock("a").is_taken()


def test_locked_parts_come_last(tmp_path):
    tasks = [task(tmp_path, part) for part in "abc"]
    lock = tasks[0].run.lock("a")
    assert lock.take()
    found = processes.in_series(tasks, Ticker(3))
    assert [next(found).part, next(found).part] == ["b", "c"]
    lock.release()
    assert [one.part for one in found] == ["a"]


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    return runner.compute(plan(), tmp_path_factory.mktemp("serial"))


@pytest.mark.slow
@pytest.mark.parametrize(("jobs", "seed"), [((1, 1), 0), ((2, 1), 1)])
def test_two_commands_of_which_one_is_killed(tmp_path, serial, jobs, seed):
    moment = np.random.default_rng(seed).uniform(0.3, 1.0)
    runs, log = tmp_path / "runs", tmp_path / "log"
    log.touch()
    environment = {
        **os.environ,
        fake_experiment.LOG: str(log),
        fake_experiment.SLOW: "0.3",
        "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}",
    }
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with contextlib.ExitStack() as stack:
        first, second = (
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, str(script), str(runs), str(count)],
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for count in jobs
        )
        for process in (first, second):
            stack.callback(process.kill)
            assert process.stdout.readline() == "here\n"
        deadline = time.monotonic() + 60
        while not log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(moment)
        first.send_signal(signal.SIGKILL)
        error = second.communicate(timeout=60)[1]
        first.communicate(timeout=60)
        assert second.returncode == 0, error
    begun = [line.split(":")[0] for line in log.read_text().split()]
    assert set(begun) == set(WALKS) and len(begun) <= len(WALKS) + jobs[0]
    run = records.Run(plan().experiment, plan().config, runs)
    for part, values in serial.items():
        stored = run.read(part)[0]
        assert stored.keys() == values.keys()
        for name, value in values.items():
            same = value.tobytes() == stored[name].tobytes() if isinstance(value, np.ndarray) else value == stored[name]
            assert same, (part, name)


@pytest.mark.slow
def test_two_commands_share_out_the_work(tmp_path, serial):
    """Neither is killed: no part is computed twice, and both have all of them."""
    runs, log = tmp_path / "runs", tmp_path / "log"
    environment = {
        **os.environ,
        fake_experiment.LOG: str(log),
        fake_experiment.SLOW: "0.3",
        "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}",
    }
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(runs), "1"]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert sorted(line.split(":")[0] for line in log.read_text().split()) == list(WALKS)
    run = records.Run(plan().experiment, plan().config, runs)
    assert all(np.array_equal(run.read(part)[0]["walk"], serial[part]["walk"]) for part in WALKS)
    assert not list(run.folder.glob("*.lock"))
