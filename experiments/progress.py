"""How far a run is: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

# Between two plain lines about the same number of finished parts.
_QUIET_SECONDS = 15.0


def time_left(elapsed: float, done: float, total: float) -> float | None:
    """Seconds that remain if the rest goes as the part that is done did; None while nothing is done.

    >>> time_left(30.0, 1.0, 4.0), time_left(5.0, 0.0, 4.0)
    (90.0, None)
    """
    return elapsed * (total - done) / done if done > 0 else None


def in_words(seconds: float | None) -> str:
    """A duration for people.

    >>> in_words(9), in_words(75), in_words(7500), in_words(None)
    ('9 s', '1 min 15 s', '2 h 05 min', 'unknown')
    """
    if seconds is None:
        return "unknown"
    whole = math.ceil(seconds)
    if whole < 60:
        return f"{whole} s"
    return (
        f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    )


class Ticker:
    """Shows progress while it is entered; parts may count in fractions.

    Args:
        total: the number of parts to compute.
        console: where to show it; None: standard error.
        clock: seconds, for tests.
    """

    def __init__(self, total: int, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self.console = Console(stderr=True) if console is None else console
        self.clock = clock
        self.start = clock()
        self._last = (0, self.start)
        self._bar: Progress | None = None

    def __enter__(self) -> Ticker:
        if self.console.is_terminal and self.total:
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), _TimeLeft(self))
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task("", total=self.total)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: float, label: str) -> None:
        """``done`` parts are finished, ``label`` is being worked on."""
        counted = f"{math.floor(done + 1e-9)} of {self.total} parts"
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=f"{counted}, {label}")
            return
        now, whole = self.clock(), math.floor(done + 1e-9)
        if whole > self._last[0] or now - self._last[1] >= _QUIET_SECONDS:
            self._last = (whole, now)
            self.say(f"{counted}, {label}: {in_words(now - self.start)} gone, {self.remaining(done)}")

    def remaining(self, done: float) -> str:
        if done >= self.total:
            return "done"
        left = time_left(self.clock() - self.start, done, self.total)
        return "time left unknown" if left is None else f"about {in_words(left)} left"

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class _TimeLeft(ProgressColumn):
    """Rich's own estimate forgets all but the last 30 seconds, and a part may take longer than that."""

    def __init__(self, ticker: Ticker) -> None:
        super().__init__()
        self.ticker = ticker

    def render(self, task: Task) -> Text:
        return Text(
            f"{in_words(self.ticker.clock() - self.ticker.start)} gone, {self.ticker.remaining(task.completed)}"
        )
