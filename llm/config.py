"""What a mid-training run is: every choice of it, by name. Light to import, so that mistakes are answered at once."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

LINEWORLDS = ("lineworld", "lineworld-held-out", "lineworld-pretraining", "lineworld-wrong")
MethodName = Literal["ntp", "blind", "given", "oracle", "ra3", "ra3-split", "ra3-posterior", "brite"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every method asks for."""

    model: str
    """'smollm2', 'lineworld' (tiny and random), a folder of transformers, a .gguf file, or a name on the hub."""
    corpus: str
    """'stdlib', 'package:NAME', a folder, a .py file, records (.jsonl, .parquet), 'hub:NAME', or N programs of a
    LineWorld: 'lineworld[:N]' (experts'), 'lineworld-held-out[:N]', 'lineworld-pretraining[:N]' (random compositions),
    'lineworld-wrong[:N]' (by the wrong rule half of the time); the last two have comments."""
    out: Path
    """Folder of the run. The same command again continues it."""
    method: MethodName = "ra3-posterior"
    """How thoughts are found."""
    thoughts: Path | None = None
    """The thoughts of method 'given': JSON lines with "name" and "thoughts" {line: text}, as a run writes them."""
    iterations: int = 8
    """E-step and M-step, so many times."""
    updates: int = 40
    """Updates of the M-step in an iteration."""
    batch: int = 32
    """Programs in an update."""
    programs: int = 1000
    """Expert programs, drawn from the corpus."""
    estep_programs: int = 64
    """How many of them an iteration takes."""
    program_tokens: int = 512
    """Programs with more tokens are left out."""
    min_lines: int = 3
    """Shorter programs are left out."""
    max_lines: int = 100
    """Longer ones are left out."""
    comments: Literal["keep", "strip"] = "strip"
    """What becomes of the experts' own comments."""
    held_out: float = 0.05
    """Share of the corpus, by file, that is not trained on."""
    measured: int = 32
    """Held-out programs (tasks of a LineWorld) that are measured after each iteration; 0: none."""
    shown: int = 16
    """Programs whose thoughts are written into thoughts.jsonl."""
    seed: int = 0
    """Of everything that is drawn."""
    rate: float = 1e-4
    """Learning rate of the M-step."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How it falls over the run."""
    warmup: int | None = None
    """Updates over which it rises first. None: a twentieth of the run."""
    weight_decay: float = 0.01
    """Of matrices."""
    clip: float | None = 1.0
    """Largest norm of a gradient."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What passes of the M-step compute in."""
    pack: bool = False
    """Programs end to end rather than padded."""
    max_tokens: int | None = None
    """Most tokens in a pass of the M-step. None: an update is one pass."""
    checkpointing: bool = False
    """Less memory, a third more time."""
    lora: int = 0
    """Rank of low-rank adapters; 0: all weights train."""
    threads: int | None = None
    """Threads of torch on the CPU. None: as torch chooses."""
    save_every: int = 1
    """Iterations between two states from which a killed run goes on."""
    engine: Literal["session", "in process", "vllm"] = "session"
    """What thinks: a session in this process, which computes each token once; or an engine that samples and scores."""
    tensorboard: bool = False
    """Write a log for TensorBoard too."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a method chooses, each of which may be chosen otherwise. None: as the method does (`llm.estep.METHODS`)."""

    price: float | None = None
    """What a thought costs, nats."""
    max_thought: int | None = None
    """Most tokens of a thought."""
    reward: Literal["step", "base"] | None = None
    """Whose likelihood of the expert's lines counts: the model's as the E-step began, or before all training."""
    min_gain: float | None = None
    """Thoughts that gain less than this (nats, under the base) are dropped; -inf keeps all."""
    floor: float | None = None
    """The probability of thinking is raised from κ to floor + (1 - floor) κ in the E-step."""
    floor_above: float | None = None
    """The floor holds only where κ is above this."""
    temperature: float | None = None
    """Of the tokens of thoughts."""
    stratified: bool | None = None
    """The rollouts of a program share out what may be drawn, so that likely thoughts are not all missed."""
    annotations: int | None = None
    """Ways to think through a program that the M-step gets from the E-step."""
    group: int | None = None
    """Rollouts of each program (blind sampling and policy gradient)."""
    policy: Literal["shared", "copy"] | None = None
    """The model itself thinks, or a copy that only the policy gradient trains."""
    policy_updates: int | None = None
    """Policy-gradient updates in an iteration."""
    policy_rate: float | None = None
    """Learning rate of these."""
    credit: Literal["split", "joint"] | None = None
    """One advantage for whether to think and another for what, or one for both."""
    horizon: Literal["end", "thought"] | None = None
    """Returns go to the end of the program, or up to the next thought."""
    leave_one_out: bool | None = None
    """The baseline of a rollout is the mean of the others, or of all."""
    normalise: bool | None = None
    """Divide advantages by their spread."""
    per_token: bool | None = None
    """Rewards are means over the tokens of a line, or sums."""
    whether_after: int | None = None
    """Iterations before the decision whether to think is trained."""
    price_after: int | None = None
    """Iterations over which the price rises from 0."""
    format_penalty: float | None = None
    """Taken off the reward of a thought that is empty or cut off."""
    anchor: float | None = None
    """Weight of imitating the code in the updates of the policy."""
    candidates: int | None = None
    """Particles of each program (posterior)."""
    threshold: float | None = None
    """Resample below this share of effective particles; 0: never."""
    lag: float | None = None
    """Resample only where a thought is about to come with this probability."""
    prior: Literal["price", "model"] | None = None
    """What the posterior takes as p(thought): the price, or the model's own probabilities."""
    collapse: float | None = None
    """Warn when thoughts are rarer than this share of the lines."""

    def chosen(self) -> dict[str, Any]:
        """The choices that are made."""
        own = {field.name: getattr(self, field.name) for field in fields(Choices)}
        return {name: value for name, value in own.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class MidtrainConfig(Choices, Options):
    """Mid-training: a model, expert programs, a method, and the folder of the run.

    Raises:
        ValueError: naming the field and the remedy.
    """

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}: must be at least {least}, got {value}")
        if self.method not in get_args(MethodName):
            raise ValueError(f"method: must be one of {', '.join(get_args(MethodName))}, got {self.method!r}")
        if self.comments not in ("keep", "strip"):
            raise ValueError(f"comments: must be 'keep' or 'strip', got {self.comments!r}")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out: must lie in [0, 1), got {self.held_out}")
        if (self.method == "given") != (self.thoughts is not None):
            raise ValueError("thoughts: give a file with method 'given', and only there")
        if self.method == "oracle" and self.lineworld is None:
            raise ValueError("method: 'oracle' needs the experts' intents, which only corpus 'lineworld' has")
        if self.lineworld:
            self.lineworld_programs()
        if self.model == "lineworld" and self.lineworld is None:
            raise ValueError("model: 'lineworld' reads nothing but corpus 'lineworld'; give another model")

    @property
    def lineworld(self) -> str | None:
        """Which programs of a LineWorld the corpus is: one of `LINEWORLDS`."""
        name = self.corpus.partition(":")[0]
        return name if name in LINEWORLDS else None

    def lineworld_programs(self) -> int:
        """N of 'lineworld:N'; `programs` without it."""
        _, colon, count = self.corpus.partition(":")
        if colon and not (count.isdecimal() and int(count) > 0):
            raise ValueError(f"corpus: '{self.lineworld}:N' needs a number of programs, got {self.corpus!r}")
        return int(count) if colon else self.programs


_LEAST = {
    "iterations": 1, "updates": 1, "batch": 1, "programs": 1, "estep_programs": 1, "program_tokens": 2, "min_lines": 1,
    "max_lines": 1, "measured": 0, "shown": 0, "seed": 0, "threads": 1, "warmup": 0, "save_every": 1,
}  # fmt: skip
