"""Fine-tuning on rows. Run under torchrun this file is the program of one process (see the end)."""

import copy
import io
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM, OPTConfig, OPTForCausalLM

from llm import distributed
from llm.lora import add_lora
from llm.models import load, tiny
from llm.mstep import NonFiniteLoss, TrainConfig, Trainer
from llm.passes import batches, blank, split
from llm.program import Program, Row, assemble
from llm.scoring import collate, log_probs

VOCABULARY, NEWLINE, MARKER = 64, 61, 62
CLOSING = torch.arange(VOCABULARY) == NEWLINE
KINDS = ["llama", "gpt2"]


def make(kind="llama", **options):
    return tiny(VOCABULARY, kind=kind, width=32, heads=2, max_length=96, **options)


def thoughtful(lengths, rng):
    """A program of lines of these lengths, with a thought before every other one."""
    cuts = 2 + np.cumsum([0, *lengths])
    n, T = int(cuts[-1]), len(lengths)
    program = Program(
        ids=rng.integers(0, 60, n), cuts=cuts, split=np.zeros(T, int), marker=np.full(T, MARKER),
        content=np.ones(n, bool), closer=((NEWLINE,),) * T,
    )  # fmt: skip
    thoughts = [tuple(rng.integers(0, 60, 3)) if t % 2 else None for t in range(T)]
    return assemble(program, thoughts)


def plain(n, rng):
    zeros = np.zeros(n, np.float32)
    return Row(rng.integers(0, 60, n), zeros.astype(int) - 1, zeros > 0, zeros + 1, zeros, zeros, zeros)


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    mixed = [thoughtful(lengths, rng) for lengths in ([3, 4], [5, 2, 6, 3], [1], [4, 4, 4], [7, 1, 2])]
    return [*mixed, plain(17, rng), plain(5, rng)]


def gradient(trainer, rows, normaliser):
    """Loss and gradient of an update that isn't made."""
    loss = trainer._backward(rows, normaliser).item()
    gradients = {name: weight.grad.clone() for name, weight in trainer.weights.items()}
    trainer.optimizer.zero_grad()
    return loss, gradients


def reference(model, rows, normaliser):
    """The same, row by row, without trainer or micro-batches."""
    loss = 0
    for row in rows:
        batch = collate([row])
        decision, token = log_probs(model, batch, CLOSING)
        loss = loss - (batch.weight * token + batch.decision_weight * decision).sum() / normaliser
    loss.backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    return loss.item(), gradients


def assert_close(one, other, tolerance=1e-6):
    assert one[0] == pytest.approx(other[0], rel=tolerance)
    assert one[1].keys() == other[1].keys()
    for name in one[1]:
        torch.testing.assert_close(one[1][name], other[1][name], rtol=1e-5, atol=tolerance)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


# The loss


@pytest.mark.parametrize("kind", KINDS)
def test_loss_of_plain_rows_is_that_of_transformers(kind):
    rng = np.random.default_rng(0)
    rows, model = [plain(n, rng) for n in (9, 20, 5)], make(kind)
    total = 0.0
    for row in rows:
        ids = torch.from_numpy(row.ids)[None]
        total += model(input_ids=ids, labels=ids).loss.item() * (len(row.ids) - 1)
    loss = Trainer(model, CLOSING, TrainConfig()).update(rows)["loss"]
    assert loss == pytest.approx(total / (9 + 20 + 5 - 3), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_decisions_that_count_1_give_ordinary_cross_entropy(kind):
    row, model = thoughtful([3, 4, 5], np.random.default_rng(1)), make(kind)
    logits = model(input_ids=torch.from_numpy(row.ids)[None]).logits[0, :-1]
    scored = torch.from_numpy(row.weight[1:] > 0)
    expected = cross_entropy(logits[scored], torch.from_numpy(row.ids[1:])[scored]).item()
    assert row.decision_weight.sum() == 3
    assert Trainer(model, CLOSING, TrainConfig()).update([row])["loss"] == pytest.approx(expected, rel=1e-6)


def test_a_decision_that_counts_0_is_cross_entropy_among_the_other_tokens():
    rng, model = np.random.default_rng(2), make()
    row = plain(12, rng)
    marker = row.marker.copy()
    marker[5] = MARKER  # a thought was dropped here
    logits = model(input_ids=torch.from_numpy(row.ids)[None]).logits[0, :-1].detach()
    logits[4, MARKER] = -torch.inf
    expected = cross_entropy(logits, torch.from_numpy(row.ids[1:])).item()
    loss = Trainer(model, CLOSING, TrainConfig()).update([replace(row, marker=marker)])["loss"]
    assert loss == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [{}, {"pack": True}, {"max_tokens": 50}, {"max_tokens": 40, "pack": True}, {"max_tokens": 1},
     {"checkpointing": True}, {"checkpointing": True, "pack": True}],
    ids=str,
)  # fmt: skip
def test_loss_and_gradient_do_not_depend_on_how_rows_are_put_together(kind, options, rows):
    expected = reference(make(kind), rows, 70.0)
    trainer = Trainer(make(kind), CLOSING, TrainConfig(**options))
    assert_close(gradient(trainer, rows, 70.0), expected)


