"""Subcommands on language models."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from experiments.commands.base import InputError, check_folders, fail, sayer
from experiments.progress import Ticker
from experiments.registry import Entry
from llm.config import MidtrainConfig
from llm.evaluate_config import EvaluateConfig
from llm.rlvr_config import RLVRConfig


@dataclass(frozen=True, kw_only=True)
class Midtrain(MidtrainConfig):
    """Mid-train a language model on expert programs with thoughts (RA3). The same command again continues the run.

    `--config FILE` reads options from a TOML file (experiments/configs); those that are given beside it count instead.
    """

    def run(self, registry: Mapping[str, Entry]) -> int:
        from transformers.utils import logging

        from llm import distributed, midtrain

        logging.disable_progress_bar()
        if code := train(lambda say: midtrain.prepare(self, say)):
            return code
        if distributed.is_main():
            print(f"results: {self.out}{os.sep} (the model in {self.out / 'model'}{os.sep})")
        return 0


@dataclass(frozen=True, kw_only=True)
class RLVR(RLVRConfig):
    """Train a model by reinforcement on problems that a verdict decides (GRPO). The same command again continues.

    `--config FILE` reads options from a TOML file (experiments/configs); those that are given beside it count instead.
    """

    def run(self, registry: Mapping[str, Entry]) -> int:
        from transformers.utils import logging

        from llm import distributed, rlvr, rlvr_inputs
        from llm.problems import Judge

        logging.disable_progress_bar()
        with Judge(self.jobs, self.isolation) as judge:
            code = train(lambda say: rlvr.prepare(self, say, lambda: rlvr_inputs.load(self, judge)))
        if code:
            return code
        if distributed.is_main():
            print(f"results: {self.out}{os.sep} (the model in {self.out / 'model'}{os.sep})")
        return 0


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run with the settings in a file would cost: memory of each GPU and time, with the arithmetic."""

    config: Path
    """TOML file of settings for `ra3 midtrain` or `ra3 rlvr`."""
    gpus: int = 8
    """How many GPUs share the run."""
    gpu: Literal["a100", "h100", "h200"] = "h100"
    """Which kind."""
    rates: tuple[Path, ...] = ()
    """Tables of measured rates that `python -m experiments.gpu` wrote (default: those in paper_figs/)."""

    def run(self, registry: Mapping[str, Entry]) -> int:
        from experiments import full_scale

        try:
            found = full_scale.estimate(
                self.config, self.gpus, self.gpu, full_scale.read_rates(self.rates or full_scale.RATES)
            )
        except (ValueError, FileNotFoundError) as error:
            raise InputError(str(error)) from None
        print(found)
        return 0


@dataclass(frozen=True, kw_only=True)
class Evaluate(EvaluateConfig):
    """Measure a model on programming problems: pass@k with intervals. The same command again continues.

    Programs that models write are run in the sandbox; reference solutions are run first, once on a machine.
    """

    def run(self, registry: Mapping[str, Entry]) -> int:
        from transformers.utils import logging

        from llm import evaluate, scores

        logging.disable_progress_bar()
        console = Console(stderr=True)
        try:
            say = sayer(console)
            with evaluate.prepared(self, say) as run, Ticker(run.total, console) as ticker:
                found = run.go(ticker)
        except (ValueError, FileNotFoundError) as error:
            raise InputError(str(error)) from None
        except evaluate.RunStopped as error:
            return fail(str(error), 1)
        print("\n".join(scores.lines(found)))
        print(f"results: {self.out}{os.sep}")
        return 0


@dataclass(frozen=True)
class References:
    """Check the tests of benchmarks: reference solutions must pass, mutants of them fail. Tables say which do not.

    An interrupted check goes on.
    """

    problems: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PROBLEMS [PROBLEMS ...]")]
    """As `ra3 evaluate --problems`."""
    out: Path = Path("paper_figs")
    """Folder for the tables problems-references, -exceptions and -mutants."""
    isolation: str = "full"
    """Level that the sandbox must have."""
    jobs: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """Programs at a time (default: one per core)."""
    runs: Path = Path("runs")
    """Folder of what was found so far."""

    def run(self, registry: Mapping[str, Entry]) -> int:
        from experiments import references
        from llm.problems import Judge
        from llm.runs import RunStopped

        if self.jobs is not None and self.jobs < 1:
            raise InputError(f"--jobs: at least 1, got {self.jobs}")
        check_folders({"--out": self.out, "--runs": self.runs})
        names = dict.fromkeys(self.problems)
        if not names:
            raise InputError("problems: give one benchmark or more")
        found = []
        try:
            with Judge(self.jobs, self.isolation) as judge, Ticker(len(names), Console(stderr=True)) as ticker:
                for place, name in enumerate(names):
                    tell = lambda share, label, place=place: ticker.update(place + share, label)  # noqa: E731
                    found.append(references.check(name, judge, self.runs / "references", tell))
        except (ValueError, FileNotFoundError) as error:
            raise InputError(str(error)) from None
        except RunStopped as error:
            return fail(str(error), 1)
        written = references.write(self.out, found)
        for one in found:
            print(f"{one.row[0]}: {one.row[3]} of {one.row[1]} reference solutions pass")
        print(f"results: {', '.join(str(path) for path in written)}")
        return 0


@dataclass(frozen=True)
class Compare:
    """Compare two evaluations of the same problems, problem by problem."""

    first: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FIRST")]
    """Folder of a finished `ra3 evaluate`."""
    second: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SECOND")]
    """Another, of another model."""
    seed: Annotated[int, tyro.conf.arg(metavar="INT")] = 0
    """Of the intervals."""

    def run(self, registry: Mapping[str, Entry]) -> int:
        from llm import scores

        try:
            found = scores.compare(self.first, self.second, self.seed)
        except (ValueError, FileNotFoundError) as error:
            raise InputError(str(error)) from None
        print("\n".join(scores.compared_lines(self.first, self.second, found)))
        return 0


@dataclass(frozen=True)
class ShowThoughts:
    """Show the thoughts that a run of `ra3 midtrain` found: beside each line κ, its log-likelihood, and their gains."""

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(name="run", metavar="RUN")]
    """Folder of the run, or a file like its thoughts.jsonl."""
    program: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: all)")] = None
    """Which program, counted from 1."""
    html: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Write one HTML file instead, which needs no network."""

    def run(self, registry: Mapping[str, Entry]) -> int:
        from llm import thoughts
        from ra3sim import _store

        try:
            found = list(enumerate(thoughts.load(self.run_folder), 1))
        except (ValueError, FileNotFoundError) as error:
            raise InputError(str(error)) from None
        if self.program is not None:
            if not 1 <= self.program <= len(found):
                raise InputError(f"--program: from 1 to {len(found)}, got {self.program}")
            found = [found[self.program - 1]]
        if self.html is None:
            thoughts.show(Console(), found)
            return 0
        try:
            _store.write_text(self.html, thoughts.page(found))
        except OSError as error:
            raise InputError(f"--html: {self.html} cannot be written ({error.strerror})") from None
        print(f"results: {self.html}")
        return 0


def train(prepare: Callable[[Callable[[str], None]], Any]) -> int:
    """Prepare a run (None: it is finished already) and go to its end under a ticker; the exit code."""
    from llm import distributed
    from llm.runs import RunStopped

    console = Console(stderr=True)
    try:
        run = prepare(sayer(console))
    except (ValueError, FileNotFoundError) as error:
        raise InputError(str(error)) from None
    if run:
        try:
            with Ticker(run.left, console) as ticker:
                run.go(ticker)
        except RunStopped as error:
            return fail(str(error), 1)
    distributed.part()
    return 0
