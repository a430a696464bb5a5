"""The `ra3` command. A subcommand is a frozen dataclass with ``run(registry) -> exit code``, listed in `COMMANDS`."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tyro

from experiments.commands import models, results
from experiments.commands.base import InputError, fail
from experiments.registry import EXPERIMENTS, Entry
from llm.config import MidtrainConfig
from llm.options import with_options
from llm.rlvr_config import RLVRConfig

COMMANDS: dict[str, Callable[..., Any]] = {
    "list": results.List,
    "reproduce": results.Reproduce,
    "verify": results.Verify,
    "sweep": results.Sweep,
    "runs": results.Runs,
    "claims": results.Claims,
    "report": results.Report,
    "midtrain": models.Midtrain,
    "thoughts": models.ShowThoughts,
    "rlvr": models.RLVR,
    "estimate": models.Estimate,
    "evaluate": models.Evaluate,
    "compare": models.Compare,
    "references": models.References,
}


def main(argv: Sequence[str] | None = None, registry: Mapping[str, Entry] = EXPERIMENTS) -> int:
    """Run the command line; returns its exit code: 0, 1 (something failed), 2 (bad input), 130 (interrupted)."""
    try:
        argv = sys.argv[1:] if argv is None else argv
        return _parse(_from_files(argv)).run(registry)
    except InputError as error:
        return fail(str(error), 2)
    except KeyboardInterrupt:
        return fail("interrupted; what is finished is kept, the same command goes on from there", 130)
    except BrokenPipeError:
        # The reader of our output (`| head`) has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        traceback.print_exc()
        return fail(f"{error or type(error).__name__}; what is finished is kept", 1)


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


if __name__ == "__main__":
    sys.exit(main())
