"""The shapes of language models of the Llama and Qwen2 families, and what follows from the shapes alone.

>>> one = KNOWN["meta-llama/Llama-3.2-1B"]
>>> one.parameters
1235814400
>>> one.shrunk(vocabulary=300).parameters
89152
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True)
class Architecture:
    """A decoder of blocks of attention (grouped queries) and a gated feed-forward layer.

    Attributes:
        family: of transformers' classes; "qwen2" has biases at queries, keys and values.
        hidden, intermediate: widths of the hidden states and of the feed-forward layer.
        heads, kv_heads, head_width: of queries; of keys and values; of each.
        vocabulary: rows of the embedding; tied: the output layer is the embedding.
    """

    family: Literal["llama", "qwen2"]
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    tied: bool

    @property
    def block_matrices(self) -> int:
        """Weights in the matrices of one block: q and o, k and v, gate, up and down."""
        attention = 2 * self.hidden * self.heads * self.head_width + 2 * self.hidden * self.kv_heads * self.head_width
        return attention + 3 * self.hidden * self.intermediate

    @property
    def block_vectors(self) -> int:
        """Weights of one block that are in no matrix: two norms, and the biases of a Qwen2."""
        biases = (self.heads + 2 * self.kv_heads) * self.head_width if self.family == "qwen2" else 0
        return 2 * self.hidden + biases

    @property
    def head(self) -> int:
        """Weights in the output layer."""
        return self.hidden * self.vocabulary

    @property
    def parameters(self) -> int:
        """Weights, each once: embedding, blocks, the last norm, and an output layer that is not the embedding."""
        blocks = self.layers * (self.block_matrices + self.block_vectors)
        return self.head * (1 if self.tied else 2) + blocks + self.hidden

    def kv_bytes(self, size: int = 4) -> int:
        """Bytes of the keys and values of one token, of numbers of ``size`` bytes."""
        return 2 * self.layers * self.kv_heads * self.head_width * size

    def shrunk(self, vocabulary: int) -> Architecture:
        """The same in small: two layers, 64 wide, with the same number of queries for a key as far as 4 heads can."""
        groups = max(4 * self.kv_heads // self.heads, 1)
        return replace(
            self, layers=2, hidden=64, intermediate=128, heads=4, kv_heads=groups, head_width=16, vocabulary=vocabulary
        )

    def config(self, **more: Any) -> Any:
        """The configuration of transformers' class."""
        from transformers import LlamaConfig, Qwen2Config

        kind = {"llama": LlamaConfig, "qwen2": Qwen2Config}[self.family]
        return kind(
            num_hidden_layers=self.layers, hidden_size=self.hidden, intermediate_size=self.intermediate,
            num_attention_heads=self.heads, num_key_value_heads=self.kv_heads, head_dim=self.head_width,
            vocab_size=self.vocabulary, tie_word_embeddings=self.tied, **more,
        )  # fmt: skip

    @staticmethod
    def of(config: Any) -> Architecture:
        """Of a configuration of transformers.

        Raises:
            ValueError: another family, or biases that the family doesn't have.
        """
        family = config.model_type
        if family not in ("llama", "qwen2"):
            raise ValueError(f"model: shapes are known of the families llama and qwen2, not of {family!r}")
        if getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False):
            raise ValueError(f"model: a {family} with biases that the family doesn't have; its shape is not known here")
        heads = config.num_attention_heads
        return Architecture(
            family, config.num_hidden_layers, config.hidden_size, config.intermediate_size, heads,
            config.num_key_value_heads, getattr(config, "head_dim", None) or config.hidden_size // heads,
            config.vocab_size, config.tie_word_embeddings,
        )  # fmt: skip


# From the config.json that was published with each model; SmolLM2's from the GGUF file in its wheel.
KNOWN = {
    "meta-llama/Llama-3.2-1B": Architecture("llama", 16, 2048, 8192, 32, 8, 64, 128_256, True),
    "Qwen/Qwen2.5-1.5B": Architecture("qwen2", 28, 1536, 8960, 12, 2, 128, 151_936, True),
    "meta-llama/Llama-3.1-8B": Architecture("llama", 32, 4096, 14_336, 32, 8, 128, 128_256, False),
    "smollm2": Architecture("llama", 30, 576, 1536, 9, 3, 64, 49_152, True),
}
