"""Checks of array arguments: only what is known without looking at values, so that they also hold while tracing."""

from __future__ import annotations

import math
from typing import Any

import array_api_compat
import numpy as np
from array_api_compat import device as device


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def namespace(**arrays: Any) -> Any:
    """The array library that all arguments share; None is skipped.

    Raises:
        ValueError: something else than an array, or arrays of two libraries.
    """
    found: dict[str, Any] = {}
    for name, value in arrays.items():
        if value is None:
            continue
        if not array_api_compat.is_array_api_obj(value):
            raise ValueError(
                f"{name}: must be an array of NumPy, JAX or torch, got {type(value).__name__}; convert it first"
            )
        found[name] = array_api_compat.array_namespace(value)
    (first, xp), *rest = found.items()
    for name, other in rest:
        if other is not xp:
            raise ValueError(f"{name}: is not of the same library as {first}; convert one of them")
    return xp


def check_floating(xp: Any, name: str, value: Any, axes: str = "") -> None:
    """Floats, with at least the axes named (as ``"GT"``)."""
    if not xp.isdtype(value.dtype, "real floating"):
        raise ValueError(f"{name}: must hold floats, got {value.dtype}; convert it first")
    if len(value.shape) < len(axes):
        raise ValueError(f"{name}: shape {tuple(value.shape)} lacks axes; it must end in ({', '.join(axes)})")


def check_shape(name: str, value: Any, shape: Any) -> None:
    """``value`` can be broadcast to ``shape`` and does not enlarge it."""
    got, want = tuple(value.shape), tuple(shape)
    try:
        fits = np.broadcast_shapes(got, want) == want
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name}: shape {got} does not broadcast to {want}")


def check_together(name: str, value: Any, other_name: str, other: Any) -> None:
    """The two can be broadcast with each other."""
    try:
        np.broadcast_shapes(tuple(value.shape), tuple(other.shape))
    except ValueError:
        raise ValueError(
            f"{name}: shape {tuple(value.shape)} does not broadcast with {tuple(other.shape)} of {other_name}"
        ) from None


def check_boolean(xp: Any, name: str, value: Any, shape: Any = None) -> None:
    if value.dtype != xp.bool:
        raise ValueError(f"{name}: must be boolean, got {value.dtype}; compare it with 0 first")
    if shape is not None:
        check_shape(name, value, shape)


def check_fraction(name: str, value: Any, open_end: bool = False) -> float:
    """A Python number in [0, 1], or in [0, 1)."""
    value = real(name, value)
    if not 0 <= value <= 1 or (open_end and value == 1):
        raise ValueError(f"{name}: must lie in [0, 1{')' if open_end else ']'}, got {value!r}")
    return value


def check_not_negative(name: str, value: Any, finite: bool = False) -> float:
    value = real(name, value)
    if not value >= 0 or (finite and math.isinf(value)):
        raise ValueError(f"{name}: must be {'finite and ' if finite else ''}>= 0, got {value!r}")
    return value


def real(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: must be a number, got {value!r}") from None
