"""Two commands on one folder share out the work; one that is killed loses the part that it was at, and nothing else."""

from __future__ import annotations

import contextlib
import fcntl
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


@pytest.mark.slow
def test_locked_parts_come_last_in_processes_too(tmp_path):
    tasks = [task(tmp_path, part) for part in "abc"]
    lock = tasks[0].run.lock("a")
    assert lock.take()
    found = processes.in_processes(tasks, 2, Ticker(3))
    assert {next(found).part, next(found).part} == {"b", "c"}
    assert not tasks[0].is_stored()
    lock.release()
    assert [one.part for one in found] == ["a"] and tasks[0].is_stored()


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    return runner.compute(plan(), tmp_path_factory.mktemp("serial"))


@pytest.fixture
def begin(tmp_path):
    """Starts the command with a number of jobs; all on one folder, with one log."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    (tmp_path / "log").touch()
    environment = {
        **os.environ,
        fake_experiment.LOG: str(tmp_path / "log"),
        fake_experiment.SLOW: "0.3",
        "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}",
    }
    with contextlib.ExitStack() as stack:

        def start(jobs: int) -> subprocess.Popen:
            command = [sys.executable, str(script), str(tmp_path / "runs"), str(jobs)]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            process = stack.enter_context(subprocess.Popen(command, env=environment, **pipes))
            stack.callback(process.kill)
            return process

        yield start


def begun(folder: Path) -> list[str]:
    """The parts, in the order in which somebody began to compute them."""
    return [line.split(":")[0] for line in (folder / "log").read_text().split()]


def assert_as(serial: dict, run: records.Run) -> None:
    for part, values in serial.items():
        stored = run.read(part)[0]
        assert stored.keys() == values.keys()
        for name, value in values.items():
            same = value.tobytes() == stored[name].tobytes() if isinstance(value, np.ndarray) else value == stored[name]
            assert same, (part, name)


@pytest.mark.slow
@pytest.mark.parametrize(("jobs", "seed"), [((1, 1), 0), ((2, 2), 1)])
def test_two_commands_of_which_one_is_killed(tmp_path, serial, begin, jobs, seed):
    first, second = map(begin, jobs)
    assert first.stdout.readline() == second.stdout.readline() == "here\n"
    deadline = time.monotonic() + 60
    while not begun(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(np.random.default_rng(seed).uniform(0.3, 1.0))
    first.send_signal(signal.SIGKILL)
    error = second.communicate(timeout=60)[1]
    assert second.returncode == 0, error
    assert set(begun(tmp_path)) == set(WALKS) and len(begun(tmp_path)) <= len(WALKS) + jobs[0]
    assert_as(serial, records.Run(plan().experiment, plan().config, tmp_path / "runs"))


@pytest.mark.slow
def test_two_commands_share_out_the_work(tmp_path, serial, begin):
    """Neither is killed: no part is computed twice, and both have all of them."""
    for process in [begin(1), begin(1)]:
        error = process.communicate(timeout=60)[1]
        assert process.returncode == 0, error
    assert sorted(begun(tmp_path)) == list(WALKS)
    run = records.Run(plan().experiment, plan().config, tmp_path / "runs")
    assert_as(serial, run)
    assert not list(run.folder.glob("*.lock"))
