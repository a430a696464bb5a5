"""What every statement of the theory must meet, and the machinery that checks them."""

from __future__ import annotations

import importlib
import itertools
import re
from dataclasses import replace
from pathlib import Path

import flint
import numpy as np
import pytest

import theory
from theory import instances
from theory.arithmetic import EXACT, FLOAT, optimal_values, policy_values
from theory.bound import Assumption, Draw, Overstated, Statement, Without, claim_is_true
from theory.falsify import JAX, search
from theory.verify import Budget, Verdict, check_exactly, check_tight, check_without, verify

NAMES = list(theory.statements())
QUICK = Budget(draws=256, exact=4, steps=30, batch=32, blind_draws=64, blind_steps=10, blind_batch=8, real=False)


def statement(name: str) -> Statement:
    return theory.statements()[name]


def drawn(one: Statement, seed: int, xp=FLOAT):
    return one.family(Draw.random(xp, one.family, np.random.default_rng(seed)))


def cheaply_checked(one: Statement, count: int = 6) -> list[str]:
    """Failures without the search."""
    found = Verdict(one.name)
    check_exactly(one, count, 0, found)
    check_tight(one, found)
    check_without(one, found)
    return found.failures


# ---- Every statement


def test_names_and_numbers_are_in_order():
    """Every section counts from 1 without a gap, and no name stands twice."""
    every = [one for module in theory._MODULES for one in importlib.import_module(f"theory.{module}").STATEMENTS]
    assert len(every) == len(theory.statements())
    numbers = [tuple(map(int, one.number.split("."))) for one in theory.statements().values()]
    sections = [[minor for major, minor in numbers if major == section] for section in range(1, 7)]
    assert sections == [list(range(1, len(section) + 1)) for section in sections] and all(sections)


def test_the_readme_proves_each_one_under_its_number():
    text = (Path(theory.__file__).parent / "README.md").read_text(encoding="utf-8")
    heads = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    pitfall = {"pitfall-rate", "pitfall-below", "pitfall-above"}  # under a heading of their own
    missing = [one.name for one in theory.find() if f"{one.number} `{one.name}`" not in heads]
    assert set(missing) == pitfall and all(f"`{name}`" in text for name in pitfall)


@pytest.mark.parametrize("name", NAMES)
def test_it_holds_and_is_red_when_turned_around(name):
    one = statement(name)
    assert cheaply_checked(one) == []
    if one.equality:
        turned = replace(one, bound_side=lambda xp, i: one.bound_side(xp, i) * 1001 / 1000)
    else:
        turned = replace(one, measured_side=one.bound_side, bound_side=one.measured_side)
    assert any("false of the random instance" in failure for failure in cheaply_checked(turned))


@pytest.mark.parametrize("name", NAMES)
def test_every_assumption_is_looked_at(name):
    one = statement(name)
    assert one.assumptions
    for number, assumption in enumerate(one.assumptions):
        broken = replace(assumption, holds=lambda xp, i, holds=assumption.holds: not holds(xp, i))
        changed = replace(one, assumptions=(*one.assumptions[:number], broken, *one.assumptions[number + 1 :]))
        for ask in (changed.measured, changed.bound, changed.ratio, changed.holds):
            with pytest.raises(ValueError, match=rf"^{name}: the assumption .* fails: "):
                ask(drawn(one, 0))


@pytest.mark.parametrize("name", NAMES)
def test_floats_agree_with_exact_numbers(name):
    """The planner of this project on one side, rationals on the other. (`verify` holds JAX against both.)"""
    one = statement(name)
    exact = drawn(one, 3, EXACT)
    rough = {key: in_floats(value) for key, value in exact.items()}
    for side in (one.measured_side, one.bound_side):
        got, want = (np.array(side(*pair), dtype=object) for pair in ((FLOAT, rough), (EXACT, exact)))
        np.testing.assert_allclose(in_floats(got), in_floats(want), rtol=1e-9, atol=1e-9)


def in_floats(value):
    if isinstance(value, np.ndarray) and value.dtype == object:
        return np.vectorize(float)(value)
    return float(value) if isinstance(value, (flint.fmpq, flint.arb)) else value


