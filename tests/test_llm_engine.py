"""The engine: what is computed step by step, in batches, is what one full pass computes; samples depend on the seed."""

import numpy as np
import pytest
import torch
from agreement import assert_frequencies
from llm_cases import CLOSING, KINDS, VOCABULARY, model
from transformers import Gemma2Config, Gemma2ForCausalLM, MistralConfig, MistralForCausalLM

from llm.engine import InProcess, Session, _buckets, draw


def full(module, ids):
    """Log-probability of each token but the first, from one pass over the whole."""
    with torch.no_grad():
        logits = module(input_ids=torch.tensor([ids])).logits[0].float()
    return logits[:-1].log_softmax(-1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0].numpy(), logits[-1].numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("score", [True, False])
def test_ragged_chunks_give_what_one_pass_gives(kind, score):
    module, rng = model(kind), np.random.default_rng(1)
    session = Session(module, 6, positions=4)
    texts, found = [[] for _ in range(6)], [[] for _ in range(6)]
    for turn in range(12):
        rows = np.sort(rng.choice(len(texts), rng.integers(1, len(texts) + 1), replace=False))
        chunks = [rng.integers(0, VOCABULARY, rng.integers(1, 7)).tolist() for _ in rows]
        values = session.append(rows, chunks, score=score)
        assert (values is None) != score
        for k, row in enumerate(rows):
            texts[row] += chunks[k]
            found[row] += values[k].tolist() if score else []
        if turn in (3, 7):
            chosen = [np.array([0, 0, 2, 5, 5]), np.array([4, 1, 1, 0, 2, 2, 3])][turn == 7]
            session.select(chosen)
            texts, found = [list(texts[row]) for row in chosen], [list(found[row]) for row in chosen]
        np.testing.assert_array_equal(session.lengths, [len(text) for text in texts])
    assert min(map(len, texts)) > 10
    for row, text in enumerate(texts):
        log_probs, following = full(module, text)
        np.testing.assert_allclose(session.logits[row], following, atol=2e-5)
        if score:
            assert np.isnan(found[row][0])
            np.testing.assert_allclose(found[row][1:], log_probs, atol=1e-5)


def test_steps_of_one_token_in_rows_of_one_length():
    module = model()
    session = Session(module, 3)
    texts = np.random.default_rng(0).integers(0, VOCABULARY, (3, 9))
    found = [session.append(np.arange(3), texts[:, [t]]) for t in range(9)]
    for row in range(3):
        np.testing.assert_allclose(
            [step[row][0] for step in found[1:]], full(module, texts[row].tolist())[0], atol=1e-5
        )


def test_half_precision_is_scored_in_float32():
    module = model().to(torch.bfloat16)
    session = Session(module, 2)
    values = session.append(np.arange(2), [[1, 2, 3], [4, 5, 6, 7]])
    assert session.logits.dtype == torch.float32 and values[0].dtype == np.float32
    np.testing.assert_allclose(values[1][1:], full(module, [4, 5, 6, 7])[0], atol=0.05)


def test_rows_up_to_the_last_position():
    """The padding of a shorter row may pass the end of the table of positions."""
    module, rng = model("gpt2", max_length=60), np.random.default_rng(0)
    session = Session(module, 2)
    texts = [rng.integers(0, VOCABULARY, n).tolist() for n in (60, 55)]
    session.append(np.arange(2), [texts[0][:11], texts[1][:5]])
    values = session.append(np.arange(2), [texts[0][11:], texts[1][5:]])
    assert session.counts.computed == session.counts.needed + 1, "the rows did not go together"
    for value, text in zip(values, texts, strict=True):
        np.testing.assert_allclose(value, full(module, text)[0][-len(value) :], atol=1e-5)
    with pytest.raises(ValueError, match="chunks: a row of 61 tokens is longer than the model's 60; use shorter"):
        session.append(np.array([0]), [[1]])


