"""What is lost, split into its terms (Zhang et al. 2025, section 3), and what options that are kept can lose at most.

For a policy π over the kept options Z' ⊆ Z, exactly:

    V*_A − V^π  =  [V*_A − V*_Z]  +  [V*_Z − V*_Z']  +  [V*_Z' − V^π]
                   expressivity gap   pruning error Δ     RL error

Instances are Markov options over an MDP (`theory.instances.random_options`), with masks ``(Z,)`` of decision spaces:
``whole`` (Z), ``larger`` (Z'') and ``kept`` (Z'), and ``mixture`` ``(S, Z)``, the policy over options. V^π on the left
is that of the Markov chain over (running option, state), which knows nothing of multi-time models. What both halves of
the theory say together is in `theory.total_regret`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ra3sim.envs import chain, fourrooms, from_gymnasium, hallway_options
from ra3sim.mdp import MDP
from ra3sim.options import OptionSet
from theory.arithmetic import FLOAT, OPTION_KEYS, Arithmetic, optimal_values
from theory.bound import Assumption, Draw, Instance, Overstated, Statement, Without
from theory.instances import MODEL, OPTIONS, STATES, model, random_options


def primitive_model(xp: Arithmetic, instance: Instance) -> tuple[Any, Any]:
    """R ``(A, S)`` and P ``(A, S, S)`` of the primitive actions."""
    return instance["rewards"].T, instance["discount"] * instance["transitions"].swapaxes(0, 1)


def best_values(xp: Arithmetic, instance: Instance, space: np.ndarray | None = None) -> Any:
    """V* ``(S,)`` over the options in a mask ``(Z,)``; None: over the primitive actions."""
    if space is None:
        return optimal_values(xp, *primitive_model(xp, instance))
    R, P, available = model(xp, instance)
    return optimal_values(xp, R[space], P[space], available[space])


def flat_values(xp: Arithmetic, instance: Instance) -> Any:
    """V^π ``(S,)`` from primitives alone: one step of the chain over (running option, state) is one primitive step."""
    transitions, rewards, discount, policy, termination = (instance[key] for key in OPTION_KEYS)
    choice = instance["mixture"].T
    step = (policy[:, :, None, :] @ transitions)[:, :, 0]  # (Z, S, S')
    goes_on, ends = step * (1 - termination)[:, None], step * termination[:, None]
    same = xp.eye(len(choice))[:, None, :, None]
    chain = (same * goes_on[:, :, None] + ends[:, :, None] * choice).reshape(choice.size, choice.size)
    reward = (policy * rewards).sum(-1).reshape(choice.size, 1)
    return (choice * xp.solve(xp.eye(choice.size) - discount * chain, reward).reshape(choice.shape)).sum(0)


def model_values(xp: Arithmetic, instance: Instance) -> Any:
    """V^π ``(S,)`` from the multi-time models of the options."""
    R, P, _ = model(xp, instance)
    choice = instance["mixture"].T
    reward, step = (choice * R).sum(0), (choice[..., None] * P).sum(0)
    return xp.solve(xp.eye(len(reward)) - step, reward[:, None])[:, 0]


def terms(xp: Arithmetic, instance: Instance) -> tuple[Any, Any, Any]:
    """Expressivity gap, pruning error and RL error, each ``(S,)``, by the models of the options.

    >>> [part.round(3).tolist() for part in terms(FLOAT, corridor(FLOAT))]
    [[0.099, 0.0], [0.719, 0.0], [5.114, 5.568]]
    """
    primitive, whole, kept = (best_values(xp, instance, space) for space in (None, instance["whole"], instance["kept"]))
    return primitive - whole, whole - kept, kept - model_values(xp, instance)


# ---- Assumptions -----------------------------------------------------------------------------------------------------


def _same(xp: Arithmetic, one: Any, other: Any) -> bool:
    tolerance = 0 if xp.name == "exact" else 1e-9
    return bool((abs(one - other) <= tolerance * (1 + abs(other))).all())


def _is_exact_model(xp: Arithmetic, instance: Instance) -> bool:
    if "R" not in instance:
        return True
    return all(_same(xp, instance[key], right) for key, right in zip("RP", xp.option_model(instance), strict=True))


def _chooses_kept(xp: Arithmetic, instance: Instance) -> bool:
    mixture = instance["mixture"]
    sums = _same(xp, mixture.sum(-1), xp.array([1] * len(mixture)))
    return bool(sums and (mixture >= 0).all() and (mixture[:, ~instance["kept"]] == 0).all())


def _has_primitives(xp: Arithmetic, instance: Instance) -> bool:
    once = np.array([bool((ends == 1).all()) for ends in instance["termination"]]) & instance["whole"]
    actions = xp.eye(instance["rewards"].shape[1])
    return all(any((one == action).all() for one in instance["policy"][once]) for action in actions)


EXACT_MODEL = Assumption(
    "exact model",
    "if R and P are given, they are the options' multi-time models, with γ^τ inside",
    _is_exact_model,
)
POLICY_KEPT = Assumption("π over Z'", "the policy is a distribution over the options that were kept", _chooses_kept)
PRIMITIVES = Assumption("A ⊆ Z", "every primitive action is one of the options", _has_primitives)


def _nested(small: str, large: str, name: str) -> Assumption:
    return Assumption(name, f"{small} is part of {large}", lambda xp, i: bool((i[large] | ~i[small]).all()))


KEPT_IN_WHOLE = _nested("kept", "whole", "Z' ⊆ Z")
KEPT_IN_LARGER = _nested("kept", "larger", "Z' ⊆ Z''")

# ---- Instances -------------------------------------------------------------------------------------------------------

_ALL, _TWO, _ONE = (np.arange(OPTIONS) < count for count in (3, 2, 1))


def corridor(xp: Arithmetic) -> dict[str, Any]:
    """Two cells; staying in the right one pays 1. Options: stay once, move or stay by a coin, run to the right.

    Runs go wrong now and then, so that the options lose something; the run is pruned; π takes what is left by a coin.
    """
    half, often = xp.number(1, 2), xp.number(9, 10)
    stay, flip = [1, 0], [half, half]
    run = [[1 - often, often], [1, 0]]
    return {
        "transitions": xp.array([[[1, 0], [0, 1]], [[0, 1], [1, 0]]]),
        "rewards": xp.array([[0, 0], [1, 0]]),
        "discount": often,
        "policy": xp.array([[stay, stay], [flip, flip], run]),
        "termination": xp.array([[1, 1], [1, 1], [half, 1]]),
        "mixture": xp.array([[half, half, 0], [half, half, 0]]),
        "whole": _ALL,
        "larger": _ALL,
        "kept": _TWO,
    }


def _spaces(draw: Draw) -> dict[str, Any]:
    """Random options; the last is pruned, and the policy is over the first two."""
    choice = draw.distribution(STATES, 2)
    mixture = draw.xp.stack([choice[:, 0], choice[:, 1], 0 * choice[:, 0]], 1)
    return random_options(draw) | {"mixture": mixture, "whole": _ALL, "larger": _TWO, "kept": _TWO}


def _chain_of_spaces(draw: Draw) -> dict[str, Any]:
    return random_options(draw) | {"whole": _ALL, "larger": _TWO, "kept": _ONE}


def _with_primitives(draw: Draw) -> dict[str, Any]:
    return add_primitives(draw.xp, random_options(draw, options=2))


def add_primitives(xp: Arithmetic, instance: Instance) -> dict[str, Any]:
    """The instance with the primitive actions as further options, the last ones."""
    states, actions = instance["rewards"].shape
    policy, termination = instance["policy"], instance["termination"]
    single = [xp.stack([xp.eye(actions)[a]] * states) for a in range(actions)]
    once = [xp.eye(1)[0, 0] + 0 * termination[0]] * actions
    every = np.ones(len(policy) + actions, bool)
    return {
        **instance,
        "policy": xp.stack([*(policy[z] for z in range(len(policy))), *single]),
        "termination": xp.stack([*(termination[z] for z in range(len(policy))), *once]),
        "whole": every,
    }


def _all_but_last(instance: Instance) -> np.ndarray:
    return np.arange(len(instance["policy"])) < len(instance["policy"]) - 1


def _one_step_too_few(xp: Arithmetic) -> dict[str, Any]:
    """One state that pays 1; an option of E[τ] = 2 whose model is discounted as if it took one step."""
    half = xp.number(1, 2)
    long = {
        "transitions": xp.array([[[1]]]),
        "rewards": xp.array([[1]]),
        "discount": half,
        "policy": xp.array([[[1]]]),
        "termination": xp.array([[half]]),
        "mixture": xp.array([[1]]),
        "whole": np.ones(1, bool),
        "kept": np.ones(1, bool),
    }
    return long | {"R": xp.option_model(long)[0], "P": xp.array([[[half]]])}


def real_options() -> Iterator[tuple[str, dict[str, Any]]]:
    """Options of environments, startable in every state; the second half of them is pruned, the rest used evenly."""
    rooms = fourrooms((6, 8), 0.95)
    yield "FourRooms, hallway options", of_options(rooms, hallway_options(rooms))
    lake = from_gymnasium("FrozenLake-v1", 0.95, map_name="8x8")
    yield "FrozenLake, ways to landmarks", of_options(lake, OptionSet.point(lake, [7, 20, 34, 63]))
    line = chain(20, 0.95, slip=0.2, start=0)
    yield "chain, ways to landmarks", of_options(line, OptionSet.point(line, [0, 6, 12, 18]))


def of_options(mdp: MDP, options: OptionSet) -> dict[str, Any]:
    """The instance (in floats) of Markov options over an MDP that has every action in every state."""
    count = len(options)
    kept = np.arange(count) < (count + 1) // 2
    # Terminal states are states like others here, that pay nothing and keep; so options must end there.
    return {
        "transitions": mdp.to_dense().transitions,
        "rewards": mdp.rewards,
        "discount": mdp.discount,
        "policy": options.policy,
        "termination": np.where(mdp.terminal, 1.0, options.termination),
        "mixture": np.tile(kept / kept.sum(), (mdp.num_states, 1)),
        "whole": np.ones(count, bool),
        "larger": np.arange(count) < count - 1,
        "kept": kept,
    }


# ---- Statements ------------------------------------------------------------------------------------------------------


def _regret(xp: Arithmetic, instance: Instance) -> Any:
    return best_values(xp, instance) - flat_values(xp, instance)


def _pruning(xp: Arithmetic, instance: Instance, space: str = "kept") -> Any:
    return best_values(xp, instance, instance["whole"]) - best_values(xp, instance, instance[space])


def _of_another_discount(xp: Arithmetic) -> dict[str, Any]:
    one = corridor(xp)
    R, P = xp.option_model(one | {"discount": xp.number(1, 2)})
    return one | {"R": R, "P": P}


def _of_best_policy(xp: Arithmetic) -> dict[str, Any]:
    """The corridor with the best policy over what is kept: flip the coin on the left, stay on the right."""
    return corridor(xp) | {"mixture": xp.array([[0, 1, 0], [1, 0, 0]])}


DECOMPOSITION = Statement(
    name="regret-decomposition",
    number="1.1",
    claim="V*_A − V^π = [V*_A − V*_Z] + [V*_Z − V*_Z'] + [V*_Z' − V^π], V^π on the left by primitive steps alone.",
    source="paper, lemma of section 3; Sutton, Precup & Singh 1999",
    assumptions=(MODEL, KEPT_IN_WHOLE, POLICY_KEPT, EXACT_MODEL),
    family=_spaces,
    measured_side=_regret,
    bound_side=lambda xp, i: sum(terms(xp, i)),
    tight=lambda xp: [corridor(xp), _of_best_policy(xp)],
    overstated=Overstated("the pruning error is left out", lambda xp, i: sum(terms(xp, i)[::2])),
    without=Without("exact model", _of_another_discount),
    equality=True,
    real=real_options,
)

EXPRESSIVITY = Statement(
    name="expressivity-gap",
    number="1.2",
    claim="V*_Z ≤ V*_A in every state.",
    source="paper, section 3; Sutton, Precup & Singh 1999",
    assumptions=(MODEL, EXACT_MODEL),
    family=lambda draw: random_options(draw) | {"whole": _ALL},
    measured_side=lambda xp, i: best_values(xp, i, i["whole"]),
    bound_side=best_values,
    tight=lambda xp: [add_primitives(xp, corridor(xp))],
    overstated=Overstated(
        "V*_Z is at most the value of the best action that is repeated for ever", lambda xp, i: _best_repeated(xp, i)
    ),
    without=Without("exact model", _one_step_too_few),
    real=real_options,
)


def _best_repeated(xp: Arithmetic, instance: Instance) -> Any:
    R, P = primitive_model(xp, instance)
    return xp.max(xp.solve(xp.eye(R.shape[1]) - P, R[..., None])[..., 0], 0)


PRIMITIVES_KEPT = Statement(
    name="primitives-kept",
    number="1.3",
    claim="If Z contains the primitive actions, V*_Z = V*_A.",
    source="paper, section 3",
    assumptions=(MODEL, EXACT_MODEL, PRIMITIVES),
    family=_with_primitives,
    measured_side=lambda xp, i: best_values(xp, i, i["whole"]),
    bound_side=best_values,
    tight=lambda xp: [add_primitives(xp, corridor(xp))],
    overstated=Overstated(
        "all primitive actions but one are enough", measured=lambda xp, i: best_values(xp, i, _all_but_last(i))
    ),
    without=Without("A ⊆ Z", lambda xp: {**(i := add_primitives(xp, corridor(xp))), "whole": _all_but_last(i)}),
    equality=True,
    real=lambda: [(name, add_primitives(FLOAT, one)) for name, one in real_options()],
)


PRUNING = Statement(
    name="pruning-error",
    number="1.4",
    claim="V*_Z' ≤ V*_Z in every state: Δ ≥ 0.",
    source="paper, section 3",
    assumptions=(MODEL, KEPT_IN_WHOLE),
    family=_spaces,
    measured_side=lambda xp, i: best_values(xp, i, i["kept"]),
    bound_side=lambda xp, i: best_values(xp, i, i["whole"]),
    tight=lambda xp: [corridor(xp)],
    overstated=Overstated(
        "what is kept is worth no more than what is pruned", lambda xp, i: best_values(xp, i, i["whole"] & ~i["kept"])
    ),
    without=Without("Z' ⊆ Z", lambda xp: corridor(xp) | {"whole": _ONE}),
    real=real_options,
)

MONOTONE = Statement(
    name="monotone-pruning",
    number="1.5",
    claim="Z' ⊆ Z'' ⇒ Δ(Z'') ≤ Δ(Z') in every state.",
    source="paper, section 3",
    assumptions=(MODEL, KEPT_IN_LARGER),
    family=_chain_of_spaces,
    measured_side=lambda xp, i: _pruning(xp, i, "larger"),
    bound_side=_pruning,
    tight=lambda xp: [corridor(xp) | {"larger": _TWO}],
    overstated=Overstated("one more option halves it", lambda xp, i: _pruning(xp, i) / 2),
    without=Without("Z' ⊆ Z''", lambda xp: corridor(xp) | {"larger": _ONE}),
    real=real_options,
)

FLOOR = Statement(
    name="regret-floor",
    number="1.6",
    claim="No policy over Z' has less regret than expressivity gap and pruning error together.",
    source="this project",
    assumptions=(MODEL, EXACT_MODEL, KEPT_IN_WHOLE, POLICY_KEPT),
    family=_spaces,
    measured_side=lambda xp, i: best_values(xp, i) - best_values(xp, i, i["kept"]),
    bound_side=_regret,
    tight=lambda xp: [_of_best_policy(xp)],
    overstated=Overstated(
        "the pruning error counts twice", measured=lambda xp, i: sum((parts := terms(xp, i))[:2]) + parts[1]
    ),
    without=Without("π over Z'", lambda xp: corridor(xp) | {"mixture": xp.array([[0, 0, 1], [1, 0, 0]])}),
    real=real_options,
)

STATEMENTS = (DECOMPOSITION, EXPRESSIVITY, PRIMITIVES_KEPT, PRUNING, MONOTONE, FLOOR)
