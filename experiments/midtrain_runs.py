"""Mid-training of a small transformer on LineWorld: the base models, the variants, and one run of one of them."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from llm import models
from llm.estep import METHODS, Given, NoThoughts
from llm.insight import insight
from llm.likelihood import measure
from llm.lineworld import LineWorldText
from llm.mstep import TrainConfig, Trainer
from llm.rollouts import Proposals
from llm.world import Annotation, TextWorld, WorldConfig
from ra3sim.em import RA3

# Raise them when `base`, or `trained`, changes what it makes.
_BASE_VERSION, _TRAINED_VERSION = 1, 1


@dataclass(frozen=True)
class Base:
    """A model before mid-training.

    Attributes:
        rule: of `LineWorld.pretraining`: "both" can read what is asked for, by a wrong rule half of the time; "random"
            never learns to read it.
        programs, updates, rate: of its pretraining; width: of the model, which has two layers.
    """

    rule: str = "both"
    programs: int = 20_000
    updates: int = 1500
    rate: float = 6e-3
    width: int = 64


@dataclass(frozen=True)
class Variant:
    """A method of `llm.estep.METHODS`, and what is done otherwise.

    Attributes:
        about: for the table.
        choices: of `Method.choose`.
        train: fields of `TrainConfig` of the M-step.
        updates: share of the M-step's updates that are made.
    """

    method: str
    about: str
    choices: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    updates: float = 1.0


# A thought is one token, and so is a line: rewards per token and summed over a line are the same.
_WRITE = {"max_thought": 2}
_POLICY = _WRITE | {"policy_rate": 1e-3, "policy_updates": 5}
# What made the policy gradient work: only what is thought is trained, by a copy of the model; thoughts that gain
# nothing under the base are dropped.
_MENDED = _POLICY | {
    "whether_after": 1000, "floor": 0.8, "floor_above": 0.05, "stratified": True, "min_gain": 0.05, "reward": "base",
}  # fmt: skip
_NO_FILTER = {"min_gain": -np.inf}

VARIANTS: Mapping[str, Variant] = MappingProxyType({
    "NTP": Variant("ntp", "next-token prediction"),
    "NTP, stopped early": Variant("ntp", "a quarter of the updates", updates=0.25),
    "NTP, strong decay": Variant("ntp", "weight decay 1 in place of 0.01", train={"weight_decay": 1.0}),
    "dummy": Variant("given", "one and the same comment before every segment"),
    "blind": Variant("blind", "thoughts as drawn, no E-step", _WRITE),
    "policy gradient, published": Variant("ra3", "joint credit, shared weights, reward of the step", _POLICY),
    "policy gradient, split": Variant("ra3-split", "separate credit, a copy, gain filter, floor", _MENDED),
    "posterior": Variant("ra3-posterior", "weighted candidates, gain filter, floor", _WRITE),
    "oracle": Variant("oracle", "the experts' own intents"),
})  # fmt: skip

# One ingredient left out, or changed, at a time.
ABLATIONS: Mapping[str, Variant] = MappingProxyType({
    "posterior, no filter": Variant("ra3-posterior", "all thoughts are kept", _WRITE | _NO_FILTER),
    "posterior, no floor": Variant("ra3-posterior", "proposals as the model makes them", _WRITE | {"floor": 0.0}),
    "posterior, reward of the step": Variant("ra3-posterior", "not of the base", _WRITE | {"reward": "step"}),
    "posterior, no lag": Variant("ra3-posterior", "resampled at any line", _WRITE | {"lag": 0.0}),
    "posterior, no resampling": Variant("ra3-posterior", "whole programs weighted", _WRITE | {"threshold": 0.0}),
    "posterior, not stratified": Variant("ra3-posterior", "independent candidates", _WRITE | {"stratified": False}),
    "posterior, model's prior": Variant("ra3-posterior", "p(z) is the base's", _WRITE | {"prior": "model"}),
    "no weights": Variant("blind", "floor and gain filter only", _WRITE | {
        "floor": 0.8, "floor_above": 0.05, "min_gain": 0.05, "stratified": True,
    }),
    "split, no filter": Variant("ra3-split", "all thoughts are kept", _MENDED | _NO_FILTER),
    "split, shared weights": Variant("ra3-split", "the model itself thinks", _MENDED | {"policy": "shared"}),
    "split, whether too": Variant("ra3-split", "whether is trained from the start", _MENDED | {"whether_after": 0}),
    "split, returns to the end": Variant("ra3-split", "not to the next thought", _MENDED | {"horizon": "end"}),
    "split, reward of the step": Variant("ra3-split", "not of the base", _MENDED | {"reward": "step"}),
    "joint credit, mended": Variant("ra3-split", "one advantage, all else as split", _MENDED | {
        "credit": "joint", "whether_after": 0,
    }),
})  # fmt: skip


@dataclass(frozen=True)
class Budget:
    """What all variants of a study have in common.

    Attributes:
        rounds: EM iterations; updates, batch, rate: of the M-step in each.
        per_round: programs that an E-step with rollouts sees at most.
        held_out: programs for likelihoods, tasks for pass@1 five times as many; particles: of the marginal.
        track: programs for the likelihoods after every iteration; 0: none.
    """

    rounds: int = 8
    updates: int = 40
    batch: int = 32
    rate: float = 2e-3
    per_round: int = 128
    held_out: int = 100
    particles: int = 16
    track: int = 0


def base(kind: Base, text: LineWorldText, seed: int) -> Any:
    """The base model: made once on this machine, then read from the cache (``$RA3SIM_CACHE``, ``~/.cache/ra3sim``).

    A module in evaluation mode, the same for the same arguments.
    """
    return _cached(
        "lineworld-base", f"{_BASE_VERSION} {kind} {text.world!r} {text.tests} {seed}",
        lambda: _pretrain(kind, text, seed),
    )  # fmt: skip


def trained(variant: Variant, kind: Base, text: LineWorldText, count: int, budget: Budget, seed: int) -> Any:
    """The base model after mid-training on ``count`` expert programs; kept and given as `base` is."""

    def make() -> Any:
        module = base(kind, text, seed)
        train(variant, module, text, count, budget, seed)
        return module

    about = f"{_BASE_VERSION} {_TRAINED_VERSION} {kind} {variant} {count} {budget} {text.world!r} {text.tests} {seed}"
    return _cached("lineworld-trained", about, make)


def _cached(name: str, about: str, make: Callable[[], Any]) -> Any:
    key = hashlib.sha256(about.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("RA3SIM_CACHE") or Path.home() / ".cache" / "ra3sim")
    folder = cache / f"{name}-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    # Two processes that need the same one: the second waits.
    with open(cache / f"{name}-{key}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            models.save(folder, make())
    # Its own progress bar would break that of the experiment.
    logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def _pretrain(kind: Base, text: LineWorldText, seed: int) -> Any:
    module = models.tiny(len(text.tokenizer), width=kind.width, max_length=128, seed=seed)
    corpus = text.world.pretraining(kind.programs, seed, kind.rule)
    rows = [
        Annotation.of(text.thoughts(one.comments)).row(program)
        for one, program in zip(corpus, text.programs(corpus), strict=True)
    ]
    config = TrainConfig(rate=kind.rate, batch=64, warmup=100, schedule="cosine", total=kind.updates)
    trainer = Trainer(module, torch.from_numpy(text.lines.closing), config)
    for chosen in trainer.batches(len(rows), kind.updates, seed):
        trainer.update([rows[k] for k in chosen])
    return module


def run(
    variant: Variant, module: Any, text: LineWorldText, count: int, budget: Budget, seed: int,
    progress: Callable[[float], None] = lambda fraction: None,
) -> dict[str, Any]:  # fmt: skip
    """Mid-train ``module`` on ``count`` expert programs; what was measured after (and on the way)."""
    held = text.world.held_out_tasks(5 * budget.held_out, seed)
    unseen = [text.world.program(task) for task in held[: budget.held_out]]

    def track(model: Any) -> dict[str, float]:
        return likelihoods(model, text, unseen[: budget.track], budget.particles, seed, controls=False)

    state = train(variant, module, text, count, budget, seed, progress, track if budget.track else None)
    found: dict[str, Any] = likelihoods(module, text, unseen, budget.particles, seed)
    found |= {
        f"pass@1, T={temperature:g}": text.pass_rate(module, held, seed, temperature=temperature).mean()
        for temperature in (1, 0)
    }
    found |= {f"thoughts {name}": value.mean for name, value in insight(module, text, unseen, seed).items()}
    kept = (
        "think",
        "loss",
        "kept",
        "fit_seconds",
        *(f"track {name}" for name in ("plain", "blind", "marginal")),
    )
    history = {name: [float(record.get(name, np.nan)) for record in state.history] for name in kept}
    return {**{name: float(value) for name, value in found.items()}, "history": history}


def train(
    variant: Variant, module: Any, text: LineWorldText, count: int, budget: Budget, seed: int,
    progress: Callable[[float], None] = lambda fraction: None,
    monitor: Callable[[Any], dict[str, float]] | None = None,
) -> Any:  # fmt: skip
    """Mid-train ``module``, in place, on ``count`` expert programs; the last `ra3sim.em.RA3State`."""
    experts = text.world.expert(count, seed)
    programs = text.programs(experts)
    updates = max(round(budget.updates * variant.updates), 1)
    method = METHODS[variant.method]
    method = method.choose(**variant.choices) if variant.choices else method
    estep = method.estep or Given(_given(variant, text, experts), variant.about)
    total = budget.rounds * updates
    fitting = TrainConfig(
        rate=budget.rate, batch=budget.batch, warmup=min(20, total // 4), schedule="linear", total=total,
        **variant.train,
    )  # fmt: skip
    everything = isinstance(estep, NoThoughts | Given)
    config = WorldConfig(
        updates=updates, programs=None if everything else budget.per_round, seed=seed, train=fitting,
        policy_train=TrainConfig(rate=method.policy_rate, batch=budget.batch) if method.policy_rate else None,
        proposals=Proposals(**method.proposals), **method.world,
    )  # fmt: skip
    world = TextWorld(programs, module, text.lines.closing, config, monitor)
    ra3 = RA3(world, estep, seed)
    state = ra3.init()
    while state.iteration < budget.rounds:
        state = ra3.step(state)
        progress(state.iteration / budget.rounds)
    return state


def likelihoods(
    module: Any, text: LineWorldText, programs: Any, particles: int, seed: int, controls: bool = True
) -> dict[str, float]:
    """Means over held-out programs, nats per line (a line is one token)."""
    dummy = text.lines.thought(" w0") if controls else None
    found = measure(
        module, text.programs(programs), text.lines.closing, max_thought=2, seed=seed, particles=particles, dummy=dummy,
        controls=controls,
    ).summary()  # fmt: skip
    return {name if controls else f"track {name}": float(value.mean) for name, value in found.items()}


def _given(variant: Variant, text: LineWorldText, experts: Any) -> dict[int, Any]:
    """The thoughts of "oracle" (the segments' skills) and "dummy" (a comment that says nothing)."""
    found = {}
    for number, program in enumerate(experts):
        thoughts = text.thoughts(program.skills)
        if variant.method == "given":
            thoughts = tuple(None if thought is None else text.lines.thought(" w0") for thought in thoughts)
        found[number] = (thoughts,)
    return found