@pytest.mark.slow
@pytest.mark.parametrize("name", [one.name for one in theory.find() if one.real is not None])
def test_it_holds_of_real_environments_and_programs(name):
    ratios = {which: statement(name).ratio(instance) for which, instance in statement(name).real()}
    assert ratios and max(ratios.values()) <= 1 + 1e-6, ratios
    assert all(statement(name).holds(instance) for _, instance in statement(name).real())


# ---- The checks themselves


def false_statement(**changes) -> Statement:
    """x <= 1/2 for x in (0, 1)."""
    default = {
        "name": "half",
        "number": "9.1",
        "claim": "x <= 1/2",
        "source": "nobody",
        "assumptions": (Assumption("positive", "x is positive", lambda xp, i: bool(i["x"] > 0)),),
        "family": lambda draw: {"x": draw.unit()},
        "measured_side": lambda xp, i: i["x"],
        "bound_side": lambda xp, i: xp.number(1, 2),
        "tight": lambda xp: [{"x": xp.number(1, 2)}],
        "overstated": Overstated("x <= 1/4", lambda xp, i: xp.number(1, 4)),
        "without": Without("positive", lambda xp: {"x": xp.number(-1)}),
    }
    return Statement(**(default | changes))


def true_statement(**changes) -> Statement:
    """x² <= x for x in (0, 1), nearly attained near 1."""
    return false_statement(
        **{
            "measured_side": lambda xp, i: i["x"] ** 2,
            "bound_side": lambda xp, i: i["x"],
            "tight": lambda xp: [{"x": xp.number(99, 100)}],
            "attains": 0.99,
            "overstated": Overstated("x² <= x³", lambda xp, i: i["x"] ** 3),
        }
        | changes
    )


def test_a_true_statement_passes():
    found = verify(true_statement(), QUICK)
    assert found.holds and found.failures == []
    assert found.tried == 256 and found.exact == 5 and 0.95 < found.adversarial <= 1 < found.twin
    assert found.tight == pytest.approx(0.99, abs=1e-6) and found.spread[0] < found.spread[1] <= found.largest


@pytest.mark.parametrize("differentiable", [True, False])
def test_a_false_statement_is_refuted_with_an_instance(differentiable):
    found = verify(false_statement(differentiable=differentiable), QUICK)
    assert any("the falsifier refutes it" in failure for failure in found.failures)
    assert any("in exact arithmetic" in failure for failure in found.failures)
    assert found.adversarial > 1.5 and found.instances["best"]["x"] > 0.75


@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({"overstated": Overstated("x² <= x")}, "does not refute the overstated twin"),
        ({"attains": 1.0}, "the tight family comes to 0.98"),
        ({"tight": lambda xp: [{"x": xp.number(2)}]}, "false of the tight instance 0"),
        ({"without": Without("positive", lambda xp: {"x": xp.number(1, 2)})}, "'positive' is not refused"),
        ({"without": Without("negative", lambda xp: {"x": xp.number(-1)})}, "refused for something else"),
        (
            {"measured_side": lambda xp, i: i["x"] ** (2 if xp is EXACT or xp is JAX else 3)},
            "JAX finds the ratio",
        ),
        (
            {"without": Without("positive", lambda xp: {"x": xp.number(0)})},
            "true without 'positive': the assumption is not needed there",
        ),
    ],
)
def test_each_check_can_fail(changes, failure):
    found = verify(true_statement(**changes), QUICK)
    assert not found.holds and any(failure in text for text in found.failures), found.failures


@pytest.mark.parametrize("differentiable", [True, False])
def test_what_is_no_number_is_a_failure(differentiable):
    def sometimes(xp, i):
        return xp.where(i["x"] > 0.9, np.nan, i["x"] ** 2) if xp is not EXACT else i["x"] ** 2

    found = verify(true_statement(measured_side=sometimes, differentiable=differentiable), QUICK)
    assert any("is no number for" in failure for failure in found.failures) and found.largest == np.inf


def test_an_instance_outside_its_own_familys_assumptions_is_a_failure():
    found = verify(true_statement(family=lambda draw: {"x": -draw.unit()}), QUICK)
    assert any("the assumption 'positive' fails" in failure for failure in found.failures)


