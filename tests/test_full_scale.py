"""The recipe at the paper's scale: every file of settings runs in small, and estimates are held against counts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tokenizers_made
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from problem_samples import HUMANEVAL_PLUS, write
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from experiments import cli, full_scale
from experiments.commands.models import Midtrain
from llm import cost, estimate, models, mstep
from llm.architectures import KNOWN, Architecture
from llm.config import MidtrainConfig, Options
from llm.engine import Session
from llm.estep import METHODS
from llm.mstep import TrainConfig, Trainer
from llm.options import read_options
from llm.program import Row
from llm.rlvr_config import RLVRConfig

FOLDER = Path(__file__).parents[1] / "experiments" / "configs"
FILES = sorted(FOLDER.glob("*.toml"))
KINDS = {"midtrain": MidtrainConfig, "rlvr": RLVRConfig}
PAPERS = {"meta-llama/Llama-3.2-1B", "Qwen/Qwen2.5-1.5B", "meta-llama/Llama-3.1-8B"}


def kind_of(path):
    return path.name.partition("-")[0]


def settings(path):
    return read_options(path, KINDS[kind_of(path)])


# Every file, in small

# Numbers that are cut down; all others stay as the file has them.
SMALL = {
    "midtrain": {
        "programs": 6, "program_tokens": 400, "iterations": 2, "estep_programs": 3, "batch": 3, "warmup": 1,
        "max_tokens": 300, "max_thought": 3, "held_out": 0.3, "measured": 2, "shown": 1, "save_every": 2,
        "threads": 1,
    },
    "rlvr": {
        "prompts": 2, "group": 2, "pass_size": 2, "steps": 2, "max_new_tokens": 8, "warmup": 1, "measured": 1,
        "measure_every": 1, "save_every": 1, "jobs": 1, "threads": 1,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model of the family, in small, as a folder."""

    def make(name):
        words = tokenizers_made.made("llama3")
        config = KNOWN[name].shrunk(len(words)).config(max_position_embeddings=4096, eos_token_id=words.eos_token_id)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        return models.save(tmp_path_factory.mktemp("model") / "tiny", module, words)

    return make


@pytest.fixture
def data(tmp_path):
    """Small files in the formats that the settings name."""
    snippet = "def f{0}(x, y):\n    total = x * {0}\n    for k in range(y):\n        total += k\n    return total\n"
    pairs = {"inputs": ["1 2\n"], "outputs": ["3\n"]}
    asked = {"task": "code", "prompt": "Add two numbers.", "input_output": json.dumps(pairs)}
    return {
        "corpus": str(write(tmp_path / "snippets.jsonl", [{"text": snippet.format(k)} for k in range(20)])),
        "problems": f"areal:{write(tmp_path / 'areal.jsonl', [asked | {'query_id': k} for k in range(2)])}",
        "held_out": f"humaneval+:{write(tmp_path / 'plus.jsonl', HUMANEVAL_PLUS)}",
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_of_settings_runs_in_small(path, tiny, data, tmp_path, capsys):
    """Through the command itself, to the end, with only the model, the data and the sizes exchanged."""
    kind, asked = kind_of(path), settings(path)
    model, out = tiny(asked["model"]), tmp_path / "run"
    replaced = {name: value for name, value in data.items() if name in asked} | SMALL[kind]
    words = [f"--{name.replace('_', '-')}={value}" for name, value in (replaced | {"model": model, "out": out}).items()]
    assert cli.main([kind, "--config", str(path), *words]) == 0, capsys.readouterr().err
    ran = json.loads((out / "config.json").read_text())
    for name, value in asked.items():
        expected = replaced.get(name, model if name == "model" else value)
        assert ran[name] == (str(expected) if isinstance(expected, Path) else expected), name
    assert (out / "done").is_file() and ran["dtype"] == "bfloat16" and ran["checkpointing"]
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    number = "iteration" if kind == "midtrain" else "step"
    assert [one[number] for one in found] == ([1, 2] if kind == "midtrain" else [0, 1, 2])
    if kind == "midtrain":
        assert all(one["tokens"] > 0 and one["held_out_loss"] > 0 for one in found)
        if asked["method"] == "ra3":
            assert all(len(one["course"]) == asked["policy_updates"] for one in found)
    else:
        assert all(0 <= one["pass@4"] <= 1 for one in found)
    before, after = (models.load(folder).model for folder in (model, out / "model"))
    assert type(before) is type(after) and after.config.model_type == KNOWN[asked["model"]].family
    weights = after.state_dict()
    changed = [name for name, one in before.state_dict().items() if not torch.equal(one, weights[name])]
    # Programs that all fail teach nothing.
    assert changed or kind == "rlvr"


@pytest.mark.slow
def test_two_processes_run_the_papers_settings(tiny, data, tmp_path):
    """As one does, by the command of the page, with sharded weights in bfloat16 and checkpointing."""
    path, model = FOLDER / "midtrain-paper-llama-3.2-1b.toml", tiny("meta-llama/Llama-3.2-1B")
    replaced = SMALL["midtrain"] | {"corpus": data["corpus"], "model": model}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in replaced.items()]
    command = ["midtrain", "--config", str(path), *words, "--out"]
    assert cli.main([*command, str(tmp_path / "one")]) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    env = {name: value for name, value in os.environ.items() if name not in ("WORLD_SIZE", "RANK", "LOCAL_RANK")}
    env |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, "-m", "experiments.cli", *command, str(tmp_path / "two")],
        cwd=FOLDER.parents[1], env=env, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("results: ") == 1
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    for name in ("loss", "held_out_loss", "elbo"):
        assert [record[name] for record in two] == pytest.approx([record[name] for record in one], rel=1e-2)
    weights = [models.load(tmp_path / name / "model").model.state_dict() for name in ("one", "two")]
    assert all((weights[1][name] - weight).abs().mean() < 1e-4 for name, weight in weights[0].items())


