"""The temporal variational bound on demonstrations: its gap, its limits in α, what a thought costs (theory, 5 and 6).

The policies are held fixed (those that made the demonstrations, with some noise), so that only α and q vary: what is
shown is the bound itself, not learning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments import variational_figure
from experiments.checks import check_seeds
from experiments.planted import true_skills
from ra3sim.abstraction import TemporalPrior, ThoughtPrice, think_rule
from ra3sim.envs import LineWorld, fourrooms
from ra3sim.latent import LatentModel, Trajectories, best_causal, best_path, generate, log_likelihood
from ra3sim.options import OptionSet
from theory.arithmetic import FLOAT
from theory.latents import (
    beginnings,
    expected_log_ratio,
    from_model,
    likelihood,
    prior_table,
    scaled,
    soft_bellman,
    step_weights,
    think_rate,
)
from theory.limits import KEPT_RATE, fresh, kept
from theory.thinking import SWITCHING_COST, direct_kl, split_kl

VERSION = 1
WORLDS = ("FourRooms", "LineWorld")
STARTS = ("free", "fixed")


@dataclass(frozen=True)
class Config:
    """
    Attributes:
        seeds: of walks and of worlds, at least 2.
        walks, steps: demonstrations in FourRooms, and their length; in LineWorld all programs of the world are taken.
        noise: share of every policy that is uniform over the actions.
        thoughts: 1 - α of the sweeps, descending from 1.
        alpha: α where the length is swept; ``lengths``: the lengths.
        limit_steps: T of the panel on the rate of the limit α → 1.
        shown: the α of the panels on the cost of a thought.
    """

    seeds: int = 10
    walks: int = 200
    steps: int = 36
    noise: float = 0.1
    thoughts: tuple[float, ...] = (1.0, 0.7, 0.4, 0.2, 0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-5, 1e-6)
    alpha: float = 0.8
    lengths: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 20, 24, 28, 32, 36)
    limit_steps: int = 9
    shown: tuple[float, ...] = (0.0, 0.9, 0.999)
    seed: int = 0

    def __post_init__(self) -> None:
        check_seeds(self.seeds)
        if not 0 < self.noise <= 1:
            raise ValueError(f"noise: must lie in (0, 1], so that every action is possible; got {self.noise}")
        if not 0 <= self.alpha < 1:
            raise ValueError(f"alpha: must lie in [0, 1), got {self.alpha}")
        falling = list(self.thoughts) == sorted(self.thoughts, reverse=True)
        if not falling or self.thoughts[0] != 1 or self.thoughts[-1] <= 0:
            raise ValueError(f"thoughts: must fall from 1 and stay above 0, got {self.thoughts}")
        if list(self.lengths) != sorted(self.lengths) or self.lengths[0] < 1 or self.lengths[-1] > self.steps:
            raise ValueError(f"lengths: must ascend, from 1 to at most steps = {self.steps}, got {self.lengths}")

        most = min(self.steps, LineWorld.preset("table").horizon)
        if not 1 <= self.limit_steps <= most:
            raise ValueError(f"limit_steps: must lie in 1..{most}, what all trajectories have; got {self.limit_steps}")

    @staticmethod
    def preset(name: str) -> Config:
        if name == "smoke":
            return Config(seeds=2, walks=20, steps=12, thoughts=(1.0, 0.1, 1e-3), lengths=(1, 4, 12), shown=(0.0, 0.9))
        return Config()


def parts(config: Config) -> list[str]:
    return [*WORLDS, "cost"]


def run_part(
    config: Config, part: str, seed: np.random.SeedSequence, progress: Callable[[float], None]
) -> dict[str, Any]:
    if part == "cost":
        return _cost(config)
    found = []
    for number, child in enumerate(seed.spawn(config.seeds)):
        policy, trajectories = {"FourRooms": _walks, "LineWorld": _programs}[part](config, child)
        found.append(
            _sweep(config, policy, trajectories)
            | _lengths(config, policy, trajectories)
            | _rate(config, policy, trajectories)
        )
        progress((number + 1) / config.seeds)
    return {name: np.array([one[name] for one in found]) for name in found[0]} | {
        "lengths": np.array([length for length in config.lengths if length <= trajectories.lengths[0]])
    }


def figure(config: Config, data: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    return variational_figure.draw(config, data, folder)


# ---- Demonstrations --------------------------------------------------------------------------------------------------


def _walks(config: Config, seed: np.random.SeedSequence) -> tuple[np.ndarray, Trajectories]:
    """From corner to corner without slipping: many walks begin alike, so that a causal q cannot know how they end."""
    mdp = fourrooms(discount=0.95, slip=0.0, start=(0, 0))
    corners = [mdp.state_names.index(str(cell)) for cell in ((0, 0), (0, 10), (10, 0), (10, 10))]
    truth = LatentModel.from_options(OptionSet.point(mdp, corners))
    trajectories, _, _ = generate(truth, mdp, config.walks, config.steps, seed)
    return _noisy(config, truth.policy), trajectories


def _programs(config: Config, seed: np.random.SeedSequence) -> tuple[np.ndarray, Trajectories]:
    """The experts' programs for all tasks of a world, each once."""
    world = LineWorld.preset("table", seed=int(seed.generate_state(1)[0]))
    table = world.table()
    pairs = [table.trajectory(world.program(task)) for task in world.tasks()]
    trajectories = Trajectories.from_pairs(pairs, table.num_states, table.num_actions).merge(table.classes)
    return _noisy(config, true_skills(world).policy), trajectories


def _noisy(config: Config, policy: np.ndarray) -> np.ndarray:
    return (1 - config.noise) * policy + config.noise / policy.shape[-1]


