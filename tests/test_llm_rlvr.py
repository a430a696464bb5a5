"""RLVR: rewards, TRL's log-probabilities against ours, interruptions of all kinds, bad input."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DistributedType
from transformers import AutoTokenizer

from experiments import cli
from experiments.commands.models import RLVR
from llm import models, passk, rlvr, rlvr_inputs, rlvr_trainer
from llm.engine import InProcess
from llm.midtrain import Silent
from llm.options import read_options
from llm.problems import Judge, Problem, load
from llm.problems.lineworld import LineWorldCheck, text_of
from llm.problems.problem import WHOLE
from llm.rlvr import RLVRConfig, RunStopped, prepare
from llm.rlvr_curve import measure
from llm.rlvr_inputs import Inputs, reader, written
from llm.runs import FREE, RunFolder
from llm.sandbox import Verdict

ROOT = Path(__file__).parents[1]
SMALL = {
    "problems": "lineworld:4", "held_out": "lineworld-held-out:3", "measured": 3, "samples": 2, "k": (1, 2), "steps": 6,
    "prompts": 3, "group": 4, "max_new_tokens": 12, "rate": 3e-4, "measure_every": 2, "save_every": 2, "seed": 1,
    "threads": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Knows half by heart the programs of the tasks that are trained on: some of its own pass, some don't."""
    problems, _ = load("lineworld:4", seed=1)
    tokenizer = text_of().tokenizer
    module = models.tiny(len(tokenizer), layers=1, width=32, heads=2, max_length=64, seed=0)
    words = reader(tokenizer, problems)
    rows = torch.tensor([words(one.prompt + one.reference)["input_ids"] + [words.eos_token_id] for one in problems])
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        module(rows, labels=rows).loss.backward()
        optimizer.step()
    return str(models.save(tmp_path_factory.mktemp("model") / "tiny", module, tokenizer))


@pytest.fixture
def make(model, tmp_path):
    def made(out="run", **options):
        return RLVRConfig(**({"model": model, "out": tmp_path / out} | SMALL | options))

    return made


def prepared(config, verdicts=None):
    """A run that is ready to go, and what it began with; `verdicts` in place of the judge's."""
    with Judge() as judge:
        inputs = rlvr_inputs.load(config, judge)
    if verdicts:
        inputs = dataclasses.replace(inputs, verdicts=verdicts)
    return prepare(config, lambda _: None, lambda: inputs), inputs


def records(run):
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in one.items() if "second" not in name} for one in found]


def assert_same(one, other):
    """The same was measured and learnt, to the last bit."""
    assert records(one) == records(other)
    first, second = (models.load(run / "model").model.state_dict() for run in (one, other))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


# From end to end


def test_a_run(make, model):
    config = make(steps=3)
    out = rlvr.rlvr(config)
    found = records(out)
    assert [one["step"] for one in found] == [0, 1, 2, 3]
    assert [("pass@1" in one, "pass@2" in one) for one in found] == [(True, True), (False, False)] + 2 * [(True, True)]
    assert all(0 <= one["pass@1"] <= one["pass@2"] <= 1 for one in found if "pass@1" in one)
    for one in found[1:]:
        assert 0 < one["reward"] < 1 and one["unjudged"] == 0 and one["rate"] == 3e-4
        assert one["all failed"] + one["all passed"] == pytest.approx(one["no spread"])
        assert 1 <= one["tokens"] <= 12
    before, after = models.load(model), models.load(out / "model")
    weights = after.model.state_dict()
    assert any(not torch.equal(weight, weights[name]) for name, weight in before.model.state_dict().items())
    # An ordinary folder: what TRL needs for padding is not in it.
    for one in ("config", "generation_config"):
        for token in ("pad_token_id", "eos_token_id", "bos_token_id"):
            assert getattr(getattr(after.model, one), token) == getattr(getattr(before.model, one), token)
    assert after.tokenizer.pad_token_id == before.tokenizer.pad_token_id
    assert AutoTokenizer.from_pretrained(out / "model").get_vocab() == before.tokenizer.get_vocab()
    assert {one.name for one in out.iterdir()} == {
        ".lock", "config.json", "versions.json", "inputs.json", "metrics.jsonl", "state", "model", "done",
    }  # fmt: skip


