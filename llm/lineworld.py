"""LineWorld as text for a language model: tokenizer, programs as `Program`, tasks as prompts, verdicts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from llm.engine import InProcess
from llm.lines import Lines
from llm.program import Program, Thought, Thoughts
from ra3sim.envs.lineworld import LineProgram, LineTask, LineWorld


def tokenizer(world: LineWorld) -> PreTrainedTokenizerFast:
    """One token for each statement with its newline, skill, word, mode, number and sign; marks of beginning and end.

    >>> words = tokenizer(LineWorld.preset("tiny"))
    >>> words.tokenize("# w1.m0 w2.m0\\n# s2\\na += b\\n")
    ['#', ' w1', '.m0', ' w2', '.m0', '\\n', '#', ' s2', '\\n', 'a += b\\n']
    """
    # The longest first: a statement may be the beginning of another.
    words = sorted((text + "\n" for text in world.machine.statements), key=len, reverse=True)
    words += [f" s{k}" for k in range(world.skills)[::-1]] + [f" w{u}" for u in range(world.words)[::-1]]
    words += [f".m{m}" for m in range(world.modes)[::-1]] + [" f(", ", ", ") = (", ")", "#", "\n"]
    words += [str(n) for n in range(world.machine.modulus)[::-1]]
    vocabulary = {word: number for number, word in enumerate(["<unk>", "<s>", "</s>", *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("|".join(map(re.escape, words))), "isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
    )


class LineWorldText:
    """Programs of a LineWorld as token ids. A thought is a comment that names a skill, ``# s7``.

    Args:
        tests: show the tests in the prompt too, beside the requests.
    """

    def __init__(self, world: LineWorld, *, tests: bool = False) -> None:
        self.world, self.tests = world, tests
        self.tokenizer = tokenizer(world)
        self.lines = Lines(self.tokenizer)
        self.skills: list[Thought] = [self.lines.thought(f" s{k}") for k in range(world.skills)]
        self._of_thought = {thought: k for k, thought in enumerate(self.skills)}
        self._statements = np.array(
            [self.tokenizer.convert_tokens_to_ids(f"{text}\n") for text in world.machine.statements]
        )
        some = world.program(world.task_at(0))
        self._form = self.lines.program(self.code(some), self.prompt(some.task))
        self._places = np.flatnonzero(self._form.content)

    def prompt(self, task: LineTask) -> str:
        """The task as text: comment lines, the last one with the requests."""
        whole = self.world.prompt(task)
        return whole if self.tests else whole.splitlines(keepends=True)[-1]

    def code(self, program: LineProgram) -> str:
        """The statements of a program, one a line, without comments."""
        return "".join(self.world.machine.statements[line] + "\n" for line in program.lines)

    def program(self, program: LineProgram) -> Program:
        """As `Lines.program` makes it of `prompt` and `code`; the skills of its segments are in ``about``."""
        # All programs have the same form, and only statements and prompt differ.
        prompt, code = self.prompt(program.task), self.code(program)
        ids = self._form.ids.copy()
        ids[1 : self._form.cuts[0]] = self.tokenizer.backend_tokenizer.encode(prompt, add_special_tokens=False).ids
        ids[self._places] = self._statements[list(program.lines)]
        about = {"skills": list(program.skills), "requests": [list(pair) for pair in program.task.requests]}
        return replace(self._form, ids=ids, text=prompt + code, code_start=len(prompt), about=about)

    def programs(self, programs: Iterable[LineProgram]) -> list[Program]:
        return [self.program(program) for program in programs]

    def thoughts(self, comments: Sequence[int]) -> Thoughts:
        """Thoughts for the lines of a program from the skills named before its segments, -1 for none."""
        found: list[Any] = [None] * self.world.horizon
        for segment, skill in enumerate(comments):
            if skill >= 0:
                found[segment * self.world.length] = self.skills[skill]
        return tuple(found)

    def named(self, thought: Thought) -> int:
        """The skill that a thought names; -1 if it names none."""
        return self._of_thought.get(tuple(thought), -1)

    def pass_rate(
        self, module: Any, tasks: Sequence[LineTask], seed: int, *, temperature: float = 1.0, batch: int = 512
    ) -> np.ndarray:
        """Whether a program that the model writes for each task passes: float ``(n,)``, one sample a task."""
        passed = [
            self.world.verify(task, text).passed for task, text in self.written(module, tasks, seed, temperature, batch)
        ]
        return np.array(passed, float)

    def written(
        self, module: Any, tasks: Sequence[LineTask], seed: int, temperature: float = 1.0, batch: int = 512
    ) -> Iterable[tuple[LineTask, str]]:
        """Tasks, and the code with its comments that the model writes for each."""
        engine = InProcess(module)
        stop = np.zeros(module.config.vocab_size, bool)
        stop[self.tokenizer.eos_token_id] = True
        # A comment before every line, and the end.
        most = 4 * self.world.horizon + 1
        for first in range(0, len(tasks), batch):
            part = tasks[first : first + batch]
            prefixes = [
                [self.tokenizer.bos_token_id, *self.tokenizer.encode(self.prompt(task), add_special_tokens=False)]
                for task in part
            ]
            seeds = [np.random.SeedSequence([seed, first + k]) for k in range(len(part))]
            samples = engine.sample(prefixes, stop=stop, max_new_tokens=most, seeds=seeds, temperature=temperature)
            yield from zip(part, (self.tokenizer.decode(list(sample.ids)) for sample in samples), strict=True)
