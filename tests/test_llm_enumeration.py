"""Programs so small that all their latents can be listed: rollouts, evidence and gradients against the sums."""

import math
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from agreement import assert_frequencies, assert_mean, z_limit
from llm_cases import ends, model

from llm.mstep import TrainConfig
from llm.program import Program, assemble
from llm.rollouts import Proposals
from llm.scoring import collate, log_probs, split_log_probs
from llm.world import TextWorld, WorldConfig
from ra3sim import em
from ra3sim.em import PolicyGradient, Posterior, run_rollouts

BOS, NEWLINE, MARKER, VOCABULARY = 0, 1, 2, 6
CLOSING = np.array([True, True, False, False, False, False])
WORDS = (2, 3, 4, 5)
PRICE = 0.4
# Two lines with a place for thoughts and one without, cut before newlines; and two lines cut after them.
BEFORE = Program(
    ids=np.array([BOS, 4, NEWLINE, 3, 5, NEWLINE, 4, NEWLINE, 5, 3]), cuts=np.array([2, 5, 7, 10]),
    split=np.array([1, 1, 1]), marker=np.array([MARKER, -1, MARKER]),
    content=np.array([0, 0, 0, 1, 1, 0, 1, 0, 1, 1], bool), closer=((),) * 3,
)  # fmt: skip
AFTER = Program(
    ids=np.array([BOS, 4, 3, 5, 4, 5]), cuts=np.array([2, 4, 6]), split=np.array([0, 0]),
    marker=np.array([MARKER, MARKER]), content=np.array([0, 0, 1, 1, 1, 1], bool), closer=((NEWLINE,),) * 2,
)  # fmt: skip
PROGRAMS = {"before": BEFORE, "after": AFTER}


def small(seed=0, layers=1):
    return model(seed=seed, vocabulary=VOCABULARY, width=8, layers=layers, sharp=12.0)


def every_thought(most):
    """All thoughts and whether they ended by themselves."""
    shorter = [(words, True) for size in range(most) for words in product(WORDS, repeat=size)]
    return shorter + [(words, False) for words in product(WORDS, repeat=most)]


class Listed:
    """All latents of a program, with what a model says of each; float64 tensors ``(Z, T)`` with gradients."""

    def __init__(self, program, module, most=1):
        lines = [[(None, True), *(every_thought(most) if marker >= 0 else [])] for marker in program.marker]
        self.program, self.latents = program, list(product(*lines))
        self.thoughts = [tuple(thought for thought, _ in latent) for latent in self.latents]
        rows = [
            ends(assemble(program, thoughts), [closed for _, closed in latent])
            for latent, thoughts in zip(self.latents, self.thoughts, strict=True)
        ]
        batch = collate(rows)
        decision, token = (part.double() for part in log_probs(module, batch, torch.from_numpy(CLOSING)))
        line = torch.from_numpy(np.concatenate([row.line[1:] for row in rows]))
        kind = torch.from_numpy(np.concatenate([row.kind[1:] for row in rows]))
        place, T = batch.row * len(program) + line, len(program)

        def total(values, where):
            zeros = torch.zeros(len(rows) * T, dtype=torch.float64)
            return zeros.index_add(0, place[where], values[where]).view(len(rows), T)

        self.decided = total(decision, batch.marker >= 0)
        self.what = total(token, (kind == 4) | batch.close)
        self.content = total(token, kind == 2)
        self.think = torch.tensor([[thought is not None for thought in thoughts] for thoughts in self.thoughts])

    def log_q(self, floor=0.0):
        """log q of each latent ``(Z,)``, with the floor where thoughts may stand."""
        kappa = self.decided.exp()
        may = torch.from_numpy(self.program.marker >= 0)
        act = torch.where(may, self.decided + math.log1p(-floor), 0.0)
        return (torch.where(self.think, torch.log(floor + (1 - floor) * kappa), act) + self.what).sum(-1)

    def index(self, thoughts):
        self._index = getattr(self, "_index", None) or {latent: k for k, latent in enumerate(self.thoughts)}
        return self._index[thoughts]


def make_world(program, module, copies=1, max_thought=1, policy_train=None, **knobs):
    """Copies differ in their numbers, and so in what is drawn for them."""
    proposals = {key: knobs.pop(key) for key in ("prior", "per_token", "stratified") if key in knobs}
    config = WorldConfig(
        price=PRICE, proposals=Proposals(max_thought=max_thought, **proposals), policy_train=policy_train, **knobs
    )
    return TextWorld([program] * copies, module, CLOSING, config)


