"""Model and expert programs of a mid-training run, as its configuration names them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from llm import corpus, models
from llm.config import MidtrainConfig
from llm.gains import line_log_likelihoods
from llm.lines import Lines
from llm.lineworld import LineWorldText
from llm.program import Program, Thoughts, assemble
from ra3sim.envs.lineworld import LineProgram, LineWorld

# Where nothing stands before a program, any comment before its first line gains much (10 nats with SmolLM2), just by
# telling that a program follows.
_PROMPT = '"""{path}"""\n\n\n'

Monitor = Callable[[Any], dict[str, float]]


@dataclass(frozen=True)
class Experts:
    """What a run begins with.

    Attributes:
        model, tokenizer: of transformers.
        lines: how the tokenizer cuts programs.
        programs: the experts'.
        intents: the thoughts that the experts had, by number, where they are known.
        monitor: measures a model on what is held out; None: nothing is.
        report: one line for people on what was read.
    """

    model: Any
    tokenizer: Any
    lines: Lines
    programs: list[Program]
    intents: dict[int, tuple[Thoughts, ...]]
    monitor: Monitor | None
    report: str

    def digests(self) -> dict[str, str]:
        """What tells these inputs from others: hashes of the programs ("corpus") and of the weights ("model")."""
        programs = hashlib.blake2b(digest_size=16)
        for program in self.programs:
            programs.update(program.ids.tobytes() + program.cuts.tobytes())
        return {"corpus": programs.hexdigest(), "model": weights_digest(self.model)}


def weights_digest(model: Any) -> str:
    """Hash of the weights of a transformers model, by name."""
    weights = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        weights.update(name.encode() + tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return weights.hexdigest()


def load(config: MidtrainConfig, max_thought: int) -> Experts:
    """Read model and programs.

    Args:
        max_thought: room is kept for thoughts of this many tokens before every line.

    Raises:
        ValueError, FileNotFoundError: naming what can't be had, and the remedy.
    """
    return _lineworld(config) if config.lineworld else _text(config, max_thought)


def _lineworld(config: MidtrainConfig) -> Experts:
    world = LineWorld.preset("text")
    text = LineWorldText(world)
    size = len(text.tokenizer)
    if config.model == "lineworld":
        model = models.tiny(size, seed=config.seed)
    else:
        model = models.load(_folder(config.model)).model
        if model.config.vocab_size != size:
            raise ValueError(
                f"model: {config.model} knows {model.config.vocab_size} tokens, LineWorld has {size}; give 'lineworld'"
                " or a model that was trained on it"
            )
    assert config.lineworld is not None
    drawn = _drawn(world, config.lineworld, config.lineworld_programs(), config.seed)
    programs = text.programs(drawn)
    # Experts write no comments: what they meant are their segments' skills. Pretraining programs say it themselves.
    expert = config.lineworld in ("lineworld", "lineworld-held-out")
    meant = [one.skills if expert else one.comments for one in drawn]
    intents: dict[int, tuple[Thoughts, ...]] = {}
    intents |= {number: (text.thoughts(skills),) for number, skills in enumerate(meant)}
    monitor = None
    if config.measured:
        tasks = world.held_out_tasks(config.measured, config.seed)
        monitor = lambda module: {"pass": float(text.pass_rate(module, tasks, config.seed).mean())}  # noqa: E731
    return Experts(
        model, text.tokenizer, text.lines, programs, intents, monitor, f"{len(programs)} programs of a LineWorld"
    )


def _drawn(world: LineWorld, name: str, count: int, seed: int) -> list[LineProgram]:
    if name == "lineworld":
        return world.expert(count, seed)
    if name == "lineworld-held-out":
        return [world.program(task) for task in world.held_out_tasks(count, seed)]
    return world.pretraining(count, seed, "both" if name == "lineworld-wrong" else "random")


def _text(config: MidtrainConfig, max_thought: int) -> Experts:
    stream = partial(
        corpus.documents, config.corpus, min_lines=config.min_lines, max_lines=config.max_lines,
        comments=config.comments,
    )  # fmt: skip
    next(iter(stream()))  # a corpus that isn't there is told before the model is read
    loaded = models.load(_folder(config.model))
    if loaded.tokenizer is None:
        raise ValueError(f"model: {config.model} holds no tokenizer; save one with it")
    lines = Lines(loaded.tokenizer, max_tokens=config.program_tokens)
    longest = loaded.model.config.max_position_embeddings
    left_out: Counter[str] = Counter()

    def fit(documents: Iterable[corpus.Document]) -> list[Program]:
        found = []
        for document in documents:
            try:
                prompt = document.prompt or _PROMPT.format(path=document.about["path"])
                program = lines.program(document.text, prompt, document.name, document.about)
            except ValueError as error:
                long = "max_tokens" in str(error)
                left_out[f"longer than {config.program_tokens} tokens" if long else "not for this tokenizer"] += 1
                continue
            if _longest(program, max_thought) > longest:
                left_out[f"with thoughts perhaps longer than the model's {longest} tokens"] += 1
            else:
                found.append(program)
        return found

    side = partial(corpus.split, held_out=config.held_out, seed=config.seed)
    programs = fit(corpus.sample(side(stream(), side="train"), config.programs, config.seed))
    report = f"{len(programs)} programs" + "".join(f", {count} left out: {why}" for why, count in left_out.items())
    if not programs:
        raise ValueError(f"corpus: no program of {config.corpus} fits ({report})")
    monitor = None
    if config.measured and config.held_out:
        measured = fit(corpus.sample(side(stream(), side="held_out"), config.measured, config.seed))
        monitor = partial(_held_out, measured, lines) if measured else None
        report += f"; {len(measured)} held out and measured"
    return Experts(loaded.model, loaded.tokenizer, lines, programs, {}, monitor, report)


def _folder(name: str) -> Any:
    return models.smollm2_folder() if name == "smollm2" else name


def _longest(program: Program, max_thought: int) -> int:
    """Tokens of the program if there were a longest thought wherever one may stand."""
    may = np.flatnonzero(program.marker >= 0)
    closers = sum(len(program.closer[t]) for t in may)
    return len(program.ids) + int(program.split[may].sum()) + closers + (1 + max_thought) * len(may)


def _held_out(programs: Sequence[Program], lines: Lines, module: Any) -> dict[str, float]:
    """Nats per token of the code of held-out programs, given that nobody thinks."""
    size = max(len(lines.closing), module.config.vocab_size)
    closing = torch.zeros(size, dtype=torch.bool, device=next(module.parameters()).device)
    rows = [assemble(program, [None] * len(program)) for program in programs]
    found = sum(values.sum() for values in line_log_likelihoods(module, rows, closing))
    return {"held_out_loss": -float(found) / sum(int(program.lengths.sum()) for program in programs)}
