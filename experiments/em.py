"""EM over latent options in tables: the three E-steps against the exact answer, sweeps of α and c, planted options.

Everything but the recovery in FourRooms runs on expert programs of LineWorld. Every curve is a mean over seeds (world,
demonstrations, start and draws all change with the seed), with its 95 % interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments import em_figure
from experiments.planted import agreement, expert_programs, fourrooms_walks, held_out_programs
from ra3sim.abstraction import TemporalPrior, ThoughtPrice
from ra3sim.em import RA3, Exact, PolicyGradient, Posterior, run_rollouts
from ra3sim.envs import LineWorld
from ra3sim.latent import (
    LatentModel,
    Prior,
    TableWorld,
    Trajectories,
    best_causal,
    evaluate_policy,
    learn,
    log_likelihood,
    posterior_policy,
)
from ra3sim.spread import interval

VERSION = 1


@dataclass(frozen=True)
class Config:
    """
    Attributes:
        seeds: independent repetitions of everything.
        programs: expert programs in the first three panels and the sweeps.
        latents, alpha: Z, and α where it is not swept.
        iterations: EM iterations in the first panel; ``sweep_iterations`` at each point of a sweep.
        group, updates: rollouts per trajectory and policy-gradient steps in an E-step of the first panel.
        candidates: K of the ``posterior`` E-steps in the first panel.
        gradient_group, gradient_updates: the same for the panel that follows one E-step, measured ``every`` so often.
        particles: K of the panel that follows the posterior E-step; each with ``repeats`` draws.
        alphas, prices: what the sweeps go through.
        walks, steps: demonstrations in FourRooms, and their length.
        program_counts: demonstrations in LineWorld.
        restarts: of EM, for the recovery of planted options.
    """

    seeds: int = 10
    programs: int = 100
    latents: int = 4
    alpha: float = 0.6
    iterations: int = 20
    sweep_iterations: int = 100
    group: int = 16
    updates: int = 10
    candidates: tuple[int, ...] = (4, 64)
    gradient_group: int = 32
    gradient_updates: int = 300
    every: int = 10
    particles: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    repeats: int = 20
    alphas: tuple[float, ...] = (0.0, 0.3, 0.6, 0.8, 0.9, 0.97, 0.99, 0.999, 1.0)
    prices: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, float("inf"))
    walks: tuple[int, ...] = (30, 100, 300)
    steps: int = 100
    program_counts: tuple[int, ...] = (10, 30, 100, 300)
    restarts: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("seeds", "programs", "latents", "iterations", "gradient_updates", "repeats", "restarts"):
            least = 2 if name == "seeds" else 1
            if getattr(self, name) < least:
                raise ValueError(f"{name}: must be at least {least}, got {getattr(self, name)}")
        if self.gradient_updates % self.every:
            raise ValueError(f"every: must divide gradient_updates = {self.gradient_updates}, got {self.every}")

    @staticmethod
    def preset(name: str) -> Config:
        if name == "smoke":
            return Config(
                seeds=2, programs=20, iterations=3, sweep_iterations=5, group=4, updates=2, candidates=(4,),
                gradient_group=4, gradient_updates=4, every=2, particles=(1, 4, 16), repeats=2, alphas=(0.0, 0.6, 1.0),
                prices=(0.0, 1.0, float("inf")), walks=(20,), steps=40, program_counts=(10,), restarts=2,
            )  # fmt: skip
        return Config(seeds=3, repeats=8, restarts=8) if name == "quick" else Config()


def parts(config: Config) -> list[str]:
    return ["iterations", "gradient", "candidates", "alpha", "price", "FourRooms", "LineWorld"]


def run_part(
    config: Config, part: str, seed: np.random.SeedSequence, progress: Callable[[float], None]
) -> dict[str, Any]:
    run = {
        "iterations": _iterations,
        "gradient": _gradient,
        "candidates": _candidates,
        "alpha": _alpha,
        "price": _price,
        "FourRooms": _fourrooms,
        "LineWorld": _lineworld,
    }[part]
    found = []
    for number, child in enumerate(seed.spawn(config.seeds)):
        found.append(run(config, child))
        progress((number + 1) / config.seeds)
    return {name: np.array([one[name] for one in found]) for name in found[0]}


def figure(config: Config, data: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    return em_figure.draw(config, data, folder)


def esteps(config: Config) -> dict[str, Any]:
    """The E-steps of the first panel, by the name in its legend."""
    gradient: dict[str, Any] = {"group": config.group, "updates": config.updates}
    return {
        "exact": Exact(),
        **{f"posterior, K = {k}": Posterior(candidates=k) for k in config.candidates},
        "policy gradient, split credit": PolicyGradient(**gradient),
        "policy gradient, joint credit": PolicyGradient(**gradient, credit="joint"),
    }


def _demonstrations(config: Config, seed: np.random.SeedSequence) -> tuple[Trajectories, Trajectories, int]:
    """A world's expert programs, what its experts would write for held-out tasks, and a seed for what follows."""
    numbers = seed.generate_state(3)
    world = LineWorld.preset("table", seed=int(numbers[0]))
    expert = expert_programs(world, config.programs, int(numbers[1]))
    return expert.trajectories, held_out_programs(world).trajectories, int(numbers[2])


