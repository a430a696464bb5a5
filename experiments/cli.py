"""The `ra3` command. A subcommand is a frozen dataclass with ``run(registry) -> exit code``, listed in `COMMANDS`."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from experiments.progress import Ticker
from experiments.registry import EXPERIMENTS, Entry, find, load
from experiments.runs_command import CleanRuns, CompareRuns, ListRuns
from llm.config import MidtrainConfig
from llm.evaluate_config import EvaluateConfig
from llm.options import with_options
from llm.rlvr_config import RLVRConfig


class InputError(Exception):
    """What the user gave cannot be used; the message is one line that says what to do."""


@dataclass(frozen=True)
class List:
    """Say what can be reproduced."""

    def run(self, registry: Mapping[str, Entry]) -> int:
        width = max(map(len, registry), default=0)
        for entry in registry.values():
            print(f"{entry.name:{width}}  {entry.title}{' (long: made only by name)' if entry.long else ''}")
        return 0


@dataclass(frozen=True)
class Reproduce:
    """Compute and draw figures and tables. What is stored is not computed again; an interrupted run goes on."""

    names: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="[NAME ...]", help_behavior_hint="(default: all that are not long)"),
    ] = ()
    """What to reproduce; `ra3 list` says what there is."""
    preset: Literal["smoke", "quick", "full"] = "full"
    """smoke takes seconds and shows that everything runs; quick makes all in 10 minutes; full the published figures."""
    out: Path = Path("paper_figs")
    """Folder for pictures, tables, csv files and a manifest of each experiment."""
    seed: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """Seed of all random numbers (default: the preset's own)."""
    jobs: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """Number of processes; the results do not depend on it (default: one per core)."""
    runs: Path = Path("runs")
    """Folder of the stored data."""
    fresh: bool = False
    """Compute again what is stored."""
    address: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS", help_behavior_hint="")] = None
    """Compute by Ray, not in processes of this machine: local, auto, HOST:PORT or ray://HOST:PORT."""
    any_versions: bool = False
    """With --address: also on machines that have other versions; the results may then differ in the last digits."""

    def run(self, registry: Mapping[str, Entry]) -> int:
        # Imported here, so that `ra3 list` and mistakes are answered at once.
        from experiments import runner

        try:
            entries = find(self.names, registry)
            _check(self.jobs, self.seed, self.out, self.runs)
            cluster = _cluster(self.address, self.jobs, self.any_versions)
            plans = [self._plan(entry) for entry in entries]
        except ValueError as error:
            raise InputError(str(error)) from None
        with _one_line_if_refused():
            written = runner.reproduce(plans, self.out, self.runs, self.jobs or _cores(), self.fresh, cluster)
        print(f"results: {len(written)} files in {self.out}{os.sep} (data and manifests in {self.runs}{os.sep})")
        return 0

    def _plan(self, entry: Entry) -> Any:
        from experiments.runner import Plan

        experiment = load(entry)
        config = experiment.config_class.preset(self.preset)
        config = config if self.seed is None else replace(config, seed=self.seed)
        return Plan(experiment, config, f"ra3 reproduce {entry.name} --preset {self.preset} --seed {config.seed}")


@dataclass(frozen=True)
class Verify:
    """Check the statements of the theory: at random, exactly, on tight instances, and by a search for counterexamples.

    Ends with status 1 if a statement fails, or a search that cannot refute a statement known to be wrong. Verdicts on
    the very same code are not computed again; an interrupted run goes on.
    """

    statements: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="[STATEMENT ...]", help_behavior_hint="(default: all)"),
    ] = ()
    """Names of statements; an unknown one is answered by the list."""
    budget: Literal["small", "full"] = "full"
    """small takes under a minute on two cores, full under a quarter of an hour."""
    out: Path = Path("paper_figs")
    """Folder for the table (csv, Markdown, JSON) and the falsifier's best instances: verify.*, or verify-selected.*."""
    seed: Annotated[int, tyro.conf.arg(metavar="INT")] = 0
    """Seed of all random numbers."""
    jobs: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """Number of processes; the results do not depend on it (default: one per core)."""
    runs: Path = Path("runs")
    """Folder of the stored data."""
    fresh: bool = False
    """Check again what was checked."""
    address: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS", help_behavior_hint="")] = None
    """Compute by Ray, not in processes of this machine: local, auto, HOST:PORT or ray://HOST:PORT."""
    any_versions: bool = False
    """With --address: also on machines that have other versions; the results may then differ in the last digits."""

    def run(self, registry: Mapping[str, Entry]) -> int:
        from experiments import runner, tightness

        try:
            config = tightness.Config(tuple(dict.fromkeys(self.statements)), self.budget, self.seed)
        except ValueError as error:
            raise InputError(str(error)) from None
        _check(self.jobs, self.seed, self.out, self.runs)
        cluster = _cluster(self.address, self.jobs, self.any_versions)
        plan = runner.Plan(load(registry["tightness"]), config)
        with _one_line_if_refused():
            data = runner.compute(plan, self.runs, self.jobs or _cores(), self.fresh, cluster)
        written = tightness.write(self.out, "verify-selected" if self.statements else "verify", config, data)
        tightness.show(data)
        print(f"results: {', '.join(str(path) for path in written)}")
        wrong = [name for name, found in data.items() if found["failures"]]
        if wrong:
            return _fail(f"{len(wrong)} of {len(data)} statements fail: {', '.join(wrong)}", 1)
        return 0


