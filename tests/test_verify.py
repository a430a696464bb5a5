"""The `ra3 verify` command and the figure of tightness."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from written import rows

import theory
from experiments import cli, records, registry, runner, tightness
from theory import instances
from theory.verify import Budget

PAIR = ("contraction", "pitfall-rate")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("verify")


@pytest.fixture
def ra3(folder, capsys):
    def call(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(["verify", "--out", str(folder / "out"), "--runs", str(folder / "runs"), *arguments])
        return code, *capsys.readouterr()

    return call


def test_chosen_statements_are_checked_and_written(ra3, folder):
    code, shown, _ = ra3(*PAIR, "--budget", "small", "--jobs", "1")
    assert code == 0
    assert all(word in shown for word in ("contraction", "pitfall-rate", "holds", "rational", "falsifier's"))
    table = rows(folder / "out" / "verify-selected.csv")
    assert [row["statement"] for row in table] == ["contraction", "pitfall-rate (=)"]
    for row in table:
        assert row["verdict"] == "holds" and float(row["tight family"]) == pytest.approx(1, abs=1e-6)
        assert int(row["tried"]) >= 1000 and float(row["overstated twin"]) > 1
        assert float(row["largest ratio"]) <= float(row["falsifier's best"]) + 1e-12 <= 1 + 1e-6
    about = json.loads((folder / "out" / "verify-selected.json").read_text())
    assert about["budget"] == "small" and about["seed"] == 0 and about["versions"]["python-flint"]
    assert [one["claim"] for one in about["statements"]] == [s.claim for s in theory.find(PAIR)]
    assert "| 3.1 | contraction |" in (folder / "out" / "verify-selected.md").read_text()
    assert not (folder / "out" / "verify.csv").exists()


def test_the_falsifiers_instances_can_be_loaded(ra3, folder):
    ra3(*PAIR, "--budget", "small", "--jobs", "1")
    found = instances.load(folder / "out" / "verify-selected-instances.npz")
    for row in rows(folder / "out" / "verify-selected.csv"):
        one = theory.statements()[row["statement"].removesuffix(" (=)")]
        best, twin = (found[f"{one.name}, {which}"] for which in ("best", "twin"))
        assert one.ratio(best) == pytest.approx(float(row["falsifier's best"]), rel=1e-5)
        assert one.holds(best) and not one.twin().holds(twin)


def test_it_is_computed_once_for_the_same_code(ra3, monkeypatch):
    ra3(*PAIR, "--budget", "small", "--jobs", "1")

    def verify(*_):
        raise RuntimeError("computed again")

    monkeypatch.setattr(tightness, "verify", verify)
    assert ra3(*PAIR, "--budget", "small", "--jobs", "1")[0] == 0
    monkeypatch.setattr(records, "source_digest", lambda *_: "other code")
    code, _, error = ra3("contraction", "--budget", "small", "--jobs", "1")
    assert code == 1 and "computed again" in error


@pytest.mark.slow
def test_fresh_checks_again_and_the_seed_and_budget_arrive(ra3, monkeypatch):
    asked = []

    def verify(one, budget, seed, true=tightness.verify):
        asked.append((one.name, budget, seed))
        return true(one, Budget(64, 1, 1, 8, 8, 1, 2, False), seed)

    monkeypatch.setattr(tightness, "verify", verify)
    # Code that nobody else has stored verdicts on.
    monkeypatch.setattr(records, "source_digest", lambda *_: "code of this test")
    for arguments, times in (((), 1), ((), 1), (("--fresh",), 2), (("--seed", "1"), 3)):
        assert ra3("contraction", "--budget", "full", "--jobs", "1", *arguments)[0] in (0, 1)
        assert len(asked) == times
    assert {one[:2] for one in asked} == {("contraction", "full")}
    # The same seed gives the same numbers, another one others.
    assert asked[0] == asked[1] != asked[2]


def test_a_statement_that_fails_ends_with_status_1(ra3, monkeypatch, tmp_path):
    one = theory.statements()["pitfall-rate"]
    wrong = replace(one, bound_side=lambda xp, i: 2 * i["discount"])
    monkeypatch.setattr(theory, "statements", lambda: {"pitfall-rate": wrong})
    # In a folder of its own: stored verdicts stand for the code, which knows nothing of this one.
    code, shown, error = ra3("--budget", "small", "--jobs", "1", "--runs", str(tmp_path))
    assert code == 1 and "FAILS" in shown and "false of the random instance" in shown
    assert "1 of 1 statements fail: pitfall-rate" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such"], "no statement 'no-such'; known are: regret-decomposition"),
        (["--seed", "-1"], "--seed: at least 0"),
        (["--jobs", "0"], "--jobs: at least 1"),
        (["--budget", "huge"], "budget"),
    ],
)
def test_bad_input_is_one_line(ra3, arguments, message):
    code, shown, error = ra3(*arguments)
    assert code == 2 and shown == "" and error.count("\n") == 1 and message in error


@pytest.mark.slow
def test_everything_is_verified_within_the_small_budget(ra3, folder):
    code, _, error = ra3("--budget", "small")
    assert code == 0, error
    table = rows(folder / "out" / "verify.csv")
    assert [row["statement"].removesuffix(" (=)") for row in table] == list(theory.statements())
    assert {row["verdict"] for row in table} == {"holds"}


def test_the_figure_of_tightness(folder):
    config = tightness.Config(PAIR, "small")
    plan = runner.Plan(registry.load("tightness"), config, "a test")
    written = {path.name for path in runner.reproduce([plan], folder / "figure", folder / "runs", 1, False)}
    assert written == {"tightness.csv", "tightness.pdf", "tightness.png", "tightness.json"}
    table = rows(folder / "figure" / "tightness.csv")
    assert [row["statement"] for row in table] == list(PAIR)
    for row in table:
        assert float(row["random median"]) <= float(row["random 95 %"]) <= float(row["random largest"]) <= 1 + 1e-6
    with pytest.raises(ValueError, match="budget: must be one of small, full"):
        tightness.Config(budget="huge")


@pytest.mark.slow
def test_a_damaged_verdict_is_computed_again_and_said_to_be(ra3, folder):
    ra3("contraction", "--budget", "small", "--jobs", "1")
    for stored in (folder / "runs" / "tightness").rglob("contraction-*.npz"):
        stored.write_bytes(stored.read_bytes()[:100])
    code, shown, error = ra3("contraction", "--budget", "small", "--jobs", "1")
    assert code == 0 and "holds" in shown and "'contraction' is damaged and computed again" in error


def test_verdicts_belong_to_the_code_that_they_are_of(tmp_path, monkeypatch):
    assert tightness.Config().source == records.source_digest("theory", "ra3sim")
    assert len({records.source_digest(*packages) for packages in (("theory",), ("ra3sim",), ("theory", "ra3sim"))}) == 3
    (tmp_path / "theory").mkdir()
    monkeypatch.setattr(records, "ROOT", tmp_path)
    digests = []
    for text in ("x = 1", "x = 2"):
        (tmp_path / "theory" / "bound.py").write_text(text)
        records.source_digest.cache_clear()
        digests.append(records.source_digest("theory"))
    records.source_digest.cache_clear()
    assert digests[0] != digests[1]
