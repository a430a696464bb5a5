"""An experiment for tests of the `ra3` command: three small parts that note when they run and can be made to fail."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import threadpoolctl

from experiments import style
from experiments.registry import Entry

VERSION = 1
ENTRY = Entry("fake", "Random walks, for tests", "fake_experiment")
# Set by tests, in the environment because parts may run in other processes.
LOG, FAIL, WAIT = "FAKE_EXPERIMENT_LOG", "FAKE_EXPERIMENT_FAIL", "FAKE_EXPERIMENT_WAIT"
# Seconds that a part takes; the log then has the parent of its process too, as "part:number".
SLOW = "FAKE_EXPERIMENT_SLOW"


@dataclass(frozen=True)
class Config:
    seed: int = 0
    walks: tuple[str, ...] = ("a", "b", "c")
    steps: int = 50
    picture: bool = False

    def __post_init__(self) -> None:
        if self.seed == 666:
            raise ValueError("seed: 666 is taken;\nchoose another")

    @staticmethod
    def preset(name: str) -> Config:
        return {"smoke": Config(), "quick": Config(steps=100), "full": Config(steps=500, picture=True)}[name]


def parts(config: Config) -> list[str]:
    return list(config.walks)


def run_part(config: Config, part: str, seed: np.random.SeedSequence, progress) -> dict:
    if LOG in os.environ:
        with open(os.environ[LOG], "a") as file:
            file.write(f"{part}:{os.getppid()}\n" if SLOW in os.environ else part + "\n")
    time.sleep(float(os.environ.get(SLOW, 0)))
    if os.environ.get(FAIL, "").startswith(part):
        if os.environ[FAIL] == part + " dies":
            os._exit(3)
        raise ZeroDivisionError(f"walk {part} fell over")
    while os.environ.get(WAIT) == part:
        time.sleep(0.05)
    progress(0.5)
    steps = np.random.default_rng(seed).normal(size=(config.steps, 8))
    # The product goes through BLAS, whose last digits depend on the number of threads.
    threads = max(pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas")
    return {
        "walk": np.cumsum(steps, 0),
        "product": steps @ steps.T,
        "end": steps.sum(),
        "threads": threads,
        "note": ("part", part),
    }


def figure(config: Config, data: dict, folder: Path) -> list[Path]:
    rows = [[part, values["end"], values["note"][0]] for part, values in data.items()]
    paths = style.write_table(folder, "fake_ends", ["part", "end", "note"], rows)
    if config.picture:
        picture, axes = style.subplots(width=style.COLUMN)
        for number, (part, values) in enumerate(data.items()):
            axes.plot(values["walk"][:, 0], label=part, markevery=10, **style.line(number))
        axes.legend()
        paths += style.save(picture, folder, "fake")
    return paths
