"""Mid-training, then reinforcement learning: what each way to prune, at each granularity, is worth to the learner.

Experts (optimal over primitive actions) demonstrate n tasks drawn from a pool. From these a decision space is made:

* granularity: primitive actions; macros (all sequences of ``macro`` actions, no single one); discovered (primitives
  and options found in the same demonstrations); everything (all of these);
* pruned by: nothing; values (the exact Δ refutes, greedily; theory, section 2); usage (what the expert used, by the
  most probable explanation); frequency (a smoothed prior over options, of which the top-p is kept state by state).

Then SMDP Q-learning learns held-out tasks in it, one at a time, from scratch; a softmax policy gradient does so too,
from the uniform policy and from the learnt prior. Regret is exact, and is split (theory, section 1):

    V*_A − V^π  =  [V*_A − V*_Z]  +  [V*_Z − V*_Ẑ]  +  [V*_Ẑ − V^π]        at the task's start

with Z all options of the granularity, Ẑ the pruned space, π the greedy (or softmax) policy so far; as a share of what
the uniformly random policy over primitive actions loses. Tasks shown, held-out tasks, demonstrations, options and
learning change with the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments import posttraining_figure
from experiments.checks import check_ascending, check_seeds
from experiments.pruned import learning_curve
from ra3sim import demonstrations
from ra3sim.discovery import METHODS, discover
from ra3sim.learning import OptionProblem, SMDPQLearning, SoftmaxPolicyGradient
from ra3sim.options import OptionSet
from ra3sim.planning import evaluate_batch, solve_batch
from ra3sim.pruning import Pruned, PruningOracle, frequency, usage, value_consistent
from ra3sim.tasks import TaskFamily, goals_in_fourrooms, goals_in_minigrid, taxi_rides

VERSION = 1
GRANULARITIES = ("primitives", "macros", "discovered", "everything")
PRUNERS = ("nothing", "values", "usage", "frequency")
WORLDS = ("FourRooms", "MiniGrid lava gap", "Taxi")
DISCOUNT = 0.95


@dataclass(frozen=True)
class Config:
    """
    Attributes:
        worlds: of `WORLDS`.
        seeds, block: how many, and how many of them are one part.
        tasks: of each world, drawn once; 12 at most, Taxi has no more.
        held_out: how many of these are learnt and never demonstrated.
        demonstrations: n, ascending.
        macro: actions of a macro.
        discovery, found: method (`ra3sim.discovery`) and how many options it finds.
        epsilon: ε of pruning by values, as a share of what the uniformly random policy loses.
        limit: most options that values and usage keep.
        nucleus: p of the top-p that frequency keeps.
        steps: primitive steps after which learning is measured, ascending.
        step_size, exploration: of Q-learning.
        episode: steps after which an episode is cut.
    """

    worlds: tuple[str, ...] = WORLDS
    seeds: int = 20
    block: int = 10
    tasks: int = 12
    held_out: int = 4
    demonstrations: tuple[int, ...] = (2, 8, 32)
    macro: int = 2
    discovery: str = "ra3"
    found: int = 6
    epsilon: float = 0.02
    limit: int = 8
    nucleus: float = 0.9
    steps: tuple[int, ...] = (100, 300, 1000, 3000, 10_000, 30_000)
    step_size: float = 0.3
    exploration: float = 0.2
    episode: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        check_seeds(self.seeds)
        for name in ("demonstrations", "steps"):
            check_ascending(name, getattr(self, name))
        if unknown := set(self.worlds) - set(WORLDS):
            raise ValueError(f"worlds: unknown {', '.join(sorted(unknown))}; known are {', '.join(WORLDS)}")
        if not self.worlds or self.block < 1:
            raise ValueError("worlds, block: at least 1 each")
        if not 1 <= self.held_out < self.tasks <= 12:
            raise ValueError(
                f"held_out, tasks: at least 1 held out, fewer than the tasks, of which there are 12 at most; got "
                f"{self.held_out} of {self.tasks}"
            )
        if self.discovery not in METHODS:
            raise ValueError(f"discovery: unknown {self.discovery!r}; known are {', '.join(METHODS)}")

    @staticmethod
    def preset(name: str) -> Config:
        if name == "smoke":
            return Config(
                worlds=("MiniGrid lava gap",), seeds=2, block=2, tasks=6, held_out=2, demonstrations=(2, 8), found=2,
                limit=4, steps=(100, 1000), episode=50,
            )  # fmt: skip
        return Config(seeds=4, block=2) if name == "quick" else Config()


def parts(config: Config) -> list[str]:
    blocks = range(0, config.seeds, config.block)
    return [f"{world}, seeds {first} to {min(first + config.block, config.seeds) - 1}" for world in config.worlds
            for first in blocks]  # fmt: skip


def family_of(world: str) -> TaskFamily:
    """All tasks of a world."""
    if world == "FourRooms":
        return goals_in_fourrooms(discount=DISCOUNT, slip=0.1, size=7)
    if world == "Taxi":
        return taxi_rides(DISCOUNT)
    return goals_in_minigrid("MiniGrid-LavaGapS7-v0", DISCOUNT, layout=0, sparse=False)


def run_part(
    config: Config, part: str, seed: np.random.SeedSequence, progress: Callable[[float], None]
) -> dict[str, Any]:
    world, _, block = part.rpartition(", seeds ")
    first, last = (int(number) for number in block.split(" to "))
    family = family_of(world)
    # The same tasks in all parts: the draw depends on the config's seed alone.
    drawn = np.random.default_rng([config.seed, 1]).permutation(len(family))[: config.tasks]
    family = family.subset(np.sort(drawn))
    options = OptionSet.primitives(family.world) | OptionSet.macros(family.world, config.macro)
    oracle = PruningOracle(family, options)
    scale = _loss_of_chance(family)
    known: dict[Any, Pruned] = {}
    results = []
    for number in range(first, last + 1):
        child = np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, number))
        results.append(_Seed(config, oracle, child, scale, known).run())
        progress((number - first + 1) / (last - first + 1))
    durations = {g: float(oracle.select(_base(g, family.num_actions, len(options))).gamma_bar) for g in _BASE}
    return {**{name: np.array([one[name] for one in results]) for name in results[0]}, "gamma_bar": durations}


_BASE = ("primitives", "macros")


def _base(granularity: str, actions: int, total: int) -> range:
    """Numbers of primitives or macros among both."""
    return range(actions) if granularity == "primitives" else range(actions, total)


def _loss_of_chance(tasks: TaskFamily) -> float:
    """V*_A less the value of the uniformly random policy over primitive actions, at the start, mean over the tasks."""
    available = np.array([mdp.available for mdp in tasks.mdps])
    chance = available / np.maximum(available.sum(-1, keepdims=True), 1)
    reached = evaluate_batch(tasks.mdps, np.arange(len(tasks)), chance)
    return float((tasks.at_start(tasks.solve().values) - tasks.at_start(reached)).mean())


class _Seed:
    """One seed in one world: its tasks, what they teach, and all that is learnt after it."""

    def __init__(
        self,
        config: Config,
        oracle: PruningOracle,
        seed: np.random.SeedSequence,
        scale: float,
        known: dict[Any, Pruned],
    ) -> None:
        self.config, self.oracle, self.known = config, oracle, known
        family = oracle.family
        split, draws, experts, discovery, learning = (int(x) for x in seed.generate_state(5))
        pool, self.held_out = family.split(config.tasks - config.held_out, config.held_out, seed=split)
        self.shown = pool[family.subset(pool).draw(max(config.demonstrations), draws)]
        self.experts = demonstrations.demonstrate(
            family, self.shown, expert="optimal", steps=config.episode, seed=experts
        )
        self.discovery, self.learning = discovery, learning
        # What was seen once may support an option: few demonstrations are all there is.
        self.settings = {"support": 0.1} if "support" in METHODS[config.discovery].settings else {}
        self.scale = scale
        self.results: dict[str, np.ndarray] = {}

    def run(self) -> dict[str, np.ndarray]:
        for n in self.config.demonstrations:
            shown = self.experts.subset(range(n))
            found = discover(
                self.config.discovery, self.config.found, mdp=self.oracle.family.world, seed=self.discovery,
                demonstrations=shown.trajectories, at_most=True, **self.settings,
            )  # fmt: skip
            actions, base = self.oracle.family.num_actions, len(self.oracle.options)
            everything = self.oracle.extend(found)
            spaces = {
                "primitives": range(actions),
                "macros": range(actions, base),
                "discovered": [*range(actions), *range(base, base + len(found))],
                "everything": range(base + len(found)),
            }
            for granularity, numbers in spaces.items():
                # What no candidate explains, a primitive action does; their uses are not counted for macros.
                explaining = [*range(actions), *(z for z in numbers if z >= actions)]
                labelled = demonstrations.explain(shown, everything.options.subset(explaining))
                uses = demonstrations.usage(labelled, len(explaining))[[explaining.index(z) for z in numbers]]
                self._granularity(granularity, n, everything.select(numbers), uses)
        return self.results

    def _granularity(self, granularity: str, n: int, oracle: PruningOracle, uses: np.ndarray) -> None:
        config, options = self.config, oracle.options
        everything = Pruned(options, tuple(range(len(options))), np.zeros(len(options)), "nothing", 0, 0)
        prior = frequency(options, uses, nucleus=config.nucleus)
        spaces = {
            "nothing": everything,
            "values": self._by_values(granularity, oracle, self.shown[:n]),
            # One short trajectory may be made of single actions alone: then there is no macro to keep.
            "usage": usage(options, uses, limit=config.limit) if uses.any() else everything,
            "frequency": prior,
        }
        for pruner, pruned in spaces.items():
            self._learn(f"{granularity}, {pruner}, {n}", oracle, pruned)
        for name, policy in (("uniform policy", np.ones_like(uses)), ("learnt policy", prior.prior)):
            self._learn(f"{granularity}, {name}, {n}", oracle, everything, policy)

    def _by_values(self, granularity: str, oracle: PruningOracle, shown: np.ndarray) -> Pruned:
        """Pruned by values; spaces that do not change with the demonstrations are pruned once for each set of tasks."""
        key = (granularity, *np.unique(shown))
        if key not in self.known:
            epsilon = self.config.epsilon * self.scale
            found = value_consistent(oracle, shown, epsilon=epsilon, limit=self.config.limit, method="greedy")
            if granularity not in _BASE:
                return found
            self.known[key] = found
        return self.known[key]

    def _learn(self, name: str, oracle: PruningOracle, pruned: Pruned, prior: np.ndarray | None = None) -> None:
        """Learn the held-out tasks; the three terms of regret at every checkpoint, ``(steps, 3)``, and |Ẑ|.

        By Q-learning, or, from an initial policy ``prior (Z, S)``, by its gradient.
        """
        config = self.config
        tasks = oracle.family.subset(self.held_out)
        problem = OptionProblem(tasks.mdps, pruned.options, hopeless=True)
        models = oracle.restricted(pruned.kept, pruned.options.initiation, self.held_out)
        assert models is not None  # a learner keeps an option in every state
        best = tasks.at_start(solve_batch(models, tolerance=1e-8).values)
        learner: Any = SMDPQLearning(step_size=config.step_size, epsilon=config.exploration, max_steps=config.episode)
        if prior is not None:
            learner = SoftmaxPolicyGradient(prior=prior, max_steps=config.episode)
        rows = []
        for values in learning_curve(problem, models, learner, config.steps, self.learning, even=True):
            reached = tasks.at_start(values)
            rows.append([
                (oracle.primitive - oracle.whole)[self.held_out].mean(),
                (oracle.whole[self.held_out] - best).mean(),
                (best - reached).mean(),
            ])  # fmt: skip
        self.results[name] = np.array(rows) / self.scale
        self.results[f"{name}: options"] = np.array(len(pruned))


def figure(config: Config, data: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    return posttraining_figure.draw(config, parts(config), data, folder)
