"""Statements 2.11 to 2.14: no learner prunes the family of blocks with fewer demonstrations than about log2(m) a block.

An instance of 2.12 to 2.14 has whole numbers ``k``, ``m``, ``n``, and ``sigma`` (see `theory.blocks`); ``other``, if
there, is the probability that an option is good that is not the right one, 1/2 in the family.
"""

from __future__ import annotations

import math
from itertools import combinations, product
from typing import Any

import numpy as np

from theory.arithmetic import Arithmetic
from theory.blocks import success
from theory.bound import Assumption, Draw, Instance, Overstated, Side, Statement, Without
from theory.instances import is_distribution
from theory.pruning import slack

# ---- No learner is better than the consistent ones: all learners for 2 blocks of 2 options and 2 demonstrations -----

_RIGHT = list(product((0, 1), repeat=2))  # the right options, one of each block
_SETS = list(combinations([(0, 0), (0, 1), (1, 0), (1, 1)], 2))  # (block, option) twice
# A demonstration: None, or a block and which of its options are good.
_SEEN = [None, *product((0, 1), [{0}, {1}, {0, 1}])]


def _is_good(chosen: tuple[tuple[int, int], ...], right: tuple[int, ...]) -> bool:
    """Whether a set fails with probability less than σ = w/2, whatever options it has of which block."""
    inside = [[option for block, option in chosen if block == j] for j in (0, 1)]
    return sum((right[j] not in inside[j]) * 0.5 ** len(inside[j]) for j in (0, 1)) < 0.5


_GOOD = np.array([[_is_good(chosen, right) for chosen in _SETS] for right in _RIGHT], dtype=np.int64)
# Whether a demonstration can be seen; of a block, the other option is good or not with equal probability.
_POSSIBLE = np.array([[s is not None and right[s[0]] in s[1] for s in _SEEN] for right in _RIGHT], dtype=int)
_NOTHING = np.array([s is None for s in _SEEN], dtype=int)


def _gain(xp: Arithmetic, i: Instance) -> Any:
    """Pr(these two demonstrations, and the set is good), ``(demonstrations, sets)``."""
    rate = 2 * i["sigma"]
    one = _POSSIBLE * rate / 2 + _NOTHING * (1 - 2 * rate)  # (right options, demonstration)
    both = (one[:, :, None] * one[:, None, :]).reshape(len(_RIGHT), -1)
    return (both * i["prior"][:, None]).T @ _GOOD


def _learner_success(xp: Arithmetic, i: Instance) -> Any:
    return (i["learner"] * _gain(xp, i)).sum()


def _uniform(xp: Arithmetic) -> Any:
    return xp.array([1] * len(_RIGHT)) / len(_RIGHT)


def _any_learner(draw: Draw) -> Instance:
    return {
        "learner": draw.distribution(len(_SEEN) ** 2, len(_SETS)),
        "prior": _uniform(draw.xp),
        "sigma": draw.unit() / 4,
    }


def _consistent(xp: Arithmetic, sigma: Any) -> Instance:
    """The learner that takes the first candidate of each block."""
    rows = []
    for seen in product(_SEEN, repeat=2):
        left = [[o for o in (0, 1) if all(s is None or s[0] != j or o in s[1] for s in seen)] for j in (0, 1)]
        # Two demonstrations that contradict each other never come, so that any set will do for them.
        chosen = tuple((j, (left[j] or [0])[0]) for j in (0, 1))
        rows.append([int(one == chosen) for one in _SETS])
    return {"learner": xp.array(rows), "prior": _uniform(xp), "sigma": sigma}


def _known_before(xp: Arithmetic) -> Instance:
    """The right options are the same always, and the learner takes them without looking."""
    always = _SETS.index(((0, 0), (1, 0)))
    rows = np.zeros((len(_SEEN) ** 2, len(_SETS)), int)
    rows[:, always] = 1
    return {"learner": xp.array(rows), "prior": xp.array([1, 0, 0, 0]), "sigma": xp.number(1, 8)}


def _best_success(n: int) -> Side:
    return lambda xp, i: success(xp, 2, 2, 2 * i["sigma"], n)


BEST_LEARNER = Statement(
    name="best-learner",
    number="2.11",
    claim="No learner, random or not, finds a set that is not (ε, σ)-bad with a higher probability than any consistent "
    "one that takes one option from each block (k = m = n = 2).",
    source="this project",
    assumptions=(
        Assumption(
            "learner",
            "probabilities of sets, for every two demonstrations",
            lambda xp, i: is_distribution(i["learner"]),
        ),
        Assumption("sigma in (0, 1/4]", "blocks have probability 4 σ together", lambda xp, i: 0 < 4 * i["sigma"] <= 1),
        Assumption(
            "uniform", "every choice of right options is as likely", lambda xp, i: bool((i["prior"] * 4 == 1).all())
        ),
    ),
    family=_any_learner,
    measured_side=_learner_success,
    bound_side=_best_success(2),
    tight=lambda xp: [_consistent(xp, xp.number(1, d)) for d in (4, 8, 100)],
    overstated=Overstated("one demonstration is as good as two", _best_success(1)),
    without=Without("uniform", _known_before),
)

# ---- What the best learner can do ------------------------------------------------------------------------------------


def _success(xp: Arithmetic, i: Instance, times: int = 1) -> Any:
    return success(xp, i["k"], i["m"], _rate(i), times * i["n"], i.get("other"))


def _rate(i: Instance) -> Any:
    return 4 * i["sigma"] / i["k"]


