"""The MDP container: what it accepts, what it refuses and how it says so, and that dense and sparse agree."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from tables import random_mdp

from ra3sim.mdp import MDP, absorb

COIN = {"transitions": [[[0.5, 0.5]], [[0.0, 1.0]]], "rewards": [[1.0], [0.0]], "discount": 0.9}
# Two states, two actions: row s * A + a.
ROWS = np.array([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0], [0.2, 0.8]])
PAIR = {"transitions": sp.csr_array(ROWS), "rewards": [[1.0, 2.0], [3.0, 4.0]], "discount": 0.5}


def changed(place: tuple[int, int], value: float) -> sp.csr_array:
    rows = ROWS.copy()
    rows[place] = value
    return sp.csr_array(rows)


def broken() -> sp.csr_array:
    matrix = sp.csr_array(ROWS)
    matrix.indices[0] = 7
    return matrix


ERRORS = [
    (COIN, {"transitions": [[["a", 1.0]], [[0, 1.0]]]}, "transitions: cannot be read as an array of real numbers"),
    (COIN, {"transitions": [[[0.5, 0.5]], [[1.0]]]}, "transitions: cannot be read as an array (setting"),
    (COIN, {"available": [[True], [True, False]]}, "available: cannot be read as an array"),
    (COIN, {"terminal": [[1], [0, 1]]}, "terminal: cannot be read as an array"),
    (COIN, {"transitions": [[0.5, 0.5], [0.0, 1.0]]}, "transitions: shape (2, 2) does not fit (S, A, S) with S"),
    (COIN, {"transitions": np.ones((2, 1, 3))}, "transitions: shape (2, 1, 3) does not fit (S, A, S)"),
    (COIN, {"transitions": np.ones((2, 0, 2))}, "transitions: shape (2, 0, 2) does not fit (S, A, S)"),
    (COIN, {"transitions": [[[0.5, np.nan]], [[0.0, 1.0]]]}, "transitions[s=0, a=0, t=1] is NaN or infinite"),
    (COIN, {"transitions": [[[0.5, 0.6]], [[0.0, 1.0]]]}, "transitions[s=0, a=0] sums to 1.1, must sum to 1; divide"),
    (COIN, {"transitions": [[[1.5, -0.5]], [[0.0, 1.0]]]}, "transitions[s=0, a=0, t=1] is negative; probabilities"),
    (PAIR, {"transitions": sp.csr_array(np.ones((3, 2)))}, "transitions: sparse shape (3, 2) is not (S * A, S)"),
    (PAIR, {"transitions": changed((3, 1), -1)}, "transitions[s=1, a=1] has a negative entry; probabilities are >= 0"),
    (PAIR, {"transitions": changed((3, 1), 1.8)}, "transitions[s=1, a=1] sums to 2, must sum to 1; divide"),
    (PAIR, {"transitions": changed((2, 1), np.inf)}, "transitions: row 2 holds NaN or infinity"),
    (PAIR, {"transitions": broken()}, "transitions: broken sparse structure"),
    (PAIR, {"transitions": [sp.eye_array(2), sp.eye_array(3)]}, "transitions[a=1]: sparse shape (3, 3) does not fit"),
    (COIN, {"rewards": [1.0, 0.0]}, "rewards: shape (2,) does not fit (S=2, A=1)"),
    (COIN, {"rewards": [[1.0], [np.inf]]}, "rewards[s=1, a=0] is NaN or infinite; every entry must be finite"),
    (COIN, {"rewards": np.ones((2, 2, 2))}, "rewards: shape (2, 2, 2) does not fit (S=2, A=1, T=2)"),
    (PAIR, {"rewards": sp.csr_array(np.ones((2, 2)))}, "rewards: sparse shape (2, 2) does not fit (4, 2)"),
    (COIN, {"discount": 1.0}, "discount: must lie in [0, 1), got 1.0; an undiscounted task needs a horizon"),
    (COIN, {"discount": -0.1}, "discount: must lie in [0, 1), got -0.1"),
    (COIN, {"discount": np.nan}, "discount: must lie in [0, 1), got nan"),
    (COIN, {"discount": "high"}, "discount: must be a number in [0, 1), got 'high'"),
    (COIN, {"available": [[True], [False]]}, "available: no action in s=1; give it one, or make the state terminal"),
    (COIN, {"available": [True, True]}, "available: shape (2,) does not fit (S=2, A=1)"),
    (COIN, {"available": [[2], [1]]}, "available: must be boolean (True/False or 0/1), got dtype int64"),
    (COIN, {"available": [["yes"], ["no"]]}, "available: must be boolean"),
    (COIN, {"terminal": [0]}, "terminal: state 0 moves on or is rewarded; make its rows self-loops with reward 0"),
    (COIN, {"terminal": [1], "rewards": [[1.0], [1.0]]}, "terminal: state 1 moves on or is rewarded"),
    (PAIR, {"terminal": [1]}, "terminal: state 1 moves on or is rewarded"),
    (COIN, {"terminal": [2]}, "terminal: give a boolean mask (2,) or states from 0 to 1, got [2]"),
    (COIN, {"terminal": [-1]}, "terminal: give a boolean mask (2,) or states from 0 to 1"),
    (COIN, {"terminal": [0.5]}, "terminal: give a boolean mask (2,) or states from 0 to 1"),
    (COIN, {"terminal": [True]}, "terminal: shape (1,) does not fit (S=2)"),
    (COIN, {"start": 2}, "start: there is no state 2; states are 0 to 1"),
    (COIN, {"start": -1}, "start: there is no state -1; states are 0 to 1"),
    (COIN, {"start": 0.5}, "start: give a state from 0 to 1 or a distribution (2,), got 0.5"),
    (COIN, {"start": "left"}, "start: give a state from 0 to 1 or a distribution (2,), got 'left'"),
    (COIN, {"start": [0.5, 0.6]}, "start sums to 1.1, must sum to 1; divide it by its sum"),
    (COIN, {"start": [1.5, -0.5]}, "start[s=1] is negative; probabilities are >= 0"),
    (COIN, {"start": [1.0]}, "start: shape (1,) does not fit (S=2)"),
    (
        {"transitions": [[[1.0]]], "rewards": [[0.0]], "discount": 0.9, "terminal": [0]},
        {},
        "start: every state is terminal; give a start distribution",
    ),
    (COIN, {"state_names": ["a"]}, "state_names: 1 names for 2 items"),
    (COIN, {"state_names": ["a", "a"]}, "state_names: 'a' stands twice; names must be unique"),
    (COIN, {"action_names": ["a", "b"]}, "action_names: 2 names for 1 items"),
]  # fmt: skip


@pytest.mark.parametrize(("base", "change", "message"), ERRORS, ids=[e[2][:50] for e in ERRORS])
def test_errors_name_argument_place_and_remedy(base, change, message):
    if change:
        MDP(**base)  # the change alone is what is wrong
    with pytest.raises(ValueError) as error:
        MDP(**{**base, **change})
    assert str(error.value).startswith(message)


def test_rows_may_miss_one_by_rounding_only():
    MDP([[[1 + 5e-10]]], [[0.0]], 0.9)
    with pytest.raises(ValueError, match="must sum to 1"):
        MDP([[[1 + 2e-9]]], [[0.0]], 0.9)


def test_unavailable_pairs_need_no_distribution():
    mdp = MDP([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [0.5, 0.5]]], np.zeros((2, 2)), 0.9, available=[[1, 0], [1, 1]])
    assert mdp.available.tolist() == [[True, False], [True, True]]


def test_defaults():
    mdp = MDP(**COIN, terminal=[1])
    assert mdp.start.tolist() == [1.0, 0.0]
    assert mdp.available.tolist() == [[True], [False]]
    assert mdp.state_names == ("0", "1") and mdp.action_names == ("0",)
    assert MDP(**COIN).start.tolist() == [0.5, 0.5]
    assert MDP(**COIN, start=1).start.tolist() == [0.0, 1.0]
    assert repr(MDP(**COIN, name="coin")) == "<coin: S=2, A=1, discount=0.9, dense>"
    assert repr(MDP(**PAIR)) == "<MDP: S=2, A=2, discount=0.5, sparse, 6 entries>"


def test_the_container_is_frozen_and_leaves_the_callers_arrays_alone():
    rewards, available = np.array([[1.0], [0.0]]), np.ones((2, 1), bool)
    mdp = MDP(**{**COIN, "rewards": rewards, "terminal": [1], "available": available})
    for name in ("transitions", "rewards", "available", "terminal", "start"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(mdp, name)[...] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        mdp.discount = 0.5
    assert rewards.flags.writeable and available.all()


def test_transitions_are_not_copied():
    transitions = np.array(COIN["transitions"])
    assert np.shares_memory(MDP(transitions, COIN["rewards"], 0.9).transitions, transitions)
    matrix = sp.csr_array(ROWS)
    mdp = MDP(matrix, PAIR["rewards"], 0.5)
    assert np.shares_memory(mdp.transitions.data, matrix.data)
    assert np.shares_memory(mdp.to_dense().rows(), mdp.to_dense().transitions) is False


def test_sparse_forms_are_one():
    dense = MDP(ROWS.reshape(2, 2, 2), PAIR["rewards"], 0.5)
    per_action = [sp.csc_array(ROWS[a::2]) for a in range(2)]
    doubled = sp.coo_array((np.full(6, 0.5), ([0, 0, 1, 2, 3, 3], [0, 1, 0, 1, 0, 1])), shape=(4, 2))
    halves = sp.coo_array(
        (np.r_[doubled.data, ROWS[ROWS > 0] - 0.5], (np.tile(doubled.row, 2), np.tile(doubled.col, 2))), shape=(4, 2)
    )
    unsorted = sp.csr_array((ROWS[ROWS > 0][[1, 0, 2, 3, 5, 4]], [1, 0, 0, 1, 1, 0], [0, 2, 3, 4, 6]), shape=(4, 2))
    for transitions in (
        sp.csr_array(ROWS),
        per_action,
        halves,
        unsorted,
        sp.csr_matrix(ROWS),
        sp.csr_array(ROWS, dtype="f8"),
    ):
        mdp = MDP(transitions, PAIR["rewards"], 0.5)
        assert mdp.is_sparse and mdp.transitions.indices.dtype == np.int32
        assert mdp.transitions.has_sorted_indices
        np.testing.assert_array_equal(mdp.to_dense().transitions, dense.transitions)
    assert unsorted.indices[0] == 1  # the caller's matrix is as it was


@given(seed=st.integers(0, 2**32 - 1), states=st.integers(2, 8), actions=st.integers(1, 4))
def test_dense_and_sparse_agree(seed, states, actions):
    dense = random_mdp(seed, states, actions)
    sparse = dense.to_sparse()
    assert sparse.is_sparse and sparse.to_sparse() is sparse and dense.to_dense() is dense
    np.testing.assert_array_equal(sparse.rows().toarray(), dense.rows())
    np.testing.assert_array_equal(sparse.to_dense().transitions, dense.transitions)
    for name in ("rewards", "available", "terminal", "start"):
        np.testing.assert_array_equal(getattr(sparse, name), getattr(dense, name))
    for a in range(actions):
        np.testing.assert_array_equal(sparse.action_matrix(a).toarray(), dense.transitions[:, a])
    policy = np.random.default_rng(seed).dirichlet(np.ones(actions), size=states)
    (one, reward), (two, reward_too) = dense.under(policy), sparse.under(policy)
    np.testing.assert_allclose(two.toarray(), one, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(reward, reward_too)
    np.testing.assert_allclose(one, sum(policy[:, [a]] * dense.transitions[:, a] for a in range(actions)), atol=1e-15)
    np.testing.assert_array_equal(dense.reachable(), sparse.reachable())


@given(seed=st.integers(0, 2**32 - 1))
def test_rewards_per_transition_are_expectations(seed):
    mdp = random_mdp(seed, ends=0)
    per_transition = np.random.default_rng(seed).normal(size=mdp.transitions.shape)
    expected = (mdp.transitions * per_transition).sum(-1)
    flat = sp.csr_array(per_transition.reshape(-1, mdp.num_states))
    for transitions in (mdp.transitions, mdp.to_sparse().transitions):
        for rewards in (per_transition, flat):
            np.testing.assert_allclose(
                mdp.replace(transitions=transitions, rewards=rewards).rewards, expected, atol=1e-14
            )


@pytest.mark.parametrize("sparse", [False, True])
def test_absorb(sparse):
    mdp = random_mdp(3, ends=0)
    transitions, rewards = mdp.rows().copy().reshape(mdp.transitions.shape), mdp.rewards.copy()
    if sparse:
        transitions = sp.csr_array(transitions.reshape(-1, 6))
    before = transitions.copy()
    made, paid = absorb(transitions, rewards, [1, 4])
    assert (abs(transitions - before)).max() == 0 and np.array_equal(rewards, mdp.rewards)
    result = MDP(made, paid, 0.9, terminal=[1, 4]).to_dense()
    others = [0, 2, 3, 5]
    np.testing.assert_array_equal(result.transitions[others], mdp.transitions[others])
    np.testing.assert_array_equal(result.transitions[[1, 4]], np.eye(6)[[1, 4]][:, None].repeat(3, 1))
    np.testing.assert_array_equal(result.rewards[others], mdp.rewards[others])
    if sparse:
        assert (made.data != 0).all()
    with pytest.raises(ValueError, match="terminal: give a boolean mask"):
        absorb(transitions, rewards, [6])


@pytest.mark.parametrize("sparse", [False, True])
def test_reachable(sparse):
    # 0 -> 1 -> 2 (terminal, though its own row would not lead on), 3 -> 0; the only way from 1 to 3 is not available.
    transitions = np.zeros((4, 2, 4))
    for s, a, t in [(0, 0, 1), (0, 1, 1), (1, 0, 2), (1, 1, 3), (2, 0, 2), (2, 1, 2), (3, 0, 0), (3, 1, 0)]:
        transitions[s, a, t] = 1
    mdp = MDP(transitions, np.zeros((4, 2)), 0.9, start=0, terminal=[2], available=[[1, 1], [1, 0], [0, 0], [1, 1]])
    mdp = mdp.to_sparse() if sparse else mdp
    assert mdp.reachable().tolist() == [True, True, True, False]
    assert mdp.reachable([3]).all()
    assert mdp.reachable(np.array([False, False, True, False])).tolist() == [False, False, True, False]
    assert mdp.replace(available=None).reachable().all()
    with pytest.raises(ValueError, match="start: give a boolean mask"):
        mdp.reachable([9])


def test_replace_keeps_the_rest_and_validates():
    mdp = random_mdp(1)
    changed = mdp.replace(discount=0.25, name="other")
    assert (changed.discount, changed.name) == (0.25, "other")
    assert changed.transitions.base is not None and np.shares_memory(changed.transitions, mdp.transitions)
    np.testing.assert_array_equal(changed.available, mdp.available)
    with pytest.raises(ValueError, match="discount"):
        mdp.replace(discount=2)
    with pytest.raises(TypeError, match="colour"):
        mdp.replace(colour="red")


@pytest.mark.parametrize("sparse", [False, True])
def test_save_and_load(tmp_path, sparse):
    mdp = random_mdp(5).replace(state_names=[f"α{s}" for s in range(6)], action_names=("l", "r", "u"), name="rooms")
    mdp = mdp.to_sparse() if sparse else mdp
    mdp.save(tmp_path / "deep" / "mdp.npz")
    back = MDP.load(str(tmp_path / "deep" / "mdp.npz"))
    assert back.is_sparse == sparse
    np.testing.assert_array_equal(back.to_dense().transitions, mdp.to_dense().transitions)
    for name in ("rewards", "start", "available", "terminal"):
        np.testing.assert_array_equal(getattr(back, name), getattr(mdp, name), strict=True)
    for name in ("discount", "state_names", "action_names", "name"):
        assert getattr(back, name) == getattr(mdp, name)


def test_load_refuses_what_is_not_an_mdp(tmp_path):
    path = tmp_path / "mdp.npz"
    with pytest.raises(FileNotFoundError, match="path: no file"):
        MDP.load(path)
    random_mdp(5).save(path)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(
            ValueError, match=r"path: .*mdp\.npz is truncated or not a file of this project .*; write it again"
        ):
            MDP.load(path)
    np.savez(path, header=np.array('{"kind": "cake", "arrays": []}'))
    with pytest.raises(ValueError, match=r"path: .*mdp\.npz does not hold a MDP"):
        MDP.load(path)
    np.savez(path, a=np.arange(3))
    with pytest.raises(ValueError, match="not a file of this project"):
        MDP.load(path)


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "mdp.npz"
    random_mdp(1).save(path)
    old = path.read_bytes()

    def half(file, **_):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", half)
    with pytest.raises(OSError, match="disk full"):
        random_mdp(2).save(path)
    assert path.read_bytes() == old and [p.name for p in tmp_path.iterdir()] == ["mdp.npz"]
