"""Policies over latents that do not see the action to come: their exact value, and the best one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp, softmax

from ra3sim import _check
from ra3sim.abstraction import ThoughtPrice
from ra3sim.latent import _kernels
from ra3sim.latent.inference import _flat, _tables
from ra3sim.latent.model import LatentModel
from ra3sim.latent.trajectories import Trajectories


@dataclass(frozen=True)
class Contexts:
    """What a policy over latents may condition on: a number for every step, equal where it sees the same.

    Args:
        index: ``(N,)``, the context of each step.
        count: C, how many there are.
        depth: ``(C,)``, the step at which a history stands; None: contexts are no histories.
    """

    index: np.ndarray
    count: int
    depth: np.ndarray | None = None


def histories(trajectories: Trajectories) -> Contexts:
    """All that is known before a_t is seen: s_0, a_0, ..., a_{t-1}, s_t. Equal beginnings share their contexts.

    >>> two = Trajectories.from_pairs([([0, 1], [0, 0]), ([0, 1], [1, 0])], num_states=2, num_actions=2)
    >>> histories(two).index.tolist()
    [0, 1, 0, 2]
    """
    index = np.empty(trajectories.num_steps, np.int64)
    depth: list[np.ndarray] = []
    count, lengths, first = 0, trajectories.lengths, trajectories.offsets[:-1]
    before = np.zeros(len(trajectories), np.int64)
    for t in range(int(lengths.max())):
        alive = np.flatnonzero(lengths > t)
        rows = first[alive] + t
        key = (before[alive] * trajectories.num_states + trajectories.states[rows]).astype(np.int64)
        found, number = np.unique(key, return_inverse=True)
        index[rows] = count + number
        before[alive] = index[rows] * trajectories.num_actions + trajectories.actions[rows]
        depth.append(np.full(len(found), t))
        count += len(found)
    return Contexts(index, count, np.concatenate(depth))


def state_contexts(trajectories: Trajectories) -> Contexts:
    """The state alone: such a policy can be used on other trajectories, but is weaker than one that remembers."""
    return Contexts(trajectories.states.astype(np.int64), trajectories.num_states)


class PolicyValue(NamedTuple):
    """The bound of a policy over latents: ``elbo`` and its KL part, ``(M,)``, and the gradient of Σ elbo, or None."""

    elbo: np.ndarray
    kl: np.ndarray
    gradient: np.ndarray | None


def evaluate_policy(
    model: LatentModel, trajectories: Trajectories, policy: Any, contexts: Contexts, *, gradient: bool = False
) -> PolicyValue:
    """E_q[Σ_t log π(a_t|s_t,z_t) + log p(z_t|s_t,z_{t-1}) − log q(z_t|·)], exactly, by a recursion over steps.

    With a `ThoughtPrice` the entropy does not count: E_q[Σ_t log π(a_t|s_t,z_t) − c·1{z_t ≠ z_{t-1}}], and ``kl`` is
    c times the expected number of thoughts.

    Args:
        policy: q(z_t|context, z_{t-1}), ``(C, Z + 1, Z)``; row Z is for a first step without a latent before it.
        gradient: also the derivative of the sum over trajectories with respect to the entries of ``policy``, each one
            taken as free.

    Raises:
        ValueError: rows that are no distribution, a wrong shape.
    """
    Z = model.num_latents
    policy = _check.distribution("policy", policy, (contexts.count, Z + 1, Z), "cyz")
    emission, _, _, start = _tables(model, trajectories)
    log_p = log_prior_table(model)
    value, kl = np.empty(len(trajectories)), np.empty(len(trajectories))
    slope = np.zeros(policy.shape if gradient else (0, Z + 1, Z))
    entropy = not isinstance(model.prior, ThoughtPrice)
    with np.errstate(divide="ignore"):
        log_emission = np.log(emission)
    _kernels.policy_value(
        *_flat(trajectories), contexts.index, log_emission, log_p, start, policy, value, kl, slope, entropy
    )
    return PolicyValue(value, kl, slope if gradient else None)


def log_prior_table(model: LatentModel) -> np.ndarray:
    """The logarithm of `LatentModel.prior_matrix`, ``(S, Z + 1, Z)``; with a price, minus what a latent costs."""
    if isinstance(model.prior, ThoughtPrice):
        Z = model.num_latents
        table = np.full((model.num_states, Z + 1, Z), -model.prior.price)
        # Keeping is free, and so is a first latent, which has to be drawn.
        table[:, np.arange(Z), np.arange(Z)] = 0.0
        table[:, Z] = 0.0
        return table
    with np.errstate(divide="ignore"):
        return np.log(model.prior_matrix())


class Causal(NamedTuple):
    """The best policy over latents that sees histories: ``policy (C, Z + 1, Z)`` and its bound ``elbo (M,)``."""

    policy: np.ndarray
    elbo: np.ndarray
    contexts: Contexts


def best_causal(model: LatentModel, trajectories: Trajectories) -> Causal:
    """The policy over latents with the largest mean bound among those that do not see a_t and what follows.

    Dynamic programming over the tree of histories, of which the trajectories are equally likely leaves: with the mean
    taken inside the exponent, V(h, z') = log Σ_z p(z|s, z') exp E[log π(a|s,z) + V(h a s', z) | h]. With the
    expectation outside it would be the soft Bellman recursion of the posterior, which sees a. With a `ThoughtPrice`,
    the maximum takes the place of log Σ exp, and the policy is deterministic.

    Returns the policy and, for each trajectory, the bound it gets there; the mean over trajectories is the optimum.

    Raises:
        ValueError: as `expect`.
    """
    contexts = histories(trajectories)
    assert contexts.depth is not None
    Z, hard = model.num_latents, isinstance(model.prior, ThoughtPrice)
    log_p = log_prior_table(model)
    with np.errstate(divide="ignore"):
        emission = np.log(model.policy[:, trajectories.states, trajectories.actions].T)
    policy = np.empty((contexts.count, Z + 1, Z))
    values = np.zeros((contexts.count, Z + 1))
    step = np.arange(trajectories.num_steps) - np.repeat(trajectories.offsets[:-1], trajectories.lengths)
    last = np.zeros(trajectories.num_steps, bool)
    last[trajectories.offsets[1:] - 1] = True
    state = np.zeros(contexts.count, np.int64)
    state[contexts.index] = trajectories.states
    for t in range(int(step.max()), -1, -1):
        rows = np.flatnonzero(step == t)
        gain = emission[rows]
        going_on = ~last[rows]
        gain[going_on] += values[contexts.index[rows[going_on] + 1], :Z]
        here, number = np.unique(contexts.index[rows], return_inverse=True)
        mean = np.zeros((len(here), Z))
        np.add.at(mean, number, gain)
        mean /= np.bincount(number)[:, None]
        score = log_p[state[here]] + mean[:, None, :]
        # A latent before that leaves no way on is never there; any distribution will do for it.
        stuck = np.isneginf(score.max(-1))
        score[stuck] = 0.0
        if hard:
            policy[here] = np.eye(Z)[_keep_first(score)]
            values[here] = score.max(-1)
        else:
            policy[here], values[here] = softmax(score, -1), logsumexp(score, -1)
        values[here] = np.where(stuck, -np.inf, values[here])
    return Causal(policy, evaluate_policy(model, trajectories, policy, contexts).elbo, contexts)


def _keep_first(score: np.ndarray) -> np.ndarray:
    """The best latent; among equals the one before, as a thought that gains nothing is not worth its price."""
    Z = score.shape[-1]
    kept = np.arange(Z)
    best = score.argmax(-1)
    best[:, kept] = np.where(score[:, kept, kept] >= score.max(-1)[:, :Z], kept, best[:, :Z])
    return best


def posterior_policy(model: LatentModel, trajectories: Trajectories) -> tuple[np.ndarray, Contexts]:
    """q*_t(z|z') ∝ p(z|s_t,z') π(a_t|s_t,z) exp b_{t+1}(z), the optimum among all q, ``(N, Z + 1, Z)``.

    The soft Bellman recursion b_t(z') = log Σ_z p(z|s_t,z') π(a_t|s_t,z) exp b_{t+1}(z), b_{T+1} = 0: hidden Markov
    backward messages. Each step is a context of its own, so the result grows with N Z²; it is for looking and checking.

    Raises:
        ValueError: a prior without entropy (`ThoughtPrice`): see `best_path`.
    """
    if isinstance(model.prior, ThoughtPrice):
        raise ValueError("model: with a price there is no posterior to follow; take `best_path`")
    Z = model.num_latents
    log_p = log_prior_table(model)
    with np.errstate(divide="ignore"):
        emission = np.log(model.policy[:, trajectories.states, trajectories.actions].T)
    policy = np.empty((trajectories.num_steps, Z + 1, Z))
    for i in range(len(trajectories)):
        later = np.zeros(Z)
        for row in range(trajectories.offsets[i + 1] - 1, trajectories.offsets[i] - 1, -1):
            s = trajectories.states[row]
            score = log_p[s] + emission[row] + later
            stuck = np.isneginf(score.max(-1))
            score[stuck] = 0.0
            policy[row] = softmax(score, -1)
            later = np.where(stuck, -np.inf, logsumexp(score, -1))[:Z]
    return policy, Contexts(np.arange(trajectories.num_steps), trajectories.num_steps)
