"""A language model and expert programs as a world of `ra3sim.em.RA3`."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llm import distributed
from llm.backends import BACKENDS
from llm.engine import Engine, InProcess
from llm.gains import gains
from llm.mstep import TrainConfig, Trainer, batches
from llm.program import CONTENT, END, THOUGHT, Program, Row, Thoughts, assemble
from llm.remote import SampledRollouts
from llm.rollouts import Proposals, TextRollouts
from llm.shares import Shares
from ra3sim.abstraction import ThoughtPrice
from ra3sim.abstraction.interface import World


@dataclass(frozen=True)
class Annotation:
    """Thoughts for the lines of a program.

    Attributes:
        thoughts: T of them, None where there is none.
        closed: whether each ended by itself (True where there is none).
        forget: where the decision whether to think is not to be imitated.
    """

    thoughts: Thoughts
    closed: tuple[bool, ...]
    forget: tuple[bool, ...]

    @staticmethod
    def of(thoughts: Sequence[Any]) -> Annotation:
        """Thoughts as they are given, nothing forgotten."""
        return Annotation(tuple(thoughts), (True,) * len(thoughts), (False,) * len(thoughts))

    def without(self, drop: np.ndarray) -> Annotation:
        """Some thoughts dropped (boolean ``(T,)``), and there forgotten whether to think."""
        parts = zip(drop.tolist(), self.thoughts, self.closed, self.forget, strict=True)
        rows = [(None, True, True) if gone else rest for gone, *rest in parts]
        return Annotation(*(tuple(column) for column in zip(*rows, strict=True)))

    def row(self, program: Program) -> Row:
        return assemble(program, self.thoughts, closed=self.closed, forget=self.forget)


@dataclass(frozen=True)
class Evidence:
    """Annotations of equal weight, some for each program of the batch, by the programs' numbers in the corpus."""

    annotations: dict[int, tuple[Annotation, ...]]
    quantities: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class WorldConfig:
    """What the E- and M-steps of a language model share.

    Args:
        price: c of a thought, nats.
        reward: whose likelihood of the expert's lines counts: "step": the model's as it is when the E-step begins;
            "base": the model's before all mid-training, which has not memorised the experts.
        policy: "shared": the model itself thinks, and the policy gradient moves its weights; "copy": a second model.
        anchor: weight of the imitation of the expert's lines in each update of the policy, per content token beside the
            policy gradient per decision.
        min_gain: thoughts that gain less than this (nats, over the lines they stand for, under the base) are dropped,
            and whether to think is not imitated there; None: all are kept.
        annotations: drawn from the weighted rollouts of each program, for the M-step.
        programs: how many the E-step sees in an iteration; None: all.
        updates: of the M-step in an iteration.
        seed: of the order of programs.
        engine: what rolls out: "session": keys and values are kept in this process (`llm.rollouts`); a name of
            `llm.backends.BACKENDS`: samples and one final score (`llm.remote`); weights are handed over anew.
        train, policy_train: of the M-step and of the policy gradient (None: there is none); an E-step's ``rate``
            multiplies the latter's.
    """

    price: float = 0.05
    reward: str = "step"
    policy: str = "shared"
    anchor: float = 0.0
    min_gain: float | None = None
    annotations: int = 1
    programs: int | None = None
    updates: int = 40
    seed: int = 0
    engine: str = "session"
    proposals: Proposals = field(default_factory=Proposals)
    train: TrainConfig = field(default_factory=TrainConfig)
    policy_train: TrainConfig | None = None

    def __post_init__(self) -> None:
        engines = ("session", *BACKENDS)
        for name, known in (("reward", ("step", "base")), ("policy", ("shared", "copy")), ("engine", engines)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name in ("price", "anchor"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name}: must be a number, 0 or more, got {getattr(self, name)}")
        if self.min_gain is not None and np.isnan(self.min_gain):
            raise ValueError(f"min_gain: must be a number, or None, got {self.min_gain}")
        for name, least in (("annotations", 1), ("updates", 0), ("seed", 0), ("programs", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}: must be at least {least}, got {value}")
        if self.policy == "copy" and self.policy_train is None:
            raise ValueError("policy_train: a copy that thinks has to be trained; say how, e.g. TrainConfig(rate=1e-4)")
        if self.policy == "shared" and self.policy_train and self.policy_train.lora != self.train.lora:
            raise ValueError(
                f"policy_train: weights that are shared need the same lora as train ({self.train.lora}), got "
                f"{self.policy_train.lora}; or use policy='copy'"
            )


@dataclass(frozen=True)
class TextModel:
    """A transformers model, and what trains it; the weights live here and change in place.

    Attributes:
        module: what trains; several processes have it in shards.
        replica: what is computed with elsewhere.
    """

    module: Any
    trainer: Trainer
    replica: distributed.Replica

    def current(self) -> Any:
        """A whole module with the weights as they are now. Every process must call it."""
        return self.replica.current()

    def update(self, rows: Sequence[Row], **options: float) -> dict[str, float]:
        """`Trainer.update`."""
        self.replica.changed()
        return self.trainer.update(rows, **options)


class TextWorld(World[TextModel, TextModel, Evidence]):
    """Expert programs explained by thoughts, for the E-steps ``policy_gradient`` and ``posterior`` (and `llm.estep`).

    Args:
        programs: the experts'.
        module: transformers model to start from; it is trained in place.
        closing: boolean ``(V,)``, the tokens that close a thought (`llm.lines.Lines.closing`).
        monitor: called with the module after each iteration; returns numbers for the record.

    Raises:
        ValueError: no programs, fewer in an E-step than processes, or a program too long for the model.

    Several processes share out the programs of an E-step (`llm.shares`); each has the whole weights to roll out with.

    The record of an iteration has ``loss`` (of the M-step, nats per token), ``tokens``, ``kept`` (share of the thoughts
    that gain enough, with ``min_gain``) and ``thoughts`` (share of the lines).
    """

    def __init__(
        self, programs: Sequence[Program], module: Any, closing: np.ndarray, config: WorldConfig,
        monitor: Callable[[Any], dict[str, float]] | None = None,
    ) -> None:  # fmt: skip
        if not programs:
            raise ValueError("programs: none given")
        seen, started = min(len(programs), config.programs or len(programs)), distributed.process().num_processes
        if seen < started:
            raise ValueError(f"programs: an E-step sees {seen}, for {started} processes; give more, or start fewer")
        about = module.config.get_text_config()
        longest, most = max(len(program.ids) for program in programs), getattr(about, "max_position_embeddings", None)
        if most is not None and longest > most:
            raise ValueError(f"programs: one has {longest} tokens, and the model takes {most}; leave long ones out")
        if (largest := max(program.ids.max() for program in programs)) >= about.vocab_size:
            raise ValueError(
                f"programs: one has the id {largest}, but the model knows {about.vocab_size} tokens; use its own "
                "tokenizer"
            )
        self.programs, self.config, self.monitor = programs, config, monitor
        self.prior = ThoughtPrice(None, config.price, start=0)
        # Ids that no token has close a thought too.
        padded = np.ones(max(len(closing), about.vocab_size), bool)
        padded[: len(closing)] = closing
        self._closing = torch.from_numpy(padded)
        needs_base = config.reward == "base" or config.min_gain is not None
        self.base = distributed.frozen(module) if needs_base else None
        # What tells runs apart, beside the settings: programs, and weights that a saved state does not hold.
        parts = [program.ids for program in programs]
        if needs_base or config.train.lora:
            parts += [weight.detach().float().cpu().numpy() for weight in module.parameters()]
        self._digest = digest(parts)
        own = copy.deepcopy(module) if config.policy == "copy" else module
        # Before trainers take the modules, shard them and put adapters in.
        replica = distributed.Replica(module)
        own_replica = replica if own is module else distributed.Replica(own)
        trainer = Trainer(module, self._closing, config.train)
        if self.base is not None:
            self.base.to(trainer.process.device, torch.float32)
        self._model = TextModel(module, trainer, replica)
        self._policy = self._model
        if config.policy_train is not None:
            # Moments of its own: the policy gradient's are of another size.
            self._policy = TextModel(own, Trainer(own, self._closing, config.policy_train), own_replica)
        self._fixed: Any = None
        self._engine: Engine | None = None
        self._fitted: dict[str, float] = {}

    @property
    def closing(self) -> torch.Tensor:
        return self._model.trainer.closing

    def init(self, seed: np.random.SeedSequence) -> tuple[TextModel, TextModel]:
        return self._model, self._policy

    def batch(self, iteration: int, seed: np.random.SeedSequence) -> np.ndarray:
        """Numbers of the programs of an iteration: all of them in a random order, then again in another."""
        self._fixed = None
        count = self.config.programs
        if count is None or count >= len(self.programs):
            return np.arange(len(self.programs))
        order = batches(len(self.programs), count, iteration, self.config.seed)
        for numbers in order:
            chosen = numbers
        return np.unique(chosen)

    def rollouts(
        self, model: TextModel, policy: TextModel, batch: np.ndarray, group: int, seed: np.random.SeedSequence,
        floor: float = 0.0,
    ) -> Any:  # fmt: skip
        """A `Rolled`, or the `Shares` of several processes."""
        thinker = policy.current()
        reward = self.base
        if self.config.reward == "step":
            reward = model.current() if self._fixed is None else self._fixed
        batch_of_own = np.array(distributed.share(batch.tolist()), np.int64)
        if self.config.engine == "session":
            own: Rolled = SessionRolled(self, thinker, reward, batch_of_own, group, seed, floor)
        else:
            engine = self._engine_of(thinker)
            own = SampledRolled(self, engine, None if reward is thinker else reward, batch_of_own, group, seed, floor)
        if distributed.process().num_processes == 1:
            return own
        return Shares(own, [len(self.programs[number]) for number in batch])

    def _engine_of(self, module: Any) -> Engine:
        """The engine that was asked for, with the weights as they are now."""
        if self._engine is None:
            self._engine = BACKENDS[self.config.engine](module)
        else:
            self._engine.sync(module, self._engine.version + 1)
        return self._engine

    def improve(
        self, policy: TextModel, rollouts: Rolled | Shares, whether: np.ndarray, what: np.ndarray, rate: float
    ) -> TextModel:
        if self.config.policy_train is None:
            raise ValueError("policy_train: say how the policy is trained, e.g. TrainConfig(rate=1e-4)")
        if policy.module is self._model.module and self._fixed is None and self.config.reward == "step":
            # The reward's weights stay those of the step's beginning while the policy moves.
            self._fixed = distributed.frozen(policy.current())
        rows, decisions = rollouts.gradient_rows(whether, what, self.config.anchor)
        trainer = policy.trainer
        policy.update(rows, normaliser=max(decisions, 1), rate=rate * trainer.config.rate_at(trainer.updates))
        return policy

    def fit(self, model: TextModel, evidence: Evidence) -> TextModel:
        """``updates`` steps of imitation; every program as often as any other, with its annotations in turn."""
        numbers = sorted(evidence.annotations)
        done = model.trainer.updates
        order = np.random.SeedSequence([self.config.seed, done])
        seen = dict.fromkeys(numbers, 0)
        losses, tokens, seconds = [], 0, 0.0
        for chosen in model.trainer.batches(len(numbers), self.config.updates, order):
            rows = []
            for number in (numbers[k] for k in chosen):
                annotations = evidence.annotations[number]
                rows.append(annotations[seen[number] % len(annotations)].row(self.programs[number]))
                seen[number] += 1
            found = model.update(rows)
            losses.append(found["loss"])
            tokens += found["tokens"]
            seconds += found["seconds"]
        self._fitted = {"tokens": tokens, "fit_seconds": seconds} | evidence.quantities
        if losses:
            self._fitted["loss"] = float(np.mean(losses))
        return model

    def filtered(self, found: dict[int, tuple[Annotation, ...]]) -> Evidence:
        """Evidence without the thoughts that gain less than ``min_gain`` under the base."""
        least = self.config.min_gain
        kept = total = 0
        if least is not None:
            pairs = [(number, annotation) for number, several in found.items() for annotation in several]
            own = distributed.share(pairs)
            programs = [self.programs[number] for number, _ in own]
            worth = distributed.gather_objects(
                gains(self.base, programs, [annotation.thoughts for _, annotation in own], self.closing)
            )
            better: dict[int, list[Annotation]] = {number: [] for number in found}
            for (number, annotation), gain in zip(pairs, worth, strict=True):
                drop = gain < least  # NaN, where there is no thought, is not
                kept, total = kept + int((gain >= least).sum()), total + int(np.isfinite(gain).sum())
                better[number].append(annotation.without(drop))
            found = {number: tuple(several) for number, several in better.items()}
        lines = sum(len(one.thoughts) for several in found.values() for one in several)
        thoughts = sum(thought is not None for several in found.values() for one in several for thought in one.thoughts)
        quantities = {"thoughts": thoughts / lines}
        return Evidence(found, quantities | ({"kept": kept / total if total else 0.0} if least is not None else {}))

    def measure(self, model: TextModel, policy: TextModel) -> dict[str, float]:
        return self._fitted | (self.monitor(model.current()) if self.monitor else {})

    def describe(self) -> str:
        return f"{len(self.programs)} programs ({self._digest}), {self.config!r}"

    def contents(self, model: TextModel, policy: TextModel) -> Iterator[tuple[str, Any]]:
        """What is saved, by the name of the file; the main process has it. Every process must go through them all."""
        for name, part in (("model", model), ("policy", policy)):
            if name == "policy" and policy is model:
                continue
            if name == "model" or policy.module is not model.module:
                yield f"{name}.pt", distributed.full_state(part.module, everywhere=False)
            yield f"{name}-trainer.pt", part.trainer.state_dict(everywhere=False)

    def save(self, folder: Path, model: TextModel, policy: TextModel) -> None:
        for name, content in self.contents(model, policy):
            torch.save(content, folder / name)

    def load(self, folder: Path) -> tuple[TextModel, TextModel]:
        for name, part in (("model", self._model), ("policy", self._policy)):
            if name == "policy" and self._policy is self._model:
                continue
            if name == "model" or self._policy.module is not self._model.module:
                _restore(part, _read(folder / f"{name}.pt"))
            part.trainer.load_state_dict(_read(folder / f"{name}-trainer.pt"))
            part.replica.changed()
        return self._model, self._policy


class Rolled:
    """What the rollouts of a `TextWorld`'s batch are beside rollouts: evidence, and rows for the policy gradient."""

    # Of the rollouts that it is mixed into (`TextRollouts`, `SampledRollouts`).
    programs: Any
    thoughts: Any
    latents: Any
    closed: Any
    mask: Any
    group: Any
    counts: Any
    credit: Any
    log_kappa: Any
    log_likelihood: Any
    step: Any
    select: Any
    think_probability: Any

    def _begin_batch(self, world: TextWorld, batch: np.ndarray, seed: np.random.SeedSequence) -> list[Program]:
        self.world, self.batch, self._evidence_seed = world, batch, seed
        return [world.programs[number] for number in batch]

    def evidence(self, weights: np.ndarray) -> Evidence:
        return self.world.filtered(self.annotated(weights))

    def annotated(self, weights: np.ndarray) -> dict[int, tuple[Annotation, ...]]:
        """Annotations drawn in proportion to the weights (systematically: one of weight W has ⌊M W⌋ or ⌈M W⌉)."""
        count = self.world.config.annotations
        found = {}
        for i, number in enumerate(self.batch):
            key = (*self._evidence_seed.spawn_key, int(number), self.group, 1)
            rng = np.random.default_rng(np.random.SeedSequence(self._evidence_seed.entropy, spawn_key=key))
            uniform, total = rng.random(), np.cumsum(weights[i])
            places = np.minimum((np.arange(count) + uniform) / count * total[-1], np.nextafter(total[-1], 0))
            members = np.searchsorted(total, places, side="right")
            # In any order, so that each annotation by itself is drawn in proportion too.
            found[int(number)] = tuple(self._annotation(i * self.group + int(g)) for g in rng.permutation(members))
        return found

    def _annotation(self, b: int) -> Annotation:
        T = len(self.thoughts[b])
        return Annotation(self.latents(b), tuple(self.closed[b, :T].tolist()), (False,) * T)

    def gradient_rows(self, whether: np.ndarray, what: np.ndarray, anchor: float) -> tuple[list[Row], int]:
        """Rows that count the latents with their advantages, and the number of decisions among them."""
        decisions = self.decisions
        return self.rows(whether, what, anchor, decisions, len(self.thoughts)), decisions

    @property
    def decisions(self) -> int:
        """How often it was decided whether to think."""
        return int((np.repeat(self.mask, self.group, 0) & np.isfinite(self.log_kappa)).sum())

    def rows(self, whether: np.ndarray, what: np.ndarray, anchor: float, decisions: int, count: int) -> list[Row]:
        """Rows that count the latents with their advantages.

        Args:
            whether, what: advantages, ``(I, G, T)``.
            decisions, count: of all the rollouts of the batch, which share the anchor.
        """
        rows = []
        for b, thoughts in enumerate(self.thoughts):
            i, g = divmod(b, self.group)
            row = assemble(self.programs[i], thoughts, closed=self.closed[b, : len(thoughts)].tolist())
            end = (row.kind == END) & (row.weight > 0)
            line = np.maximum(row.line, 0)
            weight = np.where((row.kind == THOUGHT) | end, what[i, g][line], 0)
            decision = np.where(row.marker >= 0, (whether[i, g] * self.credit[b])[line], 0)
            if anchor:
                code = row.kind == CONTENT
                weight = weight + anchor * code * decisions / max(code.sum() * count, 1)
            rows.append(
                replace(row, weight=weight.astype(np.float32), decision_weight=decision.astype(np.float32), close=end)
            )
        return rows


class SessionRolled(Rolled, TextRollouts):
    """By sessions in this process."""

    def __init__(
        self, world: TextWorld, policy: Any, reward: Any, batch: np.ndarray, group: int, seed: np.random.SeedSequence,
        floor: float,
    ) -> None:  # fmt: skip
        programs, config = self._begin_batch(world, batch, seed), world.config
        TextRollouts.__init__(
            self, policy, reward, programs, batch, group, world.closing, config.proposals, config.price, seed, floor
        )


class SampledRolled(Rolled, SampledRollouts):
    """By an engine that samples and scores; ``reward``: the module that scores the expert's lines, if it is another."""

    def __init__(
        self, world: TextWorld, engine: Engine, reward: Any, batch: np.ndarray, group: int,
        seed: np.random.SeedSequence, floor: float,
    ) -> None:  # fmt: skip
        programs, config = self._begin_batch(world, batch, seed), world.config
        SampledRollouts.__init__(
            self, engine, programs, batch, group, world.closing.cpu().numpy(), config.proposals, config.price, seed,
            floor, reward=None if reward is None else InProcess(reward),
        )  # fmt: skip


def _restore(part: TextModel, weights: dict[str, torch.Tensor]) -> None:
    """Put saved weights back; with adapters, these are in the trainer's state, and what is under them never changes."""
    if part.trainer.config.lora:
        return
    with torch.no_grad():
        for name, tensor in part.module.state_dict().items():
            tensor.copy_(distributed.like(weights[name], tensor))


def _read(path: Path) -> dict[str, Any]:
    # Not to the device that it was saved from, which is the main process's.
    return torch.load(path, map_location="cpu", weights_only=True)


def digest(arrays: Sequence[np.ndarray]) -> str:
    """Twelve letters that tell arrays apart."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()[:12]