def test_passes_are_as_the_config_says(rows):
    lengths = sorted((len(row.ids) for row in rows), reverse=True)

    def passes(**options):
        """Shapes that the model saw, and how often its first block computed."""
        model, shapes, blocks = make(), [], []
        model.register_forward_pre_hook(
            lambda _, __, inputs: shapes.append((*inputs["input_ids"].shape,)), with_kwargs=True
        )
        model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: blocks.append(1))
        trainer = Trainer(model, CLOSING, TrainConfig(**options))
        shapes.clear(), blocks.clear()
        trainer.update(rows)
        return shapes, len(blocks)

    assert passes() == ([(len(rows), lengths[0])], 1)
    assert passes(pack=True) == ([(1, sum(lengths))], 1)
    assert passes(max_tokens=1) == ([(1, n) for n in lengths], len(rows))
    assert passes(checkpointing=True) == ([(len(rows), lengths[0])], 2)


def test_weights_of_both_signs_with_a_normaliser(rows):
    rng = np.random.default_rng(3)
    signed = [
        replace(row, weight=rng.normal(size=len(row.ids)).astype(np.float32),
                decision_weight=rng.normal(size=len(row.ids)).astype(np.float32), close=row.ids == NEWLINE)
        for row in rows
    ]  # fmt: skip
    expected = reference(make(), signed, 3.0)
    trainer = Trainer(make(), CLOSING, TrainConfig(max_tokens=40, pack=True))
    assert_close(gradient(trainer, signed, 3.0), expected)
    with pytest.raises(ValueError, match=r"^normaliser: must be given"):
        trainer.update(signed)
    assert trainer.update(signed, normaliser=3.0)["loss"] == pytest.approx(expected[0], rel=1e-6)


def test_default_normaliser_counts_what_is_predicted(rows):
    weight = sum(float(row.weight[1:].sum()) for row in rows)
    first = replace(rows[-1], weight=np.ones_like(rows[-1].weight) * 1)  # position 0 is never predicted
    expected, _ = reference(make(), [*rows[:-1], first], weight)
    assert Trainer(make(), CLOSING, TrainConfig()).update([*rows[:-1], first])["loss"] == pytest.approx(expected)


# Packing


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_rows_do_not_see_each_other(kind, attention, rows):
    model = make(kind)
    model.set_attn_implementation(attention)
    rng = np.random.default_rng(4)
    changed = [replace(rows[0], ids=rng.integers(0, 60, len(rows[0].ids))), *rows[1:]]
    batch, other = collate(rows, pack=True), collate(changed, pack=True)
    with torch.no_grad():
        one, two = log_probs(model, batch, CLOSING).token, log_probs(model, other, CLOSING).token
        alone = torch.cat([log_probs(model, collate([row]), CLOSING).token for row in rows])
    assert not torch.equal(one[batch.row == 0], two[batch.row == 0])
    assert torch.equal(one[batch.row > 0], two[batch.row > 0])
    torch.testing.assert_close(one, alone, atol=1e-5, rtol=0)


def test_a_model_that_cannot_pack_is_refused():
    config = MambaConfig(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1, use_cache=False)
    with pytest.raises(ValueError, match=r"^pack: MambaForCausalLM sees across packed rows"):
        Trainer(MambaForCausalLM(config), CLOSING, TrainConfig(pack=True))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 60), st.booleans())