def test_groups_of_nearly_equal_sizes_lose_little():
    rng = np.random.default_rng(0)
    for sizes in (rng.integers(1, 30, 200), rng.geometric(0.2, 500), np.ones(7, int), np.array([5]), np.arange(1, 40)):
        groups = _buckets(sizes)
        np.testing.assert_array_equal(np.sort(np.concatenate(groups)), np.arange(len(sizes)))
        assert all((np.diff(group) > 0).all() for group in groups)
        computed = sum(len(group) * sizes[group].max() for group in groups)
        assert computed <= 1.03 * sizes.sum()
    assert len(_buckets(np.repeat([3, 4], 50))) == 2 and len(_buckets(np.full(9, 4))) == 1


def test_what_was_computed_is_counted():
    session = Session(model(), 3)
    session.append(np.arange(3), [[1, 2, 3], [1, 2, 3], [4]])
    assert (session.counts.computed, session.counts.needed) == (7, 7)


def test_tokens_are_drawn_from_the_distribution():
    logits = torch.tensor([0.3, -1.0, -torch.inf, 2.0, 0.0]).repeat(20_000, 1)
    uniforms = np.random.default_rng(0).random(20_000)
    for temperature in (1.0, 0.5, 2.0):
        token, log_p = draw(logits, uniforms, temperature)
        expected = (logits[0] / temperature).softmax(-1)
        assert_frequencies(np.bincount(token, minlength=5), expected.double() / expected.double().sum(), tests=3)
        np.testing.assert_allclose(log_p, expected.log()[token], atol=1e-6)
    token, log_p = draw(logits[:2], uniforms[:2], 0)
    assert token.tolist() == [3, 3] and log_p.tolist() == [0, 0]
    # No number draws what is impossible, nor beyond the last token.
    token, _ = draw(torch.tensor([[-torch.inf, 0.0, -torch.inf]]).repeat(2, 1), np.array([0.0, np.nextafter(1, 0)]))
    assert token.tolist() == [1, 1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
def test_samples_depend_on_prefix_and_seed_alone(kind, temperature):
    engine, rng = InProcess(model(kind)), np.random.default_rng(0)
    prefixes = [rng.integers(0, VOCABULARY, n).tolist() for n in rng.integers(1, 8, 16)]
    knobs = {"stop": CLOSING, "max_new_tokens": 4, "temperature": temperature}
    together = engine.sample(prefixes, seeds=range(16), **knobs)
    alone = [engine.sample([prefix], seeds=[seed], **knobs)[0] for seed, prefix in enumerate(prefixes)]
    backwards = engine.sample(prefixes[::-1], seeds=range(16)[::-1], **knobs)[::-1]
    for one, *others in zip(together, alone, backwards, strict=True):
        for other in others:
            assert one.ids == other.ids and (one.stop is None) == (other.stop is None)
            np.testing.assert_allclose(one.log_probs, other.log_probs, atol=1e-5)
    if temperature:
        assert len({sample.ids for sample in together}) > 3
        assert {sample.stop is None for sample in together} == {True, False}
        longer = engine.sample(prefixes, seeds=range(16), **knobs | {"max_new_tokens": 12})
        assert all(two.ids[: len(one.ids)] == one.ids for one, two in zip(together, longer, strict=True))


def test_samples_are_scored_as_they_were_drawn():
    engine, rng = InProcess(model()), np.random.default_rng(0)
    prefixes = [rng.integers(0, VOCABULARY, n).tolist() for n in (3, 1, 7, 2, 5, 5)]
    samples = engine.sample(prefixes, stop=CLOSING, max_new_tokens=9, seeds=range(6))
    scores = engine.score(prefixes, [sample.ids for sample in samples])
    stops = CLOSING.nonzero()[0]
    for prefix, sample, score in zip(prefixes, samples, scores, strict=True):
        assert not CLOSING[list(sample.ids)].any() and len(sample.ids) == len(sample.log_probs) <= 9
        np.testing.assert_allclose(score, sample.log_probs, atol=1e-5)
        if sample.stop is not None:
            ended = engine.score([[*prefix, *sample.ids]] * 3, [[token] for token in stops])
            assert min(abs(value[0] - sample.stop) for value in ended) < 1e-5
    tempered = engine.sample(prefixes, stop=CLOSING, max_new_tokens=1, seeds=range(6), temperature=2.0)
    for prefix, sample in zip(prefixes, tempered, strict=True):
        log_p = torch.tensor(full(engine.model, prefix)[1] / 2).log_softmax(-1).numpy()
        if sample.ids:
            assert sample.log_probs[0] == pytest.approx(log_p[sample.ids[0]], abs=1e-5)


def test_the_first_samples_follow_the_model():
    module = model()
    samples = InProcess(module).sample([[5, 6]] * 3000, stop=CLOSING, max_new_tokens=1, seeds=range(3000))
    expected = np.exp(torch.tensor(full(module, [5, 6])[1]).double().log_softmax(-1).numpy())
    counts = np.bincount([sample.ids[0] for sample in samples if sample.ids], minlength=VOCABULARY)
    counts, expected = (
        np.append(counts, 3000 - counts.sum()),
        np.append(np.where(CLOSING, 0, expected), expected[CLOSING].sum()),
    )
    assert_frequencies(counts, expected)


def test_sync_takes_other_weights():
    one, other = model(seed=0), model(seed=1)
    engine = InProcess(one, version=3)
    before = engine.score([[5]], [[6, 7]])[0]
    engine.sync(other, 4)
    assert engine.version == 4
    np.testing.assert_allclose(engine.score([[5]], [[6, 7]])[0], full(other, [5, 6, 7])[0], atol=1e-5)
    assert np.abs(before - full(other, [5, 6, 7])[0]).max() > 0.1


def test_a_continuation_of_nothing_scores_nothing():
    scores = InProcess(model()).score([[5], [5, 6]], [[], [7]])
    assert scores[0].shape == (0,) and scores[0].dtype == np.float32 and scores[1].shape == (1,)


def test_models_that_do_not_see_all_of_the_past_are_refused():
    common = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "head_dim": 4}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    gemma = Gemma2ForCausalLM(Gemma2Config(**common, **heads))
    with pytest.raises(ValueError, match="model: Gemma2ForCausalLM has layers with full_attention, sliding_attention"):
        Session(gemma, 1)
    mistral = MistralForCausalLM(MistralConfig(**common, **heads, sliding_window=4))
    with pytest.raises(ValueError, match="model: MistralForCausalLM has layers with sliding_attention"):
        Session(mistral, 1)
    Session(MistralForCausalLM(MistralConfig(**common, **heads, sliding_window=None)), 1)


