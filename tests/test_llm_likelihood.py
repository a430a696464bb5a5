"""Likelihoods of held-out programs against enumeration and transformers' own loss, and what thoughts say."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from agreement import assert_mean
from llm_cases import CLOSING, KINDS, MARKER, explained, mixed, model, program

from llm.engine import InProcess
from llm.insight import _obeyed, information, insight
from llm.likelihood import Likelihood, measure, ratio
from llm.lineworld import LineWorldText
from llm.models import kv_bytes_per_token, tiny
from llm.mstep import TrainConfig, Trainer
from llm.program import assemble
from ra3sim.envs.lineworld import LineWorld
from ra3sim.spread import interval

WORDS = [token for token in range(len(CLOSING)) if not CLOSING[token]]


def log_marginal(module, made, closing=CLOSING, words=WORDS):
    """log Σ_z p(z) p(content | z), where a thought has one token at most, by full passes over all z."""
    some = [None, (), *[(token,) for token in words]]
    lines = [some if made.marker[t] >= 0 else [None] for t in range(len(made))]
    found = []
    for thoughts in itertools.product(*lines):
        closed = [not thought for thought in thoughts]
        found.append(sum(part.sum() for part in explained(module, made, thoughts, closed, closing)))
    return np.logaddexp.reduce(found)


@pytest.fixture(scope="module")
def tiny_world():
    world = LineWorld.preset("tiny")
    text = LineWorldText(world)
    return world, text, tiny(len(text.tokenizer), width=32, heads=2)


@pytest.fixture(scope="module")
def trained():
    """A world, and a model that has learnt a little of what its comments mean."""
    world = LineWorld.preset("table")
    text = LineWorldText(world)
    module = tiny(len(text.tokenizer), width=48)
    trainer = Trainer(module, torch.from_numpy(text.lines.closing), TrainConfig(rate=1e-2))
    commented = world.pretraining(400, 0, "both")
    rows = [assemble(text.program(made), text.thoughts(made.comments)) for made in commented]
    for chosen in trainer.batches(len(rows), 80, 0):
        trainer.update([rows[k] for k in chosen])
    return world, text, module.eval()


# ---- against enumeration ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threshold,lag", [(0.5, 0.0), (0.9, 0.2), (0.0, 0.0)])
def test_estimate_is_unbiased(kind, threshold, lag):
    made = [program(seed, style, 3, (1,)) for seed, style in enumerate(["before", "after"])]
    module = model(kind)
    want = np.array([log_marginal(module, one) for one in made])
    # Copies of a program have draws of their own.
    found = measure(
        module, made * 200, CLOSING, max_thought=1, seed=1, particles=3, threshold=threshold, lag=lag, controls=False
    )
    shares = np.exp(-found.marginal.reshape(200, 2) - want)
    for share in shares.T:
        assert_mean(share.mean(), share.std() / np.sqrt(200), 1, tests=12)


def test_marginal_comes_to_the_enumerated_one(tiny_world):
    world, text, module = tiny_world
    made = text.programs(world.program(world.task_at(k)) for k in range(2))
    made = [replace(one, marker=np.where([True, False, True, False], one.marker, -1)) for one in made]
    words = np.flatnonzero(~text.lines.closing).tolist()
    want = np.array([-log_marginal(module, one, text.lines.closing, words) for one in made])
    few, many = (
        measure(
            module, made * 20, text.lines.closing, max_thought=1, seed=0, particles=k, controls=False
        ).marginal.reshape(20, 2)
        for k in (1, 64)
    )
    assert abs(many.mean(0) - want).max() < 2e-3
    assert abs(few - want).mean() > 4 * abs(many - want).mean()


# ---- against transformers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_plain_is_cross_entropy_of_the_text(kind):
    made, module = mixed(), model(kind)
    found = measure(module, made, CLOSING, max_thought=1, seed=0, particles=1, controls=False)
    for one, got, tokens in zip(made, found.plain, found.tokens, strict=True):
        ids = torch.from_numpy(one.ids)[None]
        labels = torch.where(torch.from_numpy(one.content), ids, -100)
        assert got == pytest.approx(module(input_ids=ids, labels=labels).loss.item() * one.content.sum(), rel=1e-5)
        assert tokens == one.content.sum()


def inclined(module, logit):
    """The same model, with so much added to the logit of the marker."""
    head = torch.nn.Linear(module.lm_head.in_features, module.lm_head.out_features)
    with torch.no_grad():
        head.weight.copy_(module.lm_head.weight)
        head.bias.zero_()
        head.bias[MARKER] = logit
    module.lm_head = head
    return module


def test_without_thoughts_all_likelihoods_are_one():
    found = measure(inclined(model(), -100), mixed(), CLOSING, max_thought=2, seed=0, particles=4)
    np.testing.assert_allclose(found.blind, found.plain, rtol=1e-5)
    np.testing.assert_allclose(found.marginal, found.plain, rtol=1e-5)
    assert not found.thoughts.any() and not found.places.any()
    np.testing.assert_allclose(found.sample_size, 4)
    assert all(np.isnan(getattr(found, name)).all() for name in ("own", "dummy", "other", "leak"))
    assert set(found.summary()) == {"plain", "blind", "marginal", "gain", "think"}


# ---- what is drawn ------------------------------------------------------------------------------------------------


def test_memory_changes_nothing():
    made, module = mixed(6), inclined(model(), 4)
    one = kv_bytes_per_token(module)
    small, large = (
        measure(module, made, CLOSING, max_thought=2, seed=3, particles=4, dummy=(5,), memory=memory)
        for memory in (one, 2**30)
    )
    assert (large.thoughts > 0).sum() > 2
    for name in ("plain", "blind", "marginal", "own", "dummy", "other", "leak", "sample_size"):
        np.testing.assert_allclose(getattr(small, name), getattr(large, name), rtol=1e-4, atol=1e-4, err_msg=name)
    other = measure(module, made, CLOSING, max_thought=2, seed=4, particles=4)
    assert (other.blind != large.blind).any() and (other.marginal != large.marginal).any()


def test_training_mode_comes_back():
    module = model().train()
    measure(module, mixed(2), CLOSING, max_thought=1, seed=0, particles=1)
    assert module.training and all(part.training for part in module.modules())


# ---- controls -----------------------------------------------------------------------------------------------------


def test_controls_stand_where_they_should():
    made, module = mixed(), model()
    places = [np.arange(len(one)) == np.flatnonzero(one.marker >= 0)[-1] for one in made]
    found = measure(module, made, CLOSING, max_thought=2, seed=0, particles=1, dummy=(7, 8), places=places)
    assert found.places.tolist() == [1] * len(made)
    for k, one in enumerate(made):
        none = [None] * len(one)
        given = explained(module, one, none, [True] * len(one))[2].sum()
        t = int(places[k].argmax())
        line = one.line(t)
        leak = tuple(line[one.content[one.cuts[t] : one.cuts[t + 1]]].tolist())
        for name, thought in (("dummy", (7, 8)), ("leak", leak)):
            there = explained(module, one, [thought if u == t else None for u in range(len(one))], [True] * len(one))
            assert getattr(found, name)[k] == pytest.approx(there[2].sum() - given, abs=1e-4)


def test_other_thoughts_are_of_other_programs():
    """Only one of two programs can think: the other has its thoughts, and itself nothing."""
    made = [program(1, lines=3), program(2, lines=3, forbidden=(0, 1, 2))]
    places = [np.array([True, False, False]), np.zeros(3, bool)]
    found = measure(inclined(model(), 9), made, CLOSING, max_thought=2, seed=0, particles=1, places=places)
    assert found.thoughts.tolist()[1] == 0 < found.thoughts[0]
    assert np.isnan(found.other).all() and np.isfinite(found.leak[0])


def test_controls_of_a_trained_model(trained):
    world, text, module = trained
    made = text.programs(world.program(task) for task in world.held_out_tasks(60, 0))

    def leak(one, t):
        return text.skills[one.about["skills"][t // world.length]]

    places = [np.arange(world.horizon) % world.length == 0] * len(made)
    options = {"max_thought": 3, "seed": 0, "places": places, "leak": leak, "dummy": text.lines.thought(" w0")}
    found = measure(module, made, text.lines.closing, **options).summary()
    assert found["leak"].low > 1 > 3 * abs(found["dummy"].mean)
    assert found["other"].high < 0.5 and found["own"].high < 0.5
    assert found["gain"].low > 0.1
    assert 0.05 < found["think"].mean < 0.25


# ---- intervals ----------------------------------------------------------------------------------------------------


def test_ratio_has_the_interval_of_a_mean_where_sizes_are_equal():
    values = np.random.default_rng(0).normal(size=9)
    np.testing.assert_allclose(ratio(values, np.full(9, 4)), interval(values / 4))


def test_intervals_of_a_ratio_hold_the_truth():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        tokens = rng.integers(5, 50, 40)
        found = ratio(1.7 * tokens + rng.normal(size=40) * tokens**0.5, tokens)
        inside += found.low < 1.7 < found.high
    assert 0.915 < inside / 400 < 0.98


def test_summary_is_per_token_and_place():
    ones = np.ones(2)
    found = Likelihood(
        tokens=np.array([2, 6]), plain=np.array([4.0, 8.0]), blind=ones, marginal=ones, sample_size=ones,
        lines=np.array([4, 6]), thoughts=np.array([1, 2]), places=np.array([3, 1]), own=np.array([6.0, 3.0]),
        dummy=np.array([6.0, 2.0]), other=np.array([1.0, np.nan]), leak=ones, particles=3,
    ).summary()  # fmt: skip
    want = {"plain": 12 / 8, "blind": 2 / 8, "gain": 10 / 8, "think": 3 / 10, "own": 3, "dummy": 2, "leak": 0.5}
    assert {name: found[name].mean for name in want} == pytest.approx(want)
    assert "other" not in found


@pytest.mark.parametrize(
    "change,message",
    [
        ({"programs": []}, "programs: none given"),
        ({"particles": 0}, "particles: must be at least 1, got 0"),
        ({"max_thought": 0}, "max_thought: must be at least 1, got 0"),
        ({"places": [np.zeros(4, bool)]}, "places: give one array for each program"),
        ({"places": [np.ones(4, bool)] * 2}, "places: no thought may stand"),
        ({"module": model(max_length=4)}, "programs: one has .* tokens, and the model takes 4; leave long ones out"),
    ],
)
def test_what_is_refused(change, message):
    given = {"module": model(), "programs": [program(0), program(1, forbidden=(0,))], "closing": CLOSING}
    with pytest.raises(ValueError, match=message):
        measure(**given | {"max_thought": 1, "seed": 0} | change)


def test_one_program_has_no_interval():
    found = measure(model(), mixed(1), CLOSING, max_thought=1, seed=0, particles=1)
    with pytest.raises(ValueError, match="at least 2"):
        found.summary()


# ---- what thoughts say --------------------------------------------------------------------------------------------


def test_insight_of_a_trained_model(trained):
    """It has learnt a little of what comments mean, and its own follow a wrong rule or none."""
    world, text, module = trained
    found = insight(module, text, world.held_out_tasks(100, 0), 0)
    assert 0.2 < found["think"].mean < 0.7 and found["inside"].mean < 0.05
    assert found["obeys"].low > 0.15
    assert found["right"].high < 0.3


@pytest.mark.parametrize("informed", [True, False])
def test_insight_knows_what_comments_are_worth(informed):
    """Experts' programs with the names of their skills, or of any: then no code obeys."""
    world = LineWorld.preset("table")
    text = LineWorldText(world)
    module = tiny(len(text.tokenizer), width=48)
    trainer = Trainer(module, torch.from_numpy(text.lines.closing), TrainConfig(rate=1e-2))
    rng = np.random.default_rng(0)
    rows = [
        assemble(
            text.program(made), text.thoughts(made.skills if informed else rng.integers(world.skills, size=world.depth))
        )
        for made in world.expert(400, 0)
    ]
    for chosen in trainer.batches(len(rows), 80, 0):
        trainer.update([rows[k] for k in chosen])
    found = insight(module, text, world.expert(60, 1), 0)
    assert found["think"].mean > 0.9
    if informed:
        assert found["right"].low > 0.5 and found["information"].low > 0.5 and found["follows"].low > 0.4
    else:
        assert found["obeys"].high < 0.15 < found["follows"].low
        assert found["information"].low < 0.05 and found["information"].mean < 0.1
        assert found["right"].low < 1 / world.skills < found["right"].high


