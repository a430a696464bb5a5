"""What options of every discovery method are worth: to plan, to prune, and to learn with (`ra3sim.discovery`).

Tasks are goals that start anywhere, in FourRooms (slippery, and without slip, as the papers on planning time have
it) and in a real MiniGrid layout. A seed draws training goals, from which optimal experts' demonstrations come, and
held-out goals, on which everything is measured. Methods that need no demonstrations are given the world without a
goal. One of them, `TOLD`, is made for a single task: it is told each held-out goal, which the others are not, so beyond
the number of sweeps it is a reference and no competitor. Controls are the primitive actions alone (k = 0), ``random``,
and ``random pairs``, options that can begin in one state alone, as those of some methods. All methods see the same
goals, demonstrations and seeds, so that differences are paired.

Measured, for k options of a method, beside the primitive actions:

* sweeps: of value iteration from V_0 = 0 until ‖V_N − V*‖ <= ε, and until |V_N(s) − V*(s)| <= ε on average over states
  s; and backups, sweeps times pairs (s, z), for a sweep over more options is more work. V* is that of the primitives,
  as they are kept.
* pruning error: whether options can stand in for primitive actions. Z' is Z = primitives ∪ options without one
  primitive action; the exact Δ is averaged over which one is missing. Every such Z' is a decision space (other
  primitives remain in each state), all methods are asked the same, and nothing has to be selected, so nothing depends
  on how well a selection carries over to other goals. The table also has "options alone": all k, and primitives only in
  states where none of the k can begin. That compares less fairly: options that begin in few states leave most
  primitives in place.
* regret: of the greedy policy after some primitive steps of SMDP Q-learning.

Errors and regrets are shares of the mean V*_A at the start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments import discovery_figure
from experiments.checks import check_ascending, check_seeds
from experiments.pruned import learning_curve
from ra3sim.demonstrations import demonstrate
from ra3sim.discovery import METHODS, discover
from ra3sim.learning import OptionProblem, SMDPQLearning
from ra3sim.options import OptionSet
from ra3sim.planning import SMDPBatch, value_iteration
from ra3sim.pruning import PruningOracle
from ra3sim.smdp import SMDP, expected_durations
from ra3sim.tasks import TaskFamily, goals_in_fourrooms, goals_in_minigrid

VERSION = 2
WORLDS = ("FourRooms", "FourRooms without slip", "MiniGrid")
# In this world sweeps are all that is measured.
SWEEPS_ONLY = "FourRooms without slip"
PRIMITIVES = discovery_figure.PRIMITIVES
TOLD = discovery_figure.TOLD
# The method "random" with another setting.
PAIRS = "random pairs"
_MOST_SWEEPS = 100_000


@dataclass(frozen=True)
class Config:
    """
    Attributes:
        map_size, slip: of FourRooms.
        minigrid, layout: id and layout of the MiniGrid environment.
        discount: γ of all worlds.
        options: k, ascending.
        training, held_out: how many goals of each kind a seed draws.
        demonstrations, length: trajectories of the experts, and steps after which one is cut.
        epsilon: ε of the sweeps (a goal pays 1).
        steps: budgets of Q-learning, ascending; the one in the middle (of two the second) is drawn.
        step_size, max_steps: η of Q-learning, and steps after which an episode is cut.
        maps: of how many options the first ones are drawn on the map; one of ``options``.
        seeds: draws of goals, each with its own demonstrations, discovery and learning.
    """

    map_size: int = 11
    slip: float = 0.1
    minigrid: str = "MiniGrid-SimpleCrossingS9N1-v0"
    layout: int = 1
    discount: float = 0.95
    options: tuple[int, ...] = (1, 2, 4, 8, 16)
    training: int = 6
    held_out: int = 5
    demonstrations: int = 100
    length: int = 200
    epsilon: float = 1e-3
    steps: tuple[int, ...] = (1000, 5000, 20_000)
    step_size: float = 0.3
    max_steps: int = 200
    maps: int = 4
    seeds: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        check_seeds(self.seeds)
        for name in ("options", "steps"):
            check_ascending(name, getattr(self, name))
        for name in ("training", "held_out", "demonstrations", "length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, got {getattr(self, name)}")
        if not self.epsilon > 0:
            raise ValueError(f"epsilon: must be positive, got {self.epsilon}")
        if self.maps not in self.options:
            raise ValueError(f"maps: must be one of options, {self.options}, got {self.maps}")

    @staticmethod
    def preset(name: str) -> Config:
        if name == "smoke":
            return Config(
                map_size=6, minigrid="MiniGrid-Empty-5x5-v0", options=(1, 2), training=2, held_out=2, demonstrations=10,
                steps=(100,), maps=2, seeds=2,
            )  # fmt: skip
        return Config(seeds=2, options=(1, 4, 16), steps=(1000, 5000)) if name == "quick" else Config()


def parts(config: Config) -> list[str]:
    return [f"{world}: {method}" for world in WORLDS for method in (PRIMITIVES, *METHODS, PAIRS)]


@dataclass(frozen=True)
class _Draw:
    """What one seed draws for every method: numbers of goals, and seeds."""

    training: list[int]
    held_out: list[int]
    shown: int
    found: int
    learnt: int

    @staticmethod
    def of(config: Config, world: str, family: TaskFamily, number: int) -> _Draw:
        # Not the part's own seed: all methods are to see the same.
        root = np.random.SeedSequence(config.seed, spawn_key=(WORLDS.index(world), number))
        goals, *seeds = (int(word) for word in root.generate_state(4))
        training, held_out = family.split(config.training, config.held_out, seed=goals)
        return _Draw(training.tolist(), held_out.tolist(), *seeds)


def family_of_tasks(config: Config, world: str) -> TaskFamily:
    if world == "MiniGrid":
        family = goals_in_minigrid(config.minigrid, config.discount, config.layout, sparse=False)
        return TaskFamily([_anywhere(mdp) for mdp in family.mdps], name=family.name, world=_anywhere(family.world))
    slip = 0.0 if world == SWEEPS_ONLY else config.slip
    return goals_in_fourrooms(discount=config.discount, slip=slip, size=config.map_size, sparse=False)


def _anywhere(mdp: Any) -> Any:
    return mdp.replace(start=~mdp.terminal / (~mdp.terminal).sum())


def run_part(
    config: Config, part: str, seed: np.random.SeedSequence, progress: Callable[[float], None]
) -> dict[str, Any]:
    world, method = part.split(": ")
    family = family_of_tasks(config, world)
    draws = [_Draw.of(config, world, family, number) for number in range(config.seeds)]
    best = family.solve().values
    numbers = (0,) if method == PRIMITIVES else config.options
    rows: dict[str, list[list[Any]]] = {}
    picture: dict[str, Any] = {}
    for count in numbers:
        known: dict[int, SMDP] = {}
        measured = []
        for number, draw in enumerate(draws):
            sets = _find(config, family, method, count, draw)
            # Of methods that draw nothing, and are not told the goal, the options are the same for every seed.
            drawn = method in (PAIRS, "random", TOLD) or (method in METHODS and METHODS[method].needs != "mdp")
            models = {} if drawn else known
            measured.append(_measure(config, world, family, draw, sets, best, models))
            if number == 0 and count == config.maps and world == WORLDS[0]:
                picture = _first_options(sets[0], family[draw.held_out[0]] if method == TOLD else None)
            progress((numbers.index(count) + (number + 1) / config.seeds) / len(numbers))
        for name in measured[0]:
            rows.setdefault(name, []).append([one[name] for one in measured])
    return {"counts": list(numbers), **{name: np.array(row) for name, row in rows.items()}, **picture}


def _find(config: Config, family: TaskFamily, method: str, count: int, draw: _Draw) -> list[OptionSet | None]:
    """The options for each held-out goal; the same ones, but for the method that is told the goal."""
    if method == PRIMITIVES:
        return [None] * len(draw.held_out)
    if method == PAIRS:
        found = discover("random", count, mdp=family.world, seed=draw.found, at_most=True, pairs=True)
        return [found] * len(draw.held_out)
    if method == TOLD:
        return [discover(method, count, mdp=family[goal], at_most=True) for goal in draw.held_out]
    shown = None
    if METHODS[method].needs == "demonstrations":
        rng = np.random.default_rng(draw.shown)
        tasks = rng.choice(draw.training, size=config.demonstrations)
        shown = demonstrate(family, tasks, steps=config.length, seed=draw.shown).trajectories
    found = discover(method, count, mdp=family.world, demonstrations=shown, seed=draw.found, at_most=True)
    return [found] * len(draw.held_out)


def _measure(
    config: Config, world: str, family: TaskFamily, draw: _Draw, sets: Sequence[OptionSet | None], best: np.ndarray,
    models: dict[int, SMDP],
) -> dict[str, Any]:  # fmt: skip
    """Everything about one seed's options, means over held-out goals."""
    actions = OptionSet.primitives(family.world)
    spaces = [actions if options is None else actions | options for options in sets]

    for goal, space in zip(draw.held_out, spaces, strict=True):
        if goal not in models:
            models[goal] = SMDP.from_options(family[goal], space)
    held = [models[goal] for goal in draw.held_out]
    sweeps = [sweeps_to(one, best[goal], config.epsilon) for one, goal in zip(held, draw.held_out, strict=True)]
    pairs = [int((one.available & ~one.terminal).sum()) for one in held]
    told = any(options is not sets[0] for options in sets)
    where = [family[goal] if told else family.world for goal in draw.held_out]
    result = {
        "found": np.mean([len(space) - len(actions) for space in spaces]),
        "sweeps": np.mean([one.max() for one in sweeps]),
        "state sweeps": np.mean([one[~model.terminal].mean() for one, model in zip(sweeps, held, strict=True)]),
        "backups": np.mean([one.max() * count for one, count in zip(sweeps, pairs, strict=True)]),
        "duration": np.mean([_duration(mdp, options) for mdp, options in zip(where, sets, strict=True)]),
        "covered": np.mean([_covered(mdp, options) for mdp, options in zip(where, sets, strict=True)]),
    }
    if world == SWEEPS_ONLY:
        return result
    # Each goal is a group of its own if its options are.
    groups = [[place] for place in range(len(held))] if told else [list(range(len(held)))]
    primitive, pruned, alone, values = [], [], [], []
    for number, places in enumerate(groups):
        goals, space, batch = [draw.held_out[p] for p in places], spaces[places[0]], [held[p] for p in places]
        stacked = SMDPBatch.stack(batch)
        oracle = PruningOracle(family.subset(goals), space, stacked)
        without = [[z for z in range(len(space)) if z != action] for action in range(len(actions))]
        pruned.append(np.mean([oracle.pruning_error(kept) for kept in without], axis=0))
        alone.append(oracle.pruning_error(range(len(space)), _instead(space, len(actions))))
        problem = OptionProblem([family[goal] for goal in goals], space)
        values.append(_learnt(config, problem, stacked, [draw.learnt, number]))
        primitive.append(oracle.primitive)
    known = np.concatenate(primitive)
    return result | {
        "pruned": np.concatenate(pruned).mean() / known.mean(),
        "alone": np.concatenate(alone).mean() / known.mean(),
        "regret": (known - np.concatenate(values, axis=1)).mean(1) / known.mean(),
    }


