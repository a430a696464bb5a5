"""Tables as a world of `ra3sim.em.RA3`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from ra3sim import _check, _store
from ra3sim.abstraction import ThoughtPrice
from ra3sim.abstraction.interface import Step, World
from ra3sim.latent.causal import Contexts, histories, log_prior_table, state_contexts
from ra3sim.latent.inference import best_path, count_path, expect, log_likelihood
from ra3sim.latent.model import LatentModel, OptionPrior, Prior, Statistics
from ra3sim.latent.policy import LatentPolicy
from ra3sim.latent.trajectories import Trajectories


@dataclass(frozen=True)
class Latents:
    """Weighted latents of all trajectories: ``latents (G, N)``, ``weights (G, M)`` that sum to 1 over G."""

    latents: np.ndarray
    weights: np.ndarray


class TableWorld(World[LatentModel, LatentPolicy, Any]):
    """Trajectories explained by a `LatentModel`, with every E-step: ``exact``, ``policy_gradient``, ``posterior``.

    Args:
        trajectories: the demonstrations, all of which every iteration sees.
        prior: over the latents. An `OptionPrior` is learnt, by state, unless ``learn_prior`` is False.
        held_out: demonstrations over the same states and actions for ``held_out`` in the record; None: none.
        contexts: what q may condition on beside z_{t-1}: "history" (all before a_t) or "state".
        smoothing: added to the counts of actions in the M-step (maximum a posteriori instead of maximum likelihood).
        prior_smoothing, persistence: the same for an `OptionPrior` (see `LatentModel.fit`).
        available: boolean ``(S, A)``, actions that can be taken; None: all.
        model: to start from; None: drawn at random from the seed.
        exact_record: measure each iteration as below, at the price of another forward-backward.

    Raises:
        ValueError: held-out trajectories that do not fit, unknown contexts.

    The record of an iteration has ``log_likelihood`` and ``held_out`` (nats per step), ``objective`` (log-likelihood
    plus the smoothing's share, per step: what EM never lowers), ``think_rate`` (share of the steps that think under the
    posterior) and ``duration`` (expected steps per latent), all exact.
    """

    def __init__(
        self, trajectories: Trajectories, prior: Prior, *, held_out: Trajectories | None = None,
        contexts: str = "history", smoothing: float = 0.0, prior_smoothing: float = 0.0, persistence: float = 0.0,
        available: Any = None, model: LatentModel | None = None, learn_prior: bool = True, exact_record: bool = True,
    ) -> None:  # fmt: skip
        sizes = (trajectories.num_states, trajectories.num_actions)
        if held_out is not None and (held_out.num_states, held_out.num_actions) != sizes:
            raise ValueError(f"held_out: over other (S, A) than the trajectories' {sizes}")
        if contexts not in ("history", "state"):
            raise ValueError(f"contexts: must be 'history' or 'state', got {contexts!r}")
        if prior.num_latents is None:
            raise ValueError("prior: latents of a table are counted; give num_latents")
        self.trajectories, self.prior, self.held_out = trajectories, prior, held_out
        self.num_latents = prior.num_latents
        self.smoothing, self.prior_smoothing, self.persistence = smoothing, prior_smoothing, persistence
        self.learn_prior, self.exact_record = learn_prior, exact_record
        self.available = None if available is None else _check.bool_array("available", available, sizes, "sa")
        self.model = model
        self.contexts: Contexts = (histories if contexts == "history" else state_contexts)(trajectories)

    def init(self, seed: np.random.SeedSequence) -> tuple[LatentModel, LatentPolicy]:
        model = self.model
        if model is None:
            Z, S, A = self.num_latents, self.trajectories.num_states, self.trajectories.num_actions
            model = LatentModel.random(Z, S, A, self.prior, seed, self.available)
        return model, LatentPolicy.from_prior(model, self.trajectories, self.contexts)

    def rollouts(
        self, model: LatentModel, policy: LatentPolicy, batch: Any, group: int, seed: np.random.SeedSequence,
        floor: float = 0.0,
    ) -> TableRollouts:  # fmt: skip
        return TableRollouts(self, model, policy, group, seed, floor)

    def gradient(
        self, policy: LatentPolicy, rollouts: TableRollouts, whether: np.ndarray, what: np.ndarray
    ) -> tuple[LatentPolicy, np.ndarray]:
        """Σ whether·∇log κ + what·∇log ν over all rollouts, and the number of visits ``(C, Z + 1)``.

        Divided by the size of the group, the first estimates the gradient of the bound, summed over trajectories.
        """
        Z = policy.num_latents
        shape = (self.contexts.count, Z + 1)
        here = np.broadcast_to(rollouts.mask[:, None], whether.shape)
        context = np.broadcast_to(rollouts.context[:, None], whether.shape)[here]
        before, latent, think = rollouts.before[here], rollouts.latents[here], rollouts.think[here]
        row = context * (Z + 1) + before
        kappa = policy.think_prob()[context, before]
        raised = policy.think_prob(rollouts.floor)[context, before]
        share = (1 - rollouts.floor) * kappa / np.where(raised > 0, raised, 1)
        score = whether[here] * np.where(think, share * (1 - kappa), -kappa) * (before < Z)
        visits = np.bincount(row, minlength=shape[0] * shape[1]).reshape(shape)
        slope = np.bincount(row, score, shape[0] * shape[1]).reshape(shape)[:, :Z]
        credit = what[here] * think
        total = np.bincount(row, credit, shape[0] * shape[1]).reshape(shape)
        drawn = np.bincount(row * Z + latent, credit, shape[0] * shape[1] * Z).reshape(*shape, Z)
        return LatentPolicy(slope, drawn - total[..., None] * softmax(policy.what, -1)), visits

    def improve(
        self, policy: LatentPolicy, rollouts: TableRollouts, whether: np.ndarray, what: np.ndarray, rate: float
    ) -> LatentPolicy:
        # Means over visits, not sums over trajectories: a history that few share then learns as fast as others.
        gradient, visits = self.gradient(policy, rollouts, whether, what)
        visits = np.maximum(visits, 1)
        Z = policy.num_latents
        mean = LatentPolicy(gradient.whether / visits[:, :Z], gradient.what / visits[..., None])
        return policy.moved(mean, rate)

    def follow(self, policy: LatentPolicy, evidence: Latents) -> LatentPolicy:
        """Shares of the weighted latents in every context, with the old policy counted as one visit more."""
        Z = policy.num_latents
        trajectories = self.trajectories
        latents = evidence.latents
        weight = np.repeat(evidence.weights, trajectories.lengths, axis=1)
        row = self.contexts.index * (Z + 1) + self._before(latents)
        counts = np.bincount((row * Z + latents).ravel(), weight.ravel(), policy.what.size).reshape(policy.what.shape)
        table = counts + policy.table()
        return LatentPolicy.from_table(table / table.sum(-1, keepdims=True))

    def _before(self, latents: np.ndarray) -> np.ndarray:
        """z_{t-1} for each step of flat latents ``(G, N)``; Z where there is none."""
        before = np.roll(latents, 1, axis=1)
        before[:, self.trajectories.offsets[:-1]] = self.first_before
        return before

    @property
    def first_before(self) -> int:
        return self.num_latents if self.prior.start is None else int(self.prior.start)

    def exact(self, model: LatentModel, batch: Any) -> tuple[Statistics, dict[str, float]]:
        if isinstance(self.prior, ThoughtPrice):
            latents, value = best_path(model, self.trajectories)
            return count_path(model, self.trajectories, latents), {"elbo": float(value.mean())}
        found = expect(model, self.trajectories)
        return found.statistics, {"elbo": float(found.log_likelihood.mean())}

    def fit(self, model: LatentModel, evidence: Statistics | Latents) -> LatentModel:
        if isinstance(evidence, Latents):
            evidence = count_path(model, self.trajectories, evidence.latents, evidence.weights)
        if not self.learn_prior:
            evidence = Statistics(evidence.counts)
        return model.fit(evidence, self.smoothing, self.prior_smoothing, self.persistence)

    def measure(self, model: LatentModel, policy: LatentPolicy) -> dict[str, float]:
        if not self.exact_record:
            return {}
        found = expect(model, self.trajectories)
        steps = self.trajectories.num_steps
        total = float(found.log_likelihood.sum())
        possible = steps - (len(self.trajectories) if self.prior.start is None else 0)
        switches = float(found.switches.sum())
        record = {
            "log_likelihood": total / steps,
            "objective": (total + self.penalty(model)) / steps,
            "think_rate": switches / possible if possible else 0.0,
            "duration": steps / (switches + len(self.trajectories)),
        }
        if self.held_out is not None:
            record["held_out"] = float(log_likelihood(model, self.held_out).sum()) / self.held_out.num_steps
        return record

    def penalty(self, model: LatentModel) -> float:
        """What smoothing adds to the log-likelihood of all trajectories: Σ log of everything that is smoothed."""
        tables = [(self.smoothing, model.policy)]
        if isinstance(model.prior, OptionPrior) and self.learn_prior:
            ends = model.prior.termination
            tables += [(self.prior_smoothing, table) for table in (ends, 1 - ends, model.prior.choice)]
            tables += [(self.persistence, 1 - ends)]
        return sum(amount * float(np.log(table[table > 0]).sum()) for amount, table in tables if amount)

    def describe(self) -> str:
        prior = "OptionPrior" if isinstance(self.prior, OptionPrior) else repr(self.prior)
        smoothing = (self.smoothing, self.prior_smoothing, self.persistence)
        return f"{self.trajectories!r}, {prior}, smoothing {smoothing}, {self.contexts.count} contexts"

    def save(self, folder: Path, model: LatentModel, policy: LatentPolicy) -> None:
        model.save(folder / "model.npz")
        _store.write_arrays(folder / "policy.npz", "policy", {"whether": policy.whether, "what": policy.what}, {})

    def load(self, folder: Path) -> tuple[LatentModel, LatentPolicy]:
        arrays, _ = _store.read_arrays(folder / "policy.npz", "policy")
        return LatentModel.load(folder / "model.npz"), LatentPolicy(**arrays)


class TableRollouts:
    """`ra3sim.abstraction.interface.Rollouts` of a `TableWorld`; arrays ``(M, G, T)``, ``context`` ``(M, T)``."""

    def __init__(
        self, world: TableWorld, model: LatentModel, policy: LatentPolicy, group: int, seed: np.random.SeedSequence,
        floor: float,
    ) -> None:  # fmt: skip
        trajectories = world.trajectories
        lengths = trajectories.lengths
        self.mask = np.arange(lengths.max()) < lengths[:, None]
        rows = (trajectories.offsets[:-1, None] + np.arange(lengths.max())) * self.mask
        self.context = world.contexts.index[rows]
        self.floor = floor
        shape = (len(trajectories), group, int(lengths.max()))
        self.before = np.full(shape, world.first_before)
        self.latents, self.think = np.zeros(shape, np.int64), np.zeros(shape, bool)
        self._uniforms = np.random.default_rng(seed).random(shape)
        self._states, self._actions = trajectories.states[rows], trajectories.actions[rows]
        self._log_p = log_prior_table(model.with_option_prior())
        with np.errstate(divide="ignore"):
            self._log_policy = np.log(model.policy)
            self._table = policy.table(floor)
            self._log_table = np.log(self._table)
        self._cumulated = self._table.cumsum(-1)

    def step(self, t: int) -> Step:
        self._next = t + 1
        if t > 0:
            self.before[..., t] = self.latents[..., t - 1]
        before, context = self.before[..., t], self.context[:, None, t]
        reached = self._cumulated[context, before]
        goal = self._uniforms[..., t] * reached[..., -1]
        latent = (reached <= goal[..., None]).sum(-1)
        self.latents[..., t], self.think[..., t] = latent, latent != before
        state, action = self._states[:, None, t], self._actions[:, None, t]
        return Step(
            self.think[..., t],
            self._log_table[context, before, latent],
            self._log_p[state, before, latent],
            self._log_policy[latent, state, action],
        )

    def think_probability(self) -> np.ndarray:
        before = self.latents[..., self._next - 1]
        return 1 - self._table[self.context[:, None, self._next], before, before]

    def select(self, ancestors: np.ndarray) -> None:
        rows = np.arange(len(ancestors))[:, None]
        for name in ("before", "latents", "think"):
            setattr(self, name, getattr(self, name)[rows, ancestors])

    def evidence(self, weights: np.ndarray) -> Latents:
        return Latents(self.latents.transpose(1, 0, 2)[:, self.mask], weights.T)