def test_obeying_is_the_rate_of_what_is_written(trained):
    """The exact probability against samples of the lines after a comment at the first segment."""
    world, text, module = trained
    task = world.held_out_tasks(1, 0)[0]
    expert = world.program(task)
    one = text.program(expert)
    skill = (expert.skills[0] + 1) % world.skills
    prefix = [*one.ids[: one.cuts[0]], one.marker[0], *text.skills[skill], *one.closer[0]]
    other = text.program(world.program(task, [skill] * world.depth))
    want = tuple(other.ids[one.cuts[0] : one.cuts[world.length]].tolist())
    samples = InProcess(module).sample(
        [prefix] * 2000, stop=np.zeros(len(text.tokenizer), bool), max_new_tokens=len(want), seeds=range(2000)
    )
    rate = np.mean([sample.ids == want for sample in samples])
    draws = np.array([skill] * world.depth)[None]
    exact = _obeyed(module, text, [expert], [one], [(None,) * len(one)], draws, 16)[0, 0]
    assert_mean(rate, np.sqrt(exact * (1 - exact) / 2000), exact)


def test_information_of_known_variables():
    """Independent, equal, and in between, from few samples: the estimates are right on average, the intervals too."""
    rng = np.random.default_rng(0)
    K, n, segments = 8, 60, 3
    for share in (0.0, 0.5, 1.0):
        joint = (1 - share) / K**2 + share * np.eye(K) / K
        truth = np.sum(joint * np.log(np.maximum(joint, 1e-300) * K**2))
        found = []
        for _ in range(100):
            cells = rng.choice(K * K, (n, segments), p=joint.ravel())
            tables = np.zeros((n, K * K))
            np.add.at(tables, (np.arange(n)[:, None], cells), 1)
            found.append(information(tables.reshape(n, K, K)))
        means = np.array([one.mean for one in found])
        plug_in_bias = (1 - share) * (K - 1) ** 2 / (2 * n * segments)
        assert abs(means.mean() - truth) < max(0.25 * plug_in_bias, 0.02)
        assert np.mean([one.low - 1e-9 <= truth <= one.high + 1e-9 for one in found]) > 0.8


def test_one_case_is_refused(trained):
    world, text, module = trained
    with pytest.raises(ValueError, match="cases: give two or more"):
        insight(module, text, world.held_out_tasks(1, 0), 0)
