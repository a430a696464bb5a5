"""RA3: expectation-maximisation over action abstractions (Zhang et al. 2025, section 4), written once for every world.

One iteration draws latents that explain the expert's actions (E-step) and fits the model to them (M-step). The caller
owns the loop:

    ra3 = RA3(world, "posterior", seed=0)
    state = ra3.init()
    while state.iteration < 10:
        state = ra3.step(state)
        ra3.save(state, folder)

``state.history`` has one dict of numbers per iteration. After an interruption ``ra3.load(folder)`` gives the last state
back, and what follows is the same, digit by digit, as if nothing had happened.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from ra3sim import _store
from ra3sim.abstraction import (
    ThoughtPrice,
    effective_sample_size,
    elbo_parts,
    elbo_rewards,
    group_advantages,
    returns_to_go,
    smc_step,
    split_advantages,
    step_rewards,
)
from ra3sim.abstraction.interface import Rollouts, Step, World


@dataclass(frozen=True)
class EStepResult:
    """Evidence for the M-step, the policy over latents as the E-step left it, and what was measured on the way."""

    evidence: Any
    policy: Any
    quantities: Mapping[str, float | list[float]]


@dataclass(frozen=True)
class Exact:
    """The posterior itself, where the world can compute it (tables: forward-backward; with a price: Viterbi)."""

    name: ClassVar[str] = "exact"

    def run(
        self, world: World, model: Any, policy: Any, batch: Any, iteration: int, seed: np.random.SeedSequence
    ) -> EStepResult:
        evidence, quantities = world.exact(model, batch)
        return EStepResult(evidence, policy, quantities)


@dataclass(frozen=True)
class PolicyGradient:
    """The published E-step: reinforcement learning of a policy that writes z_t before it sees a_t.

    Args:
        group: rollouts of each trajectory; the others of the group are the baseline.
        updates: policy-gradient steps in one E-step.
        rate: step size; falls linearly to 0 over the updates with ``anneal``.
        credit: "split": whether to think is credited against acting on the same step, what to think against the others
            who thought there; "joint": one advantage for both, as published.
        horizon: "end": returns to the end; "thought": up to the next thought.
        leave_one_out: the baseline leaves the rollout itself out, which keeps the gradient unbiased; False: group mean.
        normalise: divide advantages by their spread in the group (biased; steadier step sizes).
        floor: see `World.rollouts`.
        whether_after: iterations (EM) before the decision whether to think is trained at all.
        price_after: the price of a thought rises from 0 in iteration 1 to its full height after so many more; 0: it is
            there from the start.
        collapse: the record says ``collapsed`` when the policy's own probability of thinking (where the world does not
            tell it, the share of the steps with thoughts) is less than this.

    Quantities: ``elbo`` (mean per trajectory; with a price the reward) after every update and at the end, its parts,
    ``think`` (share of steps), ``kappa`` (the policy's own probability of thinking, where the world tells it),
    ``spread`` (standard deviation of the advantages, before they are normalised), ``collapsed``.
    """

    group: int = 8
    updates: int = 10
    rate: float = 1.0
    anneal: bool = False
    credit: str = "split"
    horizon: str = "end"
    leave_one_out: bool = True
    normalise: bool = False
    floor: float = 0.0
    whether_after: int = 0
    price_after: int = 0
    collapse: float = 1e-3
    name: ClassVar[str] = "policy_gradient"

    def __post_init__(self) -> None:
        _check_whole("group", self.group, 2)
        for name in ("updates", "whether_after", "price_after"):
            _check_whole(name, getattr(self, name), 0)
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ValueError(f"rate: must be a positive number, got {self.rate}")
        if self.credit not in ("split", "joint"):
            raise ValueError(f"credit: must be 'split' or 'joint', got {self.credit!r}")
        if self.horizon not in ("end", "thought"):
            raise ValueError(f"horizon: must be 'end' or 'thought', got {self.horizon!r}")
        _check_floor(self.floor)

    def run(
        self, world: World, model: Any, policy: Any, batch: Any, iteration: int, seed: np.random.SeedSequence
    ) -> EStepResult:
        seeds = seed.spawn(self.updates + 1)
        course: list[float] = []
        spread = 0.0
        charge = min(1.0, iteration / self.price_after) if self.price_after else 1.0
        for k in range(self.updates):
            rollouts = world.rollouts(model, policy, batch, self.group, seeds[k], self.floor)
            steps, mask = run_rollouts(rollouts)
            rewards = self.rewards(world, steps, mask, charge)
            if not math.isfinite(_mean(rewards)):
                raise ValueError(
                    f"estep: update {k}: a rollout met a latent or an action of probability 0, whose reward is "
                    "infinite; use smoothing > 0 in the M-step, and no floor with a prior that excludes thoughts"
                )
            course.append(_mean(_sum_steps(rewards)))
            whether, what = self.advantages(rewards, steps, mask)
            spread = _spread(self.advantages(rewards, steps, mask, normalise=False)[0], mask)
            if iteration < self.whether_after:
                whether = whether * 0
            rate = self.rate * (1 - k / self.updates if self.anneal else 1)
            policy = world.improve(policy, rollouts, whether, what, rate)
        rollouts = world.rollouts(model, policy, batch, self.group, seeds[-1], self.floor)
        steps, mask = run_rollouts(rollouts)
        uniform = steps.log_q[..., 0] * 0 + 1 / self.group
        quantities = _describe(world, steps, mask, uniform)
        quantities["elbo"] = _mean(_sum_steps(self.rewards(world, steps, mask, charge)))
        quantities |= {"course": course, "spread": spread, "collapsed": collapsed(quantities, self.collapse)}
        return EStepResult(rollouts.evidence(uniform), policy, quantities)

    def rewards(self, world: World, steps: Step, mask: Any, charge: float = 1.0) -> Any:
        """Per-step rewards ``(I, G, T)`` of rollouts that `run_rollouts` has run, as the world's prior asks.

        Args:
            charge: the share of a `ThoughtPrice` that is asked.
        """
        if isinstance(world.prior, ThoughtPrice):
            charged = _later_thoughts(world, steps.think)
            price = world.prior.price * charge if charge else 0.0
            rewards = step_rewards(steps.log_likelihood, charged, price, length=steps.length, mask=mask)
            # Chosen, not multiplied: after a trajectory's end a bonus may be anything.
            return rewards if steps.bonus is None else rewards + array_namespace(rewards).where(mask, steps.bonus, 0.0)
        return elbo_rewards(steps.log_likelihood, steps.log_prior, steps.log_q, mask)

    def advantages(self, rewards: Any, steps: Step, mask: Any, normalise: bool | None = None) -> tuple[Any, Any]:
        """Credit for whether to think and for what, ``(I, G, T)`` each; normalised as the field says if None."""
        until = steps.think if self.horizon == "thought" else None
        returns = returns_to_go(rewards, mask, until=until)
        normalise = self.normalise if normalise is None else normalise
        knobs = {"leave_one_out": self.leave_one_out, "normalise": normalise}
        if self.credit == "split":
            return tuple(split_advantages(returns, steps.think, mask, **knobs))
        joint = group_advantages(returns, mask, **knobs)
        return joint, array_namespace(joint).where(steps.think, joint, 0 * joint)


@dataclass(frozen=True)
class Posterior:
    """Hindsight: candidates from the policy over latents, weighted by what they do for the expert's actions.

    Sequential Monte Carlo with ``candidates`` particles per trajectory (Doucet & Johansen 2011); the weights approach
    the posterior as candidates grow, the estimate of the log-likelihood from below.

    Args:
        candidates: particles.
        threshold: resample where the effective sample size falls below this share of the candidates; 0: never, which
            is plain importance weighting of whole trajectories.
        lag: resample only where the weighted mean probability of thinking at the next step is at least this, so that
            a thought is judged by all it did for its lines; 0: wherever the threshold asks for it.
        floor: see `World.rollouts`.
        learn_policy: fit the policy to the weighted latents, so that it proposes better ones in the next iteration.
        collapse: as in `PolicyGradient`.

    Quantities: ``log_marginal`` (mean over trajectories of the log of the evidence estimate), ``likelihood`` (of the
    weighted latents), ``kl`` (their difference), ``think`` (share of the steps), ``kappa`` (as there), ``ess``
    (effective sample size at the end, mean), ``resampled`` (share of the steps), ``collapsed``.
    """

    candidates: int = 16
    threshold: float = 0.5
    lag: float = 0.0
    floor: float = 0.0
    learn_policy: bool = True
    collapse: float = 1e-3
    name: ClassVar[str] = "posterior"

    def __post_init__(self) -> None:
        _check_whole("candidates", self.candidates, 1)
        if not self.threshold >= 0:
            raise ValueError(f"threshold: a share of the candidates, 0 (never) or more, got {self.threshold}")
        if not 0 <= self.lag <= 1:
            raise ValueError(f"lag: must lie in [0, 1], got {self.lag}")
        _check_floor(self.floor)

    def run(
        self, world: World, model: Any, policy: Any, batch: Any, iteration: int, seed: np.random.SeedSequence
    ) -> EStepResult:
        proposals, draws = seed.spawn(2)
        rollouts = world.rollouts(model, policy, batch, self.candidates, proposals, self.floor)
        mask = rollouts.mask
        uniforms = np.random.default_rng(draws).random(mask.shape[::-1]).T
        smc = run_smc(rollouts, uniforms, threshold=self.threshold, lag=self.lag)
        steps, weights, evidence = smc.steps, smc.weights, smc.log_evidence
        found = rollouts.evidence(weights)
        xp = array_namespace(weights)
        quantities = _describe(world, steps, mask[:, None, :], weights)
        # Weighted candidates are the posterior's, of which Σ w (log π + log p - log q) is no bound; the evidence is.
        del quantities["elbo"]
        quantities |= {
            "log_marginal": _mean(evidence),
            "kl": quantities["likelihood"] - _mean(evidence),
            "ess": _mean(effective_sample_size(weights)),
            "resampled": float(xp.sum(smc.resampled) / xp.sum(xp.astype(mask, weights.dtype))),
            "collapsed": collapsed(quantities, self.collapse),
        }
        return EStepResult(found, world.follow(policy, found) if self.learn_policy else policy, quantities)


ESTEPS: dict[str, type] = {kind.name: kind for kind in (Exact, PolicyGradient, Posterior)}


@dataclass(frozen=True)
class RA3State:
    """Where a run stands: iterations done, model, policy over latents, and one dict of quantities per iteration."""

    iteration: int
    model: Any
    policy: Any
    history: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class RA3:
    """The EM loop over a `World` (see `ra3sim.abstraction.interface`).

    Args:
        world: trajectories and models, a `World`.
        estep: "exact", "policy_gradient" or "posterior" with its default settings, or an instance with others, such as
            ``Posterior(candidates=32)``.
        seed: of everything that is drawn.

    Raises:
        ValueError: an unknown E-step.
    """

    world: Any
    estep: Any = "exact"
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.estep, str):
            if self.estep not in ESTEPS:
                raise ValueError(f"estep: no E-step {self.estep!r}; known are {', '.join(ESTEPS)}")
            object.__setattr__(self, "estep", ESTEPS[self.estep]())
        if not hasattr(self.estep, "run"):
            raise ValueError(f"estep: must be a name or an E-step such as Posterior(candidates=32), got {self.estep!r}")

    def init(self) -> RA3State:
        """The state before the first iteration."""
        return RA3State(0, *self.world.init(np.random.SeedSequence([self.seed, 0])))

    def step(self, state: RA3State) -> RA3State:
        """One E-step and one M-step; what is drawn depends on the seed and the number of the iteration alone."""
        number = state.iteration + 1
        batch_seed, estep_seed = np.random.SeedSequence([self.seed, number]).spawn(2)
        batch = self.world.batch(number, batch_seed)
        found = self.estep.run(self.world, state.model, state.policy, batch, state.iteration, estep_seed)
        model = self.world.fit(state.model, found.evidence)
        record = {"iteration": number, **found.quantities, **self.world.measure(model, found.policy)}
        return RA3State(number, model, found.policy, (*state.history, record))

    def save(self, state: RA3State, folder: str | os.PathLike[str]) -> Path:
        """Write the state into ``folder``, atomically; states of earlier iterations there are removed."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"iteration-{state.iteration:06d}"
        temporary = Path(tempfile.mkdtemp(prefix=".iteration-", dir=folder))
        try:
            self.world.save(temporary, state.model, state.policy)
            about = {"iteration": state.iteration, "run": self._fingerprint(), "history": list(state.history)}
            _store.write_text(temporary / "state.json", json.dumps(about))
            temporary.chmod(0o755)
            if target.exists():
                # Out of the way, but where `load` finds it: a state is there at every moment.
                shutil.rmtree(folder / f"{target.name}-old", ignore_errors=True)
                os.replace(target, folder / f"{target.name}-old")
            os.replace(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        for other in _saved(folder):
            if other != target:
                shutil.rmtree(other, ignore_errors=True)
        return target

    def load(self, folder: str | os.PathLike[str]) -> RA3State:
        """The last state that was saved in ``folder``; `init` if there is none.

        Raises:
            ValueError: it is damaged, or of a run with another E-step or seed.
        """
        states = _saved(Path(folder))
        if not states:
            return self.init()
        try:
            about = json.loads((states[-1] / "state.json").read_text(encoding="utf-8"))
            run, iteration, history = about["run"], about["iteration"], tuple(about["history"])
            found = self.world.load(states[-1]) if run == self._fingerprint() else (None, None)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"folder: {states[-1]} is damaged ({error}); remove it to start again") from None
        if run != self._fingerprint():
            raise ValueError(
                f"folder: {folder} holds a run with {run}, this one has {self._fingerprint()}; choose another"
            )
        return RA3State(iteration, found[0], found[1], history)

    def _fingerprint(self) -> str:
        return f"{self.estep!r}, seed={self.seed}, {self.world.describe()}"


def run_rollouts(rollouts: Any) -> tuple[Step, Any]:
    """Run rollouts to their end: a `Step` of arrays ``(I, G, T)``, and the mask ``(I, 1, T)``."""
    steps = [rollouts.step(t) for t in range(rollouts.mask.shape[-1])]
    return _stack(steps), rollouts.mask[:, None, :]


class SMC(NamedTuple):
    """What `run_smc` found for I trajectories.

    Attributes:
        steps: the surviving rollouts', arrays ``(I, G, T)``.
        weights: ``(I, G)`` of the rollouts as they stand at the end; they sum to 1 over the group.
        log_evidence: ``(I,)``, log of the estimate of the marginal likelihood, which is unbiased before the logarithm.
        resampled: ``(I,)``, number of steps after which rollouts were resampled.
    """

    steps: Step
    weights: Any
    log_evidence: Any
    resampled: Any


def run_smc(rollouts: Any, uniforms: np.ndarray, *, threshold: float = 0.5, lag: float = 0.0) -> SMC:
    """Sequential Monte Carlo over the rollouts of each trajectory; they are selected on the way.

    Args:
        uniforms: ``(I, T)``, in [0, 1), for the resampling after each step.
        threshold, lag: see `Posterior`.

    Raises:
        ValueError: no rollout of a trajectory explains one of its actions.
    """
    xp, mask = array_namespace(rollouts.mask), rollouts.mask
    taken: list[Step] = []
    log_weights: Any = None
    evidence: Any = None
    resampled: Any = None
    for t in range(mask.shape[-1]):
        step = rollouts.step(t)
        increments = elbo_rewards(step.log_likelihood, step.log_prior, step.log_q, mask[:, t : t + 1])
        size = increments.shape[-1]
        if log_weights is None:
            log_weights = 0 * increments - math.log(size)
            evidence = resampled = 0 * increments[:, 0]
        uniform = xp.asarray(uniforms[:, t], dtype=increments.dtype)
        smc = smc_step(log_weights, increments, uniform, threshold=threshold)
        if bool(xp.any(smc.log_evidence == -math.inf)):
            lost = int(xp.argmax(xp.astype(smc.log_evidence == -math.inf, increments.dtype)))
            raise ValueError(
                f"candidates: none of {size} explains trajectory {lost} of the batch at step {t}; give "
                "more, or a model that finds every action possible (smoothing > 0)"
            )
        taken.append(step)
        evidence = evidence + smc.log_evidence
        # After a trajectory's last step there is nothing left to steer: its weights stand as they are.
        ends = t + 1 == mask.shape[-1]
        again = xp.zeros_like(smc.resampled) if ends else smc.resampled & mask[:, t + 1]
        settled = log_weights + increments - smc.log_evidence[:, None]
        if lag and bool(xp.any(again)):
            # What decides is known before the next latents are drawn, so the estimate stays unbiased.
            ask = getattr(rollouts, "think_probability", None) or partial(Rollouts.think_probability, rollouts)
            thinks = xp.sum(xp.exp(settled) * ask(), axis=-1)
            again = again & (thinks >= lag)
        log_weights = xp.where(again[:, None], smc.log_weights, settled)
        if bool(xp.any(again)):
            own = xp.arange(size, dtype=smc.ancestors.dtype)
            ancestors = xp.where(again[:, None], smc.ancestors, own)
            rollouts.select(ancestors)
            taken = [Step(*(None if x is None else _gather(xp, x, ancestors) for x in past)) for past in taken]
            resampled = resampled + xp.astype(again, resampled.dtype)
    return SMC(_stack(taken), xp.exp(log_weights), evidence, resampled)


def _stack(steps: list[Step]) -> Step:
    xp = array_namespace(steps[0].log_q)
    return Step(*(None if parts[0] is None else xp.stack(parts, axis=-1) for parts in zip(*steps, strict=True)))


def _describe(world: World, steps: Step, mask: Any, weights: Any) -> dict[str, Any]:
    """Quantities of weighted latents, means over trajectories; ``think`` is a share of the steps."""
    xp = array_namespace(weights)
    parts = elbo_parts(steps.log_likelihood, steps.log_prior, steps.log_q, mask, weights)
    asked = _later_thoughts(world, xp.ones_like(steps.think) & mask)
    kind = weights.dtype
    thoughts = xp.sum(weights[..., None] * xp.astype(asked & steps.think, kind))
    possible = xp.sum(weights[..., None] * xp.astype(asked, kind))
    found = {
        "elbo": _mean(parts.elbo),
        "likelihood": _mean(parts.likelihood),
        "kl": _mean(parts.kl),
        "think": float(thoughts / possible) if float(possible) else 0.0,
    }
    if steps.kappa is not None:
        # Chosen, not multiplied: after a trajectory's end it may be anything.
        wish = xp.sum(weights[..., None] * xp.where(asked, steps.kappa, 0.0))
        found["kappa"] = float(wish / possible) if float(possible) else 0.0
    return found


def collapsed(quantities: dict[str, Any], least: float) -> float:
    """1 if the policy hardly wants to think any more (``kappa``; ``think`` where that is not known); else 0."""
    return float(quantities.get("kappa", quantities["think"]) < least)


def _later_thoughts(world: World, think: Any) -> Any:
    """Without the first latent of a free start, which has to be drawn and costs nothing."""
    if world.prior.start is not None:
        return think
    xp = array_namespace(think)
    return xp.concat([xp.zeros_like(think[..., :1]), think[..., 1:]], axis=-1)


def _gather(xp: Any, values: Any, ancestors: Any) -> Any:
    rows = xp.arange(values.shape[0])[:, None]
    return values[rows, ancestors]


def _sum_steps(values: Any) -> Any:
    return array_namespace(values).sum(values, axis=-1)


def _mean(values: Any) -> float:
    return float(array_namespace(values).mean(values))


def _spread(advantages: Any, mask: Any) -> float:
    xp = array_namespace(advantages)
    here = xp.astype(mask, advantages.dtype) + 0 * advantages
    return math.sqrt(float(xp.sum(here * advantages**2) / xp.sum(here)))


def _saved(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if re.fullmatch(r"iteration-\d{6,}(-old)?", path.name)]
    return sorted(found, key=lambda path: (int(path.name.split("-")[1]), not path.name.endswith("-old")))


def _check_whole(name: str, value: Any, least: int) -> None:
    if not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name}: must be a whole number, {least} or more, got {value!r}")


def _check_floor(floor: float) -> None:
    if not 0 <= floor < 1:
        raise ValueError(f"floor: must lie in [0, 1), got {floor}")
