"""How many demonstrations prune a decision space (Zhang et al. 2025, theorem 3.5; exact forms: this project).

Tasks are drawn from p. Δ(M, B) >= 0 is the value that task M loses where only the options B are kept. B is
(ε, σ)-bad if Pr(Δ(M, B) > ε) >= σ; a demonstration of M refutes B if Δ(M, B) > ε. The probability that some bad subset
of size k survives n independent demonstrations is computed exactly here, by the set of tasks that are seen.

An instance has ``p`` ``(tasks,)``, ``k``, ``epsilon``, ``sigma`` and one of

``value`` ``(tasks, Z)``: a set of options is worth its best member; ``together`` ``(tasks, pairs)``, if there, is what
pairs of options (in the order of `itertools.combinations`) are worth as soon as both are kept;

``error`` ``(subsets, tasks)`` of all subsets of size k in that order, ``single`` ``(Z, tasks)`` of one option alone,
both computed elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np

from ra3sim import _check
from ra3sim.envs import from_gymnasium
from ra3sim.options import OptionSet
from ra3sim.planning import solve
from ra3sim.smdp import SMDP
from theory.arithmetic import EXACT, FLOAT, Arithmetic
from theory.bound import Instance

# More tasks than this have too many sets of seen tasks to go through.
MOST_TASKS = 16
# Floats: probabilities that should be equal may differ by this.
_ROUNDING = 1e-12


def sharp_samples(options: int, k: int, sigma: float, delta: float) -> int:
    """The smallest whole n >= (ln C(|Z|, k) + ln(1/δ)) / σ: then no (ε, σ)-bad subset survives, but with probability δ.

    Args:
        options: |Z|.
        k: size of the subsets.

    Raises:
        ValueError: an empty decision space, a size that it does not have, σ outside (0, 1], δ outside (0, 1).

    >>> sharp_samples(64, 4, sigma=0.05, delta=0.1), closed_samples(64, 4, sigma=0.05, delta=0.1)
    (314, 348)
    """
    check_sizes(options, k)
    return _ceil((_log_choose(options, k) + _log_inverse(delta)) / check_sigma(sigma))


def closed_samples(options: int, k: int, sigma: float, delta: float) -> int:
    """The smallest whole n >= (k ln(e|Z|/k) + ln(1/δ)) / σ; not less than `sharp_samples`, and errors as there."""
    check_sizes(options, k)
    return _ceil((k * math.log(math.e * options / k) + _log_inverse(delta)) / check_sigma(sigma))


def failure_probability(p: Any, error: Any, *, epsilon: float, sigma: float, n: int) -> float:
    """The probability that some (ε, σ)-bad subset survives n independent demonstrations, exactly (up to rounding).

    Args:
        p: probabilities of the tasks, ``(tasks,)``, at most `MOST_TASKS` of them.
        error: Δ of each subset in each task, ``(subsets, tasks)``.

    Raises:
        ValueError: probabilities that do not sum to 1, errors < 0 or of no subset, ε < 0, σ outside (0, 1], n < 0.

    >>> failure_probability([0.75, 0.25], [[0, 1], [0, 0]], epsilon=0, sigma=0.25, n=2)
    0.5625
    """
    error = _check.real_array("error", error, (None, None), "(subsets, tasks)")
    p = _check.distribution("p", p, (error.shape[1],), "(tasks,)")
    if len(error) == 0:
        raise ValueError("error: has no subsets: the decision space is empty; give Δ of at least one subset")
    if (error < 0).any():
        where = _check.first(error < 0, ("subset", "task"))
        raise ValueError(f"error[{where}] is negative; the error of a pruned space is the value that it loses")
    if error.shape[1] > MOST_TASKS:
        raise ValueError(f"p: at most {MOST_TASKS} tasks can be gone through, got {error.shape[1]}; simulate instead")
    if not epsilon >= 0:
        raise ValueError(f"epsilon: must be >= 0, got {epsilon!r}")
    known = {"p": p, "error": error, "epsilon": epsilon, "sigma": check_sigma(sigma)}
    return float(survival_probability(FLOAT, known, bad(FLOAT, known), [check_count("n", n)])[0])


def check_sizes(options: int, k: int) -> None:
    """
    Raises:
        ValueError: an empty decision space, or no subset of size k >= 1.
    """
    if check_count("options", options) == 0:
        raise ValueError("options: the decision space is empty; it needs at least one option")
    if not 1 <= check_count("k", k) <= options:
        raise ValueError(f"k: subsets of {options} options have 1 to {options} of them, got {k!r}")


def check_count(name: str, value: int) -> int:
    """
    Raises:
        ValueError: not a whole number >= 0.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise ValueError(f"{name}: must be a whole number >= 0, got {value!r}")
    return int(value)


def check_sigma(sigma: float) -> float:
    """
    Raises:
        ValueError: outside (0, 1].
    """
    if not 0 < sigma <= 1:
        raise ValueError(f"sigma: must lie in (0, 1], got {sigma!r}")
    return float(sigma)


