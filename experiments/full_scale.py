"""Estimates of what the settings at the paper's scale cost, and those of docs/full-scale.md made anew.

    ra3 estimate --config experiments/configs/midtrain-paper-llama-3.2-1b.toml --gpus 8 --gpu h100
    python -m experiments.full_scale     # writes all estimates of docs/full-scale.md again

In the page an estimate stands between ``<!-- estimate: FILE GPUS GPU -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from llm.config import MidtrainConfig
from llm.options import read_options
from llm.rlvr_config import RLVRConfig

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "full-scale.md"
RATES = (ROOT / "paper_figs" / "gpu.csv", ROOT / "paper_figs" / "cpu.csv")


def config_of(path: Path) -> MidtrainConfig | RLVRConfig:
    """The settings in a file, of whichever kind of run.

    Raises:
        ValueError, FileNotFoundError: naming what is wrong with it.
    """
    found = read_options(path)
    kind: type = RLVRConfig if "problems" in found else MidtrainConfig
    found = read_options(path, kind)
    if missing := {"model", "problems" if kind is RLVRConfig else "corpus"} - found.keys():
        raise ValueError(f"config: {path} does not set {', '.join(sorted(missing))}; an estimate needs it")
    return kind(out=Path("run"), **{name: tuple(one) if isinstance(one, list) else one for name, one in found.items()})


def read_rates(paths: Sequence[Path] = RATES) -> list[Mapping[str, str]]:
    """Rows of the tables that `experiments.gpu` wrote, of those that are there."""
    found: list[Mapping[str, str]] = []
    for path in paths:
        if path.is_file():
            with open(path, newline="", encoding="utf-8") as file:
                found += csv.DictReader(file)
    return found


def estimate(path: Path, gpus: int, gpu: str, rates: Sequence[Mapping[str, str]]) -> str:
    """The estimate of a file of settings, as Markdown.

    Raises:
        ValueError, FileNotFoundError: naming what is wrong.
    """
    from llm.cost import DEVICES
    from llm.estimate import Assumed, lines

    return "\n".join(lines(config_of(path), gpus, DEVICES[gpu], Assumed(), rates))


def refreshed(text: str, rates: Sequence[Mapping[str, str]]) -> str:
    """A page with all its estimates made anew."""

    def anew(found: re.Match[str]) -> str:
        name, gpus, gpu = found[1].split()
        return f"<!-- estimate: {found[1]} -->\n{estimate(ROOT / name, int(gpus), gpu, rates)}\n<!-- end -->"

    return re.sub(r"<!-- estimate: ([^>]*?) -->\n.*?<!-- end -->", anew, text, flags=re.DOTALL)


def main() -> int:
    from ra3sim import _store

    _store.write_text(PAGE, refreshed(PAGE.read_text(encoding="utf-8"), read_rates()))
    print(f"results: {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
