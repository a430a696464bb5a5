"""What a world must offer so that `ra3sim.em.RA3` can run in it: tables, language models, or your own.

A *world* holds expert trajectories and knows two kinds of things about them. A **model** π says how probable the
expert's action a_t is in state s_t if the latent is z_t. A **policy over latents** q draws z_t before a_t is seen:
at every step it *acts* (keeps z_t = z_{t-1}) or *thinks* (draws a new one). In tables a latent is a number; in a
language model it is the last comment that was written. The loop never looks inside a model, a policy or a latent.

To add a world, subclass `World` and implement `init`, `rollouts` and `fit`; that is enough for the E-step
``posterior``. ``policy_gradient`` also needs `improve`, ``exact`` needs `exact`. All else has a default. Arrays may be
of NumPy, JAX or torch, as long as they are of one library. In the shapes, I is the number of trajectories of a batch, G
the size of the group (rollouts of the same trajectory), T the number of steps of the longest trajectory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import numpy as np

from ra3sim import _store

Model = TypeVar("Model")
Policy = TypeVar("Policy")
Evidence = TypeVar("Evidence")
Found = TypeVar("Found", covariant=True)  # evidence, where it only comes out


class Step(NamedTuple):
    """What one step of all rollouts gives; every array is ``(I, G)``. Where a trajectory has ended, anything.

    Attributes:
        think: boolean: a new latent was drawn (also for the first latent of a free start, which has none to keep).
        log_q: log q(z_t | ·), of the whole decision: whether to think, and what if so.
        log_prior: log p(z_t | s_t, z_{t-1}), or that of a first latent; for a `ThoughtPrice` its `temporal()` prior's.
        log_likelihood: log π(a_t | s_t, z_t) under the model, nats.
        length: number of tokens of a_t where rewards are means over tokens; None: they are not.
        bonus: added to the reward with a `ThoughtPrice` (a penalty for ill-formed thoughts, ...); None: nothing.
        kappa: the policy's own probability of thinking here, before any floor; None: `think` shows it well enough.
    """

    think: Any
    log_q: Any
    log_prior: Any
    log_likelihood: Any
    length: Any = None
    bonus: Any = None
    kappa: Any = None


class Rollouts(Protocol[Found]):
    """G rollouts of each of I trajectories: the expert's actions stay, latents are drawn step by step.

    Attributes:
        mask: boolean ``(I, T)``, True where the trajectory has a step; False only after its end.
    """

    mask: Any

    def step(self, t: int) -> Step:
        """Draw z_t in every rollout and score the expert's a_t; called once for t = 0, ..., T-1 in turn."""
        ...

    def select(self, ancestors: Any) -> None:
        """Replace rollout g of trajectory i, with its whole past, by rollout ``ancestors[i, g]`` of the same one."""
        ...

    def think_probability(self) -> Any:
        """The probability of thinking at the step that comes next, ``(I, G)``; only an E-step with ``lag`` asks."""
        raise ValueError(f"lag: {type(self).__name__} does not say how probable a thought is; use lag=0")

    def evidence(self, weights: Any) -> Found:
        """The latents that were drawn, weighted, for `World.fit`; ``weights (I, G)`` sum to 1 over the group."""
        ...


class World(Protocol[Model, Policy, Evidence]):
    """Expert trajectories, and how models of them are drawn from, scored and fitted.

    All randomness comes from the `numpy.random.SeedSequence` that a method is given, so that a run can be repeated and
    resumed. Models and policies are values: methods return new ones (or the same object, if the world says that the
    weights live there and `save` and `load` restore them).

    Attributes:
        prior: the cost of a new thought; its type decides the objective. `TemporalPrior`: the evidence lower bound.
            `ThoughtPrice`: likelihood minus the price of thoughts, without an entropy term.
    """

    prior: Any

    def init(self, seed: np.random.SeedSequence) -> tuple[Model, Policy]:
        """The model and the policy over latents to start from."""
        ...

    def batch(self, iteration: int, seed: np.random.SeedSequence) -> Any:
        """Which trajectories an iteration sees; handed to `rollouts` and `exact`. Default: None, for all of them."""
        return None

    def rollouts(
        self, model: Model, policy: Policy, batch: Any, group: int, seed: np.random.SeedSequence, floor: float = 0.0
    ) -> Rollouts[Evidence]:
        """Begin ``group`` rollouts of every trajectory of the batch.

        Args:
            floor: the probability of thinking is raised from κ to floor + (1 - floor) κ; ``log_q`` is that of what is
                raised.
        """
        ...

    def improve(self, policy: Policy, rollouts: Any, whether: Any, what: Any, rate: float) -> Policy:
        """One step of gradient ascent along Σ whether·∇log q(think or act) + what·∇log q(new thought | think).

        Divided by the size of the group, the sum over rollouts estimates the gradient of the bound, summed over
        trajectories; how a world scales it is its own choice. With a floor, q is the raised policy. The first latent of
        a free start has to be drawn: whether to think has no gradient there.

        Args:
            rollouts: what `rollouts` gave, run to their end.
            whether, what: advantages ``(I, G, T)``; `what` is 0 where the rollout did not think.
            rate: step size.
        """
        raise ValueError(f"estep: {type(self).__name__} has no policy gradient (`improve`); choose another E-step")

    def follow(self, policy: Policy, evidence: Evidence) -> Policy:
        """Fit the policy to weighted latents, so that it proposes better ones next time. Default: leave it as it is."""
        return policy

    def exact(self, model: Model, batch: Any) -> tuple[Evidence, dict[str, float]]:
        """The exact E-step, where there is one: expected evidence, and quantities for the record."""
        raise ValueError(f"estep: {type(self).__name__} has no exact E-step; choose 'posterior' or 'policy_gradient'")

    def fit(self, model: Model, evidence: Evidence) -> Model:
        """M-step: imitate the expert's actions with the latents filled in."""
        ...

    def measure(self, model: Model, policy: Policy) -> dict[str, float]:
        """Quantities for the record after each iteration (held-out likelihood, ...). Default: none."""
        return {}

    def describe(self) -> str:
        """One line that tells runs apart: a saved state is only loaded into a world of the same description."""
        return type(self).__name__

    def save(self, folder: Path, model: Model, policy: Policy) -> None:
        """Write model and policy into an empty folder. Default: both are dicts of NumPy arrays."""
        arrays: Any
        for kind, arrays in (("model", model), ("policy", policy)):
            _store.write_arrays(folder / f"{kind}.npz", kind, arrays, {})

    def load(self, folder: Path) -> tuple[Model, Policy]:
        """Read what `save` wrote."""
        model, policy = (_store.read_arrays(folder / f"{kind}.npz", kind)[0] for kind in ("model", "policy"))
        return cast(Model, model), cast(Policy, policy)
