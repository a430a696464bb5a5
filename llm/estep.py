"""Where thoughts come from: E-steps beside those of `ra3sim.em`, and the methods of mid-training by name.

An E-step has a ``name`` and ``run(world, model, policy, batch, iteration, seed)``; the loop is `ra3sim.em.RA3`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np

from llm.program import Thoughts
from llm.world import Annotation, Evidence, TextWorld
from ra3sim.em import EStepResult, PolicyGradient, Posterior, collapsed, run_rollouts


@dataclass(frozen=True)
class NoThoughts:
    """Nobody thinks: the M-step is next-token prediction."""

    name: ClassVar[str] = "none"

    def run(
        self, world: TextWorld, model: Any, policy: Any, batch: Any, iteration: int, seed: np.random.SeedSequence
    ) -> EStepResult:
        found: dict[int, tuple[Annotation, ...]] = {}
        for number in map(int, batch):
            found[number] = (Annotation.of([None] * len(world.programs[number])),)
        return EStepResult(Evidence(found, {"thoughts": 0.0}), policy, {"think": 0.0})


@dataclass(frozen=True)
class Blind:
    """Thoughts as the policy draws them, whatever they do for the expert's lines: a control.

    Args:
        group: rollouts of each program.
        floor: as in `ra3sim.abstraction.interface.World.rollouts`.
        collapse: as in `ra3sim.em.PolicyGradient`.

    Quantities: ``think`` (share of the lines), ``kappa`` (the policy's own probability of a thought), ``likelihood``
    (of the expert's lines, nats, mean per rollout), ``collapsed``.
    """

    group: int = 4
    floor: float = 0.0
    collapse: float = 1e-3
    name: ClassVar[str] = "blind"

    def __post_init__(self) -> None:
        if self.group < 1:
            raise ValueError(f"group: must be at least 1, got {self.group}")
        if not 0 <= self.floor < 1:
            raise ValueError(f"floor: must lie in [0, 1), got {self.floor}")

    def run(
        self, world: TextWorld, model: Any, policy: Any, batch: Any, iteration: int, seed: np.random.SeedSequence
    ) -> EStepResult:
        rollouts = world.rollouts(model, policy, batch, self.group, seed, self.floor)
        steps, mask = run_rollouts(rollouts)
        here = np.broadcast_to(mask, steps.think.shape)
        think = float(steps.think[here].mean())
        quantities = {
            "think": think,
            "kappa": float(steps.kappa[here].mean()),
            "likelihood": float(np.where(here, steps.log_likelihood, 0).sum(-1).mean()),
        }
        quantities["collapsed"] = collapsed(quantities, self.collapse)
        uniform = np.full(steps.think.shape[:2], 1 / self.group)
        return EStepResult(rollouts.evidence(uniform), policy, quantities)


@dataclass(frozen=True)
class Given:
    """Thoughts that are known beforehand: from a file, or the experts' own intents.

    Args:
        thoughts: by the number of the program in the world; one that is not there has no thoughts.
        source: says in a saved state where they are from.
    """

    thoughts: Mapping[int, tuple[Thoughts, ...]] = field(repr=False)
    source: str
    name: ClassVar[str] = "given"

    def run(
        self, world: TextWorld, model: Any, policy: Any, batch: Any, iteration: int, seed: np.random.SeedSequence
    ) -> EStepResult:
        found = {}
        for number in map(int, batch):
            several = self.thoughts.get(number) or ((None,) * len(world.programs[number]),)
            found[number] = tuple(map(Annotation.of, several))
        lines = [thought is not None for several in found.values() for one in several for thought in one.thoughts]
        return EStepResult(world.filtered(found), policy, {"think": float(np.mean(lines))})


@dataclass(frozen=True)
class Method:
    """An E-step and what goes with it.

    Attributes:
        about: one line for people.
        estep: with its settings; None: it is made of thoughts that are given.
        world: fields of `llm.world.WorldConfig`; proposals: of `llm.rollouts.Proposals`.
        policy_rate: learning rate of the policy gradient; None: there is none.
        one_action: a program is one action, so that all thinking comes before it.
    """

    about: str
    estep: Any
    world: Mapping[str, Any] = field(default_factory=dict)
    proposals: Mapping[str, Any] = field(default_factory=dict)
    policy_rate: float | None = None
    one_action: bool = False

    @property
    def knows(self) -> frozenset[str]:
        """The choices (`llm.config.Choices`) that mean something to it."""
        if self.estep is None:
            return frozenset({"min_gain"})
        if isinstance(self.estep, NoThoughts):
            return frozenset()
        own = {_ALIASES.get(one.name, one.name) for one in fields(self.estep)} - _HIDDEN
        own |= {"max_thought", "temperature", "stratified", "floor_above", "annotations", "min_gain"}
        if isinstance(self.estep, PolicyGradient):
            own |= {"price", "reward", "policy", "policy_rate", "per_token", "format_penalty", "anchor"}
        if isinstance(self.estep, Posterior):
            own |= {"price", "reward", "prior"}
        return frozenset(own)

    def choose(self, **choices: Any) -> Method:
        """The method with some choices made otherwise.

        Raises:
            ValueError: a choice that means nothing to the method, or a value out of range.
        """
        if unknown := sorted(choices.keys() - self.knows):
            raise ValueError(
                f"{unknown[0]}: means nothing to this method; leave it out"
                + (f" (it knows {', '.join(sorted(self.knows))})" if self.knows else "")
            )
        rate = choices.pop("policy_rate", self.policy_rate)
        if choices.get("min_gain") == -math.inf:
            choices["min_gain"] = None
        parts: dict[str, dict[str, Any]] = {"estep": {}, "world": {}, "proposals": {}}
        for name, value in choices.items():
            if name in _WORLD:
                parts["world"][name] = value
            elif name in _PROPOSALS:
                parts["proposals"][name] = value
            else:
                parts["estep"][_NAMES.get(name, name)] = value
        return replace(
            self,
            estep=replace(self.estep, **parts["estep"]) if parts["estep"] else self.estep,
            world={**self.world, **parts["world"]},
            proposals={**self.proposals, **parts["proposals"]},
            policy_rate=rate,
        )


_WORLD = {"price", "reward", "policy", "anchor", "min_gain", "annotations"}
_PROPOSALS = {"max_thought", "temperature", "stratified", "floor_above", "per_token", "format_penalty", "prior"}
# The policy gradient's `updates` is not the M-step's; its `rate` is a factor of `policy_rate`; a text model is its own
# policy, which the M-step fits.
_ALIASES = {"updates": "policy_updates"}
_NAMES = {alias: name for name, alias in _ALIASES.items()}
_HIDDEN = {"rate", "anneal", "learn_policy"}

_PUBLISHED = PolicyGradient(credit="joint", horizon="end", leave_one_out=False, normalise=True)

METHODS: dict[str, Method] = {
    "ntp": Method("next-token prediction, without thoughts", NoThoughts()),
    "blind": Method("thoughts as the model draws them, without any reward", Blind(), {"annotations": 4}),
    "given": Method("thoughts from a file", None),
    "oracle": Method("the experts' own intents (LineWorld)", None),
    "ra3": Method(
        "policy gradient as published: one advantage for both decisions", _PUBLISHED, policy_rate=1e-5
    ),
    "ra3-split": Method(
        "policy gradient of what to think, by a copy of the model, and a filter of gains",
        PolicyGradient(credit="split", horizon="thought", normalise=True, whether_after=10**6, floor=0.8),
        {"policy": "copy", "reward": "base", "min_gain": 0.05, "annotations": 4},
        {"floor_above": 0.05, "stratified": True},
        policy_rate=1e-4,
    ),
    "ra3-posterior": Method(
        "candidates weighted by what they do for the expert's lines, and a filter of gains",
        Posterior(candidates=32, threshold=0.5, lag=0.5, floor=0.8, learn_policy=False),
        {"reward": "base", "min_gain": 0.05, "annotations": 4},
        {"floor_above": 0.05, "stratified": True},
    ),
    "brite": Method(
        "one thought before the whole program (BRiTE), by policy gradient", _PUBLISHED, policy_rate=1e-5,
        one_action=True,
    ),
}  # fmt: skip
