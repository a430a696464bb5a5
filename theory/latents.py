"""Latents in tables, in any arithmetic: the temporal prior, likelihoods, bounds, the soft Bellman recursion.

With s_t and a_t given, one step is a table w_t(z|z') = p(z|s_t,z') π(a_t|s_t,z): the prior times the emission. Tables
are ``(..., T, Z + 1, Z)``: row z' < Z is for the latent before, row Z for a first latent with none before it, as in
`ra3sim.latent`. So ``start`` in 0..Z says at once which latent comes before the first step, and with Z that none does.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from ra3sim.abstraction import TemporalPrior
from ra3sim.envs import LineWorld, fourrooms
from ra3sim.latent import LatentModel, Trajectories, generate, histories
from ra3sim.options import OptionSet
from theory.arithmetic import Arithmetic
from theory.bound import Assumption, Draw, Instance
from theory.instances import is_distribution


def prior_matrix(xp: Arithmetic, keep: Any, latents: int) -> Any:
    """p(z|z') = α 1{z = z'} + (1 - α)/Z, and 1/Z in row Z: ``(Z + 1, Z)``.

    >>> from theory.arithmetic import FLOAT
    >>> prior_matrix(FLOAT, 0.5, 2).tolist()
    [[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]]
    """
    before = np.arange(latents + 1)[:, None] < latents
    return (
        xp.array(np.eye(latents + 1, latents, dtype=int)) * keep + (1 - xp.array(before.astype(int)) * keep) / latents
    )


def step_weights(xp: Arithmetic, instance: Instance) -> Any:
    """w_t(z|z'), ``(..., T, Z + 1, Z)``, of an instance with ``keep`` and ``emission (..., T, Z)``."""
    emission = instance["emission"]
    return prior_matrix(xp, instance["keep"], emission.shape[-1]) * emission[..., None, :]


def likelihood(xp: Arithmetic, start: Any, weights: Any) -> Any:
    """Σ_z Π_t w_t(z_t|z_{t-1}) by the forward recursion, ``(...)``: the likelihood π(a_{0:T}|s_{0:T})."""
    latents = weights.shape[-1]
    forward = weights[..., 0, start, :]
    for t in range(1, weights.shape[-3]):
        forward = (forward[..., :, None] * weights[..., t, :latents, :]).sum(-2)
    return forward.sum(-1)


def total_likelihood(xp: Arithmetic, instance: Instance) -> Any:
    """`likelihood` of an instance's actions."""
    return likelihood(xp, instance["start"], step_weights(xp, instance))


def prior_table(xp: Arithmetic, instance: Instance) -> Any:
    """p(z|z') at every step, ``(T, Z + 1, Z)``: the prior, taken as a q."""
    steps, latents = instance["emission"].shape[-2:]
    return xp.stack([prior_matrix(xp, instance["keep"], latents)] * steps)


def soft_bellman(xp: Arithmetic, weights: Any) -> Any:
    """q*_t(z|z') ∝ w_t(z|z') exp b_{t+1}(z), with exp b_t(z') = Σ_z w_t(z|z') exp b_{t+1}(z), exp b_{T+1} = 1.

    Rows from which nothing is possible are 0.
    """
    latents, rows = weights.shape[-1], []
    later = xp.array(np.ones(latents, int))
    for t in reversed(range(weights.shape[-3])):
        score = weights[..., t, :, :] * later[..., None, :]
        total = score.sum(-1)
        rows.append(score / xp.where(total == 0, 1, total)[..., None])
        later = total[..., :latents]
    return xp.stack(rows[::-1], -3)


def expected_log_ratio(xp: Arithmetic, start: Any, q: Any, weights: Any) -> Any:
    """E_q Σ_t ln(w_t(z_t|z_{t-1}) / q_t(z_t|z_{t-1})), ``(...)``, step by step along the marginals of q.

    With the weights of `step_weights` it is the bound E_q[Σ_t ln π - KL(q_t‖p)]; with another table q' in their place,
    minus the expected KL from q to q'.
    """
    latents = q.shape[-1]
    before, total = xp.array([1]), 0
    for t in range(q.shape[-3]):
        rows, table = q[..., t, :latents, :], weights[..., t, :latents, :]
        if t == 0:
            rows, table = q[..., 0, start, :][..., None, :], weights[..., 0, start, :][..., None, :]
        joint = before[..., :, None] * rows
        total = total + times_log(xp, joint, table / xp.where(rows > 0, rows, 1)).sum((-2, -1))
        before = joint.sum(-2)
    return total


def path_weights(xp: Arithmetic, start: Any, tables: Any) -> Any:
    """Π_t table_t[z_{t-1}, z_t] of every sequence of latents, ``(Z^T,)``, by enumeration."""
    steps, latents = tables.shape[0], tables.shape[-1]
    paths = np.array(list(product(range(latents), repeat=steps)))
    result = tables[0][start][paths[:, 0]]
    for t in range(1, steps):
        result = result * tables[t][paths[:, t - 1], paths[:, t]]
    return result


def times_log(xp: Arithmetic, weights: Any, values: Any) -> Any:
    """weights · ln(values), and 0 where the weight is 0."""
    used = weights > 0
    return xp.where(used, weights * xp.log(xp.where(used, values, 1)), 0)


def latents_of(instance: Instance) -> int:
    """Z, from the emissions or from ν."""
    return instance["emission"].shape[-1] if "emission" in instance else instance["nu"].shape[-1] + 1


def think_rate(xp: Arithmetic, instance: Instance) -> Any:
    """ρ = (1 - α)(Z - 1)/Z, the prior's probability of any new latent."""
    latents = latents_of(instance)
    return (1 - instance["keep"]) * (latents - 1) / latents


# ---- Assumptions and instances ---------------------------------------------------------------------------------------


KEEP = Assumption("alpha", "α lies in [0, 1]", lambda xp, i: bool(0 <= i["keep"] <= 1))
EMISSION = Assumption("emission", "the emissions π(a_t|s_t,z) are >= 0", lambda xp, i: bool(np.all(i["emission"] >= 0)))
POSSIBLE = Assumption(
    "possible",
    "some sequence of latents explains the actions",
    lambda xp, i: bool(np.all(total_likelihood(xp, i) > 0)),
)
INSIDE = Assumption(
    "positive",
    "0 <= α < 1 and all emissions are > 0, so that every q has a finite bound",
    lambda xp, i: bool(0 <= i["keep"] < 1 and np.all(i["emission"] > 0)),
)
ROWS = Assumption("q", "the rows q_t(·|z') are distributions", lambda xp, i: is_distribution(i["q"]))


def random_steps(draw: Draw, steps: int = 3, latents: int = 3) -> dict[str, Any]:
    """α, any start (fixed or free), and emissions in (0, 1)."""
    return {"keep": draw.unit(), "start": draw.whole(latents + 1), "emission": draw.unit(steps, latents)}


def inside(shares: Any, parts: int = 2) -> Any:
    """Distributions over ``parts`` outcomes (or one of two shares) at least 1e-6 / parts away from 0.

    What a search drives to the edge would be rounded to it, where bounds are infinite.
    """
    # Whole numbers, so that fractions stay fractions.
    return (999_999 * parts * shares + 1) / (1_000_000 * parts)


def emissions(xp: Arithmetic, rows: list[list[int]], start: int, keep: Any, scale: int = 1) -> dict[str, Any]:
    """An instance with the emissions ``rows / scale``."""
    return {"keep": keep, "start": start, "emission": xp.array(rows) / scale}


@functools.cache
def demonstrations() -> tuple[tuple[str, LatentModel, Trajectories], ...]:
    """Walks through FourRooms from corner to corner, programs of LineWorld's experts; models that know both roughly."""
    rooms = fourrooms(discount=0.95, slip=0.1, start=(0, 0))
    corners = [rooms.state_names.index(str(cell)) for cell in ((0, 10), (10, 0), (10, 10))]
    truth = LatentModel.from_options(OptionSet.point(rooms, corners))
    walks, _, _ = generate(truth, rooms, count=6, steps=12, seed=0)

    world = LineWorld.preset("table")
    table = world.table()
    skills = table.skill_options([int(skill) for skill in world.rule])
    first = [int(np.argmax(table.classes == c)) for c in range(table.num_classes)]
    programs = Trajectories.from_pairs(
        [table.trajectory(program) for program in world.expert(6, 0)], table.num_states, table.num_actions
    ).merge(table.classes)
    return (
        ("FourRooms, walks to corners", _roughly(truth.policy), walks),
        ("LineWorld, experts' programs", _roughly(skills.policy[:, first]), programs),
    )


def _roughly(policy: np.ndarray) -> LatentModel:
    """Every action has some probability, as after learning; α = 0.8."""
    return LatentModel(0.9 * policy + 0.1 / policy.shape[-1], TemporalPrior(len(policy), 0.8))


def real_steps(steps: int, starts: tuple[str, ...] = ("free", "fixed")) -> Iterator[tuple[str, dict[str, Any]]]:
    """The first steps of a trajectory of each of the `demonstrations`.

    The emissions of a step are divided by the largest, so that likelihoods stay far from 0; no statement about latents
    changes if all emissions of a step are divided by a number that leaves them in [0, 1].
    """
    for name, model, trajectories in demonstrations():
        states, actions = (x[:steps] for x in trajectories[0])
        emission = scaled(model.policy[:, states, actions].T)
        prior: Any = model.prior
        for start in starts:
            before = model.num_latents if start == "free" else 0
            yield f"{name}, {start} start", {"keep": prior.keep, "start": before, "emission": emission}


def real_trees(steps: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The beginnings of several trajectories of each of the `demonstrations`, with what is known at every step."""
    for name, model, trajectories in demonstrations():
        i = from_model(model, beginnings(trajectories, steps))
        yield name, i | {"emission": scaled(i["emission"])}


def beginnings(trajectories: Trajectories, steps: int) -> Trajectories:
    """The first steps of every trajectory."""
    whole = (trajectories[m] for m in range(len(trajectories)))
    pairs = [(states[:steps], actions[:steps]) for states, actions in whole]
    return Trajectories.from_pairs(pairs, trajectories.num_states, trajectories.num_actions)


def from_model(model: LatentModel, trajectories: Trajectories) -> dict[str, Any]:
    """The instance, in floats, of a model with a `TemporalPrior` and M equally likely trajectories of T steps each.

    Returns:
        ``keep``, ``start``, ``emission (M, T, Z)``, ``weights (M,)``; ``history (T, M)``, a number for what is known at
        a step before the action is seen.

    Raises:
        ValueError: another prior, or trajectories of unequal lengths.
    """
    if not isinstance(model.prior, TemporalPrior):
        raise ValueError(f"model: the prior must be a TemporalPrior, got {type(model.prior).__name__}")
    count, steps = len(trajectories), int(trajectories.lengths[0])
    if (trajectories.lengths != steps).any():
        raise ValueError("trajectories: of unequal lengths; cut them to one")
    emission = model.policy[:, trajectories.states, trajectories.actions].T
    return {
        "keep": model.prior.keep,
        "start": model.num_latents if model.prior.start is None else model.prior.start,
        "emission": emission.reshape(count, steps, -1),
        "weights": np.full(count, 1 / count),
        "history": histories(trajectories).index.reshape(count, steps).T,
    }


def scaled(emission: np.ndarray) -> np.ndarray:
    """Emissions ``(..., Z)`` divided by the largest of their step."""
    return emission / emission.max(-1, keepdims=True)
