"""The course of a run of RLVR: a record for each step, pass@k on held-out problems, and what must stop the run."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from accelerate import init_empty_weights
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, TrainerCallback

from llm import distributed, passk
from llm.rlvr_config import RLVRConfig
from llm.rlvr_inputs import Inputs
from llm.rlvr_trainer import record_of, rewards
from llm.runs import RunFolder, RunStopped, writing
from llm.sampling import Request, Sampling, Writer

# Completions that are drawn together.
_BATCH = 512


def measure(module: Any, inputs: Inputs, config: RLVRConfig) -> dict[str, float]:
    """pass@k on the held-out problems, ``samples`` completions each; empty without such problems.

    What is drawn depends on the seed, the problem and the number of the sample alone. Several processes share out the
    problems; every one must call it.

    Raises:
        RunStopped: the sandbox could not judge the completions.
    """
    if not inputs.held_out:
        return {}
    numbers = distributed.share(range(len(inputs.held_out)))
    with _plain(module) as plain:
        found = distributed.gather_objects(_passed(plain, inputs, config, numbers))
    if unjudged := sum(one is None for row in found for one in row):
        raise RunStopped(
            f"held_out: the sandbox failed on {unjudged} of {len(found) * config.samples} programs; the last state is "
            "kept. Look after the machine, and give the same command again"
        )
    counts = [sum(bool(one) for one in row) for row in found]
    samples = [config.samples] * len(found)
    return {f"pass@{k}": float(passk.pass_at_k(samples, counts, k).mean()) for k in config.k}


def _passed(module: Any, inputs: Inputs, config: RLVRConfig, numbers: list[int]) -> list[list[float | None]]:
    """For each problem, whether each of its samples passes."""
    writer, sampling = Writer(module, inputs.reader), Sampling(config.max_new_tokens, config.measure_temperature)
    jobs = []
    together = max(1, _BATCH // config.samples)
    for part in (numbers[first : first + together] for first in range(0, len(numbers), together)):
        problems = [inputs.held_out[number] for number in part]
        seeds = [
            tuple(np.random.SeedSequence([config.seed, number, sample]) for sample in range(config.samples))
            for number in part
        ]
        requests = [Request(problem.prompt, problem.stop, own) for problem, own in zip(problems, seeds, strict=True)]
        for problem, completions in zip(problems, writer.complete(requests, sampling), strict=True):
            jobs += [(problem, problem.program(one.text)) for one in completions]
    found = rewards(inputs.verdicts(jobs)) if jobs else []
    return [found[k : k + config.samples] for k in range(0, len(found), config.samples)]


@contextlib.contextmanager
def _plain(module: Any) -> Iterator[Any]:
    """The model for an engine: in float32, in evaluation mode, put together from its shards if it has any."""
    if any(isinstance(weight, DTensor) for weight in module.parameters()):
        weights = distributed.full_state(module)
        with init_empty_weights(include_buffers=False):
            whole = AutoModelForCausalLM.from_config(module.config, dtype=torch.float32)
        whole.load_state_dict(weights, assign=True)
        whole.tie_weights()
        yield whole.to(next(iter(weights.values())).device).eval()
        return
    # accelerate puts passes in bfloat16 around `forward`, and keeps what was there.
    forward, training = module.forward, module.training
    module.forward = getattr(module, "_original_forward", forward)
    module.eval()
    try:
        yield module
    finally:
        module.forward = forward
        module.train(training)


class Curve(TrainerCallback):
    """Keeps the history, writes it, and stops a run that has gone wrong.

    Args:
        tell: is told the steps that are done, and the last one in a few words.
    """

    def __init__(self, config: RLVRConfig, inputs: Inputs, folder: RunFolder, history: list[dict[str, Any]], tell: Any):
        self.config, self.inputs, self.folder, self.history, self.tell = config, inputs, folder, history, tell
        self._began = time.perf_counter()

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self._began = time.perf_counter()
        if not self.history:
            self._add({"step": 0} | self._measured(model))
        self._write()

    def on_log(
        self, args: Any, state: Any, control: Any, model: Any = None, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if not logs or "loss" not in logs:  # the words of parting
            return
        step = state.global_step // self.config.updates
        record = record_of(step, logs)
        self._check(record)
        if step % self.config.measure_every == 0 or step == self.config.steps:
            record |= self._measured(model)
        self._add(record)
        self._write()

    def _measured(self, model: Any) -> dict[str, float]:
        began = time.perf_counter()
        found = measure(model, self.inputs, self.config)
        return found | {"measuring seconds": time.perf_counter() - began} if found else {}

    def _add(self, record: dict[str, Any]) -> None:
        now = time.perf_counter()
        record["seconds"], self._began = now - self._began, now
        self.history.append(record)

    def _write(self) -> None:
        if distributed.is_main():
            with writing(self.folder.folder, "the last state is kept"):
                self.folder.metrics(self.history)
            self.tell(self.history[-1]["step"], label(self.history[-1]))

    def _check(self, record: dict[str, Any]) -> None:
        for name in ("loss", "norm"):
            if not math.isfinite(record[name]):
                raise RunStopped(f"step {record['step']}: the {name} is no finite number; try a lower rate")
        if record["unjudged"] == 1:
            raise RunStopped(
                f"step {record['step']}: the sandbox could judge none of the programs; look after the machine, and "
                "give the same command again"
            )


def label(record: dict[str, Any]) -> str:
    """A step in a few words."""
    parts = [f"reward {record['reward']:.3f}"] if record.get("reward") is not None else []
    parts += [f"{name} {value:.3f}" for name, value in record.items() if name.startswith("pass@")]
    return f"step {record['step']}: {', '.join(parts)}" if parts else f"step {record['step']}"
