"""Evaluations from end to end: folders, interruptions of all kinds, comparison, bad input."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import problem_samples as samples
import pytest
import tokenizers_made
from problem_samples import write

from experiments import cli
from llm import evaluate as evaluation
from llm import models, scores
from llm.evaluate import evaluate, seed_of
from llm.evaluate_config import EvaluateConfig
from llm.journal import Journal, read
from llm.midtrain import Silent
from llm.passk import pass_at_k
from llm.problems import load
from llm.problems.lineworld import text_of
from llm.runs import RunFolder, RunStopped
from llm.sandbox import Verdict

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    words = tokenizers_made.gpt2()
    small = models.tiny(len(words), layers=1, width=32, heads=2, max_length=512)
    return str(models.save(tmp_path_factory.mktemp("model") / "tiny", small, words))


@pytest.fixture(scope="session")
def lineworld(tmp_path_factory):
    """A model of LineWorld whose programs pass now and then: trained on the very tasks for a moment."""
    import torch

    text = text_of()
    module = models.tiny(len(text.tokenizer), layers=1, width=64, heads=2, seed=0)
    programs = text.programs([text.world.program(one.check.task) for one in load("lineworld:12")[0]])
    ids = torch.tensor(np.array([one.ids for one in programs]))
    optimiser = torch.optim.AdamW(module.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        module(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()
    return str(models.save(tmp_path_factory.mktemp("lineworld") / "model", module, text.tokenizer))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("RA3SIM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def make(model, tmp_path):
    def make(out="run", **options):
        path = tmp_path / "own.jsonl"
        if not path.exists():
            write(path, samples.OWN)
        given = {
            "model": model, "problems": f"jsonl:{path}", "out": tmp_path / out, "samples": 3, "k": (1, 2),
            "temperature": 0.9, "max_tokens": 12, "batch": 4, "isolation": "process", "jobs": 1, "threads": 1,
        }  # fmt: skip
        return EvaluateConfig(**(given | options))

    return make


def records(run, name="samples.jsonl"):
    """Without what depends on the clock."""
    found = read(run / name)
    for one in found:
        one.pop("seconds", None)
        for way in scores.WAYS:
            for key in ("seconds", "cpu_seconds", "peak_memory"):
                one.get(way, {}).pop(key, None)
    return sorted(found, key=lambda one: (one["problem"], one["sample"]))


def assert_same(one, other):
    assert records(one) == records(other)
    assert records(one, "verdicts.jsonl") == records(other, "verdicts.jsonl")
    found = [json.loads((run / "results.json").read_text()) for run in (one, other)]
    for results in found:
        results.pop("costs")
    assert found[0] == found[1]


def test_an_evaluation_from_end_to_end(make, capsys):
    config = make()
    found = evaluate(config)
    names = {"config.json", "versions.json", "inputs.json", "samples.jsonl", "verdicts.jsonl", "results.json", "done"}
    assert {one.name for one in config.out.iterdir()} == names | {".lock"}
    written, judged = records(config.out), records(config.out, "verdicts.jsonl")
    keys = [(name, k) for name in ("add", "echo", "pair") for k in range(3)]
    assert [(one["problem"], one["sample"]) for one in written] == keys
    assert [(one["problem"], one["sample"]) for one in judged] == keys
    for one in written:
        assert len(one["ids"]) == one["tokens"] <= 12 and one["ended"] in ("stop", "end", "length")
        assert "\ndef" not in one["text"] or one["problem"] != "add"
    assert len({one["text"] for one in written}) > 5
    assert found == json.loads((config.out / "results.json").read_text())
    assert found["problems"] == 3 and found["samples"] == 3 and set(found["pass_at_k"]["raw"]) == {"1", "2"}
    assert found["outcomes"]["raw"].get("passed", 0) == 0 and sum(found["outcomes"]["sanitised"].values()) == 9
    assert found["sampling"] == {"temperature": 0.9, "top_p": 0.95, "max_tokens": 12, "seed": 0, "begin": "auto"}
    assert found["asked"]["benchmark"] == "jsonl" and found["asked"]["stop"] == ["\ndef"]
    costs = found["costs"]
    assert costs["tokens"] == sum(one["tokens"] for one in written) and costs["seconds"] > 0 < costs["judge_seconds"]
    assert "\n".join(scores.lines(found)).count("pass@") == 4


def test_right_programs_pass_and_wrong_ones_do_not(make, monkeypatch):
    """A writer that knows the answer now and then: what is counted is what it knew."""
    right = {one["prompt"]: one["reference"] for one in samples.OWN}
    knows = {"add": 2, "pair": 3, "echo": 0}
    name_of = {one["prompt"]: one["name"] for one in samples.OWN}

    def complete(self, requests, sampling):
        found = []
        for request in requests:
            name = name_of[request.prompt]
            good = [seed[2] < knows[name] for seed in request.seeds]
            fenced = "```\n{}```\nThat's it." if name == "echo" else "{}"
            found.append(
                [
                    evaluation_completion(fenced.format(right[request.prompt] if one else "    return None\n"))
                    for one in good
                ]
            )
        return found

    monkeypatch.setattr("llm.sampling.Writer.complete", complete)
    found = evaluate(make(samples=3, k=(1, 2, 3)))
    assert {name: one["raw"] for name, one in found["by_problem"].items()} == knows
    for k in (1, 2, 3):
        estimate = found["pass_at_k"]["raw"][str(k)]
        assert estimate["value"] == pytest.approx(pass_at_k([3, 3, 3], [2, 3, 0], k).mean())
        assert estimate["low"] <= estimate["value"] <= estimate["high"]
    assert found["outcomes"]["raw"]["passed"] == 5


def evaluation_completion(text):
    from llm.sampling import Completion

    return Completion(text, (1, 2), "end")


def test_talk_after_a_program_is_what_sanitising_is_for(make, monkeypatch):
    text = {one["prompt"]: one["reference"] + "\nThis is right.\n" for one in samples.OWN}
    monkeypatch.setattr(
        "llm.sampling.Writer.complete",
        lambda self, requests, sampling: [[evaluation_completion(text[one.prompt])] * 3 for one in requests],
    )
    found = evaluate(make(batch=3))
    assert [one["raw"] for one in found["by_problem"].values()] == [0, 0, 0]
    # A script's calls are no definitions, so nothing of it is left out.
    assert {name: one["sanitised"] for name, one in found["by_problem"].items()} == {"add": 3, "pair": 3, "echo": 0}


@pytest.mark.parametrize("batch", [1, 2, 7, 32])
def test_samples_do_not_depend_on_batches_nor_on_other_problems(batch, make):
    straight = evaluate(make("straight", batch=4))
    other = evaluate(make("other", batch=batch))
    assert records(make("straight").out) == records(make("other").out)
    assert straight["pass_at_k"] == other["pass_at_k"]
    evaluate(make("one", limit=1, samples=2, batch=batch))
    assert records(make("one").out) == [
        one for one in records(make("straight").out) if one["problem"] == "add" and one["sample"] < 2
    ]


def test_seeds_differ():
    seeds = {tuple(seed_of(seed, name, k)) for seed in (0, 1) for name in ("a", "b") for k in (0, 1)}
    assert len(seeds) == 8
    digest = int.from_bytes(hashlib.blake2b(b"a", digest_size=8).digest())
    assert seed_of(3, "a", 2) == [3, digest, 2]


# Interruptions


class Interrupted(Silent):
    def __init__(self, after):
        self.left = after

    def update(self, done, label):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_an_interrupted_evaluation_arrives_at_the_same(make):
    straight, stopped = make("straight"), make("stopped")
    evaluate(straight)
    for after in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            evaluate(stopped, Interrupted(after))
        assert not (stopped.out / "done").exists() and not (stopped.out / "results.json").exists()
    evaluate(stopped)
    assert_same(straight.out, stopped.out)


@pytest.mark.parametrize("name", ["samples.jsonl", "verdicts.jsonl"])
def test_a_line_cut_anywhere_is_written_again(name, make):
    config, straight = make("cut"), make("straight")
    evaluate(straight)
    evaluate(config)
    whole = (config.out / name).read_bytes()
    for cut in (0, 1, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        (config.out / "done").unlink(missing_ok=True)
        (config.out / name).write_bytes(whole[:cut])
        evaluate(config)
        assert_same(straight.out, config.out)


def test_nothing_is_drawn_or_judged_twice(make, monkeypatch):
    config = make()
    with pytest.raises(KeyboardInterrupt):
        evaluate(config, Interrupted(2))
    before = (config.out / "samples.jsonl").read_bytes(), (config.out / "verdicts.jsonl").read_bytes()
    asked = []
    inner = evaluation.Judge.verdicts
    monkeypatch.setattr(evaluation.Judge, "verdicts", lambda self, jobs: asked.extend(jobs) or inner(self, jobs))
    evaluate(config)
    after = (config.out / "samples.jsonl").read_bytes(), (config.out / "verdicts.jsonl").read_bytes()
    assert after[0].startswith(before[0]) and after[1].startswith(before[1])
    # Each program twice, raw and sanitised.
    assert len(asked) == 2 * (9 - before[1].count(b"\n"))
    assert Counter((one["problem"], one["sample"]) for one in records(config.out)).most_common(1)[0][1] == 1


def arguments(config):
    found = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        name = "--" + field.name.replace("_", "-")
        if value == field.default or value is False:
            continue
        found += [name, *map(str, value)] if isinstance(value, tuple) else [name, str(value)]
    return found


@pytest.mark.slow
def test_killed_at_any_moment(make):
    """SIGKILL, again and again at moments that are drawn, until a start comes through."""
    straight = make("straight", samples=40, batch=4, max_tokens=30)
    evaluate(straight)
    config = make("killed", samples=40, batch=4, max_tokens=30)
    command = [sys.executable, "-m", "experiments.cli", "evaluate", *arguments(config)]
    rng, kills = np.random.default_rng(0), 0
    for attempt in range(20):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if attempt < 2:
            while process.poll() is None and not (config.out / "verdicts.jsonl").exists():
                time.sleep(0.01)
            time.sleep(1.5 * rng.random())
            process.kill()
        said = process.communicate()
        kills += process.returncode == -signal.SIGKILL
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, said
    assert kills >= 2, "too few kills to see anything"
    assert_same(straight.out, config.out)


def test_a_finished_one_is_not_run_again(make, monkeypatch):
    config = make()
    first = evaluate(config)
    monkeypatch.setattr(models, "load", lambda *_, **__: pytest.fail("the model is not needed"))
    said = []
    watcher = Silent()
    watcher.say = said.append
    assert evaluate(config, watcher) == first and said == [f"{config.out} is finished already"]
    # Another k needs no more than what is stored.
    again = evaluate(dataclasses.replace(config, k=(3,)))
    assert set(again["pass_at_k"]["raw"]) == {"3"}


def test_what_the_sandbox_could_not_judge_is_no_failure(make, monkeypatch):
    straight = make("straight")
    evaluate(straight)
    config = make()
    inner = evaluation.Judge.verdicts
    broken = []

    def verdicts(self, jobs):
        found = inner(self, jobs)
        if not broken:
            broken.append(True)
            found[0] = Verdict("sandbox error", "the judge died")
        return found

    monkeypatch.setattr(evaluation.Judge, "verdicts", verdicts)
    with pytest.raises(RunStopped, match=r"the sandbox could not judge 1 programs; what is finished is kept"):
        evaluate(config)
    assert len(records(config.out, "verdicts.jsonl")) == 8 and not (config.out / "done").exists()
    evaluate(config)
    assert_same(straight.out, config.out)


def test_problems_that_fail_on_their_own_reference_are_left_out_and_said(make, tmp_path):
    wrong = samples.OWN[0] | {"name": "wrong", "reference": "    return a - b\n"}
    path = write(tmp_path / "mixed.jsonl", [*samples.OWN, wrong, "{\n"])
    said = []
    watcher = Silent()
    watcher.say = said.append
    found = evaluate(make(problems=f"jsonl:{path}"), watcher)
    assert set(found["by_problem"]) == {"add", "pair", "echo"} and found["problems"] == 3
    assert len(found["left_out"]) == 1 and "wrong: its reference solution failed" in found["left_out"][0]
    assert len(found["malformed"]) == 1 and f"{path}:5" in found["malformed"][0]
    assert any(one.startswith("left out: wrong") for one in said) and any("no problem: " in one for one in said)
    shown = "\n".join(scores.lines(found))
    assert "left out: 1; the first: wrong" in shown and "no problems: 1" in shown
    only = write(tmp_path / "only.jsonl", [wrong])
    with pytest.raises(
        ValueError, match=r"^problems: none of .*only.jsonl can be used; the first: wrong: its reference"
    ):
        evaluate(make("other", problems=f"jsonl:{only}"))


def test_a_full_disk_loses_nothing(make):
    import resource

    straight, config = make("straight"), make("full")
    evaluate(straight)

    class Full(Silent):
        def update(self, done, label):
            resource.setrlimit(resource.RLIMIT_FSIZE, (1100, hard))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(
            RunStopped, match=r"full: can't be written to \(.*Make room, and give the same command again"
        ):
            evaluate(config, Full())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    evaluate(config)
    assert_same(straight.out, config.out)


# Models and worlds


def test_lineworld(lineworld, make):
    config = make(
        model=lineworld, problems="lineworld:6", samples=8, k=(1, 8), max_tokens=4 * text_of().world.horizon + 1,
        temperature=1.0, top_p=1.0, batch=16,
    )  # fmt: skip
    found = evaluate(config)
    # The same by the world's own hand.
    by_name = {one.name: one for one in load("lineworld:6")[0]}
    world = text_of().world
    passed = Counter(
        one["problem"]
        for one in records(config.out)
        if world.verify(by_name[one["problem"]].check.task, one["text"]).passed
    )
    assert {name: one["raw"] for name, one in found["by_problem"].items()} == {name: passed[name] for name in by_name}
    assert 0 < sum(passed.values()) < 48
    assert found["pass_at_k"]["raw"]["8"]["value"] >= found["pass_at_k"]["raw"]["1"]["value"] > 0


def test_the_model_of_a_run(model, tmp_path):
    run = tmp_path / "run"
    (run / "state").mkdir(parents=True)
    (run / "inputs.json").write_text("{}")
    with pytest.raises(ValueError, match=r"^model: the run in .* has not finished"):
        evaluation.model_path(str(run))
    (run / "model").mkdir()
    assert evaluation.model_path(str(run)) == (run / "model", True)
    assert evaluation.model_path(str(run / "model")) == (str(run / "model"), True)
    assert evaluation.model_path(model) == (model, False)


@pytest.mark.parametrize("begin,starts", [("auto", False), ("tokenizer", False), ("bos", True)])
def test_what_stands_before_a_prompt_is_a_choice(begin, starts, make, monkeypatch):
    seen = []
    inner = evaluation.Writer.encode
    monkeypatch.setattr(evaluation.Writer, "encode", lambda self, prompt: seen.append(inner(self, prompt)) or seen[-1])
    evaluate(make(begin=begin))
    bos = tokenizers_made.gpt2().bos_token_id
    assert all((ids[0] == bos) == starts for ids in seen)


# Comparison


def test_two_evaluations_are_compared_problem_by_problem(lineworld, make, tmp_path, capsys):
    text = text_of()
    most = 4 * text.world.horizon + 1
    base = {"problems": "lineworld:12", "max_tokens": most, "temperature": 1.0, "top_p": 1.0, "batch": 24}
    random = str(models.save(tmp_path / "random", models.tiny(len(text.tokenizer), seed=1), text.tokenizer))
    one = make("one", model=random, samples=4, k=(1, 4), **base)
    other = make("other", model=lineworld, samples=6, k=(1, 2, 6), **base)
    results = [evaluate(one), evaluate(other)]
    found = scores.compare(one.out, other.out)
    assert [(row.k, row.way) for row in found] == [(k, way) for k in (1, 2, 4) for way in scores.WAYS]
    for row in found:
        if str(row.k) in results[1]["pass_at_k"][row.way]:
            assert row.other == scores.Estimate(**results[1]["pass_at_k"][row.way][str(row.k)])
        values = [
            pass_at_k([n] * 12, [counts[row.way] for counts in result["by_problem"].values()], row.k)
            for n, result in zip((4, 6), results, strict=True)
        ]
        assert row.difference.value == pytest.approx((values[1] - values[0]).mean())
        assert row.difference.low <= row.difference.value <= row.difference.high
    assert found[0].one.value == 0 and found[0].other.value > 0 and found[0].verdict == "the second is better"
    back = scores.compare(other.out, one.out)
    assert back[0].difference.value == -found[0].difference.value and back[0].verdict == "the first is better"
    assert scores.compare(one.out, one.out)[0].verdict == "not decided"
    assert cli.main(["compare", str(one.out), str(other.out)]) == 0
    assert "difference +" in capsys.readouterr().out


def test_only_the_same_problems_can_be_compared(make, tmp_path):
    one, other = make("one"), make("other", limit=2)
    for config in (one, other):
        evaluate(config)
    with pytest.raises(ValueError, match=r"^run: .* are of other problems, or ask otherwise \(problems: 3 and 2\)"):
        scores.compare(one.out, other.out)
    with pytest.raises(FileNotFoundError, match=r"^run: .* holds no evaluation"):
        scores.compare(one.out, tmp_path)
    (other.out / "done").unlink()
    with pytest.raises(FileNotFoundError, match=r"^run: .* has not finished"):
        scores.compare(one.out, other.out)
    (one.out / "results.json").write_text("{")
    with pytest.raises(ValueError, match=r"^run: .* is damaged"):
        scores.compare(one.out, one.out)


def test_missing_and_doubled_records_are_refused(make):
    config = make()
    evaluate(config)
    path = config.out / "verdicts.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    for changed, message in (
        (lines[1:], "lacks 1 verdicts and has 0"),
        ([*lines, lines[0]], "lacks 0 verdicts and has 1"),
    ):
        path.write_text("".join(changed))
        with pytest.raises(ValueError, match=f"^out: .* {message} too many"):
            evaluate(config)


# The command


def test_the_command(make, capsys):
    config = make(isolation="full")
    assert cli.main(["evaluate", *arguments(config)]) == 0
    said = capsys.readouterr()
    assert "pass@2   raw" in said.out and "programs: " in said.out and str(config.out) in said.out
    assert cli.main(["evaluate", *arguments(config)]) == 0
    assert "is finished already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options,message",
    [
        ({"samples": 0}, "samples: must be at least 1"), ({"k": (4,)}, "k: pass@4 needs 4 samples of each problem"),
        ({"k": (0,)}, "k: must be at least 1"), ({"k": ()}, "k: must be at least 1"),
        ({"temperature": -1.0}, "temperature: must be 0"), ({"temperature": 0.0}, "samples: at temperature 0 all are"),
        ({"top_p": 0.0}, "top_p: must lie in"), ({"max_tokens": 0}, "max_tokens: must be at least 1"),
        ({"limit": 0}, "limit: must be at least 1"), ({"seed": -1}, "seed: must be at least 0"),
        ({"batch": 0}, "batch: must be at least 1"), ({"jobs": 0}, "jobs: must be at least 1"),
        ({"threads": 0}, "threads: must be at least 1"), ({"dtype": "int8"}, "dtype: must be"),
        ({"begin": "x"}, "begin: must be"),
    ],
)  # fmt: skip
def test_choices_that_mean_nothing_are_refused(options, message, make):
    with pytest.raises(ValueError, match=f"^{message}"):
        make(**options)


@pytest.mark.parametrize(
    "options,message",
    [
        ({"problems": "humanevil"}, "problems: there are none named"),
        ({"problems": "mbpp:absent.jsonl"}, "problems: no file"), ({"isolation": "magic"}, "isolation: "),
        ({"model": "/absent/model"}, "model: '/absent/model' is neither"),
        ({"max_tokens": 600}, "max_tokens: the prompt of add"),
    ],
)  # fmt: skip
def test_what_can_not_be_done_is_one_line(options, message, make, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("RA3SIM_CACHE", str(make().out / "empty"))
    config = make(**options)
    assert cli.main(["evaluate", *arguments(config)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith(f"ra3: error: {message}"), said


def test_another_evaluation_in_the_same_folder_is_refused(make, tmp_path):
    config = make()
    with pytest.raises(KeyboardInterrupt):
        evaluate(config, Interrupted(1))
    for field in dataclasses.fields(config):
        other = object.__new__(EvaluateConfig)
        vars(other).update(vars(config) | {field.name: f"not {getattr(config, field.name)}"})
        folder = RunFolder(config.out, other, evaluation.FREE)
        if field.name in ("out", "threads", "jobs", "k"):
            folder.check()
        else:
            with pytest.raises(ValueError, match=rf"^{field.name}: the run in .* has .*; give another folder"):
                folder.check()
    write(tmp_path / "own.jsonl", [samples.OWN[0] | {"prompt": "def add(x, y):\n"}, *samples.OWN[1:]])
    with pytest.raises(ValueError, match=r"^problems: not the same as when the run in"):
        evaluate(config)


# Journals


def test_a_journal_repairs_itself(tmp_path):
    path = tmp_path / "one.jsonl"
    with Journal(path) as journal:
        journal.append([{"a": 1}, {"b": "é\u2028"}])
        journal.append([{"c": None}])
    whole = path.read_bytes()
    assert read(path) == [{"a": 1}, {"b": "é\u2028"}, {"c": None}]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        count = whole[:cut].count(b"\n")
        assert read(path) == [{"a": 1}, {"b": "é\u2028"}, {"c": None}][:count]
        with Journal(path) as journal:
            assert len(journal.records) == count
            journal.append([{"d": 4}])
        assert read(path)[-1] == {"d": 4} and len(read(path)) == count + 1
    path.write_bytes(b'{"a": 1}\ngarbage\n{"b": 2}\n')
    with pytest.raises(ValueError, match=r"^out: .*one.jsonl:2 is damaged"):
        Journal(path)
    with pytest.raises(ValueError, match=r"^run: .*one.jsonl is damaged"):
        read(path)


def test_the_environment_is_left_alone():
    assert "RA3SIM_CACHE" in os.environ  # the fixture's, so that no test writes into the home folder
