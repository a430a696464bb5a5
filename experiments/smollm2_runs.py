"""Short mid-training runs of a pretrained language model, one for each method, and what is measured of each."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from llm import corpus, models
from llm.estep import METHODS
from llm.likelihood import measure
from llm.lines import Lines
from llm.mstep import TrainConfig
from llm.program import Program, assemble
from llm.records import describe, line_scores
from llm.rollouts import Proposals, TextRollouts
from llm.world import Annotation, Evidence, Rolled, TextModel, TextWorld, WorldConfig
from ra3sim.em import RA3, run_rollouts

_HELD_OUT = 0.2
# Without it any comment before the first line says that a program follows, which is worth 17 nats to the line.
_PROMPT = '"""{path}"""\n\n\n'
# Of an iteration's record; NaN where a method has none.
RECORDED = ("think", "spread", "collapsed", "ess", "kept", "loss", "gain", "kappa", "nats")


@dataclass(frozen=True)
class Base:
    """Model, tokenizer's lines, and the programs, before anything is trained."""

    module: Any
    lines: Lines
    programs: list[Program]
    held_out: list[Program]


def variants(config: Any) -> dict[str, tuple[str, dict[str, Any]]]:
    """Method (of `llm.estep.METHODS`) and choices, by the name in the figures."""
    # Separate credit alone, without the filter and the reward of the base that the method has by default.
    split = {
        "whether_after": 1, "reward": "step", "min_gain": -np.inf, "floor_above": 0.0, "stratified": False,
    }  # fmt: skip
    thinks = {"max_thought": config.max_thought, "annotations": 2}
    raised = thinks | {"floor": config.floor, "floor_above": 0.0}
    gradient = {"group": config.group, "policy_updates": 1}
    return {
        "NTP": ("ntp", {}),
        "blind": ("blind", raised | {"group": config.group}),
        "policy gradient, published": ("ra3", thinks | gradient),
        "posterior": ("ra3-posterior", raised | {"candidates": config.candidates}),
        "policy gradient, split": ("ra3-split", raised | gradient | split),
    }


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch, for a while: sums in another order have other last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def base(config: Any) -> Base:
    """Read the model, and draw programs; all that are held out are of files that no expert's program is of.

    Raises:
        ValueError: the corpus has too few programs.
    """
    module, tokenizer = models.load(models.smollm2_folder() if config.model == "smollm2" else config.model)
    lines = Lines(tokenizer, max_tokens=config.max_tokens)
    found = {}
    for side, count in (("train", config.programs), ("held_out", config.places)):
        documents = _documents(config.corpus, config.min_lines, config.max_lines, side, config.seed)
        found[side] = _programs(lines, documents, count, config.seed)
        if len(found[side]) < count:
            raise ValueError(f"corpus: {config.corpus} has {len(found[side])} programs that fit, not {count} ({side})")
    return Base(module, lines, found["train"], found["held_out"])


@functools.lru_cache(maxsize=2)
def _documents(source: str, least: int, most: int, side: Any, seed: int) -> tuple[corpus.Document, ...]:
    stream = corpus.documents(source, kinds=("function",), min_lines=least, max_lines=most, comments="strip")
    return tuple(corpus.split(stream, _HELD_OUT, seed, side))


def _programs(lines: Lines, documents: tuple[corpus.Document, ...], count: int, seed: int) -> list[Program]:
    """So many programs that are not too long, in random order."""
    found: list[Program] = []
    for number in np.random.default_rng(seed).permutation(len(documents)):
        one = documents[number]
        try:
            found.append(lines.program(one.text, _PROMPT.format(**one.about), one.name, one.about))
        except ValueError:  # too long
            continue
        if len(found) == count:
            break
    return found


def evaluate(config: Any, base: Base, name: str) -> dict[str, Any]:
    """Likelihoods of held-out programs in nats, ``(n,)`` each, κ at each line, and some thoughts to read.

    ``tokens``, ``plain``, ``blind``, ``marginal``, ``sample_size``, ``lines``, ``thoughts`` as in
    `llm.likelihood.Likelihood`; ``line_kappa`` of all lines in one array; ``records`` as `llm.records.describe` makes
    them, of thoughts drawn with the floor.
    """
    programs, closing = base.held_out[: config.measured], torch.from_numpy(base.lines.closing)
    found = measure(
        base.module, programs, closing, max_thought=config.max_thought, seed=config.seed, particles=config.particles,
        controls=False,
    )  # fmt: skip
    rows = [assemble(program, (None,) * len(program)) for program in programs]
    kappa = np.concatenate([values for _, values in line_scores(base.module, rows, closing)])
    names = ("tokens", "plain", "blind", "marginal", "sample_size", "lines", "thoughts")
    return {
        **{key: getattr(found, key) for key in names},
        "line_kappa": kappa[np.isfinite(kappa)],
        "records": [{"method": name, **record} for record in _shown(config, base)],
    }


