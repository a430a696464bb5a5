"""Statements 2.1 to 2.7: bad subsets do not survive enough demonstrations, and what survives is good enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from theory.arithmetic import FLOAT, Arithmetic
from theory.bound import Assumption, Draw, Instance, Overstated, Side, Statement, Without
from theory.instances import is_distribution
from theory.pruning import (
    bad,
    errors,
    failing_share,
    fails,
    lake,
    option_count,
    slack,
    survival_probability,
    whole_above,
)


def _counts(instance: Instance) -> Sequence[Any]:
    """The numbers of demonstrations: those of the instance, or 1 .. 8."""
    return [instance["n"]] if "n" in instance else range(1, 9)


def _for_all_n(formula: Callable[[Arithmetic, Instance, Any], Any]) -> Side:
    return lambda xp, i: xp.stack([formula(xp, i, n) for n in _counts(i)])


TASKS = Assumption("tasks", "probabilities of tasks are >= 0 and sum to 1", lambda xp, i: is_distribution(i["p"]))
INDEPENDENT = Assumption(
    "independent", "the n demonstrations are independent draws", lambda xp, i: i.get("copies", 1) == 1
)
_SIGMA = Assumption("sigma", "0 < σ <= 1", lambda xp, i: bool(0 < i["sigma"] <= 1))
_BAD = Assumption("bad", "the subset is (ε, σ)-bad", lambda xp, i: bool(bad(xp, i)[i["subset"]]))


def _has_adequate(xp: Arithmetic, instance: Instance) -> bool:
    possible = np.array(instance["p"] > 0, bool)
    return bool((~np.array(fails(xp, instance), bool)[:, possible]).all(1).any())


ADEQUATE = Assumption("adequate", "a subset Z_ε of size k has Δ <= ε in every task that occurs", _has_adequate)

_OPTIONS, _SIZE, _TASKS = 4, 2, 5
_SUBSETS = math.comb(_OPTIONS, _SIZE)


def planted(draw: Draw) -> dict[str, Any]:
    """Options 0 .. k-1 serve every task; task 0 is served by option 0 alone, so that the last subset fails there."""
    xp, tasks = draw.xp, np.arange(_TASKS)[:, None]
    epsilon, value = 9 * draw.unit() / 10, draw.unit(_TASKS, _OPTIONS)
    value = xp.where(tasks == 0, 9 * (1 - epsilon) * value / 10, value)
    value = xp.where(np.arange(_OPTIONS) == tasks % _SIZE, 1 + 0 * value, value)
    # Half of each share is even, so that no task is too rare to be told from one that does not occur.
    p = (draw.distribution(_TASKS) + 1 / xp.number(_TASKS)) / 2
    return {"p": p, "value": value, "k": _SIZE, "epsilon": epsilon}


def _with_sigma(draw: Draw) -> dict[str, Any]:
    """σ is a tenth of the share that the last subset, (k, ..., 2k-1), fails at, up to all of it."""
    known = planted(draw)
    share = failing_share(draw.xp, known)[_SUBSETS - 1]
    return known | {"sigma": (1 + 9 * draw.unit()) / 10 * share, "subset": _SUBSETS - 1}


def _two_tasks(xp: Arithmetic, share: Any, k: int = 1) -> dict[str, Any]:
    """Option 0 serves both tasks, option 1 only the first."""
    return {
        "p": xp.stack([1 - share, share]),
        "value": xp.array([[1, 1], [1, 0]]),
        "k": k,
        "epsilon": xp.number(0),
        "sigma": share,
        "subset": 1,
    }


def _one_survives(xp: Arithmetic, i: Instance) -> Any:
    return survival_probability(xp, i, np.arange(len(errors(xp, i))) == i["subset"], _counts(i))


def _some_bad_survives(xp: Arithmetic, i: Instance) -> Any:
    return survival_probability(xp, i, bad(xp, i), _counts(i))


SURVIVAL = Statement(
    name="survival",
    number="2.1",
    claim="A fixed (ε, σ)-bad subset survives n independent demonstrations with probability at most (1 − σ)^n.",
    source="paper, theorem 3.5 (proof)",
    assumptions=(TASKS, _SIGMA, INDEPENDENT, _BAD),
    family=_with_sigma,
    measured_side=_one_survives,
    bound_side=_for_all_n(lambda xp, i, n: (1 - i["sigma"]) ** n),
    tight=lambda xp: [_two_tasks(xp, xp.number(1, d)) for d in (2, 3, 10)],
    overstated=Overstated("twice as many count", _for_all_n(lambda xp, i, n: (1 - i["sigma"]) ** (2 * n))),
    without=Without("bad", lambda xp: _two_tasks(xp, xp.number(1, 3)) | {"sigma": xp.number(1, 2)}),
    real=lake,
)

SURVIVAL_EXPONENTIAL = Statement(
    name="survival-exponential",
    number="2.2",
    claim="A fixed (ε, σ)-bad subset survives n independent demonstrations with probability at most exp(−σ n).",
    source="paper, theorem 3.5 (proof)",
    assumptions=(TASKS, _SIGMA, INDEPENDENT, _BAD),
    family=_with_sigma,
    measured_side=_one_survives,
    bound_side=_for_all_n(lambda xp, i, n: xp.exp(-n * i["sigma"])),
    tight=lambda xp: [_two_tasks(xp, xp.number(1, 10**4))],
    attains=1 - 1e-6,
    overstated=Overstated("the exponent is −2 σ n", _for_all_n(lambda xp, i, n: xp.exp(-2 * n * i["sigma"]))),
    without=Without("independent", lambda xp: _two_tasks(xp, xp.number(1, 4)) | {"copies": 4}),
    interval=True,
    real=lake,
)


def _one_task_each(xp: Arithmetic, options: int, rarity: int) -> dict[str, Any]:
    """Option j > 0 fails in task j alone, which has probability 1/rarity; option 0 serves all."""
    share = xp.number(1, rarity)
    return {
        "p": xp.stack([1 - (options - 1) * share] + [share] * (options - 1)),
        "value": xp.array(1 - np.diag([0] + [1] * (options - 1))),
        "k": 1,
        "epsilon": xp.number(0),
        "sigma": share,
    }


def _union(xp: Arithmetic, i: Instance, n: Any) -> Any:
    return (len(errors(xp, i)) - 1) * (1 - i["sigma"]) ** n


def _each_fails_somewhere(xp: Arithmetic) -> Instance:
    half = xp.number(1, 2)
    return _two_tasks(xp, half) | {"value": xp.array([[0, 1], [1, 0]])}


UNION = Statement(
    name="union",
    number="2.3",
    claim="If Z_ε has size k, some (ε, σ)-bad subset of size k survives n demonstrations with probability at most "
    "(C(|Z|,k) − 1)(1 − σ)^n.",
    source="this project (paper, theorem 3.5: without the −1)",
    assumptions=(TASKS, _SIGMA, INDEPENDENT, ADEQUATE),
    family=_with_sigma,
    measured_side=_some_bad_survives,
    bound_side=_for_all_n(_union),
    tight=lambda xp: [_one_task_each(xp, 8, 8) | {"n": 60}],
    attains=0.999,
    overstated=Overstated("no factor for the union", _for_all_n(lambda xp, i, n: (1 - i["sigma"]) ** n)),
    without=Without("adequate", _each_fails_somewhere),
    real=lake,
)

# ---- Enough demonstrations


def _enough(xp: Arithmetic, i: Instance, logarithm: Any) -> Any:
    """(logarithm + ln(1/δ)) / σ."""
    return (logarithm - xp.log(i["delta"])) / i["sigma"]


def _sharp(xp: Arithmetic, i: Instance) -> Any:
    return _enough(xp, i, xp.log(xp.number(math.comb(option_count(i), i["k"]))))


def _closed(xp: Arithmetic, i: Instance) -> Any:
    return _enough(xp, i, i["k"] * (1 + xp.log(xp.number(option_count(i), i["k"]))))


def _with_samples(enough: Side) -> Callable[[Draw], Instance]:
    def family(draw: Draw) -> Instance:
        known = _with_sigma(draw) | {"delta": (1 + 98 * draw.unit()) / 100}
        return known | {"n": whole_above(draw.xp, enough(draw.xp, known))}

    return family


def _is_enough(enough: Side) -> Assumption:
    return Assumption(
        "enough demonstrations", "n is as large as said", lambda xp, i: bool(i["n"] + slack(xp) >= enough(xp, i))
    )


def _fewer(divisor: int) -> Side:
    """The failure probability of a share of the demonstrations."""
    return lambda xp, i: _some_bad_survives(xp, dict(i) | {"n": -(-i["n"] // divisor)})


def _rare_failures(enough: Side, options: int) -> Callable[[Arithmetic], list[Instance]]:
    def tight(xp: Arithmetic) -> list[Instance]:
        known = _one_task_each(xp, options, 300) | {"delta": xp.number(1, 50)}
        return [known | {"n": whole_above(xp, enough(xp, known))}]

    return tight


def _samples(name: str, number: str, claim: str, source: str, enough: Side, attains: float) -> Statement:
    return Statement(
        name=name,
        number=number,
        claim=claim,
        source=source,
        assumptions=(TASKS, _SIGMA, INDEPENDENT, _is_enough(enough)),
        family=_with_samples(enough),
        measured_side=_some_bad_survives,
        bound_side=_delta,
        tight=_rare_failures(enough, 9),
        attains=attains,
        overstated=Overstated("a quarter of the demonstrations are enough", _delta, _fewer(4)),
        without=Without(
            "enough demonstrations",
            lambda xp: _one_task_each(xp, 4, 8) | {"delta": xp.number(1, 10), "n": 5},
        ),
        interval=True,
        real=lambda: [
            (name, one | {"delta": 0.1, "n": whole_above(FLOAT, enough(FLOAT, one | {"delta": 0.1}))})
            for name, one in lake()
        ],
    )


def _delta(xp: Arithmetic, i: Instance) -> Any:
    return xp.stack([i["delta"]])


SAMPLES = _samples(
    "samples",
    "2.4",
    "With n ≥ (ln C(|Z|,k) + ln(1/δ))/σ demonstrations, some (ε, σ)-bad subset of size k survives with probability "
    "at most δ.",
    "paper, theorem 3.5",
    _sharp,
    0.85,
)

SAMPLES_CLOSED = _samples(
    "samples-closed",
    "2.5",
    "With n ≥ (k ln(e|Z|/k) + ln(1/δ))/σ demonstrations, some (ε, σ)-bad subset of size k survives with probability "
    "at most δ.",
    "paper, theorem 3.5 (constants: this project)",
    _closed,
    0.3,
)

# ---- What survives


def _some_survives(size_less: int) -> Side:
    def side(xp: Arithmetic, i: Instance) -> Any:
        size = i["k"] - size_less
        return survival_probability(xp, i, np.ones(math.comb(option_count(i), size), bool), _counts(i), size)

    return side


ADEQUATE_SURVIVES = Statement(
    name="adequate-survives",
    number="2.6",
    claim="If Z_ε has size k, then with probability 1 some subset of size k is refuted by none of n demonstrations.",
    source="paper, theorem 3.5 (proof)",
    assumptions=(TASKS, ADEQUATE),
    family=planted,
    measured_side=_some_survives(0),
    bound_side=_for_all_n(lambda xp, i, n: xp.number(1)),
    tight=lambda xp: [_one_task_each(xp, 4, 8)],
    overstated=Overstated("so is one of size k − 1", measured=_some_survives(1)),
    without=Without("adequate", _each_fails_somewhere),
    equality=True,
    real=lake,
)


def _expected(xp: Arithmetic, i: Instance) -> Any:
    return errors(xp, i)[i["subset"]] @ i["p"]


def _not_bad(draw: Draw) -> Instance:
    known = planted(draw)
    share = failing_share(draw.xp, known)[_SUBSETS - 1]
    return known | {"subset": _SUBSETS - 1, "sigma": share + (1 - share) * draw.unit(), "V_max": draw.xp.number(1)}


def _all_or_epsilon(xp: Arithmetic, share: Any) -> dict[str, Any]:
    """Option 1 loses ε = 1/4 in the first task, and everything in the second, of probability ``share``."""
    values = xp.array([[1, xp.number(3, 4)], [1, 0]])
    return _two_tasks(xp, share) | {"value": values, "epsilon": xp.number(1, 4), "V_max": xp.number(1)}


def _within(xp: Arithmetic, i: Instance) -> bool:
    error = errors(xp, i)[i["subset"]]
    return bool(i["epsilon"] <= i["V_max"] and (error >= 0).all() and (error <= i["V_max"] + slack(xp)).all())


EXPECTED_ERROR = Statement(
    name="expected-error",
    number="2.7",
    claim="Pr(Δ > ε) ≤ σ implies E[Δ] ≤ (1 − σ) ε + σ V_max (≤ ε + σ V_max).",
    source="this project (paper, theorem 3.5: ε + σ V_max)",
    assumptions=(
        TASKS,
        Assumption("V_max", "0 <= Δ <= V_max and ε <= V_max", _within),
        Assumption(
            "not bad",
            "Pr(Δ > ε) <= σ",
            lambda xp, i: bool(failing_share(xp, i)[i["subset"]] <= i["sigma"] + slack(xp)),
        ),
    ),
    family=_not_bad,
    measured_side=_expected,
    bound_side=lambda xp, i: (1 - i["sigma"]) * i["epsilon"] + i["sigma"] * i["V_max"],
    tight=lambda xp: [_all_or_epsilon(xp, xp.number(1, d)) for d in (2, 5, 20)],
    overstated=Overstated("ε costs nothing", lambda xp, i: i["sigma"] * i["V_max"]),
    without=Without("not bad", lambda xp: _all_or_epsilon(xp, xp.number(1, 2)) | {"sigma": xp.number(1, 4)}),
    real=lake,
)

STATEMENTS = (SURVIVAL, SURVIVAL_EXPONENTIAL, UNION, SAMPLES, SAMPLES_CLOSED, ADEQUATE_SURVIVES, EXPECTED_ERROR)
