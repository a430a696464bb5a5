"""RLVR from end to end: GRPO (TRL's) on problems whose programs are judged, and a folder that a kill leaves whole.

    rlvr(RLVRConfig(model="runs/posterior", problems="lineworld:500", held_out="lineworld-held-out:200",
                    rate=3e-4, max_new_tokens=37, out=Path("runs/rlvr")))

The folder is that of `llm.runs`, without thoughts; a line of metrics.jsonl is a step, the first one (step 0) the model
as it came. The same call goes on from the last state, and arrives at the same weights, bit by bit, on the same CPU.

On several processes torchrun or `accelerate launch` starts it, with the same choices; they share out the completions.
On CPUs use torchrun, for there accelerate's launcher starts one process, or several that know nothing of each other:

    ACCELERATE_USE_CPU=true torchrun --standalone --nproc-per-node 2 -m experiments.cli rlvr ...            # CPU
    accelerate launch --config_file experiments/configs/accelerate-fsdp2.yaml -m experiments.cli rlvr ...   # GPUs
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llm import distributed, rlvr_inputs, rlvr_trainer
from llm.midtrain import Silent, Watcher, save_model
from llm.problems import Judge
from llm.rlvr_config import RLVRConfig
from llm.rlvr_curve import Curve
from llm.rlvr_inputs import Inputs
from llm.runs import RunFolder, RunStopped, writing

__all__ = ["RLVRConfig", "RunStopped", "rlvr"]


def rlvr(config: RLVRConfig, watcher: Watcher | None = None) -> Path:
    """Run to the end, or go on to it; the folder of the run.

    Raises:
        ValueError, FileNotFoundError: what is asked for can't be done; nothing was changed.
        RunStopped: numbers that are not finite, a full disk, a sandbox that fails; the last good state is kept.
    """
    watcher = Silent() if watcher is None else watcher
    with Judge(config.jobs, config.isolation) as judge:
        run = prepare(config, watcher.say, lambda: rlvr_inputs.load(config, judge))
        return run.go(watcher) if run else config.out


def prepare(config: RLVRConfig, say: Callable[[str], None], load: Callable[[], Inputs]) -> Run | None:
    """Read and check all that a run needs, and begin its folder; None if it is finished already.

    Args:
        say: is told of it, a line at a time, by the main process.
        load: gives model and problems, `rlvr_inputs.load` or one's own.

    Raises:
        ValueError, FileNotFoundError: what is asked for can't be done.
    """
    if config.vllm is not None and importlib.util.find_spec("vllm") is None:
        raise ValueError(
            "vllm: is not installed here; `pip install vllm` on a machine it supports, or leave the option out: this "
            "process draws the completions then"
        )
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    process = distributed.process()
    config.accumulated(process.num_processes)
    folder = RunFolder(config.out, config)
    say = say if distributed.is_main() else lambda _: None
    distributed.on_main(folder.check)
    if distributed.on_main(lambda: folder.is_done):
        say(f"{config.out} is finished already")
        return None
    inputs = load()
    for line in inputs.report:
        say(line)
    rlvr_trainer.stop_sequences(config, inputs)
    digests = inputs.digests()
    distributed.on_main(lambda: folder.begin(str(process.device), digests))
    try:
        state, history = rlvr_trainer.read(folder.state)
    except BaseException:
        folder.close()
        raise
    if history:
        say(f"goes on after step {history[-1]['step']} of {config.steps}")
    return Run(config, inputs, folder, state, history)


@dataclass(frozen=True)
class Run:
    """A run that is ready to go; it goes once.

    Attributes:
        state: where it goes on from; None: from the beginning.
        history: records of the steps up to there.
    """

    config: RLVRConfig
    inputs: Inputs
    folder: RunFolder
    state: Path | None
    history: list[dict[str, Any]]

    @property
    def left(self) -> int:
        """Steps that are left."""
        return self.config.steps - (self.history[-1]["step"] if self.history else 0)

    def go(self, watcher: Watcher) -> Path:
        """To the end; the folder. The watcher's count begins with what is left; the main process tells it.

        Raises:
            RunStopped: as `rlvr`.
        """
        model, folder = self.inputs.model, self.folder
        before = self.config.steps - self.left
        # TRL sets tokens for padding and the end; the model is to be written as it came.
        kept = copy.deepcopy(model.config), copy.deepcopy(model.generation_config)
        tell = lambda done, label: watcher.update(done - before, label)  # noqa: E731
        curve = Curve(self.config, self.inputs, folder, self.history, tell)
        try:
            with rlvr_trainer.own_randomness():
                trainer = rlvr_trainer.make(self.config, self.inputs, folder.state, self.history, [curve])
                trainer.train(resume_from_checkpoint=str(self.state) if self.state else None)
            weights = distributed.full_state(trainer.accelerator.unwrap_model(trainer.model))
            model.config, model.generation_config = kept
            if distributed.is_main():
                with writing(folder.folder, "the last state is kept"):
                    save_model(folder.folder / "model", model, weights, self.inputs.tokenizer)
                    folder.finish(self.history)
        finally:
            folder.close()
        return folder.folder
