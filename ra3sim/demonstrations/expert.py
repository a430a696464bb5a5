"""Experts that know the exact values, acting in the tasks of a family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from ra3sim.demonstrations.container import Demonstrations
from ra3sim.latent.trajectories import Trajectories
from ra3sim.options import OptionSet
from ra3sim.planning import solve_batch
from ra3sim.simulate import _RowSampler
from ra3sim.smdp import SMDP
from ra3sim.tasks import TaskFamily

EXPERTS = ("optimal", "epsilon-greedy", "softmax")
# Of values, relative to R_max / (1 - γ̄): what planning certifies, and below which values of choices count as equal.
_TOLERANCE = 1e-10
_BLOCK, _UNIFORMS = 64, 4


def demonstrate(
    family: TaskFamily,
    tasks: Sequence[int] | np.ndarray,
    *,
    expert: str = "optimal",
    epsilon: float | None = None,
    temperature: float | None = None,
    options: OptionSet | None = None,
    steps: int,
    seed: int | Sequence[int],
) -> Demonstrations:
    """Let an expert act: one trajectory for each entry of ``tasks``, to a terminal state or for ``steps`` steps.

    The expert knows Q* of every task exactly. It chooses among the primitive actions, or among ``options`` and then
    again when an option has ended. Choices whose values differ by less than planning certifies (2e-10 of
    R_max / (1 - γ̄)) count as equal, and the first of them is the optimal one. So put options before the primitives
    (``options | OptionSet.primitives(mdp)``) if the expert is to use options wherever they cost nothing.

    Trajectory i has a stream of its own, ``numpy.random.default_rng(SeedSequence(seed, spawn_key=(i,)))``: one uniform
    number for its start, then four a step (choice, action, next state, end of the option), used or not. So it depends
    on the seed and on i, not on how many others there are.

    Args:
        tasks: ``(M,)``, numbers of tasks in the family, for example from `TaskFamily.draw`.
        expert: "optimal"; "epsilon-greedy": a uniformly random available choice with probability ``epsilon``;
            "softmax": choices in proportion to exp(Q* / ``temperature``).
        epsilon, temperature: of those two experts, and of no other.
        options: run node by node (macros too); the options that drew the actions are recorded. None: primitives.
        steps: cut after so many.
        seed: a whole number or several, for `numpy.random.SeedSequence`.

    Raises:
        ValueError: an unknown task or expert, a missing, superfluous or impossible parameter, fewer than one step,
            a start in a terminal state, what `SMDP.from_options` refuses.

    >>> from ra3sim.envs import chain
    >>> family = TaskFamily([chain(4, discount=0.5, start=s) for s in (0, 2)])
    >>> shown = demonstrate(family, [0, 1, 0], steps=10, seed=0)
    >>> shown.trajectories.lengths.tolist(), shown.returns().tolist()
    ([3, 1, 3], [0.25, 1.0, 0.25])
    """
    tasks = _check_tasks(family, tasks)
    parameter = _check_parameter(expert, epsilon, temperature)
    if steps < 1:
        raise ValueError(f"steps: must be at least 1, got {steps}")
    used, which = np.unique(tasks, return_inverse=True)
    chosen = family.subset(used)
    policy = _expert_policy(chosen.models(options), expert, parameter)
    runs = OptionSet.primitives(family[0]) if options is None else options
    seen, done, paid, drawn, began, lengths, last, over = _run(chosen, which, policy, runs, steps, seed)
    kept = np.arange(seen.shape[1]) < lengths[:, None]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    recorded: dict[str, Any] = {}
    if options is not None:
        recorded = {"options": drawn[kept], "begins": began[kept], "option_names": options.names}
    return Demonstrations(
        Trajectories(seen[kept], done[kept], offsets, family.num_states, family.num_actions),
        tasks, paid[kept], last, over, family.discount, **recorded,
        family=family.name, expert=expert, parameter=parameter, seed=np.asarray(seed).tolist(),
    )  # fmt: skip


def _check_tasks(family: TaskFamily, tasks: Any) -> np.ndarray:
    tasks = np.asarray(tasks)
    if tasks.ndim != 1 or not tasks.size or tasks.dtype.kind not in "iu":
        raise ValueError(f"tasks: give one or more numbers of tasks, got shape {tasks.shape} of {tasks.dtype}")
    bad = (tasks < 0) | (tasks >= len(family))
    if bad.any():
        raise ValueError(f"tasks: there is no task {tasks[bad][0]}; numbers run from 0 to {len(family) - 1}")
    for task in np.unique(tasks):
        if (family[task].start[family[task].terminal] > 0).any():
            raise ValueError(f"tasks: task {task} may start in a terminal state, where nothing can be done")
    return tasks.astype(np.int64)


def _check_parameter(expert: str, epsilon: float | None, temperature: float | None) -> float | None:
    if expert not in EXPERTS:
        raise ValueError(f"expert: must be one of {', '.join(EXPERTS)}, got {expert!r}")
    wanted = {"optimal": None, "epsilon-greedy": "epsilon", "softmax": "temperature"}[expert]
    for name, value in (("epsilon", epsilon), ("temperature", temperature)):
        if (value is None) == (name == wanted):
            has = "needs one" if value is None else "has none; leave it out"
            raise ValueError(f"{name}: expert {expert!r} {has}")
    if epsilon is not None and not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon: must lie in [0, 1], got {epsilon}")
    if temperature is not None and not 0 < temperature < np.inf:
        raise ValueError(f"temperature: must be a positive number, got {temperature}")
    given = temperature if epsilon is None else epsilon
    return None if given is None else float(given)


def _expert_policy(models: list[SMDP], expert: str, parameter: float | None) -> np.ndarray:
    """What the expert chooses, ``(T, S, Z)``; rows of terminal states are 0."""
    scale = max(model.reward_bound / (1 - model.gamma_bar) for model in models)
    tolerance = _TOLERANCE * (scale or 1.0)
    values = solve_batch(models, tolerance=tolerance).values
    policy = []
    for model, V in zip(models, values, strict=True):
        available = model.available.T
        Q = np.where(available, (model.R + model.scale * model._by_option(model.matrix @ V)).T, -np.inf)
        best = Q.max(1, keepdims=True)
        if expert == "softmax":
            weights = np.exp(np.where(available, Q - np.where(model.terminal[:, None], 0.0, best), -np.inf) / parameter)
        else:
            first = np.argmax(Q >= best - 2 * tolerance, axis=1)
            weights = np.eye(model.num_options)[first] * ~model.terminal[:, None]
        weights /= np.maximum(weights.sum(1, keepdims=True), 1e-300)
        if parameter is not None and expert == "epsilon-greedy":
            weights = (1 - parameter) * weights + parameter * available / np.maximum(available.sum(1), 1)[:, None]
        policy.append(weights)
    return np.array(policy)


def _run(
    family: TaskFamily, task: np.ndarray, policy: np.ndarray, options: OptionSet, steps: int, seed: Any
) -> tuple[np.ndarray, ...]:
    """Side by side: states, actions, rewards, options and begins ``(M, T)``; lengths, last states, terminated ``(M,)``.

    A step of the loop is a step of all trajectories that still run; their uniform numbers are drawn in blocks.
    """
    S, A, Z = family.num_states, family.num_actions, len(options)
    count = len(task)
    draws = [np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(i,))) for i in range(count)]
    move = _RowSampler(sp.vstack([sp.csr_array(mdp.rows()) for mdp in family.mdps]))
    act, choose = _RowSampler(options.policy.reshape(-1, A)), _RowSampler(policy.reshape(-1, Z))
    rewards, terminal = np.array([mdp.rewards for mdp in family.mdps]), np.array([m.terminal for m in family.mdps])
    first = np.array([draw.random() for draw in draws])
    state = _RowSampler(family.start).find(task, first).astype(np.int64)
    node, option = np.zeros(count, np.int64), np.zeros(count, np.int64)
    begins, over = np.ones(count, bool), np.zeros(count, bool)
    lengths = np.full(count, steps)
    running = np.arange(count)
    record: list[tuple[np.ndarray, ...]] = []
    for t in range(steps):
        if t % _BLOCK == 0:
            block = np.empty((count, min(_BLOCK, steps - t), _UNIFORMS))
            for i in running:
                block[i] = draws[i].random(block.shape[1:])
        choice, action, arrival, end = block[running, t % _BLOCK].T
        here, which, new = state[running], task[running], begins[running]
        option[running[new]] = choose.find((which * S + here)[new], choice[new])
        node[running[new]] = options.start_node[option[running[new]]]
        at = node[running]
        done = act.find(at * S + here, action)
        arrived = move.find((which * S + here) * A + done, arrival)
        record.append((running, here, done, rewards[which, here, done], option[running], new))
        state[running] = arrived
        over[running] = terminal[which, arrived]
        begins[running] = end < options.termination[at, arrived]
        node[running] = options.next_node[at]
        stops = over[running]
        lengths[running[stops]] = t + 1
        running = running[~stops]
        if not running.size:
            break
    kinds = (np.int64, np.int64, np.float64, np.int64, bool)
    tables = [np.zeros((count, len(record)), kind) for kind in kinds]
    for t, (rows, *parts) in enumerate(record):
        for table, part in zip(tables, parts, strict=True):
            table[rows, t] = part
    return *tables, lengths, state, over