def counts(listed, rollouts):
    run_rollouts(rollouts)
    return np.bincount(
        [listed.index(rollouts.latents(b)) for b in range(len(rollouts.thoughts))], minlength=len(listed.latents)
    )


@pytest.mark.parametrize("most", [1, 2])
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("floor", [0.0, 0.5])
def test_latents_are_drawn_from_q(name, most, floor):
    module = small()
    with torch.no_grad():
        listed = Listed(PROGRAMS[name], module, most)
    q = listed.log_q(floor).exp().numpy()
    assert q.sum() == pytest.approx(1, abs=1e-5) and len(q) == (6 if most == 1 else 22) ** 2
    assert listed.think.any(-1).numpy() @ q > 0.2
    world = make_world(PROGRAMS[name], module, max_thought=most)
    rollouts = world.rollouts(*world.init(None), np.array([0]), 4000, np.random.SeedSequence(3), floor)
    assert_frequencies(counts(listed, rollouts), q / q.sum(), tests=8)


def test_stratified_groups_are_marginally_drawn_from_q():
    module = small()
    with torch.no_grad():
        q = (listed := Listed(BEFORE, module)).log_q(0.5).exp().numpy()
    world = make_world(BEFORE, module, 800, stratified=True)
    rollouts = world.rollouts(*world.init(None), np.arange(800), 4, np.random.SeedSequence(0), 0.5)
    run_rollouts(rollouts)
    for g in range(4):
        mine = [listed.index(rollouts.latents(b)) for b in range(g, 3200, 4)]
        assert_frequencies(np.bincount(mine, minlength=36), q / q.sum(), tests=4)
    # The four of a group share out the first decision: as many think as q says, to within one.
    first = rollouts.think[:, 0].reshape(-1, 4).sum(1)
    kappa = 1 - np.exp(listed.log_q(0.5).numpy()) @ ~listed.think[:, 0].numpy()
    assert set(first) <= {math.floor(4 * kappa), math.ceil(4 * kappa)}


def evidence_of(estep, world, monkeypatch, seed=0):
    """The estimate of each trajectory, ``(I,)``, and the result."""
    found = []
    original = em.smc_step

    def recorded(*args, **kwargs):
        found.append(original(*args, **kwargs))
        return found[-1]

    with monkeypatch.context() as patch:
        patch.setattr(em, "smc_step", recorded)
        batch = np.arange(len(world.programs))
        result = estep.run(world, *world.init(None), batch, 0, np.random.SeedSequence(seed))
    estimates = sum(step.log_evidence for step in found)
    assert result.quantities["log_marginal"] == pytest.approx(estimates.mean(), abs=1e-9)
    return estimates, result


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize(
    "knobs",
    [
        {"threshold": 0.0}, {"threshold": 1.0}, {"threshold": 0.7, "lag": 0.3, "floor": 0.4},
        {"threshold": 1.0, "floor": 0.4, "stratified": True}, {"threshold": 1.0, "base": True, "floor": 0.4},
    ],
    ids=["plain", "resampled", "lag", "stratified", "base"],
)  # fmt: skip
def test_the_evidence_is_unbiased(name, knobs, monkeypatch):
    """Candidates come from the policy (with a floor), their weights make it the model's own marginal."""
    knobs = dict(knobs)
    stratified, base = knobs.pop("stratified", False), knobs.pop("base", False)
    policy, module = small(3), small()
    with torch.no_grad():
        listed = Listed(PROGRAMS[name], module, 2)
    exact = (listed.log_q() + listed.content.sum(-1)).exp().sum().item()
    world = make_world(
        PROGRAMS[name], module, 600, 2, prior="model", stratified=stratified, reward="base" if base else "step"
    )
    if base:  # candidates from other weights than the reward's
        with torch.no_grad():
            for weight, other in zip(module.parameters(), policy.parameters(), strict=True):
                weight.copy_(other)
    estimates, result = evidence_of(Posterior(candidates=3, learn_policy=False, **knobs), world, monkeypatch)
    draws = np.exp(estimates)
    assert_mean(draws.mean(), draws.std() / math.sqrt(len(draws)), exact, tests=10)
    assert draws.std() / math.sqrt(len(draws)) < 0.15 * exact, "the test would see nothing"
    steps = len(PROGRAMS[name])
    if "lag" not in knobs:
        assert result.quantities["resampled"] == pytest.approx(knobs["threshold"] * (steps - 1) / steps)
    else:
        assert 0 < result.quantities["resampled"] < 0.5


