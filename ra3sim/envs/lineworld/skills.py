"""How the skills of a LineWorld, the rules for choosing them and the test inputs are drawn."""

from __future__ import annotations

from itertools import product

import numpy as np

from ra3sim.envs.lineworld.machine import Machine
from ra3sim.envs.lineworld.tasks import Registers, as_registers

# With more continuations of a first line than this, so many are drawn instead of listed.
_POOL = 4096
_MAX_INPUTS = 2**62


def draw_templates(
    machine: Machine, modes: int, skills: int, length: int, ambiguity: int, rng: np.random.Generator
) -> np.ndarray:
    """Templates ``(M, K, L)`` of line numbers; within a mode they differ, and so do their effects as far as possible.

    In each mode the skills are put into groups of ``ambiguity`` (the last one may be smaller), and a group shares its
    first line. Groups have different first lines while the alphabet lasts; then it is gone through again.

    Raises:
        ValueError: more skills share a first line than there are templates that begin with it.
    """
    groups = -(-skills // ambiguity)
    most = -(-groups // machine.lines) * ambiguity
    if min(most, skills) > machine.lines ** (length - 1):
        raise ValueError(
            f"skills: {min(most, skills)} skills would begin with the same line, but only "
            f"{machine.lines ** (length - 1)} templates do; take fewer skills, a lower ambiguity, a greater length or "
            "more lines"
        )
    templates = np.zeros((modes, skills, length), np.int64)
    for mode in range(modes):
        firsts = np.concatenate([rng.permutation(machine.lines) for _ in range(-(-groups // machine.lines))])
        first = np.empty(skills, np.int64)
        first[rng.permutation(skills)] = firsts[np.arange(skills) // ambiguity]
        templates[mode] = _fill(machine, first, length, rng)
    return templates


def draw_rules(words: int, skills: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two injective maps ``(U,)`` from words to skills that agree on no word."""
    rule = rng.permutation(skills)[:words]
    while True:
        # At least every third try succeeds, about: permutations without a fixed point are not rare.
        wrong = rng.permutation(skills)[:words]
        if not (rule == wrong).any():
            return rule, wrong


def draw_inputs(machine: Machine, tests: int, rng: np.random.Generator) -> Registers:
    """Different test inputs ``(T, R)``.

    Raises:
        ValueError: more than there are, or too many registers to number them all.
    """
    total = machine.modulus**machine.registers
    if total > _MAX_INPUTS:
        raise ValueError(
            f"modulus: {machine.modulus}^{machine.registers} inputs are too many to number; take a smaller modulus or "
            "fewer registers"
        )
    if tests > total:
        raise ValueError(f"tests: there are only {total} different inputs, got {tests}; take at most {total}")
    codes = rng.choice(total, max(tests, min(total, 1000)), replace=False)
    values = codes[:, None] // machine.modulus ** np.arange(machine.registers)[::-1] % machine.modulus
    # An input of zeros or equal numbers hides what lines do; those of many different numbers come first.
    variety = [len({0, *row}) for row in values.tolist()]
    return as_registers(values[np.argsort(np.negative(variety), kind="stable")[:tests]].tolist())


def _fill(machine: Machine, first: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """Templates ``(K, L)`` with the given first lines ``(K,)``, no two alike."""
    pools = {}
    for line in np.unique(first):
        rest = _continuations(machine.lines, length - 1, rng)
        pools[line] = np.concatenate([np.full((len(rest), 1), line), rest], axis=1)
    every = np.concatenate(list(pools.values()))
    effects = machine.effects(every).reshape(len(every), -1)
    numbers = np.unique(effects, axis=0, return_inverse=True)[1].ravel()
    # Both orders are random: which effects a first line offers first, and which template stands for an effect.
    offers = []
    for line in first:
        own = rng.permutation(np.flatnonzero(every[:, 0] == line))
        offers.append({int(numbers[template]): int(template) for template in own})
    chosen = _match(offers)
    templates, used = np.zeros((len(first), length), np.int64), set(chosen.values())
    for skill, line in enumerate(first):
        if skill not in chosen:
            # Its first line has no effect left that is not another skill's: at least the lines differ.
            own = rng.permutation(np.flatnonzero(every[:, 0] == line))
            chosen[skill] = next(int(template) for template in own if int(template) not in used)
            used.add(chosen[skill])
        templates[skill] = every[chosen[skill]]
    return templates


def _continuations(lines: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """Sequences ``(n, length)`` of line numbers, all different: every one there is, or many of them."""
    if lines**length <= _POOL:
        return np.array(list(product(range(lines), repeat=length)), np.int64).reshape(lines**length, length)
    return np.unique(rng.integers(lines, size=(_POOL, length)), axis=0)


def _match(offers: list[dict[int, int]]) -> dict[int, int]:
    """For as many skills as possible a template each, of different effects; ``offers[k]`` is {effect: template}."""
    owner: dict[int, int] = {}

    def place(skill: int, tried: set[int]) -> bool:
        for effect in offers[skill]:
            if effect not in tried:
                tried.add(effect)
                if effect not in owner or place(owner[effect], tried):
                    owner[effect] = skill
                    return True
        return False

    for skill in range(len(offers)):
        place(skill, set())
    return {skill: offers[skill][effect] for effect, skill in owner.items()}
