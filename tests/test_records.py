"""Keys, seeds and stored parts; progress and its estimate."""

from __future__ import annotations

import io
import types
from dataclasses import dataclass, replace
from pathlib import Path

import fake_experiment
import numpy as np
import pytest
from rich.console import Console

from experiments import progress, records, registry, runner


@pytest.fixture
def run(tmp_path) -> records.Run:
    return records.Run(registry.load(fake_experiment.ENTRY), fake_experiment.Config(), tmp_path)


def test_values_come_back_as_they_were(run):
    values = {
        "floats": np.array([[0.1, np.nan], [np.inf, -0.0]]),
        "flags": np.array([True, False]),
        "words": np.array(["a", "bc"]),
        "empty": np.zeros((0, 3), np.int32),
        "scalar": np.float64(1 / 3),
        "header": np.arange(3),
        "count": 3,
        "name": "γ̄",
        "nested": {"list": [1, None, 0.1]},
    }
    run.write("a", values, {"seconds": 1.0})
    back, about = run.read("a")
    assert about == {"seconds": 1.0}
    assert back.keys() == values.keys()
    for name, value in values.items():
        if isinstance(value, (np.ndarray, np.generic)):
            np.testing.assert_array_equal(back[name], value, strict=isinstance(value, np.ndarray))
        else:
            assert back[name] == value and type(back[name]) is type(value)
    assert np.signbit(back["floats"][1, 1])


@pytest.mark.parametrize("value", [np.array([object()]), {1, 2}, Path("x")])
def test_values_that_cannot_be_stored(run, value):
    with pytest.raises(TypeError, match="run_part: 'bad' is"):
        run.write("a", {"bad": value}, {})


def test_every_damage_is_noticed(run):
    """Any byte of the file changed, or the end missing: an error, or the very same values; never other values."""
    run.write("a", {"x": np.arange(4.0), "note": "n"}, {"seconds": 0.0})
    path = run.path("a")
    good = path.read_bytes()
    unnoticed = 0
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :])
        try:
            values, about = run.read("a")
        except records.DamagedPart:
            continue
        unnoticed += 1
        assert np.array_equal(values["x"], np.arange(4.0)) and values["note"] == "n" and about == {"seconds": 0.0}
    # Zip files hold some fields that nobody reads (dates, attributes).
    assert unnoticed < len(good) / 3
    for length in range(0, len(good), 7):
        path.write_bytes(good[:length])
        with pytest.raises(records.DamagedPart, match=r"truncated or not a file of this project"):
            run.read("a")


def test_a_part_in_the_wrong_place_is_not_believed(run):
    run.write("a", {"x": np.arange(3)}, {})
    run.path("b").write_bytes(run.path("a").read_bytes())
    with pytest.raises(records.DamagedPart, match="belongs to another run"):
        run.read("b")
    with pytest.raises(FileNotFoundError):
        run.read("c")


def test_the_key_depends_on_everything_that_defines_the_data(run):
    others = [
        run,
        replace(run, config=fake_experiment.Config(seed=1)),
        replace(run, config=fake_experiment.Config(walks=("a",))),
        replace(run, experiment=replace(run.experiment, version=2)),
        replace(run, experiment=replace(run.experiment, entry=registry.Entry("other", "", "fake_experiment"))),
    ]
    assert len({other.path("a").name for other in others}) == len({other.folder.name for other in others}) == 5
    # Part names that look the same as file names still have files of their own.
    assert len({run.path(part) for part in ("a b", "a-b", "A b", "../a b", "")}) == 5
    assert all(run.path(part).parent == run.folder for part in ("../a", "/a"))


def test_the_key_is_the_same_on_every_machine():
    assert records.key("fake", {"b": [1, None], "a": 0.1}, 1) == records.key("fake", {"a": 0.1, "b": (1, None)}, 1)
    # Written down once: another value means that nobody finds their stored data again.
    assert records.key("fake", {"a": 0.1}, 1) == "665a09b5468c4cf3"


def test_seeds_differ_by_experiment_part_and_seed_alone():
    draw = lambda *what: np.random.default_rng(records.seed_of(*what)).integers(2**63)  # noqa: E731
    cases = [("x", 0, "a"), ("y", 0, "a"), ("x", 1, "a"), ("x", 0, "b")]
    assert len({draw(*case) for case in cases}) == 4
    assert draw("x", 0, "a") == draw("x", 0, "a")


def test_configs_that_json_cannot_hold():
    @dataclass(frozen=True)
    class Odd:
        seed: int = 0
        what: object = object()

    with pytest.raises(TypeError):
        records.as_json(Odd())


def test_provenance_names_the_commit():
    about = records.provenance()
    assert about["versions"]["numpy"] == np.__version__
    assert about["commit"] is None or (len(about["commit"]) == 40 and isinstance(about["dirty"], bool))


def module(**changes) -> types.SimpleNamespace:
    names = ("VERSION", "Config", "parts", "run_part", "figure")
    return types.SimpleNamespace(**{**{n: getattr(fake_experiment, n) for n in names}, **changes})


def test_modules_that_break_the_contract(monkeypatch):
    def load(found):
        monkeypatch.setattr(registry.importlib, "import_module", lambda _: found)
        return registry.load(fake_experiment.ENTRY)

    assert load(module()).version == 1
    broken = module()
    del broken.figure
    with pytest.raises(TypeError, match="fake_experiment: defines no figure"):
        load(broken)
    for config in (dict, dataclass(type("Config", (), {"seed": 0})), dataclass(frozen=True)(type("Config", (), {}))):
        with pytest.raises(TypeError, match="Config must be a frozen dataclass with a field `seed`"):
            load(module(Config=config))


@pytest.mark.parametrize("walks", [(), ("a", "a"), (1,)])
def test_bad_lists_of_parts(tmp_path, walks):
    plan = runner.Plan(registry.load(fake_experiment.ENTRY), fake_experiment.Config(walks=walks))
    with pytest.raises(TypeError, match="parts must be strings, at least one, each once"):
        runner.reproduce([plan], tmp_path / "out", tmp_path / "runs")


def test_one_experiment_twice_in_one_call(tmp_path):
    plan = runner.Plan(registry.load(fake_experiment.ENTRY), fake_experiment.Config())
    with pytest.raises(ValueError, match="plans: one experiment stands twice"):
        runner.reproduce([plan, plan], tmp_path / "out", tmp_path / "runs")


def ticker(total: int, terminal: bool = False):
    now = [0.0]
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    return progress.Ticker(total, console, lambda: now[0]), now, console.file


def test_plain_lines_come_with_parts_and_not_too_often():
    shown, now, file = ticker(4)
    with shown:
        shown.update(0, "x a")
        now[0] = 10.0
        shown.update(0.5, "x a")  # nothing finished, 10 s: quiet
        now[0] = 20.0
        shown.update(1, "x a")
        now[0] = 36.0
        shown.update(1.5, "x b")
        shown.update(4, "x d")
    assert file.getvalue().splitlines() == [
        "1 of 4 parts, x a: 20 s gone, about 1 min 00 s left",
        "1 of 4 parts, x b: 36 s gone, about 1 min 00 s left",
        "4 of 4 parts, x d: 36 s gone, done",
    ]


def test_bar_on_a_terminal():
    shown, now, file = ticker(4, terminal=True)
    with shown:
        now[0] = 20.0
        shown.update(1, "x [a]")
        shown._bar.refresh()
    assert "1 of 4 parts" in file.getvalue() and "about 1 min 00 s left" in file.getvalue()
    assert "x [a]" in file.getvalue()
