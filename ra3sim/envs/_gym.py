"""Environments of other people: given as an object or by id."""

from __future__ import annotations

from typing import Any

import gymnasium


def unwrapped(env_or_id: gymnasium.Env | str, arguments: dict[str, Any]) -> tuple[Any, str]:
    """The bare environment and its name; ``arguments`` are `gymnasium.make`'s, for an id.

    Raises:
        ValueError: arguments for an environment that is made already.
        gymnasium.error.Error: an unknown id.
    """
    if not isinstance(env_or_id, gymnasium.Env):
        return gymnasium.make(env_or_id, **arguments).unwrapped, env_or_id
    if arguments:
        raise ValueError(f"kwargs: {sorted(arguments)} are for an id; this environment is made already")
    env = env_or_id.unwrapped
    return env, getattr(env_or_id.spec, "id", type(env).__name__)
