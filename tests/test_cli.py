"""The `ra3` command, on a small experiment that only tests know."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import fake_experiment
import numpy as np
import pytest

from experiments import cli, records, registry

REGISTRY = {"fake": fake_experiment.ENTRY}
# The smoke preset leaves the picture out: it is most of the time.
SMOKE = ["fake.json", "fake_ends.csv", "fake_ends.md"]
FULL = ["fake.json", "fake.pdf", "fake.png", "fake_ends.csv", "fake_ends.md"]


@pytest.fixture
def ra3(tmp_path, monkeypatch, capsys):
    """Calls the command in an empty folder; gives exit code, output, error output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(fake_experiment.LOG, str(tmp_path / "log"))

    def call(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(arguments, REGISTRY)
        return code, *capsys.readouterr()

    return call


def computed(folder: Path = Path()) -> list[str]:
    """The parts that were run since the last call."""
    log = folder / "log"
    lines = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


def stored(runs: str = "runs", **config) -> records.Run:
    return records.Run(registry.load(fake_experiment.ENTRY), fake_experiment.Config(**config), Path(runs))


def one_line_error(result: tuple[int, str, str], code: int = 2) -> str:
    assert result[0] == code and result[1] == ""
    assert result[2].startswith("ra3: error: ") and result[2].count("\n") == 1, result[2]
    return result[2]


def test_list_names_every_experiment(capsys):
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(registry.EXPERIMENTS)
    assert all(entry.title in line for entry, line in zip(registry.EXPERIMENTS.values(), lines, strict=True))


def test_what_is_long_is_made_only_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(fake_experiment.LOG, str(tmp_path / "log"))
    longer = replace(fake_experiment.ENTRY, name="longer", long=True)
    both = {**REGISTRY, "longer": longer}
    assert [entry.name for entry in registry.find([], both)] == ["fake"]
    assert registry.find(["longer"], both) == [longer]
    assert cli.main(["list"], both) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "long" not in first and second.endswith("(long: made only by name)")
    assert cli.main(["reproduce", "--preset", "smoke", "--jobs", "1"], both) == 0
    assert computed() == ["a", "b", "c"] and not Path("paper_figs/longer.json").exists()
    assert cli.main(["reproduce", "longer", "--preset", "smoke", "--jobs", "1"], both) == 0
    assert computed() == ["a", "b", "c"] and Path("paper_figs/longer.json").exists()


def test_list_imports_nothing_heavy():
    code = (
        "import sys; from experiments import cli; cli.main(['list']);"
        "print([m for m in ('numpy', 'numba', 'matplotlib', 'ra3sim', 'jax', 'torch') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.splitlines()[-1] == "[]"


def test_every_registered_experiment_meets_the_contract():
    for name in registry.EXPERIMENTS:
        experiment = registry.load(name)
        for preset in registry.PRESETS:
            config = experiment.config_class.preset(preset)
            assert records.as_json(config)["seed"] == config.seed
            parts = list(experiment.parts(config))
            assert parts and len(set(parts)) == len(parts)


def test_reproduce_writes_files_manifest_and_last_line(ra3):
    code, output, log = ra3("reproduce", "fake", "--preset", "smoke", "--out", "figs", "--seed", "3", "--jobs", "1")
    assert code == 0, log
    assert output.splitlines()[-1] == "results: 3 files in figs/ (data and manifests in runs/)"
    assert sorted(os.listdir("figs")) == SMOKE
    manifest = json.loads(Path("figs/fake.json").read_text())
    assert manifest["config"] == {"seed": 3, "walks": ["a", "b", "c"], "steps": 50, "picture": False}
    assert manifest["command"] == "ra3 reproduce fake --preset smoke --seed 3"
    assert list(manifest["parts"]) == ["a", "b", "c"]
    assert manifest["seconds"] == pytest.approx(sum(part["seconds"] for part in manifest["parts"].values()))
    assert manifest["computed_with"][0]["versions"]["numpy"] == np.__version__
    assert manifest["files"]["fake_ends.md"] == records.file_hash(Path("figs/fake_ends.md"))
    assert json.loads((stored(seed=3).folder / "manifest.json").read_text())["key"] == manifest["key"]


def test_defaults_all_experiments_full_preset_paper_figs(ra3):
    assert ra3("reproduce", "--jobs", "1")[0] == 0
    assert sorted(os.listdir("paper_figs")) == FULL
    assert json.loads(Path("paper_figs/fake.json").read_text())["config"]["steps"] == 500


def test_no_path_of_the_machine_in_what_is_published(ra3, tmp_path):
    ra3("reproduce", "--out", str(tmp_path / "figs"), "--runs", str(tmp_path / "data"), "--jobs", "1")
    for name in FULL:
        assert str(tmp_path).encode() not in Path("figs", name).read_bytes()


@pytest.mark.slow
def test_running_again_computes_nothing_and_draws_the_same_bytes(ra3):
    ra3("reproduce", "--jobs", "1")
    before = {name: Path("paper_figs", name).read_bytes() for name in FULL}
    assert computed() == ["a", "b", "c"]
    for name in FULL:
        Path("paper_figs", name).unlink()
    assert ra3("reproduce", "--jobs", "1")[0] == 0
    assert computed() == []
    assert {name: Path("paper_figs", name).read_bytes() for name in FULL} == before
    ra3("reproduce", "--jobs", "1", "--fresh")
    assert computed() == ["a", "b", "c"]


def test_another_config_or_version_has_its_own_data(ra3, monkeypatch):
    ra3("reproduce", "--preset", "smoke", "--jobs", "1")
    computed()
    ra3("reproduce", "--preset", "smoke", "--jobs", "1", "--seed", "1")
    assert computed() == ["a", "b", "c"]
    assert not np.array_equal(stored(seed=0).read("a")[0]["walk"], stored(seed=1).read("a")[0]["walk"])
    monkeypatch.setattr(fake_experiment, "VERSION", 2)
    ra3("reproduce", "--preset", "smoke", "--jobs", "1")
    assert computed() == ["a", "b", "c"]


@pytest.mark.slow
def test_jobs_do_not_change_a_bit(ra3):
    ra3("reproduce", "--preset", "full", "--runs", "one", "--out", "out1", "--jobs", "1")
    ra3("reproduce", "--preset", "full", "--runs", "two", "--out", "out2", "--jobs", "2")
    assert sorted(computed()) == ["a", "a", "b", "b", "c", "c"]
    for part in "abc":
        one, two = (stored(runs, steps=500, picture=True).read(part)[0] for runs in ("one", "two"))
        assert one.keys() == two.keys() == {"walk", "product", "end", "threads", "note"}
        assert all(np.array_equal(one[name], two[name]) for name in one)
        assert one["threads"] == 1
    for name in FULL[1:]:
        assert Path("out1", name).read_bytes() == Path("out2", name).read_bytes()


def test_a_failed_part_keeps_the_others(ra3, monkeypatch):
    monkeypatch.setenv(fake_experiment.FAIL, "b")
    code, output, log = ra3("reproduce", "--preset", "smoke", "--jobs", "1")
    assert code == 1 and output == ""
    message = "ra3: error: fake b: ZeroDivisionError: walk b fell over; what is finished is kept"
    assert log.splitlines()[-1] == message
    assert "Traceback" in log  # a bug of ours, not of the user's
    monkeypatch.delenv(fake_experiment.FAIL)
    assert computed() == ["a", "b"]
    assert ra3("reproduce", "--preset", "smoke", "--jobs", "1")[0] == 0
    assert computed() == ["b", "c"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "message"), [("b", "fake b: ZeroDivisionError: walk b fell over"), ("b dies", "fewer --jobs")]
)
def test_a_failed_part_in_another_process(ra3, monkeypatch, how, message):
    monkeypatch.setenv(fake_experiment.FAIL, how)
    code, _, log = ra3("reproduce", "--preset", "smoke", "--jobs", "2")
    assert code == 1
    assert message in log.splitlines()[-1] and log.splitlines()[-1].startswith("ra3: error: ")
    monkeypatch.delenv(fake_experiment.FAIL)
    assert ra3("reproduce", "--preset", "smoke", "--jobs", "2")[0] == 0
    assert set(json.loads(Path("paper_figs/fake.json").read_text())["parts"]) == {"a", "b", "c"}


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupt_and_go_on(ra3, tmp_path, monkeypatch, jobs, how):
    """Stopped while part c runs for ever; then the same command finishes the rest."""
    # A job in the background of a shell is born deaf to SIGINT; the command is not to inherit that from the tests.
    script = "import signal, sys, fake_experiment as f; from experiments import cli; "
    script += "signal.signal(signal.SIGINT, signal.default_int_handler); "
    script += "sys.exit(cli.main(sys.argv[1:], {'fake': f.ENTRY}))"
    tests = Path(__file__).resolve().parent
    arguments = ["reproduce", "--preset", "smoke", "--jobs", str(jobs)]
    environment = {**os.environ, fake_experiment.WAIT: "c", "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}"}
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=environment,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    run = stored(str(tmp_path / "runs"))
    try:
        deadline = time.monotonic() + 60
        while not (run.path("a").exists() and run.path("b").exists() and "c" in (tmp_path / "log").read_text()):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        if how == signal.SIGINT:
            # A terminal sends it to every process; the parent alone is to answer. The others hear it first here.
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            for child in children.read_text().split() if children.exists() else []:
                os.kill(int(child), how)
            time.sleep(0.5)
            assert process.poll() is None
            os.killpg(process.pid, how)
        else:
            process.kill()
        # Workers hold standard error open: when this returns, they are gone too.
        error = process.communicate(timeout=30)[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert error.splitlines()[-1].startswith("ra3: error: interrupted")
        assert "Traceback" not in error
    computed(tmp_path)
    assert ra3(*arguments)[0] == 0
    assert computed() == ["c"]


def test_damaged_part_is_reported_and_computed_again(ra3):
    ra3("reproduce", "--preset", "smoke", "--jobs", "1")
    computed()
    before = stored().read("b")[0]["walk"]
    path = stored().path("b")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, _, log = ra3("reproduce", "--preset", "smoke", "--jobs", "1")
    assert code == 0 and computed() == ["b"]
    assert sum("fake: the stored part 'b' is damaged and computed again" in line for line in log.splitlines()) == 1
    assert np.array_equal(stored().read("b")[0]["walk"], before)


def test_unknown_name(ra3):
    assert "no experiment 'nope'; known are: fake" in one_line_error(ra3("reproduce", "nope", "--out", "figs"))
    assert not Path("figs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), f"Expected one of {{{', '.join(cli.COMMANDS)}}}"),
        (("paint",), "paint"),
        (("reproduce", "--preset", "huge"), "'huge' for argument '--preset'. Expected one of ('smoke', 'quick'"),
        (("reproduce", "--jobs", "0"), "--jobs: at least 1, got 0"),
        (("reproduce", "--jobs", "many"), "--jobs"),
        (("reproduce", "--seed", "-1"), "--seed"),
        (("reproduce", "--seed", "666"), "seed: 666 is taken; choose another"),
        (("reproduce", "--out", "occupied"), "--out: occupied cannot be made a folder"),
        (("reproduce", "--runs", "occupied"), "--runs: occupied cannot be made a folder"),
        (("reproduce", "--colour", "red"), "--colour"),
    ],
)
def test_bad_input_is_one_line(ra3, arguments, message):
    Path("occupied").write_text("a file")
    assert message in one_line_error(ra3(*arguments))
    assert computed() == []


def test_folders_that_cannot_be_written_to(ra3, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != Path("locked"))
    assert "--out: locked cannot be written to" in one_line_error(ra3("reproduce", "--out", "locked"))
    assert "--runs: locked cannot be written to" in one_line_error(ra3("reproduce", "--runs", "locked"))


def test_help_says_what_there_is(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in cli.COMMANDS)
