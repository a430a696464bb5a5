"""Plans of a sweep: every combination of seeds and of values of fields of one experiment's config."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Sequence
from dataclasses import replace

from experiments.fields import alternatives, with_value
from experiments.registry import Experiment
from experiments.runner import Plan


def plans(experiment: Experiment, preset: str, seeds: Sequence[int], settings: Sequence[str]) -> list[Plan]:
    """
    Args:
        experiment: of which.
        preset: where the config begins.
        seeds: of all random numbers; none: the preset's own.
        settings: ``field=value,value,...`` each; a value is JSON, or a string as it stands.

    Returns:
        The last field changes fastest, the seeds last of all.

    Raises:
        ValueError: a setting that cannot be read, or that the config refuses; names the field.
    """
    named = [setting.partition("=") for setting in settings]
    for setting, (name, sign, values) in zip(settings, named, strict=True):
        if not (name and sign and values):
            raise ValueError(f"set: field=value,value,... is wanted, got {setting!r}")
    names = [name for name, _, _ in named]
    if len(set(names)) < len(names):
        raise ValueError("set: each field once, with all its values")
    found = []
    start = experiment.config_class.preset(preset)
    for seed in dict.fromkeys(seeds or [start.seed]):
        for values in itertools.product(*(dict.fromkeys(alternatives(values)) for _, _, values in named)):
            config = replace(start, seed=seed)
            for name, value in zip(names, values, strict=True):
                config = with_value(config, name, value)
            words = ["--set", *(shlex.quote(f"{name}={value}") for name, value in zip(names, values, strict=True))]
            command = f"ra3 sweep {experiment.name} --preset {preset} --seeds {config.seed}"
            command = " ".join([command, *words]) if names else command
            found.append(Plan(experiment, config, command))
    return found
