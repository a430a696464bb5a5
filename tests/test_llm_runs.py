"""Mid-training from end to end: every method, interruptions of all kinds, bad input."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tokenizers_made
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from experiments import cli
from llm import models, records
from llm.config import Choices, MidtrainConfig
from llm.estep import METHODS
from llm.lineworld import tokenizer
from llm.midtrain import RunStopped, Silent, midtrain, prepare, settings
from llm.runs import FREE, RunFolder
from ra3sim.envs.lineworld import LineWorld

ROOT = Path(__file__).parents[1]
SMALL = {
    "iterations": 2, "updates": 2, "batch": 3, "programs": 4, "estep_programs": 3, "program_tokens": 200,
    "measured": 8, "shown": 2, "held_out": 0.3, "rate": 1e-2, "seed": 1,
}  # fmt: skip
# A random model hardly ever thinks of itself, and its thoughts gain nothing.
OFTEN = {"floor": 0.3, "floor_above": 0.0, "max_thought": 3, "annotations": 2}
FEW = {"group": 2, "policy_updates": 2}
MORE = {
    "ntp": {}, "oracle": {}, "blind": OFTEN | {"group": 2}, "ra3": OFTEN | FEW,
    "ra3-split": OFTEN | FEW | {"min_gain": -math.inf, "stratified": False},
    "brite": OFTEN | FEW, "ra3-posterior": OFTEN | {"candidates": 3, "min_gain": -1.0},
}  # fmt: skip


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    words = tokenizers_made.gpt2()
    small = models.tiny(len(words), layers=1, width=32, heads=2, max_length=1024)
    return str(models.save(tmp_path_factory.mktemp("model") / "tiny", small, words))


@pytest.fixture
def make(model, tmp_path):
    def make(method="ra3-posterior", out="run", **options):
        known = METHODS[method].knows
        more = {name: value for name, value in MORE.get(method, {}).items() if name in known}
        if method == "oracle":
            more |= {"model": "lineworld", "corpus": "lineworld:5"}
        given = {"model": model, "corpus": "package:tomllib", "method": method, "out": tmp_path / out}
        return MidtrainConfig(**(SMALL | given | more | options))

    return make


def weights(run: Path) -> dict[str, torch.Tensor]:
    return models.load(run / "model").model.state_dict()


def assert_same(one: Path, other: Path) -> None:
    """Bit by bit, and the same was measured."""
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, weights(other)[name]), name
    assert (one / "thoughts.jsonl").read_bytes() == (other / "thoughts.jsonl").read_bytes()
    assert metrics(one) == metrics(other)


def metrics(run: Path) -> list[dict]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in one.items() if "second" not in name} for one in found]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_from_end_to_end(method, make, tmp_path):
    options = {}
    if method == "given":
        example = midtrain(make("blind", "example", iterations=1, estep_programs=4, shown=4))
        options["thoughts"] = example / "thoughts.jsonl"
    run = midtrain(make(method, **options))
    names = {"config.json", "versions.json", "inputs.json", "metrics.jsonl", "thoughts.jsonl", "state", "model", "done"}
    assert {one.name for one in run.iterdir()} == names | {".lock"}
    found = metrics(run)
    assert [one["iteration"] for one in found] == [1, 2] and all(one["broken"] == 0 for one in found)
    assert all(np.isfinite(one["loss"]) for one in found)
    assert ("pass" if method == "oracle" else "held_out_loss") in found[0]
    assert all((one["thoughts"] > 0) == (method != "ntp") for one in found)
    shown = records.read(run / "thoughts.jsonl")
    assert len(shown) == 2 and all(one["iteration"] == 2 and one["sound"] for one in shown)
    assert any(one["thoughts"] for one in shown) == (method != "ntp")
    for one in shown:
        thinks = {t for t, line in enumerate(one["lines"]) if line["gain"] is not None}
        assert thinks == set(one["thoughts"])
        assert all(0 <= line["kappa"] <= 1 for line in one["lines"] if line["kappa"] is not None)
        if method == "brite":
            assert len(one["lines"]) == 1
    trained = AutoModelForCausalLM.from_pretrained(run / "model")
    assert trained.config.vocab_size == len(AutoTokenizer.from_pretrained(run / "model"))
    before = midtrain_start(make(method, **options))
    assert any(not torch.equal(tensor, before[name]) for name, tensor in trained.state_dict().items())


@pytest.mark.parametrize("options,tolerance", [
    ({"pack": True}, 1e-3), ({"checkpointing": True}, 1e-5), ({"max_tokens": 60}, 1e-3),
    ({"pack": True, "checkpointing": True, "max_tokens": 100, "dtype": "bfloat16"}, 3e-2),
], ids=lambda value: "-".join(value) if isinstance(value, dict) else "")  # fmt: skip
def test_how_the_m_step_computes_changes_nothing_but_the_rounding(options, tolerance, make):
    plain, other = (metrics(midtrain(make("ntp", out, **more))) for out, more in (("plain", {}), ("other", options)))
    for one, two in zip(plain, other, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=tolerance)
        assert one["held_out_loss"] == pytest.approx(two["held_out_loss"], rel=tolerance)
    assert ("bfloat16" not in options.values()) or plain[0]["loss"] != other[0]["loss"]


@pytest.mark.parametrize("method,more", [
    ("ra3", {"floor": 0.3}), ("ra3-posterior", {"threshold": 0.0, "stratified": False, "floor_above": 0.0}),
])  # fmt: skip
def test_a_run_on_an_engine_without_a_session(method, more, make):
    config = make(method, engine="in process", **more)
    found = metrics(midtrain(config))
    assert len(found) == 2 and all(one["think"] > 0.1 and one["estep_tokens"] > 0 for one in found)


@pytest.mark.parametrize("options,message", [
    ({"engine": "vllm", "method": "ra3", "floor_above": 0.0}, "engine: vllm is not installed; install it"),
    ({"engine": "in process"}, "threshold: rollouts on the engine 'in process' can't be resampled"),
    ({"engine": "in process", "threshold": 0.0, "stratified": True}, "stratified: the engine 'in process' takes False"),
    ({"engine": "in process", "method": "ra3", "floor_above": 0.5}, "floor_above: the engine 'in process' takes 0.0"),
    ({"engine": "in process", "method": "ra3", "temperature": 0.5}, "temperature: the engine 'in process' takes 1.0"),
])  # fmt: skip
def test_what_an_engine_cannot_do_is_told_at_once(options, message, make):
    if options["engine"] == "vllm" and importlib.util.find_spec("vllm"):
        pytest.skip("vllm is installed")
    with pytest.raises(ValueError, match=message):
        midtrain(make(**options))


def midtrain_start(config):
    if config.model == "lineworld":
        return models.tiny(len(tokenizer(LineWorld.preset("text"))), seed=config.seed).state_dict()
    return models.load(config.model).model.state_dict()


class Interrupted(Silent):
    """Stops the run at the n-th word of it."""

    def __init__(self, after, act=None):
        self.left, self.act = after, act

    def update(self, done, label):
        self.left -= 1
        if self.left == 0:
            if self.act is None:
                raise KeyboardInterrupt
            self.act()


@pytest.mark.parametrize(
    "method,options",
    [("ntp", {}), ("ra3", {}), ("ra3-split", {}), ("ra3-posterior", {"lora": 2}), ("ra3-posterior", {})],
    ids=["ntp", "shared", "copy", "lora", "posterior"],
)
def test_an_interrupted_run_arrives_at_the_same_weights(method, options, make):
    options = {"iterations": 3, "tensorboard": True} | options
    straight = midtrain(make(method, "straight", **options))
    config = make(method, "stopped", **options)
    # Early, in the middle of an E- or M-step, and after an iteration.
    for after in (1, 3, 4):
        with pytest.raises(KeyboardInterrupt):
            midtrain(config, Interrupted(after))
    stopped = midtrain(config)
    assert_same(straight, stopped)
    assert logged(straight) == logged(stopped)
    before = (stopped / "done").stat().st_mtime_ns
    said = []
    assert prepare(config, said.append) is None and said == [f"{stopped} is finished already"]
    assert midtrain(config) == stopped and (stopped / "done").stat().st_mtime_ns == before


def logged(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(run / "tensorboard"))
    log.Reload()
    names = [name for name in log.Tags()["scalars"] if "second" not in name]
    assert {"loss", "think", "gain"} <= set(names)
    found = {name: [(event.step, event.value) for event in log.Scalars(name)] for name in names}
    assert [step for step, _ in found["loss"]] == [1, 2, 3]
    return found


def test_the_record_is_written_anew(make):
    """A run that died between the state and the record of it loses no line and has none twice."""
    config = make(iterations=3)
    with pytest.raises(KeyboardInterrupt):
        midtrain(config, Interrupted(4))
    path = config.out / "metrics.jsonl"
    path.write_text(path.read_text() * 2 + '{"iteration": 7')
    (config.out / ".metrics-torn.jsonl").write_text("{")
    (config.out / "state" / ".iteration-torn").mkdir()
    run = midtrain(config)
    assert [one["iteration"] for one in metrics(run)] == [1, 2, 3]
    assert [one.name for one in run.glob(".*")] == [".lock"]
    assert [one.name for one in (run / "state").iterdir()] == ["iteration-000003"]


@pytest.mark.slow
def test_states_are_saved_as_often_as_asked_for(make):
    straight = midtrain(make("ra3", "straight", iterations=3, policy_updates=1))
    config = make("ra3", iterations=3, policy_updates=1, save_every=2)
    saved = []
    # E-step, update of the policy, M-step, and the record: after the third iteration's E-step, and after its record.
    for after in (9, 4):
        with pytest.raises(KeyboardInterrupt):
            midtrain(config, Interrupted(after))
        saved.append(([one.name for one in (config.out / "state").iterdir()], len(metrics(config.out))))
    assert saved == [(["iteration-000002"], 2), (["iteration-000003"], 3)]
    assert_same(straight, midtrain(config))
    with pytest.raises(KeyboardInterrupt):
        midtrain(make("ra3", "early", iterations=3, policy_updates=1, save_every=2), Interrupted(4))
    assert not (config.out.parent / "early" / "state").exists()


def arguments(config):
    found = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value != field.default and value is not False:
            name = "--" + field.name.replace("_", "-")
            found += [name] if value is True and not isinstance(field.default, type(None)) else [f"{name}={value}"]
    return found


def start(config):
    command = [sys.executable, "-m", "experiments.cli", "midtrain", *arguments(config)]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ra3-posterior", "ra3-split"])
def test_killed_at_any_moment(method, make):
    """SIGKILL at moments in the loop that are drawn; the start after them comes through."""
    straight = make(method, "straight", iterations=6, threads=1)
    process = start(straight)
    _, error = process.communicate()
    assert process.returncode == 0, error
    config = make(method, "killed", iterations=6, threads=1)
    record, rng = config.out / "metrics.jsonl", np.random.default_rng(time.time_ns())  # any moment will do
    for _ in range(2):
        done = len(metrics(config.out)) if record.exists() else 0
        process = start(config)
        # Not by the clock alone: it runs faster or slower as others use the machine.
        while process.poll() is None and (len(metrics(config.out)) if record.exists() else 0) <= done:
            time.sleep(0.005)
        time.sleep(0.2 * rng.random())
        process.kill()
        _, error = process.communicate()
        assert process.returncode == -signal.SIGKILL, error
    process = start(config)
    _, error = process.communicate()
    assert process.returncode == 0 and "goes on after iteration" in error, error
    assert_same(straight.out, config.out)


# What stops a run


def test_numbers_that_are_not_finite_stop_the_run(make, capsys):
    config = make("ntp", rate=1e30, clip=None, schedule="constant", warmup=0, updates=1, measured=0)
    code = cli.main(["midtrain", *arguments(config)])
    error = capsys.readouterr().err.splitlines()[-1]
    assert code == 1 and error.startswith("ra3: error: iteration 2: update 1: "), error
    assert "Try a lower rate" in error and "the state after iteration 1 is kept" in error
    assert [one.name for one in (config.out / "state").iterdir()] == ["iteration-000001"]
    assert len(metrics(config.out)) == 1 and not (config.out / "done").exists()


@pytest.mark.parametrize("place", ["M-step", "model"])
def test_a_full_disk_loses_nothing(place, make):
    straight = midtrain(make(out="straight"))
    config = make(out="full")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Files can't grow beyond some kilobytes: from the M-step of the second iteration on, or when the model is written.
    full = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))  # noqa: E731
    try:
        with pytest.raises(RunStopped, match=r"full: can't be written to \(.*MiB free\); .* is kept. Make room"):
            midtrain(config, Interrupted({"M-step": 5, "model": 6}[place], full))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    left = [one.name for one in (config.out / "state").iterdir()]
    assert left == [{"M-step": "iteration-000001", "model": "iteration-000002"}[place]]
    assert_same(straight, midtrain(config))


def test_an_error_of_the_code_is_not_made_a_message(make, monkeypatch):
    run = prepare(make("ntp"), print)
    monkeypatch.setattr(run.ra3.world, "fit", lambda *_: np.zeros(0).max())
    with pytest.raises(ValueError, match="zero-size array"):
        run.go(Silent())


# Bad input


def test_another_run_in_the_same_folder_is_refused(make, model):
    config = make()
    run = prepare(config, print)
    assert run is not None
    run.folder.close()
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        other = object.__new__(MidtrainConfig)
        vars(other).update(vars(config) | {field.name: f"not {value}"})
        folder = RunFolder(config.out, other)
        if field.name in FREE:
            folder.check()
        else:
            with pytest.raises(
                ValueError, match=rf"^{field.name}: the run in .* has .*; give another folder for --out"
            ):
                folder.check()
    with pytest.raises(ValueError, match=r"^rate: the run in"):
        midtrain(make(rate=0.5))


def test_the_folder_must_be_free(make, tmp_path):
    run = prepare(make(), print)
    with pytest.raises(ValueError, match=r"^out: another process is at work in"):
        prepare(make(), print)
    run.folder.close()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"^out: .* is a file; give a folder"):
        midtrain(make(out="file"))
    with pytest.raises(ValueError, match=r"^out: .*can't be written to"):
        midtrain(make(out="file/below"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"^out: .* holds something else than a run"):
        midtrain(make(out="other"))
    (tmp_path / "run" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"^out: .*config.json is damaged"):
        midtrain(make())


def test_other_inputs_are_refused(make, model, tmp_path):
    own = tmp_path / "own"
    loaded = models.load(model)
    models.save(own, *loaded)
    (tmp_path / "code.py").write_text("def one(a):\n    b = a\n    return b\n")
    config = make(model=str(own), corpus=str(tmp_path / "code.py"), held_out=0.0)
    with pytest.raises(KeyboardInterrupt):
        midtrain(config, Interrupted(3))
    models.save(own, models.tiny(loaded.model.config.vocab_size, layers=1, width=32, heads=2, seed=1), loaded.tokenizer)
    with pytest.raises(ValueError, match=r"^model: not the same as when the run in .* began"):
        midtrain(config)
    models.save(own, *models.load(model))
    (tmp_path / "code.py").write_text("def one(a):\n    b = a + 1\n    return b\n")
    with pytest.raises(ValueError, match=r"^corpus: not the same"):
        midtrain(config)


@pytest.mark.parametrize(
    "options",
    [
        {"iterations": 0}, {"updates": 0}, {"batch": 0}, {"programs": 0}, {"estep_programs": 0}, {"program_tokens": 1},
        {"min_lines": 0}, {"max_lines": 0}, {"measured": -1}, {"shown": -1}, {"seed": -1}, {"threads": 0},
        {"warmup": -1}, {"method": "magic"}, {"comments": "some"}, {"held_out": 1.0}, {"method": "given"},
        {"thoughts": Path("x")}, {"method": "oracle"}, {"corpus": "lineworld:many"}, {"model": "lineworld"},
    ],
    ids=str,
)  # fmt: skip
def test_bad_config(options):
    name = "thoughts" if options == {"method": "given"} else next(iter(options))
    with pytest.raises(ValueError, match=f"^{name}: "):
        MidtrainConfig(**({"model": "x", "corpus": "stdlib", "out": Path("y")} | options))


@pytest.mark.parametrize(
    "options",
    [
        {"rate": 0.0}, {"schedule": "step"}, {"weight_decay": -1.0}, {"clip": 0.0}, {"dtype": "float16"}, {"lora": -1},
        {"max_tokens": 0}, {"price": -1.0}, {"max_thought": 0}, {"reward": "mine"}, {"floor": 1.0}, {"lag": 2.0},
        {"candidates": 0}, {"threshold": -1.0}, {"annotations": 0}, {"temperature": 0.0}, {"prior": "no"},
        {"floor_above": 1.0}, {"group": 3}, {"credit": "joint"},
    ],
    ids=str,
)  # fmt: skip
def test_bad_choices(options, make):
    name = next(iter(options))
    with pytest.raises(ValueError, match=f"^{name}: "):
        settings(make(**options))


def test_what_is_not_there(make, model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^corpus: no package 'nope'"):
        midtrain(make(corpus="package:nope"))
    with pytest.raises(ValueError, match=r"^model: the folder .* holds no config.json"):
        midtrain(make(model=str(tmp_path)))
    models.save(tmp_path / "bare", models.load(model).model)
    with pytest.raises(ValueError, match=r"^model: .* holds no tokenizer"):
        midtrain(make(model=str(tmp_path / "bare")))
    with pytest.raises(ValueError, match=r"^model: .* knows \d+ tokens, LineWorld has \d+"):
        midtrain(make(corpus="lineworld:3"))
    with pytest.raises(
        ValueError, match=r"^corpus: no program of package:tomllib fits \(0 programs, 4 left out: longer"
    ):
        midtrain(make(program_tokens=10))
    with pytest.raises(ValueError, match=r"^corpus: .*with thoughts perhaps longer than the model's 1024 tokens"):
        midtrain(make(max_thought=1000))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "text,message",
    [
        ("", "is empty"), ("{", "line 1 of .* is no record"), ('{"name": "x"}', "line 1 of .* is no record"),
        ('{"name": "x", "thoughts": {"0": " a"}}', "1 records, none of a program of this corpus"),
        ('{"name": NAME, "thoughts": {"1000": " a"}}', "none may stand before line 1000 of tomllib"),
        ('{"name": NAME, "thoughts": {"-1": " a"}}', "none may stand before line -1 of tomllib"),
    ],
)  # fmt: skip
def test_bad_files_of_thoughts(text, message, make, tmp_path):
    if "NAME" in text:
        shown = records.read(midtrain(make("ntp", "first", iterations=1, estep_programs=4, shown=4)) / "thoughts.jsonl")
        text = text.replace("NAME", json.dumps(shown[0]["name"]))
    path = tmp_path / "thoughts.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"^thoughts: .*{message}"):
        midtrain(make("given", thoughts=path))
    with pytest.raises(FileNotFoundError, match=r"^thoughts: no file"):
        midtrain(make("given", thoughts=tmp_path / "nothing"))


def test_the_command_line(make, capsys, tmp_path):
    config = make("ra3", iterations=1)
    assert cli.main(["midtrain", *arguments(config)]) == 0
    output = capsys.readouterr()
    assert output.out == f"results: {config.out}{os.sep} (the model in {config.out / 'model'}{os.sep})\n"
    assert "1 of 1 parts, iteration 1: loss " in output.err
    assert cli.main(["midtrain", *arguments(config)]) == 0
    assert "is finished already" in capsys.readouterr().err
    for wrong, message in (
        (make("ra3", iterations=1, rate=0.5), "rate: the run in"),
        (make("ntp", "new", corpus="package:nope"), "corpus: no package 'nope'"),
        (make("ntp", "new", price=1.0), "price: means nothing to this method"),
    ):
        assert cli.main(["midtrain", *arguments(wrong)]) == 2
        output = capsys.readouterr()
        assert output.out == "" and output.err.startswith(f"ra3: error: {message}") and output.err.count("\n") == 1
    assert cli.main(["midtrain", *arguments(config), "--corpus=lineworld:x"]) == 2
    assert capsys.readouterr().err.startswith("ra3: error: corpus: 'lineworld:N' needs a number")


def test_every_choice_is_an_option_of_the_command(capsys):
    with pytest.raises(SystemExit):
        cli.main(["midtrain", "--help"])
    shown = capsys.readouterr().out
    for field in dataclasses.fields(Choices):
        assert "--" + field.name.replace("_", "-") in shown