@dataclass(frozen=True)
class Sweep:
    """Compute an experiment for every combination of seeds and values, and list the runs; nothing is drawn.

    What is stored is not computed again; an interrupted sweep goes on.
    """

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """What to compute; `ra3 list` says what there is."""
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(metavar="[INT ...]", help_behavior_hint="")] = ()
    """Seeds of all random numbers (default: the preset's own)."""
    settings: Annotated[
        tuple[str, ...], tyro.conf.arg(name="set", metavar="[FIELD=VALUE,VALUE ...]", help_behavior_hint="")
    ] = ()
    """Values of fields of the config: JSON, or words as they stand; a.b is field b of field a."""
    preset: Literal["smoke", "quick", "full"] = "full"
    """Of all other fields."""
    jobs: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """Number of processes; the results do not depend on it (default: one per core)."""
    runs: Path = Path("runs")
    """Folder of the stored data."""
    fresh: bool = False
    """Compute again what is stored."""
    address: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS", help_behavior_hint="")] = None
    """Compute by Ray, not in processes of this machine: local, auto, HOST:PORT or ray://HOST:PORT."""
    any_versions: bool = False
    """With --address: also on machines that have other versions; the results may then differ in the last digits."""

    def run(self, registry: Mapping[str, Entry]) -> int:
        from experiments import runner, runs, sweep

        try:
            (entry,) = find([self.name], registry)
            _check(self.jobs, min(self.seeds, default=None), self.runs, self.runs)
            cluster = _cluster(self.address, self.jobs, self.any_versions)
            plans = sweep.plans(load(entry), self.preset, self.seeds, self.settings)
        except ValueError as error:
            raise InputError(str(error)) from None
        with _one_line_if_refused():
            done = runner.sweep(plans, self.runs, self.jobs or _cores(), self.fresh, cluster)
        found = [runs.Stored(one.folder) for one in done]
        print("\n".join(runs.table(runs.COLUMNS, list(runs.rows(found, registry)))))
        print(f"results: {len(done)} run{'s' * (len(done) != 1)} in {self.runs}{os.sep}")
        return 0


@dataclass(frozen=True)
class Runs:
    """Say what is stored of runs, compare it, clean it up."""

    what: tyro.conf.OmitSubcommandPrefixes[
        tyro.conf.OmitArgPrefixes[
            Annotated[ListRuns, tyro.conf.subcommand("list")]
            | Annotated[CompareRuns, tyro.conf.subcommand("compare")]
            | Annotated[CleanRuns, tyro.conf.subcommand("clean")]
        ]
    ]

    def run(self, registry: Mapping[str, Entry]) -> int:
        try:
            return self.what.run(registry)
        except ValueError as error:
            raise InputError(str(error)) from None


@dataclass(frozen=True, kw_only=True)
class Midtrain(MidtrainConfig):
    """Mid-train a language model on expert programs with thoughts (RA3). The same command again continues the run.

    `--config FILE` reads options from a TOML file (experiments/configs); those that are given beside it count instead.
    """

    def run(self, registry: Mapping[str, Entry]) -> int:
        from transformers.utils import logging

        from llm import distributed, midtrain

        logging.disable_progress_bar()
        if code := _train(lambda say: midtrain.prepare(self, say)):
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
            code = _train(lambda say: rlvr.prepare(self, say, lambda: rlvr_inputs.load(self, judge)))
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
            say = _sayer(console)
            with evaluate.prepared(self, say) as run, Ticker(run.total, console) as ticker:
                found = run.go(ticker)
        except (ValueError, FileNotFoundError) as error:
            raise InputError(str(error)) from None
        except evaluate.RunStopped as error:
            return _fail(str(error), 1)
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

        _check(self.jobs, None, self.out, self.runs)
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
            return _fail(str(error), 1)
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


@dataclass(frozen=True)
class Claims:
    """Judge every claim of the paper and every statement of the theory from the results that are there.

    Computes nothing: what it judges is what `ra3 reproduce` and `ra3 verify` wrote.
    """

    figs: Path = Path("paper_figs")
    """Folder of the results; claims.csv and claims.md are written into it."""
    readme: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Write the table into this file too, between its marks (`<!-- claims: begin -->` and `end`)."""

    def run(self, registry: Mapping[str, Entry]) -> int:
        from experiments import claims

        try:
            written, found = claims.write(self.figs, self.readme)
        except (ValueError, FileNotFoundError) as error:
            raise InputError(str(error)) from None
        print(claims.count(found, "claims of the paper and statements of the theory"))
        print(f"results: {', '.join(str(path) for path in written)}")
        return 0


@dataclass(frozen=True)
class Report:
    """Make one HTML page of the results: claims, figures, verification, thoughts. It needs no network."""

    figs: Path = Path("paper_figs")
    """Folder of the results."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("build/report.html")
    """The page."""
    thoughts: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="")] = ()
    """Folders of `ra3 midtrain` whose thoughts the page shows too."""

    def run(self, registry: Mapping[str, Entry]) -> int:
        from experiments import report

        try:
            written = report.build(self.figs, self.out, self.thoughts)
        except (ValueError, FileNotFoundError) as error:
            raise InputError(str(error)) from None
        print(f"results: {written}")
        return 0


