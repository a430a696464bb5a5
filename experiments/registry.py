"""What can be reproduced, and the contract that every experiment meets.

To add an experiment: write one module, and add one line to `EXPERIMENTS` below. The module defines

``VERSION: int``
    Raise it when `run_part` changes what it computes: stored data of older versions are then computed again.

``Config``
    A frozen dataclass with a field ``seed: int = 0`` and plain fields (numbers, strings, None, tuples of these, nested
    frozen dataclasses), and a static method ``preset(name: str) -> Config`` for each of `PRESETS`:
    ``"smoke"`` takes seconds and exercises everything (tests run it), ``"full"`` makes the published figure;
    ``"quick"`` is ``"full"`` where that takes a minute or two, else as much of it (fewer seeds, fewer points).

``parts(config) -> list[str]``
    Names of the pieces of work, at least one, each name once ("taxi", "seed 3", ...). A part is the unit that is
    stored, resumed after an interruption and run in parallel; it needs nothing from other parts.

``run_part(config, part, seed, progress) -> dict[str, Any]``
    ``seed`` is a `numpy.random.SeedSequence` that depends on the experiment's name, ``config.seed`` and the part's name
    alone; ``np.random.default_rng(seed)`` or ``seed.spawn(n)``. ``progress(fraction)`` may be called with the
    fraction in [0, 1] of this part that is done. Returns names and values: NumPy arrays or scalars (no objects), or
    JSON-able metadata (str, int, float, bool, None, lists and dicts of these). Linear algebra runs on one thread, so
    that the numbers do not depend on the number of jobs. Do not print. A part may run in another process, or on
    another machine: no globals, and no files but those of the source, of caches and of models.

``figure(config, data, folder) -> list[Path]``
    Draws: writes pictures, csv files and tables into ``folder`` (it exists) and returns the paths of what it wrote. A
    pure function of its arguments. ``data[part][name]`` are the stored values, in the order of ``parts(config)``, read
    back from disk: arrays exactly as returned (NumPy scalars as 0-d arrays), metadata as JSON has it (tuples as lists).
    It runs inside `experiments.style.context()`; make figures with `experiments.style.subplots`, write them with
    `experiments.style.save`, csv files with `write_csv` and tables with `write_table`. Begin every file name with the
    experiment's name.

Bad configurations are refused with a ValueError in ``Config.__post_init__``: one line, naming the field and the remedy.

Run one from Python: ``runner.reproduce([runner.Plan(registry.load("convergence"), config)], out="somewhere")``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

PRESETS = ("smoke", "quick", "full")


@dataclass(frozen=True)
class Entry:
    """One line of the registry; the module is imported only when the experiment is used.

    ``long``: the full preset takes the better part of an hour or more, so it is made only when asked for by name.
    """

    name: str
    title: str
    module: str
    long: bool = False


_ENTRIES = (
    Entry(
        "convergence", "‖V_N − V*‖ for decision spaces of growing duration, and both bounds", "experiments.convergence"
    ),
    Entry("regret", "Regret in its three terms against the number of options kept", "experiments.regret"),
    Entry(
        "pruning", "Demonstrations that prune a decision space: measured, between both bounds", "experiments.pruning"
    ),
    Entry("tradeoff", "Macros of length τ: the total bound and the measured regret, best τ", "experiments.tradeoff"),
    Entry("variational", "The temporal bound: likelihood, ELBO, gap, limits, thinking", "experiments.variational"),
    Entry("tightness", "measured / bound of every statement: random, attacked, tight", "experiments.tightness"),
    Entry("em", "EM over latent options: E-steps against the exact answer, sweeps, planted options", "experiments.em"),
    Entry(
        "posttraining", "Learning after mid-training: granularity, pruning, n; both halves", "experiments.posttraining"
    ),
    Entry(
        "lineworld", "From demonstrations to options to learning in LineWorld: regret, split", "experiments.lineworld"
    ),
    Entry(
        "discovery",
        "Options of every discovery method: sweeps, pruning error, regret, pictures, claims",
        "experiments.discovery",
    ),
    Entry(
        "midtrain",
        "Mid-training of a transformer on LineWorld: methods against experts, what each ingredient does",
        "experiments.midtrain",
        long=True,
    ),
    Entry(
        "rlvr",
        "RLVR (GRPO) on LineWorld from every mid-trained checkpoint: learning curves, against NTP",
        "experiments.rlvr",
        long=True,
    ),
    Entry(
        "smollm2",
        "SmolLM2 on the standard library: what comments are worth, short runs of every E-step",
        "experiments.smollm2",
        long=True,
    ),
)

EXPERIMENTS: Mapping[str, Entry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})
"""All experiments by name, in the order in which they are made."""


@dataclass(frozen=True)
class Experiment:
    """A loaded experiment: the functions of its module (see the contract above)."""

    entry: Entry
    version: int
    config_class: Any
    parts: Callable[[Any], Sequence[str]]
    run_part: Callable[..., dict[str, Any]]
    figure: Callable[..., list[Path]]

    @property
    def name(self) -> str:
        return self.entry.name


def find(names: Sequence[str], registry: Mapping[str, Entry] = EXPERIMENTS) -> list[Entry]:
    """The entries of the given names, each once, in the given order; no name: all that are not long.

    Raises:
        ValueError: an unknown name; lists the known ones.
    """
    for name in names:
        if name not in registry:
            raise ValueError(f"no experiment {name!r}; known are: {', '.join(registry)}")
    names = names or [name for name, entry in registry.items() if not entry.long]
    return [registry[name] for name in dict.fromkeys(names)]


def load(experiment: str | Entry) -> Experiment:
    """Import an experiment and check that its module meets the contract.

    Raises:
        ValueError: an unknown name.
        TypeError: the module breaks the contract; says where.
    """
    entry = find([experiment])[0] if isinstance(experiment, str) else experiment
    module = importlib.import_module(entry.module)
    missing = [n for n in ("VERSION", "Config", "parts", "run_part", "figure") if not hasattr(module, n)]
    if missing:
        raise TypeError(f"{entry.module}: defines no {', '.join(missing)}; experiments/registry.py says what they are")
    config_class: Any = module.Config
    params = getattr(config_class, "__dataclass_params__", None)
    frozen = params is not None and params.frozen
    if not frozen or "seed" not in {f.name for f in fields(config_class)} or not hasattr(config_class, "preset"):
        raise TypeError(
            f"{entry.module}: Config must be a frozen dataclass with a field `seed` and a static method `preset`"
        )
    return Experiment(entry, module.VERSION, config_class, module.parts, module.run_part, module.figure)
