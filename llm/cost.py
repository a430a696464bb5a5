"""What training and rollouts cost: floating-point operations and bytes, from shapes alone.

A multiplication and an addition are two operations. Bytes are of tensors; what the allocator, CUDA and libraries take
beside them (a gigabyte or two on a GPU) is not in them. `tests/test_full_scale.py` holds the operations against torch's
counter (equal) and the bytes against its allocator (within a tenth).
"""

from __future__ import annotations

from dataclasses import dataclass

from llm.architectures import Architecture

WIDE, HALF = 4, 2  # bytes of a float32 and of a bfloat16


@dataclass(frozen=True)
class Device:
    """A GPU as its data sheet has it.

    Attributes:
        memory: bytes.
        half, wide: operations a second at most, with bfloat16 and float32 matrices (dense; no TF32, which torch leaves
            off).
        bandwidth: bytes a second from its memory.
    """

    name: str
    memory: float
    half: float
    wide: float
    bandwidth: float


# NVIDIA's data sheets of the A100 (80 GB, SXM), H100 (SXM), H200 (SXM); half of what they give with sparsity.
DEVICES = {
    "a100": Device("A100 SXM 80 GB", 80e9, 312e12, 19.5e12, 2.039e12),
    "h100": Device("H100 SXM 80 GB", 80e9, 989e12, 67e12, 3.35e12),
    "h200": Device("H200 SXM 141 GB", 141e9, 989e12, 67e12, 4.8e12),
}


def forward_flops(shape: Architecture, length: int, scored: int | None = None, rows: int = 1) -> int:
    """Of one pass over ``rows`` rows: 2 W for each token and each weight W of a matrix, and 4 L² a for attention.

    Attention is counted as if every token saw the whole row, as torch counts it; a kernel that leaves out what comes
    later does half of that term. What is no product of matrices (norms, softmax, angles of positions) is left out.

    Args:
        length: L, tokens of a row.
        scored: positions of a row for which logits are made. None: all.
    """
    scored = length if scored is None else scored
    blocks = 2 * shape.block_matrices * length + 4 * length**2 * shape.heads * shape.head_width
    return rows * (shape.layers * blocks + 2 * shape.head * scored)


def training_flops(shape: Architecture, length: int, checkpointing: bool, rows: int = 1) -> int:
    """Of one pass forward and backward: three times a pass forward, and once more through the blocks if they forget.

    Of each block all is computed again but its last product, for of that the gradient needs the input alone.
    """
    again = 0
    if checkpointing:
        last = 2 * shape.hidden * shape.intermediate * length * rows
        again = forward_flops(shape, length, 0, rows) - shape.layers * last
    return 3 * forward_flops(shape, length, rows=rows) + again


def saved_per_token(shape: Architecture, checkpointing: bool) -> int:
    """Numbers that the pass forward keeps of each token for the pass backward, but for the logits.

    A block: 6 h (its input, the input of its second half, and each normalised, before and after the norm's weight),
    2 a + 2 k (queries and what attention gives; keys and values), 4 i (gate, its activation, up, their product), and a
    number for each head and norm. Beside the blocks the last norm's 3 h + 1. With checkpointing a block keeps h.
    """
    return shape.layers * (shape.hidden if checkpointing else _block(shape)) + 3 * shape.hidden + 1


def _block(shape: Architecture) -> int:
    attention = 2 * (shape.heads + shape.kv_heads) * shape.head_width + shape.heads
    return 6 * shape.hidden + attention + 4 * shape.intermediate + 2


# Logits, and what their log-softmax and its gradient need beside them, in float32 whatever the pass computes in.
LOGITS = 5


def update_bytes(
    shape: Architecture, tokens: int, checkpointing: bool, shards: int = 1, scored: int | None = None
) -> int:
    """Largest amount that an update needs at a time, beside weights and moments; P weights, N tokens in a pass.

    The largest of three moments: at the loss, what is kept and 5 N V numbers; in the pass backward, what is kept, the
    block that is computed once more (with checkpointing), its gradients i + 3 h a token, and gradients 4 P / shards; in
    the step of AdamW, gradients and as much again. Numbers count four bytes in bfloat16 too, which is a little much.

    Args:
        scored: tokens of a pass that have logits. None: all.
    """
    kept = WIDE * tokens * saved_per_token(shape, checkpointing)
    gradients = WIDE * shape.parameters // shards
    loss = kept + WIDE * LOGITS * (tokens if scored is None else scored) * shape.vocabulary
    again = _block(shape) if checkpointing else 0
    backward = kept + WIDE * tokens * (again + shape.intermediate + 3 * shape.hidden) + gradients
    return max(loss, backward, 2 * gradients)


def gathered_bytes(shape: Architecture, size: int) -> int:
    """Whole weights that a sharded model holds for a while: embedding and head, and two blocks, of ``size`` bytes."""
    ends = shape.head * (1 if shape.tied else 2)
    return size * (ends + 2 * (shape.block_matrices + shape.block_vectors))


def session_bytes(shape: Architecture, rows: int, positions: int, width: int) -> int:
    """Of a session (`llm.engine.Session`) in float32: keys and values, the last logits, and those of a scored pass.

    Args:
        positions: that there is room for in each row; width: tokens of a row in a pass. Logits of a pass count twice.
    """
    return rows * (positions * shape.kv_bytes(WIDE) + WIDE * shape.vocabulary * (1 + 2 * width))
