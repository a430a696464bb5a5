"""One process or many: where the weights live, who takes which rows, and how the parts are put together again.

Start several processes with torchrun; each sees the same program and the same data:

    ACCELERATE_USE_CPU=true torchrun --standalone --nproc-per-node 2 ...    # CPU
    torchrun --standalone --nproc-per-node 8 ...                            # one GPU for each process

The weights are then sharded over the processes (FSDP2): on GPUs by accelerate's plugin; on CPUs, where accelerate
would quietly leave each process a whole copy of its own, by torch's `fully_shard`.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin, PartialState
from accelerate.utils import gather_object, parse_flag_from_env
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from llm.lora import merged

Item = TypeVar("Item")


def process() -> PartialState:
    """This process, among all: ``device``, ``process_index``, ``num_processes``.

    Raises:
        RuntimeError: fewer processes work together than were started.
    """
    # accelerate takes processes on CPUs for one another's partners only if it is told so.
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes != started:
        raise RuntimeError(
            f"{started} processes were started, but this one counts {state.num_processes}: "
            "on CPUs start them with `ACCELERATE_USE_CPU=true torchrun --standalone --nproc-per-node N`"
        )
    return state


def is_main() -> bool:
    """Whether this process is the one that writes files and prints."""
    return process().is_main_process


def share(items: Sequence[Item]) -> list[Item]:
    """The items that are this process's to work on."""
    return list(items[process().process_index :: process().num_processes])


def gather_objects(items: list[Item]) -> list[Item]:
    """Every process's items, on every process: ``gather_objects(share(items)) == items``. They are pickled."""
    if process().num_processes == 1:
        return list(items)
    parts = gather_object([items])
    return [part[k] for k in range(max(map(len, parts))) for part in parts if k < len(part)]


def on_main(act: Callable[[], Item]) -> Item:
    """What the main process gets when it does this; the others wait for it, and share in its error."""
    outcome: tuple[Any, Exception | None] = None, None
    if is_main():
        try:
            outcome = act(), None
        except Exception as error:
            outcome = None, error
    found, error = gather_objects([outcome])[0]
    if error is not None:
        raise error
    return found


def part() -> None:
    """Wait for the other processes, and have no more to do with them: the last thing before the end of the program.

    Without it a process may find at its exit that its partners are gone, and abort.
    """
    if process().num_processes > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def total(number: torch.Tensor) -> torch.Tensor:
    """The sum over all processes of a tensor, on each of them."""
    if process().num_processes > 1:
        number = number.clone()
        torch.distributed.all_reduce(number)
    return number


def prepare(
    model: nn.Module, optimizer: Callable[[nn.Module], torch.optim.Optimizer], half: bool
) -> torch.optim.Optimizer:
    """Bring the model to its device, in place, sharded if there are many processes, and make its optimizer.

    Args:
        half: sharded weights are gathered, and computed with, in bfloat16. (One process needs autocast for that.)
    """
    state = process()
    if isinstance(model, FSDPModule):  # another trainer has brought it there
        pass
    elif state.num_processes == 1:
        model.to(state.device)
    elif state.device.type == "cpu":
        _shard(model, MixedPrecisionPolicy(torch.bfloat16, torch.float32) if half else MixedPrecisionPolicy())
    else:
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=False
        )
        accelerator = Accelerator(fsdp_plugin=plugin, mixed_precision="bf16" if half else "no")
        return accelerator.prepare(model, optimizer(model))[1].optimizer
    return optimizer(model)


def _shard(model: nn.Module, policy: MixedPrecisionPolicy) -> None:
    """Each block is a unit of its own; what is left (embeddings, head, last norm) belongs to the root."""
    blocks = set(getattr(model, "_no_split_modules", None) or ())
    for module in list(model.modules()):
        if type(module).__name__ in blocks:
            fully_shard(module, mp_policy=policy)
    fully_shard(model, mp_policy=policy)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of a tensor, put together from its shards. Every process must call it."""
    tensor = tensor.detach()
    return tensor.full_tensor().clone() if isinstance(tensor, DTensor) else tensor.clone()


def like(tensor: torch.Tensor, model: torch.Tensor) -> torch.Tensor:
    """The reverse of `whole`: a copy of the tensor, sharded and placed as the model of it is."""
    if isinstance(model, DTensor):
        return distribute_tensor(tensor.to(model.device), model.device_mesh, model.placements)
    return tensor.to(model.device, copy=True)


def collected(tensors: Mapping[str, torch.Tensor], everywhere: bool = True) -> dict[str, torch.Tensor]:
    """Copies of tensors, whole. Every process must call it.

    Args:
        everywhere: on every process, where they are; or on the CPU of the main one alone, none on the others, so that
            no accelerator ever holds more than one of them beside its own shard.
    """
    found = {}
    for name, tensor in tensors.items():
        one = whole(tensor)
        if everywhere or is_main():
            found[name] = one if everywhere else one.cpu()
    return found


def full_state(model: nn.Module, everywhere: bool = True) -> dict[str, torch.Tensor]:
    """Copies of all weights, whole, under the names of the plain model; LoRA is merged into them.

    Every process must call it; ``everywhere`` as in `collected`. For a rollout engine, or to save as a plain model
    (transformers empties the dict that it is given): ``model.save_pretrained(folder, state_dict=dict(state))``.
    """
    found = collected(model.state_dict(), everywhere)
    return merged(model, found) if found else {}


class Replica:
    """The current weights of a model that trains, in a module that one process can compute with by itself.

    One process: the model itself. Several: a copy, into which the weights are loaded once they have changed.

    Args:
        model: as it is before a trainer takes it.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model, self._stale = model, False
        self._plain = model if process().num_processes == 1 else frozen(model).to(process().device, torch.float32)

    def changed(self) -> None:
        """Say that the weights have changed."""
        self._stale = self._plain is not self._model

    def current(self) -> nn.Module:
        """The module, with the weights as they are now. Every process must call it."""
        if self._stale:
            self._plain.load_state_dict(full_state(self._model))
            self._stale = False
        return self._plain


def frozen(model: nn.Module) -> nn.Module:
    """A copy that does not change."""
    return copy.deepcopy(model).eval().requires_grad_(False)
