"""The E-step's rollouts on a language model: tokens, time, memory; SmolLM2-135M on the standard library."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from benchmarks.timing import Pair, Row, pair, table, versions
from llm import corpus, models
from llm.engine import Session, draw
from llm.estep import METHODS
from llm.gains import line_log_likelihoods
from llm.lines import Lines
from llm.mstep import TrainConfig
from llm.program import Program, assemble
from llm.rollouts import Proposals, TextRollouts
from llm.world import TextWorld, WorldConfig
from ra3sim.em import RA3, run_rollouts

SEED = 0


@dataclass(frozen=True)
class Size:
    """How much is done.

    Attributes:
        source: of the programs; programs, max_tokens: how many, and of how many tokens at most.
        group: rollouts of each; floor: under the probability of a thought; max_thought: most tokens of one.
        batch, context, decoded: rows, tokens before and tokens drawn where decoding is timed; runs: how often.
        rows, tokens: of the session whose memory is measured, and of each of its passes.
        updates: of the M-step; candidates: of the posterior E-step.
    """

    source: str = "stdlib"
    programs: int = 4
    max_tokens: int = 80
    group: int = 8
    floor: float = 0.3
    max_thought: int = 8
    batch: int = 8
    context: int = 32
    decoded: int = 16
    runs: int = 3
    rows: int = 32
    tokens: int = 10
    updates: int = 2
    candidates: int = 4


class Work(NamedTuple):
    """A model, its tokenizer's lines, and programs."""

    module: Any
    lines: Lines
    programs: list[Program]
    folder: Path

    @property
    def closing(self) -> torch.Tensor:
        return torch.from_numpy(self.lines.closing)


def work(folder: Path, size: Size) -> Work:
    module, tokenizer = models.load(folder)
    lines = Lines(tokenizer, max_tokens=size.max_tokens)
    stream = corpus.documents(size.source, kinds=("function",), min_lines=4, max_lines=10, comments="strip")
    found = []
    for document in corpus.sample(stream, 20 * size.programs, SEED):
        try:
            found.append(lines.program(document.text, name=document.name))
        except ValueError:  # too long
            continue
    return Work(module, lines, found[: size.programs], folder)


def report(folder: Path, size: Size) -> Iterator[str]:
    """Lines of Markdown, each as soon as it is known."""
    given = work(folder, size)
    yield "| what | measured | target |"
    yield "|---|---:|---:|"
    ours, once, line_by_line = tokens(given, size)
    yield f"| tokens computed / tokens that must be computed once, padding included | **{ours / once:.3f}** | 1.05 |"
    yield f"| the same with a call of `generate` for every line (counted, not run) | {line_by_line / once:.1f} | |"
    measured, predicted = memory(given, size)
    yield (
        f"| peak memory / predicted, {measured / 2**20:.0f} / {predicted / 2**20:.0f} MB "
        f"| **{measured / predicted:.2f}** | 0.85 to 1.15 |"
    )
    for name, ratio in cost(given, size).items():
        yield f"| processor time of {name} / next-token prediction, same updates | {ratio:.1f} | |"
    yield ""
    yield from table(timings(given, size))
    yield ""
    yield (
        f"{size.programs} functions of `{size.source}`, {size.max_tokens} tokens at most, {size.group} rollouts of "
        f"each; thoughts of {size.max_thought} tokens at most before {size.floor:.0%} of the lines or more. Decoding: "
        f"{size.batch} rows, {size.context} tokens of context. Memory: {size.rows} rows, passes of {size.tokens} "
        f"tokens. float32, one core, {models.parameters(given.module) / 1e6:.0f} M weights. Times are the "
        f"processor's, targets other / ours of 1 / 1.2. {versions('torch', 'transformers')}. Made by `make bench`."
    )


