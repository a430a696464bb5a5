"""Rollouts of a language model: what they measure is what one full pass over the assembled rows gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from agreement import assert_frequencies
from llm_cases import CLOSING, KINDS, by_line, explained, mixed, model, parts, program
from scipy.special import logsumexp

from llm.program import assemble
from llm.rollouts import Proposals, TextRollouts
from ra3sim.em import run_rollouts

ROOT = np.random.SeedSequence([7, 1])


def roll(policy, reward=None, programs=None, group=3, price=0.3, floor=0.0, numbers=None, seed=ROOT, **knobs):
    programs = mixed() if programs is None else programs
    numbers = range(len(programs)) if numbers is None else numbers
    proposals = Proposals(**{"max_thought": 3} | knobs)
    return TextRollouts(
        policy, reward or policy, programs, numbers, group, torch.from_numpy(CLOSING), proposals, price, seed, floor
    )


def raised(log_think, log_act, floor, above=0.0):
    """Both decisions with a floor, by the book."""
    kappa = np.exp(log_think)
    high = kappa > above
    new = np.where(high, floor + (1 - floor) * kappa, kappa)
    with np.errstate(divide="ignore"):
        return np.log(new), np.where(high, np.log1p(-floor) + log_act, log_act)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("floor,above,temperature", [(0.0, 0.0, 1.0), (0.6, 0.0, 1.0), (0.6, 0.1, 1.6)])
def test_rollouts_measure_what_one_full_pass_measures(kind, apart, floor, above, temperature):
    policy = model(kind)
    reward = model(kind, seed=5) if apart else policy
    knobs = {"floor": floor, "floor_above": above, "temperature": temperature, "per_token": False}
    found = {prior: roll(policy, reward, prior=prior, **knobs) for prior in ("price", "model")}
    steps = {prior: run_rollouts(rollouts)[0] for prior, rollouts in found.items()}
    rollouts = found["model"]
    thoughts_seen, acts_seen = set(), 0
    for b, thoughts in enumerate(rollouts.thoughts):
        i, g = divmod(b, rollouts.group)
        made, T = rollouts.programs[i], len(rollouts.programs[i])
        assert found["price"].thoughts[b] == thoughts
        think = np.array([thought is not None for thought in thoughts])
        closed = rollouts.closed[b, :T]
        for t, thought in enumerate(thoughts):
            if thought is not None:
                assert made.marker[t] >= 0 and not CLOSING[list(thought)].any()
                assert len(thought) < 3 if closed[t] else len(thought) == 3
                thoughts_seen.add((bool(made.closer[t]), bool(closed[t])))
        acts_seen += (~think).sum()
        decided, what, _ = explained(policy, made, thoughts, closed)
        p_decided, p_what, content = explained(reward, made, thoughts, closed)
        kappa = rollouts.log_kappa[b, :T]
        np.testing.assert_allclose(np.where(think, kappa, np.log1p(-np.exp(kappa))), decided, atol=1e-5)
        assert (np.isfinite(kappa) == (made.marker >= 0)).all() and not decided[made.marker < 0].any()
        log_think, log_act = raised(kappa, np.log1p(-np.exp(kappa)), floor, above)
        drawn = tempered(policy, made, thoughts, closed, temperature) if temperature != 1 else what
        log_q = np.where(think, log_think, log_act) + drawn
        for prior in found:
            np.testing.assert_allclose(steps[prior].log_q[i, g, :T], log_q, atol=2e-5)
            np.testing.assert_array_equal(steps[prior].think[i, g, :T], think)
            np.testing.assert_allclose(steps[prior].log_likelihood[i, g, :T], content, atol=2e-5)
        np.testing.assert_allclose(steps["model"].log_prior[i, g, :T], p_decided + p_what, atol=2e-5)
        np.testing.assert_allclose(steps["price"].log_prior[i, g, :T], np.where(think, drawn - 0.3, 0), atol=2e-5)
        np.testing.assert_allclose(rollouts.log_likelihood[b, :T], content, atol=2e-5)
        high = think & (np.exp(kappa) > above)
        share = np.where(high, (1 - floor) * np.exp(kappa) / np.where(high, np.exp(log_think), 1), 1)
        np.testing.assert_allclose(rollouts.credit[b, :T], share, rtol=1e-5)
        assert not rollouts.think[b, T:].any() and (rollouts.log_kappa[b, T:] == -np.inf).all()
        np.testing.assert_array_equal(rollouts.think[b, :T], think)
    if floor and not above:
        assert thoughts_seen == {(one, other) for one in (False, True) for other in (False, True)}
    assert acts_seen > 3


def tempered(module, made, thoughts, closed, temperature):
    """Log-probabilities of thoughts from logits that are divided by the temperature."""
    row = assemble(made, thoughts, closed=closed)
    with torch.no_grad():
        logits = module(input_ids=torch.from_numpy(row.ids)[None]).logits[0].double().numpy() / temperature
    log_p = logits[:-1] - logsumexp(logits[:-1], -1, keepdims=True)
    token = np.append(0.0, np.take_along_axis(log_p, row.ids[1:, None], -1)[:, 0])
    end = np.append(0.0, logsumexp(log_p[:, CLOSING], -1))
    here = (row.kind == 5) & np.append(closed, True)[row.line]
    return by_line(np.where(here, end, token), row, (row.kind == 4) | here, len(made))


def test_the_shapes_of_a_step():
    rollouts = roll(model(), floor=0.5, per_token=True, format_penalty=0.25)
    steps, mask = run_rollouts(rollouts)
    np.testing.assert_array_equal(mask[:, 0].sum(1), [len(made) for made in rollouts.programs])
    for i, made in enumerate(rollouts.programs):
        T = len(made)
        np.testing.assert_array_equal(steps.length[i, :, :T], np.broadcast_to(made.lengths, (3, T)))
        for g in range(3):
            for t, thought in enumerate(rollouts.thoughts[i * 3 + g]):
                ill = thought is not None and (not thought or len(thought) == 3)
                assert steps.bonus[i, g, t] == (-0.25 if ill else 0)
    assert (steps.bonus < 0).any() and (steps.bonus[steps.think] == 0).any()
    assert all(
        (part[~np.broadcast_to(mask, part.shape)] == 0).all() for part in (steps.think, steps.log_q, steps.bonus)
    )
    bare = run_rollouts(roll(model(), per_token=False))[0]
    assert bare.length is None and bare.bonus is None


@pytest.mark.parametrize("kind", KINDS)
def test_selected_rollouts_go_on_with_their_whole_past(kind):
    policy, reward = model(kind), model(kind, seed=5)
    rollouts = roll(policy, reward, floor=0.5, group=4, prior="model")
    taken, rng = [], np.random.default_rng(0)
    kept = None
    for t in range(rollouts.mask.shape[1]):
        if t:
            ancestors = rng.integers(0, 4, (len(rollouts.mask), 4)) if t != 2 else np.tile(np.arange(4), (4, 1))
            ancestors[0] = np.arange(4)  # some stay as they are
            kept = [list(thoughts) for thoughts in rollouts.thoughts]
            rollouts.select(ancestors)
            taken = [[part[np.arange(len(ancestors))[:, None], ancestors] for part in step] for step in taken]
            for b, thoughts in enumerate(rollouts.thoughts):
                i, g = divmod(b, 4)
                assert thoughts[:t] == kept[i * 4 + ancestors[i, g]][:t]
        step = rollouts.step(t)
        taken.append([step.log_q, step.log_prior, step.log_likelihood])
    assert len({tuple(thoughts) for thoughts in rollouts.thoughts}) > 6
    for b, thoughts in enumerate(rollouts.thoughts):
        i, g = divmod(b, 4)
        made, T = rollouts.programs[i], len(thoughts)
        closed = rollouts.closed[b, :T]
        _, what, _ = explained(policy, made, thoughts, closed)
        p_decided, p_what, content = explained(reward, made, thoughts, closed)
        log_think, log_act = raised(rollouts.log_kappa[b, :T], np.log1p(-np.exp(rollouts.log_kappa[b, :T])), 0.5)
        think = np.array([thought is not None for thought in thoughts])
        expected = (np.where(think, log_think, log_act) + what, p_decided + p_what, content)
        for which, exact in enumerate(expected):
            np.testing.assert_allclose([taken[t][which][i, g] for t in range(T)], exact, atol=2e-5)
        np.testing.assert_array_equal(rollouts.think[b, :T], think)
        np.testing.assert_allclose(rollouts.log_likelihood[b, :T], content, atol=2e-5)


def test_the_probability_of_thinking_at_the_next_line():
    rollouts = roll(model(), floor=0.4, floor_above=0.05)
    for t in range(rollouts.mask.shape[1]):
        if t:
            before = rollouts.think_probability()
        rollouts.step(t)
        if t:
            log_kappa = rollouts.log_kappa[:, t].reshape(before.shape)
            there = rollouts.mask[:, t]
            log_think, _ = raised(log_kappa, 0, 0.4, 0.05)
            np.testing.assert_allclose(before[there], np.exp(log_think)[there], rtol=1e-6)


def thoughts_of(rollouts):
    """Thoughts by the program's number and the member of the group."""
    run_rollouts(rollouts)
    return [rollouts.thoughts[i * rollouts.group : (i + 1) * rollouts.group] for i in range(len(rollouts.programs))]


