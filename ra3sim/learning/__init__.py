"""Online reinforcement learning over options."""

from ra3sim.learning.q_learning import Learning, OptionProblem, SMDPQLearning

__all__ = ["Learning", "OptionProblem", "SMDPQLearning"]
