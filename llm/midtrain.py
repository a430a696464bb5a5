"""RA3 mid-training from end to end: expert programs, E-steps, M-steps, and a folder that any interruption leaves whole.

    midtrain(MidtrainConfig(model="smollm2", corpus="stdlib", method="ra3-posterior", out=Path("runs/one")))

The same call goes on where an earlier one stopped, and arrives at the same weights, bit by bit, on the same machine.

On several processes torchrun starts it, with the same choices. They share out the programs of the E-step and the rows
of the M-step, and find the same as one process but for rounding; each has the whole weights beside its shard, to roll
out with. A run may go on with another number of processes. All of them must see the same folder.

    torchrun --standalone --nproc-per-node 8 -m experiments.cli midtrain ...                           # one GPU each
    ACCELERATE_USE_CPU=true torchrun --standalone --nproc-per-node 2 -m experiments.cli midtrain ...   # CPU
"""

from __future__ import annotations

import importlib.util
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from llm import distributed, experts, models, records
from llm.config import MidtrainConfig
from llm.estep import METHODS, Given, Method, NoThoughts
from llm.experts import Experts
from llm.lines import Lines
from llm.mstep import NonFiniteLoss, TrainConfig
from llm.program import Program
from llm.rollouts import Proposals
from llm.runs import RunFolder, RunStopped, writing
from llm.tensorboard import Log
from llm.world import Evidence, TextModel, TextWorld, WorldConfig
from ra3sim.em import RA3, RA3State

__all__ = ["MidtrainConfig", "RunStopped", "midtrain"]


class Watcher(Protocol):
    """Is told how far the run is (`experiments.progress.Ticker` is one)."""

    def update(self, done: float, label: str) -> None:
        """``done`` iterations are finished, ``label`` says what is being done."""
        ...

    def say(self, text: str) -> None:
        """One line for people."""
        ...


class Silent:
    """Nobody watches."""

    def update(self, done: float, label: str) -> None:
        pass

    def say(self, text: str) -> None:
        pass


def midtrain(config: MidtrainConfig, watcher: Watcher | None = None) -> Path:
    """Run to the end, or go on to it; the folder of the run.

    Raises:
        ValueError, FileNotFoundError: what is asked for can't be done; nothing was changed.
        RunStopped: numbers that are not finite, or a full disk; the last good state is kept.
    """
    watcher = Silent() if watcher is None else watcher
    run = prepare(config, watcher.say)
    return run.go(watcher) if run else config.out


def prepare(config: MidtrainConfig, say: Callable[[str], None]) -> Run | None:
    """Read and check all that a run needs, and begin its folder; None if it is finished already.

    Args:
        say: is told of it, a line at a time, by the main process.

    Raises:
        ValueError, FileNotFoundError: what is asked for can't be done.
    """
    method, world_config = settings(config)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    folder = RunFolder(config.out, config)
    say = say if distributed.is_main() else lambda _: None
    distributed.on_main(folder.check)
    if distributed.on_main(lambda: folder.is_done):
        say(f"{config.out} is finished already")
        return None
    inputs = experts.load(config, world_config.proposals.max_thought)
    say(inputs.report)
    estep = e_step(config, method, inputs)
    programs = _as_actions(inputs.programs, method, estep)
    digests, device = inputs.digests(), distributed.process().device
    inputs.model.to(device)
    world = WatchedWorld(programs, world_config, inputs, config.shown)
    distributed.on_main(lambda: folder.begin(str(device), digests))
    ra3 = RA3(world, estep, config.seed)
    try:
        _check_common(folder)
        state = ra3.load(folder.state)
    except BaseException:
        folder.close()
        raise
    if state.iteration:
        say(f"goes on after iteration {state.iteration} of {config.iterations}")
    return Run(ra3, state, folder, inputs.tokenizer)


def _check_common(folder: RunFolder) -> None:
    seen = distributed.gather_objects([folder.saved()])
    if any(one != seen[0] for one in seen):
        raise ValueError(f"out: the processes do not see the same states in {folder.folder}; give a folder they share")


def settings(config: MidtrainConfig) -> tuple[Method, WorldConfig]:
    """The method with the choices that were made, and what its world needs.

    Raises:
        ValueError: a choice that means nothing to the method, or is out of range.
    """
    method = METHODS[config.method].choose(**config.chosen())
    total = config.iterations * config.updates
    warmup = total // 20 if config.warmup is None else config.warmup
    train = TrainConfig(
        rate=config.rate, batch=config.batch, warmup=warmup, schedule=config.schedule, total=total,
        weight_decay=config.weight_decay, clip=config.clip, dtype=config.dtype, pack=config.pack,
        max_tokens=config.max_tokens, checkpointing=config.checkpointing, lora=config.lora, seed=config.seed,
    )  # fmt: skip
    policy = None
    if method.policy_rate is not None:
        policy = replace(train, rate=method.policy_rate, schedule="constant", warmup=0)
    if config.engine != "session":
        _check_engine(config.engine, method)
    return method, WorldConfig(
        programs=config.estep_programs, updates=config.updates, seed=config.seed, train=train, policy_train=policy,
        proposals=Proposals(**method.proposals), engine=config.engine, **method.world,
    )  # fmt: skip


