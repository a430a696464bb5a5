"""A pretrained model on the standard library: the experiment on a small model of random weights, and on SmolLM2."""

from dataclasses import replace

import numpy as np
import pytest
import tokenizers_made
import torch
from written import rows

from experiments import registry, runner, smollm2, smollm2_figure, smollm2_gains, smollm2_runs, style
from llm.gains import line_log_likelihoods
from llm.lines import Lines
from llm.models import save, smollm2_folder, tiny
from llm.program import assemble

SMOKE = smollm2.Config.preset("smoke")
ENTRY = registry.Entry("smollm2", "SmolLM2", "experiments.smollm2")
METHODS = list(smollm2_runs.variants(SMOKE))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Random weights with a tokenizer made from Python files, as a folder; and a config of the experiment on it."""
    tokenizer = tokenizers_made.gpt2()
    folder = save(tmp_path_factory.mktemp("small") / "model", tiny(len(tokenizer), width=16, layers=1), tokenizer)
    return replace(SMOKE, model=str(folder), corpus="package:asyncio", max_tokens=200, max_lines=10, floor=0.8)


def reproduce(config, folder):
    runner.reproduce([runner.Plan(registry.load(ENTRY), config)], folder / "figs", folder / "runs")
    return folder / "figs"


def check(figs, config):
    table = rows(figs / "smollm2.csv")
    assert [row["model"] for row in table] == ["before", *METHODS]
    for row in table:
        assert float(row["plain low"]) <= float(row["plain high"]) and 0 <= float(row["κ"]) <= 1
        assert float(row["programs"]) == config.measured
    course = rows(figs / "smollm2-course.csv")
    assert [row["method"] for row in course] == [name for name in METHODS for _ in range(config.iterations)]
    for row in course:
        assert float(row["M-step, s of the processor"]) > 0
        assert (row["spread of advantages"] != "") == row["method"].startswith("policy gradient")
        assert (row["effective candidates"] != "") == (row["method"] == "posterior")
        assert (row["κ"] == "") == (row["method"] == "NTP")
    gains = {row["comment"]: row for row in rows(figs / "smollm2-gains.csv")}
    assert len(gains) == 5 and {row["programs"] for row in gains.values()} == {str(config.places)}
    assert len(rows(figs / "smollm2-comments.csv")) == config.places * config.samples
    page = (figs / "smollm2-thoughts.html").read_text()
    assert page.count("<section>") == config.shown * len(table)
    assert (figs / "smollm2.png").stat().st_size > 10_000
    return gains


@pytest.mark.slow
def test_all_of_it_on_a_small_model(small, tmp_path):
    figs = reproduce(small, tmp_path)
    gains = check(figs, small)
    best, mean = (float(gains[name]["gain of the next line, nats"]) for name in ("best of 2", "sampled"))
    assert best >= mean


@pytest.mark.slow
def test_smollm2():
    """On the real model what takes longest is left to the small one: all methods but one, and the pictures."""
    smollm2_folder()
    config, seed = replace(SMOKE, places=4, chunk=4), np.random.SeedSequence(0)
    gains = smollm2.run_part(config, "gains 1", seed, lambda fraction: None)
    found = smollm2.run_part(config, "posterior", seed, lambda fraction: None)
    assert (gains["leak"] - gains["none"]).mean() > 1
    assert np.isfinite(found["loss"]).all() and (found["ess"] >= 1).all() and (found["think"] > 0).all()
    assert (found["marginal"] > 0).all() and len(found["records"]) == config.shown


@pytest.mark.slow
def test_smollm2_learns_nothing_from_an_empty_comment():
    """Before the first line too, where without the path of the file any comment says that a program follows."""
    base = smollm2_runs.base(replace(SMOKE, places=6))
    firsts = [smollm2_gains.from_line(one, 0) for one in base.held_out]
    none, todo, leak = (
        smollm2_gains._given(base, firsts, texts)[:, 0]
        for texts in ([None] * 6, [" TODO"] * 6, [" " + smollm2_gains._texts(base.lines, one)[0] for one in firsts])
    )
    assert (todo - none).mean() < 0.5
    assert (leak - none).mean() > 5


def test_programs_of_one_file_are_on_one_side(small):
    base = smollm2_runs.base(small)
    sides = [{one.about["path"] for one in some} for some in (base.programs, base.held_out)]
    assert not sides[0] & sides[1] and all(sides)
    with pytest.raises(ValueError, match=r"corpus: package:asyncio has \d+ programs that fit, not 5000"):
        smollm2_runs.base(replace(small, programs=5000))


def test_lines_from_a_place_on_are_scored_as_in_the_whole_program():
    tokenizer = tokenizers_made.gpt2()
    lines = Lines(tokenizer)
    module = tiny(len(tokenizer), width=16, seed=3)
    program = lines.program("def f(a):\n    b = a\n\n    if b:\n        return 1\n    return b\n")
    rest = smollm2_gains.from_line(program, 2)
    thought = lines.thought(" one more")
    put = [assemble(program, [None, None, thought, None, None]), assemble(rest, [thought, None, None])]
    assert put[0].ids.tolist() == put[1].ids.tolist()
    # Decisions whether to think stand before the other lines of the whole program, and none do in the rest.
    whole = replace(put[0], marker=np.where(put[0].kind == 3, put[0].marker, -1))
    closing = torch.from_numpy(lines.closing)
    found = line_log_likelihoods(module, [whole, put[1]], closing)
    np.testing.assert_allclose(found[0][2:], found[1], rtol=1e-5)
    assert rest.lengths.tolist() == program.lengths[2:].tolist()


def made_up():
    """Data as parts give them: a leak is worth 5 nats (6 to the end), a sampled comment -1 or 1, other comments 0."""
    config = replace(SMOKE, places=4, chunk=2, iterations=2, measured=3)
    none = np.array([[-8.0, -20.0], [-9.0, -9.0]])
    gains = {name: none + np.array([5, 6]) * (name == "leak") for name in ("none", "leak", "todo", "random")}
    gains |= {"sampled": none[:, None] + np.array([-1.0, 1.0])[:, None], "line": np.array([1, 2])}
    gains |= {"lines": np.array([4, 1]), "tokens": np.ones((2, 2)), "text": [["f.py:f, line 1", " a"]] * 4}
    record = {
        "method": "before", "name": "f.py:f", "sound": True, "thoughts": {}, "prompt": "",
        "lines": [{"code": "x = 1\n", "kappa": 0.1, "log_likelihood": -2.0, "gain": None}],
    }  # fmt: skip
    before = {
        "tokens": np.array([10, 20, 30]), "lines": np.array([2, 2, 3]), "thoughts": np.array([0, 1, 0]),
        "sample_size": np.full(3, 2.0), "line_kappa": np.linspace(0, 0.1, 7), "records": [record],
        **{kind: np.array([20.0, 45.0, 61.0]) for kind in ("plain", "blind", "marginal")},
    }  # fmt: skip
    run = before | {name: np.full(2, np.nan) for name in smollm2_runs.RECORDED}
    run |= {"loss": np.ones(2), "collapsed": np.array([0.0, 1.0]), "think": np.array([0.1, 0.0])}
    run |= {"estep_seconds": np.array([1.0, 2.0]), "mstep_seconds": np.array([0.5, 0.5])}
    ntp = run | {"estep_seconds": np.zeros(2)}
    data = {"gains 1": gains, "gains 2": gains, "before": before}
    return config, data | {name: ntp if name == "NTP" else run for name in METHODS}


def test_the_figure_says_what_the_data_say(tmp_path):
    config, data = made_up()
    data["posterior"] = data["posterior"] | {"plain": data["before"]["plain"] - np.array([10, 20, 30])}
    with style.context():
        smollm2_figure.draw(config, data, tmp_path)
    gains = {row["comment"]: row for row in rows(tmp_path / "smollm2-gains.csv")}
    column = "gain of the next line, nats"
    assert [float(row[column]) for row in gains.values()] == pytest.approx([5, 0, 1, 0, 0])
    assert float(gains["line itself"]["of all to the end, nats per line"]) == pytest.approx(2.4)
    assert float(gains["sampled"]["share above 0.05, next line"]) == 0.5
    table = {row["model"]: row for row in rows(tmp_path / "smollm2.csv")}
    assert float(table["posterior"]["plain change"]) == -1 and float(table["posterior"]["blind change"]) == 0
    assert float(table["posterior"]["plain, nats per token"]) == pytest.approx(66 / 60)
    assert float(table["blind"]["cost, NTP = 1"]) == 4
    assert float(table["blind"]["κ"]) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"places": 3}, "chunk: must divide places = 3"),
        ({"measured": 9}, "places: measured and shown are among these"),
        ({"floor": 1.0}, r"floor: must lie in \[0, 1\)"),
        ({"group": 1}, "group: must be at least 2"),
        ({"iterations": 0}, "iterations: must be at least 1"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMOKE, **change)
