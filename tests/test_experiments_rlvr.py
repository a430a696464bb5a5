"""RLVR on LineWorld: pictures and claims on made-up data, and the smoke run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from written import rows

from experiments import midtrain_runs, registry, rlvr, rlvr_results, runner, style
from experiments.rlvr_results import METHODS, QUANTITIES, Results
from llm.lineworld import LineWorldText
from ra3sim.envs.lineworld import LineWorld

CONFIG = rlvr.Config(seeds=4, steps=40, measure_every=10, threshold=0.5)
# pass@1 at first and in the end.
LEVELS = {
    "base": (0.0, 0.0), "NTP": (0.3, 0.6), "blind": (0.1, 0.3), "RA3, published": (0.3, 0.6), "RA3, split": (0.3, 0.8),
    "RA3, posterior": (0.7, 0.95), "oracle": (0.95, 0.99),
}  # fmt: skip


def made_up(config=CONFIG, levels=LEVELS):
    """Straight curves, a little different from seed to seed."""
    data = {}
    for part in rlvr.parts(config):
        name, _, k = part.rpartition(", seed ")
        method = name.rpartition(", rate ")[0]
        first, last = levels[method]
        measured, steps = np.arange(0, config.steps + 1, config.measure_every), np.arange(1, config.steps + 1)
        wobble = 0.01 * int(k) * (method != "base")
        curve = lambda x, first=first, last=last, w=wobble: first + (last - first) * x / config.steps + w  # noqa: E731
        reward = curve(steps)
        data[part] = {
            "measured": measured, "pass@1": curve(measured), "pass@4": 0.5 + 0.5 * curve(measured), "reward": reward,
            "no spread": 1 - reward * (1 - reward), "all failed": 1 - reward, "all passed": reward, "entropy": reward,
            "tokens": reward, "cut off": reward,
        }  # fmt: skip
    return data


def judged(levels=LEVELS, config=CONFIG):
    """Verdicts by claim."""
    claims = rlvr_results.claims(Results(config, made_up(config, levels)))
    return {row[0]: row[-2] for row in rlvr_results.judge(claims)}


def test_everything_is_drawn_and_tabled(tmp_path):
    data = made_up()
    with style.context():
        paths = rlvr.figure(CONFIG, data, tmp_path)
    assert {path.name for path in paths} == {path.name for path in tmp_path.iterdir()}
    table = rows(tmp_path / "rlvr-table.csv")
    assert [(row["checkpoint"], row["rate"]) for row in table] == [
        *((method, "0.001") for method in METHODS), *((method, "0.0003") for method in METHODS[1:]),
    ]  # fmt: skip
    ntp = next(row for row in table if row["checkpoint"] == "NTP")
    assert ntp["pass@1 at first"].startswith("0.31 [") or ntp["pass@1 at first"].startswith("0.32 [")
    curves = [row for row in rows(tmp_path / "rlvr.csv") if row["checkpoint"] == "NTP" and row["rate"] == "0.001"]
    assert [row["step"] for row in curves if row["quantity"] == "pass@4"] == ["0", "10", "20", "30", "40"]
    assert len([row for row in curves if row["quantity"] == "reward"]) == 40
    assert all(float(row["low"]) <= float(row["IQM"]) <= float(row["high"]) for row in curves)
    claims = rows(tmp_path / "rlvr-claims.csv")
    assert {row["command"] for row in claims} == {"ra3 reproduce rlvr"}
    assert len({row["claim"] for row in claims}) == len(claims)


def test_what_is_computed_from_curves():
    results = Results(CONFIG, made_up())
    wobble = 0.01 * np.arange(4)
    assert results.of("NTP", "pass@1 at first") == pytest.approx(0.3 + wobble)
    assert results.of("NTP", "pass@1 in the end") == pytest.approx(0.6 + wobble)
    assert results.of("NTP", "pass@4 in the end") == pytest.approx(0.8 + wobble / 2)
    assert results.of("NTP", "pass@1, mean over the course") == pytest.approx(0.45 + wobble)
    assert results.of("NTP", "rise of the mean over the first") == pytest.approx(0.15)
    # .3 + .3 x / 40 = .5 where x = 26.7; the base never gets there, and the oracle is there before the first step.
    assert results.of("NTP", "steps to the threshold") == pytest.approx((0.2 - wobble) * 40 / 0.3)
    assert (results.of("base", "steps to the threshold") == 40).all()
    assert (results.of("oracle", "steps to the threshold") == 0).all()
    assert results.of("NTP", "reward at first") == pytest.approx(0.3 + 0.3 * 5.5 / 40 + wobble)
    assert results.of("NTP", "groups all failed in the end") == pytest.approx(0.7 - 0.3 * 35.5 / 40 - wobble)
    assert results.other().rate == 3e-4 and results.other().methods == list(METHODS[1:])
    assert Results(replace(CONFIG, other_rate=None), made_up()).other() is None


GOOD = {
    "RA3, posterior: RLVR starts higher than after NTP": "holds",
    "RA3, posterior: RLVR learns faster than after NTP (area under the curve)": "holds",
    "RA3, posterior: RLVR learns faster than after NTP (steps to pass@1 of 0.5)": "holds",
    "RA3, posterior: RLVR adds more than after NTP (its start taken off)": "not reproduced",
    "RA3, posterior: RLVR ends higher than after NTP": "holds",
    "RA3, posterior: RLVR keeps the distance to NTP (it does not shrink)": "not reproduced",
    "RA3, split: RLVR starts higher than after NTP": "not reproduced",
    "RA3, split: RLVR ends higher than after NTP": "holds",
    "RA3, published: RLVR ends higher than after NTP": "not reproduced",
    "RLVR raises held-out pass@1, whatever it starts from": "holds in part",
    "from the base there is nothing to learn from: no program passes": "holds",
    "the base learns nothing": "holds",
    "blind thoughts do not help RLVR (end)": "holds",
    "RA3, posterior: RLVR closes the distance to the oracle": "holds",
}


def test_claims_follow_the_data():
    found = judged()
    assert {claim: found[claim] for claim in GOOD} == GOOD


@pytest.mark.parametrize(
    ("change", "claims"),
    [
        (
            {"RA3, posterior": (0.2, 0.9)},
            {
                "RA3, posterior: RLVR starts higher than after NTP": "not reproduced",
                "RA3, posterior: RLVR adds more than after NTP (its start taken off)": "holds",
                "RA3, posterior: RLVR keeps the distance to NTP (it does not shrink)": "holds",
                "RA3, posterior: RLVR closes the distance to the oracle": "not reproduced",
            },
        ),
        (
            {"NTP": (0.3, 0.98), "base": (0.0, 0.5)},
            {
                "RA3, posterior: RLVR ends higher than after NTP": "not reproduced",
                "the base learns nothing": "not reproduced",
                "from the base there is nothing to learn from: no program passes": "holds",
            },
        ),
        ({"blind": (0.1, 0.9)}, {"blind thoughts do not help RLVR (end)": "not reproduced"}),
    ],
)
def test_other_data_turn_the_verdicts(change, claims):
    found = judged({**LEVELS, **change})
    assert {claim: found[claim] for claim in claims} == claims


def test_a_second_rate_can_split_a_verdict():
    data = made_up()
    for k in range(CONFIG.seeds):
        data[f"NTP, rate 0.0003, seed {k}"] = data[f"oracle, rate 0.001, seed {k}"]
    found = {row[0]: row[-2] for row in rlvr_results.judge(rlvr_results.claims(Results(CONFIG, data)))}
    assert found["RA3, posterior: RLVR ends higher than after NTP"] == "holds in part"


def test_parts_and_settings():
    parts = rlvr.parts(rlvr.Config())
    assert len(parts) == len(set(parts)) == 5 * (2 * len(METHODS) - 1)
    assert all("seed 0" in part for part in parts[: 2 * len(METHODS) - 1])
    for change, message in (
        ({"seeds": 1}, "seeds: must be at least 2"),
        ({"methods": ("NTP", "magic")}, "methods: must be some of"),
        ({"methods": ("base",)}, "methods: 'NTP' is what all are compared with"),
        ({"measure_every": 7}, "measure_every: must divide steps"),
        ({"other_rate": CONFIG.rate}, "other_rate: must differ from rate"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(CONFIG, **change)
    # Every checkpoint is one of mid-training's.
    assert set(rlvr._VARIANTS) == set(METHODS) - {"base"}
    assert set(rlvr._VARIANTS.values()) <= set(midtrain_runs.VARIANTS)


def test_quantities_have_data():
    results = Results(CONFIG, made_up())
    assert all(results.of("NTP", quantity).shape == (4,) for quantity in QUANTITIES)


@pytest.mark.slow
def test_smoke(tmp_path, monkeypatch):
    monkeypatch.setenv("RA3SIM_CACHE", str(tmp_path / "cache"))
    config = rlvr.Config.preset("smoke")
    plan = runner.Plan(registry.load("rlvr"), config)
    runner.reproduce([plan], tmp_path / "figs", tmp_path / "runs")
    numbers = rows(tmp_path / "figs" / "rlvr.csv")
    assert {row["checkpoint"] for row in numbers} == set(config.methods)
    assert {float(row["rate"]) for row in numbers} == {config.rate, config.other_rate}
    shares = [row for row in numbers if row["quantity"].startswith(("pass@", "reward", "groups"))]
    assert shares and all(0 <= float(row[name]) <= 1 for row in shares for name in ("IQM", "low", "high"))
    assert (tmp_path / "figs" / "rlvr.png").stat().st_size > 10_000
    # Checkpoints are made once, and are what mid-training makes.
    cached = sorted(path.name for path in (tmp_path / "cache").iterdir() if path.is_dir())
    assert [name.rpartition("-")[0] for name in cached] == ["lineworld-base"] * 2 + ["lineworld-trained"] * 4
    text = LineWorldText(LineWorld.preset("text", seed=0))
    variant = midtrain_runs.VARIANTS["NTP"]
    module = midtrain_runs.base(config.base, text, 0)
    midtrain_runs.train(variant, module, text, config.experts, config.budget, 0)
    kept = midtrain_runs.trained(variant, config.base, text, config.experts, config.budget, 0).state_dict()
    assert all((weight == kept[name]).all() for name, weight in module.state_dict().items())
    assert sorted(path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()) == cached
    # Where the first measurement begins is the checkpoint itself.
    part = rlvr.parts(config)[0]
    found = runner.compute(plan, tmp_path / "runs")[part]
    tasks = text.world.held_out_tasks(config.held_out, 0)
    assert abs(text.pass_rate(midtrain_runs.base(config.base, text, 0), tasks, 0).mean() - found["pass@1"][0]) < 0.5
