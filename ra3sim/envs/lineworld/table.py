"""A LineWorld as tables: states that all tasks share, an exact MDP for each task, skills as options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from ra3sim import _check
from ra3sim.envs._grid import DENSE_LIMIT
from ra3sim.envs.lineworld import _read
from ra3sim.envs.lineworld.tasks import LineProgram, LineTask
from ra3sim.mdp import MDP
from ra3sim.options import OptionSet, drop_rows, one_hot, option_numbers
from ra3sim.smdp import SMDP

if TYPE_CHECKING:
    from ra3sim.envs.lineworld.world import LineWorld

MAX_STATES = 1_000_000
# Registers of all tests are written as one number, which has to fit.
_MAX_CODE = 2**62


@dataclass(frozen=True, eq=False)
class LineTable:
    """The states of a world, shared by all its tasks: (position, mode of the segment, registers of all tests).

    A state is there if some lines lead to its registers. Actions are lines. Position H is terminal and in no segment;
    its mode is 0. States are numbered by position, then mode, then registers.

    Args:
        world: what it is the table of.

    Raises:
        ValueError: more than a million states, or registers of all tests that no 64-bit number can hold.

    >>> from ra3sim.envs.lineworld import LineWorld
    >>> table = LineWorld.preset("tiny").table()
    >>> table.num_states, table.num_classes
    (52, 2)
    """

    world: LineWorld = field(repr=False)
    position: np.ndarray = field(init=False, repr=False)  # (S,), from 0 to H
    mode: np.ndarray = field(init=False, repr=False)  # (S,)
    registers: np.ndarray = field(init=False, repr=False)  # (S, T, R)
    classes: np.ndarray = field(init=False, repr=False)  # (S,): phase * M + mode, where phase = position mod L
    state_names: tuple[str, ...] = field(init=False, repr=False)
    _codes: list[np.ndarray] = field(init=False, repr=False)
    _first: np.ndarray = field(init=False, repr=False)  # state of each position
    _successors: np.ndarray = field(init=False, repr=False)  # (S, A), under mode 0 after each boundary
    _turn: np.ndarray = field(init=False, repr=False)  # (S,): added once for each mode number of the next segment

    def __post_init__(self) -> None:
        world = self.world
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731  (the container is frozen)
        codes, steps = self._explore()
        modes = [world.modes] * world.horizon + [1]
        sizes = np.array([len(code) for code in codes])
        first = np.concatenate([[0], np.cumsum(sizes * modes)])
        mode = [np.repeat(np.arange(m), n) for m, n in zip(modes, sizes, strict=True)]
        successors, turn = [], []
        for position, step in enumerate(steps):
            after = position + 1
            stays = after % world.length != 0
            goes = first[after] + step + np.zeros((world.modes, 1, 1), np.int64)
            if stays:
                goes += sizes[after] * np.arange(world.modes)[:, None, None]
            successors.append(goes.reshape(-1, world.lines))
            turns = not stays and after < world.horizon
            turn.append(np.full(len(successors[-1]), sizes[after] * turns))
        ends = np.arange(first[-2], first[-1])
        successors.append(np.repeat(ends[:, None], world.lines, axis=1))
        turn.append(np.zeros(len(ends), np.int64))
        put("position", _check.freeze(np.repeat(np.arange(world.horizon + 1), sizes * np.array(modes))))
        put("mode", _check.freeze(np.concatenate(mode)))
        every = np.concatenate([np.tile(code, m) for code, m in zip(codes, modes, strict=True)])
        put("registers", _check.freeze(self._decode(every)))
        put("classes", _check.freeze(self.position % world.length * world.modes + self.mode))
        rows = zip(self.position.tolist(), self.mode.tolist(), self.registers.tolist(), strict=True)
        put("state_names", tuple(f"line {p}, mode {m}, {' '.join(map(_say, tests))}" for p, m, tests in rows))
        put("_codes", codes)
        put("_first", first)
        put("_successors", np.concatenate(successors))
        put("_turn", np.concatenate(turn))

    @property
    def num_states(self) -> int:
        return len(self.position)

    @property
    def num_actions(self) -> int:
        return self.world.lines

    @property
    def num_classes(self) -> int:
        """L M: observations that say where in a segment one is, and its mode, but neither segment nor registers."""
        return self.world.length * self.world.modes

    @property
    def terminal(self) -> np.ndarray:
        """States ``(S,)`` after the last line."""
        return self.position == self.world.horizon

    @property
    def boundary(self) -> np.ndarray:
        """States ``(S,)`` between two segments, before the first, or after the last."""
        return self.position % self.world.length == 0

    def successors(self, task: LineTask) -> np.ndarray:
        """Where each line leads in a task, ``(S, A)``; at a boundary the mode becomes that of the next request."""
        modes = np.array([mode for _, mode in task.requests] + [0])
        following = modes[np.minimum((self.position + 1) // self.world.length, self.world.depth)]
        return self._successors + (self._turn * following)[:, None]

    def mdp(self, task: LineTask, sparse: bool | None = None) -> MDP:
        """The MDP of a task: the step that arrives at the end with the task's outputs pays 1, every other one nothing.

        States, actions and discount are the same for all tasks of the world.

        Args:
            sparse: None: sparse if there are more than 1000 states.

        Raises:
            ValueError: a task that does not fit the world: its requests, its inputs or the shape of its outputs.
        """
        world = self.world
        world.task_index(task.requests)
        outputs = self._read_registers("outputs", task.outputs)
        start = self.state_of(0, task.requests[0][1], task.inputs)
        to = self.successors(task)
        solved = self.terminal & (self.registers == outputs).all((1, 2))
        rewards = (solved[to] & ~self.terminal[:, None]).astype(float)
        states, actions = to.shape
        if states > DENSE_LIMIT if sparse is None else sparse:
            indptr = np.arange(states * actions + 1, dtype=np.int32)
            parts = (np.ones(states * actions), to.ravel().astype(np.int32), indptr)
            transitions: Any = sp.csr_array(parts, shape=(states * actions, states))
        else:
            transitions = np.zeros((states, actions, states))
            np.put_along_axis(transitions, to[:, :, None], 1.0, axis=2)
        asked = " ".join(f"w{word}.m{mode}" for word, mode in task.requests)
        return MDP(
            transitions,
            rewards,
            world.discount,
            start=start,
            terminal=self.terminal,
            state_names=self.state_names,
            action_names=world.machine.statements,
            name=f"LineWorld {asked}",
        )

    def state_of(self, position: int, mode: int, registers: Any) -> int:
        """The state at a position (of the H + 1), in a mode (0 at the end), with registers ``(T, R)``, modulo or not.

        Raises:
            ValueError: no such position or mode, registers of another shape, or ones that no lines lead to.
        """
        world = self.world
        position = _read.count("position", position, 0, world.horizon)
        mode = _read.count("mode", mode, 0, world.modes - 1 if position < world.horizon else 0)
        values = self._read_registers("registers", registers)
        code = self._encode(values)
        known = self._codes[position]
        place = int(np.searchsorted(known, code))
        if place == len(known) or known[place] != code:
            raise ValueError(f"registers: no {position} lines lead from the inputs to {values.tolist()}")
        return int(self._first[position] + mode * len(known) + place)

    def trajectory(self, program: LineProgram) -> tuple[np.ndarray, np.ndarray]:
        """The states ``(H,)`` a program is in before each of its lines, and the lines ``(H,)``.

        Raises:
            ValueError: a program of another world.
        """
        actions = np.array(program.lines)
        to = self.successors(program.task)
        states = np.empty(len(actions), np.int64)
        state = self.state_of(0, program.task.requests[0][1], program.task.inputs)
        for step, action in enumerate(actions):
            states[step] = state
            state = to[state, action]
        return states, actions

    def skill_options(self, skills: Sequence[int] | None = None) -> OptionSet:
        """Skills (None: all) as Markov options: begun at boundaries, they follow phase and mode to the next boundary.

        The same options are exact in every task of the world, because a mode lasts for a segment. They leave states in
        the middle of a segment without an option; `smdp` makes the model of such a decision space.

        Raises:
            ValueError: no skill, an unknown one, or one that stands twice.
        """
        world = self.world
        names = [f"s{skill}" for skill in range(world.skills)]
        chosen = option_numbers(range(world.skills) if skills is None else skills, names)
        lines = world.templates[self.mode, :, self.position % world.length][:, chosen]
        shape = (len(chosen), self.num_states)
        return OptionSet(
            policy=np.stack([one_hot(line, world.lines) for line in lines.T]),
            termination=np.broadcast_to(self.boundary.astype(float), shape),
            initiation=np.broadcast_to(self.boundary & ~self.terminal, shape),
            names=[names[skill] for skill in chosen],
        )

    def smdp(self, task: LineTask, options: OptionSet | None = None, sparse: bool = True) -> SMDP:
        """The exact model, over all S states, of options that are begun at boundaries and end at boundaries.

        Nothing is decided in the middle of a segment, and no option leaves one there. So those states are terminal in
        this model (their value is 0, and none comes to be asked for), which keeps γ̄ at what whole options have.

        Args:
            options: None: all skills. Where else they could begin does not matter here.
            sparse: the form of the model; dense ones of many states take long to make.

        Raises:
            ValueError: what `mdp` refuses, a boundary without an option, or an option that ends elsewhere.
        """
        mdp = self.mdp(task, sparse)
        options = self.skill_options() if options is None else options
        available = options.initiation & (self.boundary & ~self.terminal)
        anywhere = np.broadcast_to(~self.terminal, available.shape)
        model = SMDP.from_options(mdp, replace(options, initiation=anywhere))
        if model.is_sparse:
            P: Any = drop_rows(model.P, ~available.ravel())
            left = P.sum(0)
        else:
            P = model.P * available[:, :, None]
            left = P.sum((0, 1))
        if (lost := (left > 0) & ~self.boundary).any():
            where = self.state_names[int(np.argmax(lost))]
            raise ValueError(f"options: one may end in the middle of a segment ({where}); let them end at boundaries")
        return SMDP(model.R * available, P, available, terminal=~self.boundary | self.terminal, names=options.names)

    def _explore(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Numbers of the registers found at each position, and places ``(n, A)`` in the next list they are led to."""
        world = self.world
        if world.modulus ** (world.registers * world.tests) > _MAX_CODE:
            raise ValueError(
                f"tests: {world.tests} tests of {world.registers} registers modulo {world.modulus} have too many "
                "states for a table; take fewer tests or registers, or a smaller modulus"
            )
        codes, steps, total = [np.atleast_1d(self._encode(np.array(world.inputs)))], [], world.modes
        for position in range(world.horizon):
            after = self._encode(world.machine.step(self._decode(codes[-1])))
            found, step = np.unique(after, return_inverse=True)
            codes.append(found)
            steps.append(step.reshape(after.shape))
            total += len(found) * (world.modes if position + 1 < world.horizon else 1)
            if total > MAX_STATES:
                raise ValueError(
                    f"tests: more than {MAX_STATES:,} states after {position + 1} of {world.horizon} lines; take fewer "
                    "tests or registers, a smaller modulus, or shorter programs"
                )
        return codes, steps

    def _read_registers(self, name: str, value: Any) -> np.ndarray:
        """Registers ``(T, R)``, reduced."""
        values = _check.any_array(name, value)
        shape = (self.world.tests, self.world.registers)
        if values.shape != shape or values.dtype.kind not in "iu":
            raise ValueError(f"{name}: must be integers of shape {shape} (tests, registers), got {value!r}")
        return values % self.world.modulus

    def _weights(self) -> np.ndarray:
        world = self.world
        return (world.modulus ** np.arange(world.tests * world.registers)[::-1]).reshape(world.tests, world.registers)

    def _encode(self, registers: np.ndarray) -> np.ndarray:
        """Registers ``(..., T, R)`` as numbers ``(...)``."""
        return (registers * self._weights()).sum((-1, -2))

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        return codes[..., None, None] // self._weights() % self.world.modulus

    def __repr__(self) -> str:
        return f"<LineTable: S={self.num_states}, A={self.num_actions}, {self.num_classes} classes>"


def _say(registers: list[int]) -> str:
    return f"({', '.join(map(str, registers))})"