def test_split_keeps_every_row_and_the_budget(lengths, most, pack):
    rng = np.random.default_rng(0)
    rows = [plain(n, rng) for n in lengths]
    passes = split(rows, most, pack)
    assert sorted(map(id, rows)) == sorted(id(row) for part in passes for row in part)
    for part in passes:
        sizes = [len(row.ids) for row in part]
        assert len(part) == 1 or (sum(sizes) if pack else max(sizes) * len(sizes)) <= most
    assert split(rows, None, pack) == [rows]


# The optimizer


@pytest.mark.parametrize("clip", [None, 0.1])
def test_updates_are_those_of_a_bare_loop(clip, rows):
    model = make("gpt2")
    matrices = [
        w
        for name, w in model.named_parameters()
        if w.ndim == 2 and name not in ("transformer.wte.weight", "transformer.wpe.weight")
    ]
    others = [w for w in model.parameters() if all(w is not matrix for matrix in matrices)]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], betas=(0.8, 0.9)
    )
    batch, losses = collate(rows), []
    for update in range(5):
        decision, token = log_probs(model, batch, CLOSING)
        loss = -(batch.weight @ token + batch.decision_weight @ decision) / batch.weight.sum()
        optimizer.zero_grad()
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * min(1, (update + 1) / 3)
        optimizer.step()
        losses.append(loss.item())
    config = TrainConfig(rate=0.01, warmup=3, weight_decay=0.1, betas=(0.8, 0.9), clip=clip)
    trainer = Trainer(make("gpt2"), CLOSING, config)
    assert [trainer.update(rows)["loss"] for _ in range(5)] == pytest.approx(losses, rel=1e-5)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(trainer.weights[name], weight, rtol=1e-4, atol=2e-5)
    assert losses[-1] < losses[0]


def test_rates():
    linear = TrainConfig(rate=1.0, warmup=2, schedule="linear", total=6)
    assert [linear.rate_at(u) for u in range(6)] == [0.5, 1, 1, 0.75, 0.5, 0.25]
    cosine = TrainConfig(rate=1.0, schedule="cosine", total=4)
    assert [cosine.rate_at(u) for u in range(4)] == pytest.approx(
        [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]
    )
    assert TrainConfig(rate=1.0, warmup=1).rate_at(1000) == 1
    with pytest.raises(ValueError, match=r"^total: the schedule ends after 4 updates"):
        cosine.rate_at(4)


def test_an_update_says_what_it_did(rows):
    trainer = Trainer(make(), CLOSING, TrainConfig(rate=0.25, schedule="linear", total=2))
    first, second = trainer.update(rows, rate=1e-3), trainer.update(rows)
    assert (first["rate"], second["rate"], trainer.updates) == (1e-3, 0.125, 2)
    assert first["tokens"] == sum(len(row.ids) for row in rows)
    assert first["grad_norm"] > 0 and first["seconds"] > 0


def test_resuming_is_bit_identical(rows):
    for options in ({}, {"lora": 2}):
        config = TrainConfig(rate=0.01, schedule="cosine", total=6, warmup=2, weight_decay=0.1, **options)
        straight = Trainer(make(), CLOSING, config)
        for _ in range(3):
            straight.update(rows)
        file = io.BytesIO()
        # With adapters the weights stay those of the start.
        weights = {} if "lora" in options else distributed.full_state(straight.model)
        torch.save({"trainer": straight.state_dict(), "weights": weights}, file)
        losses = [straight.update(rows)["loss"] for _ in range(3)]
        file.seek(0)
        saved, model = torch.load(file), make()
        model.load_state_dict(saved["weights"] or model.state_dict())
        resumed = Trainer(model, CLOSING, config)
        resumed.load_state_dict(saved["trainer"])
        assert [resumed.update(rows)["loss"] for _ in range(3)] == losses
        assert_same(distributed.full_state(resumed.model), distributed.full_state(straight.model))


def test_a_state_is_a_copy(rows):
    trainer = Trainer(make(), CLOSING, TrainConfig())
    trainer.update(rows)
    state, weights = trainer.state_dict(), distributed.full_state(trainer.model)
    kept = copy.deepcopy((state, weights))
    trainer.update(rows)  # what was handed out stays
    trainer.load_state_dict(state)
    trainer.update(rows)  # and so does what was handed in
    assert_same(weights, kept[1])
    for name, moment in state["moments"].items():
        assert_same(moment, kept[0]["moments"][name])