def _world(config: Config, seed: np.random.SeedSequence, prior: Prior, contexts: str = "history") -> tuple[Any, int]:
    trajectories, held_out, number = _demonstrations(config, seed)
    return TableWorld(trajectories, prior, held_out=held_out, contexts=contexts, smoothing=0.01), number


def _iterations(config: Config, seed: np.random.SeedSequence) -> dict[str, Any]:
    """Log-likelihood and objective after every iteration, for every E-step from the same start."""
    world, number = _world(config, seed, TemporalPrior(config.latents, config.alpha))
    result = {}
    for name, estep in esteps(config).items():
        loop = RA3(world, estep, number)
        state = loop.init()
        records = [world.measure(state.model, state.policy)]
        for _ in range(config.iterations):
            state = loop.step(state)
        records += state.history
        for key in ("log_likelihood", "held_out", "objective"):
            result[f"{name} {key}"] = [record[key] for record in records]
    return result


def _fixed_model(config: Config, seed: np.random.SeedSequence) -> tuple[TableWorld, LatentModel, Any, int]:
    """A world in which EM has begun, so that latents say something, and its model."""
    world, number = _world(config, seed, TemporalPrior(config.latents, config.alpha))
    loop = RA3(world, "exact", number)
    state = loop.init()
    for _ in range(5):
        state = loop.step(state)
    return world, state.model, state.policy, number


def _gradient(config: Config, seed: np.random.SeedSequence) -> dict[str, Any]:
    """One policy-gradient E-step: the exact bound of the policy (mean per trajectory) as its updates go on."""
    world, model, first, number = _fixed_model(config, seed)
    total = log_likelihood(model, world.trajectories)
    exact = evaluate_policy(model, world.trajectories, *posterior_policy(model, world.trajectories)).elbo
    result: dict[str, Any] = {
        "log-likelihood": total.mean(),
        "posterior's ELBO off by": np.abs(exact - total).max(),
        "covered": _coverage(world, model, first, number),
        "best causal": best_causal(model, world.trajectories).elbo.mean(),
    }
    blocks = config.gradient_updates // config.every
    for credit in ("split", "joint"):
        policy = first
        course = [_exact_elbo(world, model, policy)]
        for block, child in enumerate(np.random.SeedSequence(number).spawn(blocks)):
            rate = 1 - block / blocks
            estep = PolicyGradient(group=config.gradient_group, updates=config.every, rate=rate, credit=credit)
            policy = estep.run(world, model, policy, None, 0, child).policy
            course.append(_exact_elbo(world, model, policy))
        result[credit] = course
    return result


def _coverage(world: TableWorld, model: LatentModel, policy: Any, number: int) -> float:
    """Share of random directions in which the estimated gradient's 95 % interval holds the enumerated one."""
    slope = evaluate_policy(model, world.trajectories, policy.table(), world.contexts, gradient=True).gradient
    exact = policy.pullback(slope)
    rng = np.random.default_rng(number)
    # The entry of the old latent itself is no parameter.
    free = np.isfinite(policy.what)
    directions = [(rng.normal(size=policy.whether.shape), rng.normal(size=policy.what.shape) * free) for _ in range(40)]
    estep, group = PolicyGradient(group=8), 8
    estimates = np.empty((100, len(directions)))
    for row, child in zip(estimates, np.random.SeedSequence([number, 1]).spawn(len(estimates)), strict=True):
        rollouts = world.rollouts(model, policy, None, group, child)
        steps, mask = run_rollouts(rollouts)
        found, _ = world.gradient(policy, rollouts, *estep.advantages(estep.rewards(world, steps, mask), steps, mask))
        row[:] = [(found.whether * w).sum() + (found.what * v).sum() for w, v in directions]
    mean = interval(estimates / group)
    truth = np.array([(exact.whether * w).sum() + (exact.what * v).sum() for w, v in directions])
    return float(((mean.low <= truth) & (truth <= mean.high)).mean())