def _check_engine(engine: str, method: Method) -> None:
    """Refuse what an engine without a session can't do, before a model is read."""
    if getattr(method.estep, "threshold", 0):
        raise ValueError(f"threshold: rollouts on the engine {engine!r} can't be resampled; give threshold=0")
    wrong = {"stratified": False, "floor_above": 0.0, "temperature": 1.0}
    for name, value in wrong.items():
        if method.proposals.get(name, value) != value:
            raise ValueError(f"{name}: the engine {engine!r} takes {value} only; give that, or engine='session'")
    if engine == "vllm" and importlib.util.find_spec("vllm") is None:
        raise ValueError(
            "engine: vllm is not installed; install it with `pip install vllm` on a machine it supports, or use "
            "engine='session', which needs nothing more"
        )


def e_step(config: MidtrainConfig, method: Method, inputs: Experts) -> Any:
    """The method's E-step; with thoughts that are given, these are looked up.

    Raises:
        ValueError, FileNotFoundError: the file of thoughts is not there, or not of these programs.
    """
    if method.estep is not None:
        return method.estep
    if config.thoughts is None:
        return Given(inputs.intents, "the experts' intents")
    found = records.given(records.read(config.thoughts), inputs.programs, inputs.lines)
    return Given(found, f"thoughts of {len(found)} programs, {records.digest_of(found)}")


def _as_actions(programs: list[Program], method: Method, estep: Any) -> list[Program]:
    programs = [program.as_one_action() for program in programs] if method.one_action else programs
    if not isinstance(estep, NoThoughts) and all((program.marker < 0).all() for program in programs):
        raise ValueError("model: its tokenizer lets no thought stand before any line of these programs; use another")
    return programs


class WatchedWorld(TextWorld):
    """A `TextWorld` that tells what it does, and writes down programs with their thoughts.

    Args:
        shown: how many.

    Attributes:
        tell: is called with iterations that are done, and what is being done.
        records: of the last iteration, as `llm.records.describe` makes them.

    The record of an iteration also has ``gain``, ``gain_thought`` and ``broken`` (`llm.records.summary`), ``seconds``,
    ``estep_tokens`` (computed) and ``tokens_per_second`` (of both steps).
    """

    def __init__(self, programs: Sequence[Program], config: WorldConfig, inputs: Experts, shown: int) -> None:
        super().__init__(programs, inputs.model, inputs.lines.closing, config, inputs.monitor)
        self.records: list[dict[str, Any]] = []
        self._lines: Lines = inputs.lines
        self._shown, self._number = shown, 0
        self.tell: Callable[[float, str], None] = Silent().update

    @property
    def model(self) -> Any:
        """The transformers model that is trained."""
        return self._model.module

    def batch(self, iteration: int, seed: np.random.SeedSequence) -> np.ndarray:
        self._number, self._start = iteration, time.perf_counter()
        self._counts: list[Any] = []
        self._tell(0.0, "E-step")
        return super().batch(iteration, seed)

    def rollouts(self, *args: Any, **options: Any) -> Any:
        found = super().rollouts(*args, **options)
        self._counts.append(found.counts)
        return found

    def improve(self, policy: TextModel, *args: Any, **options: Any) -> TextModel:
        policy = super().improve(policy, *args, **options)
        self._tell(0.0, f"E-step, {len(self._counts)} updates of the policy")
        return policy

    def fit(self, model: TextModel, evidence: Evidence) -> TextModel:
        shown = sorted(evidence.annotations)[: self._shown]
        self.records = []
        if shown:
            programs = [self.programs[number] for number in shown]
            annotations = [evidence.annotations[number][0] for number in shown]
            reward = self.base if self.config.reward == "base" else model.current()
            found = records.describe(
                self._lines, programs, annotations, policy=self._policy.current(), reward=reward, closing=self.closing
            )
            self.records = [{"iteration": self._number, **record} for record in found]
        self._tell(0.5, "M-step")
        return super().fit(model, evidence)

    def measure(self, model: TextModel, policy: TextModel) -> dict[str, float]:
        found = super().measure(model, policy) | records.summary(self.records)
        seconds = time.perf_counter() - self._start
        tokens = sum(distributed.gather_objects([counts.computed for counts in self._counts]))
        found |= {"seconds": seconds, "estep_tokens": tokens}
        found["tokens_per_second"] = (tokens + found["tokens"]) / seconds
        return found

    def _tell(self, fraction: float, label: str) -> None:
        self.tell(self._number - 1 + fraction, f"iteration {self._number}: {label}")