def _cluster(address: str | None, jobs: int | None, any_versions: bool) -> Any:
    """What the options name; None without an address."""
    from experiments.cluster import Cluster

    if address is None:
        if any_versions:
            raise InputError("--any-versions: goes with --address")
        return None
    try:
        return Cluster(address, jobs, any_versions)
    except ValueError as error:
        raise InputError(f"--{error}") from None


@contextlib.contextmanager
def _one_line_if_refused() -> Iterator[None]:
    """What Ray, or a machine of its cluster, refuses is the user's to mend."""
    from experiments.cluster import NotTheSame, Unreachable

    try:
        yield
    except Unreachable as error:
        raise InputError(f"--{error}") from None
    except NotTheSame as error:
        raise InputError(str(error)) from None


def _check(jobs: int | None, seed: int | None, out: Path, runs: Path) -> None:
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs: at least 1, got {jobs}")
    if seed is not None and seed < 0:
        raise InputError(f"--seed: at least 0, got {seed}")
    for option, folder in (("--out", out), ("--runs", runs)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{option}: {folder} cannot be made a folder ({error.strerror})") from None
        if not os.access(folder, os.W_OK):
            raise InputError(f"{option}: {folder} cannot be written to")


COMMANDS: dict[str, Callable[..., Any]] = {
    "list": List, "reproduce": Reproduce, "verify": Verify, "sweep": Sweep, "runs": Runs, "midtrain": Midtrain,
    "rlvr": RLVR, "estimate": Estimate,
    "thoughts": ShowThoughts, "evaluate": Evaluate, "compare": Compare,
    "references": References, "claims": Claims, "report": Report,
}  # fmt: skip


def main(argv: Sequence[str] | None = None, registry: Mapping[str, Entry] = EXPERIMENTS) -> int:
    """Run the command line; returns its exit code: 0, 1 (something failed), 2 (bad input), 130 (interrupted)."""
    try:
        argv = sys.argv[1:] if argv is None else argv
        return _parse(_from_files(argv)).run(registry)
    except InputError as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        return _fail("interrupted; what is finished is kept, the same command goes on from there", 130)
    except BrokenPipeError:
        # The reader of our output (`| head`) has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        traceback.print_exc()
        return _fail(f"{error or type(error).__name__}; what is finished is kept", 1)


def _from_files(argv: Sequence[str]) -> list[str]:
    """The command line, with the options of a `--config` file written out where the subcommand takes one."""
    kind = {"midtrain": MidtrainConfig, "rlvr": RLVRConfig}.get(next(iter(argv), ""))
    if kind is None:
        return list(argv)
    try:
        return [argv[0], *with_options(argv[1:], kind)]
    except (ValueError, FileNotFoundError) as error:
        raise InputError(str(error)) from None


def _parse(argv: Sequence[str]) -> Any:
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            return tyro.extras.subcommand_cli_from_dict(
                COMMANDS,
                prog="ra3",
                description="Check the statements of this project, and reproduce its figures and tables.",
                args=list(argv),
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise InputError(_one_line(shown.getvalue())) from None


def _one_line(box: str) -> str:
    """The message inside the box that tyro draws around it: everything up to its first inner rule.

    Where only ASCII can be written, the box is a title with a rule below it.
    """
    lines = [line.strip("│ ") for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    lines = lines if "╭" in box else lines[2:]
    rule = next((n for n, line in enumerate(lines) if re.fullmatch("[─-]+", line)), len(lines))
    message = " ".join(line for line in lines[:rule] if line)
    return re.sub(r"^Error parsing \w+: ", "", message) + " (ra3 --help says more)"


def _train(prepare: Callable[[Callable[[str], None]], Any]) -> int:
    """Prepare a run (None: it is finished already) and go to its end under a ticker; the exit code."""
    from llm import distributed
    from llm.runs import RunStopped

    console = Console(stderr=True)
    try:
        run = prepare(_sayer(console))
    except (ValueError, FileNotFoundError) as error:
        raise InputError(str(error)) from None
    if run:
        try:
            with Ticker(run.left, console) as ticker:
                run.go(ticker)
        except RunStopped as error:
            return _fail(str(error), 1)
    distributed.part()
    return 0


def _sayer(console: Console) -> Callable[[str], None]:
    """Prints lines for people, each as one line however long it is."""
    return partial(console.print, markup=False, highlight=False, soft_wrap=True)


def _fail(message: str, code: int) -> int:
    print(f"ra3: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main())
