"""Input checks shared by the containers: every error names the argument, the place and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

# Rows of a transition model may miss 1 by this much (rounding of published tables), never more.
ROW_SUM_TOLERANCE = 1e-9


def place(index: Sequence[Any], axes: Sequence[str]) -> str:
    """Write an index with the names of its axes: ``place((3, 1), "sa")`` is ``"s=3, a=1"``."""
    return ", ".join(f"{axis}={int(i)}" for axis, i in zip(axes, index, strict=True))


def first(mask: np.ndarray, axes: Sequence[str]) -> str:
    """The place of the first True of ``mask``, with axis names."""
    return place(np.unravel_index(int(np.argmax(mask)), mask.shape), axes)


def real_array(name: str, value: Any, shape: tuple[int | None, ...], axes: str) -> np.ndarray:
    """``value`` as a C-contiguous float64 array of the given shape (None: any length), all finite.

    Raises:
        ValueError: wrong number of axes, wrong length, not numeric, or not finite.
    """
    try:
        array = np.ascontiguousarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: cannot be read as an array of real numbers ({error})") from None
    check_shape(name, array.shape, shape, axes)
    # A sum is finite unless an entry is not (or the sum overflows): one cheap pass in the good case.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = array.size and not np.isfinite(array.sum())
    if suspicious and not np.isfinite(array).all():
        raise ValueError(f"{name}[{first(~np.isfinite(array), axes)}] is NaN or infinite; every entry must be finite")
    return array


def any_array(name: str, value: Any) -> np.ndarray:
    """``value`` as an array of whatever type it has.

    Raises:
        ValueError: rows of unequal length.
    """
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: cannot be read as an array ({error})") from None


def bool_array(name: str, value: Any, shape: tuple[int | None, ...], axes: str) -> np.ndarray:
    """``value`` as a C-contiguous boolean array of the given shape; numbers other than 0 and 1 are refused."""
    array = any_array(name, value)
    if array.dtype != bool:
        if array.dtype == object or not np.isin(array, (0, 1)).all():
            raise ValueError(f"{name}: must be boolean (True/False or 0/1), got dtype {array.dtype}")
        array = array.astype(bool)
    check_shape(name, array.shape, shape, axes)
    return np.ascontiguousarray(array)


def check_shape(name: str, got: tuple[int, ...], want: tuple[int | None, ...], axes: str) -> None:
    if len(got) != len(want) or any(w is not None and g != w for g, w in zip(got, want, strict=True)):
        text = ", ".join(f"{axis.upper()}={'any' if w is None else w}" for axis, w in zip(axes, want, strict=True))
        raise ValueError(f"{name}: shape {tuple(got)} does not fit ({text})")


def distribution(name: str, value: Any, shape: tuple[int | None, ...], axes: str) -> np.ndarray:
    """A float array whose last axis is a probability distribution."""
    array = real_array(name, value, shape, axes)
    if (array < 0).any():
        raise ValueError(f"{name}[{first(array < 0, axes)}] is negative; probabilities are >= 0")
    off = np.abs(array.sum(-1) - 1) > ROW_SUM_TOLERANCE
    if off.any():
        where = f"[{first(off, axes[:-1])}]" if array.ndim > 1 else ""
        raise ValueError(f"{name}{where} sums to {array.sum(-1)[off].flat[0]:.9g}, must sum to 1; divide it by its sum")
    return array


def canonical_csr(name: str, value: Any, shape: tuple[int, int]) -> sp.csr_array:
    """``value`` as CSR in float64 with sorted, unique int32 indices; its structure and entries are checked.

    Duplicate entries are summed, as SciPy defines them.
    """
    matrix = sp.csr_array(value) if not isinstance(value, sp.csr_array) else value
    if matrix.shape != shape:
        raise ValueError(f"{name}: sparse shape {matrix.shape} does not fit {shape}")
    try:
        matrix.check_format(full_check=True)
    except ValueError as error:
        raise ValueError(f"{name}: broken sparse structure ({error})") from None
    if matrix.dtype != np.float64:
        matrix = matrix.astype(np.float64)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    if not np.isfinite(matrix.data).all():
        row = np.searchsorted(matrix.indptr, int(np.argmax(~np.isfinite(matrix.data))), side="right") - 1
        raise ValueError(f"{name}: row {row} holds NaN or infinity; every entry must be finite")
    if matrix.nnz < 2**31 and matrix.indices.dtype != np.int32:
        matrix = sp.csr_array(
            (matrix.data, matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32)), shape=shape
        )
    return matrix


def freeze(array: np.ndarray) -> np.ndarray:
    """A read-only view; the caller's own array keeps its flags."""
    view = array.view()
    view.flags.writeable = False
    return view


def check_discount(discount: Any) -> float:
    try:
        value = float(discount)
    except (TypeError, ValueError):
        raise ValueError(f"discount: must be a number in [0, 1), got {discount!r}") from None
    if not 0 <= value < 1:
        raise ValueError(
            f"discount: must lie in [0, 1), got {discount!r}; an undiscounted task needs a horizon instead"
        )
    return value


def check_names(name: str, names: Any, count: int) -> tuple[str, ...]:
    names = tuple(str(n) for n in names)
    if len(names) != count:
        raise ValueError(f"{name}: {len(names)} names for {count} items")
    if len(set(names)) != count:
        twice = next(n for n in names if names.count(n) > 1)
        raise ValueError(f"{name}: {twice!r} stands twice; names must be unique")
    return names
