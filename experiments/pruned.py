"""What is reached in pruned spaces by planning or learning for a while; every value is exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ra3sim.learning import OptionProblem, SMDPQLearning
from ra3sim.planning import SMDPBatch, evaluate_batch, value_iteration
from ra3sim.pruning import PruningOracle


def _models(oracle: PruningOracle, kept: Sequence[int], tasks: Sequence[int] | np.ndarray) -> SMDPBatch:
    models = oracle.restricted(kept, tasks=tasks)
    if models is None:
        raise ValueError("kept: some state has none of these options; keep the primitive actions")
    return models


def after_sweeps(
    oracle: PruningOracle, tasks: Sequence[int] | np.ndarray, kept: Sequence[int], sweeps: int
) -> np.ndarray:
    """V^π at the start of each task, ``(tasks,)``, for π greedy after so many iterations from 0 over what is kept."""
    models = _models(oracle, kept, tasks)
    policies = []
    for model in (models[i] for i in range(len(models))):
        V = value_iteration(model, iterations=sweeps).values
        policies.append(np.where(model.available, model.R + model.P @ V, -np.inf).argmax(0))
    return oracle.family.subset(tasks).at_start(evaluate_batch(models, np.arange(len(models)), np.array(policies)))


def after_steps(
    oracle: PruningOracle, tasks: Sequence[int] | np.ndarray, kept: Sequence[int], steps: Sequence[int],
    learner: SMDPQLearning, seed: Any,
) -> np.ndarray:  # fmt: skip
    """V^π at the start of each task for π greedy after so many primitive steps of Q-learning, ``(steps, tasks)``.

    Args:
        tasks: numbers, each once.
        steps: ascending.
        seed: of the learning.
    """
    family = oracle.family.subset(tasks)
    problem = OptionProblem(family.mdps, oracle.options.subset(list(kept)), hopeless=True)
    curve = learning_curve(problem, _models(oracle, kept, tasks), learner, steps, seed)
    return np.array([family.at_start(values) for values in curve])


def learning_curve(
    problem: OptionProblem, models: SMDPBatch, learner: Any, steps: Sequence[int], seed: Any, *, even: bool = False
) -> np.ndarray:
    """V^π of every task of a problem, ``(steps, tasks, S)``, π what is learnt after so many primitive steps.

    Args:
        models: of the tasks, with the problem's options.
        learner: one of `ra3sim.learning.LEARNERS`.
        steps: ascending.
        even: π is the learner's policy (of Q: even among equals), not the first of the best options in every state.
    """
    state, values = learner.init(problem, seed), []
    for budget in steps:
        state = learner.update(problem, state, budget - state.steps)
        policy = state.policy(problem) if even else state.greedy(problem)
        values.append(evaluate_batch(models, state.tasks, policy))
    return np.array(values)