@pytest.mark.parametrize("stratified", [False, True])
def test_thoughts_depend_on_seed_and_number_alone(stratified):
    policy, programs = model(layers=1), mixed(6, lines=3)
    knobs = {"floor": 0.5, "stratified": stratified}
    together = thoughts_of(roll(policy, programs=programs, group=4, **knobs))
    for i, made in enumerate(programs):
        assert thoughts_of(roll(policy, programs=[made], numbers=[i], group=4, **knobs)) == [together[i]]
    order = [4, 0, 5, 2]
    others = thoughts_of(roll(policy, programs=[programs[i] for i in order], numbers=order, group=4, **knobs))
    assert others == [together[i] for i in order]
    smaller = thoughts_of(roll(policy, programs=programs, group=2, **knobs))
    assert (smaller == [several[:2] for several in together]) != stratified
    renumbered = thoughts_of(roll(policy, programs=programs, numbers=range(1, 7), group=4, **knobs))
    another = thoughts_of(roll(policy, programs=programs, group=4, seed=np.random.SeedSequence([7, 2]), **knobs))
    child = thoughts_of(roll(policy, programs=programs, group=4, seed=ROOT.spawn(1)[0], **knobs))
    assert together not in (renumbered, another, child)
    assert len({tuple(thoughts) for several in together for thoughts in several}) > 12