def _markov(xp: Arithmetic, i: Instance) -> Any:
    """k / (⌊k/2⌋ + 1), at most 2: if more than half of the blocks are right, so is a share of the expected number."""
    return xp.number(i["k"], i["k"] // 2 + 1)


def _few_blocks(draw: Draw) -> dict[str, Any]:
    k, m, n = (low + int(draw.whole(high)) for low, high in ((1, 4), (2, 40), (0, 16)))
    return {"k": k, "m": m, "n": n, "sigma": draw.unit() / 4}


_FAMILY = Assumption(
    "blocks",
    "k >= 1 blocks of m >= 2 options, n >= 0, 0 < σ <= 1/4",
    lambda xp, i: i["k"] >= 1 and i["m"] >= 2 and i["n"] >= 0 and bool(0 < 4 * i["sigma"] <= 1),
)
_EVEN_CHANCE = Assumption(
    "even chance", "other options of the block are good with probability 1/2", lambda xp, i: "other" not in i
)


def _sharp(xp: Arithmetic, i: Instance) -> Any:
    return _markov(xp, i) * (1 + _rate(i)) ** i["n"] / i["m"]


LOWER_SHARP = Statement(
    name="lower-sharp",
    number="2.12",
    claim="Every learner succeeds with probability at most c (1 + w)^n / m, w = 4σ/k, c = k/(⌊k/2⌋ + 1) < 2.",
    source="this project",
    assumptions=(_FAMILY, _EVEN_CHANCE),
    family=_few_blocks,
    measured_side=_success,
    bound_side=_sharp,
    tight=lambda xp: [{"k": 1, "m": 1000, "n": n, "sigma": xp.number(1, 8)} for n in (1, 3, 5)],
    attains=0.999,
    overstated=Overstated("half of that", lambda xp, i: _sharp(xp, i) / 2),
    without=Without(
        "even chance", lambda xp: {"k": 1, "m": 100, "n": 2, "sigma": xp.number(1, 4), "other": xp.number(1, 10)}
    ),
    differentiable=False,
)


def _limit(xp: Arithmetic, i: Instance) -> Any:
    """(k / 4σ) ln(m (1 - δ) / 2)."""
    return xp.log(i["m"] * (1 - i["delta"]) / 2) / _rate(i)


def _too_few(draw: Draw) -> dict[str, Any]:
    k, m = 1 + int(draw.whole(3)), 3 + int(draw.whole(30))
    known = {"k": k, "m": m, "sigma": (1 + 4 * draw.unit()) / 20, "delta": draw.unit() * (m - 2) / m}
    limit = float(draw.unit() * _limit(draw.xp, known))
    return known | {"n": min(max(math.floor(limit), 0), 16)}


LOWER = Statement(
    name="lower-demonstrations",
    number="2.13",
    claim="With n ≤ (k/4σ) ln(m(1−δ)/2) demonstrations every learner fails with probability at least δ.",
    source="paper, theorem 3.5 (order, without proof); constants: this project",
    assumptions=(
        _FAMILY,
        _EVEN_CHANCE,
        Assumption("delta", "0 < δ < 1", lambda xp, i: bool(0 < i["delta"] < 1)),
        Assumption("few demonstrations", "n as said", lambda xp, i: bool(i["n"] - slack(xp) <= _limit(xp, i))),
    ),
    family=_too_few,
    measured_side=_success,
    bound_side=lambda xp, i: 1 - i["delta"],
    tight=lambda xp: [{"k": 1, "m": 6, "n": 0, "sigma": xp.number(1, 4), "delta": xp.number(2, 3) - xp.number(1, 999)}],
    attains=0.49,
    overstated=Overstated("so it does with four times as many", measured=lambda xp, i: _success(xp, i, 4)),
    without=Without(
        "few demonstrations", lambda xp: {"k": 1, "m": 4, "n": 9, "sigma": xp.number(1, 4), "delta": xp.number(1, 2)}
    ),
    differentiable=False,
    interval=True,
)


def _tilted(xp: Arithmetic, i: Instance, times: int = 1) -> Any:
    """c m^-θ (1 + w (2^θ - 1))^n; with ``times``, m to the power of -θ ``times``."""
    theta = i["theta"]
    power = xp.exp(-times * theta * xp.log(xp.number(i["m"])))
    return _markov(xp, i) * power * (1 + _rate(i) * (xp.exp(theta * xp.log(xp.number(2))) - 1)) ** i["n"]


LOWER_TILTED = Statement(
    name="lower-tilted",
    number="2.14",
    claim="For every θ in [0, 1], every learner succeeds with probability at most c m^−θ (1 + w(2^θ − 1))^n; so as m "
    "grows it needs (1 − o(1)) (k/4σ) log2(m) demonstrations.",
    source="this project",
    assumptions=(
        _FAMILY,
        _EVEN_CHANCE,
        Assumption("theta", "0 <= θ <= 1", lambda xp, i: bool(0 <= i["theta"] <= 1)),
    ),
    family=lambda draw: _few_blocks(draw) | {"theta": draw.unit()},
    measured_side=_success,
    bound_side=_tilted,
    tight=lambda xp: [
        {"k": 1, "m": 2, "n": 1, "sigma": xp.number(1, 4), "theta": xp.number(1, 2)},  # 3/4
        {"k": 1, "m": 1000, "n": 3, "sigma": xp.number(1, 8), "theta": xp.number(1)},  # 2.12 is the case θ = 1
    ],
    attains=0.999,
    overstated=Overstated("m counts twice", lambda xp, i: _tilted(xp, i, 2)),
    without=Without("theta", lambda xp: {"k": 1, "m": 9, "n": 0, "sigma": xp.number(1, 4), "theta": xp.number(2)}),
    differentiable=False,
    interval=True,
)

STATEMENTS = (BEST_LEARNER, LOWER_SHARP, LOWER, LOWER_TILTED)
