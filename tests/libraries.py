"""The three array libraries for parametrised tests: arrays in from NumPy, and out to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

LIBRARIES = ("numpy", "jax", "torch")


class Library(NamedTuple):
    name: str
    put: Callable[[Any], Any]

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call with the NumPy arrays among the arguments put into this library; results as NumPy."""
        given = [*args, *kwargs.values()]
        where = [i for i, value in enumerate(given) if isinstance(value, np.ndarray)]

        def run(*arrays: Any) -> Any:
            full = list(given)
            for i, array in zip(where, arrays, strict=True):
                full[i] = array
            return function(*full[: len(args)], **dict(zip(kwargs, full[len(args) :], strict=True)))

        result = self.compiled(run)(*(self.put(given[i]) for i in where))
        return type(result)(*map(np.asarray, result)) if isinstance(result, tuple) else np.asarray(result)

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """JAX compiles the whole, which takes less time than every operation on its own."""
        if self.name != "jax":
            return function
        import jax

        return jax.jit(function)


@contextlib.contextmanager
def library(name: str) -> Iterator[Library]:
    """NumPy, torch, or JAX with float64 for as long as the context lasts."""
    if name == "numpy":
        yield Library(name, np.asarray)
    elif name == "torch":
        import torch

        # A copy: torch warns of arrays that it may not write to.
        yield Library(name, lambda a: torch.from_numpy(np.array(a)))
    else:
        import jax

        with jax.enable_x64(True):
            yield Library(name, jax.numpy.asarray)
