"""What comes out of the sandbox, and what a program may use in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

OUTCOMES = (
    "passed", "failed", "timed out", "out of memory", "output too large", "crashed", "forbidden", "sandbox error",
)  # fmt: skip
"""What can become of a program; see `Verdict`."""


@dataclass(frozen=True)
class Verdict:
    """What became of one program.

    Attributes:
        outcome: one of `OUTCOMES`. "failed": a wrong answer. "crashed": it raised or ended before it had answered.
            "forbidden": it asked the system for what it may not have. "sandbox error": the sandbox itself failed,
            which says nothing about the program.
        detail: one line for people.
        test: the test that decided, from 0; None where it was none.
        seen: what the program gave there, shortened.
        seconds, cpu_seconds: of the clock and of the processor, all processes of the program.
        peak_memory: bytes that were resident at most; part of it is the interpreter's.
    """

    outcome: str
    detail: str = ""
    test: int | None = None
    seen: str | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory: int = 0

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(f"outcome: there is none named {self.outcome!r}; there are {', '.join(OUTCOMES)}")

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"

    @property
    def counts(self) -> bool:
        """Whether it says something about the program."""
        return self.outcome != "sandbox error"


@dataclass(frozen=True)
class Limits:
    """What one process of a program may use. All tests of functions share one; each case of stdin has its own."""

    seconds: float = 10.0
    """By the clock."""
    cpu_seconds: float | None = None
    """Of the processor, all threads together. None: as `seconds`."""
    memory: int = 2 << 30
    """Address space, bytes; the interpreter needs some 30 MB of it, each thread as much as its stack."""
    output: int = 16 << 20
    """Bytes of standard output, and of one result."""
    file_size: int = 16 << 20
    """Bytes of each file in its scratch folder."""
    threads: int = 64
    """At most, at once; where users can be told apart (see `python -m llm.sandbox`)."""
    files: int = 64
    """Open at once."""

    def __post_init__(self) -> None:
        for name in ("seconds", "cpu_seconds"):
            value = getattr(self, name)
            if value is None and name == "cpu_seconds":
                continue
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: must be a positive number of seconds, got {value!r}")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name}: must be a whole number, {least} or more, got {value!r}")

    def scaled(self, factor: float) -> Limits:
        """The same with `factor` times the time."""
        cpu = None if self.cpu_seconds is None else factor * self.cpu_seconds
        return replace(self, seconds=factor * self.seconds, cpu_seconds=cpu)

    def plain(self) -> dict[str, float | int]:
        """As it goes to the worker: no None."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**values, "cpu_seconds": self.seconds if self.cpu_seconds is None else self.cpu_seconds}


_LEAST = {"memory": 1 << 26, "output": 1, "file_size": 0, "threads": 1, "files": 16}
