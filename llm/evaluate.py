"""pass@k of any model over any problems, in a folder that any interruption leaves whole.

    evaluate(EvaluateConfig(model="smollm2", problems="humaneval", samples=2, out=Path("runs/smollm2-humaneval")))

The folder is that of `llm.runs`, and holds

    samples.jsonl   completions: problem, number, text, ids, how it ended, tokens of the prompt, a share of the seconds
    verdicts.jsonl  what the judge says of each, as it is (raw) and sanitised (`llm.problems.problem.SANITISED`)
    results.json    pass@k with intervals, by problem, outcomes, costs, how the benchmark asks (`llm.scores`)

What is drawn depends on the seed, the problem and the number of the sample. Completions are drawn in batches that are
the same in every run of the same choices, so that an interrupted evaluation ends as one that was not.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import torch

from llm import models, runs, scores
from llm.evaluate_config import EvaluateConfig
from llm.experts import weights_digest
from llm.journal import Journal
from llm.midtrain import Silent, Watcher
from llm.problems import Judge, Prepared, Problem, load
from llm.problems.lineworld import BENCHMARKS as LINEWORLDS
from llm.runs import RunFolder, RunStopped, writing
from llm.sampling import Request, Sampling, Writer
from ra3sim import _store

SAMPLES, VERDICTS = "samples.jsonl", "verdicts.jsonl"

# Choices that may change from one start to the next: what is stored serves any k.
FREE = runs.FREE | {"k"}

# A completion: the number of its problem, and its own among those of the problem.
Key = tuple[int, int]


def evaluate(config: EvaluateConfig, watcher: Watcher | None = None) -> dict[str, Any]:
    """Run to the end, or go on to it; the results, as in results.json.

    Raises:
        ValueError, FileNotFoundError: what is asked for can't be done.
        RunStopped: a full disk, or programs that the sandbox could not judge; what is finished is kept.
    """
    watcher = Silent() if watcher is None else watcher
    with prepared(config, watcher.say) as run:
        return run.go(watcher)


@contextlib.contextmanager
def prepared(config: EvaluateConfig, say: Callable[[str], None]) -> Iterator[Run]:
    """Read and check all that an evaluation needs, and run reference solutions that have not been run here.

    Raises:
        ValueError, FileNotFoundError, RunStopped: as `evaluate`.
    """
    folder = RunFolder(config.out, config, FREE)
    folder.check()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    problems, malformed = load(
        config.problems, limit=config.limit, seed=config.seed, strip=config.strip_prompt, examples=config.examples
    )
    for one in malformed:
        say(f"no problem: {one}")
    with Judge(config.jobs, config.isolation) as judge:
        ready = judge.prepare(problems, _telling(say))
        for one in ready.broken:
            say(f"left out: {one}")
        if not ready.problems:
            raise ValueError(f"problems: none of {config.problems} can be used; the first: {ready.broken[0]}")
        about = scores.About(
            digest=_digest(problems, ready),
            asked=ready.problems[0].about(),
            malformed=[str(one) for one in malformed],
            left_out=[str(one) for one in ready.broken],
        )
        yield Run(config, folder, ready.problems, about, judge)


def _telling(say: Callable[[str], None]) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        if done in (0, total):
            say(f"reference solutions, once on this machine: {done} of {total}")

    return tell


def _digest(problems: Sequence[Problem], prepared: Prepared) -> str:
    """Of the problems as they were read."""
    names = {problem.name for problem in prepared.problems}
    found = "".join(problem.digest() for problem in problems if problem.name in names)
    return hashlib.blake2b(found.encode(), digest_size=16).hexdigest()


class Run:
    """An evaluation that is ready to go."""

    def __init__(
        self, config: EvaluateConfig, folder: RunFolder, problems: list[Problem], about: scores.About, judge: Judge
    ) -> None:
        self.config, self.folder, self.problems = config, folder, problems
        self.about, self.judge = about, judge
        self.sampling = Sampling(config.max_tokens, config.temperature, config.top_p)
        self.numbers = {problem.name: number for number, problem in enumerate(self.problems)}
        self.unjudged = 0

    @property
    def total(self) -> int:
        """Completions, those that are there among them."""
        return len(self.problems) * self.config.samples

    def go(self, watcher: Watcher) -> dict[str, Any]:
        """To the end; the results. Of a finished run they are computed anew: k may have changed.

        Raises:
            ValueError, FileNotFoundError, RunStopped: as `evaluate`.
        """
        config = self.config
        if self.folder.is_done:
            watcher.say(f"{config.out} is finished already")
            return self._results()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        path, own = model_path(config.model)
        module, tokenizer = models.load(path, dtype=getattr(torch, config.dtype), device=device)
        lineworld = config.problems.partition(":")[0] in LINEWORLDS
        auto: Literal["bos", "tokenizer"] = "bos" if own or lineworld else "tokenizer"
        writer = Writer(module, tokenizer, auto if config.begin == "auto" else config.begin)
        for problem in self.problems:
            writer.check(problem.name, problem.prompt, self.sampling)
        self.folder.begin(str(device), {"problems": self.about.digest, "model": weights_digest(module)})
        try:
            with (
                writing(config.out),
                Journal(config.out / SAMPLES) as samples,
                Journal(config.out / VERDICTS) as verdicts,
            ):
                self._loop(writer, samples, verdicts, watcher)
            if self.unjudged:
                raise RunStopped(
                    f"{config.out}: the sandbox could not judge {self.unjudged} programs; what is finished is kept. "
                    "Give the same command again"
                )
            results = self._results()
            with writing(config.out):
                _store.write_text(config.out / "done", f"{len(self.problems)} problems\n")
            return results
        finally:
            self.folder.close()

    def _loop(self, writer: Writer, samples: Journal, verdicts: Journal, watcher: Watcher) -> None:
        written = {self._key(one): one for one in samples.records}
        judged = {self._key(one) for one in verdicts.records}
        batches = self._batches(writer)
        if written:
            watcher.say(f"goes on: {len(written)} of {self.total} completions are there, {len(judged)} judged")
        pending: Future[None] | None = None
        done = 0
        # While one batch is judged, the next is drawn.
        with ThreadPoolExecutor(1) as background:
            for batch in batches:
                if any(key not in written for key in batch):
                    new = [one for one in self._drawn(writer, batch) if self._key(one) not in written]
                    samples.append(new)
                    written |= {self._key(one): one for one in new}
                if pending is not None:
                    pending.result()
                left = [written[key] for key in batch if key not in judged]
                pending = background.submit(self._judge, left, verdicts) if left else None
                done += len(batch)
                watcher.update(done, "completions")
            if pending is not None:
                pending.result()

    def _key(self, record: dict[str, Any]) -> Key:
        try:
            return self.numbers[record["problem"]], int(record["sample"])
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"out: {self.config.out} holds records of other problems; give another folder") from None

    def _batches(self, writer: Writer) -> list[list[Key]]:
        """Neighbours have prompts of like lengths, so that little is padding."""
        lengths = [len(writer.encode(problem.prompt)) for problem in self.problems]
        order = sorted(range(len(self.problems)), key=lambda number: (lengths[number], number))
        keys = [(number, sample) for number in order for sample in range(self.config.samples)]
        return [keys[first : first + self.config.batch] for first in range(0, len(keys), self.config.batch)]

    def _drawn(self, writer: Writer, batch: Sequence[Key]) -> list[dict[str, Any]]:
        requests = []
        for number, keys in groupby(batch, key=lambda key: key[0]):
            problem = self.problems[number]
            seeds = tuple(seed_of(self.config.seed, problem.name, sample) for _, sample in keys)
            requests.append(Request(problem.prompt, problem.stop, seeds))
        began = time.perf_counter()
        found = [one for some in writer.complete(requests, self.sampling) for one in some]
        seconds = (time.perf_counter() - began) / len(batch)
        return [
            {
                "problem": self.problems[number].name, "sample": sample, "text": one.text, "ended": one.ended,
                "prompt_tokens": len(writer.encode(self.problems[number].prompt)), "tokens": len(one.ids),
                "seconds": seconds, "ids": list(one.ids),
            }
            for (number, sample), one in zip(batch, found, strict=True)
        ]  # fmt: skip

    def _judge(self, records: Sequence[dict[str, Any]], verdicts: Journal) -> None:
        problems = [self.problems[self.numbers[one["problem"]]] for one in records]
        texts = [one["text"] for one in records]
        jobs = [
            (problem, problem.program(text, sanitise=sanitise))
            for sanitise in (False, True)
            for problem, text in zip(problems, texts, strict=True)
        ]
        found = self.judge.verdicts(jobs)
        pairs = list(zip(records, found[: len(records)], found[len(records) :], strict=True))
        sound = [(one, raw, sanitised) for one, raw, sanitised in pairs if raw.counts and sanitised.counts]
        self.unjudged += len(pairs) - len(sound)
        verdicts.append(
            {"problem": one["problem"], "sample": one["sample"], "raw": asdict(raw), "sanitised": asdict(sanitised)}
            for one, raw, sanitised in sound
        )

    def _results(self) -> dict[str, Any]:
        config = self.config
        found = scores.results(
            config.out, [problem.name for problem in self.problems], config.samples, config.k, config.seed, self.about
        )
        with writing(config.out):
            _store.write_text(config.out / scores.RESULTS, json.dumps(found, indent=1) + "\n")
        return found


def seed_of(seed: int, name: str, sample: int) -> list[int]:
    """Of one completion: whatever else is drawn, and however many problems there are, it stays the same."""
    return [seed, int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()), sample]


def model_path(name: str) -> tuple[Any, bool]:
    """What `models.load` takes, and whether it is a run's model.

    Raises:
        ValueError: a run that isn't finished.
    """
    if name == "smollm2":
        return models.smollm2_folder(), False
    path = Path(name)
    if (path / "model").is_dir():
        return path / "model", True
    if (path / "state").is_dir() and (path / "inputs.json").is_file():
        raise ValueError(f"model: the run in {path} has not finished; give its command again, then this one")
    # The model of a run by its own path.
    return name, path.name == "model" and (path.parent / "inputs.json").is_file()
