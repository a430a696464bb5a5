"""Simulation: a Gymnasium environment over any MDP, options as its actions, Monte-Carlo estimates of their models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import scipy.sparse as sp
from gymnasium import spaces

from ra3sim import _check
from ra3sim.mdp import MDP
from ra3sim.options import OptionSet, option_numbers


class TabularEnv(gymnasium.Env):
    """An MDP as a Gymnasium environment; observations and actions are the numbers of states and actions.

    Arriving in a terminal state terminates. The reward of a step is the MDP's expected reward of the pair (s, a).
    ``info["discount"]`` is γ, or 0 after termination; ``info["action_mask"]`` (int8, ``(A,)``) marks the actions that
    are available next, as `Discrete.sample` takes it.

    Args:
        mdp: with a start distribution over states that are not terminal.
        max_steps: truncate after so many steps; None: never.
        render_mode: None, or "ansi": the state's name and, where there is one, its place on the map.

    Raises:
        ValueError: a start in a terminal state, max_steps below 1, an unknown render mode.

    >>> from ra3sim.envs import chain
    >>> env = TabularEnv(chain(3, discount=0.5))
    >>> env.reset(seed=0)[0], env.step(1)[:2], env.step(1)[:3]
    (0, (1, 0.0), (2, 1.0, True))
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012  (Gymnasium's interface)

    def __init__(self, mdp: MDP, max_steps: int | None = None, render_mode: str | None = None) -> None:
        if (bad := (mdp.start > 0) & mdp.terminal).any():
            raise ValueError(f"mdp: may start in terminal {_check.first(bad, 's')}, where nothing can be done")
        if max_steps is not None and max_steps < 1:
            raise ValueError(f"max_steps: must be at least 1 or None, got {max_steps}")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode: must be None or 'ansi', got {render_mode!r}")
        self.mdp = mdp
        self.max_steps = max_steps
        self.render_mode = render_mode
        self.observation_space = spaces.Discrete(mdp.num_states)
        self.action_space = spaces.Discrete(mdp.num_actions)
        self._state: int | None = None
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Begin an episode in a state drawn from the start distribution, or in ``options={"state": s}``.

        Raises:
            ValueError: there is no such state, or it is terminal.
        """
        super().reset(seed=seed)
        state = (options or {}).get("state")
        if state is None:
            state = _draw(self.mdp.start, self.np_random.random())
        elif not 0 <= state < self.mdp.num_states or self.mdp.terminal[state]:
            raise ValueError(f"options: cannot start in state {state}; give a state that exists and is not terminal")
        self._state, self._steps = int(state), 0
        return self._state, self._info()

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Take one action.

        Raises:
            ValueError: an unknown action, or one that is not available in the state.
            gymnasium.error.ResetNeeded: before the first reset, or after the episode terminated.
        """
        mdp, state = self.mdp, self._state
        if state is None or mdp.terminal[state]:
            raise gymnasium.error.ResetNeeded("step: no episode is running; call reset first")
        action = _chosen("action", action, mdp.available[state], mdp.action_names, f"state {mdp.state_names[state]!r}")
        first = state * mdp.num_actions + action
        if mdp.is_sparse:
            low, high = mdp.transitions.indptr[first : first + 2]
            drawn = _draw(mdp.transitions.data[low:high], self.np_random.random())
            self._state = int(mdp.transitions.indices[low + drawn])
        else:
            self._state = _draw(mdp.transitions[state, action], self.np_random.random())
        self._steps += 1
        truncated = self.max_steps is not None and self._steps >= self.max_steps
        terminated = bool(mdp.terminal[self._state])
        return self._state, float(mdp.rewards[state, action]), terminated, truncated, self._info()

    def render(self) -> str | None:
        """The state as text, in render mode "ansi"; before the first reset an empty one."""
        if self.render_mode is None:
            return None
        # Imported here: environments register themselves as TabularEnvs.
        from ra3sim.envs._grid import draw_state

        return "" if self._state is None else draw_state(self.mdp, self._state)

    def _info(self) -> dict[str, Any]:
        return {
            "discount": 0.0 if self.mdp.terminal[self._state] else self.mdp.discount,
            "action_mask": self.mdp.available[self._state].astype(np.int8),
        }


class OptionEnv(gymnasium.Wrapper):
    """Options as the actions of an environment with numbered states: each step runs one option to its end.

    The reward is that of the whole option, ``sum_{i<τ} γ^i r_i``. ``info["duration"]`` is τ, the steps taken;
    ``info["discount"]`` is γ^τ, or 0 after termination, so that ``reward + info["discount"] * V(s')`` is right for
    every duration; ``info["action_mask"]`` marks the options that are available next. An option that the environment
    truncates stops there: ``truncated`` is True and duration and discount are of the steps that were taken.

    Args:
        env: over `Discrete` states and actions: a `TabularEnv`, or another (a real one of Gymnasium) that numbers them
            as the options do.
        options: run as `OptionSet` says. They draw from the environment's own generator, and only where there is
            something to draw: with the primitive actions as options every episode is as without this wrapper.
        discount: γ; None: that of ``env.unwrapped.mdp``.

    Raises:
        ValueError: spaces that do not fit the options, or no discount.

    >>> from ra3sim.envs import chain
    >>> mdp = chain(5, discount=0.5)
    >>> env = OptionEnv(TabularEnv(mdp), OptionSet.macros(mdp, [[1, 1]]))
    >>> state, info = env.reset(seed=0)
    >>> state, reward, terminated, truncated, info = env.step(0)
    >>> state, info["duration"], info["discount"]
    (2, 2, 0.25)
    """

    def __init__(self, env: gymnasium.Env, options: OptionSet, discount: float | None = None) -> None:
        super().__init__(env)
        states, actions = options.num_states, options.num_actions
        # The MDP of a real environment may have one state more than it: the end (`from_gymnasium`).
        if env.observation_space not in (spaces.Discrete(states), spaces.Discrete(states - 1)):
            raise ValueError(f"env: observations in {env.observation_space} do not fit options over {states} states")
        if env.action_space != spaces.Discrete(actions):
            raise ValueError(f"env: actions in {env.action_space} do not fit options over {actions} actions")
        if discount is None:
            mdp = getattr(env.unwrapped, "mdp", None)
            if not isinstance(mdp, MDP):
                raise ValueError("discount: the environment has no MDP to take it from; give one")
            discount = mdp.discount
        self.options = options
        self.discount = _check.check_discount(discount)
        self.action_space = spaces.Discrete(len(options))
        self._state: int | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        observation, info = super().reset(seed=seed, options=options)
        self._state = int(observation)
        return observation, {**info, "action_mask": self.options.initiation[:, self._state].astype(np.int8)}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Run one option to its end, or to the end or truncation of the episode.

        Raises:
            ValueError: an unknown option, or one that is not available in the state.
            gymnasium.error.ResetNeeded: before the first reset, or after the episode terminated.
        """
        state, options = self._state, self.options
        if state is None:
            raise gymnasium.error.ResetNeeded("step: no episode is running; call reset first")
        option = _chosen("option", action, options.initiation[:, state], options.names, f"state {state}")
        node = options.start_node[option]
        total, discount, duration = 0.0, 1.0, 0
        while True:
            primitive = self._draw(options.policy[node, state])
            observation, reward, terminated, truncated, info = self.env.step(primitive)
            state = int(observation)
            total += discount * float(reward)
            discount *= self.discount
            duration += 1
            if terminated or truncated or self._draw_end(options.termination[node, state]):
                break
            node = options.next_node[node]
        mask = options.initiation[:, state] & (not terminated)
        self._state = None if terminated else state
        info = {
            **info,
            "duration": duration,
            "discount": 0.0 if terminated else discount,
            "action_mask": mask.astype(np.int8),
        }
        return observation, total, terminated, truncated, info

    def _draw(self, probabilities: np.ndarray) -> int:
        best = int(probabilities.argmax())
        return best if probabilities[best] == 1 else _draw(probabilities, self.np_random.random())

    def _draw_end(self, probability: float) -> bool:
        return probability == 1 or (probability > 0 and self.np_random.random() < probability)


@dataclass(frozen=True)
class Estimate:
    """A Monte-Carlo mean and its standard error: numbers, or arrays of one shape."""

    mean: Any
    error: Any


@dataclass(frozen=True)
class OptionRollouts:
    """What `rollout_model` estimates for one option in one state.

    Args:
        reward: R(s, z), the discounted reward of the whole option.
        outcome: ``P(s' | s, z) = E[γ^τ 1{s_τ = s'}]``, ``(S,)``.
        duration: E[τ], in steps.
        discount: E[γ^τ].
        episodes: number of runs.
    """

    reward: Estimate
    outcome: Estimate
    duration: Estimate
    discount: Estimate
    episodes: int


def rollout_model(
    mdp: MDP,
    options: OptionSet,
    option: int | str,
    state: int,
    episodes: int,
    seed: int,
    max_steps: int = 100_000,
) -> OptionRollouts:
    """Estimate the multi-time model of one option by running it, all episodes side by side.

    Rewards are the MDP's expected rewards of the pairs (s, a) on the way, as `TabularEnv` pays them.

    Raises:
        ValueError: an unknown option, one that is not available in the state, fewer than 2 episodes, or an option that
            still runs after ``max_steps`` steps.

    >>> from ra3sim.envs import chain
    >>> mdp = chain(5, discount=0.5)
    >>> found = rollout_model(mdp, OptionSet.macros(mdp, [[1, 1]]), 0, state=2, episodes=10, seed=0)
    >>> float(found.reward.mean), float(found.duration.mean), float(found.discount.mean)
    (0.5, 2.0, 0.25)
    """
    number = int(option_numbers([option], options.names)[0])
    if not 0 <= state < mdp.num_states or mdp.terminal[state] or not options.initiation[number, state]:
        raise ValueError(f"state: {options.names[number]!r} is not available in state {state}")
    if episodes < 2:
        raise ValueError(f"episodes: a standard error needs at least 2, got {episodes}")
    rng = np.random.default_rng(seed)
    next_state = _RowSampler(mdp.rows())
    actions = _RowSampler(options.policy.reshape(-1, mdp.num_actions))
    at = np.full(episodes, state)
    node = np.full(episodes, options.start_node[number])
    reward, duration = np.zeros(episodes), np.zeros(episodes, np.int64)
    running = np.arange(episodes)
    for step in range(max_steps):
        here, nodes = at[running], node[running]
        pair = here * mdp.num_actions + actions.draw(nodes * mdp.num_states + here, rng)
        arrived = next_state.draw(pair, rng)
        reward[running] += mdp.discount**step * mdp.rewards.ravel()[pair]
        at[running] = arrived
        duration[running] += 1
        ends = mdp.terminal[arrived] | (rng.random(running.size) < options.termination[nodes, arrived])
        node[running] = options.next_node[nodes]
        running = running[~ends]
        if not running.size:
            break
    else:
        raise ValueError(f"max_steps: {options.names[number]!r} still runs after {max_steps} steps in some episode")
    discount = mdp.discount**duration
    return OptionRollouts(
        _estimate(reward),
        _estimate_outcome(at, discount, mdp.num_states),
        _estimate(duration),
        _estimate(discount),
        episodes,
    )


class _RowSampler:
    """Draws a column for each of many rows of a matrix of probabilities, dense or sparse."""

    def __init__(self, probabilities: np.ndarray | sp.csr_array) -> None:
        rows = sp.csr_array(probabilities, copy=True)
        rows.eliminate_zeros()
        # Row i's cumulated probabilities are put into [i, i + 1): one sorted array, one search for all rows.
        self._indptr, self._indices = rows.indptr, rows.indices
        total = np.concatenate([[0.0], np.cumsum(rows.data)])
        row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
        within = (total[1:] - total[rows.indptr[row]]) / (total[rows.indptr[row + 1]] - total[rows.indptr[row]])
        self._ends = row + within

    def draw(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.find(rows, rng.random(rows.size))

    def find(self, rows: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """The columns that uniform numbers in [0, 1) fall on; never one of probability 0."""
        place = np.searchsorted(self._ends, rows + uniforms, side="right")
        return self._indices[np.minimum(place, self._indptr[rows + 1] - 1)]


def _draw(weights: np.ndarray, uniform: float) -> int:
    """The entry that a uniform number in [0, 1) falls on; never one of weight 0."""
    cumulated = weights.cumsum()
    # In floating point, too, the product is below the whole sum, so what is found adds to the sum before it.
    return int(cumulated.searchsorted(uniform * cumulated[-1], side="right"))


def _chosen(what: str, value: Any, available: np.ndarray, names: Any, where: Any) -> int:
    number = int(value)
    if number != value or not 0 <= number < len(available):
        raise ValueError(f"{what}: there is no {what} {value!r}; numbers run from 0 to {len(available) - 1}")
    if not available[number]:
        raise ValueError(f"{what}: {names[number]!r} is not available in {where}; info['action_mask'] says what is")
    return number


def _estimate(samples: np.ndarray) -> Estimate:
    return Estimate(samples.mean(), samples.std(ddof=1) / np.sqrt(len(samples)))


def _estimate_outcome(at: np.ndarray, discount: np.ndarray, states: int) -> Estimate:
    """Mean and error of ``γ^τ 1{s_τ = s'}`` for every s', without an array of episodes times states."""
    episodes = len(at)
    mean = np.bincount(at, discount, states) / episodes
    square = np.bincount(at, discount**2, states) / episodes
    return Estimate(mean, np.sqrt((square - mean**2).clip(0) / (episodes - 1)))
