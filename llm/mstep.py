"""The M-step: fine-tune a causal language model on rows, by maximum likelihood or along given weights.

    trainer = Trainer(model, closing, TrainConfig(rate=1e-3, batch=32))
    for chosen in trainer.batches(len(rows), updates=100, seed=0):
        print(trainer.update([rows[i] for i in chosen])["loss"])

The caller owns the loop. Rows without thoughts make it next-token prediction. The loss of an update does not depend on
how its rows are put together: padded or packed, in one pass or in many, by one process or by several.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from llm import distributed
from llm.lora import add_lora
from llm.passes import batches, blank, check_packing, split
from llm.program import Row
from llm.scoring import collate, log_probs

SCHEDULES = ("constant", "linear", "cosine")
DTYPES = ("float32", "bfloat16")


class NonFiniteLoss(RuntimeError):
    """The loss of an update or its gradient is infinite or not a number; the weights are as they were before it."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Args:
        rate: learning rate of AdamW, after the warm-up.
        batch: rows in an update.
        warmup: updates over which the rate rises to its value, linearly.
        schedule: the rate after the warm-up: "constant", or "linear" or "cosine": falling to 0 at update ``total``.
        total: number of updates of the whole run.
        weight_decay: of matrices; norms, biases and embeddings (and a head that shares theirs) do not decay.
        betas: of AdamW.
        clip: largest norm of the gradient; longer ones are shortened to it. None: as they are.
        pack: rows end to end in one long row, rather than padded side by side. No padding, but a pass then costs memory
            and time by the square of ``max_tokens``: it pays with long rows of unequal lengths.
        max_tokens: most tokens in a pass, padding included; an update makes as many passes as it needs. A row that is
            longer goes through alone. None: one pass.
        dtype: what passes compute in; weights that train, and their moments, are float32 always.
        checkpointing: keep only the input of each block for the gradient, and compute the block once more.
        lora: rank of low-rank adapters, trained instead of the weights. 0: train the weights.
        seed: of the first adapters.
    """

    rate: float = 1e-3
    batch: int = 32
    warmup: int = 0
    schedule: str = "constant"
    total: int | None = None
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float | None = 1.0
    pack: bool = False
    max_tokens: int | None = None
    dtype: str = "float32"
    checkpointing: bool = False
    lora: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("warmup", 0), ("total", 1), ("max_tokens", 1), ("lora", 0), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}: must be at least {least}, got {value}")
        _check_positive("rate", self.rate)
        if self.clip is not None:
            _check_positive("clip", self.clip)
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay: must be at least 0, got {self.weight_decay}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas: must be two numbers in [0, 1), got {self.betas}")
        for name, known in (("schedule", SCHEDULES), ("dtype", DTYPES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.schedule != "constant" and (self.total is None or self.total <= self.warmup):
            raise ValueError(
                f"total: schedule {self.schedule!r} falls from the end of the warm-up (update {self.warmup}) to the "
                f"last update; give the number of updates of the whole run, got {self.total}"
            )

    def rate_at(self, update: int) -> float:
        """The learning rate of an update, counted from 0.

        Raises:
            ValueError: the schedule has ended before it.
        """
        if update < self.warmup:
            return self.rate * (update + 1) / self.warmup
        if self.schedule == "constant":
            return self.rate
        assert self.total is not None
        if update >= self.total:
            raise ValueError(f"total: the schedule ends after {self.total} updates, and this is one more; raise it")
        done = (update - self.warmup) / (self.total - self.warmup)
        return self.rate * (1 - done if self.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2)


class Trainer:
    """AdamW on the weights of a model, one update at a time.

    The model is changed in place (`model`): brought to its device (that of accelerate; ``ACCELERATE_USE_CPU=true`` for
    the CPU), to float32, sharded if there are several processes, with adapters if ``lora > 0``. It stays in evaluation
    mode: dropout is off, so that training and scoring see the same model and no randomness is used.

    Args:
        model: a causal LM of transformers.
        closing: boolean ``(V,)``, the tokens that close a thought.

    Raises:
        ValueError: the model or `closing` is not fit for it.
    """

    def __init__(self, model: Any, closing: torch.Tensor, config: TrainConfig) -> None:
        about = model.config.get_text_config()
        self.vocabulary: int = about.vocab_size
        self.longest: int | None = getattr(about, "max_position_embeddings", None)
        if closing.dtype != torch.bool or closing.ndim != 1 or len(closing) < self.vocabulary:
            raise ValueError(
                f"closing: must be boolean, one for each of {self.vocabulary} tokens, "
                f"got {closing.dtype} {tuple(closing.shape)}"
            )
        self.config, self.model, self.updates = config, model, 0
        if config.lora:
            add_lora(model, config.lora, config.seed)
        if not any(weight.requires_grad for weight in model.parameters()):
            raise ValueError("model: no weight of it requires a gradient; call model.requires_grad_(True)")
        for weight in model.parameters():
            if weight.dtype != torch.float32 and (weight.requires_grad or config.dtype == "float32"):
                weight.data = weight.data.float()
        model.eval()
        self._checkpointed = _blocks(model) if config.checkpointing else []
        self.process = distributed.process()
        if config.pack:
            check_packing(model)
        self.optimizer = distributed.prepare(model, self._adamw, config.dtype == "bfloat16")
        self.closing = closing.to(self.process.device)
        self.weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}

    def _adamw(self, model: nn.Module) -> torch.optim.Optimizer:
        embedded = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
        decays: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for weight in model.parameters():
            if weight.requires_grad:
                decays[weight.ndim >= 2 and id(weight) not in embedded].append(weight)
        groups = [
            {"params": weights, "weight_decay": self.config.weight_decay if decay else 0.0}
            for decay, weights in decays.items()
            if weights
        ]
        return torch.optim.AdamW(groups, lr=self.config.rate, betas=self.config.betas, foreach=True)

    def batches(self, count: int, updates: int, seed: int | np.random.SeedSequence) -> Iterator[np.ndarray]:
        """Which of ``count`` rows each update takes, ``(batch,)``: all in random order, then again in another."""
        return batches(count, self.config.batch, updates, seed)

    def update(self, rows: Sequence[Row], *, normaliser: float | None = None, rate: float | None = None) -> dict:
        """One step of AdamW along the gradient of -Σ (weight · token + decision_weight · decision) / normaliser.

        Sums are over all positions of all rows. Several processes are all given the same rows, and share them out.

        Args:
            normaliser: default: Σ weight over the predicted positions; give it where weights have both signs.
            rate: learning rate of this update. Default: that of the schedule.

        Returns:
            ``loss`` (nats per weighted token), ``grad_norm`` (before clipping), ``rate``, ``tokens`` (of all rows,
            without padding), ``seconds``.

        Raises:
            ValueError: rows that can't be trained on.
            NonFiniteLoss: the update was not made; weights, moments and the number of updates are as before.
        """
        start = time.perf_counter()
        normaliser = self._check(rows, normaliser)
        rate = self.config.rate_at(self.updates) if rate is None else _check_positive("rate", rate)
        self.optimizer.zero_grad()
        try:
            loss, grad_norm = self._step(rows, normaliser, rate)
        finally:
            self.optimizer.zero_grad()
        self.updates += 1
        tokens, seconds = sum(len(row.ids) for row in rows), time.perf_counter() - start
        return {"loss": loss, "grad_norm": grad_norm, "rate": rate, "tokens": tokens, "seconds": seconds}

    def _step(self, rows: Sequence[Row], normaliser: float, rate: float) -> tuple[float, float]:
        loss = distributed.total(self._backward(rows, normaliser))
        norm = nn.utils.get_total_norm([weight.grad for weight in self.weights.values() if weight.grad is not None])
        norm = norm.full_tensor() if isinstance(norm, distributed.DTensor) else norm
        loss, grad_norm = torch.stack([loss, norm]).tolist()
        if not math.isfinite(loss + grad_norm):
            raise NonFiniteLoss(
                f"update {self.updates}: loss {loss}, norm of the gradient {grad_norm}; the weights are as before. Try "
                f"a lower rate (now {rate:g}), a longer warm-up (now {self.config.warmup}), a smaller clip (now "
                f"{self.config.clip})" + (", or dtype float32" if self.config.dtype != "float32" else "")
            )
        if self.config.clip is not None:
            nn.utils.clip_grads_with_norm_(self.weights.values(), self.config.clip, norm, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return loss, grad_norm

    def _check(self, rows: Sequence[Row], normaliser: float | None) -> float:
        """The normaliser, if these rows can be trained on."""
        if not rows:
            raise ValueError("rows: none given")
        longest = max(len(row.ids) for row in rows)
        if self.longest is not None and longest > self.longest:
            raise ValueError(
                f"rows: one has {longest} ids, but the model takes at most {self.longest} (max_position_embeddings); "
                "leave it out, or shorten programs and thoughts"
            )
        if (largest := max(row.ids.max() for row in rows)) >= self.vocabulary:
            raise ValueError(
                f"rows: one has the id {largest}, but the model knows {self.vocabulary} tokens; use its own tokenizer"
            )
        if normaliser is not None:
            return _check_positive("normaliser", normaliser)
        weights = np.concatenate([row.weight[1:] for row in rows])
        if (weights < 0).any() or not weights.sum() > 0:
            raise ValueError(
                "normaliser: must be given where weights are negative, not numbers, or all 0; it is what the loss is "
                "divided by"
            )
        return float(weights.sum(dtype=np.float64))

    def _backward(self, rows: Sequence[Row], normaliser: float) -> torch.Tensor:
        """Add this process's part of the gradient, and return its part of the loss."""
        world, rank = self.process.num_processes, self.process.process_index
        plans = [split(rows[k::world], self.config.max_tokens, self.config.pack) for k in range(world)]
        passes = plans[rank]
        # A pass is common to all processes: whoever has fewer goes along with rows that count nothing.
        passes = passes + [[blank(rows[0])]] * (max(map(len, plans)) - len(passes))
        loss = torch.zeros((), device=self.process.device)
        half = world == 1 and self.config.dtype == "bfloat16"
        with _checkpointing(self._checkpointed):
            for part in passes:
                batch = collate(part, pack=self.config.pack, device=self.process.device)
                with torch.autocast(self.process.device.type, torch.bfloat16) if half else nullcontext():
                    decision, token = log_probs(self.model, batch, self.closing)
                part_loss = -(batch.weight @ token + batch.decision_weight @ decision) / normaliser
                (part_loss * world).backward()  # the gradients of processes are averaged
                loss += part_loss.detach()
        return loss

    def state_dict(self, everywhere: bool = True) -> dict[str, Any]:
        """What it takes to go on as if nothing had been: moments by name, number of updates, adapters if there are any.

        The weights of the model are not in it (`distributed.full_state`). The tensors are whole, whatever the number of
        processes, all of which must call it; ``everywhere`` as in `distributed.collected`.
        """
        moments = {
            name: distributed.collected(self.optimizer.state[weight], everywhere)
            for name, weight in self.weights.items()
            if weight in self.optimizer.state
        }
        state = {"updates": self.updates, "moments": moments}
        if self.config.lora:
            state["adapters"] = distributed.collected(self.weights, everywhere)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`, of any number of processes.

        Raises:
            ValueError: it is of another model, or of another ``lora``.
        """
        moments, adapters = state["moments"], state.get("adapters", {})
        own = {name: weight.shape for name, weight in self.weights.items()}
        if adapters.keys() != (own.keys() if self.config.lora else set()):
            raise ValueError("state: it has other adapters than this model; `lora` must be as it was")
        if any(own.get(name) != moment["exp_avg"].shape for name, moment in moments.items()):
            raise ValueError("state: its moments are of another model; load it into the one that it was saved with")
        with torch.no_grad():
            for name, adapter in adapters.items():
                self.weights[name].copy_(distributed.like(adapter, self.weights[name]))
        self.optimizer.state.clear()
        for name, moment in moments.items():
            weight = self.weights[name]
            self.optimizer.state[weight] = {
                key: value.clone() if key == "step" else distributed.like(value, weight)
                for key, value in moment.items()
            }
        self.updates = state["updates"]


def _blocks(model: Any) -> list[Any]:
    """The blocks that can be checkpointed.

    Raises:
        ValueError: there are none, or they would drop out once they are in training mode, which checkpointing needs.
    """
    blocks = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not blocks:
        raise ValueError(f"checkpointing: {type(model).__name__} has no blocks for it; use checkpointing=False")
    for block in blocks:
        for name, value in vars(block).items():
            if "dropout" in name and isinstance(value, float) and value > 0:
                raise ValueError(
                    f"checkpointing: needs a {type(model).__name__} without dropout; load it with {name}=0.0"
                )
    return blocks


@contextmanager
def _checkpointing(blocks: list[Any]) -> Iterator[None]:
    """Checkpoint these blocks. Only then: a block that does so refuses a cache, which rollouts need."""
    for block in blocks:
        block._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
        block.gradient_checkpointing = block.training = True
    try:
        yield
    finally:
        for block in blocks:
            block.gradient_checkpointing = block.training = False


def _check_positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}: must be a positive number, got {value}")
    return value
