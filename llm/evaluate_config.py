"""What an evaluation is: every choice of it, by name. Light to import, so that mistakes are answered at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """pass@k of a model over problems.

    Raises:
        ValueError: naming the field and the remedy.
    """

    model: str
    """A run folder, 'smollm2', a folder of transformers, a .gguf file, or a name on the hub."""
    problems: str
    """'humaneval[:PATH]', 'humaneval+:PATH', 'mbpp:PATH', 'mbpp-test:PATH' (tasks 11 to 510), 'mbpp+:PATH',
    'livecodebench:PATH', 'codeforces:PATH', 'lineworld[:N]', 'lineworld-held-out[:N]', 'jsonl:PATH'. PATH is a file, or
    a data set of the hub."""
    out: Path
    """Folder of the evaluation. The same command again continues it."""
    samples: int = 1
    """Completions of each problem."""
    k: tuple[int, ...] = (1,)
    """Which pass@k."""
    temperature: float = 0.2
    """Of the tokens; 0: the likeliest."""
    top_p: float = 0.95
    """Only the likeliest tokens that together have this probability."""
    max_tokens: int = 512
    """Of a completion."""
    limit: int | None = None
    """Only the first so many problems."""
    seed: int = 0
    """Of the samples, the order of LineWorld's tasks, and the intervals."""
    strip_prompt: bool = False
    """Leave out the white space at the end of prompts."""
    examples: bool = True
    """MBPP's three solved tasks before the one that is asked."""
    begin: Literal["auto", "tokenizer", "bos"] = "auto"
    """What stands before a prompt: what the tokenizer puts there, or the token that begins a text, as in mid-training.
    auto: as in mid-training for run folders and LineWorld, else as the tokenizer does."""
    isolation: str = "full"
    """Level that the sandbox must have; `python -m llm.sandbox` says what this machine offers."""
    batch: int = 32
    """Completions at a time."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights."""
    jobs: int | None = None
    """Programs at a time. None: one a core."""
    threads: int | None = None
    """Threads of torch on the CPU. None: as torch chooses."""

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}: must be at least {least}, got {value}")
        if not self.k or min(self.k) < 1:
            raise ValueError(f"k: must be at least 1, got {self.k}")
        if max(self.k) > self.samples:
            raise ValueError(f"k: pass@{max(self.k)} needs {max(self.k)} samples of each problem, got {self.samples}")
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature: must be 0 or a positive number, got {self.temperature}")
        if self.temperature == 0 and self.samples > 1:
            raise ValueError(f"samples: at temperature 0 all are the same; draw 1, got {self.samples}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: must lie in (0, 1], got {self.top_p}")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype: must be 'float32' or 'bfloat16', got {self.dtype!r}")
        if self.begin not in ("auto", "tokenizer", "bos"):
            raise ValueError(f"begin: must be 'auto', 'tokenizer' or 'bos', got {self.begin!r}")


_LEAST = {"samples": 1, "max_tokens": 1, "limit": 1, "seed": 0, "batch": 1, "jobs": 1, "threads": 1}
