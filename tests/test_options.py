"""Option sets: constructors, set algebra, node order, and what is refused."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import random_mdp, random_options

from ra3sim.mdp import MDP
from ra3sim.options import OptionSet, one_hot, option_numbers
from ra3sim.smdp import SMDP, expected_durations

# Two nodes over three states and two actions.
GOOD = {"policy": np.full((2, 3, 2), 0.5), "termination": np.ones((2, 3))}

ERRORS = [
    ({"policy": np.ones((2, 3))}, "policy: shape (2, 3) does not fit (N=any, S=any, A=any)"),
    ({"policy": np.full((2, 3, 2), 0.6)}, "policy[n=0, s=0] sums to 1.2, must sum to 1; divide it by its sum"),
    ({"policy": np.array([[[1.5, -0.5]] * 3] * 2)}, "policy[n=0, s=0, a=1] is negative; probabilities are >= 0"),
    ({"policy": np.full((2, 3, 2), np.nan)}, "policy[n=0, s=0, a=0] is NaN or infinite"),
    ({"policy": np.ones((0, 3, 2)), "termination": np.ones((0, 3))}, "policy: no options; an empty decision space"),
    ({"termination": np.ones((2, 2))}, "termination: shape (2, 2) does not fit (N=2, S=3)"),
    ({"termination": [[0, 0, 0], [0, 1.1, 0]]}, "termination[n=1, s=1] lies outside [0, 1]; it is a probability"),
    ({"termination": [[0, 0, 0], [0, 0, -0.1]]}, "termination[n=1, s=2] lies outside [0, 1]"),
    ({"initiation": np.ones((1, 3), bool)}, "initiation: shape (1, 3) does not fit (Z=2, S=3)"),
    ({"initiation": np.full((2, 3), 0.5)}, "initiation: must be boolean"),
    ({"initiation": [[1, 1, 1], [0, 0, 0]], "names": ["a", "b"]}, "initiation: option 'b' is available in no state"),
    ({"names": ["a"]}, "names: 1 names for 2 items"),
    ({"names": ["a", "a"]}, "names: 'a' stands twice; names must be unique"),
    ({"next_node": [0]}, "next_node: must be a vector of node numbers, got shape (1,)"),
    ({"next_node": [0.0, 1.0]}, "next_node: must be a vector of node numbers, got shape (2,), dtype float64"),
    ({"next_node": [0, 2]}, "next_node: node numbers run from 0 to 1"),
    ({"next_node": [1, 0]}, "next_node: node 0 is followed by itself through others; end the chain"),
    ({"start_node": [[0]]}, "start_node: must be a vector of node numbers, got shape (1, 1)"),
    ({"start_node": [-1]}, "start_node: node numbers run from 0 to 1"),
    ({"start_node": np.zeros(0, int)}, "start_node: no options; an empty decision space"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), ERRORS, ids=[e[1][:50] for e in ERRORS])
def test_errors_name_argument_place_and_remedy(change, message):
    assert len(OptionSet(**GOOD)) == 2
    with pytest.raises(ValueError) as error:
        OptionSet(**{**GOOD, **change})
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("circle", [[1, 2, 0, 3], [1, 2, 1, 0], [3, 0, 2, 1]])
def test_circles_of_nodes_are_found(circle):
    with pytest.raises(ValueError, match=r"next_node: node \d is followed by itself through others") as error:
        OptionSet(np.ones((4, 1, 1)), np.ones((4, 1)), next_node=circle)
    named = int(str(error.value).split("node ")[1].split()[0])
    seen = [circle[named]]
    while seen[-1] != named and len(seen) < 9:
        seen.append(circle[seen[-1]])
    assert seen[-1] == named and len(seen) > 1  # the node that is named does lie on the circle


def test_node_order_puts_every_node_before_its_follower():
    follow = np.array([0, 0, 1, 3, 2, 2, 6])
    options = OptionSet(np.ones((7, 1, 1)), np.ones((7, 1)), next_node=follow)
    order = options.node_order()
    assert sorted(order) == list(range(7))
    position = np.argsort(order)
    assert all(position[n] < position[follow[n]] for n in range(7) if follow[n] != n)
    assert not options.is_markov and OptionSet(**GOOD).is_markov


def test_arrays_are_read_only():
    options = OptionSet(**GOOD)
    for name in ("policy", "termination", "initiation", "next_node", "start_node"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(options, name)[...] = 0
    assert GOOD["policy"].flags.writeable
    assert repr(options) == "<OptionSet: Z=2, S=3, A=2: option 0, option 1>"


def test_primitives():
    mdp = random_mdp(0).replace(action_names=["l", "m", "r"])
    options = OptionSet.primitives(mdp)
    assert options.names == ("l", "m", "r") and options.is_markov
    assert (options.num_states, options.num_actions, len(options)) == (6, 3, 3)
    np.testing.assert_array_equal(options.initiation[:, ~mdp.terminal], mdp.available[~mdp.terminal].T)
    np.testing.assert_array_equal(expected_durations(mdp, options)[options.initiation & ~mdp.terminal], 1)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_macros_are_products_of_matrices(sparse, length):
    mdp = random_mdp(2, states=5, actions=2, ends=0, missing=False)
    options = OptionSet.macros(mdp, length)
    assert options.names == tuple("-".join(s) for s in product("01", repeat=length))
    assert len(options.next_node) == 2 ** (length + 1) - 2  # equal endings share their nodes
    model = SMDP.from_options(mdp.to_sparse() if sparse else mdp, options)
    for z, sequence in enumerate(product(range(2), repeat=length)):
        outcome, reward = np.eye(5), np.zeros(5)
        for action in sequence:
            reward += outcome @ mdp.rewards[:, action]
            outcome = mdp.discount * outcome @ mdp.transitions[:, action]
        made = model.option_matrix(z)
        np.testing.assert_allclose(made.toarray() if sparse else made, outcome, rtol=0, atol=1e-14)
        np.testing.assert_allclose(model.R[z], reward, rtol=0, atol=1e-14)
        np.testing.assert_allclose(model.expected_discount[z], mdp.discount**length, rtol=1e-13)
    np.testing.assert_allclose(expected_durations(mdp, options), length, rtol=1e-14)


def corridor(length: int = 4) -> MDP:
    """Left, stay and right; the last state is terminal, and in the first one there is no left."""
    transitions = np.zeros((length, 3, length))
    for s in range(length):
        for a, step in enumerate((-1, 0, 1)):
            transitions[s, a, min(max(s + step, 0), length - 1) if s < length - 1 else s] = 1
    available = np.ones((length, 3), bool)
    available[0, 0] = False
    rewards = np.where(np.arange(length) == length - 2, 1.0, 0.0)[:, None] * [0, 0, 1]
    return MDP(transitions, rewards, 0.9, available=available, terminal=[length - 1], action_names=["l", "s", "r"])


def test_macros_of_given_sequences_where_actions_are_missing():
    mdp = corridor()
    options = OptionSet.macros(mdp, [(0, 0), (2, 0, 2), (2,), (1, 0)])
    assert options.names == ("l-l", "r-l-r", "r", "s-l")
    # Two steps left need two states; r-l-r fits at 0 (0, 1, 0, 1), and ends at once from 2, where r leads to the end.
    assert options.initiation[:, :3].tolist() == [
        [False, False, True], [True, True, True], [True, True, True], [False, True, True],
    ]  # fmt: skip
    model = SMDP.from_options(mdp, options)
    durations = expected_durations(mdp, options)
    assert durations[1, :3].tolist() == [3, 3, 1]
    assert np.isnan(durations[0, 0]) and np.isnan(durations[:, 3]).all()
    np.testing.assert_allclose(model.P[1, :3], [[0, 0.729, 0, 0], [0, 0, 0.729, 0], [0, 0, 0, 0.9]])
    assert model.R[1].tolist() == [0, 0, 1, 0]
    assert not model.P[0, 0].any() and model.expected_discount[0, 0] == 0


def test_a_macro_may_not_lead_where_its_next_action_is_missing_with_any_chance():
    transitions = np.array([[[0.0, 1e-6, 1 - 1e-6], [1, 0, 0]], [[0, 1, 0]] * 2, [[0, 0, 1]] * 2])
    mdp = MDP(transitions, np.zeros((3, 2)), 0.9, available=[[1, 1], [1, 0], [1, 1]])
    assert OptionSet.macros(mdp, [(0, 1)]).initiation.tolist() == [[False, False, True]]
    assert OptionSet.macros(mdp.to_sparse(), [(0, 1)]).initiation.tolist() == [[False, False, True]]


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        (0, "sequences: a macro has at least one action, got length 0"),
        ([], "sequences: none given; an empty decision space leaves nothing to choose"),
        ([()], r"sequences: \(\) needs one or more actions from 0 to 2"),
        ([(0, 3)], r"sequences: \(0, 3\) needs one or more actions from 0 to 2"),
        ([(0, -1)], r"sequences: \(0, -1\) needs one or more actions from 0 to 2"),
        ([(1, 2), (1, 2)], "sequences: 's-r' stands twice"),
        ([(0, 0, 0, 0)], "sequences: 'l-l-l-l' can be played in no state; drop it"),
    ],
)
def test_macros_that_are_refused(sequences, message):
    with pytest.raises(ValueError, match=message):
        OptionSet.macros(corridor(), sequences)


@pytest.mark.parametrize("sparse", [False, True])
def test_point_options_go_to_their_landmark(sparse):
    mdp = corridor(6)
    mdp = mdp.to_sparse() if sparse else mdp
    options = OptionSet.point(mdp, [3, 0])
    assert options.names == ("go to 3", "go to 0")
    # Not at the landmark, and not in the terminal state.
    assert options.initiation.tolist() == [
        [True, True, True, False, True, False],
        [False, True, True, True, True, False],
    ]
    durations = expected_durations(mdp, options)
    assert durations[0, [0, 1, 2, 4]].tolist() == [3, 2, 1, 1]
    assert durations[1, [1, 2, 3, 4]].tolist() == [1, 2, 3, 4]
    model = SMDP.from_options(mdp, options | OptionSet.primitives(mdp))
    np.testing.assert_allclose(model.expected_discount[0, [0, 1, 2, 4]], 0.9 ** np.array([3, 2, 1, 1]))


@pytest.mark.parametrize(
    ("landmarks", "message"),
    [
        ([], "landmarks: none given"),
        ([6], "landmarks: there is no state 6; states are 0 to 5"),
        ([-1], "landmarks: there is no state -1; states are 0 to 5"),
        ([2, 2], "names: 'go to 2' stands twice"),
    ],
)
def test_landmarks_that_are_refused(landmarks, message):
    with pytest.raises(ValueError, match=message):
        OptionSet.point(corridor(6), landmarks)


def test_landmarks_out_of_reach():
    transitions = np.array([[[1.0, 0, 0]], [[0.5, 0, 0.5]], [[0, 0, 1.0]]])
    mdp = MDP(transitions, np.zeros((3, 1)), 0.9)
    with pytest.raises(ValueError, match="landmarks: state 1 cannot be reached for sure from any other state"):
        OptionSet.point(mdp, [1])
    # From 1 the end of the errand is 2 or, for ever, 0.
    with pytest.raises(ValueError, match="landmarks: state 2 cannot be reached for sure from any other state"):
        OptionSet.point(mdp, [2])
    # If 0 ends the episode, going there is an end as well.
    options = OptionSet.point(mdp.replace(terminal=[0]), [2])
    assert options.initiation.tolist() == [[False, True, False]]


def test_a_point_option_is_not_offered_where_only_another_end_can_be_reached():
    """1 may go to the landmark 2 or to the end 0; 3 can go to the end alone."""
    transitions = np.zeros((4, 2, 4))
    for s, a, t in [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 2), (2, 0, 2), (2, 1, 2), (3, 0, 0), (3, 1, 0)]:
        transitions[s, a, t] = 1
    options = OptionSet.point(MDP(transitions, np.zeros((4, 2)), 0.9, terminal=[0]), [2])
    assert options.initiation.tolist() == [[False, True, False, False]]
    assert options.policy[0, 1].tolist() == [0, 1]


def test_from_policy():
    option = OptionSet.from_policy(one_hot([1, 0, -1], 2), [0.0, 1.0, 1.0], [0, 2], "home")
    assert option.names == ("home",)
    assert option.initiation.tolist() == [[True, False, True]]
    assert option.policy.tolist() == [[[0, 1], [1, 0], [1, 0]]]
    everywhere = OptionSet.from_policy(one_hot([1, 0, -1], 2), [0.0, 1.0, 1.0])
    assert everywhere.initiation.all()
    with pytest.raises(ValueError, match=r"policy: shape \(3,\) does not fit"):
        OptionSet.from_policy([1, 0, 0], [0, 1, 1])
    with pytest.raises(ValueError, match=r"termination: shape \(2,\) does not fit \(S=3\)"):
        OptionSet.from_policy(one_hot([1, 0, 0], 2), [0, 1])
    with pytest.raises(ValueError, match="initiation: give a boolean mask"):
        OptionSet.from_policy(one_hot([1, 0, 0], 2), [0, 1, 1], [5])


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_union_and_subset_keep_every_option_what_it_is(seed):
    mdp = random_mdp(seed, missing=False)
    markov, macros, primitives = random_options(seed, mdp), OptionSet.macros(mdp, 2), OptionSet.primitives(mdp)
    union = markov | macros | primitives
    assert union.names == markov.names + macros.names + primitives.names
    assert union.names == markov.union(macros, primitives).names
    whole = SMDP.from_options(mdp, union)
    parts = [SMDP.from_options(mdp, part) for part in (markov, macros, primitives)]
    np.testing.assert_array_equal(whole.P, np.concatenate([part.P for part in parts]))
    np.testing.assert_array_equal(whole.R, np.concatenate([part.R for part in parts]))

    chosen = np.random.default_rng(seed).permutation(len(union))[:5]
    chosen[0] = 0 if 0 not in chosen else chosen[0]  # option 0 is available everywhere
    subset = union.subset(list(chosen))
    assert subset.names == tuple(union.names[z] for z in chosen)
    assert subset.names == union.subset(list(subset.names)).names
    assert len(subset.next_node) <= 2 * len(chosen)  # nodes that nobody uses are gone
    if 0 in chosen:
        np.testing.assert_array_equal(SMDP.from_options(mdp, subset).P, whole.P[chosen])


def test_union_refuses_other_spaces_and_equal_names():
    with pytest.raises(ValueError, match=r"others: options over \(S, A\) = \(2, 2\), these are over \(3, 2\)"):
        OptionSet(**GOOD) | OptionSet(np.full((1, 2, 2), 0.5), np.ones((1, 2)))
    with pytest.raises(ValueError, match="names: 'option 0' stands twice"):
        OptionSet(**GOOD) | OptionSet(**GOOD)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "options: none chosen; an empty decision space"),
        (["a", 0], "options: 'a' stands twice"),
        ([2], "options: there is no option 2; numbers run from 0 to 1"),
        ([-1], "options: there is no option -1"),
        (["c"], "options: there is no option 'c'; known are a, b$"),
    ],
)
def test_choices_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        option_numbers(options, ("a", "b"))


def test_a_single_choice_needs_no_list():
    assert option_numbers("b", ("a", "b")).tolist() == option_numbers(1, ("a", "b")).tolist() == [1]
    assert option_numbers(np.int64(1), ("a", "b")).tolist() == [1]
    many = tuple(f"n{i}" for i in range(20))
    with pytest.raises(ValueError, match=r"known are n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, \.\.\.$"):
        option_numbers("x", many)


@pytest.mark.parametrize("sparse", [False, True])
def test_an_option_that_may_never_end_is_refused_by_name(sparse):
    mdp = corridor(6)
    mdp = mdp.to_sparse() if sparse else mdp
    right, stay = one_hot(np.full(6, 2), 3), one_hot(np.full(6, 1), 3)
    good = OptionSet.from_policy(right, np.zeros(6), name="right")  # the end of the episode ends it
    assert expected_durations(mdp, good)[0, :5].tolist() == [5, 4, 3, 2, 1]
    half = stay.copy()
    half[:3] = right[:3]
    bad = OptionSet.from_policy(half, np.zeros(6), name="dawdle")
    message = "options: 'dawdle' may never end: from s=0 it reaches no state where it terminates; raise its termination"
    for use in (SMDP.from_options, expected_durations):
        with pytest.raises(ValueError, match=message):
            use(mdp, good | bad)
    # Narrowed to states from which it ends, it is an option like any other.
    narrow = OptionSet.from_policy(half, [0, 0, 0, 0, 0, 0], [4], "dawdle")
    with pytest.raises(ValueError, match="'dawdle' may never end: from s=4"):
        SMDP.from_options(mdp, good | narrow)
    fine = OptionSet.from_policy(half, [0, 0, 0, 1.0, 0, 0], [0, 1, 2], "dawdle")
    assert expected_durations(mdp, fine)[0, :3].tolist() == [3, 2, 1]


def test_the_fault_of_a_later_node_is_told_with_the_name_of_its_option():
    """Node 1 goes right until the end. Node 2 takes one step, then node 0 stays for ever or goes left."""
    mdp = corridor(6)
    right = one_hot(np.full(6, 2), 3)
    for action, message in [
        (1, "'two' may never end: from s=4"),
        (0, "'two' uses an action that is not available: s=0, a=0"),
    ]:
        later = one_hot(np.full(6, action), 3)
        options = OptionSet(
            np.array([later, right, right]),
            np.array([np.full(6, 0.5 * (action == 0)), np.zeros(6), np.zeros(6)]),
            initiation=np.array([np.arange(6) < 6, np.arange(6) == 3]),
            names=["one", "two"],
            next_node=[0, 1, 0],
            start_node=[1, 2],
        )
        for use in (SMDP.from_options, expected_durations):
            with pytest.raises(ValueError, match=f"options: {message}"):
                use(mdp, options.subset(["two", "one"]))


def test_an_option_that_uses_a_missing_action_is_refused_by_name():
    mdp = corridor(4)
    left = OptionSet.from_policy(one_hot([0, 0, 0, 0], 3), [0.5, 0.5, 0.0, 0.0], name="left")
    message = (
        r"options: 'left' uses an action that is not available: s=0, a=0; give that action probability 0 or narrow"
    )
    with pytest.raises(ValueError, match=message):
        SMDP.from_options(mdp, left)
    # It starts in 2 only, but may go on from 1 into 0.
    with pytest.raises(ValueError, match=message):
        expected_durations(mdp, OptionSet.from_policy(left.policy[0], left.termination[0], [2], "left"))
    fine = OptionSet.from_policy(left.policy[0], [1.0, 0.5, 0.0, 0.0], [2], "left")
    assert expected_durations(mdp, fine)[0, 2] == pytest.approx(1.5)
