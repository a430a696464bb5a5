"""The recipe at the paper's scale: every file of settings runs in small, and estimates are held against counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers_made
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from problem_samples import HUMANEVAL_PLUS, write
from transformers import AutoModelForCausalLM

from experiments import cli
from llm import models
from llm.architectures import KNOWN, Architecture
from llm.config import MidtrainConfig, Options
from llm.estep import METHODS
from llm.options import read_options
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
    assert parsed == cli.Midtrain(out=tmp_path, **(found | {"rate": 3e-4}))


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
