"""What a policy over latents can reach that does not see the action to come: its best bound, its gap.

A language model that writes its comment before the line is such a policy. Not one trajectory counts, but the mean over
those that share their beginnings, as the policy cannot tell them apart. `ra3sim.latent.best_causal` is the same dynamic
program.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from theory.arithmetic import FLOAT, Arithmetic
from theory.bound import Assumption, Draw, Instance, Overstated, Statement, Without
from theory.instances import agree, is_distribution
from theory.latents import (
    INSIDE,
    ROWS,
    expected_log_ratio,
    inside,
    prior_matrix,
    prior_table,
    real_trees,
    soft_bellman,
    step_weights,
    total_likelihood,
)

_LATENTS = 2
_SHARES = Assumption(
    "weights", "the trajectories' weights are > 0 and sum to 1",
    lambda xp, i: bool(np.all(i["weights"] > 0)) and is_distribution(i["weights"]),
)  # fmt: skip
_RECALL = Assumption(
    "recall",
    "what was known once stays known: histories that were told apart stay apart",
    lambda xp, i: bool(
        all((_same(later) <= _same(now)).all() for now, later in zip(i["history"], i["history"][1:], strict=False))
    ),
)
_CAUSAL = Assumption(
    "causal",
    "q_t is the same for trajectories with the same history s_0, a_0, ..., a_{t-1}, s_t",
    lambda xp, i: all(
        agree(i["q"][m, t], i["q"][n, t]) for t, known in enumerate(i["history"]) for m, n in np.argwhere(_same(known))
    ),
)


def _same(history: np.ndarray) -> np.ndarray:
    """Which trajectories have the same history at a step, ``(M, M)``."""
    return history[:, None] == history


def best_causal(xp: Arithmetic, i: Instance, foresight: bool = True) -> tuple[Any, Any]:
    """The best causal q, ``(M, T, Z + 1, Z)``, and the mean of its bounds, by V(h,z') = ln Σ_z p(z|z') exp E[·|h].

    In the exponent stands the mean, over the trajectories of history h, of ln π(a_t|s_t,z) + V(h a_t s_{t+1}, z), here
    with ``foresight`` False without V.

    Args:
        i: ``keep``, ``start``, ``emission (M, T, Z)``, ``weights (M,)`` of the trajectories, and ``history (T, M)``:
            a number for what is known before a_t.
    """
    emission, start = i["emission"], i["start"]
    latents, rows = emission.shape[-1], []
    prior = prior_matrix(xp, i["keep"], latents)
    value = xp.zeros(len(emission), latents)
    for t in reversed(range(emission.shape[1])):
        share = xp.array(_same(i["history"][t]).astype(int)) * i["weights"]
        share = share / share.sum(-1)[:, None]
        gain = xp.log(emission[:, t]) + (value if foresight else 0)
        score = prior * xp.exp(share @ gain)[:, None, :]
        total = score.sum(-1)
        rows.append(score / total[..., None])
        value, first = xp.log(total[:, :latents]), total[:, start]
    return xp.stack(rows[::-1], 1), (i["weights"] * xp.log(first)).sum()


def mean_bound(xp: Arithmetic, i: Instance, q: Any) -> Any:
    """Σ_m w_m ELBO_m(q) of a q ``(M, T, Z + 1, Z)``."""
    return (i["weights"] * expected_log_ratio(xp, i["start"], q, step_weights(xp, i))).sum()


def _mean_log_likelihood(xp: Arithmetic, i: Instance) -> Any:
    return (i["weights"] * xp.log(total_likelihood(xp, i))).sum()


def _tree(draw: Draw) -> dict[str, Any]:
    """All sequences of two actions, 3 steps, any expert; policies that depend on the history in any way."""
    steps, leaves = 3, np.arange(8)
    policy = inside(draw.distribution(2**steps - 1, _LATENTS, 2))
    known = [leaves >> (steps - t) for t in range(steps)]
    emission = [policy[2**t - 1 + known[t], :, (leaves >> (steps - 1 - t)) & 1] for t in range(steps)]
    return {
        "keep": inside(draw.unit()),
        "start": draw.whole(_LATENTS + 1),
        "emission": draw.xp.stack(emission, 1),
        "weights": inside(draw.distribution(len(leaves)), len(leaves)),
        "history": np.array(known),
    }


def _silent(xp: Arithmetic) -> Iterator[Instance]:
    """Actions that tell nothing of the latent: all latents have the same policy."""
    emission = xp.array([[[1, 1], [1, 1]], [[3, 3], [1, 1]]]) / 4
    weights, history = xp.array([1, 2]) / 3, np.array([[0, 0], [0, 1]])
    for start in (0, 2):
        yield {"keep": xp.number(1, 3), "start": start, "emission": emission, "weights": weights, "history": history}


def _two_lines(xp: Arithmetic) -> dict[str, Any]:
    """Two trajectories of two steps that part at the first action, which tells of the latent."""
    emission = xp.array([[[3, 1], [3, 1]], [[1, 3], [1, 2]]]) / 4
    weights, history = xp.array([1, 2]) / 3, np.array([[0, 0], [0, 1]])
    return {"keep": xp.number(1, 3), "start": 2, "emission": emission, "weights": weights, "history": history}


CAUSAL_BOUND = Statement(
    name="causal-bound",
    number="5.5",
    claim="The best q that does not see a_t and later has exp(mean ELBO) ≤ the geometric mean of the likelihoods.",
    source="this project",
    assumptions=(INSIDE, _SHARES, _RECALL),
    family=_tree,
    measured_side=lambda xp, i: xp.exp(best_causal(xp, i)[1]),
    bound_side=lambda xp, i: xp.exp(_mean_log_likelihood(xp, i)),
    tight=_silent,
    overstated=Overstated(
        "it is below the harmonic mean", bound=lambda xp, i: 1 / (i["weights"] / total_likelihood(xp, i)).sum()
    ),
    without=Without(
        "weights",
        lambda xp: {
            "keep": xp.number(0), "start": 2, "emission": xp.array([[[2, 1]], [[1, 2]]]) / 4,
            "weights": xp.array([2, -1]), "history": np.array([[0, 0]]),
        },
    ),
    interval=True,
    real=lambda: real_trees(6),
)  # fmt: skip


def _causal_kl(xp: Arithmetic, i: Instance, q: Any) -> Any:
    """Σ_m w_m E_q Σ_t KL(q_t‖q*_t), q* seeing all of trajectory m."""
    posterior = soft_bellman(xp, step_weights(xp, i))
    return -(i["weights"] * expected_log_ratio(xp, i["start"], q, posterior)).sum()


def _reverse_kl(xp: Arithmetic, i: Instance) -> Any:
    posterior = soft_bellman(xp, step_weights(xp, i))
    return -(i["weights"] * expected_log_ratio(xp, i["start"], posterior, best_causal(xp, i)[0])).sum()


CAUSAL_GAP = Statement(
    name="causal-gap",
    number="5.6",
    claim="mean ln π(a|s) − mean ELBO(best causal q) = the mean of E_q Σ_t KL(q_t‖q*_t), with q* the posterior.",
    source="this project",
    assumptions=(INSIDE, _SHARES, _RECALL),
    family=_tree,
    measured_side=lambda xp, i: _mean_log_likelihood(xp, i) - best_causal(xp, i)[1],
    bound_side=lambda xp, i: _causal_kl(xp, i, best_causal(xp, i)[0]),
    tight=lambda xp: [_two_lines(xp)],
    overstated=Overstated("it is the KL from the posterior to q", bound=_reverse_kl),
    without=Without("recall", lambda xp: _two_lines(xp) | {"history": np.array([[0, 1], [0, 0]])}),
    equality=True,
    interval=True,
    real=lambda: real_trees(6),
)


def _causal_q(draw: Draw) -> Instance:
    i = _tree(draw)
    q = draw.distribution(2 ** len(i["history"]) - 1, _LATENTS + 1, _LATENTS)
    node = 2 ** np.arange(len(i["history"]))[:, None] - 1 + i["history"]
    return i | {"q": q[node.T]}


def _seeing(xp: Arithmetic) -> Instance:
    i = _two_lines(xp)
    return i | {"q": soft_bellman(xp, step_weights(xp, i))}


BEST_CAUSAL = Statement(
    name="best-causal",
    number="5.7",
    claim="No causal q has a larger mean ELBO than V(h,z') = ln Σ_z p(z|z') exp E[ln π(a|s,z) + V(has',z) | h].",
    source="this project",
    assumptions=(INSIDE, _SHARES, _RECALL, ROWS, _CAUSAL),
    family=_causal_q,
    measured_side=lambda xp, i: xp.exp(mean_bound(xp, i, i["q"])),
    bound_side=lambda xp, i: xp.exp(best_causal(xp, i)[1]),
    tight=lambda xp: [i | {"q": best_causal(xp, i)[0]} for i in [_two_lines(xp), *_silent(xp)]],
    overstated=Overstated(
        "the best one need not look ahead",
        bound=lambda xp, i: xp.exp(mean_bound(xp, i, best_causal(xp, i, foresight=False)[0])),
    ),
    without=Without("causal", _seeing),
    interval=True,
    real=lambda: [
        (f"{name}, q = prior", i | {"q": np.stack([prior_table(FLOAT, i)] * len(i["emission"]))})
        for name, i in real_trees(6)
    ],
)

STATEMENTS = (CAUSAL_BOUND, CAUSAL_GAP, BEST_CAUSAL)
