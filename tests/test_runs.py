"""What `ra3 runs` says of stored data, what it compares, what it would remove; sweeps; configs read back from JSON."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import fake_experiment
import numpy as np
import pytest

from experiments import cli, fields, records, registry, runner, runs, runs_clean, runs_compare, sweep
from experiments.locks import Lock
from llm.runs import RunFolder

REGISTRY = {"fake": fake_experiment.ENTRY}


@pytest.fixture
def ra3(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, list[str], str]:
        code = cli.main(arguments, REGISTRY)
        shown = capsys.readouterr()
        return code, shown.out.splitlines(), shown.err

    return call


def stored(config: fake_experiment.Config | None = None, root: str = "runs") -> records.Run:
    """Computed, if it is not there."""
    plan = runner.Plan(registry.load(fake_experiment.ENTRY), config or fake_experiment.Config(), "a test")
    return runner.sweep([plan], root)[0]


def of(run: records.Run) -> runs.Stored:
    return runs.Stored(run.folder)


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5


@dataclass(frozen=True)
class Outer:
    seed: int = 0
    name: str = "x"
    flag: bool = False
    limit: float | None = None
    sizes: tuple[int, ...] = (1, 2)
    case: tuple[tuple[int, float], ...] = ((1, 0.5),)
    inner: Inner = Inner()

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed: at least 0, got {self.seed}")


# -- configs


@pytest.mark.parametrize("preset", registry.PRESETS)
@pytest.mark.parametrize("name", [*registry.EXPERIMENTS])
def test_every_config_comes_back_from_json(name, preset):
    kind = registry.load(name).config_class
    config = kind.preset(preset)
    assert fields.from_json(kind, records.as_json(config)) == config


def test_what_does_not_fit_a_config_is_refused():
    good = records.as_json(Outer())
    assert fields.from_json(Outer, good) == Outer()
    assert fields.from_json(Outer, good | {"limit": 3, "inner": {"rate": 1}}) == Outer(limit=3, inner=Inner(1))
    for change in (
        {"seed": True}, {"seed": 1.5}, {"name": 3}, {"flag": 0}, {"limit": "x"}, {"sizes": [1, "2"]}, {"sizes": 3},
        {"case": [[1]]}, {"inner": {}}, {"new": 1},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="^(config|" + "|".join(["inner", *change]) + "): "):
            fields.from_json(Outer, good | change)
    with pytest.raises(ValueError, match="must have the fields"):
        fields.from_json(Outer, {name: value for name, value in good.items() if name != "seed"})


@pytest.mark.parametrize(
    ("name", "text", "changed"),
    [
        ("name", "5", {"name": "5"}),
        ("flag", "true", {"flag": True}),
        ("limit", "null", {"limit": None}),
        ("sizes", "[3,4]", {"sizes": (3, 4)}),
        ("inner.rate", "0.1", {"inner": Inner(0.1)}),
        ("inner.rate", "1", {"inner": Inner(1.0)}),
    ],
)
def test_fields_set_from_text(name, text, changed):
    found = fields.with_value(Outer(), name, text)
    assert found == replace(Outer(), **changed) and repr(found) == repr(replace(Outer(), **changed))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("seed", "x", "seed: "),
        ("seed", "-1", "at least 0"),
        ("none", "1", "none: no such field; there are seed"),
        ("seed.x", "1", "seed.x: no such field"),
        ("inner.x", "1", "x: no such field; there are rate"),
    ],
)
def test_fields_that_cannot_be_set(name, text, message):
    with pytest.raises(ValueError, match=message):
        fields.with_value(Outer(), name, text)


# -- what is stored


def test_a_list_of_runs(ra3):
    run = stored()
    stored(fake_experiment.Config(seed=3, steps=60))
    shutil.copytree(run.folder, run.folder.with_name("0" * 16))  # a manifest of another run
    os.makedirs("runs/references")
    code, lines, _ = ra3("runs", "list")
    assert code == 0 and lines[0].split() == list(runs.COLUMNS)
    found = {line.split()[1]: line for line in lines[1:]}
    assert found.keys() == {
        run.folder.name[:8],
        "00000000",
        stored(fake_experiment.Config(seed=3, steps=60)).folder.name[:8],
    }
    ours = found[run.folder.name[:8]]
    assert " smoke  " in ours and " 3/3 " in ours and ours.endswith("  current") and re.search(r"\d [MG]iB", ours)
    assert sum("smoke, seed=3, steps=60" in line for line in lines) == 1
    assert " 3/? " in found["00000000"] and found["00000000"].endswith("unknown: nothing says of which config")
    about = of(run)
    assert about.peak == max(run.read(part)[1]["peak_memory_mib"] for part in "abc") > 20
    assert about.seconds == sum(run.read(part)[1]["seconds"] for part in "abc")


def test_parts_of_before_have_no_peak(ra3):
    run = stored()
    for part in "abc":
        values, about = run.read(part)
        run.write(part, values, {name: value for name, value in about.items() if name != "peak_memory_mib"})
    assert of(run).peak is None and run.describe(None)["peak_memory_mib"] is None
    code, lines, _ = ra3("runs", "list")
    assert code == 0 and " -  " in lines[1]


def test_a_run_that_was_stopped_says_what_it_is(ra3, monkeypatch):
    monkeypatch.setenv(fake_experiment.FAIL, "b")
    with pytest.raises(runner.PartFailed):
        stored(fake_experiment.Config(steps=60))
    assert ra3("runs", "list")[1][1].endswith("current, unfinished")
    (found,) = runs.find(Path("runs"), REGISTRY)
    assert list(found.parts) == ["a"] and found.config(REGISTRY)["steps"] == 60
    lock = Lock(next(found.folder.glob("a-*.npz")).with_suffix(".lock"))
    assert lock.take()
    assert ra3("runs", "list")[1][1].endswith("current, at work")
    lock.release()


def test_data_that_no_command_would_read_is_stale(ra3, monkeypatch):
    run = stored()
    monkeypatch.setattr(fake_experiment, "VERSION", 2)
    assert of(run).state(REGISTRY).words == "stale: of version 1, now 2"
    monkeypatch.setattr(fake_experiment, "VERSION", 1)
    assert of(run).state(REGISTRY) == runs.State("current", False, 3)
    assert of(run).state({}).words == "stale: no such experiment any more"
    manifest = json.loads(run.manifest.read_text())
    del manifest["config"]["steps"]
    run.manifest.write_text(json.dumps(manifest))
    assert "stale: of another Config (config: must have the fields" in of(run).state(REGISTRY).words
    # Without its manifest it is still known by its key, as that of a preset.
    run.manifest.unlink()
    assert of(run).state(REGISTRY).stale is False
    other = stored(fake_experiment.Config(seed=9))
    other.manifest.unlink()
    assert of(other).state(REGISTRY) == runs.State("unknown: nothing says of which config", None)


def test_verdicts_on_other_code_are_stale(tmp_path):
    experiment = registry.load("tightness")
    for source, words in ((None, "current, unfinished"), ("other code", "stale: of other code")):
        config = experiment.config_class.preset("smoke")
        run = records.Run(experiment, config if source is None else replace(config, source=source), tmp_path)
        run.begin("a test")
        assert of(run).state(registry.EXPERIMENTS).words == words


def test_an_empty_folder_and_one_that_is_not_there(ra3):
    os.mkdir("runs")
    assert ra3("runs", "list")[1] == ["nothing is stored in runs"]
    for what in (["list"], ["clean"], ["compare", "a", "b"]):
        code, lines, error = ra3("runs", *what, "--runs", "none")
        assert code == 2 and not lines and error.startswith("ra3: error: --runs: no folder none")
    assert "no experiment 'nope'" in ra3("runs", "list", "--experiment", "nope")[2]
    assert ra3("runs")[0] == 2 and ra3("runs", "paint")[2].startswith("ra3: error: ")


def test_runs_of_language_models_are_listed(ra3):
    folder = Path("runs/deep/one")
    (folder / "state").mkdir(parents=True)
    (folder / "config.json").write_text('{"model": "smollm2", "iterations": 4}')
    (folder / "versions.json").write_text('[{"commit": "abcdef0123"}, {"seconds": 61.0, "peak_memory_mib": 512.0}]')
    (folder / "metrics.jsonl").write_text("{}\n{}\n")
    line = ra3("runs", "list")[1][1].split("  ")
    assert [cell.strip() for cell in line if cell][:6] == [
        "deep/one",
        "smollm2",
        "2/4",
        "1 min 01 s",
        "512.0 MiB",
        "1 KiB",
    ]
    assert line[-1] == "unfinished"
    lock = Lock(folder / ".lock")
    assert lock.take() and ra3("runs", "list")[1][1].endswith("at work")
    lock.release()
    (folder / "done").touch()
    (folder / "versions.json").write_text("{")
    assert ra3("runs", "list")[1][1].endswith("done")


def test_a_run_of_a_language_model_says_how_long_and_with_how_much_memory(tmp_path):
    config = Inner()
    for start in range(2):
        folder = RunFolder(tmp_path / "one", config)
        folder.begin("cpu", {"model": "x"})
        time.sleep(0.05)
        folder.metrics([{"iteration": start}])
        (during,) = json.loads((tmp_path / "one" / "versions.json").read_text())
        time.sleep(0.05)
        folder.close()
        (entry,) = json.loads((tmp_path / "one" / "versions.json").read_text())
        assert 0.1 * start + 0.05 <= during["seconds"] <= entry["seconds"] - 0.05
        assert entry["peak_memory_mib"] > 20 and entry["device"] == "cpu"
    folder.close()
    other = RunFolder(tmp_path / "one", config)
    other.begin("cuda", {"model": "x"})
    other.close()
    assert [one["device"] for one in json.loads((tmp_path / "one" / "versions.json").read_text())] == ["cpu", "cuda"]


# -- comparing


def test_two_runs_side_by_side(ra3):
    one, other = stored(), stored(fake_experiment.Config(walks=("b", "a", "d")))
    code, lines, _ = ra3("runs", "compare", one.folder.name[:6], f"fake/{other.folder.name}")
    assert code == 0
    assert "walks" in lines[1] and '["a", "b", "c"]' in lines[1] and '["b", "a", "d"]' in lines[1]
    assert "values: 2 of 2 parts in common are equal bit for bit" in lines
    assert lines[-2:] == [f"only in fake/{one.folder.name[:8]}: c", f"only in fake/{other.folder.name[:8]}: d"]


def test_the_largest_difference_is_named(ra3):
    one, other = stored(), stored(root="others")
    values, about = other.read("b")
    walk = values["walk"].copy()
    walk[3, 2] += 0.25
    other.write("b", values | {"walk": walk, "end": values["end"] + 1e-9}, about | {"seconds": 7.0})
    found = runs_compare.compare(of(one), of(other), REGISTRY)
    assert found.same == ["a", "c"] and found.damaged == [] and found.only == ([], [])
    assert found.different == [runs_compare.Difference("b", "walk", pytest.approx(0.25), 1)]
    code, lines, _ = ra3("runs", "compare", "0", "0", "--runs", "runs", "others")
    assert code == 0 and lines[-1] == "  b: walk differs (by up to 0.25), and 1 other values"
    other.write("b", values | {"note": "other"}, about)
    other.path("c").write_bytes(other.path("c").read_bytes()[:-200])
    found = runs_compare.compare(of(one), of(other), REGISTRY)
    assert found.different == [runs_compare.Difference("b", "note", None, 0)]


def test_distances():
    distance = runs_compare._distance
    a = np.array([1.0, np.nan, np.inf, 0.0])
    assert distance(a, np.array([1.0, np.nan, np.inf, -0.0])) == 0.0  # not the same bits, but no distance
    assert distance(a, np.array([1.5, np.nan, np.inf, 0.0])) == 0.5
    assert distance(a, np.array([1.0, 2.0, np.inf, 0.0])) is None
    assert distance(a, a[:2]) is None and distance(np.array(["a"]), np.array(["b"])) is None
    assert distance(np.array([True]), np.array([False])) == 1.0
    assert runs_compare._differing({"z": np.array([0.0])}, {"z": np.array([-0.0])}) == {"z": 0.0}


def test_names_of_runs_that_do_not_say_which(ra3):
    one, other = stored(), stored(fake_experiment.Config(seed=1))
    for text, message in (("zz", "zz: no such run in runs"), ("fake/", "fake/: several runs begin so: fake/")):
        code, lines, error = ra3("runs", "compare", text, str(one.folder))
        assert code == 2 and not lines and message in error
    assert runs.named(str(other.folder), Path("runs"), REGISTRY).key == other.folder.name
    assert ra3("runs", "compare", "0", "0", "--runs", "runs", "runs", "runs")[0] == 2


# -- cleaning


def old(path: Path, text: bytes = b"half") -> Path:
    path.write_bytes(text)
    os.utime(path, (time.time() - 1000,) * 2)
    return path


def test_what_is_removed_and_what_is_not(ra3, monkeypatch):
    monkeypatch.setattr(fake_experiment, "VERSION", 0)
    stale = stored(fake_experiment.Config(steps=70))
    stale_busy = stored(fake_experiment.Config(steps=80))
    monkeypatch.setattr(fake_experiment, "VERSION", 1)
    run, unknown = stored(), stored(fake_experiment.Config(seed=9))
    unknown.manifest.unlink()
    damaged = run.path("b")
    damaged.write_bytes(damaged.read_bytes()[:-300])
    dead = run.path("c").with_suffix(".lock")
    dead.touch()
    half = old(run.folder / f".{run.path('a').stem}-x1.npz")
    young = run.folder / ".manifest-y2.json"
    young.touch()
    lock = stale_busy.lock("a")
    assert lock.take()
    before = {path for path in Path("runs").rglob("*") if path.is_file()}
    code, lines, _ = ra3("runs", "clean")
    assert code == 0 and lines[-1].startswith("to remove: 4, ") and lines[-1].endswith("; --yes removes them")
    assert {line.split(": ", 1)[1].rpartition(",")[0] for line in lines[:-1]} == {
        "stale: of version 0, now 1", "half written", "damaged: part b", "a lock that nobody holds",
    }  # fmt: skip
    assert {path for path in Path("runs").rglob("*") if path.is_file()} == before
    code, lines, _ = ra3("runs", "clean", "--yes")
    assert code == 0 and lines[-1].startswith("removed: 4, ")
    gone = {damaged, dead, half, *(path for path in before if stale.folder in path.parents)}
    assert {path for path in Path("runs").rglob("*") if path.is_file()} == before - gone
    lock.release()
    assert ra3("runs", "clean", "--yes", "--experiment", "fake")[1][-1].startswith("removed: 1, ")
    assert not stale_busy.folder.exists()


def test_a_lock_that_is_taken_meanwhile_stays(ra3):
    run = stored()
    path = run.path("a").with_suffix(".lock")
    path.touch()
    found = runs_clean.leftovers(Path("runs"), REGISTRY)
    assert [one.path for one in found] == [path]
    lock = run.lock("a")
    assert lock.take()
    runs_clean.remove(found)
    assert path.exists() and run.lock("a").is_taken()
    lock.release()


# -- sweeps


def test_every_combination_and_a_table(ra3):
    command = ["sweep", "fake", "--seeds", "0", "1", "--set", "steps=50,60", 'walks=["a"],["b","c"]']
    code, lines, error = ra3(*command, "--preset", "smoke", "--jobs", "1")
    assert code == 0, error
    assert len(lines) == 10 and lines[-1] == "results: 8 runs in runs/"
    assert all(line.endswith("  current") for line in lines[1:-1])
    found = runs.find(Path("runs"), REGISTRY)
    configs = [one.manifest["config"] for one in found]
    assert sorted((c["seed"], c["steps"], tuple(c["walks"])) for c in configs) == sorted(
        (seed, steps, walks) for seed in (0, 1) for steps in (50, 60) for walks in (("a",), ("b", "c"))
    )
    commands = {one.manifest["command"] for one in found}
    assert """ra3 sweep fake --preset smoke --seeds 1 --set steps=60 'walks=["b","c"]'""" in commands
    assert all(list(one.manifest["parts"]) == one.manifest["config"]["walks"] for one in found)
    assert not Path("paper_figs").exists()


def test_a_run_of_a_sweep_is_that_of_reproduce(ra3, monkeypatch):
    ra3("sweep", "fake", "--preset", "smoke", "--jobs", "1")
    monkeypatch.setenv(fake_experiment.LOG, "log")
    assert ra3("reproduce", "fake", "--preset", "smoke", "--jobs", "1")[0] == 0 and not Path("log").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "no experiment 'nope'"),
        (["fake", "--set", "steps"], "set: field=value,value,... is wanted, got 'steps'"),
        (["fake", "--set", "steps=1", "steps=2"], "set: each field once"),
        (["fake", "--set", "steps=many"], 'steps: "many" is no int'),
        (["fake", "--set", "speed=1"], "speed: no such field"),
        (["fake", "--seeds", "666"], "seed: 666 is taken"),
        (["fake", "--seeds", "-1"], "--seed"),
        (["fake", "--address", "nowhere"], "--address: local, auto, HOST:PORT or ray://HOST:PORT, got 'nowhere'"),
        (["fake", "--any-versions"], "--any-versions: goes with --address"),
    ],
)
def test_bad_sweeps_are_one_line(ra3, arguments, message):
    code, lines, error = ra3("sweep", *arguments)
    assert code == 2 and not lines
    assert error.startswith("ra3: error: ") and error.count("\n") == 1 and message in error


def test_equal_plans_are_computed_once(ra3, monkeypatch):
    monkeypatch.setenv(fake_experiment.LOG, "log")
    plans = sweep.plans(registry.load(fake_experiment.ENTRY), "smoke", [0], [])
    assert len(runner.sweep([*plans, *plans], "runs")) == 2
    assert Path("log").read_text().split() == ["a", "b", "c"]