def sweeps_to(model: SMDP, values: np.ndarray, epsilon: float) -> np.ndarray:
    """The smallest N with |V_N(s) − values(s)| <= ε, ``(S,)``, value iteration beginning with V_0 = 0.

    No reward is negative here: V_N grows, so once it is near it stays near, and ‖V_N − values‖ <= ε from the largest N.

    Raises:
        RuntimeError: there is none up to a large number.

    >>> from ra3sim.envs import chain
    >>> mdp = chain(6, discount=0.5, start=0)
    >>> sweeps_to(SMDP.from_mdp(mdp), np.append(0.5 ** np.arange(4, -1, -1), 0.0), 1e-9).tolist()
    [5, 4, 3, 2, 1, 0]
    """
    most = 32
    while most <= _MOST_SWEEPS:
        near = np.abs(value_iteration(model, iterations=most, trace=True).trace - values) <= epsilon
        if near.any(0).all():
            return near.argmax(0)
        most *= 2
    raise RuntimeError(f"{(~near[-1]).sum()} states are not within ε = {epsilon:.3g} after {most // 2} sweeps")


def _duration(mdp: Any, options: OptionSet | None) -> float:
    """Mean E[τ] of the options, over the states where each can begin."""
    return 1.0 if options is None else float(np.nanmean(expected_durations(mdp, options)))


