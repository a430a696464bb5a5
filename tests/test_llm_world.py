"""The world of a language model: gains, filters, evidence, runs that resume digit by digit, and what is refused."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from agreement import assert_frequencies
from llm_cases import CLOSING, VOCABULARY, explained, mixed, model, program

from llm.gains import gains, line_log_likelihoods
from llm.mstep import TrainConfig, Trainer
from llm.program import assemble
from llm.rollouts import Proposals
from llm.world import Annotation, TextWorld, WorldConfig, digest
from ra3sim.em import RA3, EStepResult, PolicyGradient, Posterior, run_rollouts

TRAIN = TrainConfig(rate=3e-3, batch=4)


def make(corpus=None, module=None, monitor=None, **knobs):
    knobs = {"updates": 3, "train": TRAIN, "proposals": Proposals(max_thought=2)} | knobs
    return TextWorld(mixed(6) if corpus is None else corpus, module or model(), CLOSING, WorldConfig(**knobs), monitor)


def weights_of(world):
    modules = {"model": world._model.module, "policy": world._policy.module, "base": world.base}
    return {
        f"{name} {key}": value.clone()
        for name, module in modules.items()
        if module is not None
        for key, value in module.state_dict().items()
    }


def assert_same_weights(one, two):
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


# ---- the M-step ---------------------------------------------------------------------------------------------------


class Acts:
    """An E-step that always acts."""

    name = "acts"

    def run(self, world, model_, policy, batch, iteration, seed):
        found = {int(number): (Annotation.of([None] * len(world.programs[number])),) for number in batch}
        return EStepResult(world.filtered(found), policy, {})


def test_always_acting_is_next_token_prediction():
    programs = mixed(6)
    world = make(programs, model(), updates=5)
    state = (ra3 := RA3(world, Acts())).step(ra3.init())
    plain = model()
    trainer = Trainer(plain, torch.from_numpy(CLOSING), TRAIN)
    losses = []
    for chosen in trainer.batches(6, 5, np.random.SeedSequence([0, 0])):
        total, tokens = 0.0, 0
        for i in chosen:
            ids = torch.from_numpy(programs[i].ids)[None]
            nll = torch.nn.functional.cross_entropy(plain(input_ids=ids).logits[0, :-1], ids[0, 1:], reduction="none")
            total, tokens = total + nll[programs[i].cuts[0] - 1 :].sum(), tokens + len(ids[0]) - programs[i].cuts[0]
        (total / tokens).backward()
        losses.append((total / tokens).item())
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        for group in trainer.optimizer.param_groups:
            group["lr"] = 3e-3
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
    assert state.history[0]["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert state.history[0]["thoughts"] == 0
    for one, two in zip(world._model.module.parameters(), plain.parameters(), strict=True):
        np.testing.assert_allclose(one.detach(), two.detach(), atol=1e-4)


def test_every_program_and_its_annotations_come_in_turn():
    programs = mixed(4)
    world = make(programs, updates=6)
    several = {
        number: tuple(
            Annotation.of([(k + 5,) if marker >= 0 else None for marker in programs[number].marker]) for k in range(3)
        )
        for number in (0, 1, 3)
    }
    seen = []
    update = world._model.trainer.update

    def recorded(rows, **knobs):
        seen.extend((len(row.ids), tuple(row.ids[row.kind == 4])) for row in rows)
        return update(rows, **knobs)

    world._model.trainer.update = recorded
    world.fit(world._model, world.filtered(several))
    rows = [(n, k, several[n][k].row(programs[n])) for n in several for k in range(3)]
    names = {(len(row.ids), tuple(row.ids[row.kind == 4])): (n, k) for n, k, row in rows}
    assert len(names) == 9
    order = [names[one] for one in seen]
    for number in several:
        assert [k for n, k in order if n == number] == [k % 3 for k in range(8)]


def test_nothing_to_fit_is_no_loss():
    world = make(updates=0)
    before = weights_of(world)
    record = (ra3 := RA3(world, Posterior(candidates=2))).step(ra3.init()).history[0]
    assert_same_weights(before, weights_of(world))
    assert "loss" not in record and record["tokens"] == 0


# ---- gains and evidence -------------------------------------------------------------------------------------------


def thoughts_for(made, seed):
    rng = np.random.default_rng(seed)
    return tuple(
        tuple(rng.integers(5, VOCABULARY, rng.integers(0, 3)).tolist()) if marker >= 0 and rng.random() < 0.6 else None
        for marker in made.marker
    )


def test_the_likelihood_of_lines():
    module, programs = model(), mixed(8)
    thoughts = [thoughts_for(made, k) for k, made in enumerate(programs)]
    rows = [assemble(made, latents) for made, latents in zip(programs, thoughts, strict=True)]
    found = line_log_likelihoods(module, [*rows, rows[0]], torch.from_numpy(CLOSING))
    for made, latents, values in zip(programs, thoughts, found, strict=False):
        exact = explained(module, made, latents, [True] * len(made))[2]
        np.testing.assert_allclose(values, exact, atol=1e-5)
    np.testing.assert_array_equal(found[0], found[-1])


def test_the_gain_of_a_thought_is_what_its_lines_lose_without_it():
    module, programs = model(), mixed(8, lines=5)
    thoughts = [thoughts_for(made, k) for k, made in enumerate(programs)]
    thoughts[3] = (None,) * len(programs[3])
    found = gains(module, programs, thoughts, torch.from_numpy(CLOSING))
    several = 0
    for made, latents, values in zip(programs, thoughts, found, strict=True):
        whole = explained(module, made, latents, [True] * len(made))[2]
        for t in range(len(made)):
            if latents[t] is None:
                assert np.isnan(values[t])
                continue
            end = next((u for u in range(t + 1, len(made)) if latents[u] is not None), len(made))
            bare = explained(module, made, [*latents[:t], None, *latents[t + 1 :]], [True] * len(made))[2]
            assert values[t] == pytest.approx((whole - bare)[t:end].sum(), abs=1e-5)
            several += end > t + 1
    assert several >= 3


def test_thoughts_that_gain_too_little_are_dropped_and_forgotten():
    module, programs = model(), mixed(6, lines=5)
    thoughts = {k: thoughts_for(made, k) for k, made in enumerate(programs)}
    worth = gains(module, programs, list(thoughts.values()), torch.from_numpy(CLOSING))
    least = float(np.nanmedian(np.concatenate(worth)))
    world = make(programs, module, min_gain=least)
    # What counts is the base, not the model as it has become.
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    given = {k: (Annotation.of(latents), Annotation.of([None] * len(latents))) for k, latents in thoughts.items()}
    found = world.filtered(given)
    kept = total = lines = 0
    for k, latents in thoughts.items():
        one, other = found.annotations[k]
        assert other == given[k][1]
        for t, thought in enumerate(latents):
            good = thought is not None and worth[k][t] >= least
            assert one.thoughts[t] == (thought if good else None) and one.closed[t]
            assert one.forget[t] == (thought is not None and not good)
            kept, total = kept + good, total + (thought is not None)
        lines += 2 * len(latents)
        row = one.row(programs[k])
        forgotten = np.array(one.forget)[row.line[row.marker >= 0]]
        np.testing.assert_array_equal(row.decision_weight[row.marker >= 0], ~forgotten)
    assert 0 < kept < total
    assert found.quantities == {"thoughts": kept / lines, "kept": kept / total}
    everything = make(programs, model()).filtered(given)
    assert everything.annotations == given and everything.quantities == {"thoughts": total / lines}


def test_cut_off_thoughts_have_no_end_to_imitate():
    made = program(1, "after", 3)
    annotation = Annotation(((5, 6), (7,), None), (False, True, True), (False,) * 3)
    row = annotation.row(made)
    ends = np.flatnonzero(row.kind == 5)
    assert row.weight[ends].tolist() == [0, 1] and row.weight[row.kind == 4].tolist() == [1, 1, 1]
    gone = annotation.without(np.array([True, False, False]))
    assert gone == Annotation((None, (7,), None), (True, True, True), (True, False, False))


def test_annotations_are_drawn_in_proportion_to_the_weights():
    programs, count = [program(0, lines=2)] * 400, 3
    world = make(programs, annotations=count)
    rollouts = world.rollouts(*world.init(None), np.arange(400), 5, np.random.SeedSequence(0))
    run_rollouts(rollouts)
    for b in range(2000):  # a mark for each member
        rollouts.thoughts[b] = [(b % 5,), None]
    share = np.array([0.0, 0.5, 0.2, 0.3, 0.0])
    found = rollouts.evidence(np.tile(share, (400, 1))).annotations
    drawn = np.array([[annotation.thoughts[0][0] for annotation in found[k]] for k in range(400)])
    numbers = np.stack([np.bincount(row, minlength=5) for row in drawn])
    assert (np.abs(numbers - count * share) < 1).all()
    for place in range(count):
        assert_frequencies(np.bincount(drawn[:, place], minlength=5), share, tests=4)
    again = rollouts.evidence(np.tile(share, (400, 1))).annotations
    assert found == again
    certain = rollouts.evidence(np.tile([0, 0, 0, 1.0, 0], (400, 1))).annotations
    assert all(one.thoughts[0] == (3,) for several in certain.values() for one in several)


def test_evidence_keeps_what_was_cut_off():
    world = make(annotations=8, proposals=Proposals(max_thought=1))
    rollouts = world.rollouts(*world.init(None), np.arange(6), 8, np.random.SeedSequence(0), 0.5)
    run_rollouts(rollouts)
    found = rollouts.evidence(np.full((6, 8), 1 / 8))
    kinds = set()
    for k, several in found.annotations.items():
        assert len(several) == 8
        for annotation in several:
            assert annotation.thoughts in [rollouts.latents(b) for b in range(k * 8, k * 8 + 8)]
            assert not any(annotation.forget)
            for thought, closed in zip(annotation.thoughts, annotation.closed, strict=True):
                assert closed == (not thought)
                kinds.add((thought is None, closed))
    assert kinds == {(True, True), (False, True), (False, False)}


# ---- runs ---------------------------------------------------------------------------------------------------------

RUNS = {
    "posterior": (Posterior(candidates=3, floor=0.3, lag=0.2), {"annotations": 2}),
    "filtered": (Posterior(candidates=3, floor=0.3), {"reward": "base", "min_gain": 0.01, "programs": 4}),
    "shared": (PolicyGradient(group=3, updates=2, floor=0.3), {"policy_train": TRAIN, "anchor": 0.2}),
    "shared, base": (PolicyGradient(group=3, updates=2), {"policy_train": TRAIN, "reward": "base"}),
    "copy": (
        PolicyGradient(group=3, updates=2, floor=0.3, credit="joint"),
        {"policy_train": replace(TRAIN, warmup=3), "policy": "copy", "programs": 3},
    ),
    "adapters": (
        PolicyGradient(group=3, updates=1),
        {"train": replace(TRAIN, lora=2), "policy_train": replace(TRAIN, lora=2)},
    ),
}


def without_time(history):
    return [{key: value for key, value in record.items() if key != "fit_seconds"} for record in history]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_resumes_digit_by_digit(tmp_path, name):
    estep, knobs = RUNS[name]
    programs = mixed(5, lines=3)

    def fresh():
        return RA3(make(programs, model(layers=1), updates=2, **knobs), estep, seed=3)

    ra3 = fresh()
    state = ra3.step(ra3.init())
    ra3.save(state, tmp_path)
    middle = weights_of(ra3.world)
    state = ra3.step(ra3.step(state))
    last = weights_of(ra3.world)
    other = fresh()
    restored = other.load(tmp_path)
    assert_same_weights(weights_of(other.world), middle)
    restored = other.step(other.step(restored))
    assert_same_weights(weights_of(other.world), last)
    assert without_time(restored.history) == without_time(state.history)
    json.dumps(state.history)
    # The same world goes back too.
    back = ra3.load(tmp_path)
    assert_same_weights(weights_of(ra3.world), middle)
    ra3.step(ra3.step(back))
    assert_same_weights(weights_of(ra3.world), last)
    assert any(not torch.equal(middle[key], last[key]) for key in middle)
    assert any(not torch.equal(middle[key], last[key]) for key in middle if key.startswith("policy"))
    first = weights_of(make(programs, model(layers=1), updates=2, **knobs))
    assert all(torch.equal(first[key], last[key]) for key in last if key.startswith("base"))


def test_a_run_of_other_data_or_another_base_is_not_resumed(tmp_path):
    programs = mixed(4)
    one = RA3(make(programs, min_gain=0.0), "posterior")
    one.save(one.init(), tmp_path)
    RA3(make(programs, min_gain=0.0), "posterior").load(tmp_path)
    others = (
        make(mixed(5)[1:], min_gain=0.0), make(programs, model(seed=1), min_gain=0.0), make(programs, min_gain=0.1),
    )  # fmt: skip
    for other in others:
        with pytest.raises(ValueError, match=r"folder: .* holds a run with"):
            RA3(other, "posterior").load(tmp_path)
    assert len({digest([np.zeros(2)]), digest([np.zeros(1), np.zeros(1)]), digest([np.zeros(2, int)])}) == 3


def test_the_reward_stands_still_while_shared_weights_move():
    world = make(policy_train=replace(TRAIN, rate=0.05), policy="shared")
    start = model()
    first, policy = world.init(None)
    batch = world.batch(1, None)
    for k in range(2):
        rollouts = world.rollouts(first, policy, batch, 2, np.random.SeedSequence(k))
        steps, _ = run_rollouts(rollouts)
        for b in range(0, 12, 5):
            made = rollouts.programs[b // 2]
            exact = explained(start, made, rollouts.thoughts[b], rollouts.closed[b, : len(made)])[2]
            np.testing.assert_allclose(rollouts.log_likelihood[b, : len(made)], exact, atol=2e-5)
        ones = np.ones(steps.think.shape)
        world.improve(policy, rollouts, ones, ones * steps.think, 1.0)
    moved = explained(first.module, made, rollouts.thoughts[b], rollouts.closed[b, : len(made)])[2]
    assert np.abs(moved - exact).max() > 0.01
    world.batch(2, None)  # the next iteration begins with the weights as they are
    rollouts = world.rollouts(first, policy, batch, 2, np.random.SeedSequence(0))
    assert len(rollouts._sessions) == 1


def test_the_policy_follows_its_schedule():
    rates = []
    for knobs in ({}, {"warmup": 4}, {"schedule": "linear", "total": 2}):
        world = make(mixed(2), policy_train=replace(TRAIN, rate=0.01, **knobs))
        first, policy = world.init(None)
        update = policy.trainer.update

        def recorded(rows, update=update, **options):
            rates.append(options["rate"])
            return update(rows, **options)

        policy.trainer.update = recorded
        PolicyGradient(group=2, updates=2, rate=0.5, anneal=True).run(
            world, first, policy, world.batch(1, None), 0, np.random.SeedSequence(0)
        )
    np.testing.assert_allclose(rates, [0.005, 0.0025, 0.00125, 0.00125, 0.005, 0.00125])


def test_programs_of_an_iteration_take_turns():
    world = make(mixed(6), programs=2)
    seen = np.concatenate([world.batch(iteration, None) for iteration in (1, 2, 3)])
    np.testing.assert_array_equal(np.sort(seen), np.arange(6))
    np.testing.assert_array_equal(world.batch(2, None), seen[2:4])
    assert any((make(mixed(6), programs=2, seed=k).batch(1, None) != seen[:2]).any() for k in (1, 2))
    np.testing.assert_array_equal(make(mixed(6), programs=9).batch(4, None), np.arange(6))


def test_the_monitor_sees_the_model_after_the_iteration():
    seen = []

    def monitor(module):
        seen.append(copy.deepcopy(module.state_dict()))
        return {"own": 3.0}

    world = make(monitor=monitor)
    state = (ra3 := RA3(world, Posterior(candidates=2))).step(ra3.init())
    assert state.history[0]["own"] == 3.0 and len(seen) == 1
    assert all(torch.equal(value, seen[0][key]) for key, value in world._model.module.state_dict().items())
    assert {"loss", "tokens", "thoughts", "log_marginal", "think"} <= state.history[0].keys()


def test_ids_that_no_token_has_close_a_thought():
    world = TextWorld(mixed(2), model(vocabulary=VOCABULARY + 4), CLOSING, WorldConfig())
    assert world.closing.tolist() == [*CLOSING.tolist(), True, True, True, True]


def test_the_base_is_scored_in_float32():
    world = make(module=model().to(torch.bfloat16), min_gain=0.0)
    assert {weight.dtype for weight in world.base.parameters()} == {torch.float32}
    assert not any(weight.requires_grad for weight in world.base.parameters())


# ---- what is refused ----------------------------------------------------------------------------------------------


def test_worlds_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="programs: none given"):
        make([])
    with pytest.raises(ValueError, match=r"programs: one has .* tokens, and the model takes 8"):
        make(module=model(max_length=8))
    with pytest.raises(ValueError, match=f"programs: one has the id {VOCABULARY - 1}, but the model knows 10 tokens"):
        TextWorld(mixed(6), model(vocabulary=10), CLOSING[:10], WorldConfig())
    world = make()
    with pytest.raises(ValueError, match="policy_train: say how the policy is trained"):
        (ra3 := RA3(world, PolicyGradient(group=2))).step(ra3.init())
    with pytest.raises(ValueError, match="estep: TextWorld has no exact E-step"):
        (ra3 := RA3(world, "exact")).step(ra3.init())


def test_bad_settings_are_refused():
    for knob, value in (
        ("price", -0.1), ("price", np.inf), ("price", np.nan), ("anchor", -1.0), ("reward", "now"), ("policy", "none"),
        ("annotations", 0), ("updates", -1), ("seed", -1), ("programs", 0), ("min_gain", np.nan),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"^{knob}: "):
            WorldConfig(**{knob: value})
    with pytest.raises(ValueError, match=r"^policy_train: a copy that thinks has to be trained"):
        WorldConfig(policy="copy")
    with pytest.raises(ValueError, match=r"^policy_train: .* need the same lora as train \(0\), got 4"):
        WorldConfig(policy_train=TrainConfig(lora=4))