@pytest.mark.slow
def test_it_learns(make):
    """Reinforcement alone raises the reward. (Without updates it stays within .1 of .55 here.)"""
    out = rlvr.rlvr(make(rate=1e-3, steps=30, prompts=4, group=16, held_out=None))
    found = [one["reward"] for one in records(out)[1:]]
    assert np.mean(found[-10:]) > np.mean(found[:5]) + 0.15


def test_it_starts_from_a_run_and_goes_on_from_there(make):
    first = rlvr.rlvr(make("first", steps=1))
    second = rlvr.rlvr(make("second", steps=1, model=str(first)))
    assert records(second)[0]["pass@1"] == records(first)[-1]["pass@1"]


@pytest.mark.parametrize(
    "options",
    [
        {"minibatches": 3, "pass_size": 2}, {"passes": 2, "epsilon_high": 0.3}, {"loss": "dr_grpo", "scale": "none"},
        {"loss": "dapo", "scale": "batch", "mask_truncated": True, "max_new_tokens": 6}, {"kl": 0.1, "loss": "bnpo"},
        {"schedule": "cosine", "warmup": 1, "temperature": 1.5, "top_p": 0.9, "checkpointing": True},
        {"dtype": "bfloat16"},
    ],
    ids=str,
)  # fmt: skip
def test_every_choice_runs(options, make):
    found = records(rlvr.rlvr(make(steps=2, **options)))
    assert [one["step"] for one in found] == [0, 1, 2]
    assert ("kl" in found[1]) == ("kl" in options)
    assert found[1]["cut off"] > 0 or "max_new_tokens" not in options


# What is read, drawn and rewarded


def test_prompts_are_read_as_lineworld_reads_them(model):
    problems, _ = load("lineworld-held-out:5", seed=3)
    text = text_of()
    loaded = models.load(model)
    words = reader(loaded.tokenizer, problems)
    for problem in problems:
        plain = loaded.tokenizer.encode(problem.prompt, add_special_tokens=False)
        assert words(problem.prompt)["input_ids"] == [loaded.tokenizer.bos_token_id, *plain]
        program = text.program(text.world.program(problem.check.task))
        assert words(problem.prompt)["input_ids"] == program.ids[: program.cuts[0]].tolist()
    # Padding is on the left and takes no token away from the vocabulary.
    assert (
        words.padding_side == "left" and words.pad_token_id == words.eos_token_id and len(words) == len(text.tokenizer)
    )
    assert loaded.tokenizer.pad_token_id is None


def test_marks_within_a_completion_stay(model):
    """TRL's own decoding drops them, and a text with an unknown token in it would pass."""
    tokenizer = models.load(model).tokenizer
    (problem, *_), _ = load("lineworld:1", seed=1)
    ids = tokenizer.encode(problem.reference, add_special_tokens=False)
    end = tokenizer.eos_token_id
    assert written(tokenizer, ids, [end]) == written(tokenizer, [*ids, end], [end]) == problem.reference
    for mark in (tokenizer.unk_token_id, tokenizer.bos_token_id, end):
        broken = [*ids[:3], mark, *ids[3:], end]
        assert tokenizer.decode(broken, skip_special_tokens=True) == problem.reference
        assert not problem.check.verdict(problem.program(written(tokenizer, broken, [end]))).passed


def test_rewards_are_verdicts(make):
    """1 or 0; a sandbox error is None, and TRL gives it no advantage and leaves it out of the mean."""
    config = make(steps=1, rate=1e-9, held_out=None)
    faults = []

    def faulty(jobs):
        found = [problem.check.verdict(program) for problem, program in jobs]
        faults.extend(k for k in range(len(found)) if k % 4 == 0)
        return [Verdict("sandbox error") if k in faults else one for k, one in enumerate(found)]

    run, inputs = prepared(config, faulty)
    seen = {}

    class Seeing(rlvr_trainer.Trainer):
        def _generate_and_score_completions(self, asked):
            seen["out"] = super()._generate_and_score_completions(asked)
            seen["asked"] = asked
            return seen["out"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rlvr_trainer, "Trainer", Seeing)
        run.go(Silent())
    out, asked = seen["out"], seen["asked"]
    numbers = [one["number"] for one in asked]
    assert numbers == np.repeat(rlvr_trainer.order(4, config)[0], 4).tolist()
    ids = [row[mask.bool()].tolist() for row, mask in zip(out["completion_ids"], out["completion_mask"], strict=True)]
    verdicts = [
        inputs.problems[n].check.verdict(written(inputs.tokenizer, one, inputs.ends()))
        for n, one in zip(numbers, ids, strict=True)
    ]
    expected = np.array([np.nan if k in faults else float(one.passed) for k, one in enumerate(verdicts)]).reshape(3, 4)
    assert faults and np.nanstd(expected) > 0
    advantages = (expected - np.nanmean(expected, 1, keepdims=True)) / (
        np.nanstd(expected, 1, ddof=1, keepdims=True) + 1e-4
    )
    assert out["advantages"].numpy() == pytest.approx(np.nan_to_num(advantages).ravel(), abs=1e-5)
    record = records(config.out)[1]
    assert record["unjudged"] == 0.25 and record["reward"] == pytest.approx(np.nanmean(expected))
    assert record["all failed"] == pytest.approx((np.nanmax(expected, 1) == 0).mean())