@dataclass(frozen=True)
class Run:
    """A run that is ready to go."""

    ra3: RA3
    state: RA3State
    folder: RunFolder
    tokenizer: Any

    @property
    def left(self) -> int:
        """Iterations that are left."""
        return self.folder.config.iterations - self.state.iteration

    def go(self, watcher: Watcher) -> Path:
        """To the end; the folder. The watcher's count begins with what is left; the main process tells it.

        Raises:
            RunStopped: as `midtrain`.
        """
        try:
            history = self._loop(watcher if distributed.is_main() else Silent())
            weights = distributed.full_state(self.ra3.world.model, everywhere=False)
            if distributed.is_main():
                with writing(self.folder.folder, "the last state is kept"):
                    save_model(self.folder.folder / "model", self.ra3.world.model, weights, self.tokenizer)
                    self.folder.finish(history)
        finally:
            self.folder.close()
        return self.folder.folder

    def _loop(self, watcher: Watcher) -> tuple[dict[str, Any], ...]:
        state = self.state
        before = state.iteration
        self.ra3.world.tell = lambda done, label: watcher.update(done - before, label)
        log = self._begin_writing() if distributed.is_main() else None
        collapsed = False
        while state.iteration < self.folder.config.iterations:
            state = self._step(state)
            record = state.history[-1]
            last = state.iteration == self.folder.config.iterations
            saves = last or state.iteration % self.folder.config.save_every == 0
            if distributed.is_main():
                self._write(state, log, saves)
            elif saves:
                # What the main process writes is put together from everybody's shards.
                for _ in self.ra3.world.contents(state.model, state.policy):
                    pass
            watcher.update(state.iteration - before, label(record))
            if record.get("collapsed") and not collapsed:
                watcher.say(COLLAPSED.format(record["iteration"]))
            collapsed = bool(record.get("collapsed"))
        if log:
            log.close()
        return state.history

    def _begin_writing(self) -> Log | None:
        folder, history = self.folder, self.state.history
        with writing(folder.folder):
            folder.metrics(history)
            return Log(folder.folder / "tensorboard", history) if folder.config.tensorboard else None

    def _write(self, state: RA3State, log: Log | None, saves: bool) -> None:
        folder = self.folder
        with writing(folder.folder, _kept(folder)):
            if saves:
                # Before the state: a run that is killed in between computes the same records again.
                folder.thoughts(self.ra3.world.records)
                self.ra3.save(state, folder.state)
            folder.metrics(state.history)
            if log:
                log.add(state.history[-1])

    def _step(self, state: RA3State) -> RA3State:
        """One iteration.

        Raises:
            RunStopped: it could not be finished; what is in the folder stays.
        """
        try:
            return self.ra3.step(state)
        except (NonFiniteLoss, ValueError) as error:
            # A message that names what to change is for the user; any other error is one of this code's.
            if isinstance(error, ValueError) and not re.match(r"\w+: ", str(error)):
                raise
            raise RunStopped(f"iteration {state.iteration + 1}: {error} ({_kept(self.folder)})") from error


def _kept(folder: RunFolder) -> str:
    """What an interruption leaves, for people."""
    states = folder.saved()
    return f"the state after iteration {int(states[-1].split('-')[1])} is kept" if states else "nothing is kept"


COLLAPSED = (
    "iteration {}: nearly nobody thinks any more. While thoughts cost more than they bring, the policy learns not to "
    "think. What may help: a floor, separate credit, whether_after, a price that rises (price_after), ra3-posterior"
)


def label(record: dict[str, Any]) -> str:
    """An iteration in a few words."""
    parts = [f"iteration {record['iteration']}: loss {record['loss']:.3f}", f"thinks {record['think']:.3f}"]
    if record["think"]:
        parts.append(f"gain {record['gain']:+.3f} a line")
    parts += [f"{name} {record[key]:.3f}" for key, name in _MEASURED.items() if key in record]
    return ", ".join([*parts, f"{record['tokens_per_second']:.0f} tokens/s"])


_MEASURED = {"held_out_loss": "held out", "pass": "pass"}


def save_model(folder: Path, module: Any, weights: dict[str, torch.Tensor], tokenizer: Any) -> Path:
    """Write a model with these weights (`distributed.full_state`) as an ordinary folder."""
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(module.config, dtype=torch.float32)
    plain.load_state_dict(weights, assign=True)
    plain.tie_weights()
    plain.generation_config = module.generation_config
    return models.save(folder, plain, tokenizer)
