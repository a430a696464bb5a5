"""What a run of RLVR is: every choice of it, by name. Light to import, so that mistakes are answered at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Loss = Literal["grpo", "bnpo", "dr_grpo", "dapo"]
Scale = Literal["group", "batch", "none"]
Schedule = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, kw_only=True)
class RLVRConfig:
    """GRPO with the verdict on a program as its reward: 1 if it passes, else 0.

    Raises:
        ValueError: naming the field and the remedy.
    """

    model: str
    """A run folder of `ra3 midtrain`, a folder of transformers, 'smollm2', a .gguf file, or a name on the hub."""
    problems: str
    """What is trained on: 'lineworld[:N]' or another set of `llm.problems`, such as 'livecodebench:PATH'."""
    out: Path
    """Folder of the run. The same command again continues it."""
    held_out: str | None = None
    """What is measured on the way, such as 'lineworld-held-out:200'. None: nothing."""
    steps: int = 100
    """Completions are drawn, judged and learnt from, so many times."""
    prompts: int = 16
    """Problems in a step."""
    group: int = 8
    """Completions of each."""
    minibatches: int = 1
    """Updates in which the completions of a step are gone through."""
    passes: int = 1
    """How often they are gone through (μ of GRPO)."""
    pass_size: int | None = None
    """Completions in one pass forward and backward, on each process. None: all of an update."""
    max_new_tokens: int = 256
    """Longest completion; a longer one is cut off."""
    temperature: float = 1.0
    """Of the completions that are learnt from."""
    top_p: float = 1.0
    """The likeliest tokens with this share are drawn from."""
    loss: Loss = "grpo"
    """How tokens are averaged: within completions ('grpo'), over all of an update ('bnpo'), of a step ('dapo'), or by
    the longest completion there may be ('dr_grpo')."""
    scale: Scale = "group"
    """What advantages are divided by: the spread of rewards in a group, in a step, or nothing."""
    epsilon: float = 0.2
    """How far the ratio of new to old probability counts, below 1 and above."""
    epsilon_high: float | None = None
    """Above 1, if otherwise."""
    kl: float = 0.0
    """Weight of the KL divergence to the first model (β); 0: none is kept."""
    mask_truncated: bool = False
    """Leave completions that were cut off out of the loss."""
    rate: float = 1e-6
    """Learning rate."""
    schedule: Schedule = "constant"
    """How it changes over the run."""
    warmup: int = 0
    """Updates over which it rises first."""
    weight_decay: float = 0.0
    """Of matrices."""
    clip: float = 1.0
    """Largest norm of a gradient."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What passes compute in; weights are float32."""
    checkpointing: bool = False
    """Less memory, a third more time."""
    vllm: str | None = None
    """Address of a vLLM server that draws the completions, such as http://localhost:8000. None: this process does."""
    measured: int = 64
    """Held-out problems that are measured, the first of them."""
    measure_every: int = 10
    """Steps between two measurements; before the first step and after the last there is one too."""
    samples: int = 4
    """Completions of each measured problem."""
    k: tuple[int, ...] = (1,)
    """pass@k for each of these."""
    measure_temperature: float = 1.0
    """Of measured completions; 0: the likeliest token."""
    save_every: int = 10
    """Steps between two states from which a killed run goes on."""
    isolation: str = "full"
    """Level that the sandbox must have."""
    jobs: int | None = None
    """Programs that are judged at once. None: one a core."""
    seed: int = 0
    """Of everything that is drawn."""
    threads: int | None = None
    """Threads of torch on the CPU. None: as torch chooses."""

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}: must be at least {least}, got {value}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in ("temperature", "rate", "clip"):
            # Not `<= 0`: a number that is none must not pass.
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: must be a positive number, got {getattr(self, name)}")
        for name in ("kl", "weight_decay", "measure_temperature"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: must be 0 or a positive number, got {getattr(self, name)}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: must lie in (0, 1], got {self.top_p}")
        if not 0 < self.epsilon < 1:
            raise ValueError(f"epsilon: must lie in (0, 1), got {self.epsilon}")
        if self.epsilon_high is not None and not self.epsilon_high > 0:
            raise ValueError(f"epsilon_high: must be a positive number, got {self.epsilon_high}")
        if not self.k or min(self.k) < 1 or max(self.k) > self.samples:
            raise ValueError(f"k: needs numbers from 1 to samples = {self.samples}, got {self.k}")
        if self.completions % self.minibatches:
            raise ValueError(
                f"minibatches: must divide prompts × group = {self.completions} completions, got {self.minibatches}"
            )
        self.accumulated(1)

    @property
    def completions(self) -> int:
        """In a step."""
        return self.prompts * self.group

    @property
    def updates(self) -> int:
        """In a step."""
        return self.minibatches * self.passes

    def passes_of(self, processes: int) -> int:
        """Completions in one pass on each process."""
        return self.pass_size or self.completions // self.minibatches // processes

    def accumulated(self, processes: int) -> int:
        """Passes on each process for one update.

        Raises:
            ValueError: the completions can't be shared out evenly.
        """
        if self.prompts % processes:
            raise ValueError(f"prompts: must be a multiple of the {processes} processes, got {self.prompts}")
        share, left = divmod(self.completions // self.minibatches, processes)
        if left:
            raise ValueError(
                f"minibatches: an update of {self.completions // self.minibatches} completions can't be shared out "
                f"among {processes} processes; take other numbers"
            )
        if share % self.passes_of(processes):
            raise ValueError(
                f"pass_size: must divide the {share} completions that a process has in an update, got {self.pass_size}"
            )
        return share // self.passes_of(processes)


_LEAST = {
    "steps": 1, "prompts": 1, "group": 2, "minibatches": 1, "passes": 1, "pass_size": 1, "max_new_tokens": 1,
    "warmup": 0, "measured": 1, "measure_every": 1, "samples": 1, "save_every": 1, "jobs": 1, "seed": 0, "threads": 1,
}  # fmt: skip
_CHOICES = {
    "loss": get_args(Loss), "scale": get_args(Scale), "schedule": get_args(Schedule),
    "dtype": ("float32", "bfloat16"),
}  # fmt: skip