def test_requests_that_nobody_can_answer_are_refused():
    engine = InProcess(model())
    knobs = {"stop": CLOSING, "max_new_tokens": 2, "seeds": [0]}
    for prefixes, change, message in (
        ([], {"seeds": []}, "prefixes: give at least one"),
        ([[]], {}, "prefixes: give at least one, each of one id"),
        ([[1]], {"seeds": [0, 1]}, "prefixes: 1 of them, but 2 seeds"),
        ([[1]], {"max_new_tokens": 0}, "max_new_tokens: must be at least 1, got 0"),
        ([[1]], {"temperature": -1.0}, "temperature: must be 0 or a positive number, got -1.0"),
        ([[1]], {"temperature": np.nan}, "temperature: must be 0 or a positive number, got nan"),
    ):
        with pytest.raises(ValueError, match=message):
            engine.sample(prefixes, **knobs | change)
    with pytest.raises(ValueError, match="prefixes: 1 of them, but 2 seeds or continuations"):
        engine.score([[1]], [[1], [2]])
    session = Session(model(), 2)
    with pytest.raises(ValueError, match="chunks: give each row one id or more"):
        session.append(np.arange(2), [[1], []])
    with pytest.raises(ValueError, match="rows: must ascend"):
        session.append(np.array([1, 0]), [[1], [2]])
