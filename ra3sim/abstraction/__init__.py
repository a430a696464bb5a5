"""The bound and the rewards of action abstractions, one implementation for NumPy, JAX and torch.

`World`, `Rollouts` and `Step` are what a world must offer to `ra3sim.em.RA3` (see `interface.py`); `TemporalPrior` and
`ThoughtPrice` say what a new thought costs; the functions are pure and hold no randomness.
"""

from ra3sim.abstraction.interface import Rollouts, Step, World
from ra3sim.abstraction.objective import (
    ElboParts,
    ImportanceWeights,
    SMCStep,
    SplitAdvantages,
    effective_sample_size,
    elbo_parts,
    elbo_rewards,
    group_advantages,
    importance_weights,
    returns_to_go,
    smc_step,
    split_advantages,
    step_rewards,
    temporal_kl,
    think_rule,
    thinking_kl,
)
from ra3sim.abstraction.prior import TemporalPrior, ThoughtPrice

__all__ = [
    "ElboParts",
    "ImportanceWeights",
    "Rollouts",
    "SMCStep",
    "SplitAdvantages",
    "Step",
    "TemporalPrior",
    "ThoughtPrice",
    "World",
    "effective_sample_size",
    "elbo_parts",
    "elbo_rewards",
    "group_advantages",
    "importance_weights",
    "returns_to_go",
    "smc_step",
    "split_advantages",
    "step_rewards",
    "temporal_kl",
    "think_rule",
    "thinking_kl",
]