def test_the_same_reward_in_another_object_changes_nothing():
    """Its passes are others, its numbers are the same."""
    policy = model()
    one, two = roll(policy, floor=0.5, prior="model"), roll(policy, model(), floor=0.5, prior="model")
    (steps, _), (others, _) = run_rollouts(one), run_rollouts(two)
    assert one.thoughts == two.thoughts
    for part, other in zip(steps[:5], others[:5], strict=True):
        np.testing.assert_allclose(part, other, atol=1e-5)


def test_a_row_that_always_acts_is_the_program_itself():
    module = model()
    for made in mixed(6):
        row = assemble(made, [None] * len(made))
        np.testing.assert_array_equal(row.ids, made.ids)
        decision, token = parts(module, row)
        with torch.no_grad():
            logits = module(input_ids=torch.from_numpy(made.ids)[None]).logits[0].double()
        plain = logits[:-1].log_softmax(-1).gather(-1, torch.from_numpy(made.ids)[1:, None])[:, 0].numpy()
        np.testing.assert_allclose((decision + token)[1:], plain, atol=1e-5)
        assert (decision[row.marker < 0] == 0).all() and (decision[row.marker >= 0] < 0).all()
        first = made.cuts[0]
        assert (row.weight[:first] == 0).all() and (row.weight[first:] == 1).all()
        assert (row.decision_weight[row.marker >= 0] == 1).all()


