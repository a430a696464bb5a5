"""E-steps of the language models, and the methods of mid-training."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import get_args

import numpy as np
import pytest
import tokenizers_made
import torch
from torch import nn

from llm import config, estep, models
from llm.distributed import Replica
from llm.estep import METHODS, Blind, Given, NoThoughts
from llm.lines import Lines
from llm.mstep import TrainConfig, Trainer
from llm.records import line_scores
from llm.rollouts import Proposals
from llm.world import Annotation, TextWorld, WorldConfig
from ra3sim.em import RA3, PolicyGradient, Posterior, run_rollouts

CODE = [
    "def first(items):\n    for item in items:\n        return item\n",
    "def total(items):\n    found = 0\n    for item in items:\n        found += item\n    return found\n",
    "class Pair:\n    def __init__(self, a, b):\n        self.a = a\n        self.b = b\n",
]
TRAIN = TrainConfig(rate=1e-2, batch=2)
ROLLED = (Blind(group=3, floor=0.4), Posterior(candidates=3, floor=0.4, learn_policy=False))


@pytest.fixture(scope="module")
def lines():
    return Lines(tokenizers_made.gpt2())


@pytest.fixture(scope="module")
def programs(lines):
    return [lines.program(code, name=f"program {n}") for n, code in enumerate(CODE)]


def make(lines, seed=0):
    return models.tiny(len(lines.tokenizer), width=32, heads=2, max_length=256, seed=seed)


def make_silent(lines, programs, bias=-1e4):
    """A model that never thinks: a bias takes the marker out."""
    model = make(lines)
    head = nn.Linear(32, len(lines.tokenizer))
    with torch.no_grad():
        head.weight.copy_(model.lm_head.weight)
        head.bias.zero_()
        head.bias[[int(m) for program in programs for m in program.marker if m >= 0]] = bias
    model.lm_head = head
    return model


def world(lines, programs, model, **options):
    settings = {"updates": 4, "train": TRAIN, "proposals": Proposals(max_thought=4)} | options
    return TextWorld(programs, model, lines.closing, WorldConfig(**settings))


def run(world, estep, iterations=2):
    ra3 = RA3(world, estep)
    state = ra3.init()
    for _ in range(iterations):
        state = ra3.step(state)
    return state


def reference(lines, programs, model, iterations=2):
    """Next-token prediction with nothing but the trainer."""
    trainer = Trainer(model, torch.from_numpy(lines.closing), TRAIN)
    losses = []
    for _ in range(iterations):
        found = []
        for chosen in trainer.batches(len(programs), 4, np.random.SeedSequence([0, trainer.updates])):
            rows = [Annotation.of([None] * len(programs[n])).row(programs[n]) for n in chosen]
            found.append(trainer.update(rows)["loss"])
        losses.append(np.mean(found))
    return losses, model.state_dict()


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("given", [False, True], ids=["none", "given"])
def test_next_token_prediction_is_the_trainer_alone(lines, programs, given):
    losses, weights = reference(lines, programs, make(lines))
    model = make(lines)
    state = run(world(lines, programs, model), Given({}, "nobody's") if given else NoThoughts())
    assert [record["loss"] for record in state.history] == losses
    assert_same(model.state_dict(), weights)
    assert all(record["think"] == record["thoughts"] == 0 for record in state.history)


@pytest.mark.parametrize("kind", [*ROLLED, PolicyGradient(group=2, updates=0)], ids=lambda kind: kind.name)
def test_an_e_step_that_always_acts_gives_the_loss_of_next_token_prediction(lines, programs, kind):
    losses, weights = reference(lines, programs, make_silent(lines, programs))
    model = make_silent(lines, programs)
    # A floor would raise even a κ of 0; this one leaves alone what the model would never do.
    proposals = Proposals(max_thought=4, floor_above=1e-9)
    found = run(world(lines, programs, model, proposals=proposals, policy_train=TRAIN, annotations=3), kind)
    assert [record["loss"] for record in found.history] == losses
    assert_same(model.state_dict(), weights)
    assert all(record["think"] == 0 and record["collapsed"] == 1 for record in found.history)


@pytest.mark.parametrize("kind", ROLLED, ids=lambda kind: kind.name)
def test_with_a_floor_thoughts_come_and_stand_in_the_evidence(lines, programs, kind):
    place = world(lines, programs, make(lines), annotations=3)
    # Of 1100 words at random one opens a thought.
    kind = dataclasses.replace(kind, collapse=1e-4)
    found = kind.run(place, *place.init(None), np.arange(3), 0, np.random.SeedSequence(0))
    assert found.quantities["collapsed"] == 0 and 0.2 < found.quantities["think"] < 0.6
    assert sorted(found.evidence.annotations) == [0, 1, 2]
    several = [one for three in found.evidence.annotations.values() for one in three]
    assert len(several) == 9 and any(thought for one in several for thought in one.thoughts)
    again = kind.run(place, *place.init(None), np.arange(3), 0, np.random.SeedSequence(0))
    other = kind.run(place, *place.init(None), np.arange(3), 0, np.random.SeedSequence(1))
    assert again.evidence == found.evidence != other.evidence


def test_blind_thoughts_are_the_policys_own(lines, programs):
    """No reward: another model that scores changes nothing of what is drawn; and all rollouts weigh the same."""
    policy = make(lines)
    drawn = []
    for base in (0, 7):
        place = world(lines, programs, make(lines, seed=base), reward="base", annotations=3)
        own = copy.deepcopy(policy)
        model = dataclasses.replace(place.init(None)[0], module=own, replica=Replica(own))
        drawn.append(Blind(group=3, floor=0.4).run(place, model, model, np.arange(3), 0, np.random.SeedSequence(0)))
    assert drawn[0].evidence.annotations == drawn[1].evidence.annotations
    assert drawn[0].quantities["likelihood"] != drawn[1].quantities["likelihood"]
    assert all(len(set(three)) == 3 for three in drawn[0].evidence.annotations.values())


def test_given_thoughts_are_what_the_model_learns(lines, programs):
    thought = lines.thought(" what follows is of use")
    t = int(np.flatnonzero(programs[1].marker >= 0)[1])
    latents = tuple(thought if u == t else None for u in range(len(programs[1])))
    place = world(lines, programs, make(lines))
    found = Given({1: (latents, latents)}, "hand").run(place, *place.init(None), np.array([0, 1]), 0, None)
    assert found.evidence.annotations[1] == (Annotation.of(latents),) * 2
    assert found.evidence.annotations[0] == (Annotation.of([None] * len(programs[0])),)
    assert found.quantities["think"] == pytest.approx(2 / (len(programs[0]) + 2 * len(programs[1])))
    assert "hand" in repr(Given({1: (latents,)}, "hand")) and str(thought) not in repr(Given({1: (latents,)}, "hand"))


def test_the_methods_are_those_of_the_command_line():
    assert tuple(METHODS) == get_args(config.MethodName)
    names = {one.name for one in dataclasses.fields(config.Choices)}
    assert set().union(*(method.knows for method in METHODS.values())) == names
    for name, method in METHODS.items():
        assert not METHODS["ntp"].knows
        WorldConfig(proposals=Proposals(**method.proposals), policy_train=TRAIN, **method.world)
        assert (method.policy_rate is not None) == isinstance(method.estep, PolicyGradient), name


@pytest.mark.parametrize("name", METHODS)
def test_every_choice_arrives(name):
    """Whatever a method says it knows changes its E-step or its world."""
    values = {
        "price": 0.3, "max_thought": 3, "reward": "base", "min_gain": 0.7, "floor": 0.31, "floor_above": 0.01,
        "temperature": 0.7, "stratified": True, "annotations": 7, "group": 5, "policy": "copy", "policy_updates": 3,
        "policy_rate": 3e-3, "credit": "split", "horizon": "thought", "leave_one_out": True, "normalise": False,
        "per_token": False, "whether_after": 9, "price_after": 5, "format_penalty": 0.2, "anchor": 0.4,
        "candidates": 6, "threshold": 0.3, "lag": 0.2, "prior": "model", "collapse": 0.1,
    }  # fmt: skip
    method = METHODS[name]
    for choice in sorted(method.knows):
        chosen = method.choose(**{choice: values[choice]})
        found = {**chosen.world, **chosen.proposals, "policy_rate": chosen.policy_rate}
        if chosen.estep is not None:
            found |= {estep._ALIASES.get(k, k): v for k, v in vars(chosen.estep).items()}
        assert found[choice] == values[choice], choice
        WorldConfig(proposals=Proposals(**chosen.proposals), policy_train=TRAIN, **chosen.world)
    for choice in values.keys() - method.knows:
        with pytest.raises(ValueError, match=f"^{choice}: means nothing to this method"):
            method.choose(**{choice: values[choice]})


def test_choices_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"^floor: must lie in"):
        METHODS["ra3-posterior"].choose(floor=2.0)
    for bad, name in ((Blind, "group"), (Blind, "floor")):
        with pytest.raises(ValueError, match=f"^{name}: "):
            bad(**{name: -1})
    assert METHODS["ra3-posterior"].choose(min_gain=-math.inf).world["min_gain"] is None


# ---- what thinks: sessions, or an engine without ------------------------------------------------------------------


@pytest.mark.parametrize("reward", ["step", "base"])
@pytest.mark.parametrize("kind", [
    PolicyGradient(group=4, updates=2, floor=0.5, credit="joint"), Posterior(candidates=4, threshold=0, floor=0.5),
    Blind(group=3, floor=0.4),
], ids=lambda kind: kind.name)  # fmt: skip
def test_an_engine_without_a_session_serves_every_e_step(lines, programs, kind, reward):
    settings = {"reward": reward, "policy_train": TrainConfig(rate=3e-2, batch=2), "annotations": 2}
    model = make(lines)
    place = world(lines, programs, model, engine="in process", **settings)
    state = run(place, kind)
    assert all(np.isfinite(record["loss"]) and 0.2 < record["think"] < 0.9 for record in state.history)
    # The engine rolls out with the weights as they are after both iterations, and rewards are those of sessions.
    numbers = place.batch(3, np.random.SeedSequence(0))
    rolled = place.rollouts(*place.init(None), numbers, 2, np.random.SeedSequence(5), 0.5)
    run_rollouts(rolled)
    for b in range(6):
        one = programs[b // 2]
        closed = tuple(rolled.closed[b, : len(one)].tolist())
        row = Annotation(rolled.latents(b), closed, (False,) * len(one)).row(one)
        ((_, kappa),) = line_scores(model, [row], torch.from_numpy(lines.closing))
        ((likelihood, _),) = line_scores(place.base if reward == "base" else model, [row], place.closing)
        np.testing.assert_allclose(np.exp(rolled.log_kappa[b, : len(one)]), np.nan_to_num(kappa), atol=1e-4)
        np.testing.assert_allclose(rolled.log_likelihood[b, : len(one)], likelihood, atol=1e-3)


@pytest.mark.parametrize("choices,message", [
    ({"engine": "remote"}, "engine: must be one of session, in process, vllm, got 'remote'"),
    ({"engine": "in process", "reward": "base", "proposals": Proposals(prior="model")}, "prior: with rewards of"),
    ({"engine": "in process", "proposals": Proposals(stratified=True)}, "proposals: an engine without a session"),
])  # fmt: skip
def test_engines_refuse_what_they_cannot_do(lines, programs, choices, message):
    with pytest.raises(ValueError, match=message):
        place = world(lines, programs, make(lines), **choices)
        Blind(group=2).run(place, *place.init(None), np.arange(3), 0, np.random.SeedSequence(0))


# ---- collapse and spread ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*ROLLED, PolicyGradient(group=2, updates=0, floor=0.4)], ids=lambda kind: kind.name)
def test_a_floor_does_not_hide_that_the_policy_has_stopped_thinking(lines, programs, kind):
    # A floor raises what is possible, however improbable.
    place = world(lines, programs, make_silent(lines, programs, -15.0), policy_train=TRAIN)
    record = kind.run(place, *place.init(None), np.arange(3), 0, np.random.SeedSequence(0)).quantities
    assert record["think"] > 0.2 and record["kappa"] < 1e-9 and record["collapsed"] == 1
    place = world(lines, programs, make(lines), policy_train=TRAIN)
    record = kind.run(place, *place.init(None), np.arange(3), 0, np.random.SeedSequence(0)).quantities
    assert 1e-4 < record["kappa"] < 1e-3 < 0.1 < record["think"] and record["collapsed"] == 1
    kind = dataclasses.replace(kind, collapse=1e-4)
    record = kind.run(place, *place.init(None), np.arange(3), 0, np.random.SeedSequence(0)).quantities
    assert record["collapsed"] == 0


def test_the_spread_of_advantages_is_measured_before_they_are_normalised(lines, programs):
    found = []
    for normalise in (False, True):
        place = world(lines, programs, make(lines), policy_train=TrainConfig(rate=1e-9, batch=2))
        kind = PolicyGradient(group=4, updates=1, floor=0.5, normalise=normalise)
        found.append(
            kind.run(place, *place.init(None), np.arange(3), 0, np.random.SeedSequence(0)).quantities["spread"]
        )
    assert found[0] == found[1] > 0
