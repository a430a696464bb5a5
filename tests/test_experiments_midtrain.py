"""Mid-training on LineWorld: pictures and claims on made-up data, and the smoke run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from written import rows

from experiments import midtrain, midtrain_claims, midtrain_figure, registry, runner, style
from experiments.midtrain_claims import Claim
from experiments.midtrain_results import PASS, QUANTITIES, Results, number
from experiments.midtrain_runs import ABLATIONS, VARIANTS
from experiments.verdicts import side, verdict
from ra3sim.spread import Interval

CONFIG = midtrain.Config(
    seeds=3, few_seeds=2, sizes=(20, 50, 200), size=50, prices=(0.0, 8.0), candidates=(2,),
    budget=midtrain.Budget(rounds=3, track=1),
)  # fmt: skip
# pass@1, marginal NLL and share of lines thought about where N = 50; other variants are the recipe they change, worse.
LEVELS = {
    "NTP": (0.3, 0.5, 0.0),
    "NTP, stopped early": (0.2, 0.7, 0.0),
    "NTP, strong decay": (0.25, 0.6, 0.0),
    "dummy": (0.2, 0.8, 0.33),
    "blind": (0.1, 0.6, 0.1),
    "policy gradient, published": (0.28, 0.55, 0.0),
    "policy gradient, split": (0.6, 0.2, 0.3),
    "posterior": (0.8, 0.05, 0.32),
    "oracle": (0.95, 0.01, 0.33),
}
IGNORES = ("NTP", "NTP, stopped early", "NTP, strong decay", "dummy", "blind", "policy gradient, published")


def made_up(config=CONFIG, levels=LEVELS):
    """What the runs might have found: a little different in each repetition, all keys, some only with thoughts."""
    found = []
    for spec in midtrain.specs(config):
        recipe = "policy gradient, split" if spec.variant.method == "ra3-split" else "posterior"
        passed, marginal, think = levels.get(spec.name, levels[recipe])
        if spec.name not in VARIANTS:
            passed, marginal = passed - 0.2, marginal + 0.1
        if spec.study == "deaf base":
            passed, marginal = (0.6 if spec.name == "oracle" else 0.05), marginal + 0.5
        closing = 1 if spec.size <= config.size else 10
        passed, marginal = 1 - (1 - passed) / closing, marginal / closing
        wobble = 0.01 * spec.repetition / closing
        data = {name: 0.5 for name in QUANTITIES if name not in ("own", "dummy", "other", "leak")}
        data |= {
            PASS: passed + wobble, "marginal": marginal + wobble, "blind": 0.3 + 0.1 * (marginal < 0.3), "think": think,
            "thoughts think": 3 * think, "thoughts obeys": 0.1 if spec.name in IGNORES else 0.9,
        }  # fmt: skip
        if think:
            data |= {"own": 1.0, "other": -2.0, "dummy": -1.0, "leak": 0.1}
            data |= {"thoughts right": 0.9, "thoughts information": 2.2}
        else:
            del data["thoughts right"], data["thoughts information"]
        names = ("think", "loss", "kept", "fit_seconds")
        names += tuple(f"track {name}" for name in ("plain", "blind", "marginal"))
        data["history"] = {name: [1.0, 0.5, data.get(name.removeprefix("track "), np.nan)] for name in names}
        found.append((spec, data))
    return found


def judged(levels=LEVELS, config=CONFIG):
    """Verdicts by claim."""
    claims = midtrain_claims.claims(Results(made_up(config, levels)), config)
    return {row[0]: row[-2] for row in midtrain_claims.judge(claims)}


def test_everything_is_drawn_and_tabled(tmp_path):
    with style.context():
        paths = midtrain_figure.draw(CONFIG, made_up(), tmp_path)
    assert {path.name for path in paths} == {path.name for path in tmp_path.iterdir()}
    pictures = {"midtrain", "midtrain-ingredients", "midtrain-sweeps"}
    assert {path.stem for path in paths if path.suffix == ".png"} == pictures
    table = rows(tmp_path / "midtrain-table.csv")
    cells = {(spec.study, spec.name, spec.size) for spec in midtrain.specs(CONFIG)}
    assert {(row["study"], row["variant"], int(row["N"])) for row in table} == cells and len(table) == len(cells)
    ntp, posterior = (
        next(row for row in table if row["study"] == "methods" and row["variant"] == name)
        for name in ("NTP", "posterior")
    )
    assert posterior[PASS].startswith("0.81 [") and posterior["seeds"] == "3"
    assert ntp["thoughts right"] == "" and posterior["thoughts right"] == "0.90 [0.90, 0.90]"
    numbers = {
        (row["study"], row["variant"], row["N"], row["quantity"]): row for row in rows(tmp_path / "midtrain.csv")
    }
    found = numbers["methods", "posterior", "50", PASS]
    assert float(found["mean"]) == pytest.approx(0.81) and float(found["low"]) < 0.81 < float(found["high"])
    left_out = rows(tmp_path / "midtrain-ingredients.csv")
    assert [row["changed"] for row in left_out] == list(ABLATIONS)
    assert {row[f"{PASS}: full − changed"] for row in left_out} == {"0.20 [0.20, 0.20]"}
    claims = rows(tmp_path / "midtrain-claims.csv")
    assert {row["command"] for row in claims} == {"ra3 reproduce midtrain"}
    assert len({row["claim"] for row in claims}) == len(claims) > 2 * len(ABLATIONS)


GOOD = {
    "RA3 (posterior) beats NTP in held-out pass@1 with few experts": "holds",
    "RA3 (policy gradient, published) beats NTP in held-out pass@1 with few experts": "not reproduced",
    "the gap in pass@1 between posterior and NTP closes as experts grow": "holds",
    "the posterior beats NTP in pass@1 however many experts there are": "holds",
    "the posterior beats NTP in greedy pass@1 however many experts there are": "not reproduced",
    "regularised NTP does not close the gap to the posterior in pass@1": "holds",
    "the posterior reaches the pass@1 of a first trial": "holds",
    "the policy gradient as published collapses": "holds",
    "posterior and split policy gradient do not collapse": "holds",
    "split credit beats joint credit, all else equal": "holds",
    "the posterior beats the split policy gradient": "holds",
    "dummy comments do not help": "holds",
    "cross-entropy given blind comments misranks methods": "holds",
    "the marginal ranks methods as pass@1 does, better than the cross-entropy given blind comments": "holds",
    "thoughts name the true skill (posterior)": "holds",
    "blind samples make the code ignore its comments": "holds",
    "a base that can't read the task can't bootstrap: the posterior is no better than NTP": "holds",
    "the price c of a thought does little": "not reproduced",
    "more candidates help": "holds",
    "the full recipe (posterior) is better than “posterior, no filter” in pass@1": "holds",
}


def test_claims_follow_the_data():
    found = judged()
    assert {claim: found[claim] for claim in GOOD} == GOOD


@pytest.mark.parametrize(
    ("change", "claims"),
    [
        (
            {"posterior": (0.31, 0.51, 0.0002)},
            {
                "RA3 (posterior) beats NTP in held-out pass@1 with few experts": "holds",
                "RA3 (posterior) beats NTP in held-out marginal likelihood with few experts": "not reproduced",
                "the posterior reaches the pass@1 of a first trial": "not reproduced",
                "the posterior beats the split policy gradient": "not reproduced",
                "posterior and split policy gradient do not collapse": "holds in part",
            },
        ),
        (
            {"policy gradient, published": (0.7, 0.1, 0.2), "dummy": (0.5, 0.3, 0.33)},
            {
                "the policy gradient as published collapses": "not reproduced",
                "split credit beats the published policy gradient": "not reproduced",
                "dummy comments do not help": "not reproduced",
            },
        ),
        (
            {"NTP, strong decay": (0.9, 0.01, 0.0)},
            {"regularised NTP does not close the gap to the posterior in pass@1": "holds in part"},
        ),
    ],
)
def test_other_data_turn_the_verdicts(change, claims):
    found = judged({**LEVELS, **change})
    assert {claim: found[claim] for claim in claims} == claims


def test_a_fair_ranking_is_not_called_unfair():
    config = CONFIG
    fair = [(spec, {**data, "blind": data["marginal"]}) for spec, data in made_up(config)]
    found = midtrain_claims.judge(midtrain_claims.claims(Results(fair), config))
    (misranks,) = (row for row in found if row[0] == "cross-entropy given blind comments misranks methods")
    assert misranks[-2] == "not reproduced" and misranks[4] == ""
    tied = [(spec, {**data, PASS: 0.0}) for spec, data in fair]
    found = midtrain_claims.judge(midtrain_claims.claims(Results(tied), config))
    assert not [row for row in found if row[0].startswith("the marginal ranks methods") or "nan" in row[4]]


def test_intervals_decide():
    at = lambda low, high: Interval(np.array(0.0), np.array(low), np.array(high))  # noqa: E731
    assert [side(at(*ends), 0, np.inf) for ends in ((0.1, 0.2), (-0.1, 0.1), (-0.2, -0.1))] == [1, 0, -1]
    assert [side(at(*ends), -0.1, 0.1) for ends in ((-0.05, 0.05), (0.05, 0.2), (0.2, 0.3))] == [1, 0, -1]
    assert [verdict(sides) for sides in ([1, 1], [1, 0], [0, 0], [0, -1])] == [
        "holds", "holds in part", "not decided", "not reproduced",
    ]  # fmt: skip
    assert verdict([], one=True) == "not reproduced" and verdict([1, -1], one=True) == "holds"


def test_what_was_not_measured_is_left_out():
    claims = [Claim("a", "", "", {"": [1.0]}), Claim("b", "", "", {"": {}}), Claim("c", "", "", {"": [1.0, 1.1]})]
    assert [row[0] for row in midtrain_claims.judge(claims)] == ["c"]


def test_differences_are_paired():
    results = Results(made_up())
    # Repetitions differ by far more than these differences do.
    assert results.ingredient("split, no filter", 50, PASS) == pytest.approx([0.2, 0.2])
    assert number(-0.0) == "0.00"


def test_parts_and_settings():
    parts = midtrain.parts(midtrain.Config.preset("full"))
    assert len(parts) == 5 * (len(VARIANTS) + 3 * 3) + 3 * (3 + 4 + 4 + len(ABLATIONS))
    assert all("seed 0" in part for part in parts[: len(parts) // 5])
    for change, message in (
        ({"seeds": 1}, "seeds: must be at least 2"),
        ({"few_seeds": 9}, "few_seeds: must be at most"),
        ({"size": 7}, "size: must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(CONFIG, **change)


@pytest.mark.slow
def test_smoke(tmp_path, monkeypatch):
    monkeypatch.setenv("RA3SIM_CACHE", str(tmp_path / "cache"))
    config = midtrain.Config.preset("smoke")
    runner.reproduce([runner.Plan(registry.load("midtrain"), config)], tmp_path / "figs", tmp_path / "runs")
    numbers = rows(tmp_path / "figs" / "midtrain.csv")
    assert all(np.isfinite(float(row[name])) for row in numbers for name in ("mean", "low", "high"))
    assert {row["variant"] for row in numbers if row["study"] == "methods"} == set(VARIANTS)
    shares = [float(row["mean"]) for row in numbers if "@" in row["quantity"] or row["quantity"] == "thoughts obeys"]
    assert shares and all(0 <= share <= 1 for share in shares)
    assert all(float(row["mean"]) > 0 for row in numbers if row["quantity"] in ("plain", "blind", "marginal"))
    verdicts = {row["verdict"] for row in rows(tmp_path / "figs" / "midtrain-claims.csv")}
    assert verdicts <= {"holds", "holds in part", "not decided", "not reproduced"}
    assert (tmp_path / "figs" / "midtrain.png").stat().st_size > 10_000
    assert not list((tmp_path / "figs").glob("midtrain-ingredients.*"))  # there are none to leave out
    assert len(list((tmp_path / "cache").glob("lineworld-base-*.lock"))) == 2 * config.seeds
