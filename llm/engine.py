"""What draws from a language model and scores under it: a small protocol on token ids, and the engine in process.

Ids only, never text. Every request has a seed of its own, and what is drawn depends on the seed and the prefix alone:
not on the other requests of a batch, nor on how the work is cut into batches.

The in-process engine keeps keys and values for every row (`Session`), so that each token of a trajectory is computed
once: an expert's line is appended whole, its log-probabilities come from the same pass, and only the rows that think
decode token by token. Column j of the cache is position j of its row: rows of different lengths leave no holes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicLayer

# Rows of different lengths are computed together as long as this share of the tokens is padding at most.
PADDING = 0.02


class Sample(NamedTuple):
    """What was drawn after a prefix: ``ids`` without the stop token, float32 ``log_probs`` of each, and of the stop.

    ``stop`` is the log-probability of the token that ended it; None if the limit did.
    """

    ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    stop: float | None


class Engine(Protocol):
    """Draws and scores under one set of weights."""

    def sample(
        self, prefixes: Sequence[Sequence[int]], *, stop: np.ndarray, max_new_tokens: int, seeds: Sequence[Any],
        temperature: float = 1.0,
    ) -> list[Sample]:  # fmt: skip
        """Continue each prefix (one id or more) until a token with ``stop[id]`` (boolean ``(V,)``) or the limit.

        Log-probabilities are those of the distribution that is drawn from. ``temperature=0`` takes the likeliest.
        """
        ...

    def score(self, prefixes: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Log-probability (float32, temperature 1) of each token of each continuation."""
        ...

    version: int

    def sync(self, model: Any, version: int) -> None:
        """Use the weights of a transformers model from now on; ``version`` names them in errors and logs."""
        ...


class InProcess:
    """The engine of reference: a transformers model in this process, on whatever device it is."""

    def __init__(self, model: Any, version: int = 0) -> None:
        self.sync(model, version)

    def sync(self, model: Any, version: int) -> None:
        self.model, self.version = model, version

    @torch.no_grad()
    def sample(
        self, prefixes: Sequence[Sequence[int]], *, stop: np.ndarray, max_new_tokens: int, seeds: Sequence[Any],
        temperature: float = 1.0,
    ) -> list[Sample]:  # fmt: skip
        check_requests(prefixes, seeds, max_new_tokens, temperature)
        session = Session(self.model, len(prefixes))
        everyone = np.arange(len(prefixes))
        session.append(everyone, prefixes, score=False)
        uniforms = np.array([np.random.default_rng(seed).random(max_new_tokens) for seed in seeds])
        stop_ids = torch.from_numpy(np.asarray(stop)).to(session.device)
        found: list[tuple[list[int], list[float]]] = [([], []) for _ in prefixes]
        ends: list[float | None] = [None] * len(prefixes)
        rows = everyone
        for place in range(max_new_tokens):
            drawn, log_prob = draw(session.logits[session.index(rows)], uniforms[rows, place], temperature)
            stopped = stop_ids[drawn].cpu().numpy()
            ids, values = drawn.cpu().numpy(), log_prob.cpu().numpy()
            for row, token, value, ended in zip(rows.tolist(), ids.tolist(), values.tolist(), stopped, strict=True):
                if ended:
                    ends[row] = value
                else:
                    found[row][0].append(token)
                    found[row][1].append(value)
            rows, ids = rows[~stopped], ids[~stopped]
            if not len(rows) or place + 1 == max_new_tokens:
                break
            session.append(rows, ids[:, None], score=False)
        return [Sample(tuple(ids), tuple(values), end) for (ids, values), end in zip(found, ends, strict=True)]

    @torch.no_grad()
    def score(self, prefixes: Sequence[Any], continuations: Sequence[Any]) -> list[np.ndarray]:
        check_requests(prefixes, continuations)
        session = Session(self.model, len(prefixes))
        rows = np.arange(len(prefixes))
        session.append(rows, prefixes, score=False)
        scored = np.array([len(continuation) > 0 for continuation in continuations], dtype=bool)
        found = [np.zeros(0, np.float32) for _ in continuations]
        chosen = rows[scored]
        if len(chosen):
            values = session.append(chosen, [continuations[row] for row in chosen])
            assert values is not None
            for row, value in zip(chosen, values, strict=True):
                found[row] = value
        return found


def check_requests(
    prefixes: Sequence[Any], others: Sequence[Any], max_new_tokens: int = 1, temperature: float = 1.0
) -> None:
    """Refuse what no engine can answer.

    Raises:
        ValueError: no prefixes, an empty one, another number of seeds or continuations, a bad limit or temperature.
    """
    if len(prefixes) == 0 or any(len(prefix) == 0 for prefix in prefixes):
        raise ValueError("prefixes: give at least one, each of one id or more")
    if len(others) != len(prefixes):
        raise ValueError(f"prefixes: {len(prefixes)} of them, but {len(others)} seeds or continuations")
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens: must be at least 1, got {max_new_tokens}")
    if not 0 <= temperature < np.inf:
        raise ValueError(f"temperature: must be 0 or a positive number, got {temperature}")