def _exact_elbo(world: TableWorld, model: LatentModel, policy: Any) -> float:
    return float(evaluate_policy(model, world.trajectories, policy.table(), world.contexts).elbo.mean())


def _candidates(config: Config, seed: np.random.SeedSequence) -> dict[str, Any]:
    """Log-likelihood minus its estimate by K candidates from the prior, mean over trajectories and draws."""
    world, model, policy, number = _fixed_model(config, seed)
    exact = float(log_likelihood(model, world.trajectories).mean())
    result: dict[str, Any] = {}
    for name, threshold in (("weighted", 0.0), ("resampled", 0.5)):
        gaps = np.empty((len(config.particles), config.repeats))
        for i, particles in enumerate(config.particles):
            estep = Posterior(candidates=particles, threshold=threshold, learn_policy=False)
            for j, child in enumerate(np.random.SeedSequence([number, particles]).spawn(config.repeats)):
                quantities: Any = estep.run(world, model, policy, None, 0, child).quantities
                gaps[i, j] = exact - quantities["log_marginal"]
        result[name] = gaps.mean(1)
    return result


_SWEPT = ("log_likelihood", "held_out", "duration", "think_rate")


def _sweep(config: Config, seed: np.random.SeedSequence, priors: list[Prior]) -> dict[str, Any]:
    trajectories, held_out, number = _demonstrations(config, seed)
    records = []
    for prior in priors:
        world = TableWorld(
            trajectories, prior, held_out=held_out, contexts="state", smoothing=0.01, exact_record=False
        )  # fmt: skip
        loop = RA3(world, "exact", number)
        state = loop.init()
        for _ in range(config.sweep_iterations):
            state = loop.step(state)
        world.exact_record = True
        records.append(world.measure(state.model, state.policy))
    return {key: [record[key] for record in records] for key in _SWEPT}


def _alpha(config: Config, seed: np.random.SeedSequence) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, start in (("free", None), ("fixed", 0)):
        found = _sweep(config, seed, [TemporalPrior(config.latents, alpha, start) for alpha in config.alphas])
        result |= {f"{name} {key}": values for key, values in found.items()}
    return result | _cloning(config, seed)


def _price(config: Config, seed: np.random.SeedSequence) -> dict[str, Any]:
    found = _sweep(config, seed, [ThoughtPrice(config.latents, price, start=0) for price in config.prices])
    return {f"fixed {key}": values for key, values in found.items()} | _cloning(config, seed)


def _cloning(config: Config, seed: np.random.SeedSequence) -> dict[str, Any]:
    """Behaviour cloning: one policy, the shares of the actions in every state, with the same smoothing."""
    trajectories, held_out, _ = _demonstrations(config, seed)
    counts = np.full((trajectories.num_states, trajectories.num_actions), 0.01)
    np.add.at(counts, (trajectories.states, trajectories.actions), 1)
    log_policy = np.log(counts / counts.sum(1, keepdims=True))
    return {
        "cloning log_likelihood": log_policy[trajectories.states, trajectories.actions].mean(),
        "cloning held_out": log_policy[held_out.states, held_out.actions].mean(),
    }


def _fourrooms(config: Config, seed: np.random.SeedSequence) -> dict[str, Any]:
    rows = []
    for count, child in zip(config.walks, seed.spawn(len(config.walks)), strict=True):
        demonstrations, starts = child.spawn(2)
        mdp, planted = fourrooms_walks(count, config.steps, demonstrations)
        learnt = learn(
            planted.trajectories, TemporalPrior(planted.truth.num_latents, 0.95), restarts=config.restarts,
            seed=starts, persistence=20, available=mdp.available,
        )  # fmt: skip
        rows.append(agreement(planted, learnt.model))
    return {key: [row[key] for row in rows] for key in rows[0]}


def _lineworld(config: Config, seed: np.random.SeedSequence) -> dict[str, Any]:
    numbers = seed.generate_state(3)
    world = LineWorld.preset("table", seed=int(numbers[0]))
    rows = []
    for count in config.program_counts:
        planted = expert_programs(world, count, int(numbers[1]))
        learnt = learn(
            planted.trajectories, TemporalPrior(config.latents, 0.5), restarts=config.restarts,
            seed=int(numbers[2]), fixed_first=True, concentration=5.0,
        )  # fmt: skip
        rows.append(agreement(planted, learnt.model))
    return {key: [row[key] for row in rows] for key in rows[0]}