def test_floats_that_are_wrong_where_exact_numbers_are_right_are_seen():
    """The planner is under test too, not the formulas alone."""
    found = Verdict("half")
    check_exactly(true_statement(measured_side=lambda xp, i: i["x"] * (2 if xp is FLOAT else 1)), 2, 0, found)
    assert found.exact == 2 and found.failures == [f"false of the random instance {n} in floats" for n in range(2)]


@pytest.mark.parametrize("right", [EXACT, FLOAT])
def test_a_twin_must_be_refuted_exactly_and_in_floats(right):
    """A twin that is true in one of the two arithmetics is not refuted."""
    twin = Overstated("x² <= x³", lambda xp, i: i["x"] if xp is right else i["x"] ** 3)
    found = verify(true_statement(overstated=twin), QUICK)
    assert any("does not refute the overstated twin" in failure for failure in found.failures)


@pytest.mark.parametrize("wrong", [EXACT, FLOAT])
def test_a_best_instance_must_hold_exactly_and_in_floats(wrong):
    one = true_statement(measured_side=lambda xp, i: i["x"] * (2 if xp is wrong else 1))
    assert any("the falsifier refutes it" in failure for failure in verify(one, QUICK).failures)


def test_all_instances_of_a_verdict_depend_on_the_seed():
    one, two, three = (verify(true_statement(), QUICK, seed) for seed in (0, 0, 1))
    assert one.spread == two.spread != three.spread


def test_the_budget_is_obeyed_and_the_kind_is_told():
    """Real instances only where they are asked for; without gradients its own numbers of draws."""
    one = true_statement(real=lambda: [("two", {"x": 2.0})], interval=True, differentiable=False)
    found = verify(one, QUICK)
    assert found.holds and found.tried == QUICK.blind_draws and found.kind == "interval"
    # Of the random instances, not of the search.
    assert found.largest < found.adversarial


def test_real_instances_count():
    one = true_statement(real=lambda: [("two", {"x": 2.0})])
    found = verify(one, replace(QUICK, real=True))
    assert found.failures == ["false of two"] and found.tried == 257 and found.largest == pytest.approx(2)


def test_an_equality_is_checked_on_both_sides():
    for factor in (999, 1001):
        one = true_statement(equality=True, bound_side=lambda xp, i, f=factor: i["x"] ** 2 * f / 1000)
        assert not claim_is_true(EXACT, one, {"x": EXACT.number(1, 2)})
        assert not claim_is_true(FLOAT, one, {"x": 0.5}) and one.ratio({"x": 0.9}) > 1.0005
    assert claim_is_true(EXACT, true_statement(equality=True, bound_side=lambda xp, i: i["x"] * i["x"]), {"x": 3})


def test_the_search_depends_on_its_seed_alone():
    one, two, three = (search(true_statement(), seed, draws=64, steps=5, batch=16) for seed in (1, 1, 2))
    assert one.best == two.best and (one.reals == two.reals).all() and one.best != three.best


def test_the_search_climbs():
    """At random x² / x comes near 1 for none of few; uphill it does."""
    found = search(true_statement(), 0, draws=32, steps=200, batch=32)
    assert found.random < found.best <= 1 and 1 - found.best < 0.1 * (1 - found.random)


# ---- Arithmetic and instances


def test_floats_become_the_fractions_that_they_are():
    assert EXACT.array([0.75])[0] == flint.fmpq(3, 4) and EXACT.array([0.1])[0] != flint.fmpq(1, 10)


def test_balls_are_certain_or_say_no():
    third = EXACT.log(EXACT.exp(EXACT.number(1, 3)))
    assert not third < EXACT.number(1, 3) and not third > EXACT.number(1, 3)
    assert third < EXACT.number(1, 3) + EXACT.number(1, 10**50)
    assert EXACT.max(EXACT.array([third, EXACT.number(1, 4)])).contains(flint.fmpq(1, 3))
    assert EXACT.log(EXACT.array([0]))[0] < -(10**9)


@pytest.mark.parametrize("seed", range(3))
def test_optimal_values_are_the_largest_of_all_policies(seed):
    one = drawn(statement("sharp-error"), seed, EXACT)
    R, P = EXACT.option_model(one)
    every = [policy_values(EXACT, R, P, np.array(pi)) for pi in itertools.product(range(3), repeat=3)]
    best = optimal_values(EXACT, R, P)
    assert (best == EXACT.max(EXACT.stack(every), 0)).all()
    available = np.array([[True, False, False], [False, True, True], [False, False, True]])
    allowed = [values for pi, values in zip(itertools.product(range(3), repeat=3), every, strict=True)
               if all(available[z, s] for s, z in enumerate(pi))]  # fmt: skip
    assert (optimal_values(EXACT, R, P, available) == EXACT.max(EXACT.stack(allowed), 0)).all()