@pytest.mark.parametrize("path", [path for path in FILES if kind_of(path) == "midtrain"], ids=lambda path: path.stem)
def test_settings_of_mid_training_say_everything(path, tmp_path):
    """No value is there by default alone; each is marked as the paper's or ours."""
    found, text = settings(path), path.read_text()
    here = {"out", "thoughts", "threads", "tensorboard"}
    known = {field for field in Options.__dataclass_fields__} | METHODS[found["method"]].knows
    assert set(found) == known - here
    assert "[paper]" in text and "[ours]" in text and f"experiments/configs/{path.name}" in text
    # What the paper gives: 3.5 million snippets, each once, and c = 0.05.
    assert found["programs"] == found["iterations"] * found["estep_programs"] == 3_500_000
    assert found["iterations"] * found["updates"] * found["batch"] == found["programs"]
    assert found["price"] == 0.05 and found["model"] in PAPERS
    parsed = cli._parse(cli._from_files(["midtrain", "--config", str(path), "--out", str(tmp_path), "--rate", "3e-4"]))
    assert parsed == Midtrain(out=tmp_path, **(found | {"rate": 3e-4}))


def test_there_are_settings_for_each_model_of_the_paper():
    for kind in KINDS:
        assert {settings(path)["model"] for path in FILES if path.name.startswith(f"{kind}-paper-")} == PAPERS


def test_files_for_accelerate_fit_their_machines():
    parser, known = launch_command_parser(), set()
    for action in parser._actions:
        known |= {name.removeprefix("--") for name in action.option_strings}
    for path in sorted(FOLDER.glob("accelerate-*.yaml")):
        found = load_config_from_file(str(path))
        assert found.num_processes == 8 * found.num_machines and not found.use_cpu
        assert set(getattr(found, "fsdp_config", None) or {}) <= known
        parser.parse_args(["--config_file", str(path), "-m", "experiments.cli", "rlvr"])
    assert load_config_from_file(str(FOLDER / "accelerate-fsdp2-4x8.yaml")).num_machines == 4


# Shapes


@pytest.mark.parametrize("name,count", [
    ("meta-llama/Llama-3.2-1B", 1_235_814_400), ("Qwen/Qwen2.5-1.5B", 1_543_714_304),
    ("meta-llama/Llama-3.1-8B", 8_030_261_248), ("smollm2", 134_515_008),
])  # fmt: skip
def test_weights_are_counted_exactly(name, count):
    """As published, and as transformers builds the model."""
    known = KNOWN[name]
    with torch.device("meta"):
        module = AutoModelForCausalLM.from_config(known.config())
    assert known.parameters == models.parameters(module) == count
    assert known.kv_bytes(module.dtype.itemsize) == models.kv_bytes_per_token(module)
    assert Architecture.of(module.config) == known


# Operations and bytes


