"""Mid-training and the learning after it: the smoke run, what its tables say, and how claims are judged."""

from dataclasses import replace

import numpy as np
import pytest
from written import rows

from experiments import posttraining, posttraining_figure, registry, runner
from experiments.posttraining_figure import World, halves
from experiments.verdicts import side, verdict
from ra3sim.spread import Interval


@pytest.mark.slow
def test_posttraining(tmp_path):
    config = posttraining.Config.preset("smoke")
    plan = runner.Plan(registry.load("posttraining"), config)
    runner.reproduce([plan], tmp_path / "figs", tmp_path / "runs")
    found = rows(tmp_path / "figs" / "posttraining.csv")
    ways = len(posttraining.PRUNERS) + 2
    assert len(found) == len(config.steps) * len(config.demonstrations) * len(posttraining.GRANULARITIES) * ways
    for row in found:
        terms = [float(row[name]) for name in posttraining_figure.TERMS]
        # Planners certify values to 1e-8; a greedy policy is never better than the best.
        assert min(terms) > -1e-6
        assert float(row["low"]) <= float(row["regret (IQM)"]) <= float(row["high"])
        if row["granularity"] != "macros":
            assert terms[0] == pytest.approx(0, abs=1e-6)
        if row["pruned by, or policy gradient from"] == "nothing":
            assert terms[1] == pytest.approx(0, abs=1e-6)
    two = {(row["steps"], row["half"]): float(row["regret taken away"]) for row in rows(
        tmp_path / "figs" / "posttraining-halves.csv"
    )}  # fmt: skip
    assert len(two) == 4 * (len(config.steps) + 1)
    claims = rows(tmp_path / "figs" / "posttraining-claims.csv")
    assert {row["verdict"] for row in claims} <= {"holds", "not decided", "not reproduced"} and len(claims) == 14
    for name in ("posttraining", "posttraining-halves"):
        assert (tmp_path / "figs" / f"{name}.png").stat().st_size > 10_000


def made_up(cells):
    """A world whose regret is the given number in each cell, a little different in each of four seeds."""
    block = {"gamma_bar": {}}
    for (granularity, pruner), regret in cells.items():
        terms = np.zeros((4, 2, 3))
        terms[..., 2] = regret + 0.01 * np.arange(4)[:, None]
        block[f"{granularity}, {pruner}, 1"] = terms
        block[f"{granularity}, {pruner}, 1: options"] = np.full(4, 3)
    return World("made up", [block])


FOUR = {
    ("primitives", "nothing"): 1.0,
    ("primitives", "values"): 0.7,
    ("macros", "nothing"): 0.9,
    ("macros", "values"): 0.2,
}


def test_halves_share_what_both_take_away():
    found = halves(made_up(FOUR), 1)
    assert found["pruning"] == pytest.approx([(0.3 + 0.7) / 2] * 4)
    assert found["duration"] == pytest.approx([(0.1 + 0.5) / 2] * 4)
    assert found["both"] == pytest.approx([0.8] * 4)
    assert found["interaction"] == pytest.approx([0.8 - 0.3 - 0.1] * 4)
    assert found["pruning"] + found["duration"] == pytest.approx(found["both"])
    assert halves(made_up(FOUR), 1, step=1)["both"] == pytest.approx([0.8] * 4)


def test_the_interval_decides():
    at = lambda low, high: Interval(np.array(0.0), np.array(low), np.array(high))  # noqa: E731
    assert verdict([side(at(0.1, 0.2))]) == "holds"
    assert verdict([side(at(-0.2, -0.1))]) == "not reproduced"
    assert verdict([side(at(-0.1, 0.1))]) == "not decided"


def test_every_seed_is_in_one_part():
    parts = posttraining.parts(posttraining.Config(seeds=7, block=3, worlds=("Taxi",)))
    assert parts == ["Taxi, seeds 0 to 2", "Taxi, seeds 3 to 5", "Taxi, seeds 6 to 6"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 1}, "seeds: a spread needs at least 2"),
        ({"steps": (3, 3)}, "steps: must be ascending"),
        ({"demonstrations": ()}, "demonstrations: must be ascending"),
        ({"worlds": ("Mars",)}, "worlds: unknown Mars; known are FourRooms"),
        ({"worlds": ()}, "worlds, block: at least 1"),
        ({"block": 0}, "worlds, block: at least 1"),
        ({"held_out": 12}, "held_out, tasks: at least 1 held out"),
        ({"tasks": 13}, "held_out, tasks: .* 12 at most; got 4 of 13"),
        ({"discovery": "luck"}, "discovery: unknown 'luck'"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(posttraining.Config(), **change)
