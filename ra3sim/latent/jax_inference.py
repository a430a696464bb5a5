"""The forward-backward recursion in JAX: for gradients, and for accelerators. Import it by name; it needs `jax`.

In log space throughout, so that nothing is lost however far one latent falls behind. The logarithm of 0 is a large
finite number here: an infinite one would make 0 · ∞ = NaN out of gradients that are 0.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ra3sim.latent import inference
from ra3sim.latent.inference import Expectation
from ra3sim.latent.model import LatentModel, OptionPrior, Statistics
from ra3sim.latent.trajectories import Trajectories

LOG_ZERO = -1e30


class Padded(NamedTuple):
    """Trajectories as rectangular arrays, ``(M, T)``: states, actions, and where there is a decision."""

    states: Any
    actions: Any
    mask: Any


class Tables(NamedTuple):
    """A model in logarithms: ``policy (Z, S, A)``; ``keep``, ``end``, ``choice`` ``(Z, S)``."""

    policy: Any
    keep: Any
    end: Any
    choice: Any


def pad(trajectories: Trajectories, length: int | None = None) -> Padded:
    """NumPy arrays with a row for each trajectory, filled up with state 0 and action 0 where ``mask`` is False.

    Args:
        length: T; None: of the longest. One T for several sets of trajectories saves compilations.

    Raises:
        ValueError: a trajectory is longer.

    >>> pad(Trajectories.from_pairs([([0, 1], [1, 0]), ([2], [1])], num_states=3, num_actions=2)).mask
    array([[ True,  True],
           [ True, False]])
    """
    lengths = trajectories.lengths
    length = int(lengths.max()) if length is None else length
    if length < lengths.max():
        raise ValueError(f"length: must be at least {lengths.max()}, that of the longest trajectory, got {length}")
    mask = np.arange(length) < lengths[:, None]
    states, actions = np.zeros((2, *mask.shape), np.int32)
    states[mask], actions[mask] = trajectories.states, trajectories.actions
    return Padded(states, actions, mask)


def log_likelihood(log_policy: Any, termination: Any, choice: Any, start: Any, padded: Padded) -> Any:
    """log p(a|s) of each trajectory, ``(M,)``, latents summed out; -inf where the model cannot explain it.

    Pure, for `jax.jit` and `jax.grad`, in the precision of the arguments. Its gradient in ``log_policy`` is the
    expected count of every (z, s, a). Under `jax.jit`, make ``padded`` an argument: with constants it compiles slowly.

    Args:
        log_policy: ``(Z, S, A)``, log π(a|s,z), -inf included.
        termination, choice: ``(Z, S)``, probabilities, as in `OptionPrior`.
        start: the latent before the first step; None or -1: the first one is drawn from ``choice``.
        padded: from `pad`.

    What is impossible has gradient 0: a ``log_policy`` of -inf, a ``choice`` of 0, ending where ``termination`` is 0,
    going on where it is 1, and everything in a trajectory whose likelihood is 0.

    >>> model = LatentModel.random(2, 3, 2, OptionPrior([[0.5] * 3] * 2, [[0.5] * 3] * 2), seed=0)
    >>> two = Trajectories.from_pairs([([0, 1], [1, 0]), ([2], [1])], num_states=3, num_actions=2)
    >>> ours = log_likelihood(np.log(model.policy), model.prior.termination, model.prior.choice, None, pad(two))
    >>> bool(np.allclose(ours, inference.log_likelihood(model, two), rtol=1e-5))
    True
    """
    start = -1 if start is None else start
    log_policy, termination, choice = map(jnp.asarray, (log_policy, termination, choice))
    tables = Tables(jnp.maximum(log_policy, LOG_ZERO), _log(1 - termination), _log(termination), _log(choice))
    return _log_likelihood(tables, jnp.zeros(len(padded.states), log_policy.dtype), start, padded)


def expect(model: LatentModel, trajectories: Trajectories, *, block: int = 128) -> Expectation:
    """As `ra3sim.latent.expect`, without posteriors: the counts are gradients of the log-likelihood.

    ∇ log p(a) = E[∇ log p(a, z) | a] (Fisher's identity; Baum et al. 1970), and log p(a, z) is the sum over (z, s, a)
    of count · log π(a|s,z), and the same for the prior's three events (kept, ended, chosen). So the gradient in each
    logarithm is the expected count. Always in float64. Compiled once for every shape, with a learnt prior or without.

    Args:
        block: trajectories at once. A few stay in the cache of a CPU; an accelerator wants all that fit its memory.

    Raises:
        ValueError: as `ra3sim.latent.expect`; a block of less than one.
    """
    if block < 1:
        raise ValueError(f"block: must be at least 1, got {block}")
    emission, ends, choice, start = inference._tables(model, trajectories)
    learn_prior = isinstance(model.prior, OptionPrior)
    with np.errstate(divide="ignore"):
        logs = [np.log(emission.transpose(2, 0, 1)), np.log1p(-ends).T, np.log(ends).T, np.log(choice).T]
    tables = Tables(*(np.maximum(table, LOG_ZERO) for table in logs))
    learnt, fixed = ({**tables._asdict()}, {}) if learn_prior else ({"policy": tables.policy}, tables._asdict())
    fixed.pop("policy", None)
    # Rows without a decision fill up the last block.
    count = len(trajectories)
    block = min(block, count)
    blocks = Padded(
        *(np.pad(a, ((0, -count % block), (0, 0))).reshape(-1, block, a.shape[1]) for a in pad(trajectories))
    )
    # For this call alone: the caller's precision stays what it is.
    with jax.enable_x64(True):
        found = _expect(learnt, fixed, start, blocks)
    counts, switches, value = jax.tree.map(np.asarray, found)
    switches, value = switches.ravel()[:count], value.ravel()[:count]
    if np.isneginf(value).any():
        # It says which trajectory and step.
        inference.expect(model, trajectories)
        raise AssertionError("a likelihood of 0 that the scaled recursion does not find")
    rest = {}
    if learn_prior:
        rest = dict(arrived=counts["keep"] + counts["end"], ended=counts["end"], chosen=counts["choice"])
    return Expectation(Statistics(counts["policy"], **rest), value, switches, None)


@jax.jit
def _expect(learnt: Any, fixed: Any, start: Any, blocks: Padded) -> tuple[Any, Any, Any]:
    def total(learnt, tilt, padded):
        values = _log_likelihood(Tables(**learnt, **fixed), tilt, start, padded)
        return jnp.where(padded.mask[:, 0], values, 0).sum(), values

    def add(counts, padded):
        tilt = jnp.zeros(len(padded.mask), learnt["policy"].dtype)
        (more, switches), values = jax.grad(total, (0, 1), has_aux=True)(learnt, tilt, padded)
        return jax.tree.map(jnp.add, counts, more), (switches, values)

    counts, (switches, values) = lax.scan(add, jax.tree.map(jnp.zeros_like, learnt), blocks)
    return counts, switches, values


def _log_likelihood(tables: Tables, tilt: Any, start: Any, padded: Padded) -> Any:
    """``tilt`` ``(M,)`` is 0; the gradient in it is the expected number of switches."""
    # Latents last, and read before the loop: the gradient of the whole table is then made once and not at every step.
    emission = jnp.moveaxis(tables.policy, 0, -1)[padded.states, padded.actions]
    prior = tuple(table.T for table in tables[1:])
    return jax.vmap(_one, (0, None, 0, None, 0, 0))(emission, prior, tilt, start, padded.states, padded.mask)


def _one(emission: Any, prior: Any, tilt: Any, start: Any, states: Any, mask: Any) -> Any:
    keep, end, choice = prior

    def arrive(log_weights, s):
        """Of the latent at the next step."""
        leaving = log_weights + end[s]
        high = lax.stop_gradient(leaving.max())
        share = jnp.exp(leaving - high)
        total = share.sum()
        # Of what is drawn at a step, the part that came from another latent does not depend on the future.
        other = lax.stop_gradient(1 - share / total)
        return _log_add(log_weights + keep[s], high + jnp.log(total) + choice[s] + tilt * other)

    def step(carry, here):
        log_weights, value = carry
        emission, s, real, free = here
        prior = jnp.where(free, choice[s], arrive(log_weights, s))
        new, value_new = _level(prior + emission, value)
        return (jnp.where(real, new, log_weights), jnp.where(real, value_new, value)), None

    before = jnp.where(jnp.arange(emission.shape[-1]) == start, 0, LOG_ZERO).astype(emission.dtype)
    free = (jnp.arange(len(states)) == 0) & (start < 0)
    (log_weights, value), _ = lax.scan(step, (before, jnp.zeros_like(tilt)), (emission, states, mask, free))
    value = value + jnp.log(jnp.exp(log_weights).sum())
    return jnp.where(value > LOG_ZERO / 2, value, -jnp.inf)


def _level(log_weights: Any, value: Any) -> tuple[Any, Any]:
    """Log-weights with maximum 0, which keeps their digits, and the value with what was taken off."""
    log_weights = jnp.where(log_weights > LOG_ZERO / 2, log_weights, LOG_ZERO)
    high = lax.stop_gradient(log_weights.max())
    return log_weights - high, value + high


def _log_add(x: Any, y: Any) -> Any:
    # `jnp.logaddexp` minds infinities and small results, of which there are none here, and takes twice as long.
    return jnp.maximum(x, y) + jnp.log(1 + jnp.exp(-jnp.abs(x - y)))


def _log(x: Any) -> Any:
    # Twice `where`: the gradient of the branch not taken must be finite too.
    return jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1)), LOG_ZERO)
