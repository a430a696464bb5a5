"""Tables of the theory of action abstractions: MDPs, options, their exact models, planning and simulation.

The environments are in `ra3sim.envs`; importing that registers them with Gymnasium.
"""

from ra3sim.mdp import MDP, absorb
from ra3sim.options import OptionSet, one_hot
from ra3sim.planning import (
    NotConvergedWarning,
    Plan,
    SMDPBatch,
    evaluate_policy,
    solve,
    solve_batch,
    value_iteration,
)
from ra3sim.simulate import OptionEnv, TabularEnv, rollout_model
from ra3sim.smdp import SMDP, expected_durations

__all__ = [
    "MDP",
    "SMDP",
    "NotConvergedWarning",
    "OptionEnv",
    "OptionSet",
    "Plan",
    "SMDPBatch",
    "TabularEnv",
    "absorb",
    "evaluate_policy",
    "expected_durations",
    "one_hot",
    "rollout_model",
    "solve",
    "solve_batch",
    "value_iteration",
]
