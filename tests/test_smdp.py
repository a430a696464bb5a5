"""The multi-time model: against the MDP, against sums over time, against closed forms, dense against sparse."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import random_mdp, random_options, walk_options

from ra3sim.mdp import MDP
from ra3sim.options import OptionSet
from ra3sim.smdp import SMDP, expected_durations

SEEDS = st.integers(0, 2**32 - 1)
# Two options over two states.
P = np.array([[[0.5, 0.2], [0.0, 0.9]], [[0.1, 0.0], [0.3, 0.3]]])
GOOD = {"R": [[1.0, 2.0], [3.0, 4.0]], "P": P}


def dense(matrix) -> np.ndarray:
    return matrix.toarray() if sp.issparse(matrix) else matrix


def changed(place: tuple[int, ...], value: float) -> np.ndarray:
    outcome = P.copy()
    outcome[place] = value
    return outcome


ERRORS = [
    ({"R": [1.0, 2.0]}, "R: shape (2,) does not fit (Z=any, S=any)"),
    ({"R": [[1.0, np.nan], [0, 0]]}, "R[z=0, s=1] is NaN or infinite; every entry must be finite"),
    ({"P": P[:1]}, "P: shape (1, 2, 2) does not fit (Z=2, S=2, T=2)"),
    ({"P": changed((1, 0, 1), np.inf)}, "P[z=1, s=0, t=1] is NaN or infinite"),
    ({"P": changed((1, 0, 1), -0.1)}, "P[z=1, s=0] has a negative entry; discounted probabilities are >= 0"),
    ({"P": changed((1, 1, 0), 0.7)}, "P[z=1, s=1] sums to 1; E[γ^τ] must be below 1: multiply the outcome by γ^τ"),
    ({"P": sp.csr_array(P.reshape(4, 2)[:3])}, "P: sparse shape (3, 2) does not fit (4, 2)"),
    ({"P": [sp.eye_array(2) * 0.5, sp.eye_array(3)]}, "P[z=1]: sparse shape (3, 3) does not fit (2, 2)"),
    ({"P": sp.csr_array(changed((1, 0, 1), -0.1).reshape(4, 2))}, "P[z=1, s=0] has a negative entry"),
    ({"P": sp.csr_array(changed((1, 1, 0), 0.8).reshape(4, 2))}, "P[z=1, s=1] sums to 1.1; E[γ^τ] must be below 1"),
    ({"available": [[1, 0], [1, 0]]}, "available: no option in s=1 (1 such states); keep at least one in every state"),
    ({"available": [[1, 1]]}, "available: shape (1, 2) does not fit (Z=2, S=2)"),
    ({"terminal": [2]}, "terminal: give a boolean mask (2,) or states from 0 to 1"),
    ({"names": ["a"]}, "names: 1 names for 2 items"),
]


@pytest.mark.parametrize(("change", "message"), ERRORS, ids=[e[1][:50] for e in ERRORS])
def test_errors_name_argument_place_and_remedy(change, message):
    assert SMDP(**GOOD).num_options == 2
    with pytest.raises(ValueError) as error:
        SMDP(**{**GOOD, **change})
    assert str(error.value).startswith(message)


def test_the_sum_that_is_too_large_is_the_one_that_is_named():
    with pytest.raises(ValueError, match=r"P\[z=0, s=1\] sums to 1.3; "):
        SMDP(GOOD["R"], np.array([P[0] + [[0, 0], [0.4, 0]], P[1] * 9]))


def test_pairs_that_are_not_available_do_not_count():
    smdp = SMDP(GOOD["R"], changed((1, 1, 0), 5.0), [[1, 1], [1, 0]])
    assert smdp.available.tolist() == [[True, True], [True, False]]
    assert smdp.gamma_bar == 0.9 and smdp.mass_range == pytest.approx((0.1, 0.9))
    assert smdp.reward_bound == 3.0
    assert smdp.expected_discount.tolist() == [[0.7, 0.9], [0.1, 0.0]]
    assert not smdp.P[1, 1].any() and not smdp.option_matrix(1)[1].any()
    ends = SMDP(GOOD["R"], P, terminal=[1])
    assert ends.available[:, 1].tolist() == [False, False] and ends.reward_bound == 3.0


def test_forms_of_the_same_outcomes():
    flat = sp.csr_array(P.reshape(4, 2))
    sparse = [flat, flat.tocoo(), [sp.csr_array(p) for p in P], (sp.coo_array(P[0]), sp.csc_matrix(P[1]))]
    for form, is_sparse in [(P, False), (P.tolist(), False), *((form, True) for form in sparse)]:
        smdp = SMDP(GOOD["R"], form)
        assert smdp.is_sparse == is_sparse
        np.testing.assert_array_equal(dense(smdp.P).reshape(2, 2, 2), P)
        for z in range(2):
            np.testing.assert_array_equal(dense(smdp.option_matrix(z)), P[z])
    assert repr(SMDP(**GOOD)) == "<SMDP: Z=2, S=2, gamma_bar=0.9, dense>"
    assert repr(SMDP(GOOD["R"], flat)) == "<SMDP: Z=2, S=2, gamma_bar=0.9, sparse, 6 entries>"


def test_views_are_read_only():
    for smdp in (SMDP(**GOOD), SMDP.from_mdp(random_mdp(0))):
        for array in (smdp.R, smdp.available, smdp.matrix, smdp.terminal, smdp.expected_discount):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0


@given(seed=SEEDS, sparse=st.booleans())
def test_the_smdp_of_the_primitives_is_the_mdp(seed, sparse):
    mdp = random_mdp(seed)
    used = mdp.available.T[..., None]
    given_form = mdp.to_sparse() if sparse else mdp
    shared = SMDP.from_mdp(given_form)
    built = SMDP.from_options(given_form, OptionSet.primitives(mdp))
    for smdp in (shared, built):
        assert smdp.names == mdp.action_names
        np.testing.assert_array_equal(smdp.available, mdp.available.T)
        np.testing.assert_array_equal(smdp.R * used[..., 0], mdp.rewards.T * used[..., 0])
        expected = mdp.discount * mdp.transitions.transpose(1, 0, 2) * used
        np.testing.assert_allclose(dense(smdp.P).reshape(expected.shape), expected, rtol=0, atol=1e-15)
        # Arriving in a terminal state counts for nothing: the value there is 0.
        going_on = (mdp.transitions[:, :, ~mdp.terminal].sum(-1))[mdp.available].max()
        assert smdp.gamma_bar == pytest.approx(mdp.discount * going_on, rel=1e-12)
        assert smdp.reward_bound == np.abs(mdp.rewards[mdp.available]).max()
    low, high = shared.mass_range
    mass = (mdp.discount * mdp.transitions[:, :, ~mdp.terminal].sum(-1))[mdp.available]
    assert low <= mass.min() and mass.max() <= high


def test_the_smdp_of_the_primitives_copies_no_transition():
    mdp = random_mdp(0)
    assert np.shares_memory(SMDP.from_mdp(mdp).matrix, mdp.transitions)
    sparse = mdp.to_sparse()
    assert np.shares_memory(SMDP.from_mdp(sparse).matrix.data, sparse.transitions.data)


@settings(max_examples=25)
@given(seed=SEEDS, sparse=st.booleans())
def test_the_model_is_the_sum_over_time(seed, sparse):
    """Markov options, macros and primitives together, against the distribution over states followed step by step."""
    mdp = random_mdp(seed, missing=False)
    options = random_options(seed, mdp) | OptionSet.macros(mdp, [(0, 1, 2), (2, 2)]) | OptionSet.primitives(mdp)
    smdp = SMDP.from_options(mdp.to_sparse() if sparse else mdp, options)
    R, outcome, duration = walk_options(mdp, options)
    np.testing.assert_allclose(smdp.R, R, rtol=0, atol=1e-9)
    np.testing.assert_allclose(dense(smdp.P).reshape(outcome.shape), outcome, rtol=0, atol=1e-9)
    made = expected_durations(mdp.to_sparse() if sparse else mdp, options)
    np.testing.assert_array_equal(np.isnan(made), ~smdp.available)
    np.testing.assert_allclose(np.nan_to_num(made), duration, rtol=1e-9, atol=1e-9)


@settings(max_examples=25)
@given(seed=SEEDS, sparse=st.booleans())
def test_chains_into_markov_nodes_are_the_sum_over_time(seed, sparse):
    """Two options share the end of their chains of nodes; each node may end the option, the last goes on."""
    mdp = random_mdp(seed, missing=False)
    markov = random_options(seed, mdp, count=4)
    initiation = np.random.default_rng(seed).random((2, 6)) < 0.3
    initiation[:, 0] = True
    options = OptionSet(
        markov.policy, markov.termination, initiation, next_node=[2, 2, 3, 3], start_node=[0, 1], names=["a", "b"]
    ) | OptionSet.primitives(mdp)
    smdp = SMDP.from_options(mdp.to_sparse() if sparse else mdp, options)
    R, outcome, duration = walk_options(mdp, options)
    np.testing.assert_allclose(smdp.R, R, rtol=0, atol=1e-9)
    np.testing.assert_allclose(dense(smdp.P).reshape(outcome.shape), outcome, rtol=0, atol=1e-9)
    np.testing.assert_allclose(np.nan_to_num(expected_durations(mdp, options)), duration, rtol=1e-9, atol=1e-9)


@settings(max_examples=25)
@given(seed=SEEDS)
def test_missing_actions_do_not_disturb_the_sum(seed):
    mdp = random_mdp(seed, missing=True)
    options = random_options(seed, mdp)
    R, outcome, _ = walk_options(mdp, options)
    smdp = SMDP.from_options(mdp, options)
    np.testing.assert_allclose(smdp.R, R, rtol=0, atol=1e-9)
    np.testing.assert_allclose(smdp.P, outcome, rtol=0, atol=1e-9)


@settings(max_examples=25)
@given(seed=SEEDS)
def test_dense_and_sparse_agree(seed):
    mdp = random_mdp(seed)
    options = random_options(seed, mdp)
    one, two = SMDP.from_options(mdp, options), SMDP.from_options(mdp.to_sparse(), options)
    assert two.is_sparse and not one.is_sparse
    np.testing.assert_allclose(dense(two.P).reshape(one.P.shape), one.P, rtol=0, atol=1e-13)
    np.testing.assert_allclose(two.R, one.R, rtol=0, atol=1e-12)
    np.testing.assert_allclose(two.expected_discount, one.expected_discount, rtol=0, atol=1e-13)
    np.testing.assert_allclose(two.mass_range, one.mass_range, rtol=1e-12)
    policy = np.where(mdp.terminal, -1, np.argmax(one.available, 0))
    for smdp in (one, two):
        outcome, reward = smdp.under(policy)
        for s, z in enumerate(policy):
            np.testing.assert_allclose(dense(outcome)[s], one.P[z, s] if z >= 0 else 0, rtol=0, atol=1e-13)
            assert reward[s] == pytest.approx(one.R[z, s] if z >= 0 else 0)


@settings(max_examples=25)
@given(seed=SEEDS, sparse=st.booleans())
def test_the_mass_that_is_lost_is_the_time_that_passes(seed, sparse):
    """Reward 1 everywhere: R = E[Σ_{i<τ} γ^i], and Σ_s' P(s'|s,z) = E[γ^τ] = 1 − (1 − γ) R."""
    mdp = random_mdp(seed, ends=0, missing=False)
    mdp = mdp.replace(rewards=np.ones_like(mdp.rewards))
    options = random_options(seed, mdp) | OptionSet.macros(mdp, 2)
    smdp = SMDP.from_options(mdp.to_sparse() if sparse else mdp, options)
    mass = np.where(smdp.available, 1 - (1 - mdp.discount) * smdp.R, 0)
    np.testing.assert_allclose(smdp.expected_discount, mass, rtol=0, atol=1e-12)
    durations = expected_durations(mdp, options)[smdp.available]
    # Jensen: E[γ^τ] >= γ^E[τ]; and an option takes at least a step.
    assert (smdp.expected_discount[smdp.available] >= mdp.discount**durations - 1e-12).all()
    assert (durations >= 1 - 1e-12).all()


@settings(max_examples=25)
@given(seed=SEEDS, factor=st.floats(-10, 10))
def test_rewards_scale_and_gamma_bar_is_at_most_gamma(seed, factor):
    mdp = random_mdp(seed, missing=False)
    options = random_options(seed, mdp) | OptionSet.macros(mdp, [(0, 1)])
    one = SMDP.from_options(mdp, options)
    two = SMDP.from_options(mdp.replace(rewards=factor * mdp.rewards), options)
    np.testing.assert_allclose(two.R, factor * one.R, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(two.P, one.P)
    assert two.reward_bound == pytest.approx(abs(factor) * one.reward_bound)
    assert one.gamma_bar <= mdp.discount * (1 + 1e-12)
    low, high = one.mass_range
    assert 0 <= low <= one.gamma_bar <= high <= one.gamma_bar + 1e-12


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("beta", [1.0, 0.5, 0.01])
def test_geometric_termination_has_closed_forms(beta, sparse):
    """τ is geometric: E[τ] = 1/β and E[γ^τ] = γβ / (1 − γ(1 − β)); rewards of 1 sum to 1 / (1 − γ(1 − β))."""
    mdp = random_mdp(7, ends=0, missing=False)
    mdp = mdp.replace(rewards=np.ones_like(mdp.rewards))
    mdp = mdp.to_sparse() if sparse else mdp
    gamma = mdp.discount
    policy = np.random.default_rng(0).dirichlet(np.ones(3), size=6)
    options = OptionSet.from_policy(policy, np.full(6, beta))
    smdp = SMDP.from_options(mdp, options)
    np.testing.assert_allclose(expected_durations(mdp, options), 1 / beta, rtol=1e-12)
    np.testing.assert_allclose(smdp.expected_discount, gamma * beta / (1 - gamma * (1 - beta)), rtol=1e-12)
    np.testing.assert_allclose(smdp.R, 1 / (1 - gamma * (1 - beta)), rtol=1e-12)


def test_an_option_ends_at_the_end_of_the_episode():
    """Two steps to the terminal state, without any termination: E[γ^τ] = γ², and no reward after the end."""
    transitions = np.zeros((3, 1, 3))
    transitions[[0, 1, 2], 0, [1, 2, 2]] = 1
    mdp = MDP(transitions, [[1.0], [10.0], [0.0]], 0.5, terminal=[2])
    smdp = SMDP.from_options(mdp, OptionSet(np.ones((1, 3, 1)), np.zeros((1, 3))))
    assert smdp.P[0].tolist() == [[0, 0, 0.25], [0, 0, 0.5], [0, 0, 0]]
    assert smdp.R[0].tolist() == [6, 10, 0]
    assert smdp.available.tolist() == [[True, True, False]]


def test_options_of_another_size_and_states_without_options():
    mdp = random_mdp(1)
    options = random_options(1, mdp)
    for use in (SMDP.from_options, expected_durations):
        with pytest.raises(ValueError, match=r"options: made for \(S, A\) = \(6, 3\), the MDP has \(5, 3\)"):
            use(random_mdp(1, states=5), options)
    only = OptionSet(options.policy[:1], options.termination[:1], [[1, 0, 1, 0, 1, 0]])
    with pytest.raises(ValueError, match=r"available: no option in s=1 \(2 such states\); keep at least one"):
        SMDP.from_options(mdp, only)


@settings(max_examples=25)
@given(seed=SEEDS, sparse=st.booleans(), primitives=st.booleans())
def test_restrict(seed, sparse, primitives):
    mdp = random_mdp(seed, missing=False)
    mdp = mdp.to_sparse() if sparse else mdp
    smdp = SMDP.from_mdp(mdp) if primitives else SMDP.from_options(mdp, random_options(seed, mdp))
    for chosen in ([2, 0], [0], [smdp.names[0], smdp.names[1]]):
        numbers = [smdp.names.index(z) if isinstance(z, str) else z for z in chosen]
        kept = smdp.restrict(chosen)
        assert kept.is_sparse == sparse and kept.names == tuple(smdp.names[z] for z in numbers)
        for z, number in enumerate(numbers):
            np.testing.assert_array_equal(dense(kept.option_matrix(z)), dense(smdp.option_matrix(number)))
            np.testing.assert_array_equal(kept.R[z], smdp.R[number])
            np.testing.assert_array_equal(kept.available[z], smdp.available[number])
        assert kept.gamma_bar <= smdp.gamma_bar * (1 + 1e-12)
        np.testing.assert_array_equal(kept.terminal, smdp.terminal)


def test_restrictions_that_are_refused():
    smdp = SMDP(GOOD["R"], P, [[1, 1], [1, 0]], names=["a", "b"])
    for chosen, message in [
        ([], "options: none chosen"),
        (["c"], "options: there is no option 'c'; known are a, b"),
        ([2], "options: there is no option 2"),
        ([0, 0], "options: 'a' stands twice"),
        (["b"], r"available: no option in s=1 \(1 such states\); keep at least one"),
    ]:
        with pytest.raises(ValueError, match=message):
            smdp.restrict(chosen)


def test_memory_is_in_proportion_to_the_entries_of_the_result(monkeypatch):
    """3,000 states on a ring with 300 doors; one dense option would take 72 MB, its doors alone 7 MB."""
    monkeypatch.setattr("ra3sim.smdp._COLUMNS", 32)
    states = 3000
    forward = sp.csr_array((np.ones(states), (np.arange(states), (np.arange(states) + 1) % states)))
    mdp = MDP([forward, forward.T.tocsr()], np.zeros((states, 2)), 0.9)
    doors = (np.arange(states) % 10 == 0).astype(float)
    options = OptionSet(np.eye(2)[:, None].repeat(states, 1), np.array([doors, doors]))
    tracemalloc.start()
    smdp = SMDP.from_options(mdp, options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert smdp.matrix.nnz == 2 * states
    at, ahead = np.arange(states), 10 - np.arange(states) % 10
    expected = sp.csr_array((0.9**ahead, (at, (at + ahead) % states)), shape=(states, states))
    assert abs(smdp.option_matrix(0) - expected).max() < 1e-14
    assert peak < 6e6, f"{peak / 1e6:.0f} MB"
