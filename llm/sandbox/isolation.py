"""What keeps programs in, how much of it this machine offers, and what each level can't stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llm.sandbox.inside.layers import LEVELS
from llm.sandbox.link import WorkerLost
from llm.sandbox.worker import NotIsolated, Worker

# What a program can do at a level that it can't at the one above it. The verdict is out of its reach at all of them.
OPEN: dict[str, tuple[str, ...]] = {
    "full": (),
    "landlock+seccomp": (
        "learn which files exist, how large and how old they are",
        "fill the disk with many files, each within its limit",
    ),
    "rlimits": (
        "read and write whatever its user may: files, the network, other processes of the same user",
        "start processes while it runs (they are ended with it)",
        "stop its own worker (a sandbox error, and the job goes to another)",
    ),
    "process": ("take any amount of memory, disk and descriptors",),
}


@dataclass(frozen=True)
class Offer:
    """Whether a level is to be had here: the reason if not, else what its workers say of themselves."""

    level: str
    missing: str | None
    about: dict[str, Any]


def layers_of(level: str) -> tuple[str, ...]:
    """The layers of a level.

    Raises:
        ValueError: there is none of this name.
    """
    if level not in LEVELS:
        raise ValueError(f"isolation: there is none named {level!r}; there are {', '.join(LEVELS)}")
    return LEVELS[level]


def less_than(level: str) -> str:
    """How to ask for the next weaker one, as the end of a sentence."""
    names = list(LEVELS)
    weaker = names[names.index(level) + 1 :]
    return f" with isolation={weaker[0]!r}" if weaker else ""


def probe() -> list[Offer]:
    """Try every level, the strongest first, by starting a worker of it."""
    found = []
    for level, layers in LEVELS.items():
        try:
            worker = Worker(layers, 1 << 20)
        except (NotIsolated, WorkerLost) as error:
            found.append(Offer(level, str(error), {}))
            continue
        worker.close()
        found.append(Offer(level, None, worker.about))
    return found


def table(offers: list[Offer]) -> str:
    """For people."""
    lines: list[str] = []
    still: tuple[str, ...] = ()
    for one in offers:
        state = f"no: {one.missing}" if one.missing else f"yes; {_said(one.about)}"
        lines.append(f"{one.level:<18}{state}")
        lines.append(f"{'':<18}layers: {', '.join(LEVELS[one.level]) or 'a process of its own, and nothing else'}")
        still = (*still, *OPEN[one.level])
        for thing in still:
            lines.append(f"{'':<18}can't stop a program that wants to: {thing}")
    return "\n".join(lines)


def _said(about: dict[str, Any]) -> str:
    parts = [f"programs run as user {about['user']}"]
    if about.get("namespaces"):
        parts.append(f"namespaces {about['namespaces']}")
    if about.get("landlock"):
        parts.append(f"Landlock {about['landlock']}")
    if about.get("threads"):
        parts.append("threads are counted")
    return ", ".join(parts)