def test_log_probabilities_agree_with_ours(make):
    """TRL's, of left-padded prompts of several lengths, with the end of the text, are those of the engine."""
    run, inputs = prepared(make())
    kept = [inputs.problems[0], dataclasses.replace(inputs.problems[1], prompt="# w1.m0\n")]
    inputs = Inputs(inputs.model, inputs.tokenizer, kept, [], inputs.verdicts)
    config = dataclasses.replace(run.config, prompts=2, temperature=0.7, held_out=None)
    with rlvr_trainer.own_randomness():
        trainer = rlvr_trainer.make(config, inputs, run.folder.state, [], [])
        prompts = [inputs.reader(problem.prompt)["input_ids"] for problem in kept]
        drawn = InProcess(inputs.model).sample(
            prompts, stop=np.arange(inputs.model.config.vocab_size) == inputs.ends()[0], max_new_tokens=12,
            seeds=[3, 4], temperature=0.7,
        )  # fmt: skip
        assert drawn[0].stop is not None
        completions = [[*one.ids, *([inputs.ends()[0]] if one.stop is not None else [])] for one in drawn]
        ours = [[*one.log_probs, *([one.stop] if one.stop is not None else [])] for one in drawn]
        width, length = max(map(len, prompts)), max(map(len, completions))
        assert len(prompts[0]) != len(prompts[1]) and len(completions[0]) > 1
        pad = inputs.reader.pad_token_id
        rows = [
            [pad] * (width - len(p)) + p + c + [pad] * (length - len(c))
            for p, c in zip(prompts, completions, strict=True)
        ]
        mask = [
            [0] * (width - len(p)) + [1] * (len(p) + len(c)) + [0] * (length - len(c))
            for p, c in zip(prompts, completions, strict=True)
        ]
        with torch.no_grad():
            theirs = trainer._get_per_token_logps_and_entropies(
                trainer.model, torch.tensor(rows), torch.tensor(mask), length
            )[0]
    run.folder.close()
    for row, expected in zip(theirs, ours, strict=True):
        assert row[: len(expected)].tolist() == pytest.approx(expected, abs=1e-4)


def test_completions_end_with_a_stop_sequence(make):
    config = make(steps=1, held_out=None)
    run, inputs = prepared(config)
    stop = text_of().world.machine.statements[0] + "\n"
    inputs = dataclasses.replace(inputs, problems=[dataclasses.replace(one, stop=(stop,)) for one in inputs.problems])
    run = dataclasses.replace(run, inputs=inputs)
    lengths = []

    class Seeing(rlvr_trainer.Reward):
        def of(self, numbers, completions):
            texts = [written(self.inputs.tokenizer, ids, self.ends) for ids in completions]
            # The stop sequence is learnt, what would have followed it is not.
            assert all(text.count(stop) <= 1 and (stop not in text or text.endswith(stop)) for text in texts)
            lengths.extend(text.endswith(stop) for text in texts)
            return super().of(numbers, completions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rlvr_trainer, "Reward", Seeing)
        run.go(Silent())
    assert any(lengths)
    with pytest.raises(ValueError, match=r"^mask_truncated: these problems end completions by stop sequences"):
        rlvr_trainer.stop_sequences(dataclasses.replace(config, mask_truncated=True), inputs)
    mixed = dataclasses.replace(inputs, problems=[inputs.problems[0], dataclasses.replace(inputs.problems[1], stop=())])
    with pytest.raises(ValueError, match=r"^problems: their stop sequences differ"):
        rlvr_trainer.stop_sequences(config, mixed)