def test_a_state_of_another_model_is_refused(rows):
    trainer = Trainer(make(), CLOSING, TrainConfig())
    trainer.update(rows)
    with pytest.raises(ValueError, match=r"^state: its moments are of another model"):
        Trainer(make("gpt2"), CLOSING, TrainConfig()).load_state_dict(trainer.state_dict())
    with pytest.raises(ValueError, match=r"^state: it has other adapters"):
        Trainer(make(), CLOSING, TrainConfig(lora=2)).load_state_dict(trainer.state_dict())


def test_an_infinite_loss_changes_nothing(rows):
    broken = [replace(rows[0], weight=rows[0].weight * np.float32(np.nan)), *rows[1:]]
    one, other = (Trainer(make(), CLOSING, TrainConfig()) for _ in range(2))
    one.update(rows), other.update(rows)
    weights, state = distributed.full_state(one.model), one.state_dict()
    with pytest.raises(
        NonFiniteLoss, match=r"^update 1: loss nan.*weights are as before. Try a lower rate \(now 0.001"
    ):
        one.update(broken, normaliser=1.0)
    assert_same(distributed.full_state(one.model), weights)
    assert one.updates == 1 and one.state_dict()["updates"] == state["updates"]
    for name, moment in one.state_dict()["moments"].items():
        assert_same(moment, state["moments"][name])
    assert one.update(rows)["loss"] == other.update(rows)["loss"]
    assert_same(distributed.full_state(one.model), distributed.full_state(other.model))


def test_gradients_that_someone_left_do_not_count(rows):
    one, other = (Trainer(make(), CLOSING, TrainConfig()) for _ in range(2))
    one.model(input_ids=torch.arange(5)[None]).logits.square().sum().backward()
    assert one.update(rows)["grad_norm"] == other.update(rows)["grad_norm"]
    assert all(weight.grad is None for weight in one.weights.values())


def test_an_infinite_gradient_of_a_finite_loss_changes_nothing(rows):
    trainer = Trainer(make(), CLOSING, TrainConfig())
    weights = distributed.full_state(trainer.model)
    with pytest.raises(NonFiniteLoss, match=r"loss \d.*norm of the gradient inf"):
        trainer.update(rows, normaliser=1e-25)
    assert_same(distributed.full_state(trainer.model), weights)


def test_no_randomness_is_used_and_dropout_is_off(rows):
    config = GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=96, bos_token_id=None, eos_token_id=None
    )
    assert config.attn_pdrop == config.resid_pdrop == 0.1
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config).train()
    with torch.no_grad():
        expected, _ = reference_loss(model.eval(), rows)
    state = torch.get_rng_state()
    trainer = Trainer(model.train(), CLOSING, TrainConfig(checkpointing=True))
    assert trainer.update(rows)["loss"] == pytest.approx(expected, rel=1e-6)
    Trainer(make(), CLOSING, TrainConfig(lora=2)).update(rows)
    assert torch.equal(torch.get_rng_state(), state)


def reference_loss(model, rows):
    normaliser = sum(float(row.weight[1:].sum()) for row in rows)
    batch = collate(rows)
    decision, token = log_probs(model, batch, CLOSING)
    return (-(batch.weight @ token + batch.decision_weight @ decision) / normaliser).item(), normaliser


def test_blank_rows_have_no_gradient(rows):
    loss, gradients = gradient(Trainer(make(), CLOSING, TrainConfig()), [blank(row) for row in rows], 1.0)
    assert loss == 0 and not any(g.any() for g in gradients.values())


# Options


def test_half_precision_keeps_whole_weights(rows):
    trainer = Trainer(make().to(torch.bfloat16), CLOSING, TrainConfig(dtype="bfloat16"))
    whole = Trainer(make().to(torch.bfloat16), CLOSING, TrainConfig())
    losses = [(trainer.update(rows)["loss"], whole.update(rows)["loss"]) for _ in range(3)]
    assert all(weight.dtype == torch.float32 for weight in trainer.weights.values())
    for half, full in losses:
        assert half != full and half == pytest.approx(full, rel=1e-2)


