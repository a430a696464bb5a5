"""What all learners share: lanes side by side, each a task and a run with a random stream of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, TypeVar, cast

import numpy as np

from ra3sim.learning import _kernels
from ra3sim.learning.problem import OptionProblem, check_states


@dataclass(frozen=True, eq=False)
class Learning:
    """Where learning stands in L lanes. Every lane has taken the same number of steps.

    Args:
        tasks: ``(L,)``, the number of each lane's task.
        steps: primitive steps taken in every lane.
        visits: ``(L, S, K)``, updates of each entry of what is learnt.
        episodes: ``(L,)``, finished ones.
        returns: ``(L,)``, the sum over finished episodes of their discounted returns.
        place: ``(L, 5)``: state, option that runs (-1: none), where it began, its node, steps of the episode so far.
        carried: ``(L, 5)``: of the option that runs, its discounted reward so far and γ^steps; of the episode, its
            discounted return so far and γ^steps; and the latter as it was when the option began.
        stream: ``(L, 2)`` words, the state of each random stream.
    """

    tasks: np.ndarray
    steps: int
    visits: np.ndarray
    episodes: np.ndarray
    returns: np.ndarray
    place: np.ndarray
    carried: np.ndarray
    stream: np.ndarray

    def __len__(self) -> int:
        return len(self.tasks)

    def option_values(self, problem: OptionProblem) -> np.ndarray:
        """What the learner prefers, ``(L, S, Z)``: estimates of Q, or logits; -inf where an option is not available."""
        raise NotImplementedError

    def greedy(self, problem: OptionProblem) -> np.ndarray:
        """The greedy option of every state, ``(L, S)``, the first among equals; -1 where there is none."""
        values = np.where(problem.options.initiation.T, self.option_values(problem), -np.inf)
        decides = problem.options.initiation.any(0) & ~problem.terminal[self.tasks]
        return np.where(decides, values.argmax(-1), -1)

    def policy(self, problem: OptionProblem) -> np.ndarray:
        """Probabilities ``(L, S, Z)`` of what is learnt: greedy, uniform among equals; rows without a choice are 0.

        Unlike `greedy`, it does not depend on the order of the options.
        """
        available = problem.options.initiation.T & ~problem.terminal[self.tasks][..., None]
        values = np.where(available, self.option_values(problem), -np.inf)
        best = (values == values.max(-1, keepdims=True)) & available
        return best / np.maximum(best.sum(-1, keepdims=True), 1)


State = TypeVar("State", bound=Learning)


def first_lanes(
    kind: type[State], problem: OptionProblem, seed: Any, tasks: Sequence[int] | None, runs: int, width: int,
    **values: np.ndarray,
) -> State:  # fmt: skip
    """Lanes in the order of tasks, the runs of a task side by side; nothing learnt yet, each in its first state.

    A lane's stream is that of ``numpy.random.SeedSequence(seed)`` with the spawn key (task, run): it does not depend on
    which other lanes there are.

    Args:
        width: K, the number of entries in each state.
        values: of one lane of each task, ``(T, ...)``, by name.

    Raises:
        ValueError: no task, an unknown or repeated one, or no run.
    """
    tasks = np.arange(len(problem)) if tasks is None else np.atleast_1d(np.asarray(tasks))
    if tasks.ndim != 1 or not tasks.size or tasks.dtype.kind not in "iu":
        raise ValueError("tasks: give one or more numbers of tasks")
    if tasks.min() < 0 or tasks.max() >= len(problem):
        raise ValueError(f"tasks: numbers run from 0 to {len(problem) - 1}, got {tasks.min()} to {tasks.max()}")
    if len(np.unique(tasks)) < len(tasks):
        raise ValueError("tasks: one stands twice; use runs")
    if runs < 1:
        raise ValueError(f"runs: must be at least 1, got {runs}")
    root = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    stream = np.array([
        np.random.SeedSequence(root.entropy, spawn_key=(*root.spawn_key, int(task), run)).generate_state(2, np.uint64)
        for task in tasks for run in range(runs)
    ])  # fmt: skip
    lanes = np.repeat(tasks, runs).astype(np.int64)
    total, states = len(lanes), problem.num_states
    place, carried = np.zeros((total, 5), np.int64), np.zeros((total, 5))
    place[:, _kernels.OPTION] = -1
    episodes, returns = np.zeros(total, np.int64), np.zeros(total)
    _kernels.begin_all(problem._draws, problem.lanes(lanes), place, carried, episodes, returns, stream)
    return kind(
        tasks=lanes, steps=0, visits=np.zeros((total, states, width), np.int64), episodes=np.zeros(total, np.int64),
        returns=returns, place=place, carried=carried, stream=stream,
        **{name: np.ascontiguousarray(value[lanes]) for name, value in values.items()},
    )  # fmt: skip


def advance(
    problem: OptionProblem, state: State, steps: int, rule: _kernels.Rule, values: str, second: str | None = None
) -> State:
    """The state after so many steps more in every lane; ``values`` and ``second`` name what the rule learns.

    Raises:
        ValueError: fewer than 0 steps, a state of another problem, an episode that comes to a state, not terminal, in
            which no option is available, an option that takes an action where it is not available.
    """
    if steps < 0:
        raise ValueError(f"steps: must be at least 0, got {steps}")
    new = replace(state, **{
        field.name: getattr(state, field.name).copy() for field in fields(state) if field.name not in ("tasks", "steps")
    })  # fmt: skip
    table = getattr(new, values)
    width = len(problem.options.next_node if rule.kind == _kernels.INTRA_OPTION else problem.options)
    if table.shape[1:] != (problem.num_states, width) or new.tasks.max() >= len(problem):
        raise ValueError("state: does not belong to this problem; make one with init")
    world = (problem._draws, problem._rewards)
    walk = (new.visits, new.place, new.carried, new.episodes, new.returns, new.stream)
    lanes, options = problem.lanes(new.tasks), problem._options
    actions = problem.mdps[0].num_actions
    beside = table if second is None else getattr(new, second)
    if problem.is_primitive and actions <= 8:
        bits = (problem.options.initiation.T << np.arange(actions)).sum(1).astype(np.uint8)
        learn = _kernels.primitives(rule.kind, actions)
        error = learn(steps, *world, lanes, bits, rule, table.ravel(), beside.ravel(), walk[0].ravel(), *walk[1:])
    else:
        error = _kernels.run_options(steps, *world, actions, lanes, options, rule, table, beside, *walk)
    check_states(problem, error, new.tasks)
    return replace(new, steps=state.steps + int(steps))


def start_values(problem: OptionProblem, initial: float) -> np.ndarray:
    """Q of every task before anything is learnt, ``(T, S, Z)``: 0 in terminal states, -inf where not available."""
    Q = np.where(problem.options.initiation.T, float(initial), -np.inf)
    return np.where(problem.terminal[..., None], 0.0, Q)


# Step sizes and bonuses up to this number of updates are looked up.
_LOOKED_UP = 1 << 10


def rule(
    problem: OptionProblem, kind: int, *, max_steps: int, epsilon: float = 0.0, scale: float = 0.0, power: float = 0.0,
    shift: float = 1.0, bonus: tuple[float, float] = (0.0, 0.0), second: float = 0.0, discounted: bool = False,
) -> _kernels.Rule:  # fmt: skip
    """A learner's constants as the compiled loops read them (`_kernels.Rule`)."""
    updates = np.arange(_LOOKED_UP)
    k = updates + 1.0
    bonuses = np.sqrt(bonus[0] * (bonus[1] + np.log(k * (k + 1))) / k)
    return _kernels.Rule(
        kind, float(epsilon), problem.discount, int(max_steps), scale * (shift + updates) ** -float(power),
        float(scale), float(power), float(shift), bonuses, float(bonus[0]), float(bonus[1]), float(second), discounted,
    )  # fmt: skip


class Checked:
    """Base of the learners: their fields are held against the ranges that `_RANGES` gives, by name."""

    _RANGES: ClassVar[dict[str, tuple[str, Any]]] = {
        "step_size": ("must lie in (0, 1]", lambda x: 0 < x <= 1),
        "critic_step_size": ("must lie in (0, 1]", lambda x: 0 < x <= 1),
        "decay": ("must lie in [0, 1]", lambda x: 0 <= x <= 1),
        "epsilon": ("must lie in [0, 1]", lambda x: 0 <= x <= 1),
        "initial": ("must be finite", np.isfinite),
        "max_steps": ("must be at least 1", lambda x: x >= 1),
        "failure": ("must lie in (0, 1)", lambda x: 0 < x < 1),
        "horizon": ("must be at least 1, or None", lambda x: x is None or 1 <= x < np.inf),
        "bonus": ("must be finite and at least 0", lambda x: 0 <= x < np.inf),
    }

    def __post_init__(self) -> None:
        for field in fields(cast(Any, self)):  # those of the learner
            if field.name in self._RANGES:
                text, holds = self._RANGES[field.name]
                value = getattr(self, field.name)
                if not holds(value):
                    raise ValueError(f"{field.name}: {text}, got {value}")
