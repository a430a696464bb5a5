"""Options of a run from a TOML file: names of fields of its configuration, with values.

The same for every kind of run; what is given on the command line beside ``--config FILE`` counts instead.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints


def read_options(path: Path, kind: type | None = None) -> dict[str, Any]:
    """Options from a TOML file.

    Args:
        kind: the dataclass whose fields they must be. None: any names.

    Raises:
        ValueError, FileNotFoundError: naming the file and what is wrong with it.
    """
    known = None if kind is None else {field.name for field in fields(kind)}
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"config: no file {path}") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"config: {path} can't be read ({' '.join(str(error).split())}); give a TOML file") from None
    for name, value in found.items():
        if known is not None and name not in known:
            raise ValueError(f"config: {path} sets {name!r}, which is no option; there are {', '.join(sorted(known))}")
        if isinstance(value, dict):
            raise ValueError(f"config: {path} has a table for {name!r}; give a value")
    return found


def with_options(argv: Sequence[str], kind: type) -> list[str]:
    """A command line with ``--config FILE`` replaced by the options in the file that it does not give itself.

    >>> from llm.config import MidtrainConfig
    >>> with_options(["--rate", "1e-3"], MidtrainConfig)
    ['--rate', '1e-3']

    Raises:
        ValueError, FileNotFoundError: as `read_options`, or ``--config`` twice, or without a file.
    """
    rest, files = [], []
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if name != "--config":
            rest.append(word)
        elif value := value if equals else next(words, ""):
            files.append(value)
        else:
            raise ValueError("config: give the file after --config")
    if len(files) > 1:
        raise ValueError("config: give one file, not several")
    given = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in rest if word.startswith("--")}
    found: list[str] = []
    for name, value in (read_options(Path(files[0]), kind) if files else {}).items():
        if name not in given:
            found += _words(name, value, kind)
    return [*found, *rest]


def _words(name: str, value: Any, kind: type) -> list[str]:
    """One option as the command line has it."""
    option = "--" + name.replace("_", "-")
    default = next(field.default for field in fields(kind) if field.name == name)
    if get_type_hints(kind)[name] is bool and isinstance(value, bool) and default is not MISSING:
        # A flag takes no value: it is there, or not.
        return [] if value == default else [option if value else option.replace("--", "--no-", 1)]
    if isinstance(value, list):
        return [option, *map(str, value)]
    # With "=", for a value may begin with a dash.
    return [f"{option}={value}"]