def test_draws_are_the_same_in_every_arithmetic():
    def family(draw):
        return {"d": draw.distribution(2, 3), "u": draw.unit(2), "w": draw.whole(5, 4), "one": draw.unit()}

    assert Draw.count(family) == (9, 4)
    reals, uniforms = Draw.parameters(family, np.random.default_rng(0), 3)
    assert reals.shape == (3, 9) and uniforms.shape == (3, 4)
    rough, exact = (family(Draw(xp, reals[0], uniforms[0], denominator=2**20)) for xp in (FLOAT, EXACT))
    assert (exact["d"].sum(-1) == 1).all() and (rough["w"] == exact["w"]).all() and rough["w"].max() < 5
    for key in ("d", "u", "one"):
        np.testing.assert_allclose(np.array(exact[key], dtype=float), rough[key], atol=1e-5)


def test_what_is_not_available_does_not_count_and_costs_do():
    available = np.array([[True], [False]])
    R, P = FLOAT.array([[-3], [5]]), FLOAT.array([[[0.5]], [[0.9]]])
    assert instances.rate(FLOAT, P, available) == 0.5 and instances.reward_bound(FLOAT, R, available) == 3


@pytest.mark.parametrize("change", [{"P": [[[1.0]]]}, {"P": [[[-0.1]]]}])
def test_a_model_is_refused_that_is_none(change):
    with pytest.raises(ValueError, match="assumption 'model' fails"):
        statement("sharp-error").check(instances.one_state(FLOAT, 0.5) | {k: FLOAT.array(v) for k, v in change.items()})


@pytest.mark.parametrize(
    ("key", "value"), [("transitions", 0.5), ("policy", 0.4), ("discount", 1.0), ("termination", 1.5)]
)
def test_options_are_refused_that_are_none(key, value):
    good = drawn(statement("sharp-error"), 0)
    with pytest.raises(ValueError, match="assumption 'model' fails"):
        statement("sharp-error").check(good | {key: 0 * good[key] + value})


def test_saved_instances_come_back(tmp_path):
    one = statement("sharp-error")
    before = {"sharp-error, best": drawn(one, 1), "count": {"n": 3, "x": np.arange(2.0)}}
    instances.save(tmp_path / "some.npz", before)
    after = instances.load(tmp_path / "some.npz")
    assert one.ratio(after["sharp-error, best"]) == one.ratio(before["sharp-error, best"])
    assert after["count"]["n"] == 3 and isinstance(after["count"]["n"], int)
    (tmp_path / "some.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="truncated or not a file of this project"):
        instances.load(tmp_path / "some.npz")


def test_an_unknown_statement_is_answered_by_the_list():
    with pytest.raises(ValueError, match=r"no statement 'x'; known are: .*sharp-error"):
        theory.find(["x"])
    assert [one.name for one in theory.find(["sharp-error", "contraction", "sharp-error"])] == [
        "sharp-error", "contraction"
    ]  # fmt: skip


# ---- Assumptions that hold in part of the states only


@pytest.mark.parametrize(
    ("name", "change", "assumption"),
    [
        ("sharp-iterations", {"epsilon": 0.0}, "epsilon"),
        ("published-iterations", {"epsilon": -1.0}, "epsilon"),
        ("from-below", {"V_0": np.array([-1.0, -1.0, 1e3])}, "V_0 <= V*"),
        ("pitfall-below", {"V_0": np.array([1e3, -1.0, -1.0])}, "V_0 <= V*"),
        ("pitfall-rate", {"termination": np.array([[1, 1, 0.5], [0.5] * 3, [0.5] * 3])}, "primitive"),
    ],
)
def test_an_assumption_is_one_about_every_state(name, change, assumption):
    with pytest.raises(ValueError, match=re.escape(f"{name}: the assumption {assumption!r} fails")):
        statement(name).bound(drawn(statement(name), 0) | change)
