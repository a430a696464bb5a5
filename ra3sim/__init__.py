"""Tables of the theory of action abstractions: MDPs, options, their exact models, planning and simulation.

The environments are in `ra3sim.envs`; importing that registers them with Gymnasium. Names are imported when they are
first used, so that a language model can be trained (`ra3sim.em`) where Gymnasium and Numba are not installed.
"""

import importlib
import typing

if typing.TYPE_CHECKING:
    from ra3sim.mdp import MDP, absorb
    from ra3sim.options import OptionSet, one_hot
    from ra3sim.planning import (
        NotConvergedWarning,
        Plan,
        SMDPBatch,
        evaluate_policy,
        solve_batch,
    )
    from ra3sim.planning.solve import solve
    from ra3sim.planning.value_iteration import value_iteration
    from ra3sim.simulate import OptionEnv, TabularEnv, rollout_model
    from ra3sim.smdp import SMDP, expected_durations

__all__ = [
    "MDP",
    "SMDP",
    "NotConvergedWarning",
    "OptionEnv",
    "OptionSet",
    "Plan",
    "SMDPBatch",
    "TabularEnv",
    "absorb",
    "evaluate_policy",
    "expected_durations",
    "one_hot",
    "rollout_model",
    "solve",
    "solve_batch",
    "value_iteration",
]

_ROOMS = {"mdp": "MDP absorb", "options": "OptionSet one_hot", "simulate": "OptionEnv TabularEnv rollout_model"}
_ROOMS |= {"smdp": "SMDP expected_durations"}
_HOME = {name: room for room, names in _ROOMS.items() for name in names.split()}


def __getattr__(name: str) -> typing.Any:
    if name not in __all__:
        raise AttributeError(f"module 'ra3sim' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"ra3sim.{_HOME.get(name, 'planning')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
