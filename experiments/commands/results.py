"""Subcommands that compute experiments, and those that show what came out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from experiments.commands.base import Computing, InputError, fail
from experiments.commands.runs import CleanRuns, CompareRuns, ListRuns
from experiments.registry import Entry, find, load


@dataclass(frozen=True)
class List:
    """Say what can be reproduced."""

    def run(self, registry: Mapping[str, Entry]) -> int:
        width = max(map(len, registry), default=0)
        for entry in registry.values():
            print(f"{entry.name:{width}}  {entry.title}{' (long: made only by name)' if entry.long else ''}")
        return 0


@dataclass(frozen=True)
class Reproduce(Computing):
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

    def run(self, registry: Mapping[str, Entry]) -> int:
        # Imported here, so that `ra3 list` and mistakes are answered at once.
        from experiments import runner

        try:
            entries = find(self.names, registry)
            plans = [self._plan(entry) for entry in entries]
        except ValueError as error:
            raise InputError(str(error)) from None
        with self.computing(self.out, self.seed) as options:
            written = runner.reproduce(plans, self.out, **options)
        print(f"results: {len(written)} files in {self.out}{os.sep} (data and manifests in {self.runs}{os.sep})")
        return 0

    def _plan(self, entry: Entry) -> Any:
        from experiments.runner import Plan

        experiment = load(entry)
        config = experiment.config_class.preset(self.preset)
        config = config if self.seed is None else replace(config, seed=self.seed)
        return Plan(experiment, config, f"ra3 reproduce {entry.name} --preset {self.preset} --seed {config.seed}")


@dataclass(frozen=True)
class Verify(Computing):
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

    def run(self, registry: Mapping[str, Entry]) -> int:
        from experiments import runner, tightness

        try:
            config = tightness.Config(tuple(dict.fromkeys(self.statements)), self.budget, self.seed)
        except ValueError as error:
            raise InputError(str(error)) from None
        plan = runner.Plan(load(registry["tightness"]), config)
        with self.computing(self.out, self.seed) as options:
            data = runner.compute(plan, **options)
        written = tightness.write(self.out, "verify-selected" if self.statements else "verify", config, data)
        tightness.show(data)
        print(f"results: {', '.join(str(path) for path in written)}")
        wrong = [name for name, found in data.items() if found["failures"]]
        if wrong:
            return fail(f"{len(wrong)} of {len(data)} statements fail: {', '.join(wrong)}", 1)
        return 0


@dataclass(frozen=True)
class Sweep(Computing):
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

    def run(self, registry: Mapping[str, Entry]) -> int:
        from experiments import runner, runs, sweep

        try:
            (entry,) = find([self.name], registry)
            plans = sweep.plans(load(entry), self.preset, self.seeds, self.settings)
        except ValueError as error:
            raise InputError(str(error)) from None
        with self.computing(self.runs, min(self.seeds, default=None)) as options:
            done = runner.sweep(plans, **options)
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