def small(name, **sizes):
    """The family of a model in a size that can be run here, so that no two terms are alike."""
    sizes = {"layers": 3, "hidden": 96, "intermediate": 200, "heads": 6, "kv_heads": 2, "head_width": 16} | sizes
    return replace(KNOWN[name], **{"vocabulary": 350} | sizes)


def build(shape, **more):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(shape.config(max_position_embeddings=8192), dtype=torch.float32, **more)


@pytest.mark.parametrize("name", ["meta-llama/Llama-3.1-8B", "Qwen/Qwen2.5-1.5B"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_operations_are_those_that_torch_counts(name, checkpointing):
    """Exactly."""
    shape, rows, length = small(name), 2, 30
    module = build(shape, attn_implementation="eager")  # attention as matrix products, which it counts
    ids = torch.randint(0, shape.vocabulary, (rows, length), generator=torch.Generator().manual_seed(0))
    blocks = mstep._blocks(module) if checkpointing else []
    with FlopCounterMode(display=False) as counter, mstep._checkpointing(blocks):
        module(input_ids=ids, use_cache=False).logits.sum().backward()
    assert counter.get_total_flops() == cost.training_flops(shape, length, checkpointing, rows)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(input_ids=ids, use_cache=False, logits_to_keep=1)
    assert counter.get_total_flops() == cost.forward_flops(shape, length, 1, rows)


@pytest.mark.parametrize("name", ["meta-llama/Llama-3.1-8B", "Qwen/Qwen2.5-1.5B"])
def test_what_a_pass_keeps_for_the_gradient(name):
    """To the number, but for what a pass keeps once: ids, and sine and cosine of the positions."""
    shape, rows, length = small(name), 2, 30
    module, kept = build(shape), {}
    ours = {weight.untyped_storage().data_ptr() for weight in module.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in ours:
            kept[storage.data_ptr()] = tensor, storage.nbytes()  # the tensor, or its memory would be used again
        return tensor

    ids = torch.zeros(rows, length, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = module(input_ids=ids, use_cache=False).logits
    assert logits.shape == (rows, length, shape.vocabulary)
    once = 2 * length * shape.head_width * 4 + rows * length * 8
    assert sum(size for _, size in kept.values()) == 4 * rows * length * cost.saved_per_token(shape, False) + once


def peak_bytes(act):
    """Most bytes that torch's allocator holds at a time beyond those at the beginning."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        act()
    found, nodes = [], list(profiler.profiler.kineto_results.experimental_event_tree())
    while nodes:
        node = nodes.pop()
        nodes += node.children
        if node.tag.name == "Allocation":
            found.append((node.start_time_ns, node.extra_fields.alloc_size))
    sizes = [size for _, size in sorted(found, key=lambda event: event[0])]
    return int(np.cumsum(sizes).max())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("sizes,tokens", [
    ({"vocabulary": 12_000}, 800), ({"intermediate": 2048, "hidden": 192, "vocabulary": 300}, 1600),
    ({"hidden": 384, "intermediate": 1200, "vocabulary": 2000}, 24),
], ids=["the loss is most", "the pass backward is most", "the optimizer is most"])  # fmt: skip
def test_memory_of_an_update(sizes, tokens, checkpointing):
    """Within a tenth of what torch's allocator holds at its most, whichever moment that is."""
    shape = small("meta-llama/Llama-3.1-8B", **sizes)
    config = TrainConfig(batch=4, checkpointing=checkpointing)
    trainer = Trainer(build(shape), torch.zeros(shape.vocabulary, dtype=torch.bool), config)
    rng, length = np.random.default_rng(0), tokens // 4
    rows = [
        Row(
            rng.integers(0, shape.vocabulary, length), np.full(length, -1), np.zeros(length, bool),
            np.ones(length, np.float32), np.zeros(length, np.float32), np.zeros(length, np.int64), np.full(length, 2),
        )
        for _ in range(4)
    ]  # fmt: skip
    trainer.update(rows)  # the moments are there from now on
    measured = peak_bytes(lambda: trainer.update(rows))
    assert 0.9 < measured / cost.update_bytes(shape, tokens, checkpointing) < 1.1
    moments = [value for one in trainer.optimizer.state.values() for name, value in one.items() if name != "step"]
    assert sum(value.nbytes for value in moments) == 8 * shape.parameters


def test_memory_of_a_session():
    """Keys and values, and logits, are most of what a session holds."""
    shape, rows, positions, width = small("meta-llama/Llama-3.1-8B", vocabulary=3000, layers=8), 40, 200, 10
    module, ids = build(shape).eval(), np.zeros((rows, width), np.int64)

    def fill():
        session = Session(module, rows, positions)
        for _ in range(positions // width):
            session.append(np.arange(rows), ids)

    assert 0.9 < peak_bytes(fill) / cost.session_bytes(shape, rows, positions, width) < 1.1


# Estimates


def test_the_page_has_the_estimates_as_they_are(tmp_path):
    page = full_scale.PAGE.read_text()
    assert full_scale.refreshed(page, full_scale.read_rates()) == page
    named = set(re.findall(r"<!-- estimate: (\S+)", page))
    assert named == {f"experiments/configs/{path.name}" for path in FILES}
    changed = page.replace("P = 1,235,814,400", "P = 1")
    assert changed != page and full_scale.refreshed(changed, full_scale.read_rates()) == page


def test_an_estimate_adds_up():
    path = FOLDER / "midtrain-paper-llama-3.2-1b.toml"
    text = full_scale.estimate(path, 8, "h100", [])
    sizes = [float(one.replace(",", "")) for one in re.findall(r"\| ([\d,.]+) \|$", text.split("| work |")[0], re.M)]
    assert sum(sizes[:-1]) == pytest.approx(sizes[-1], abs=0.1 * len(sizes)) and "fits |" in text
    assert "**does not fit**" in full_scale.estimate(path, 1, "h100", [])
    # As the page has it for one GPU.
    (words,) = re.findall(r"runs/llama \\\n(.*)\n", full_scale.PAGE.read_text())
    pairs = zip(words.split()[::2], words.split()[1::2], strict=True)
    chosen = {name.removeprefix("--").replace("-", "_"): int(value) for name, value in pairs}
    one = replace(full_scale.config_of(path), **chosen)
    assert one.programs == one.iterations * one.estep_programs == one.iterations * one.updates * one.batch
    found = "\n".join(estimate.lines(one, 1, cost.DEVICES["h100"], estimate.Assumed()))
    assert "fits |" in found and "not fit" not in found
    # Operations by hand: 3.5 million programs of 286 tokens and 84 of thoughts, 6 operations a weight and token, and 2
    # for blocks without the last matrix, which are computed again. (Attention is some per cent more.)
    (mstep,) = re.findall(r"\| M-step \|.*?\| ([\d.e+]+) \|", text)
    by_hand = 3.5e6 * 370 * (6 * 1.236e9 + 2 * (1.236e9 - 2048 * (128_256 + 16 * 8192)))
    assert float(mstep) == pytest.approx(1.02 * by_hand, rel=0.02)
    rate = {"status": "done", "device": "a machine", "tflops": "10", "dtype": "float32", "task": "forward"}
    other = rate | {"dtype": "bfloat16", "task": "forward+backward", "tflops": "200"}
    rows = full_scale.estimate(path, 8, "h100", [rate, other]).splitlines()
    (measured,) = [row for row in rows if row.startswith("| as measured on a machine")]
    (share,) = [row for row in rows if row.startswith("| 20% |")]
    first, last = (float(row.split("|")[2].replace(",", "")) for row in (measured, share))
    assert first == pytest.approx(last * 0.2 * 67 / 10, rel=0.01)


def test_estimates_of_the_command_line(capsys, tmp_path):
    path = FOLDER / "rlvr-paper-llama-3.2-1b.toml"
    assert cli.main(["estimate", "--config", str(path), "--gpus", "8"]) == 0
    assert "RLVR, 8 x H100" in capsys.readouterr().out
    wrong = tmp_path / "wrong.toml"
    for text, words, message in (
        ('model = "/nowhere/at/all"\ncorpus = "stdlib"', [], "model: the shape of '/nowhere/at/all' is not known"),
        ('model = "smollm2"', [], f"config: {wrong} does not set corpus; an estimate needs it"),
        ('model = "smollm2"\ncorpus = "stdlib"\ncolour = 1', [], f"config: {wrong} sets 'colour', which is no option"),
        (path.read_text(), ["--gpus", "3"], "prompts: must be a multiple of the 3 processes"),
        (path.read_text(), ["--gpus", "0"], "gpus: at least 1, got 0"),
    ):
        wrong.write_text(text)
        assert cli.main(["estimate", "--config", str(wrong), *words]) == 2
        assert capsys.readouterr().err.startswith(f"ra3: error: {message}")
