"""Mid-training on two processes is that on one. Run under torchrun this file is the program of one of them."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tokenizers_made
import torch

from llm import distributed, models, records
from llm.config import MidtrainConfig
from llm.midtrain import Silent, midtrain, prepare

ROOT = Path(__file__).parents[1]
SMALL = {
    "corpus": "package:tomllib", "iterations": 2, "updates": 2, "batch": 3, "programs": 4, "estep_programs": 3,
    "program_tokens": 200, "measured": 4, "held_out": 0.3, "shown": 3, "rate": 1e-3, "seed": 1, "threads": 1,
}  # fmt: skip
# A random model hardly ever thinks of itself, and its thoughts gain nothing.
OFTEN = {"floor": 0.3, "floor_above": 0.0, "max_thought": 3, "annotations": 2, "min_gain": -0.01}
FEW = {"group": 2, "policy_updates": 2, "anchor": 0.1}
CASES = {
    "ntp": ("ntp", {}),
    "posterior": ("ra3-posterior", OFTEN | {"candidates": 3}),
    "copy": ("ra3-split", OFTEN | FEW | {"lora": 2}),
    "shared": ("ra3-split", OFTEN | FEW | {"policy": "shared", "reward": "step", "whether_after": 0}),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    words = tokenizers_made.gpt2()
    small = models.tiny(len(words), layers=1, width=32, heads=2, max_length=1024)
    return str(models.save(tmp_path_factory.mktemp("model") / "tiny", small, words))


def arguments(config):
    """As the command line takes them."""
    chosen = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    return [f"--{k.replace('_', '-')}={v}" for k, v in chosen.items() if v != defaults[k]]


def torchrun(*program):
    """Two processes."""
    env = {key: value for key, value in os.environ.items() if key not in ("WORLD_SIZE", "RANK", "LOCAL_RANK")}
    env |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *program]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    env["PYTHONPATH"] = str(ROOT)
    return subprocess.Popen(command, cwd=ROOT, env=env, **pipes)


def ended(process, timeout=300):
    """(exit status, what it said)."""
    try:
        _, said = process.communicate(timeout=timeout)
    finally:
        process.terminate()  # torchrun ends its processes then
    return process.returncode, said


def metrics(run):
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in one.items() if "second" not in name} for one in found]


def config_of(case, model, out):
    method, options = CASES[case]
    return MidtrainConfig(model=model, method=method, out=Path(out), **(SMALL | options))


@pytest.mark.slow
def test_two_processes_find_what_one_does(model, tmp_path):
    code, said = ended(torchrun(__file__, model, str(tmp_path)))
    assert code == 0, said[-3000:]
    for case in CASES:
        one = midtrain(config_of(case, model, tmp_path / "one" / case))
        assert_close(one, tmp_path / case)
        assert {path.name for path in tmp_path.joinpath(case).iterdir()} == {path.name for path in one.iterdir()}
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert "programs: an E-step sees 1, for 2 processes; give more, or start fewer" in found["refused"]
        # Who is not the main process says nothing.
        assert bool(found["said"]) == (rank == 0)


@pytest.mark.slow
def test_the_command_goes_on_after_an_interruption(model, tmp_path):
    one, two = (config_of("posterior", model, tmp_path / name) for name in ("one", "two"))
    midtrain(one)
    command = ["-m", "experiments.cli", "midtrain", *arguments(two)]
    process, until = torchrun(*command), time.monotonic() + 300
    while not (two.out / "state" / "iteration-000001").exists() and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    process.terminate()
    assert ended(process)[0] != 0 and not (two.out / "done").exists()
    code, said = ended(torchrun(*command))
    assert code == 0, said[-3000:]
    assert said.count("goes on after iteration") == 1
    assert_close(one.out, two.out)


def assert_close(one, two):
    """The same was measured, thought, and learnt."""
    assert len(metrics(one)) == len(metrics(two)) == 2
    for expected, found in zip(metrics(one), metrics(two), strict=True):
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            if name != "estep_tokens":  # padding counts, and smaller passes have less of it
                assert found[name] == pytest.approx(value, rel=1e-5, abs=1e-5), name
    for expected, found in zip(*(records.read(run / "thoughts.jsonl") for run in (one, two)), strict=True):
        assert found["text"] == expected["text"]
    trained = models.load(two / "model").model.state_dict()
    for name, weight in models.load(one / "model").model.state_dict().items():
        # Where a gradient is next to nothing Adam makes much of its rounding.
        difference = (trained[name] - weight).abs()
        assert difference.mean() < 1e-6 and difference.max() < 1e-4, name


def main(model, folder):
    """One of two processes."""
    said = []
    for case in CASES:
        run = prepare(config_of(case, model, Path(folder, case)), said.append)
        run.go(Silent())
    try:
        midtrain(dataclasses.replace(config_of("posterior", model, Path(folder, "few")), estep_programs=1))
    except ValueError as error:
        refused = str(error)
    rank = distributed.process().process_index
    Path(folder, f"{rank}.json").write_text(json.dumps({"said": said, "refused": refused}))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
