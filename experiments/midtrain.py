"""Mid-training on LineWorld, from scratch: methods against the number of experts, ablations, sweeps of c and of K.

A small transformer is pretrained on programs whose comments name their skills, but whose skills are not the ones that
the task asks for; then it is mid-trained on N expert programs without comments. All variants of a study start from the
same base, see the same programs and make the same number of updates. World, base, experts and draws change with the
seed; every number is a mean over seeds with its 95 % interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments import midtrain_figure
from experiments.midtrain_runs import ABLATIONS, VARIANTS, Base, Budget, Variant, base, run
from llm.lineworld import LineWorldText
from ra3sim.envs.lineworld import LineWorld

VERSION = 1

# Where the number of experts is swept.
SWEPT = ("NTP", "posterior", "oracle")


@dataclass(frozen=True)
class Config:
    """
    Attributes:
        seeds: repetitions of everything but ablations, sweeps and the other base, which have ``few_seeds``.
        sizes: numbers of expert programs; ``size`` of them where it is not swept.
        neutral: the base that can read a task, by a wrong rule half of the time; deaf: the one that can't.
        budget: the same for all.
        ablations: whether each ingredient is left out in turn.
        prices: of a thought, in nats, for the posterior; candidates: their numbers.
    """

    seeds: int = 5
    few_seeds: int = 3
    sizes: tuple[int, ...] = (20, 50, 200, 1000)
    size: int = 50
    neutral: Base = field(default_factory=Base)
    deaf: Base = field(default_factory=lambda: Base(rule="random"))
    budget: Budget = field(default_factory=lambda: Budget(track=40))
    ablations: bool = True
    prices: tuple[float, ...] = (0.0, 0.5, 2.0, 8.0)
    candidates: tuple[int, ...] = (2, 4, 8, 16)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("seeds", "few_seeds"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name}: must be at least 2 for an interval, got {getattr(self, name)}")
        if self.few_seeds > self.seeds:
            raise ValueError(f"few_seeds: must be at most seeds = {self.seeds}, got {self.few_seeds}")
        if self.size not in self.sizes:
            raise ValueError(f"size: must be one of sizes = {self.sizes}, got {self.size}")

    @staticmethod
    def preset(name: str) -> Config:
        small: dict[str, Any] = {"programs": 300, "updates": 110}
        if name == "smoke":
            return Config(
                seeds=2, few_seeds=2, sizes=(20,), size=20, neutral=Base(**small), deaf=Base(rule="random", **small),
                budget=Budget(rounds=1, updates=5, per_round=16, held_out=6, particles=2, track=2), ablations=False,
                prices=(2.0,), candidates=(4,),
            )  # fmt: skip
        if name == "quick":
            small = {"programs": 1000, "updates": 120}
            return Config(
                seeds=2, few_seeds=2, sizes=(20, 50), size=20, neutral=Base(**small), deaf=Base(rule="random", **small),
                budget=Budget(rounds=2, updates=5, per_round=16, held_out=6, particles=2, track=2), ablations=False,
                prices=(2.0,), candidates=(4,),
            )  # fmt: skip
        return Config()


@dataclass(frozen=True)
class Spec:
    """One run: its study, variant, base, number of experts and repetition."""

    study: str
    name: str
    variant: Variant
    base: Base
    size: int
    repetition: int

    @property
    def part(self) -> str:
        return f"{self.study}: {self.name}, N = {self.size}, seed {self.repetition}"


def specs(config: Config) -> list[Spec]:
    """All runs; the first repetition of everything first."""
    found = []
    for k in range(config.seeds):
        found += [Spec("methods", name, one, config.neutral, config.size, k) for name, one in VARIANTS.items()]
        for size in config.sizes:
            if size != config.size:
                found += [Spec("experts", name, VARIANTS[name], config.neutral, size, k) for name in SWEPT]
        if k < config.few_seeds:
            found += [Spec("deaf base", name, VARIANTS[name], config.deaf, config.size, k) for name in SWEPT]
            swept = {f"c = {price:g}": {"price": price} for price in config.prices}
            swept |= {f"K = {count}": {"candidates": count} for count in config.candidates}
            others = {name: _changed(choices) for name, choices in swept.items()}
            others |= ABLATIONS if config.ablations else {}
            found += [Spec("ingredients", name, one, config.neutral, config.size, k) for name, one in others.items()]
    return found


def _changed(choices: Mapping[str, Any]) -> Variant:
    posterior = VARIANTS["posterior"]
    return replace(posterior, choices={**posterior.choices, **choices}, about="posterior otherwise")


def parts(config: Config) -> list[str]:
    return [spec.part for spec in specs(config)]


def run_part(
    config: Config, part: str, seed: np.random.SeedSequence, progress: Callable[[float], None]
) -> dict[str, Any]:
    (spec,) = (spec for spec in specs(config) if spec.part == part)
    # By repetition, not by part: variants are compared on the same world, base and experts.
    number = 1000 * config.seed + spec.repetition
    text = LineWorldText(LineWorld.preset("text", seed=number))
    budget = config.budget if spec.study == "methods" else replace(config.budget, track=0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        module = base(spec.base, text, number)
        return run(spec.variant, module, text, spec.size, budget, number, progress)
    finally:
        torch.set_num_threads(threads)


def figure(config: Config, data: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    rows = [(spec, data[spec.part]) for spec in specs(config)]
    return midtrain_figure.draw(config, rows, folder)