def test_checkpointing_leaves_the_cache_alone(rows):
    trainer = Trainer(make(), CLOSING, TrainConfig(checkpointing=True))
    trainer.update(rows)
    ids = torch.arange(6)[None]
    with torch.no_grad():
        whole = trainer.model(input_ids=ids, use_cache=False).logits[:, -1]
        start = trainer.model(input_ids=ids[:, :4], use_cache=True).past_key_values
        rest = trainer.model(input_ids=ids[:, 4:], past_key_values=start, use_cache=True).logits[:, -1]
    torch.testing.assert_close(rest, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_alone_train_and_are_merged(kind, rows, tmp_path):
    base = make(kind)
    before = {name: weight.clone() for name, weight in base.state_dict().items()}
    trainer = Trainer(base, CLOSING, TrainConfig(lora=2, rate=0.01))
    assert 0 < sum(w.numel() for w in trainer.weights.values()) < 0.15 * sum(w.numel() for w in before.values())
    assert_same(distributed.full_state(trainer.model), before)
    losses = [trainer.update(rows)["loss"] for _ in range(10)]
    assert losses[-1] < losses[0] - 0.1
    state, plain_model, batch = distributed.full_state(trainer.model), make(kind, seed=1), collate(rows)
    assert [name for name in state if not torch.equal(state[name], before[name])]
    plain_model.load_state_dict(state)
    trainer.model.save_pretrained(tmp_path, state_dict=dict(state))
    assert_same(load(tmp_path).model.state_dict(), state)
    with torch.no_grad():
        one, other = (log_probs(model, batch, CLOSING) for model in (plain_model, trainer.model))
    torch.testing.assert_close(one.token, other.token, atol=1e-5, rtol=0)
    assert all(
        torch.equal(weight, before[name.replace(".base_layer", "")])
        for name, weight in base.state_dict().items()
        if "lora_" not in name
    )


def test_trainers_share_a_model(rows):
    model = make()
    one, other = (Trainer(model, CLOSING, TrainConfig(lora=2, rate=0.01)) for _ in range(2))
    assert one.weights.keys() == other.weights.keys()
    assert other.update(rows)["loss"] > (one.update(rows), other.update(rows))[1]["loss"]
    with pytest.raises(ValueError, match=r"^lora: the model has adapters of rank 2 already, got 3"):
        add_lora(model, 3, 0)


def test_frozen_weights_stay(rows):
    model = make()
    model.model.embed_tokens.weight.requires_grad_(False)
    before = model.model.embed_tokens.weight.clone()
    trainer = Trainer(model, CLOSING, TrainConfig())
    trainer.update(rows)
    assert torch.equal(model.model.embed_tokens.weight, before)
    assert "model.embed_tokens.weight" not in trainer.weights


def test_batches_take_every_row_in_turn():
    drawn = np.concatenate(list(batches(10, 4, 5, 7)))
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert list(drawn[:10]) != list(drawn[10:])
    again = Trainer(make(), CLOSING, TrainConfig(batch=4)).batches(10, 5, np.random.SeedSequence(7))
    assert np.array_equal(np.concatenate(list(again)), drawn)
    assert [len(b) for b in batches(3, 8, 2, 0)] == [8, 8]
    assert not np.array_equal(np.concatenate(list(batches(10, 4, 5, 8))), drawn)


# Bad input


@pytest.mark.parametrize(
    "options",
    [
        {"rate": 0.0}, {"rate": math.nan}, {"batch": 0}, {"warmup": -1}, {"schedule": "step"}, {"total": 0},
        {"weight_decay": -1.0}, {"betas": (0.9, 1.0)}, {"clip": 0.0}, {"max_tokens": 0}, {"dtype": "float16"},
        {"lora": -1}, {"seed": -1}, {"total": 5, "schedule": "linear", "warmup": 5},
        {"total": None, "schedule": "cosine"},
    ],
    ids=str,
)  # fmt: skip
def test_bad_config(options):
    name = next(iter(options))
    with pytest.raises(ValueError, match=f"^{name}: "):
        TrainConfig(**options)


def test_bad_rows(rows):
    trainer = Trainer(make(), CLOSING, TrainConfig())
    rng = np.random.default_rng(0)
    for bad, name in (
        ([], "rows: none given"),
        ([plain(97, rng)], "rows: one has 97 ids, but the model takes at most 96"),
        ([replace(rows[0], ids=rows[0].ids + VOCABULARY)], r"rows: one has the id \d+, but the model knows 64"),
        ([blank(rows[0])], "normaliser: must be given"),
    ):
        with pytest.raises(ValueError, match=f"^{name}"):
            trainer.update(bad)
    for options in ({"normaliser": 0.0}, {"normaliser": math.inf}, {"rate": -1.0}):
        with pytest.raises(ValueError, match=f"^{next(iter(options))}: must be a positive number"):
            trainer.update(rows, **options)
    with pytest.raises(ValueError, match=r"^count: must be at least 1"):
        next(batches(0, 1, 1, 0))


def test_bad_models():
    for closing in (CLOSING[:-1], CLOSING.float(), CLOSING[None]):
        with pytest.raises(ValueError, match=r"^closing: must be boolean, one for each of 64 tokens"):
            Trainer(make(), closing, TrainConfig())
    with pytest.raises(ValueError, match=r"^model: no weight of it requires a gradient"):
        Trainer(make().requires_grad_(False), CLOSING, TrainConfig())
    options = dict(vocab_size=VOCABULARY, hidden_size=16, word_embed_proj_dim=16, ffn_dim=16, num_hidden_layers=1)
    model = OPTForCausalLM(OPTConfig(**options, num_attention_heads=1, dropout=0.1))
    with pytest.raises(
        ValueError, match=r"^checkpointing: needs a OPTForCausalLM without dropout; load it with dropout=0.0"
    ):
        Trainer(model, CLOSING, TrainConfig(checkpointing=True))


# Several processes

CASES = [
    ("llama", {}), ("gpt2", {"pack": True, "weight_decay": 0.1}), ("llama", {"max_tokens": 40, "checkpointing": True}),
    ("llama", {"lora": 2}), ("llama", {"dtype": "bfloat16"}),
]  # fmt: skip


def course(kind, options, rows):
    """What several updates measured, and the weights after them; the fourth is of fewer rows than processes."""
    model = make(kind)
    trainer = Trainer(model, CLOSING, TrainConfig(rate=0.003, **options))
    measured = [trainer.update(rows[:k]) for k in (7, 5, 7, 1)]
    state = trainer.state_dict()
    trainer.load_state_dict(state)
    measured.append(trainer.update(rows))
    sums = {name: weight.double().norm().item() for name, weight in distributed.full_state(model).items()}
    return {"loss": [m["loss"] for m in measured], "norm": [m["grad_norm"] for m in measured], "sums": sums}


@pytest.mark.slow
def test_two_processes_train_as_one(rows, tmp_path):
    env = {key: value for key, value in os.environ.items() if key not in ("WORLD_SIZE", "RANK", "LOCAL_RANK")}
    root = Path(__file__).parents[1]
    env |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    done = subprocess.run([*command, str(tmp_path)], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found["world"] == 2
        for (kind, options), two in zip(CASES, found["courses"], strict=True):
            one = course(kind, options, rows)
            rounding = 1e-3 if "dtype" in options else 1e-5
            assert two["loss"] == pytest.approx(one["loss"], rel=rounding)
            assert two["norm"] == pytest.approx(one["norm"], rel=10 * rounding)
            assert two["sums"] == pytest.approx(one["sums"], rel=10 * rounding)
        assert found["courses"][-1]["norm"][0] != pytest.approx(found["courses"][0]["norm"][0], rel=1e-5)  # half, whole


def test_processes_that_do_not_find_each_other_are_an_error(monkeypatch):
    distributed.process()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        RuntimeError, match=r"^2 processes were started, but this one counts 1: on CPUs start them with"
    ):
        distributed.process()


def test_one_process_shares_with_itself():
    assert distributed.is_main()
    assert distributed.gather_objects(distributed.share([3, 1, 2])) == [3, 1, 2]


def main(folder):
    """One of two processes."""
    torch.set_num_threads(1)
    courses = [course(kind, options, rows.__wrapped__()) for kind, options in CASES]
    process = distributed.process()
    for count in range(6):
        assert distributed.gather_objects(distributed.share(list(range(count)))) == list(range(count))
    assert distributed.is_main() == (process.process_index == 0)
    found = {"world": process.num_processes, "courses": courses}
    Path(folder, f"{process.process_index}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