def draw(logits: torch.Tensor, uniforms: np.ndarray, temperature: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens ``(b,)`` and their log-probabilities from float32 logits ``(b, V)``, one uniform number for each row."""
    if temperature == 0:
        best = logits.argmax(-1)
        return best, torch.zeros_like(logits[:, 0])
    log_p = (logits / temperature).log_softmax(-1)
    # float64: a cumulated sum of 50,000 float32 numbers would be off by more than rare tokens weigh.
    cumulated = log_p.double().exp().cumsum(-1)
    goal = torch.from_numpy(np.ascontiguousarray(uniforms)).to(logits.device)[:, None] * cumulated[:, -1:]
    token = torch.searchsorted(cumulated, goal, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
    return token, log_p.gather(-1, token[:, None])[:, 0]


@dataclass
class Counts:
    """Tokens that forward passes have computed: all of them, and those that were no padding."""

    computed: int = 0
    needed: int = 0


class Session:
    """Keys and values of B rows under one model; without gradients.

    Args:
        model: a causal LM of transformers with full attention in all layers.
        rows: B.
        positions: room for so many tokens in each row at first; it grows as needed, at the price of a copy.

    Attributes:
        logits: float32 ``(B, V)``, of the token that comes next in each row (rows that have none yet: zeros).
        lengths: ``(B,)`` NumPy, tokens in each row.
        counts: what was computed so far.

    Raises:
        ValueError: a model with sliding or linear attention layers; in `append`, an empty chunk, rows that do not
            ascend, or one longer than the model allows.
    """

    def __init__(self, model: Any, rows: int, positions: int = 64) -> None:
        usual = "sliding_attention" if getattr(model.config, "sliding_window", None) else "full_attention"
        kinds = set(getattr(model.config, "layer_types", None) or [usual])
        if kinds != {"full_attention"}:
            raise ValueError(
                f"model: {type(model).__name__} has layers with {', '.join(sorted(kinds))}; a session needs full "
                "attention in all of them"
            )
        self.model, self.counts = model, Counts()
        self.device = next(model.parameters()).device
        self.lengths = np.zeros(rows, np.int64)
        self.logits = torch.zeros(rows, 0, device=self.device)
        self._limit = getattr(model.config, "max_position_embeddings", None) or 2**31
        self._cache = _Cache(model.config.num_hidden_layers, rows, positions)

    def index(self, rows: np.ndarray) -> torch.Tensor | slice:
        """Rows as an index for tensors."""
        return slice(None) if len(rows) == len(self.lengths) else torch.from_numpy(rows).to(self.device)

    @torch.no_grad()
    def append(self, rows: np.ndarray, chunks: Any, score: bool = True) -> list[np.ndarray] | None:
        """Feed ``chunks[k]`` (one id or more) to row ``rows[k]``; rows ascend.

        Returns:
            The float32 log-probability of each token of each chunk; of a row's very first token NaN, for nothing was
            before it. None with ``score=False``.
        """
        sizes = np.array([len(chunk) for chunk in chunks])
        if not sizes.all():
            raise ValueError("chunks: give each row one id or more")
        if (np.diff(rows) <= 0).any():
            raise ValueError("rows: must ascend, each at most once")
        found: list[Any] = [None] * len(rows)
        for group in _buckets(sizes):
            width = int(sizes[group].max())
            ids = np.zeros((len(group), width), np.int64)
            for place, k in enumerate(group):
                ids[place, : sizes[k]] = chunks[k]
            values = self._feed(rows[group], ids, sizes[group], score)
            for place, k in enumerate(group):
                found[k] = None if values is None else values[place, : sizes[k]]
        return found if score else None

    def _feed(self, rows: np.ndarray, ids: np.ndarray, sizes: np.ndarray, score: bool) -> np.ndarray | None:
        start = self.lengths[rows]
        ends = start + sizes
        if ends.max() > self._limit:
            raise ValueError(
                f"chunks: a row of {ends.max()} tokens is longer than the model's {self._limit}; use shorter programs "
                "or thoughts"
            )
        width = ids.shape[1]
        positions = torch.from_numpy(start[:, None] + np.arange(width)).to(self.device)
        reach = int((start + width).max())
        chosen = self.index(rows)
        self._cache.aim(chosen, positions, reach)
        before = self.logits[chosen] if score and self.logits.shape[1] else None
        mask = None
        if width > 1 or (start != start[0]).any():
            dtype = self.model.dtype
            seen = torch.arange(reach, device=self.device) <= positions[..., None]
            mask = torch.zeros(seen.shape, dtype=dtype, device=self.device)
            mask = mask.masked_fill(~seen, torch.finfo(dtype).min)[:, None]
        tokens = torch.from_numpy(ids).to(self.device)
        # Logits are large: without scores, only those of the rows' last tokens are made.
        last = np.arange(width) if score else np.unique(sizes - 1)
        keep = {"logits_to_keep": torch.from_numpy(last).to(self.device)} if len(last) < width else {}
        # The positions of padded tokens could pass the end of a table of learnt positions.
        logits = self.model(
            input_ids=tokens, position_ids=positions.clamp(max=self._limit - 1), attention_mask=mask,
            past_key_values=self._cache, use_cache=True, **keep,
        ).logits  # fmt: skip
        self.counts.computed += ids.size
        self.counts.needed += int(sizes.sum())
        values = None
        if score:
            values = np.full(ids.shape, np.nan, np.float32)
            if before is not None:
                values[:, 0] = _pick(before, tokens[:, :1])[:, 0].cpu().numpy()
            if width > 1:
                values[:, 1:] = _pick(logits[:, :-1].float(), tokens[:, 1:]).cpu().numpy()
            values[start == 0, 0] = np.nan
        places = torch.from_numpy(np.searchsorted(last, sizes - 1))
        following = logits[torch.arange(len(rows)), places].float()
        if not self.logits.shape[1]:
            self.logits = torch.zeros(len(self.lengths), following.shape[-1], device=self.device)
        self.logits[chosen] = following
        self.lengths[rows] = ends
        return values

    def select(self, rows: np.ndarray) -> None:
        """Go on with these rows (any number, repeats allowed), each with its whole past."""
        index = torch.from_numpy(np.asarray(rows, np.int64)).to(self.device)
        self._cache.select(index, int(self.lengths.max(initial=0)))
        self.logits, self.lengths = self.logits[index], self.lengths[rows]


def _pick(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    if logits.dim() == 2:
        logits = logits[:, None]
    return logits.gather(-1, tokens[..., None])[..., 0] - logits.logsumexp(-1)


def _buckets(sizes: np.ndarray) -> list[np.ndarray]:
    """Indices in groups of nearly equal sizes, each ascending, so that little of what is computed is padding."""
    order = np.argsort(sizes, kind="stable")
    cuts, count, total = [], 0, 0
    for size, at, more in zip(*np.unique(sizes[order], return_index=True, return_counts=True), strict=True):
        if count and size * count - total > PADDING * (total + size * more):
            cuts.append(int(at))
            count = total = 0
        count, total = count + more, total + size * more
    return [np.sort(group) for group in np.split(order, cuts)]


@dataclass
class _Buffer:
    keys: torch.Tensor | None = None
    values: torch.Tensor | None = None

    def hold(self, like: torch.Tensor, rows: int, positions: int) -> None:
        """Room for so many positions."""
        if self.keys is not None and self.keys.shape[2] >= positions:
            return
        for name in ("keys", "values"):
            new = like.new_zeros(rows, like.shape[1], positions, like.shape[3])
            if (old := getattr(self, name)) is not None:
                new[:, :, : old.shape[2]] = old
            setattr(self, name, new)


@dataclass
class _Cache(Cache):
    """`transformers`' cache interface over buffers that rows are written into at their own positions."""

    depth: int
    rows: int
    room: int
    buffers: list[_Buffer] = field(init=False)

    def __post_init__(self) -> None:
        # The layers are there for what transformers asks of a cache beside `update`; they stay empty.
        Cache.__init__(self, layers=[DynamicLayer() for _ in range(self.depth)])
        self.buffers = [_Buffer() for _ in range(self.depth)]

    def aim(self, rows: torch.Tensor | slice, positions: torch.Tensor, reach: int) -> None:
        """Say where the next pass writes: rows, positions ``(b, L)``, and one more than the largest position."""
        if reach > self.room:
            # A quarter more than needed: growing copies everything.
            self.room = reach + reach // 4
        self._chosen, self._positions, self._reach = rows, positions, reach
        self._everyone = isinstance(rows, slice)
        self._index = torch.arange(self.rows, device=positions.device) if isinstance(rows, slice) else rows

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        buffer = self.buffers[layer_idx]
        buffer.hold(key_states, self.rows, self.room)
        assert buffer.keys is not None and buffer.values is not None
        where = (self._index[:, None], slice(None), self._positions)
        buffer.keys[where] = key_states.transpose(1, 2)
        buffer.values[where] = value_states.transpose(1, 2)
        keys, values = buffer.keys[:, :, : self._reach], buffer.values[:, :, : self._reach]
        if self._everyone:
            return keys, values
        return keys.index_select(0, self._index), values.index_select(0, self._index)

    def select(self, index: torch.Tensor, used: int) -> None:
        own = torch.arange(len(index), device=index.device)
        # Few rows change places when a few groups are resampled.
        into = torch.nonzero(index != own)[:, 0] if len(index) == self.rows else own
        for buffer in self.buffers:
            for name in ("keys", "values"):
                old = getattr(buffer, name)
                if old is None:
                    continue
                moved = old[:, :, :used].index_select(0, index[into])
                if len(index) != self.rows:
                    setattr(buffer, name, old.new_zeros(len(index), *old.shape[1:]))
                getattr(buffer, name)[into, :, :used] = moved
        self.rows = len(index)
