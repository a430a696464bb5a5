"""A pretrained language model on the standard library: what its comments are worth, and short runs of every E-step.

SmolLM2-135M on a CPU, on functions of a few lines. First the base model is measured as it is: how likely it is to
comment, and what its comments do for the lines after them, beside comments that give the next line away and comments
that say nothing. Then every method is run for a few minutes from the same base on the same programs, with the same
updates of the M-step. One run of each: there is no spread over seeds; intervals are over programs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments import smollm2_figure, smollm2_gains, smollm2_runs

VERSION = 2


@dataclass(frozen=True)
class Config:
    """
    Attributes:
        model: 'smollm2', or a folder, file or name as `llm.models.load` takes it.
        corpus: as `llm.corpus.documents` takes it; min_lines, max_lines: of its functions; max_tokens: of a program,
            with the path of its file before it.
        places: held-out programs before one line of which comments are put; chunk: how many in one part.
        samples: comments that are drawn before each of these lines.
        max_thought: most tokens of a comment.
        programs: experts'; per_round: how many of them an iteration sees.
        iterations: E-step and M-step; updates, batch, rate: of the M-step in each.
        group: rollouts of each program (blind sampling, policy gradient); candidates: of the posterior.
        floor: κ is raised to floor + (1 - floor) κ when comments are proposed, but by NTP and the published method.
        measured: held-out programs for the likelihoods; particles: of the marginal.
        shown: held-out programs of which thoughts are kept for reading.
    """

    model: str = "smollm2"
    corpus: str = "stdlib"
    min_lines: int = 5
    max_lines: int = 8
    max_tokens: int = 72
    places: int = 30
    chunk: int = 10
    samples: int = 4
    max_thought: int = 8
    programs: int = 8
    per_round: int = 2
    iterations: int = 4
    updates: int = 3
    batch: int = 2
    rate: float = 5e-5
    group: int = 4
    candidates: int = 8
    floor: float = 0.3
    measured: int = 8
    particles: int = 4
    shown: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"places": 2, "measured": 2, "group": 2, "programs": 2, "seed": 0, "min_lines": 1}
        for name in (
            "places", "chunk", "samples", "max_thought", "programs", "per_round", "iterations", "updates", "batch",
            "group", "candidates", "measured", "particles", "shown", "seed", "min_lines",
        ):  # fmt: skip
            if getattr(self, name) < least.get(name, 1):
                raise ValueError(f"{name}: must be at least {least.get(name, 1)}, got {getattr(self, name)}")
        if self.places % self.chunk:
            raise ValueError(f"chunk: must divide places = {self.places}, got {self.chunk}")
        if max(self.measured, self.shown) > self.places:
            raise ValueError(f"places: measured and shown are among these {self.places} programs; give more places")
        if not 0 <= self.floor < 1:
            raise ValueError(f"floor: must lie in [0, 1), got {self.floor}")

    @staticmethod
    def preset(name: str) -> Config:
        if name in ("smoke", "quick"):
            return Config(
                corpus="package:asyncio", min_lines=4, max_lines=5, max_tokens=45, places=2, chunk=2, samples=2,
                max_thought=2, programs=2, per_round=1, iterations=2, updates=1, batch=1, group=2, candidates=2,
                measured=2, particles=1, shown=1,
            )  # fmt: skip
        return Config()


def parts(config: Config) -> list[str]:
    return [*_gain_parts(config), "before", *smollm2_runs.variants(config)]


def run_part(
    config: Config, part: str, seed: np.random.SeedSequence, progress: Callable[[float], None]
) -> dict[str, Any]:
    with smollm2_runs.one_thread():
        base = smollm2_runs.base(config)
        progress(0.05)
        if part in _gain_parts(config):
            first = _gain_parts(config).index(part) * config.chunk
            return smollm2_gains.measure(config, base, range(first, first + config.chunk), seed, progress)
        if part == "before":
            return smollm2_runs.evaluate(config, base, part)
        return smollm2_runs.train(config, part, base, progress)


def figure(config: Config, data: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    return smollm2_figure.draw(config, data, folder)


def _gain_parts(config: Config) -> list[str]:
    return [f"gains {k + 1}" for k in range(config.places // config.chunk)]