def test_stratified_draws_are_uniform_and_cover_the_strata():
    group, many = 5, 300
    made = program(0, lines=3)
    rollouts = roll(model(), programs=[made] * many, group=group, stratified=True, max_thought=1)
    uniforms = rollouts._uniforms.reshape(many, group, 3, 2)
    strata = np.floor(uniforms * group).astype(int)
    assert (np.sort(strata, axis=1) == np.arange(group)[:, None, None]).all()
    for g in range(group):
        for cell in (uniforms[:, g, 0, 0], uniforms[:, g, 2, 1]):
            assert_frequencies(np.bincount((cell * 15).astype(int), minlength=15), np.full(15, 1 / 15), tests=60)
    # What a member draws next does not depend on what it drew before, nor do its draws beside those of others.
    pairs = (
        (strata[:, :, 0, 0], strata[:, :, 0, 1]), (strata[:, :, 0, 0], strata[:, :, 1, 0]),
        (strata[:, :, 2, 0], np.roll(strata, 1, 1)[:, :, 2, 1]),
    )  # fmt: skip
    for one, other in pairs:
        counts = np.bincount((one * group + other).ravel(), minlength=group**2)
        assert_frequencies(counts, np.full(group**2, 1 / group**2), tests=60)
    one, other = strata[:, 0, 1, 0], strata[:, 3, 1, 0]
    pairs = np.bincount(one * group + other, minlength=group**2).reshape(group, group)
    assert not np.diag(pairs).any()
    assert_frequencies(pairs[~np.eye(group, dtype=bool)], np.full(20, 1 / 20), tests=60)


def test_little_is_computed_that_is_not_needed():
    """Lines of very unequal lengths, thoughts, resampling: each token of a trajectory is computed once."""
    rng = np.random.default_rng(0)
    programs = [
        program(k, "after", int(rng.integers(3, 9)), longest=12, prompt=int(rng.integers(1, 20))) for k in range(16)
    ]
    policy, reward = model(), model(seed=5)
    rollouts = roll(policy, reward, programs=programs, group=8, floor=0.4, max_thought=6)
    run_rollouts(rollouts)
    rows = [assemble(rollouts.programs[b // 8], thoughts) for b, thoughts in enumerate(rollouts.thoughts)]
    tokens = sum(len(row.ids) for row in rows)
    for session in rollouts._sessions:
        assert session.counts.computed <= 1.05 * session.counts.needed
        assert session.counts.needed <= tokens
    # The prompts are shared by the group; what the policy needs not see is each program's last line.
    prompts = sum(len(made.ids[: made.cuts[0] + made.split[0]]) for made in programs)
    assert rollouts._sessions[-1].counts.needed == tokens - 7 * prompts
    assert rollouts.counts is rollouts._sessions[0].counts


def test_bad_proposals_are_refused():
    for knob, value in (
        ("max_thought", 0), ("floor_above", 1.0), ("floor_above", -0.1), ("temperature", 0.0), ("temperature", np.inf),
        ("temperature", np.nan), ("prior", "none"), ("format_penalty", -1.0), ("format_penalty", np.nan),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"^{knob}: "):
            Proposals(**{knob: value})


def test_a_row_longer_than_the_model_says_so():
    with pytest.raises(ValueError, match=r"chunks: a row of .* tokens is longer than the model's 14"):
        run_rollouts(roll(model(max_length=14), programs=[program(0, lines=4, longest=1, prompt=1)], floor=0.99))


def test_white_space_before_a_decision_is_never_content():
    made = program(0, "before", lines=2)
    content = made.content.copy()
    content[made.cuts[0] + made.split[0] - 1] = True
    with pytest.raises(ValueError, match="split: what stands before a decision is white space"):
        replace(made, content=content)
