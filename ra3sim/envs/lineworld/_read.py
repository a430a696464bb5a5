"""Checks of LineWorld's arguments."""

from __future__ import annotations

import operator
from typing import Any


def count(name: str, value: Any, least: int = 0, most: int | None = None) -> int:
    """``value`` as an int in the given range.

    Raises:
        ValueError: not an integer, or out of range.
    """
    limits = f"at least {least}" if most is None else f"between {least} and {most}"
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name}: must be an integer, {limits}, got {value!r}") from None
    if number < least or (most is not None and number > most):
        raise ValueError(f"{name}: must be {limits}, got {number}")
    return number