def _shown(config: Any, base: Base) -> list[dict[str, Any]]:
    """Held-out programs with thoughts as the model draws them, with the floor."""
    programs, closing = base.held_out[: config.shown], torch.from_numpy(base.lines.closing)
    rollouts = TextRollouts(
        base.module, base.module, programs, range(len(programs)), 1, closing, Proposals(config.max_thought), 0.0,
        np.random.SeedSequence(config.seed), floor=config.floor,
    )  # fmt: skip
    run_rollouts(rollouts)
    annotations = [Annotation.of(rollouts.latents(b)) for b in range(len(programs))]
    return describe(base.lines, programs, annotations, policy=base.module, reward=base.module, closing=closing)


def train(config: Any, name: str, base: Base, progress: Callable[[float], None]) -> dict[str, Any]:
    """Run one method; its course, and what `evaluate` finds after it.

    Beside `evaluate`'s: each of `RECORDED` ``(iterations,)``, and ``estep_seconds``, ``mstep_seconds`` of the
    processor.
    """
    kind, choices = variants(config)[name]
    method = METHODS[kind].choose(**choices)
    train_config = TrainConfig(
        rate=config.rate, batch=config.batch, warmup=1, schedule="linear",
        total=config.iterations * config.updates + 1,
    )  # fmt: skip
    policy = TrainConfig(rate=method.policy_rate) if method.policy_rate else None
    settings = WorldConfig(
        programs=config.per_round, updates=config.updates, seed=config.seed, train=train_config, policy_train=policy,
        proposals=Proposals(**method.proposals), **method.world,
    )  # fmt: skip
    world = Watched(base, settings)
    ra3 = RA3(world, method.estep, config.seed)
    state = ra3.init()
    while state.iteration < config.iterations:
        state = ra3.step(state)
        progress(0.05 + 0.65 * state.iteration / config.iterations)
    history = {key: np.array([float(record.get(key, np.nan)) for record in state.history]) for key in RECORDED}
    seconds = {key: np.array([record[key] for record in state.history]) for key in ("estep_seconds", "mstep_seconds")}
    return {**history, **seconds, **evaluate(config, base, name)}


class Watched(TextWorld):
    """A `TextWorld` that also records what the E-step's thoughts are worth, and the time of both steps.

    ``gain``: nats for each thought over the lines that it stands for, under the reward's weights; ``kappa``: the
    policy's own probability of a thought, mean over the lines where one may stand; ``nats``: of the experts' code
    per content token, given the rollouts' thoughts; ``estep_seconds``, ``mstep_seconds``: of the processor.
    """

    def __init__(self, base: Base, config: WorldConfig) -> None:
        super().__init__(base.programs, base.module, base.lines.closing, config)
        self._lines = base.lines
        self._watched: dict[str, float] = {}
        self._rolled: Rolled | None = None

    def batch(self, iteration: int, seed: np.random.SeedSequence) -> np.ndarray:
        self._watched, self._rolled, self._start = {}, None, time.process_time()
        return super().batch(iteration, seed)

    def rollouts(self, *args: Any, **options: Any) -> Rolled:
        self._rolled = super().rollouts(*args, **options)
        return self._rolled

    def fit(self, model: TextModel, evidence: Evidence) -> TextModel:
        self._watched["estep_seconds"] = time.process_time() - self._start
        if self._rolled is not None:
            self._watched |= {**self._worth(model, evidence), **_course(self._rolled)}
        start = time.process_time()
        model = super().fit(model, evidence)
        self._watched["mstep_seconds"] = time.process_time() - start
        return model

    def measure(self, model: TextModel, policy: TextModel) -> dict[str, float]:
        return super().measure(model, policy) | self._watched

    def _worth(self, model: TextModel, evidence: Evidence) -> Mapping[str, float]:
        reward = self.base if self.config.reward == "base" else model.module
        numbers = sorted(evidence.annotations)
        found = describe(
            self._lines, [self.programs[number] for number in numbers],
            [evidence.annotations[number][0] for number in numbers], policy=reward, reward=reward, closing=self.closing,
        )  # fmt: skip
        worth = [line["gain"] for record in found for line in record["lines"] if line["gain"] is not None]
        return {"gain": float(np.mean(worth))} if worth else {}


def _course(rolled: Rolled) -> dict[str, float]:
    """Of the E-step's last rollouts."""
    here = np.isfinite(rolled.log_kappa)
    tokens = rolled.group * sum(int(program.lengths.sum()) for program in rolled.programs)
    return {
        "kappa": float(np.exp(rolled.log_kappa[here]).mean()) if here.any() else np.nan,
        "nats": -float(rolled.log_likelihood.sum()) / tokens,
    }
