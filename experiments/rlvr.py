"""RLVR on LineWorld, from checkpoints of every way to mid-train: learning curves on held-out tasks.

The checkpoints are those of `experiments.midtrain`: one base a seed, mid-trained on the same few expert programs. From
each, GRPO trains on tasks that experts might have shown (drawn from their split), with nothing but pass or fail of the
whole program as reward; pass@k is measured on tasks of the other split. World, base, experts, tasks and draws change
with the seed and are the same for all checkpoints of a seed, so that differences are paired.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from experiments import rlvr_figure
from experiments.midtrain_runs import VARIANTS, Base, Budget, base, trained
from experiments.rlvr_results import BASE, METHODS, RATED, name_of
from llm.lineworld import LineWorldText
from ra3sim.envs.lineworld import LineTask, LineWorld

VERSION = 1

# The variants of `experiments.midtrain_runs` by the names used here.
_VARIANTS: Mapping[str, str] = MappingProxyType(
    {
        "NTP": "NTP",
        "blind": "blind",
        "RA3, published": "policy gradient, published",
        "RA3, split": "policy gradient, split",
        "RA3, posterior": "posterior",
        "oracle": "oracle",
    }
)


@dataclass(frozen=True)
class Config:
    """
    Attributes:
        seeds: repetitions.
        methods: checkpoints to start from.
        experts: programs that these were mid-trained on; base, budget: of `experiments.midtrain`.
        tasks: number that is trained on; held_out: number that is measured, ``samples`` programs each.
        steps, prompts, group: of GRPO; measure_every: steps between two measurements.
        rate: of GRPO; the best of 1e-4, 3e-4 and 1e-3 for NTP in a trial on a seed beyond these. other_rate: with which
            all but the base are run too, for a rate may decide who is ahead, and one seed is no trial; None: they are
            not.
        threshold: pass@1 whose first step is asked for.
    """

    seeds: int = 5
    methods: tuple[str, ...] = METHODS
    experts: int = 50
    base: Base = field(default_factory=Base)
    budget: Budget = field(default_factory=Budget)
    tasks: int = 1000
    held_out: int = 120
    samples: int = 4
    steps: int = 60
    prompts: int = 16
    group: int = 8
    rate: float = 1e-3
    other_rate: float | None = 3e-4
    measure_every: int = 6
    threshold: float = 0.6
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise ValueError(f"seeds: must be at least 2 for an interval, got {self.seeds}")
        if not self.methods or not set(self.methods) <= set(METHODS):
            raise ValueError(f"methods: must be some of {', '.join(METHODS)}, got {self.methods}")
        if "NTP" not in self.methods:
            raise ValueError("methods: 'NTP' is what all are compared with; add it")
        if self.other_rate == self.rate:
            raise ValueError(f"other_rate: must differ from rate = {self.rate:g}, or be None")
        if self.steps % self.measure_every:
            raise ValueError(f"measure_every: must divide steps = {self.steps}, got {self.measure_every}")

    @staticmethod
    def preset(name: str) -> Config:
        if name in ("smoke", "quick"):
            return Config(
                seeds=2, methods=("NTP", "RA3, posterior"), experts=20, base=Base(programs=300, updates=110, width=32),
                budget=Budget(rounds=1, updates=10, per_round=8, particles=2), tasks=20, held_out=10, samples=2,
                steps=2, prompts=4, measure_every=1,
            )  # fmt: skip
        return Config()

    @property
    def k(self) -> tuple[int, ...]:
        """Of pass@k."""
        return (1, self.samples) if self.samples > 1 else (1,)


def parts(config: Config) -> list[str]:
    """Checkpoint, rate and seed."""
    main = [name_of(method, config.rate) for method in config.methods]
    other = [name_of(method, config.other_rate) for method in config.methods if config.other_rate and method in RATED]
    return [f"{name}, seed {k}" for k in range(config.seeds) for name in main + other]


def run_part(
    config: Config, part: str, seed: np.random.SeedSequence, progress: Callable[[float], None]
) -> dict[str, Any]:
    name, _, repetition = part.rpartition(", seed ")
    method, _, rate = name.rpartition(", rate ")
    # By repetition, not by part: see the module.
    number = 1000 * config.seed + int(repetition)
    text = LineWorldText(LineWorld.preset("text", seed=number))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if method == BASE:
            module = base(config.base, text, number)
        else:
            variant = VARIANTS[_VARIANTS[method]]
            module = trained(variant, config.base, text, config.experts, config.budget, number)
        own = replace(config, rate=float(rate), other_rate=None)
        return _course(_learn(own, module, text, number, progress), config)
    finally:
        torch.set_num_threads(threads)


def _learn(
    config: Config, module: Any, text: LineWorldText, seed: int, progress: Callable[[float], None]
) -> list[dict[str, Any]]:
    """The record of each step."""
    # TRL takes seconds to import: not for whoever only draws.
    from llm import rlvr
    from llm.problems.problem import WHOLE, Problem
    from llm.rlvr_config import RLVRConfig
    from llm.rlvr_inputs import Inputs
    from llm.sandbox import Verdict

    class Watcher:
        def update(self, done: float, label: str) -> None:
            progress(done / config.steps)

        def say(self, line: str) -> None:
            pass

    def problems(tasks: list[LineTask]) -> list[Problem]:
        return [
            Problem(f"LineWorld/{task.requests}", "lineworld", text.prompt(task), check=task, rule=WHOLE)
            for task in tasks
        ]

    def verdicts(jobs: Any) -> list[Verdict]:
        found = (text.world.verify(problem.check, program) for problem, program in jobs)
        return [Verdict("passed" if one.passed else "failed", one.reason) for one in found]

    expert = np.random.default_rng([seed, 7]).permutation(text.world.split("expert"))[: config.tasks]
    training, held = text.world.tasks_at(expert), text.world.held_out_tasks(config.held_out, seed)
    with tempfile.TemporaryDirectory() as folder:
        choices = RLVRConfig(
            model="a checkpoint", problems="lineworld", held_out="lineworld-held-out", out=Path(folder) / "run",
            steps=config.steps, prompts=config.prompts, group=config.group, rate=config.rate, seed=seed,
            max_new_tokens=4 * text.world.horizon + 1, measured=config.held_out, samples=config.samples, k=config.k,
            measure_every=config.measure_every, save_every=config.steps,
        )  # fmt: skip
        inputs = Inputs(module, text.tokenizer, problems(training), problems(held), verdicts)
        run = rlvr.prepare(choices, print, lambda: inputs)
        assert run is not None  # the folder is new
        run.go(Watcher())
        return run.history


def _course(history: list[dict[str, Any]], config: Config) -> dict[str, Any]:
    """Arrays by step, from the first; held-out figures by measurement."""
    measured = [record for record in history if "pass@1" in record]
    found = {"measured": np.array([record["step"] for record in measured])}
    found |= {f"pass@{k}": np.array([record[f"pass@{k}"] for record in measured]) for k in config.k}
    for name in ("reward", "no spread", "all failed", "all passed", "entropy", "tokens", "cut off"):
        found[name] = np.array([record[name] for record in history[1:]], float)
    return found


def figure(config: Config, data: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    return rlvr_figure.draw(config, data, folder)
