"""Tokenizers of several kinds, made here in a second or two: each cuts text at other places."""

from __future__ import annotations

import functools
import inspect
import json.decoder
import textwrap

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

# The pattern of Qwen2.5, and but for the length of numbers of Llama 3.
MERGES_PUNCTUATION = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
END = "<end>"
TEXT = "".join(inspect.getsource(module) for module in (textwrap, json.decoder, inspect))


def byte_level(pre_tokenizer, text=TEXT, size=1500):
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizer, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[END], show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    backend.train_from_iterator([text[i : i + 200] for i in range(0, len(text), 200)], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, bos_token=END)


def gpt2():
    """GPT-2's pattern: newline and indentation are one token, but for the last space."""
    return byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))


def llama3():
    """Punctuation and the newline after it are one token."""
    split = pre_tokenizers.Split(Regex(MERGES_PUNCTUATION), "isolated")
    raw = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return byte_level(pre_tokenizers.Sequence([split, raw]))


def unsplit():
    """No pattern: tokens may hold the end of a line, the newline, the indentation and more."""
    return byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), TEXT[:20_000], 800)


def raw_bytes():
    """One token for each byte; no mark of the beginning."""
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), size=257)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token=END)


def characters():
    """One token for each character that Latin text has, nothing else; no special token at all."""
    signs = [chr(i) for i in (*range(1, 0x180), 0xFEFF, 0x2028)]
    backend = Tokenizer(models.WordLevel({sign: i for i, sign in enumerate(signs)}, unk_token="\x01"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated"), decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def sentencepiece():
    """As Llama 2: spaces are ▁, one stands before the text, and what is not in the vocabulary is written in bytes."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    words = ["▁▁", "▁▁▁▁", "re", "tu", "rn", "return", "▁return", "de", "def", "▁def", "in", "if", "▁if"]
    letters = [*map(chr, range(33, 127)), "▁"]
    vocabulary = {piece: i for i, piece in enumerate([*pieces, *letters, *words, "retu", "▁x", "▁#"])}
    halves = ["▁ ▁", "▁▁ ▁▁", "r e", "t u", "r n", "re tu", "retu rn", "▁ return", "d e", "de f", "▁ def", "i n", "i f"]
    merges = [tuple(pair.split(" ")) for pair in [*halves, "▁ if", "▁ x", "▁ #"]]
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(parts)
    backend.add_special_tokens([AddedToken(piece, special=True) for piece in pieces[:3]])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def words():
    """One token for each line ``a += b``, as a small language of its own has it; no word for what is unknown."""
    statements = [f"{a} {op} {b}" for a in "abc" for op in ("=", "+=", "-=") for b in "abc012"]
    vocabulary = {
        word: i for i, word in enumerate(["<pad>", END, "\n", "#", *(f" s{i}" for i in range(9)), *statements])
    }
    backend = Tokenizer(models.WordLevel(vocabulary))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n|#| s\d+|[^\n#]+"), "isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, pad_token="<pad>")


MAKERS = {made.__name__: made for made in (gpt2, llama3, unsplit, raw_bytes, characters, sentencepiece)}


@functools.cache
def made(name):
    """A tokenizer of `MAKERS`, made once."""
    return MAKERS[name]()
