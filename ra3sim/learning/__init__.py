"""Online reinforcement learning over options; primitive actions are options of one step.

A learner is a frozen configuration with ``init(problem, seed, tasks=None, runs=1)`` and ``update(problem, state,
steps)``. One state holds many lanes, each a task and a run, which learn side by side and do not depend on each other.
An update releases Python's lock: the lanes of several states can be spread over threads.

SARSA(λ) is left out: over options of several steps rewards already travel far in one update, and intra-option learning
makes more of each step.
"""

from ra3sim.learning.actor_critic import PolicyState, SoftmaxPolicyGradient
from ra3sim.learning.intra_option import IntraOptionQLearning, IntraOptionState
from ra3sim.learning.lanes import Learning
from ra3sim.learning.optimism import BoundState, UCBQLearning
from ra3sim.learning.problem import OptionProblem
from ra3sim.learning.q_learning import QState, SMDPQLearning

LEARNERS = {
    "Q-learning": SMDPQLearning,
    "intra-option": IntraOptionQLearning,
    "UCB": UCBQLearning,
    "policy gradient": SoftmaxPolicyGradient,
}
"""All learners by name."""

__all__ = [
    "LEARNERS",
    "BoundState",
    "IntraOptionQLearning",
    "IntraOptionState",
    "Learning",
    "OptionProblem",
    "PolicyState",
    "QState",
    "SMDPQLearning",
    "SoftmaxPolicyGradient",
    "UCBQLearning",
]
