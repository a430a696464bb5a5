"""Programs that lie, break out, take too much or are broken, and honest ones that look odd; written for this project.

The task of those with functions: ``squares(n)`` is the sum of the squares below n. Of scripts: print twice the number
that is read. Words between @ are put in by the tests: @FILE@ (a file outside), @FOLDER@, @PORT@ (of a listener on this
machine), @PID@ (of the tests).
"""

from __future__ import annotations

from dataclasses import dataclass

LEVELS = ("full", "landlock+seccomp", "rlimits", "process")


@dataclass(frozen=True)
class Case:
    """A program and what must become of it.

    Attributes:
        outcomes: any of them, separated by "|".
        script: it reads and writes, else it has the function.
        escapes: the weakest levels, so many, at which it does what it wants: the result then holds "ESCAPED".
        unsafe: the weakest levels, so many, at which it is not run, because nothing there would stop it.
    """

    name: str
    program: str | bytes
    outcomes: str
    script: bool = False
    escapes: int = 0
    unsafe: int = 0

    def runs_at(self, level: str) -> bool:
        return level not in LEVELS[len(LEVELS) - self.unsafe :]

    def escapes_at(self, level: str) -> bool:
        return level in LEVELS[len(LEVELS) - self.escapes :]
