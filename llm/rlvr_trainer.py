"""TRL's `GRPOTrainer` as a run of RLVR uses it: rewards by verdict, prompts in the order of the seed, whole states.

What differs from TRL as it comes:

* A state is written beside the others and put in its place whole, so that one that is there can be gone on from.
* States are written between steps only. TRL buffers the completions of a step and loses them when it stops.
* The order of the problems is made beforehand, as one pass over the data: TRL's own sampler would begin each pass of a
  resumed run with the order of the first.
* Nobody is told of the run (TRL reports to its makers unless asked not to), and no model card is written.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PrinterCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl import GRPOConfig, GRPOTrainer

from llm import distributed
from llm.rlvr_config import RLVRConfig
from llm.rlvr_inputs import Inputs, written
from llm.runs import RunStopped, writing
from ra3sim import _store

# Its name before transformers 5.23.
_CHECKPOINTING = "activation_checkpointing"
if _CHECKPOINTING not in {one.name for one in fields(GRPOConfig)}:
    _CHECKPOINTING = "gradient_checkpointing"
SANDBOX_ERROR = "sandbox error"


def order(count: int, config: RLVRConfig) -> np.ndarray:
    """Numbers of the problems of each step, ``(steps, prompts)``: all in a random order, then all in another, ..."""
    rng = np.random.default_rng([config.seed, 0])
    needed = config.steps * config.prompts
    rounds = [rng.permutation(count) for _ in range(-(-needed // count))]
    return np.concatenate(rounds)[:needed].reshape(config.steps, config.prompts)


class Reward:
    """1 for a completion that passes, 0 for one that does not, None where the sandbox could not tell.

    TRL leaves a None out of its group's mean and spread, and gives it no advantage.
    """

    __name__ = "passed"

    def __init__(self, inputs: Inputs, group: int) -> None:
        self.inputs, self.group, self.ends = inputs, group, inputs.ends()

    def of(self, numbers: Sequence[int], completions: Sequence[Sequence[int]]) -> list[float | None]:
        """From numbers of problems and token ids."""
        jobs = []
        for number, ids in zip(numbers, completions, strict=True):
            problem = self.inputs.problems[number]
            jobs.append((problem, problem.program(written(self.inputs.tokenizer, ids, self.ends))))
        return rewards(self.inputs.verdicts(jobs))

    def __call__(
        self, completion_ids: Sequence[Sequence[int]], number: Sequence[int], log_metric: Any, **_: Any
    ) -> list[float | None]:
        found = self.of(number, completion_ids)
        groups = (found[k : k + self.group] for k in range(0, len(found), self.group))
        judged = [[reward for reward in group if reward is not None] for group in groups]
        log_metric("unjudged", sum(reward is None for reward in found) / len(found))
        log_metric("all failed", sum(bool(group) and max(group) == 0 for group in judged) / len(judged))
        log_metric("all passed", sum(bool(group) and min(group) == 1 for group in judged) / len(judged))
        return found


def rewards(verdicts: Sequence[Any]) -> list[float | None]:
    """Of verdicts; a fault of the sandbox says nothing about a program."""
    return [None if one.outcome == SANDBOX_ERROR else float(one.passed) for one in verdicts]


class Trainer(GRPOTrainer):
    """See the module.

    Attributes:
        states: folder of the states of the run.
        history: records of the steps, written with each state.
    """

    states: Path
    history: list[dict[str, Any]]
    choices: RLVRConfig

    def _send_telemetry(self) -> None:
        pass

    def create_model_card(self, *args: Any, **options: Any) -> None:
        pass

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **options: Any) -> Any:
        """Completions end with the first stop sequence: what follows it is not judged, so it is not learnt from."""
        ids, log_probs = super()._generate_single_turn(prompt_ids, *args, **options)
        if self.stop_sequences:
            lengths = [self._until_stop(one) for one in ids]
            ids = [one[:n] for one, n in zip(ids, lengths, strict=True)]
            if log_probs is not None:
                log_probs = [one[:n] for one, n in zip(log_probs, lengths, strict=True)]
        return ids, log_probs

    stop_sequences: tuple[str, ...] = ()

    def _until_stop(self, ids: list[int]) -> int:
        """Tokens up to the one that completes the first stop sequence; all, if there is none."""

        tokenizer: Any = self.processing_class

        def stopped(count: int) -> bool:
            text = tokenizer.decode(ids[:count], clean_up_tokenization_spaces=False)
            return any(stop in text for stop in self.stop_sequences)

        if not stopped(len(ids)):
            return len(ids)
        low, high = 1, len(ids)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if stopped(middle) else (middle + 1, high)
        return low

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = self.state.global_step // self.choices.updates
        kept = f"the state after step {_last(self.states)} is kept" if saved(self.states) else "nothing is kept"
        folder = Path(str(self.args.output_dir))
        with writing(self.states.parent, kept):
            if distributed.is_main():
                shutil.rmtree(folder, ignore_errors=True)
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if distributed.is_main():
                new = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
                _store.write_text(new / "history.json", json.dumps({"step": step, "history": self.history}))
                publish(new, self.states / f"step-{step:06d}")
                folder.rmdir()
            self.accelerator.wait_for_everyone()


def publish(new: Path, target: Path) -> None:
    """Put a whole state in its place, on the disk, and remove the earlier ones."""
    for path in [*(one for one in new.rglob("*") if one.is_file()), new]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(new, target)
    for other in saved(target.parent):
        if other != target:
            shutil.rmtree(other, ignore_errors=True)


def saved(states: Path) -> list[Path]:
    """The states that are there, the latest last."""
    return sorted(states.glob("step-*"))


def _last(states: Path) -> int:
    return int(saved(states)[-1].name.removeprefix("step-"))


def read(states: Path) -> tuple[Path | None, list[dict[str, Any]]]:
    """The latest state, and the records up to it; None and none if there is no state.

    Raises:
        ValueError: it is damaged.
    """
    if not saved(states):
        return None, []
    state = saved(states)[-1]
    try:
        found = json.loads((state / "history.json").read_text(encoding="utf-8"))
        if found["step"] != _last(states) or not (state / "trainer_state.json").is_file():
            raise ValueError("it is not whole")
        return state, list(found["history"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"out: {state} is damaged ({error}); remove it to start again") from None


def arguments(config: RLVRConfig, states: Path) -> GRPOConfig:
    """TRL's, from ours.

    Raises:
        ValueError: what doesn't go with the number of processes.
    """
    process = distributed.process()
    on_cpu = process.device.type == "cpu"
    served: dict[str, Any] = {}
    checkpointing: dict[str, Any] = {_CHECKPOINTING: config.checkpointing}
    if config.vllm is not None:
        served = {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": config.vllm}
    accumulated = config.accumulated(process.num_processes)
    return GRPOConfig(
        # Completions: `completions` a step, in `accumulated` passes an update, in `minibatches` updates, so often.
        num_generations=config.group,
        per_device_train_batch_size=config.passes_of(process.num_processes),
        gradient_accumulation_steps=accumulated,
        steps_per_generation=accumulated * config.minibatches,
        num_iterations=config.passes,
        max_steps=config.steps * config.updates,
        shuffle_dataset=False,
        max_completion_length=config.max_new_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        loss_type=config.loss,
        scale_rewards=config.scale,
        epsilon=config.epsilon,
        epsilon_high=config.epsilon_high,
        beta=config.kl,
        mask_truncated_completions=config.mask_truncated,
        learning_rate=config.rate,
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(config.schedule, config.schedule),
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        max_grad_norm=config.clip,
        bf16=config.dtype == "bfloat16",
        **checkpointing,
        seed=config.seed,
        use_cpu=on_cpu,
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=not on_cpu,
        output_dir=str(states / ".saving"),
        save_strategy="steps",
        save_steps=config.save_every * config.updates,
        logging_strategy="steps",
        logging_steps=config.updates,
        # A loss that is no number is to be seen, not replaced by the last one.
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        **served,
    )


def make(config: RLVRConfig, inputs: Inputs, states: Path, history: list[dict[str, Any]], callbacks: Any) -> Trainer:
    """A trainer that is ready to go, or to go on.

    Raises:
        ValueError: what doesn't go together.
        RunStopped: the vLLM server does not answer.
    """
    numbers = order(len(inputs.problems), config).ravel().tolist()
    prompts = [inputs.problems[number].prompt for number in numbers]
    stop = stop_sequences(config, inputs)
    args = arguments(config, states)
    if stop and config.vllm is not None:
        args.generation_kwargs = {"stop": list(stop), "include_stop_str_in_output": True}
    # The same ids in the model's configs and the tokenizer, or transformers aligns them, and says so.
    for one in (inputs.model.config, inputs.model.generation_config):
        one.pad_token_id, one.bos_token_id = inputs.reader.pad_token_id, inputs.reader.bos_token_id
        one.eos_token_id = inputs.ends() if len(inputs.ends()) > 1 else inputs.ends()[0]
    try:
        trainer = Trainer(
            inputs.model, Reward(inputs, config.group), args, Dataset.from_dict({"prompt": prompts, "number": numbers}),
            processing_class=inputs.reader, callbacks=callbacks,
        )  # fmt: skip
    except (OSError, ImportError) as error:
        if config.vllm is None:
            raise
        raise RunStopped(
            f"vllm: no server answers at {config.vllm} ({error}); start one, or check the address"
        ) from error
    trainer.remove_callback(PrinterCallback)
    trainer.states, trainer.history, trainer.choices = states, history, config
    trainer.stop_sequences = stop
    return trainer


def stop_sequences(config: RLVRConfig, inputs: Inputs) -> tuple[str, ...]:
    """Of the problems.

    Raises:
        ValueError: they have different ones, or completions that these end would count as cut off.
    """
    kinds = {problem.stop for problem in inputs.problems}
    if len(kinds) > 1:
        raise ValueError("problems: their stop sequences differ; train on one kind of problem at a time")
    (stop,) = kinds
    if stop and config.mask_truncated:
        raise ValueError(
            "mask_truncated: these problems end completions by stop sequences, which TRL takes for cut off"
        )
    return stop


@contextlib.contextmanager
def own_randomness() -> Iterator[None]:
    """The generators that TRL seeds for its own use are afterwards as they were."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002  (it is what transformers seeds)
    here = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(here), warnings.catch_warnings():
        # TRL 1.16 asks transformers 5.23 by names that are going to be removed.
        warnings.filterwarnings("ignore", "`(is_)?gradient_checkpointing(_\\w+)?` is deprecated", FutureWarning)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


def record_of(step: int, logs: Mapping[str, Any]) -> dict[str, Any]:
    """A step for people, from what TRL logs."""
    return {"step": step} | {ours: logs[theirs] for ours, theirs in _LOGGED.items() if theirs in logs}


_LOGGED = {
    "reward": "reward", "no spread": "frac_reward_zero_std", "all failed": "all failed", "all passed": "all passed",
    "unjudged": "unjudged", "tokens": "completions/mean_length", "cut off": "completions/clipped_ratio",
    "entropy": "entropy", "kl": "kl", "clipped": "clip_ratio/region_mean", "loss": "loss", "norm": "grad_norm",
    "rate": "learning_rate", "update seconds": "step_time",
}  # fmt: skip
