"""Exact inference in latent-option models: forward-backward in O(Z) a step, threaded over trajectories."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from ra3sim.abstraction import ThoughtPrice
from ra3sim.latent import _kernels
from ra3sim.latent.model import LatentModel, OptionPrior, Statistics
from ra3sim.latent.trajectories import Trajectories

# The work is always cut into as many pieces, whose sums are added in order: threads do not change a digit.
_PIECES = 8


@dataclass(frozen=True)
class Expectation:
    """The exact E-step.

    Args:
        statistics: expected counts, for `LatentModel.fit`.
        log_likelihood: ``(M,)``, log p(a|s) of each trajectory: also the ELBO of the posterior q*.
        switches: ``(M,)``, expected number of steps t with z_t != z_{t-1}; a free first latent is no switch.
        posterior: ``(N, Z)``, P(z_t = z | a), or None.
    """

    statistics: Statistics
    log_likelihood: np.ndarray
    switches: np.ndarray
    posterior: np.ndarray | None


def expect(
    model: LatentModel, trajectories: Trajectories, *, posterior: bool = False, threads: int | None = None
) -> Expectation:
    """The E-step by forward-backward (Baum et al. 1970; Rabiner 1989), scaled; in log space where scaling would lose.

    Args:
        posterior: also return the posterior of every step, ``(N, Z)``.
        threads: None: as many as Numba uses. The result does not depend on it.

    Raises:
        ValueError: trajectories over other states or actions; one that the model cannot explain (zero likelihood): says
            which one and at which step.
    """
    tables = _tables(model, trajectories)
    learn_prior = isinstance(model.prior, OptionPrior)
    Z, S, A = model.policy.shape
    log_likelihood, switches = np.empty(len(trajectories)), np.empty(len(trajectories))
    marginals = np.empty((trajectories.num_steps if posterior else 0, Z))

    def piece(low: int, high: int) -> tuple[Any, ...]:
        counts = np.zeros((S, A, Z))
        rest = [np.zeros((S, Z) if learn_prior else (0, Z)) for _ in range(3)]
        failure = _kernels.expect(
            *_flat(trajectories), low, high, *tables, counts, *rest, learn_prior, log_likelihood, switches, marginals
        )
        return failure, counts, *rest

    parts = _in_pieces(piece, trajectories, threads)
    counts, *rest = (functools.reduce(np.add, arrays) for arrays in list(zip(*parts, strict=True))[1:])
    statistics = Statistics(
        np.ascontiguousarray(counts.transpose(2, 0, 1)),
        *([np.ascontiguousarray(array.T) for array in rest] if learn_prior else [None] * 3),
    )
    return Expectation(statistics, log_likelihood, switches, marginals if posterior else None)


def log_likelihood(model: LatentModel, trajectories: Trajectories, *, threads: int | None = None) -> np.ndarray:
    """log p(a|s) of each trajectory, ``(M,)``, latents summed out; -inf where the model cannot explain it.

    Raises:
        ValueError: trajectories over other states or actions.
    """
    tables = _tables(model, trajectories)
    result = np.full(len(trajectories), -np.inf)

    def piece(low: int, high: int) -> tuple[Any, ...]:
        while low < high:
            status, failed, _ = _kernels.likelihood(*_flat(trajectories), low, high, *tables, result)
            low = failed + 1 if status else high
        return ((0, 0, 0),)

    _in_pieces(piece, trajectories, threads)
    return result


def sample_posterior(model: LatentModel, trajectories: Trajectories, count: int, seed: Any) -> np.ndarray:
    """Independent draws from p(z | s, a), ``(count, N)``: filter forward, sample backward.

    Args:
        seed: for `numpy.random.default_rng`.

    Raises:
        ValueError: fewer than one draw; as `expect`.
    """
    if count < 1:
        raise ValueError(f"count: give at least 1, got {count}")
    latents = np.empty((count, trajectories.num_steps), np.int32)
    uniforms = np.random.default_rng(seed).random(latents.shape)
    _check_failure(_kernels.sample(*_flat(trajectories), *_tables(model, trajectories), uniforms, latents))
    return latents


def best_path(model: LatentModel, trajectories: Trajectories) -> tuple[np.ndarray, np.ndarray]:
    """The most probable latents, ``(N,)``, and the log of their joint probability with the actions, ``(M,)`` (Viterbi).

    With a `ThoughtPrice` the second is the published objective, the best Σ log π(a|s,z) − c·(number of thoughts): what
    a policy over latents that sees the whole trajectory can earn. A free first latent costs nothing.

    Raises:
        ValueError: as `expect`.
    """
    emission, ends, choice, start = _tables(model, trajectories)
    if isinstance(model.prior, ThoughtPrice):
        keep, end, new = np.zeros_like(ends), np.full_like(ends, -model.prior.price), np.zeros_like(ends)
    else:
        with np.errstate(divide="ignore"):
            keep, end, new = np.log(1 - ends + ends * choice), np.log(ends), np.log(choice)
    latents, value = np.empty(trajectories.num_steps, np.int32), np.empty(len(trajectories))
    _check_failure(_kernels.best_path(*_flat(trajectories), emission, keep, end, new, start, latents, value))
    return latents, value


def count_path(model: LatentModel, trajectories: Trajectories, latents: Any, weights: Any = None) -> Statistics:
    """Statistics of given latents, ``(N,)`` or ``(K, N)``, with ``weights`` ``(K, M)`` (None: 1/K) for each trajectory.

    Keeping and drawing the same latent again cannot be told apart by looking; what a step with z_t = z_{t-1} counts as
    for an `OptionPrior` is its probability under the model, as in the exact E-step.
    """
    latents = np.atleast_2d(latents)
    K = len(latents)
    weights = np.full((K, len(trajectories)), 1 / K) if weights is None else np.atleast_2d(weights)
    weight = np.repeat(weights, trajectories.lengths, axis=1)
    Z, S, A = model.policy.shape
    s, a = trajectories.states.astype(np.int64), trajectories.actions
    counts = np.bincount(((latents * S + s) * A + a).ravel(), weight.ravel(), Z * S * A).reshape(Z, S, A)
    if not isinstance(model.prior, OptionPrior):
        return Statistics(counts)
    ends, choice = model.prior_tables()
    start = np.zeros(trajectories.num_steps, bool)
    start[trajectories.offsets[:-1]] = True
    before = np.roll(latents, 1, axis=1)
    if model.start >= 0:
        before[:, start] = model.start
    known = ~start | (model.start >= 0)
    drawn = ends[s, before] * choice[s, latents]
    same = before == latents
    with np.errstate(invalid="ignore", divide="ignore"):
        anew = np.where(same, np.nan_to_num(drawn / (1 - ends[s, before] + drawn)), 1.0)
    total = lambda latent, share: np.bincount((latent * S + s).ravel(), share.ravel(), Z * S).reshape(Z, S)  # noqa: E731
    return Statistics(
        counts,
        arrived=total(before, weight * known),
        ended=total(before, weight * known * anew),
        chosen=total(latents, weight * np.where(known, anew, 1.0)),
    )


def _flat(trajectories: Trajectories) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return trajectories.states, trajectories.actions, trajectories.offsets


def _tables(model: LatentModel, trajectories: Trajectories) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    if (trajectories.num_states, trajectories.num_actions) != model.policy.shape[1:]:
        raise ValueError(
            f"trajectories: over (S, A) = ({trajectories.num_states}, {trajectories.num_actions}), the model is over "
            f"{model.policy.shape[1:]}"
        )
    return model.emission(), *model.prior_tables(), model.start


def _in_pieces(
    piece: Callable[[int, int], tuple[Any, ...]], trajectories: Trajectories, threads: int | None
) -> list[tuple[Any, ...]]:
    """Run ``piece(low, high)`` over slices of the trajectories with about as many steps each; results in order."""
    if threads is not None and threads < 1:
        raise ValueError(f"threads: must be at least 1, got {threads}")
    threads = numba.get_num_threads() if threads is None else threads
    goals = np.linspace(0, trajectories.num_steps, _PIECES + 1)
    cuts = np.unique(np.searchsorted(trajectories.offsets, goals))
    slices = list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))
    if threads == 1 or len(slices) == 1:
        parts = [piece(low, high) for low, high in slices]
    else:
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(lambda bounds: piece(*bounds), slices))
    for part in parts:
        _check_failure(part[0])
    return parts


def _check_failure(failure: tuple[int, int, int]) -> None:
    status, trajectory, step = failure
    if status:
        raise ValueError(
            f"trajectories: trajectory {trajectory}, step {step}: the action has probability 0 under every latent that "
            "is possible there; use smoothing > 0 in the M-step, or a model that knows the action"
        )
