"""LineWorld as a Gymnasium environment."""

from __future__ import annotations

from typing import Any

from ra3sim.envs.lineworld.tasks import LineTask
from ra3sim.envs.lineworld.world import SPLITS, LineWorld
from ra3sim.simulate import TabularEnv


class LineWorldEnv(TabularEnv):
    """Writing a program line by line: observations are states of `LineTable`, actions are lines.

    ``env.unwrapped.mdp`` is the MDP of the current task. ``info["prompt"]`` of `reset` is the task as text.

    Args:
        preset: the name of a preset, or a `LineWorld`.
        task: requests, the number of a task, or a `LineTask`, for every episode; or a split, "expert", "held out" or
            "all", from which the environment's own generator draws one at each reset. None: "expert".
        max_steps: truncate after so many lines; None: never.
        render_mode: None, or "ansi": the prompt, the program so far, the registers, and at the end the verdict.
        overrides: arguments of `LineWorld`, for a preset.

    Raises:
        ValueError: what `LineWorld`, its table or `TabularEnv` refuse, or arguments for a world that is made already.

    >>> env = LineWorldEnv("tiny", task=4, render_mode="ansi")
    >>> state, info = env.reset(seed=0)
    >>> print(info["prompt"].splitlines()[-1])
    # w1.m0 w1.m0
    >>> for line in env.world.program(env.task).lines:
    ...     state, reward, terminated, _, _ = env.step(line)
    >>> reward, terminated, env.render().splitlines()[-1]
    (1.0, True, 'passed')
    """

    def __init__(
        self,
        preset: str | LineWorld = "table",
        task: Any = None,
        max_steps: int | None = None,
        render_mode: str | None = None,
        **overrides: Any,
    ) -> None:
        if isinstance(preset, LineWorld):
            if overrides:
                raise ValueError(f"overrides: {sorted(overrides)} are for a preset; this world is made already")
            self.world = preset
        else:
            self.world = LineWorld.preset(preset, **overrides)
        self._choice = "expert" if task is None else task
        # Before the first reset a drawn task is the first of its split: the spaces need one, and it is any.
        self.task = self._read_task(self._choice, lambda count: 0)
        super().__init__(self._model(), max_steps, render_mode)
        self._lines: list[int] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Begin a program; ``options={"task": ...}``, anything that ``task`` can be, chooses for this episode.

        Raises:
            ValueError: there is no such task or split, or what `TabularEnv.reset` refuses.
        """
        choice = (options or {}).get("task")
        if seed is not None:
            super().reset(seed=seed)  # the task is drawn from the seeded generator, too
        task = self._read_task(self._choice if choice is None else choice, self.np_random.integers)
        if task != self.task:
            self.task = task
            self.mdp = self._model()
        self._lines = []
        state, info = super().reset(options=options)
        return state, {**info, "prompt": self.world.prompt(task)}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Write one line; errors as in `TabularEnv.step`."""
        result = super().step(action)
        self._lines.append(int(action))
        return result

    def render(self) -> str | None:
        """In render mode "ansi": prompt, program so far and registers; before the first reset an empty text."""
        if self.render_mode is None or self._state is None:
            return super().render()
        table = self.world.table()
        program = "".join(self.world.machine.statements[line] + "\n" for line in self._lines)
        registers = tuple(map(tuple, table.registers[self._state].tolist()))
        shown = self.world.prompt(self.task) + program + f"registers: {' '.join(map(str, registers))}"
        if not table.terminal[self._state]:
            return shown
        return shown + ("\npassed" if registers == self.task.outputs else "\nnot passed")

    def _model(self) -> Any:
        # Sparse, because an episode looks at a few rows only, and a new task means a new model.
        return self.world.table().mdp(self.task, sparse=True)

    def _read_task(self, choice: Any, draw: Any) -> LineTask:
        if isinstance(choice, LineTask):
            return choice
        if isinstance(choice, str):
            if choice not in SPLITS:
                splits = ", ".join(map(repr, SPLITS))
                raise ValueError(f"task: there is no split {choice!r}; give one of {splits}, requests, or a number")
            indices = self.world.split(choice)
            return self.world.task_at(indices[int(draw(len(indices)))])
        return self.world.task_at(choice) if hasattr(choice, "__index__") else self.world.task(choice)
