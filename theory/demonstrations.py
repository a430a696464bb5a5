"""The regret that remains after n demonstrations (theory, section 4): 4.4 for every subset that none of them refutes.

A demonstration of a task M refutes Ẑ if Δ(M, Ẑ) > ε. For n >= (ln C(|Z|,k) + ln 1/δ) / σ independent ones, every
(ε,σ)-bad subset of size k is refuted with probability >= 1 − δ, and 4.4 holds of all others.

An instance is one of `theory.total_regret` with ``size`` (k), ``demonstrations`` (n), ``delta`` (δ), without ``kept``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np

from theory.arithmetic import Arithmetic
from theory.bound import Assumption, Draw, Instance, Overstated, Statement, Without
from theory.instances import MODEL, random_options
from theory.pruning import seen_tasks, sharp_samples
from theory.survival import TASKS
from theory.total_regret import REWARDS, Tasks, bandits, loss_from_below


def chance_unrefuted(xp: Arithmetic, probabilities: Any, refutes: np.ndarray, demonstrations: int) -> Any:
    """Probability that some subset is refuted by none of the tasks of n independent demonstrations.

    Exact, by the sets of tasks that may be seen: 2^T of them.

    Args:
        refutes: boolean ``(subsets, T)``.

    >>> from theory.arithmetic import FLOAT
    >>> float(chance_unrefuted(FLOAT, np.array([0.5, 0.5]), np.array([[True, False]]), 3))
    0.125
    """
    seen, exactly = seen_tasks(xp, probabilities, [demonstrations])
    survives = ~(seen[:, None] & refutes).any(-1)
    return (exactly[0] * survives.any(-1)).sum()


def _failure(xp: Arithmetic, instance: Instance) -> Any:
    """The probability that an unrefuted subset of size k exceeds the bound of 4.4 for some N."""
    tasks, refutes = Tasks.of(xp, instance), []
    count = len(instance["policy"])
    for chosen in combinations(range(count), instance["size"]):
        kept = np.isin(np.arange(count), chosen)
        if any(tasks.regret(kept) > tasks.bound(kept, loss_from_below)):
            refutes.append((tasks.pruning(kept) > instance["epsilon"]).astype(bool))
    table = np.array(refutes, bool).reshape(len(refutes), len(instance["p"]))
    return chance_unrefuted(xp, instance["p"], table, instance["demonstrations"])


def _has_enough(xp: Arithmetic, instance: Instance) -> bool:
    subsets = math.comb(len(instance["policy"]), instance["size"])
    enough = xp.log(xp.number(subsets)) - xp.log(instance["delta"])
    return bool(instance["demonstrations"] * instance["sigma"] >= enough)


ENOUGH = Assumption("enough demonstrations", "n ≥ (ln C(|Z|,k) + ln 1/δ)/σ", _has_enough)


def _with_demonstrations(xp: Arithmetic, tasks: Instance, size: int, **shares: Any) -> dict[str, Any]:
    """The tasks with ε, σ, δ and as many demonstrations as these ask for."""
    given = {name: float(xp.max(xp.array([shares[name]]))) for name in ("sigma", "delta")}
    n = sharp_samples(len(tasks["policy"]), size, given["sigma"], given["delta"])
    return {**tasks, **shares, "size": size, "demonstrations": n}


def _demonstrated(draw: Draw) -> dict[str, Any]:
    """Three tasks, two states, three options of which one or two are kept; little future, so that much can be lost."""
    xp, options = draw.xp, random_options(draw, 2)
    tasks = options | {
        "discount": options["discount"] / 4,
        "rewards": draw.unit(3, 2, 2),
        "p": draw.distribution(3),
    }
    return _with_demonstrations(
        xp,
        tasks,
        1 + int(draw.whole(2)),
        epsilon=draw.unit() / 4,
        sigma=xp.number(1, 20) + draw.unit() / 2,
        delta=xp.number(1, 100) + draw.unit() / 2,
    )


def _hard_to_refute(xp: Arithmetic) -> Iterator[Instance]:
    """Ten options, each but the last useless in a rare task of its own, which alone refutes it."""
    count, rare = 10, xp.number(1, 1000)
    sigma = rare * xp.number(999_999, 1_000_000)
    payoffs = 1 - np.eye(count, dtype=int)
    payoffs[-1] = 1
    tasks = bandits(xp, payoffs, [rare] * (count - 1) + [1 - (count - 1) * rare])
    yield _with_demonstrations(xp, tasks, 1, epsilon=xp.number(0), sigma=sigma, delta=xp.number(1, 1000))


CONFIDENCE = Statement(
    name="regret-from-demonstrations",
    number="4.2",
    claim="n ≥ (ln C(|Z|,k) + ln 1/δ)/σ ⇒ with probability ≥ 1−δ, 4.4 bounds the regret of every unrefuted Ẑ of size k",
    source="this project (sharp form of the paper's theorem 3.5, with 4.4)",
    assumptions=(MODEL, TASKS, REWARDS, ENOUGH),
    family=_demonstrated,
    measured_side=_failure,
    bound_side=lambda xp, i: i["delta"],
    tight=_hard_to_refute,
    attains=0.89,
    overstated=Overstated("as many are enough for a risk of δ⁸", lambda xp, i: i["delta"] ** 8),
    without=Without("enough demonstrations", lambda xp: next(iter(_hard_to_refute(xp))) | {"demonstrations": 5000}),
    differentiable=False,
)

STATEMENTS = (CONFIDENCE,)