def test_the_bound_tightens_with_the_candidates(monkeypatch):
    module = small()
    with torch.no_grad():
        listed = Listed(AFTER, module, 2)
    exact = (listed.log_q() + listed.content.sum(-1)).logsumexp(0).item()
    bounds = []
    for candidates, copies in ((1, 600), (4, 600), (32, 150)):
        world = make_world(AFTER, module, copies, 2, prior="model")
        estimates, _ = evidence_of(Posterior(candidates=candidates, floor=0.3, learn_policy=False), world, monkeypatch)
        bounds.append((estimates.mean(), estimates.std() / math.sqrt(copies)))
    for (one, error), (two, other) in pairwise(bounds):
        assert two - one > 3 * math.hypot(error, other), bounds
    last, error = bounds[-1]
    assert exact - 0.1 * (exact - bounds[0][0]) - 3 * error < last < exact + 3 * error


def test_weighted_candidates_are_the_posterior_under_a_price():
    """p(z) of the weights: e^{-c} for each thought against 1, and the policy's own over what is thought."""
    module = small()
    with torch.no_grad():
        listed = Listed(BEFORE, module)
    scores = (listed.what - PRICE * listed.think + listed.content).sum(-1)
    posterior = scores.softmax(0).numpy()
    world = make_world(BEFORE, module, 20, prior="price", per_token=False, annotations=40)
    found = Posterior(candidates=400, floor=0.5, learn_policy=False).run(
        world, *world.init(None), np.arange(20), 0, np.random.SeedSequence(0)
    )
    drawn = np.zeros(36)
    for several in found.evidence.annotations.values():
        for annotation in several:
            drawn[listed.index(annotation.thoughts)] += 1
    assert np.abs(drawn / drawn.sum() - posterior).max() < 0.04
    assert posterior.max() > 0.15 and np.abs(posterior - listed.log_q(0.5).exp().numpy()).max() > 0.1


# ---- the policy gradient ------------------------------------------------------------------------------------------


def rewards(listed, per_token):
    """Of each latent and line, ``(Z, T)``."""
    length = torch.from_numpy(listed.program.lengths) if per_token else 1
    return (listed.content / length - PRICE * listed.think).detach()


def slope(module, value):
    module.zero_grad()
    value.backward()
    return torch.cat([weight.grad.flatten() for weight in module.parameters()]).double().numpy()