def tokens(given: Work, size: Size) -> tuple[int, int, int]:
    """Tokens that the rollouts computed; that had to be, each once; and with a call of `generate` for every line.

    Such a call reads everything so far, and draws the thought, if there is one; the line's own likelihood would need
    one pass more, which is not counted.
    """
    rollouts = _rollouts(given, given.programs, size, size.floor)
    run_rollouts(rollouts)
    once = line_by_line = 0
    for b, thoughts in enumerate(rollouts.thoughts):
        program = given.programs[b // size.group]
        row = assemble(program, thoughts)
        shared = int(program.cuts[0] + program.split[0]) if b % size.group else 0
        once += len(row.ids) - shared
        for t, thought in enumerate(thoughts):
            line_by_line += int((row.line < t).sum()) + (0 if thought is None else len(thought) + 1)
    assert once == rollouts.counts.needed, (once, rollouts.counts)
    return rollouts.counts.computed, once, line_by_line


def _rollouts(given: Work, programs: Sequence[Program], size: Size, floor: float) -> TextRollouts:
    return TextRollouts(
        given.module, given.module, programs, range(len(programs)), size.group, given.closing,
        Proposals(size.max_thought), 0.0, np.random.SeedSequence(SEED), floor=floor,
    )  # fmt: skip


def timings(given: Work, size: Size) -> Iterator[Row]:
    yield Row("decode one token", "a session", "`generate`", _decoding(given, size), "0.83")
    silent = [replace(one, marker=np.full(len(one), -1), split=np.zeros_like(one.split)) for one in given.programs]
    # What stands before a decision is white space: without decisions it is part of the line.
    rows = [assemble(program, (None,) * len(program)) for program in silent for _ in range(size.group)]

    def append() -> Any:
        return run_rollouts(_rollouts(given, silent, size, 0.0))

    def forward() -> Any:
        return line_log_likelihoods(given.module, rows, given.closing)

    timed = pair(append, forward, size.runs, clock=time.process_time)
    yield Row("score the experts' lines", "appended one by one", "one pass", timed, "0.83")


def _decoding(given: Work, size: Size) -> Pair:
    """Seconds of the processor for one step of all rows; reading the context is not timed."""
    ids = np.resize(given.programs[0].ids, (size.batch, size.context))
    times = np.empty((size.runs + 1, 2))
    for run in range(size.runs + 1):
        times[run] = _step_seconds(given.module, ids, size.decoded), _generate_seconds(given.module, ids, size.decoded)
    return Pair(times[1:, 0], times[1:, 1])


def _step_seconds(module: Any, ids: np.ndarray, count: int) -> float:
    rows = np.arange(len(ids))
    session = Session(module, len(ids), ids.shape[1] + count)
    session.append(rows, ids, score=False)
    uniforms = np.random.default_rng(SEED).random((count, len(ids)))
    start = time.process_time()
    for uniform in uniforms:
        token, _ = draw(session.logits, uniform)
        session.append(rows, token.numpy()[:, None], score=False)
    return (time.process_time() - start) / count


class _Clock(StoppingCriteria):
    """Notes the time after each token, and never stops."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        self.times.append(time.process_time())
        return torch.zeros(len(input_ids), dtype=torch.bool)


def _generate_seconds(module: Any, ids: np.ndarray, count: int) -> float:
    clock, tokens = _Clock(), torch.from_numpy(ids)
    settings = GenerationConfig(do_sample=True, top_k=0, max_new_tokens=count + 1, pad_token_id=0)
    settings.eos_token_id = None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        module.generate(
            tokens, attention_mask=torch.ones_like(tokens), generation_config=settings,
            stopping_criteria=StoppingCriteriaList([clock]),
        )  # fmt: skip
    return float(np.diff(clock.times).mean())


def cost(given: Work, size: Size) -> dict[str, float]:
    """Time of one iteration of some methods as a multiple of next-token prediction's; M-steps are equal."""
    found = {}
    for name in ("ntp", "blind", "ra3", "ra3-posterior"):
        method, choices = METHODS[name], {}
        if name != "ntp":
            choices = {"max_thought": size.max_thought, "floor": size.floor, "floor_above": 0.0, "annotations": 1}
            choices |= {"candidates": size.candidates} if name == "ra3-posterior" else {"group": size.candidates}
        if name == "ra3":
            choices["policy_updates"] = 1
        method = method.choose(**choices)
        module = models.load(given.folder).model
        train = TrainConfig(rate=1e-6, batch=2)
        config = WorldConfig(
            updates=size.updates, programs=2, train=train, proposals=Proposals(**method.proposals),
            policy_train=train if method.policy_rate else None, **method.world,
        )  # fmt: skip
        loop = RA3(TextWorld(given.programs[:2], module, given.lines.closing, config), method.estep, SEED)
        state = loop.init()
        start = time.process_time()
        loop.step(state)
        found[name] = time.process_time() - start
    return {f"`{name}`": seconds / found["ntp"] for name, seconds in found.items() if name != "ntp"}


def memory(given: Work, size: Size) -> tuple[int, int]:
    """Largest resident memory of a process that fills a session, and what the formula says, bytes each.

    Weights, keys and values of all positions that there is room for, and 4 V bytes for each row and twice for each
    token of a pass (logits, and their exponentials); on top of what the process holds before a model is loaded.
    """
    positions = 8 * size.tokens
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        before, peak = pool.submit(_fill, given.folder, size.rows, size.tokens, positions).result()
    weights = sum(weight.nbytes for weight in given.module.parameters())
    keys_and_values = models.kv_bytes_per_token(given.module) * size.rows * positions
    logits = 4 * given.module.config.vocab_size * size.rows * (1 + 2 * size.tokens)
    return peak, before + weights + keys_and_values + logits


def _fill(folder: Path, rows: int, tokens: int, positions: int) -> tuple[int, int]:
    """Resident bytes before the model is there, and the most while a session is filled with scored passes."""
    torch.set_num_threads(1)
    before = _status("VmRSS")
    module = models.load(folder).model
    session, chunk = Session(module, rows, positions), np.zeros((rows, tokens), np.int64)
    # The peak of loading is forgotten (Linux).
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(positions // tokens):
        session.append(np.arange(rows), chunk)
    return before, _status("VmHWM")


def _status(name: str) -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    # By its own name: the process whose memory is measured must find what it is to run.
    from benchmarks import rollouts

    for line in rollouts.report(models.smollm2_folder(), rollouts.Size()):
        print(line, flush=True)
