"""Latent-option models π(a|s,z) with a prior p(z'|s,z), and their M-step in closed form."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ra3sim import _check, _store
from ra3sim.abstraction import TemporalPrior, ThoughtPrice
from ra3sim.mdp import MDP
from ra3sim.options import OptionSet


@dataclass(frozen=True, eq=False)
class OptionPrior:
    """A prior over latents that depends on the state, as options do: they end, and another one is chosen.

    p(z|s, z') = (1 - termination[z', s]) 1{z = z'} + termination[z', s] choice[z, s].

    Args:
        termination: ``(Z, S)``, probability that latent z is drawn anew on arriving in s.
        choice: ``(Z, S)``, distribution of the new latent; sums to 1 over Z (it may be the old one).
        start: the latent before the first step; None: the first one is drawn from ``choice``.

    Raises:
        ValueError: wrong shape or range, columns that are no distribution.
    """

    termination: Any
    choice: Any
    start: int | None = None

    def __post_init__(self) -> None:
        termination = _check.real_array("termination", self.termination, (None, None), "zs")
        bad = (termination < 0) | (termination > 1)
        if bad.any():
            raise ValueError(f"termination[{_check.first(bad, 'zs')}] lies outside [0, 1]; it is a probability")
        choice = _check.real_array("choice", self.choice, termination.shape, "zs")
        _check.distribution("choice (transposed)", choice.T, (None, None), "sz")
        if self.start is not None and not 0 <= self.start < len(termination):
            raise ValueError(f"start: there is no latent {self.start}; numbers run from 0 to {len(termination) - 1}")
        object.__setattr__(self, "termination", _check.freeze(termination))
        object.__setattr__(self, "choice", _check.freeze(choice))

    @property
    def num_latents(self) -> int:
        return len(self.termination)


Prior = TemporalPrior | ThoughtPrice | OptionPrior
"""What a latent-option model can have as its prior over latents."""


@dataclass(frozen=True)
class Statistics:
    """What an E-step leaves for the M-step: expected counts over the trajectories.

    Args:
        counts: ``(Z, S, A)``, decisions with this latent, state and action.
        arrived, ended, chosen: ``(Z, S)``: how often s was entered with latent z, how often a new latent was drawn then
            (E[.], counted by the latent left), and which one was drawn. None: not asked for.
    """

    counts: np.ndarray
    arrived: np.ndarray | None = None
    ended: np.ndarray | None = None
    chosen: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class LatentModel:
    """Z policies over S states and A actions, of which a latent chooses one at every step.

    Args:
        policy: ``(Z, S, A)``, π(a|s,z); rows sum to 1.
        prior: over the latents: `TemporalPrior` (the same in all states), `ThoughtPrice` (a price for a change, no
            probability: likelihoods are taken under its `temporal` prior), or `OptionPrior` (learnt, by state).

    Raises:
        ValueError: no latents, a row that is no distribution, a prior over another number of latents or states.

    >>> import numpy as np
    >>> model = LatentModel.random(4, 10, 2, TemporalPrior(4, 0.9), seed=0)
    >>> model.num_latents, model.policy.shape
    (4, (4, 10, 2))
    """

    policy: Any
    prior: Prior

    def __post_init__(self) -> None:
        policy = _check.distribution("policy", self.policy, (None, None, None), "zsa")
        if not len(policy):
            raise ValueError("policy: no latents; give at least one")
        if self.prior.num_latents != len(policy):
            raise ValueError(f"prior: over {self.prior.num_latents} latents, the policy has {len(policy)}")
        if isinstance(self.prior, OptionPrior) and self.prior.termination.shape[1] != policy.shape[1]:
            raise ValueError(f"prior: over {self.prior.termination.shape[1]} states, the policy has {policy.shape[1]}")
        object.__setattr__(self, "policy", _check.freeze(policy))

    @classmethod
    def random(
        cls, num_latents: int, num_states: int, num_actions: int, prior: Prior, seed: Any, available: Any = None,
        concentration: float = 1.0,
    ) -> LatentModel:  # fmt: skip
        """Policies drawn from Dirichlet(concentration) over the available actions, ``available (S, A)``."""
        if num_latents < 1:
            raise ValueError(f"num_latents: give at least one latent, got {num_latents}")
        rng = np.random.default_rng(seed)
        weights = rng.gamma(concentration, size=(num_latents, num_states, num_actions)) + 1e-12
        if available is not None:
            weights *= _check.bool_array("available", available, (num_states, num_actions), "sa")
            # Where nothing can be done nothing is seen either; any distribution will do.
            weights[:, ~(weights[0] > 0).any(-1)] = 1.0
        return cls(weights / weights.sum(-1, keepdims=True), prior)

    @classmethod
    def from_options(cls, options: OptionSet, start: int | None = None) -> LatentModel:
        """Markov options as latents: one ends as its termination says, and a uniformly random available one follows.

        Raises:
            ValueError: options with a memory of their own (macros).
        """
        if not options.is_markov or len(options.next_node) != len(options):
            raise ValueError("options: must be Markov, one node each; macros have a memory that a latent has not")
        available = options.initiation | ~options.initiation.any(0)
        order = options.start_node
        return cls(options.policy[order], OptionPrior(options.termination[order], available / available.sum(0), start))

    @property
    def num_latents(self) -> int:
        return self.policy.shape[0]

    @property
    def num_states(self) -> int:
        return self.policy.shape[1]

    @property
    def num_actions(self) -> int:
        return self.policy.shape[2]

    @property
    def start(self) -> int:
        """The latent before the first step, or -1."""
        return -1 if self.prior.start is None else int(self.prior.start)

    def prior_tables(self) -> tuple[np.ndarray, np.ndarray]:
        """The prior as `OptionPrior` has it, latents last: termination ``(S, Z)`` and choice ``(S, Z)``."""
        if isinstance(self.prior, OptionPrior):
            return np.ascontiguousarray(self.prior.termination.T), np.ascontiguousarray(self.prior.choice.T)
        prior = self.prior.temporal() if isinstance(self.prior, ThoughtPrice) else self.prior
        shape = (self.num_states, self.num_latents)
        return np.full(shape, 1 - prior.keep), np.full(shape, 1 / self.num_latents)

    def prior_matrix(self) -> np.ndarray:
        """p(z|s, z') as ``(S, Z + 1, Z)``; row Z is for a first latent, with none before it."""
        ends, choice = self.prior_tables()
        kept = (1 - ends)[:, :, None] * np.eye(self.num_latents)
        return np.concatenate([kept + ends[:, :, None] * choice[:, None, :], choice[:, None, :]], axis=1)

    def emission(self) -> np.ndarray:
        """π(a|s,z) as ``(S, A, Z)``, contiguous."""
        return np.ascontiguousarray(self.policy.transpose(1, 2, 0))

    def with_option_prior(self) -> LatentModel:
        """The same model with its prior as `OptionPrior`, which `fit` then learns by state."""
        termination, choice = self.prior_tables()
        return replace(self, prior=OptionPrior(termination.T, choice.T, self.prior.start))

    def fit(
        self, statistics: Statistics, smoothing: float = 0.0, prior_smoothing: float = 0.0, persistence: float = 0.0
    ) -> LatentModel:
        """M-step: the model that maximises the expected log-likelihood plus ``smoothing`` times the sum of log π.

        That is, ``smoothing`` and ``prior_smoothing`` (for an `OptionPrior`, learnt if the statistics have its parts)
        are added to the counts; ``persistence`` more are added to those of latents that went on (a sticky prior, as Fox
        et al. 2011 have it for hidden Markov models). Only actions that this model finds possible are smoothed, so what
        is impossible stays impossible. A row without a count and without smoothing stays as it is.

        Raises:
            ValueError: negative smoothing, statistics of another shape.
        """
        knobs = {"smoothing": smoothing, "prior_smoothing": prior_smoothing, "persistence": persistence}
        for name, value in knobs.items():
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"{name}: must be a number >= 0, got {value}")
        counts = _check.real_array("statistics.counts", statistics.counts, self.policy.shape, "zsa")
        policy = _shares(counts + smoothing * (self.policy > 0), self.policy, -1)
        prior = self.prior
        if isinstance(prior, OptionPrior) and statistics.chosen is not None:
            assert statistics.arrived is not None and statistics.ended is not None  # counted with what was chosen
            went_on = statistics.arrived - statistics.ended
            both = np.stack([statistics.ended, went_on.clip(0) + persistence]) + prior_smoothing
            old = np.stack([prior.termination, 1 - prior.termination])
            prior = OptionPrior(
                _shares(both, old, 0)[0],
                _shares(statistics.chosen + prior_smoothing, prior.choice, 0),
                prior.start,
            )
        return LatentModel(policy, prior)

    def to_options(
        self, mdp: MDP, classes: Any = None, termination: Any = None, threshold: float = 0.0, least: float = 1e-3
    ) -> OptionSet:
        """The latents as options of an MDP: π(·|s,z) over what is available, ending where the latent is drawn anew.

        Args:
            mdp: over the model's states, or over states of which the model knows the classes.
            classes: ``(S,)``, the model's state for each state of the MDP (see `Trajectories.merge`); None: the same.
            termination: ``(Z, model's S)``; None: the prior's.
            threshold: actions less probable than this are left out (what smoothing put there); the likeliest stays.
            least: an option ends with at least this probability, so that it ends at all.

        Raises:
            ValueError: an MDP of other states or actions.
        """
        classes = np.arange(self.num_states) if classes is None else np.asarray(classes)
        if len(classes) != mdp.num_states or classes.max() >= self.num_states or self.num_actions != mdp.num_actions:
            raise ValueError(
                f"mdp: has (S, A) = ({mdp.num_states}, {mdp.num_actions}), the model {self.policy.shape[1:]}; "
                "if it is a model of classes of states, give `classes`"
            )
        if not 0 <= threshold <= 1 or not 0 <= least <= 1:
            raise ValueError(f"threshold, least: must lie in [0, 1], got {threshold} and {least}")
        policy = self.policy[:, classes] * (mdp.available | mdp.terminal[:, None])
        policy = policy * ((policy >= threshold) | (policy == policy.max(-1, keepdims=True)))
        lost = policy.sum(-1) == 0
        policy[lost] = np.broadcast_to(mdp.available, policy.shape)[lost]
        ends = self.prior_tables()[0].T if termination is None else np.asarray(termination)
        return OptionSet(
            policy / policy.sum(-1, keepdims=True),
            np.where(mdp.terminal, 1.0, ends[:, classes].clip(least, 1)),
            np.broadcast_to(~mdp.terminal, policy.shape[:2]),
            [f"latent {z}" for z in range(self.num_latents)],
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one ``.npz`` file, atomically."""
        _store.write_arrays(path, "LatentModel", *self.pack())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LatentModel:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError, ValueError: no such file, or a damaged one.
        """
        return cls.unpack(*_store.read_arrays(path, "LatentModel"))

    def pack(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and JSON-able values from which `unpack` makes this model again."""
        arrays = {"policy": self.policy}
        if isinstance(self.prior, OptionPrior):
            arrays |= {"termination": self.prior.termination, "choice": self.prior.choice}
            return arrays, {"prior": "OptionPrior", "start": self.prior.start}
        about = {"prior": type(self.prior).__name__, "start": self.prior.start}
        knob = "price" if isinstance(self.prior, ThoughtPrice) else "keep"
        return arrays, about | {knob: float(getattr(self.prior, knob))}

    @classmethod
    def unpack(cls, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> LatentModel:
        count = len(arrays["policy"])
        if about["prior"] == "OptionPrior":
            prior: Prior = OptionPrior(arrays["termination"], arrays["choice"], about["start"])
        elif about["prior"] == "ThoughtPrice":
            prior = ThoughtPrice(count, about["price"], about["start"])
        else:
            prior = TemporalPrior(count, about["keep"], about["start"])
        return cls(arrays["policy"], prior)

    def __repr__(self) -> str:
        kind = type(self.prior).__name__
        return f"<LatentModel: Z={self.num_latents}, S={self.num_states}, A={self.num_actions}, {kind}>"


def _shares(weights: np.ndarray, old: np.ndarray, axis: int) -> np.ndarray:
    """Weights divided by their sum; where that is 0 the old shares."""
    total = weights.sum(axis, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, weights / total, old)