def _covered(mdp: Any, options: OptionSet | None) -> float:
    """The share of states, not terminal, in which some option can begin."""
    return 0.0 if options is None else float(options.initiation.any(0)[~mdp.terminal].mean())


def _instead(space: OptionSet, actions: int) -> np.ndarray:
    """Where each option of the space may begin if primitive actions are left only where nothing else can."""
    initiation = space.initiation.copy()
    initiation[:actions] &= ~space.initiation[actions:].any(0)
    return initiation


def _learnt(config: Config, problem: OptionProblem, models: SMDPBatch, seed: list[int]) -> np.ndarray:
    """V^π at the start, π greedy after each budget, ``(budgets, tasks)``."""
    learner = SMDPQLearning(step_size=config.step_size, max_steps=config.max_steps)
    start = np.array([mdp.start for mdp in problem.mdps])
    return (start * learning_curve(problem, models, learner, config.steps, seed)).sum(-1)


def _first_options(options: OptionSet | None, task: Any) -> dict[str, Any]:
    """The first options as arrays to draw, and the goal that they were made for."""
    if options is None:
        return {}
    first = options.subset(list(range(min(discovery_figure.SHOWN, len(options)))))
    first = replace(first, names=[name[:60] for name in first.names])
    return {
        "map policy": first.policy,
        "map termination": first.termination,
        "map initiation": first.initiation,
        "map next": first.next_node,
        "map begin": first.start_node,
        "map names": list(first.names),
        "map goals": [] if task is None else np.flatnonzero(task.terminal).tolist(),
    }


def figure(config: Config, data: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    return discovery_figure.draw(config, data, folder)
