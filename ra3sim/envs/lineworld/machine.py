"""The register machine of LineWorld: its alphabet of lines, and an interpreter that knows them as affine maps."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import gcd
from typing import Any

import numpy as np

from ra3sim import _check
from ra3sim.envs.lineworld._read import count

MAX_MODULUS = 1000
REGISTER_NAMES = "abcdefghijklmnopqrstuvwxyz"

# What ends a line in Python source; `str.splitlines` also knows characters that Python takes for part of a comment.
_NEWLINE = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class Machine:
    """A program is a sequence of lines; a line is one Python statement that changes the registers ``a``, ``b``, ...

    Every line is an affine map with integer coefficients, so reducing the registers modulo ``modulus`` once, at the
    end, gives what reducing after every line gives. Modulo ``modulus`` every line can be undone, and no two of the
    alphabet do the same.

    Args:
        registers: their number R.
        modulus: what the registers are reduced by.
        lines: size A of the alphabet, the first of a fixed list.

    Raises:
        ValueError: fewer than one register or two lines, a modulus below 2, or more lines than the list has.

    >>> machine = Machine(registers=2, modulus=5, lines=4)
    >>> machine.statements
    ('a += b', 'b += 1', 'a, b = b, a', 'b = -b')
    >>> machine.run([[0, 2]], [[1, 2]]).tolist()  # one program, one input
    [[[2, 3]]]
    """

    registers: int
    modulus: int
    lines: int
    statements: tuple[str, ...] = field(init=False, repr=False, compare=False)
    matrices: np.ndarray = field(init=False, repr=False, compare=False)  # (A, R + 1, R + 1), on (registers, 1)

    def __post_init__(self) -> None:
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731  (the container is frozen)
        put("registers", count("registers", self.registers, 1, len(REGISTER_NAMES)))
        put("modulus", count("modulus", self.modulus, 2, MAX_MODULUS))
        put("lines", count("lines", self.lines, 2))
        known = alphabet(self.registers, self.modulus)
        if self.lines > len(known):
            raise ValueError(
                f"lines: {self.registers} registers modulo {self.modulus} have an alphabet of at most {len(known)} "
                f"lines, got {self.lines}; take fewer lines, or more registers"
            )
        chosen = known[: self.lines]
        put("statements", tuple(text for text, _ in chosen))
        put("matrices", _check.freeze(np.array([matrix for _, matrix in chosen])))

    def step(self, registers: np.ndarray) -> np.ndarray:
        """What each line makes of the registers ``(..., T, R)`` of T tests: ``(..., A, T, R)``."""
        moved = np.einsum("aij,...tj->...ati", self.matrices, _with_one(registers))
        return moved[..., :-1] % self.modulus

    def run(self, programs: Any, registers: Any) -> np.ndarray:
        """What N programs ``(N, H)`` make of the inputs ``(T, R)``: registers ``(N, T, R)``, reduced."""
        programs = np.asarray(programs)
        state = np.broadcast_to(_with_one(np.asarray(registers)), (len(programs), len(registers), self.registers + 1))
        for step in range(programs.shape[1]):
            state = state @ self.matrices[programs[:, step]].transpose(0, 2, 1) % self.modulus
        return state[..., :-1] % self.modulus

    def effects(self, programs: np.ndarray) -> np.ndarray:
        """The affine maps ``(N, R, R + 1)`` of N programs ``(N, H)``, with coefficients modulo ``modulus``."""
        basis = np.eye(self.registers + 1, dtype=np.int64)
        effect = np.broadcast_to(basis, (len(programs), *basis.shape))
        for step in range(programs.shape[1]):
            effect = self.matrices[programs[:, step]] @ effect % self.modulus
        return effect[:, :-1]

    def parse(self, text: str) -> tuple[int, ...]:
        """The numbers of the lines of a text; comment lines and blank lines are passed over.

        Raises:
            ValueError: a line that is not in the alphabet. Spaces count, except at its end.
        """
        numbers = []
        for place, line in enumerate(_NEWLINE.split(text), start=1):
            line = line.rstrip(" \t")
            if line and not line.lstrip(" \t").startswith("#"):
                if line not in self.statements:
                    shown = line if len(line) <= 40 else line[:40] + "..."
                    raise ValueError(
                        f"text: line {place} is {shown!r}, which is not in the alphabet; it has "
                        + ", ".join(map(repr, self.statements))
                    )
                numbers.append(self.statements.index(line))
        return tuple(numbers)


def alphabet(registers: int, modulus: int) -> list[tuple[str, np.ndarray]]:
    """All lines there are, each with its matrix ``(R + 1, R + 1)`` modulo ``modulus``.

    The order is fixed and goes round the registers, so that a short alphabet already does different things with all of
    them. What cannot be undone modulo ``modulus``, does nothing, or does what an earlier line does is left out.
    """
    names = REGISTER_NAMES[:registers]
    forms: list[tuple[str, np.ndarray]] = []

    def scale(i: int, factor: int, text: str) -> None:
        matrix = np.eye(registers + 1, dtype=np.int64)
        matrix[i, i] = factor
        if gcd(factor, modulus) == 1:
            forms.append((f"{names[i]} = {text}{names[i]}", matrix))

    def add(i: int, j: int, sign: int = 1) -> None:
        matrix = np.eye(registers + 1, dtype=np.int64)
        matrix[i, j] = sign
        if i != j:
            other = "1" if j == registers else names[j]
            forms.append((f"{names[i]} {'+' if sign > 0 else '-'}= {other}", matrix))

    def swap(i: int, j: int) -> None:
        i, j = min(i, j), max(i, j)
        matrix = np.eye(registers + 1, dtype=np.int64)
        matrix[[i, j]] = matrix[[j, i]]
        forms.append((f"{names[i]}, {names[j]} = {names[j]}, {names[i]}", matrix))

    for i in range(registers):
        second, third, fourth = ((i + shift) % registers for shift in (1, 2, 3))
        add(i, second)
        add(second, registers)
        swap(third, fourth)
        scale(fourth, -1, "-")
    for i in range(registers):
        scale(i, 2, "2 * ")
        add(i, (i + 1) % registers, -1)
        add(i, registers, -1)
    for shift in range(2, registers):
        for i in range(registers):
            add(i, (i + shift) % registers)
            swap(i, (i + shift) % registers)
    for i in range(registers):
        scale(i, 3, "3 * ")
    seen = {np.eye(registers + 1, dtype=np.int64).tobytes()}
    kept = []
    for text, matrix in forms:
        matrix %= modulus
        if matrix.tobytes() not in seen:
            seen.add(matrix.tobytes())
            kept.append((text, matrix))
    return kept


def _with_one(registers: np.ndarray) -> np.ndarray:
    return np.concatenate([registers, np.ones((*registers.shape[:-1], 1), registers.dtype)], axis=-1)
