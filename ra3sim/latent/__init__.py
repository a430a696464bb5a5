"""Latent-option models in tables: exact inference, M-step, and the best policies over latents."""

from ra3sim.latent.causal import (
    Causal,
    Contexts,
    PolicyValue,
    best_causal,
    evaluate_policy,
    histories,
    posterior_policy,
    state_contexts,
)
from ra3sim.latent.generate import generate
from ra3sim.latent.inference import Expectation, best_path, count_path, expect, log_likelihood, sample_posterior
from ra3sim.latent.learn import Learnt, learn
from ra3sim.latent.model import LatentModel, OptionPrior, Prior, Statistics
from ra3sim.latent.policy import LatentPolicy
from ra3sim.latent.trajectories import Trajectories
from ra3sim.latent.world import Latents, TableWorld

__all__ = [
    "Causal",
    "Contexts",
    "Expectation",
    "LatentModel",
    "LatentPolicy",
    "Latents",
    "Learnt",
    "OptionPrior",
    "PolicyValue",
    "Prior",
    "Statistics",
    "TableWorld",
    "Trajectories",
    "best_causal",
    "best_path",
    "count_path",
    "evaluate_policy",
    "expect",
    "generate",
    "histories",
    "learn",
    "log_likelihood",
    "posterior_policy",
    "sample_posterior",
    "state_contexts",
]