@pytest.mark.parametrize(
    "repeats,credit,floor,per_token,apart",
    [
        (30, "joint", 0.0, True, False), (30, "split", 0.5, False, True),
        *(
            pytest.param(150, *knobs, marks=pytest.mark.slow)
            for number, knobs in enumerate(product(("joint", "split"), (0.0, 0.5), (False, True), (False, True)))
            if number.bit_count() % 2  # half of them: every three knobs still meet in every way
        ),
    ],
)  # fmt: skip
def test_the_policy_gradient_is_unbiased(repeats, credit, floor, per_token, apart):
    name = "after" if per_token else "before"
    copies, group = 24, 4
    policy, reward = small(), small(1 if apart else 0)
    listed, scored = Listed(PROGRAMS[name], policy), Listed(PROGRAMS[name], reward)
    value = (listed.log_q(floor).exp() * rewards(scored, per_token).sum(-1)).sum()
    exact = slope(policy, value)
    train = TrainConfig(rate=1e-3, clip=None)
    world = make_world(PROGRAMS[name], reward, copies, policy="copy", policy_train=train, per_token=per_token)
    model_, thinker = world.init(None)
    with torch.no_grad():
        for weight, other in zip(thinker.module.parameters(), policy.parameters(), strict=True):
            weight.copy_(other)
    estep = PolicyGradient(credit=credit, floor=floor, group=group)
    draws, means = [], []
    for seed in np.random.SeedSequence(5).spawn(repeats):
        rollouts = world.rollouts(model_, thinker, np.arange(copies), group, seed, floor)
        steps, mask = run_rollouts(rollouts)
        found = estep.rewards(world, steps, mask)
        rows, decisions = rollouts.gradient_rows(*estep.advantages(found, steps, mask), anchor=0.0)
        assert decisions == 2 * copies * group
        loss = thinker.trainer._backward(rows, copies * group)
        gradients = [weight.grad.flatten().clone() for weight in thinker.module.parameters()]
        thinker.module.zero_grad()
        assert torch.isfinite(loss)
        draws.append(-torch.cat(gradients).double().numpy())
        means.append(found.sum(-1).mean())
    assert_mean(np.mean(means), np.std(means) / math.sqrt(repeats), value.item(), tests=18, what="expected reward")
    draws = np.array(draws)
    error = draws.std(0) / math.sqrt(repeats)
    assert (np.abs(draws.mean(0) - exact) <= z_limit(18 * exact.size) * error + 1e-6).all()
    # Along the gradient itself there is little noise.
    along = draws @ exact / (exact @ exact)
    assert along.std() / math.sqrt(repeats) < 0.15, "the test would see nothing"
    assert_mean(along.mean(), along.std() / math.sqrt(repeats), 1, tests=18, what="along the gradient")


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_policy_gradient_touches_latent_tokens_only(name):
    module = small()
    world = make_world(PROGRAMS[name], module, 6, policy_train=TrainConfig(), max_thought=2)
    rollouts = world.rollouts(*world.init(None), np.arange(6), 4, np.random.SeedSequence(0), 0.5)
    run_rollouts(rollouts)
    rng = np.random.default_rng(0)
    whether, what = rng.normal(size=(2, 6, 4, len(PROGRAMS[name])))
    what = what * rollouts.think.reshape(what.shape)
    rows, _ = rollouts.gradient_rows(whether, what, anchor=0.0)
    seen = set()
    for b, row in enumerate(rows):
        logits = torch.randn(len(row.ids) - 1, VOCABULARY, requires_grad=True)
        batch = collate([row])
        decision, token = split_log_probs(logits, batch.target, batch.marker, batch.close, torch.from_numpy(CLOSING))
        (batch.weight @ token + batch.decision_weight @ decision).backward()
        touched = logits.grad.abs().sum(-1).numpy() > 0
        ended = (row.kind == 5) & np.append(rollouts.closed[b], True)[row.line]
        np.testing.assert_array_equal(touched, ((row.marker >= 0) | (row.kind == 4) | ended)[1:])
        seen |= set(row.kind[1:][touched].tolist())
        np.testing.assert_array_equal(row.close, ended)
    assert seen >= {3, 4, 5}


def test_the_anchor_is_imitation_of_the_lines():
    module = small()
    world = make_world(AFTER, module, 3, policy_train=TrainConfig(), max_thought=2)
    rollouts = world.rollouts(*world.init(None), np.arange(3), 4, np.random.SeedSequence(0), 0.5)
    run_rollouts(rollouts)
    zero = np.zeros((3, 4, 2))
    rows, decisions = rollouts.gradient_rows(zero, zero, anchor=0.5)
    with torch.no_grad():
        decision, token = log_probs(module, batch := collate(rows), torch.from_numpy(CLOSING))
    loss = -(batch.weight @ token + batch.decision_weight @ decision) / decisions
    content = rollouts.log_likelihood.sum() / (12 * 4)  # 4 content tokens in each of 12 rows
    assert decisions == 24 and loss.item() == pytest.approx(-0.5 * content, rel=1e-5)


def test_the_bound_of_the_policy_gradient_is_the_enumerated_one():
    module = small()
    with torch.no_grad():
        listed = Listed(BEFORE, module)
        value = (listed.log_q(0.3).exp() * rewards(listed, True).sum(-1)).sum().item()
        think = (listed.log_q(0.3).exp() @ listed.think.double()).mean().item()
    world = make_world(BEFORE, module, 500)
    estep = PolicyGradient(group=4, updates=0, floor=0.3)
    found = estep.run(world, *world.init(None), np.arange(500), 0, np.random.SeedSequence(0)).quantities
    spread = (listed.log_q(0.3).exp() * (rewards(listed, True).sum(-1) - value) ** 2).sum().sqrt().item()
    assert_mean(found["elbo"], spread / math.sqrt(2000), value)
    assert abs(found["think"] - think) < 0.05
