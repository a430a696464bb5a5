"""Low-rank adapters: train two thin matrices for each linear layer instead of the layer (LoRA, Hu et al. 2022)."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers.pytorch_utils import Conv1D

ADAPTER = "default"


def add_lora(model: nn.Module, rank: int, seed: int) -> None:
    """Put adapters on all linear layers but the head, in place; only they stay trainable.

    The model computes what it did before: one matrix of each pair starts at 0. Their product counts twice (α = 2 rank).
    Adapters that are there already stay as they are.

    Raises:
        ValueError: they are of another rank.
    """
    ranks = {layer.r[ADAPTER] for layer in model.modules() if isinstance(layer, LoraLayer)}
    if ranks == {rank}:
        return
    if ranks:
        raise ValueError(f"lora: the model has adapters of rank {min(ranks)} already, got {rank}")
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM",
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):  # adapters are made on the CPU
        torch.default_generator.manual_seed(seed)
        inject_adapter_in_model(config, model, ADAPTER)


def merged(model: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state with every adapter added to its layer, under the layers' own names; without adapters, as it is."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            layer: Any = module  # of a kind that has `fan_in_fan_out`, as all that are made here
            down, up = (state.pop(f"{name}.lora_{half}.{ADAPTER}.weight") for half in "AB")
            delta = up.float() @ down.float() * layer.scaling[ADAPTER]
            weight = state.pop(f"{name}.base_layer.weight")
            state[f"{name}.weight"] = (weight + (delta.T if layer.fan_in_fan_out else delta)).to(weight.dtype)
            if f"{name}.base_layer.bias" in state:
                state[f"{name}.bias"] = state.pop(f"{name}.base_layer.bias")
    return state