def check_delta(delta: float) -> float:
    """
    Raises:
        ValueError: outside (0, 1).
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta: must lie strictly between 0 and 1, got {delta!r}")
    return float(delta)


def _log_inverse(delta: float) -> float:
    return -math.log(check_delta(delta))


def _log_choose(options: int, k: int) -> float:
    return math.log(math.comb(options, k))


def _ceil(value: float) -> int:
    # Logarithms of floats can miss a whole number by a rounding; that is not one demonstration more.
    return math.ceil(value - 1e-12 * max(1.0, value))


# ---- What is computed of an instance ---------------------------------------------------------------------------------


def errors(xp: Arithmetic, instance: Instance, size: int | None = None) -> Any:
    """Δ of every subset of the size (k if None), ``(subsets, tasks)``."""
    if "value" not in instance:
        return instance["error"]
    value, size = instance["value"], instance["k"] if size is None else size
    count = value.shape[1]
    sets = list(combinations(range(count), size))
    worth, best = xp.max(value[:, np.array(sets)], 2), xp.max(value, 1)
    if "together" in instance:
        together, pairs = instance["together"], list(combinations(range(count), 2))
        within = np.array([[set(pair) <= set(one) for pair in pairs] for one in sets])
        best = xp.maximum(best, xp.max(together, 1))
        extra = xp.where(within[None], together[:, None], 0 * together[:, None])
        worth = xp.maximum(worth, xp.max(extra, 2))
    return (best[:, None] - worth).T


def fails(xp: Arithmetic, instance: Instance, size: int | None = None) -> Any:
    """Whether Δ > ε, ``(subsets, tasks)``."""
    return errors(xp, instance, size) > instance["epsilon"]


def failing_share(xp: Arithmetic, instance: Instance) -> Any:
    """Pr(Δ > ε), ``(subsets,)``."""
    return xp.where(fails(xp, instance), 1, 0) @ instance["p"]


def bad(xp: Arithmetic, instance: Instance) -> Any:
    """Which subsets are (ε, σ)-bad."""
    return failing_share(xp, instance) >= instance["sigma"] - slack(xp)


def seen_tasks(xp: Arithmetic, p: Any, counts: Sequence[Any]) -> tuple[np.ndarray, Any]:
    """The sets T of tasks ``(T, tasks)``, and the probability that n independent demonstrations show just these.

    Pr(the tasks seen are T) = Σ_{U ⊆ T} (-1)^{|T| - |U|} p(U)^n.

    Args:
        counts: values of n.

    Returns:
        Booleans (as 0 and 1) ``(2^tasks, tasks)``, probabilities ``(counts, 2^tasks)``.
    """
    seen = (np.arange(2 ** len(p))[:, None] >> np.arange(len(p))) & 1
    # Whole numbers, if exact: powers of fractions would be reduced again and again.
    scale = math.lcm(*(int(share.q) for share in p)) if xp is EXACT else 1
    weight = seen @ (p * scale)
    exactly = xp.stack([weight**n for n in counts])
    for axis in range(len(p)):
        pairs = exactly.reshape(len(counts), 2**axis, 2, -1)
        exactly = xp.stack([pairs[:, :, 0], pairs[:, :, 1] - pairs[:, :, 0]], 2).reshape(len(counts), -1)
    return seen, exactly / xp.stack([xp.number(scale) ** n for n in counts])[:, None]


def survival_probability(
    xp: Arithmetic, instance: Instance, which: Any, counts: Sequence[Any], size: int | None = None
) -> Any:
    """The probability that one of the subsets ``which`` (a mask) is refuted by none of n independent demonstrations.

    Args:
        counts: values of n.

    Returns:
        ``(counts,)``.
    """
    # Demonstrations in groups of copies tell no more than one of each group.
    copies = instance.get("copies", 1)
    seen, exactly = seen_tasks(xp, instance["p"], [-(-n // copies) for n in counts])
    survives = xp.where(fails(xp, instance, size), 1, 0) @ seen.T == 0  # (subsets, T)
    return xp.where((survives & which[:, None]).any(0), exactly, 0 * exactly).sum(1)


@cache
def lake() -> tuple[tuple[str, dict[str, Any]], ...]:
    """FrozenLake, the 16 macros of two moves, pairs of these kept; six starts are the tasks, all as likely.

    ε is the least with an adequate pair, and σ the share of tasks in which the best of the other pairs fails.
    """
    mdp = from_gymnasium("FrozenLake-v1", 0.95)
    macros, starts = OptionSet.macros(mdp, 2), np.flatnonzero(~mdp.terminal)[:6]

    def values(kept: Sequence[int]) -> np.ndarray:
        return solve(SMDP.from_options(mdp, macros.subset(kept)), tolerance=1e-10).values[starts]

    whole = values(range(len(macros)))
    single, error = (
        np.array([whole - values(one) for one in combinations(range(len(macros)), size)]).clip(0) for size in (1, 2)
    )
    epsilon = error.max(1).min() + 1e-9  # more than the planner's error
    share = (error > epsilon).mean(1)
    sigma = share[share > 0].min()
    known = {"p": np.full(6, 1 / 6), "error": error, "single": single, "k": 2, "epsilon": epsilon, "sigma": sigma}
    return (("FrozenLake, pairs of macros", known | {"subset": int((share == sigma).argmax()), "V_max": whole.max()}),)


def slack(xp: Arithmetic) -> Any:
    """What comparisons of probabilities allow for rounding: nothing in exact arithmetic."""
    return 0 if xp is EXACT else _ROUNDING


def option_count(instance: Instance) -> int:
    """|Z|."""
    return instance["value"].shape[1] if "value" in instance else len(instance["single"])


def whole_above(xp: Arithmetic, value: Any) -> Any:
    """The smallest whole number that is not less."""
    return math.ceil(float(value.upper())) if xp is EXACT else -(-value // 1)
