"""What a run would cost: memory of each GPU and time, from its settings, with the arithmetic in words.

Nothing here has been measured at these sizes. Times are operations over what the GPU can do at most, for several shares
of it; where rates have been measured (`python -m experiments.gpu`), also at those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm.architectures import KNOWN, Architecture
from llm.config import MidtrainConfig
from llm.cost import (
    HALF,
    WIDE,
    Device,
    forward_flops,
    gathered_bytes,
    session_bytes,
    training_flops,
    update_bytes,
)
from llm.midtrain import settings
from llm.rlvr_config import RLVRConfig
from ra3sim.em import PolicyGradient, Posterior

SHARES = (0.2, 0.3, 0.4)


@dataclass(frozen=True)
class Assumed:
    """What the settings do not say.

    Args:
        tokens: of a program, in the mean. [paper] 1 billion in 3.5 million.
        line: tokens of a line. Measured: 10.9 (functions of the standard library, SmolLM2's tokenizer).
        think: share of the lines that are thought about; thought: tokens of a thought. [paper] below .4, and below 6.
        prompt: tokens of a problem. Ours.
    """

    tokens: float = 1e9 / 3.5e6
    line: float = 10.9
    think: float = 0.4
    thought: float = 6.0
    prompt: int = 400

    @property
    def thoughts(self) -> int:
        """Tokens of the thoughts of a program, each with its mark and its end."""
        return round(self.think * self.tokens / self.line * (self.thought + 2))


@dataclass(frozen=True)
class Part:
    """Work: operations of the whole run, in one number format, and passes that one GPU makes one after the other."""

    name: str
    flops: float
    half: bool
    passes: float = 0.0
    how: str = ""


def shape_of(model: str) -> Architecture:
    """The shape of a model by its name or folder.

    Raises:
        ValueError: it is not known.
    """
    if model in KNOWN:
        return KNOWN[model]
    from transformers import AutoConfig

    try:
        return Architecture.of(AutoConfig.from_pretrained(model))
    except OSError:
        raise ValueError(
            f"model: the shape of {model!r} is not known; give a folder, or one of {', '.join(KNOWN)}"
        ) from None


def lines(
    config: MidtrainConfig | RLVRConfig,
    gpus: int,
    device: Device,
    assumed: Assumed,
    rates: Sequence[Mapping[str, str]] = (),
) -> Iterator[str]:
    """The estimate, as lines of Markdown.

    Args:
        rates: rows of the table that `python -m experiments.gpu` writes.

    Raises:
        ValueError: settings that do not fit, or a model whose shape is not known.
    """
    if gpus < 1:
        raise ValueError(f"gpus: at least 1, got {gpus}")
    shape = shape_of(config.model)
    kind = "mid-training" if isinstance(config, MidtrainConfig) else "RLVR"
    yield f"**{config.model}**, {kind}, {gpus} x {device.name}"
    yield ""
    yield f"P = {shape.parameters:,} weights."
    yield ""
    if isinstance(config, MidtrainConfig):
        memory, parts = _midtrain(config, shape, gpus, assumed)
    else:
        memory, parts = _rlvr(config, shape, gpus, assumed)
    yield from _memory(memory, device)
    yield ""
    yield from _time(parts, shape, gpus, device, rates)


def _gb(count: float) -> str:
    return f"{count / 1e9:,.1f}"


def _memory(memory: Sequence[tuple[str, str, float]], device: Device) -> Iterator[str]:
    yield "| memory of each GPU | how | GB |"
    yield "|---|---|---:|"
    for name, how, count in memory:
        yield f"| {name} | {how} | {_gb(count)} |"
    total = sum(count for *_, count in memory)
    verdict = "fits" if total < 0.95 * device.memory else "**does not fit**"
    yield f"| together | of {_gb(device.memory)}: {verdict} | {_gb(total)} |"


def _state(shape: Architecture, gpus: int) -> list[tuple[str, str, float]]:
    found = [("weights and Adam's moments, float32", f"12 P / {gpus}", 12 * shape.parameters / gpus)]
    if gpus > 1:
        count = gathered_bytes(shape, HALF)
        return [*found, ("weights put together for a pass, bfloat16", "2 x (embedding, head, two blocks)", count)]
    return [*found, ("weights in bfloat16", "2 P", HALF * shape.parameters)]


def _midtrain(
    config: MidtrainConfig, shape: Architecture, gpus: int, assumed: Assumed
) -> tuple[list[tuple[str, str, float]], list[Part]]:
    method, world = settings(config)
    estep, P = method.estep, shape.parameters
    gradient, posterior = isinstance(estep, PolicyGradient), isinstance(estep, Posterior)
    group = estep.group if gradient else estep.candidates if posterior else 0
    mine = -(-config.estep_programs // gpus)
    # Longest trajectories decide on memory: every line of the longest program may be thought about a little more.
    longest = config.program_tokens * (1 + assumed.think / assumed.line * (assumed.thought + 2))
    positions, rows = round(1.25 * longest), mine * group
    sessions = 2 if (gradient and estep.updates) or world.reward == "base" else 1
    memory = _state(shape, gpus)
    if gradient:
        memory.append(("moments of the policy gradient", f"8 P / {gpus}", 8 * P / gpus))
    if gpus > 1:
        memory.append(("whole weights to roll out with, float32", "4 P", WIDE * P))
    if gradient and world.reward == "step":
        memory.append(("weights of the step's beginning, float32", "4 P", WIDE * P))
    if world.reward == "base" or world.min_gain is not None:
        memory.append(("weights before all training, float32", "4 P", WIDE * P))
    if group:
        width = round(2 * assumed.line)
        how = (
            f"{sessions} x {rows} rows x ({positions} x {shape.kv_bytes(WIDE):,} B of keys and values, "
            f"(1 + 2 x {width}) x {shape.vocabulary:,} logits)"
        )
        memory.append(("E-step's sessions, float32", how, sessions * session_bytes(shape, rows, positions, width)))
    pass_tokens = config.max_tokens or round(config.batch / gpus * config.program_tokens)
    update = update_bytes(shape, pass_tokens, config.checkpointing, gpus)
    memory.append(("an update, at its peak", f"{pass_tokens:,} tokens in a pass; `llm.cost.update_bytes`", update))
    return memory, _work(config, shape, gpus, assumed, estep, group, world)


def _work(
    config: MidtrainConfig, shape: Architecture, gpus: int, assumed: Assumed, estep: Any, group: int, world: Any
) -> list[Part]:
    programs = config.iterations * config.estep_programs
    length = round(assumed.tokens + assumed.thoughts)
    forward = forward_flops(shape, length)
    train = training_flops(shape, length, config.checkpointing)
    rows = config.iterations * config.updates * config.batch
    # The marker, the tokens of a thought, and the line itself: in several passes, for lines differ in length.
    steps = config.max_lines * (world.proposals.max_thought + 3)
    parts = []
    if isinstance(estep, PolicyGradient):
        # The first rollouts of an E-step are scored by the weights that draw them; later ones by another model.
        passes = 1 + 2 * estep.updates
        how = f"{programs:,} programs x {group} rollouts x {passes} x {forward / 1e12:.2f} T"
        parts.append(
            Part("rollouts", programs * group * passes * forward, False, config.iterations * passes * steps, how)
        )
        updates = estep.updates * programs * group
        how = f"{estep.updates} x {programs:,} x {group} rows x {train / 1e12:.2f} T"
        parts.append(Part("updates of the policy", updates * train, config.dtype == "bfloat16", 0, how))
    elif isinstance(estep, Posterior):
        models = 2 if world.reward == "base" else 1
        how = f"{programs:,} programs x {group} candidates x {models} models x {forward / 1e12:.2f} T"
        passes = config.iterations * models * steps
        parts.append(Part("rollouts", programs * group * models * forward, False, passes, how))
    if world.min_gain is not None:
        count = round(assumed.think * assumed.tokens / assumed.line) + 1
        flops = programs * world.annotations * count * forward
        how = f"{programs:,} programs x {count} passes (each thought left out once) x {forward / 1e12:.2f} T"
        parts.append(Part("gains of thoughts", flops, False, 0, how))
    how = f"{rows:,} rows of {length} tokens x {train / 1e12:.2f} T"
    parts.append(Part("M-step", rows * train, config.dtype == "bfloat16", 0, how))
    if config.measured:
        own = forward_flops(shape, round(assumed.tokens))
        flops = config.iterations * config.measured * own * gpus  # every process measures all
        how = f"{config.iterations:,} x {config.measured} programs on each GPU x {own / 1e12:.2f} T"
        parts.append(Part("measuring", flops, False, 0, how))
    return parts


def _rlvr(
    config: RLVRConfig, shape: Architecture, gpus: int, assumed: Assumed
) -> tuple[list[tuple[str, str, float]], list[Part]]:
    config.accumulated(gpus)
    length, rows = assumed.prompt + config.max_new_tokens, config.passes_of(gpus)
    memory = _state(shape, gpus)
    if config.kl:
        memory.append(("weights before all training", f"4 P / {gpus}", WIDE * shape.parameters / gpus))
    update = update_bytes(shape, rows * length, config.checkpointing, gpus, rows * config.max_new_tokens)
    how = f"{rows} completions of {config.max_new_tokens} tokens; `llm.cost.update_bytes`"
    memory.append(("an update, at its peak", how, update))
    if gpus > 1 and config.held_out:
        # Not while there is an update: what is more than it counts.
        more = max(WIDE * shape.parameters - update, 0)
        memory.append(("whole weights to measure with, float32", "4 P, less an update, which is over then", more))
    if config.vllm is None:
        drawn = config.completions // gpus
        size = HALF if config.dtype == "bfloat16" else WIDE
        count = drawn * length * shape.kv_bytes(size)
        memory.append(
            (
                "keys and values while completions are drawn",
                f"{drawn} rows x {length} x {shape.kv_bytes(size):,} B",
                count,
            )
        )
    completions = config.steps * config.completions
    forward, train = forward_flops(shape, length), training_flops(shape, length, config.checkpointing)
    half = config.dtype == "bfloat16"
    drawing = Part(
        "completions drawn", completions * forward, half, config.steps * config.max_new_tokens,
        f"{completions:,} completions of {length} tokens (the most there can be) x {forward / 1e12:.2f} T",
    )  # fmt: skip
    learning = Part(
        "updates", config.passes * completions * train, half, 0,
        f"{config.passes} x {completions:,} completions x {train / 1e12:.2f} T",
    )  # fmt: skip
    return memory, [drawing, learning]


def _time(
    parts: Sequence[Part], shape: Architecture, gpus: int, device: Device, rates: Sequence[Mapping[str, str]]
) -> Iterator[str]:
    yield "| work | how | operations | at most, each GPU |"
    yield "|---|---|---:|---:|"
    for part in parts:
        peak = f"{device.half / 1e12:g} T/s (bf16)" if part.half else f"{device.wide / 1e12:g} T/s (fp32)"
        yield f"| {part.name} | {part.how} | {part.flops:.2e} | {peak} |"
    yield ""
    floor = sum(part.passes for part in parts) * WIDE * shape.parameters / device.bandwidth / 3600
    passes = sum(part.passes for part in parts)
    yield f"| share of the GPU's most | {' | '.join(f'{part.name}, h' for part in parts)} | together, h |"
    yield f"|---|{'---:|' * (len(parts) + 1)}"
    for share in SHARES:
        hours = [part.flops / gpus / share / (device.half if part.half else device.wide) / 3600 for part in parts]
        yield _row(f"{share:.0%}", hours)
    for name, wide, half in _measured(rates):
        hours = [part.flops / gpus / (half if part.half else wide) / 3600 for part in parts]
        yield _row(f"as measured on {name}: {wide / 1e12:.3g} T/s fp32, {half / 1e12:.3g} T/s bf16", hours)
    yield ""
    if passes:
        yield (
            f"Beside that, {passes:.2e} passes come one after the other, a token for each row: reading the weights for "
            f"them takes {floor:,.1f} h at {device.bandwidth / 1e12:g} TB/s, and each millisecond that Python and the "
            f"launch of kernels add to a pass {passes / 3.6e6:,.1f} h. That millisecond is the figure to measure first."
        )


def _row(name: str, hours: Sequence[float]) -> str:
    return f"| {name} | {' | '.join(f'{one:,.1f}' for one in hours)} | {sum(hours):,.1f} |"


def _measured(rates: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, float, float]]:
    """(device, operations a second forward in float32, forward and backward in bfloat16) of devices that have both."""
    found: dict[str, dict[str, float]] = {}
    for row in rates:
        if row["status"] == "done" and row["tflops"]:
            found.setdefault(row["device"], {})[f"{row['task']} {row['dtype']}"] = 1e12 * float(row["tflops"])
    for name, own in found.items():
        if {"forward float32", "forward+backward bfloat16"} <= own.keys():
            yield name, own["forward float32"], own["forward+backward bfloat16"]