def test_every_problem_has_its_turn():
    config = RLVRConfig(model="x", problems="y", out=Path("z"), steps=5, prompts=4, seed=3)
    found = rlvr_trainer.order(10, config)
    assert found.shape == (5, 4)
    assert sorted(found.ravel()[:10]) == sorted(found.ravel()[10:]) == list(range(10))
    assert (rlvr_trainer.order(10, config) == found).all()
    assert (rlvr_trainer.order(10, dataclasses.replace(config, seed=4)) != found).any()


def test_held_out_problems_are_measured_as_the_engine_draws(make):
    """pass@k from the very completions that the engine gives for these seeds, one at a time."""
    run, inputs = prepared(make(measured=3, samples=3, k=(1, 3)))
    run.folder.close()
    inputs = dataclasses.replace(inputs, held_out=inputs.problems[:3])
    found = measure(inputs.model, inputs, run.config)
    stop = np.arange(inputs.model.config.vocab_size) == inputs.tokenizer.eos_token_id
    counts = []
    for number, problem in enumerate(inputs.held_out):
        counts.append(0)
        for sample in range(3):
            (one,) = InProcess(inputs.model).sample(
                [inputs.reader(problem.prompt)["input_ids"]], stop=stop, max_new_tokens=12,
                seeds=[np.random.SeedSequence([1, number, sample])],
            )  # fmt: skip
            counts[-1] += problem.check.verdict(inputs.tokenizer.decode(one.ids)).passed
    assert 0 < sum(counts) < 9
    assert found == {f"pass@{k}": passk.pass_at_k([3] * 3, counts, k).mean() for k in (1, 3)}


def test_the_callers_randomness_is_left_alone(make):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    rlvr.rlvr(make(steps=1, held_out=None))
    assert torch.equal(torch.rand(3), expected)


# Interruptions


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
    "options",
    [
        {},
        # Completions are kept for several updates, which a state in the middle would lose.
        pytest.param({"minibatches": 3, "passes": 2, "pass_size": 2, "save_every": 1}, marks=pytest.mark.slow),
        pytest.param({"kl": 0.1, "schedule": "linear", "steps": 4}, marks=pytest.mark.slow),
    ],
    ids=["plain", "buffered", "kl"],
)
def test_an_interrupted_run_arrives_at_the_same_weights(options, make):
    straight = rlvr.rlvr(make("straight", **options))
    config = make("stopped", **options)
    # Before any state, after one, and in the middle of what is lost.
    for after in (2, 4, 2):
        with pytest.raises(KeyboardInterrupt):
            rlvr.rlvr(config, Interrupted(after))
    said = []
    run = prepare(config, said.append, lambda: rlvr_inputs.load(config, Judge()))
    assert any(line.startswith("goes on after step ") for line in said) and 0 < run.left < config.steps
    run.go(Silent())
    assert_same(straight, config.out)
    assert [one.name for one in (config.out / "state").iterdir()] == [f"step-{config.steps:06d}"]
    said = []
    assert prepare(config, said.append, None) is None and said == [f"{config.out} is finished already"]


def test_what_a_killed_process_left_is_swept_away(make):
    config = make()
    with pytest.raises(KeyboardInterrupt):
        rlvr.rlvr(config, Interrupted(4))
    (config.out / "metrics.jsonl").write_text('{"step": 7')
    half = config.out / "state" / ".saving" / "checkpoint-4"
    half.mkdir(parents=True)
    (half / "optimizer.pt").write_bytes(b"half")
    rlvr.rlvr(config)
    assert_same(rlvr.rlvr(make("straight")), config.out)
    assert [one.name for one in config.out.glob(".*")] == [".lock"]


def arguments(config):
    found = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value != field.default:
            shown = [str(one) for one in value] if isinstance(value, tuple) else [str(value)]
            found += ["--" + field.name.replace("_", "-"), *shown]
    return found


