"""The forward-backward recursion in JAX against the compiled one, and its gradients."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from ra3sim.abstraction import TemporalPrior, ThoughtPrice
from ra3sim.latent import LatentModel, OptionPrior, Trajectories, expect, log_likelihood
from ra3sim.latent import jax_inference as in_jax

Z, S, A, M, T = 3, 4, 3, 7, 12


def option_prior(seed, start=None, zeros=False):
    rng = np.random.default_rng(seed)
    ends, choice = rng.random((Z, S)), rng.random((Z, S))
    if zeros:
        ends[0], ends[1, :2], choice[0, 1] = 0, 1, 0
    return OptionPrior(ends, choice / choice.sum(0), start)


PRIORS = [
    TemporalPrior(Z, 0.8),
    TemporalPrior(Z, 0.8, start=1),
    TemporalPrior(Z, 0.0),
    TemporalPrior(Z, 1.0),
    TemporalPrior(Z, 1.0, start=2),
    ThoughtPrice(Z, 1.5),
    ThoughtPrice(Z, 1.5, start=0),
    option_prior(0),
    option_prior(1, start=2),
    option_prior(2, zeros=True),
    option_prior(3, start=0, zeros=True),
]


def drawn(prior, seed=0, lengths=None, actions=None):
    """A random model and random decisions; the lengths end in T, so that all tests share their compiled programs."""
    rng = np.random.default_rng(seed)
    lengths = [*rng.integers(1, T + 1, M - 1), T] if lengths is None else lengths
    pairs = [(rng.integers(S, size=n), rng.integers(A if actions is None else actions, size=n)) for n in lengths]
    return LatentModel.random(Z, S, A, prior, seed), Trajectories.from_pairs(pairs, S, A)


def agree(ours, theirs):
    np.testing.assert_allclose(ours.log_likelihood, theirs.log_likelihood, rtol=1e-10)
    np.testing.assert_allclose(ours.switches, theirs.switches, rtol=1e-10, atol=1e-12)
    for name in ("counts", "arrived", "ended", "chosen"):
        one, other = getattr(ours.statistics, name), getattr(theirs.statistics, name)
        assert (one is None) == (other is None)
        if other is not None:
            assert one.dtype == np.float64
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: type(prior).__name__)
def test_expectations_are_those_of_the_compiled_recursion(prior):
    model, trajectories = drawn(prior)
    agree(in_jax.expect(model, trajectories, block=3), expect(model, trajectories))


def test_impossible_actions_of_some_latents():
    model, trajectories = drawn(TemporalPrior(Z, 0.9))
    policy = np.array(model.policy)
    policy[0, :, 0] = 0
    policy[1, 2, 1:] = 0
    model = LatentModel(policy / policy.sum(-1, keepdims=True), model.prior)
    for some in (model, model.with_option_prior()):
        agree(in_jax.expect(some, trajectories, block=3), expect(some, trajectories))


def test_a_block_holds_at_least_one():
    model, trajectories = drawn(PRIORS[0])
    with pytest.raises(ValueError, match="block"):
        in_jax.expect(model, trajectories, block=0)


@pytest.mark.parametrize("keep", [1.0, 1 - 1e-12])
def test_long_persistent_trajectories(keep):
    """One latent falls behind by hundreds of nats and catches up again."""
    model = LatentModel([[[0.99, 0.01]], [[0.01, 0.99]]], TemporalPrior(2, keep))
    actions = np.repeat([0, 1, 0], [900, 1000, 100])
    late = np.repeat([0, 1], [1000, 1000])
    trajectories = Trajectories.from_pairs([(0 * actions, actions), (0 * late, late)], 1, 2)
    agree(in_jax.expect(model, trajectories), expect(model, trajectories))


def test_a_likelihood_of_zero_is_the_same_error():
    model, trajectories = drawn(PRIORS[0])
    policy = model.policy * np.array([1, 1, 0])
    model = LatentModel(policy / policy.sum(-1, keepdims=True), model.prior)
    with pytest.raises(ValueError, match=r"trajectory \d, step \d") as theirs:
        expect(model, trajectories)
    with pytest.raises(ValueError) as ours:
        in_jax.expect(model, trajectories, block=3)
    assert str(ours.value) == str(theirs.value)
    with pytest.raises(ValueError, match="over"):
        in_jax.expect(model, Trajectories([0], [0], [0, 1], 1, 2))


def test_padding():
    _, trajectories = drawn(PRIORS[0])
    padded = in_jax.pad(trajectories, T + 2)
    assert padded.mask.shape == (M, T + 2) and padded.mask.sum() == trajectories.num_steps
    np.testing.assert_array_equal(padded.states[padded.mask], trajectories.states)
    np.testing.assert_array_equal(padded.actions[padded.mask], trajectories.actions)
    with pytest.raises(ValueError, match="length: must be at least 12"):
        in_jax.pad(trajectories, T - 1)


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


@jax.jit
def slopes(*args):
    """Values (M,), and the gradients of their sum in the three tables."""

    def total(*args):
        values = in_jax.log_likelihood(*args)
        return values.sum(), values

    found, values = jax.grad(total, (0, 1, 2), has_aux=True)(*args)
    return values, found


@pytest.mark.parametrize("start", [-1, 1])
def test_gradient_against_finite_differences(double, start):
    model, trajectories = drawn(option_prior(5, start if start >= 0 else None))
    padded = in_jax.pad(trajectories)
    tables = [np.log(model.policy), np.array(model.prior.termination), np.array(model.prior.choice)]
    values, found = slopes(*tables, start, padded)
    np.testing.assert_allclose(values, log_likelihood(model, trajectories), rtol=1e-12)
    rng = np.random.default_rng(0)
    for i, table in enumerate(tables):
        for _ in range(3):
            direction = rng.standard_normal(table.shape)
            ends = []
            for step in (1e-5, -1e-5):
                moved = [*tables[:i], table + step * direction, *tables[i + 1 :]]
                ends.append(float(slopes(*moved, start, padded)[0].sum()))
            slope = (ends[0] - ends[1]) / 2e-5
            assert float((found[i] * direction).sum()) == pytest.approx(slope, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("start", [-1, 1])
def test_no_gradient_is_nan(double, start):
    """Padding, zero probabilities everywhere, and a trajectory that is impossible as a whole."""
    model, trajectories = drawn(option_prior(6, zeros=True), actions=2)
    policy = np.log(np.array([[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0]])[:, None].repeat(S, 1).clip(1e-320))
    policy[policy < -700] = -np.inf
    args = [policy, model.prior.termination, model.prior.choice, start, in_jax.pad(trajectories)]
    values, some = slopes(*args)
    assert np.isfinite(values).any()
    args[0] = np.full_like(policy, -np.inf)
    values, none = slopes(*args)
    assert np.isneginf(values).all()
    assert all(np.isfinite(g).all() for g in some) and float(abs(some[0]).max()) > 0
    assert all((np.asarray(g) == 0).all() for g in none)


def test_a_fit_by_gradients_raises_the_likelihood(double):
    rng = np.random.default_rng(8)
    model, _ = drawn(option_prior(8))
    actions = rng.integers(A, size=(M, T // 4)).repeat(4, axis=1)  # every action four times
    padded = in_jax.pad(Trajectories.from_pairs([(0 * row, row) for row in actions], S, A))
    logits, values = np.log(model.policy), []
    for _ in range(40):
        log_policy = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        found, (slope, *_) = slopes(log_policy, model.prior.termination, model.prior.choice, -1, padded)
        values.append(float(found.sum()))
        slope = np.asarray(slope)
        logits = logits + 0.1 * (slope - np.exp(log_policy) * slope.sum(-1, keepdims=True))
    assert all(np.diff(values) > 0) and values[-1] > values[0] + 10


def test_importing_the_package_does_not_import_jax_nor_this_module_change_its_settings():
    program = (
        "import sys, ra3sim.latent; assert 'jax' not in sys.modules\n"
        "import ra3sim.latent.jax_inference, jax; assert not jax.config.jax_enable_x64"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