# ---- What is measured ------------------------------------------------------------------------------------------------


def _bounds(policy: np.ndarray, trajectories: Trajectories, alpha: float, start: int | None) -> dict[str, float]:
    """Means over trajectories, in nats per trajectory; KL is the expected one to the posterior, computed as such."""
    model = LatentModel(policy, TemporalPrior(len(policy), alpha, start))
    instance = from_model(model, trajectories)
    first, weights = instance["start"], step_weights(FLOAT, instance)
    posterior = soft_bellman(FLOAT, weights)
    best = best_causal(model, trajectories)
    causal = best.policy[best.contexts.index].reshape(weights.shape)
    prior = np.broadcast_to(prior_table(FLOAT, instance), weights.shape)
    total = log_likelihood(model, trajectories)
    exact = expected_log_ratio(FLOAT, first, posterior, weights)
    prior_of: Any = model.prior
    price = ThoughtPrice(len(policy), prior_of.price, start)
    _, path = best_path(LatentModel(policy, price), trajectories)
    # B of the statement on the fixed price: a free first latent costs nothing there, and has the probability 1/Z.
    steps = weights.shape[1] - (start is None)
    path = path + steps * prior_of.log_keep - (np.log(len(policy)) if start is None else 0)
    return {
        "log-likelihood": total.mean(),
        "soft Bellman q*": exact.mean(),
        "q* off by": np.abs(exact - total).max(),
        "best causal q": best.elbo.mean(),
        "causal KL": -expected_log_ratio(FLOAT, first, causal, posterior).mean(),
        "prior as q": expected_log_ratio(FLOAT, first, prior, weights).mean(),
        "prior KL": -expected_log_ratio(FLOAT, first, prior, posterior).mean(),
        "priced path": path.mean(),
    }


def _sweep(config: Config, policy: np.ndarray, trajectories: Trajectories) -> dict[str, Any]:
    result: dict[str, Any] = {"steps": trajectories.lengths[0], "latents": len(policy)}
    for start in STARTS:
        first = None if start == "free" else 0
        rows = [_bounds(policy, trajectories, 1 - thought, first) for thought in config.thoughts]
        result |= {f"{start} {key}": [row[key] for row in rows] for key in rows[0]}
        # The limits by their closed forms, and by inference at α = 0 and 1.
        model = LatentModel(policy, TemporalPrior(len(policy), 1.0, first))
        instance = from_model(model, trajectories)
        result[f"{start} α = 1"] = np.log(kept(FLOAT, instance)).mean()
        result[f"{start} α = 1, inference"] = log_likelihood(model, trajectories).mean()
        result[f"{start} α = 0"] = np.log(fresh(FLOAT, instance)).mean()
        model = LatentModel(policy, TemporalPrior(len(policy), 0.0, first))
        result[f"{start} α = 0, inference"] = log_likelihood(model, trajectories).mean()
    return result


def _lengths(config: Config, policy: np.ndarray, trajectories: Trajectories) -> dict[str, Any]:
    rows = []
    for length in config.lengths:
        if length <= trajectories.lengths[0]:
            rows.append(_bounds(policy, beginnings(trajectories, length), config.alpha, None))
    return {f"length {key}": [row[key] for row in rows] for key in rows[0]}


def _rate(config: Config, policy: np.ndarray, trajectories: Trajectories) -> dict[str, Any]:
    """The largest |p_α - p_1| / Π_t max_z π over trajectories, from a fixed start."""
    cut = beginnings(trajectories, config.limit_steps)
    found = []
    for thought in config.thoughts:
        instance = from_model(LatentModel(policy, TemporalPrior(len(policy), 1 - thought, 0)), cut)
        instance["emission"] = scaled(instance["emission"])
        p = likelihood(FLOAT, instance["start"], step_weights(FLOAT, instance))
        found.append(np.abs(p - kept(FLOAT, instance)).max())
    return {"|p_α − p_1|": found}


def _cost(config: Config) -> dict[str, Any]:
    """What needs no demonstrations: the price of a thought, the two rules, and the tight instance of the limit."""
    latents = 4
    kappa, gain = np.linspace(0, 1, 41), np.linspace(-2, 12, 141)
    nu = np.full(latents - 1, 1 / (latents - 1))
    spread = np.broadcast_to(nu, (len(kappa), latents - 1))
    result: dict[str, Any] = {"kappa": kappa, "gain": gain, "latents": latents}
    for number, alpha in enumerate(config.shown):
        instance = {"keep": alpha, "kappa": kappa, "nu": spread}
        prior = TemporalPrior(latents, alpha)
        rho = think_rate(FLOAT, instance)
        result |= {
            f"{number} direct": direct_kl(FLOAT, instance),
            f"{number} formula": split_kl(FLOAT, instance),
            f"{number} lower": kappa * np.log(1 / rho) - np.log(SWITCHING_COST.bound(instance)),
            # One particular thought, so that the soft and the hard rule have the same threshold: H(ν) = 0.
            f"{number} soft": think_rule(gain, 0.0, prior),
            f"{number} price": prior.price,
        }
    bound, tight = [], []
    for thought in config.thoughts:
        emission = np.ones((config.limit_steps, latents))
        # The start explains all but the last step, so that p_1 = 0.
        emission[-1, 0] = 0.0
        instance = {"keep": 1 - thought, "start": 0, "emission": emission}
        bound.append(KEPT_RATE.bound(instance))
        tight.append(KEPT_RATE.measured(instance))
    return result | {"rate bound": np.array(bound), "rate tight": np.array(tight)}
