"""Policies over latents as logits: whether to think and what, with their gradients in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, log_softmax, logit, softmax

from ra3sim.latent.causal import Contexts
from ra3sim.latent.model import LatentModel
from ra3sim.latent.trajectories import Trajectories


@dataclass(frozen=True, eq=False)
class LatentPolicy:
    """q(z_t | context, z_{t-1}): think with probability κ = sigmoid(whether), then z ~ ν = softmax(what), z ≠ z_{t-1}.

    Args:
        whether: logits ``(C, Z)``.
        what: logits ``(C, Z + 1, Z)``; row Z is for a first step without a latent before it, where thinking is forced.
            The entry of the old latent itself is -inf.
    """

    whether: np.ndarray
    what: np.ndarray

    @classmethod
    def from_table(cls, table: np.ndarray) -> LatentPolicy:
        """From probabilities ``(C, Z + 1, Z)``."""
        Z = table.shape[-1]
        latents = np.arange(Z)
        other = table.copy()
        other[:, latents, latents] = 0.0
        with np.errstate(divide="ignore"):
            what = np.log(other)
        # Where nothing else can come, what would be thought does not matter; it must only be a distribution.
        dead = ~np.isfinite(what.max(-1))
        what[dead] = 0.0
        if Z > 1:
            what[:, latents, latents] = -np.inf
        return cls(logit(other[:, :Z].sum(-1).clip(0, 1)), what)

    @classmethod
    def from_prior(cls, model: LatentModel, trajectories: Trajectories, contexts: Contexts) -> LatentPolicy:
        """The prior itself as a policy."""
        # Histories are all seen; contexts that are states stand for themselves where they are not.
        state = np.arange(contexts.count) % model.num_states
        state[contexts.index] = trajectories.states
        return cls.from_table(model.prior_matrix()[state])

    @property
    def num_latents(self) -> int:
        return self.whether.shape[1]

    def think_prob(self, floor: float = 0.0) -> np.ndarray:
        """κ raised to floor + (1 - floor) κ, ``(C, Z + 1)``; 1 where no latent is before, 0 if there is no other."""
        kappa = floor + (1 - floor) * expit(self.whether) if self.num_latents > 1 else np.zeros(self.whether.shape)
        return np.concatenate([kappa, np.ones((len(kappa), 1))], axis=1)

    def table(self, floor: float = 0.0) -> np.ndarray:
        """Probabilities ``(C, Z + 1, Z)``."""
        latents, think = np.arange(self.num_latents), self.think_prob(floor)
        table = think[..., None] * softmax(self.what, -1)
        table[:, latents, latents] = 1 - think[:, :-1]
        return table

    def pullback(self, slope: np.ndarray) -> LatentPolicy:
        """The gradient with respect to the logits, from that with respect to the entries of `table`."""
        latents = np.arange(self.num_latents)
        think, new = self.think_prob(), softmax(self.what, -1)
        mean = (new * slope).sum(-1)
        kept = slope[:, latents, latents]
        kappa = think[:, :-1]
        return LatentPolicy(
            kappa * (1 - kappa) * (mean[:, :-1] - kept),
            think[..., None] * new * (slope - mean[..., None]),
        )

    def moved(self, direction: LatentPolicy, rate: float) -> LatentPolicy:
        """Logits plus ``rate`` times another's."""
        return LatentPolicy(self.whether + rate * direction.whether, self.what + rate * direction.what)

    def log_what(self) -> np.ndarray:
        return log_softmax(self.what, -1)