@pytest.mark.slow
def test_killed_at_any_moment(make):
    """SIGKILL at a moment that is drawn; a start that is left alone comes through, to the same weights."""
    many = {"steps": 30, "save_every": 1, "measure_every": 10}
    config, straight = make("killed", **many), rlvr.rlvr(make("straight", **many))
    command = [sys.executable, "-m", "experiments.cli", "rlvr", *arguments(config)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    rng = np.random.default_rng(time.time_ns())  # any moment will do
    process = subprocess.Popen(command, cwd=ROOT, env=env, **pipes)
    while process.poll() is None and len(list(config.out.glob("state/step-*[05]"))) == 0:
        time.sleep(0.005)
    time.sleep(0.5 * rng.random())
    process.kill()
    _, error = process.communicate()
    assert process.returncode == -signal.SIGKILL and list(config.out.glob("state/step-*")), error[-2000:]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "goes on after step " in done.stderr, done.stderr[-2000:]
    assert_same(straight, config.out)


@pytest.mark.slow
def test_two_processes_share_out_a_step(make):
    """Under torchrun, on CPUs: one model, one record, and what is measured is what one process measures."""
    config = make("two", steps=2, prompts=4)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    env = {name: value for name, value in os.environ.items() if name not in ("WORLD_SIZE", "RANK", "LOCAL_RANK")}
    env |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command += ["experiments.cli", "rlvr", *arguments(config)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("results: ") == 1 and done.stderr.count("problems: 4 of lineworld:4") == 1
    found = records(config.out)
    run, inputs = prepared(make("one", steps=2, prompts=4))
    run.folder.close()
    assert found[0] == {"step": 0} | measure(inputs.model, inputs, config)
    assert [one["step"] for one in found] == [0, 1, 2] and 0 < found[1]["reward"] < 1
    weights = models.load(config.out / "model").model
    trained = dataclasses.replace(inputs, model=weights)
    assert {name: found[2][name] for name in ("pass@1", "pass@2")} == measure(weights, trained, config)
    assert (config.out / "state" / "step-000002" / "rng_state_1.pth").is_file()


def test_a_full_disk_loses_nothing(make):
    config = make("full")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # noqa: E731
    try:
        with pytest.raises(
            RunStopped, match=r"full: can't be written to \(.*MiB free\); the state after step 2 is kept"
        ):
            rlvr.rlvr(config, Interrupted(5, full))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [one.name for one in (config.out / "state").glob("step-*")] == ["step-000002"]
    assert_same(rlvr.rlvr(make("straight")), rlvr.rlvr(config))


# What stops a run


def test_numbers_that_are_not_finite_stop_the_run(make, capsys):
    config = make(rate=1e30, kl=0.1, steps=4, save_every=1)
    assert cli.main(["rlvr", *arguments(config)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("ra3: error: step 2: ") and error.endswith("is no finite number; try a lower rate"), error
    assert [one.name for one in (config.out / "state").glob("step-*")] == ["step-000001"]


def test_a_sandbox_that_fails_stops_the_run(make):
    broken = lambda jobs: [Verdict("sandbox error") for _ in jobs]  # noqa: E731
    with pytest.raises(RunStopped, match=r"^held_out: the sandbox failed on 6 of 6 programs"):
        prepared(make("one"), broken)[0].go(Silent())
    with pytest.raises(RunStopped, match=r"^step 1: the sandbox could judge none of the programs"):
        prepared(make("two", held_out=None), broken)[0].go(Silent())


# Bad input


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0}, {"prompts": 0}, {"group": 1}, {"minibatches": 0}, {"minibatches": 5}, {"passes": 0},
        {"pass_size": 0}, {"pass_size": 5}, {"max_new_tokens": 0}, {"temperature": 0.0}, {"temperature": float("nan")},
        {"top_p": 0.0}, {"top_p": 1.1}, {"loss": "ppo"}, {"scale": "mine"}, {"epsilon": 1.0}, {"epsilon_high": 0.0},
        {"kl": -1.0}, {"rate": 0.0}, {"schedule": "step"}, {"warmup": -1}, {"weight_decay": -1.0}, {"clip": 0.0},
        {"dtype": "float16"}, {"measured": 0}, {"measure_every": 0}, {"samples": 0}, {"k": ()}, {"k": (0,)},
        {"k": (9,)}, {"measure_temperature": -1.0}, {"save_every": 0}, {"jobs": 0}, {"seed": -1}, {"threads": 0},
    ],
    ids=str,
)  # fmt: skip
def test_bad_config(options):
    name = next(iter(options)) if options != {"samples": 0} else "samples"
    with pytest.raises(ValueError, match=f"^{name}: "):
        RLVRConfig(**({"model": "x", "problems": "y", "out": Path("z")} | options))


def test_processes_share_out_evenly():
    config = RLVRConfig(model="x", problems="y", out=Path("z"), prompts=6, group=4, minibatches=2)
    assert [(config.passes_of(n), config.accumulated(n)) for n in (1, 2, 3)] == [(12, 1), (6, 1), (4, 1)]
    assert dataclasses.replace(config, pass_size=3).accumulated(2) == 2
    with pytest.raises(ValueError, match=r"^prompts: must be a multiple of the 4 processes"):
        config.accumulated(4)
    with pytest.raises(ValueError, match=r"^minibatches: an update of 3 completions can't be shared out among 2"):
        dataclasses.replace(config, minibatches=8).accumulated(2)


def test_what_is_not_there(make, tmp_path, model):
    for options, message in (
        ({"problems": "lineworld:0"}, "problems: lineworld has"),
        ({"held_out": "nothing:3"}, "held_out: there are none named 'nothing:3'"),
        ({"problems": f"jsonl:{tmp_path / 'no.jsonl'}"}, "problems: "),
        ({"model": str(tmp_path)}, "model: the folder .* holds no config.json"),
        ({"max_new_tokens": 64}, "max_new_tokens: the prompt of .* has 9 tokens, the model reads 64; give at most 55"),
        ({"model": "some.gguf", "kl": 0.1}, "kl: needs the first model a second time"),
        ({"vllm": "http://localhost:1"}, "vllm: is not installed here; `pip install vllm`"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=f"^{message}"):
            rlvr.rlvr(make(**options))
    assert not (tmp_path / "run").exists()
    models.save(tmp_path / "bare", models.load(model).model)
    with pytest.raises(ValueError, match=r"^model: .* holds no tokenizer"):
        rlvr.rlvr(make(model=str(tmp_path / "bare")))
    loaded = models.load(model)
    loaded.tokenizer.eos_token = None
    models.save(tmp_path / "endless", *loaded)
    with pytest.raises(ValueError, match=r"^model: its tokenizer has no token for the end of a text"):
        rlvr.rlvr(make(model=str(tmp_path / "endless")))
    stopped = make("unfinished")
    with pytest.raises(KeyboardInterrupt):
        rlvr.rlvr(stopped, Interrupted(2))
    with pytest.raises(ValueError, match=r"^model: the run in .* has no model yet"):
        rlvr.rlvr(make(model=str(stopped.out)))


def test_prompts_that_the_model_can_not_read(model):
    loaded = models.load(model)
    strange = Problem("strange", "jsonl", "Write a program.", check=LineWorldCheck("text", None), rule=WHOLE)
    inputs = Inputs(loaded.model, loaded.tokenizer, [strange], [], list)
    config = RLVRConfig(model="x", problems="y", out=Path("z"), max_new_tokens=8)
    with pytest.raises(ValueError, match=r"^problems: the model can't read the prompt of strange"):
        rlvr_inputs.check_lengths(config, inputs)


def test_another_run_in_the_same_folder_is_refused(make):
    config = make(steps=1)
    rlvr.rlvr(config)
    (config.out / "done").unlink()
    for field in dataclasses.fields(config):
        other = object.__new__(RLVRConfig)
        vars(other).update(vars(config) | {field.name: f"not {getattr(config, field.name)}"})
        folder = RunFolder(config.out, other)
        if field.name in FREE:
            folder.check()
        else:
            with pytest.raises(
                ValueError, match=rf"^{field.name}: the run in .* has .*; give another folder for --out"
            ):
                folder.check()


def test_a_damaged_state_is_named(make):
    config = make()
    with pytest.raises(KeyboardInterrupt):
        rlvr.rlvr(config, Interrupted(4))
    (state,) = (config.out / "state").glob("step-*")
    (state / "history.json").write_text("{")
    with pytest.raises(ValueError, match=r"^out: .*step-000002 is damaged \(.*\); remove it to start again"):
        rlvr.rlvr(config)
    (state / "history.json").write_text('{"step": 3, "history": []}')
    with pytest.raises(ValueError, match=r"^out: .*step-000002 is damaged \(it is not whole\)"):
        rlvr.rlvr(config)


# The command line


def test_the_command_line(make, capsys, tmp_path):
    config = make(steps=2)
    assert cli.main(["rlvr", *arguments(config)]) == 0
    output = capsys.readouterr()
    assert output.out == f"results: {config.out}{os.sep} (the model in {config.out / 'model'}{os.sep})\n"
    assert "2 of 2 parts, step 2: reward " in output.err and "problems: 4 of lineworld:4" in output.err
    assert cli.main(["rlvr", *arguments(config)]) == 0
    assert "is finished already" in capsys.readouterr().err
    for wrong, message in (
        (make(steps=2, rate=0.5), "rate: the run in"),
        (make("new", problems="nothing"), "problems: there are none named 'nothing'"),
    ):
        assert cli.main(["rlvr", *arguments(wrong)]) == 2
        output = capsys.readouterr()
        assert output.out == "" and output.err.startswith(f"ra3: error: {message}") and output.err.count("\n") == 1


def test_options_from_a_file(make, capsys, tmp_path):
    config = make(steps=2)
    path = tmp_path / "options.toml"
    path.write_text('prompts = 3\ngroup = 4\nk = [1, 2]\nsteps = 90\nloss = "dapo"\nmask_truncated = true\n')
    rest = arguments(config)
    for name in ("--prompts", "--group"):
        del rest[rest.index(name) : rest.index(name) + 2]
    del rest[rest.index("--k") : rest.index("--k") + 3]
    assert cli.main(["rlvr", "--config", str(path), *rest]) == 0
    found = json.loads((config.out / "config.json").read_text())
    expected = dataclasses.asdict(dataclasses.replace(config, loss="dapo", mask_truncated=True))
    assert found == json.loads(json.dumps(expected, default=str))
    capsys.readouterr()
    for text, message in (
        ("prompts = ", "config: .*options.toml can't be read"),
        ("colour = 1", "config: .*options.toml sets 'colour', which is no option"),
        ("[rate]\nx = 1", "config: .*options.toml has a table for 'rate'"),
        ('rate = "high"', ".*rate"),
    ):
        path.write_text(text)
        rest = [word for word in arguments(make("other", rate=1e-6)) if word]
        assert cli.main(["rlvr", f"--config={path}", *rest]) == 2
        assert re.match(f"ra3: error: {message}", capsys.readouterr().err.splitlines()[-1])
    for argv, message in (
        (["--config"], "config: give the file after --config"),
        (["--config", str(tmp_path / "none.toml")], "config: no file"),
        (["--config=a", "--config=b"], "config: give one file, not several"),
    ):
        assert cli.main(["rlvr", *argv]) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"ra3: error: {message}")


CONFIGS = sorted((ROOT / "experiments" / "configs").glob("rlvr-paper-*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_papers_settings(path, tmp_path):
    """They are options, all of those that the method has, and no value is there by default alone."""
    found = read_options(path, RLVRConfig)
    config = RLVRConfig(out=tmp_path, **{name: tuple(v) if isinstance(v, list) else v for name, v in found.items()})
    here = {"out", "jobs", "threads", "isolation", "vllm", "epsilon_high"}
    assert set(found) == {field.name for field in dataclasses.fields(RLVRConfig)} - here
    assert [config.accumulated(n) for n in (1, 8)] == [512 // config.pass_size, 64 // config.pass_size]
    text = path.read_text()
    assert "[paper]" in text and "[ours]" in text and f"experiments/configs/{path.name}" in text
    parsed = cli._parse(cli._from_files(["rlvr", "--config", str(path), "--out", str(tmp_path), "--group", "16"]))
    assert parsed == RLVR(**vars(dataclasses.replace(config, group=16)))


def test_there_is_a_setting_for_each_model_of_the_paper():
    assert {read_options(path, RLVRConfig)["model"] for path in CONFIGS} == {
        "meta-llama/Llama-3.2-1B", "Qwen/Qwen2.5-1.5B", "meta-llama/Llama-3.1-8B",
    }  # fmt: skip


def test_files_for_accelerate_are_read_by_it():
    folder = ROOT / "experiments" / "configs"
    plain, sharded = (load_config_from_file(str(folder / f"accelerate-{name}.yaml")) for name in ("ddp", "fsdp2"))
    assert (plain.distributed_type, plain.num_processes) == (DistributedType.MULTI_GPU, 8)
    assert (sharded.distributed_type, sharded.num_processes) == (DistributedType.FSDP, 8)
    parser = launch_command_parser()
    for path in folder.glob("accelerate-*.yaml"):
        parser.parse_args(["--config_file", str(path), "-m", "experiments.cli", "rlvr"])
    known = {name.removeprefix("--") for action in parser._actions for name in action.option_strings}
    assert set(sharded.fsdp_config) <= known


# Python programs in the sandbox


def test_records_of_areal(tmp_path):
    """The paper's data: what is between fences reads and writes, or has the function that is asked for."""
    asked = {"task": "code", "query_id": 7, "prompt": "Add two numbers."}
    pairs = {"inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "7\n"]}
    called = {"fn_name": "add", "inputs": ["1\n2", "3\n4"], "outputs": ["3", "7"]}
    path = tmp_path / "areal.jsonl"
    lines = [asked | {"query_id": 7 + k, "input_output": json.dumps(one)} for k, one in enumerate((pairs, called))]
    lines += [lines[0] | {"task": "math"}, asked | {"input_output": "{"}, asked]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    problems, malformed = load(f"areal:{path}")
    assert [str(one).partition("areal.jsonl:")[2][:2] for one in malformed] == ["3:", "4:", "5:"]
    assert [(one.name, one.prompt, one.stop) for one in problems] == [
        ("7", "Add two numbers.", ()), ("8", "Add two numbers.", ()),
    ]  # fmt: skip
    read = "So:\n```python\nprint(sum(map(int, input().split())))\n```\n### Done."
    define = "```python\ndef add(a, b):\n    return a + b\n```"
    with Judge(jobs=1) as judge:
        texts = [(0, read), (0, read.replace("sum", "max")), (0, "no code"), (1, define), (1, read)]
        found = judge.verdicts([(problems[n], problems[n].program(text)) for n, text in texts])
    assert rlvr_trainer.rewards(found) == [1.0, 0.0, 0.0, 1.0, 0.0]


def test_python_programs_are_run_in_the_sandbox(make, model, tmp_path):
    """LineWorld's statements are Python: run as such they give what its interpreter gives."""
    worlds, _ = load("lineworld:4", seed=1)
    world, path = text_of().world, tmp_path / "python.jsonl"
    records_of = []
    for one in worlds:
        (a, b), wanted = one.check.task.inputs[0], list(one.check.task.outputs[0])
        records_of.append({
            "name": one.name, "prompt": f"<s>{one.prompt}", "program": "is the program", "entry_point": "answer",
            "head": f"a, b = {a}, {b}\n", "tail": "\ndef answer():\n    return [a % 5, b % 5]\n",
            "tests": f"assert answer() == {wanted}", "reference": one.reference,
        })  # fmt: skip
    path.write_text("".join(json.dumps(one) + "\n" for one in records_of))
    config = make(problems=f"jsonl:{path}", held_out=None, steps=1, jobs=1)
    with Judge(jobs=1) as judge:
        inputs = rlvr_inputs.load(config, judge)
        ids = inputs.reader([one.prompt for one in inputs.problems])["input_ids"]
        assert ids == reader(inputs.tokenizer, worlds)([one.prompt for one in worlds])["input_ids"]
        end = inputs.ends()
        drawn = InProcess(inputs.model).sample(
            6 * ids, stop=np.isin(np.arange(inputs.model.config.vocab_size), end), max_new_tokens=12, seeds=range(24)
        )
        found = rlvr_trainer.Reward(inputs, 4).of(6 * [0, 1, 2, 3], [one.ids for one in drawn])
    expected = []
    for problem, one in zip(6 * worlds, drawn, strict=True):
        try:
            lines = world.parse(problem.program(written(inputs.tokenizer, one.ids, end)))
            task = problem.check.task
            outputs = world.machine.run([lines], task.inputs[:1])[0, 0] if lines else np.array(task.inputs[0])
            expected.append(float(tuple(outputs) == task.outputs[0]))
        except ValueError:
            expected.append(0.0)
    assert found == expected and 0 < sum(found) < 24
    (_, record) = records(rlvr.rlvr(config))
    assert 0 < record["reward"] < 1 and record["unjudged"] == 0
