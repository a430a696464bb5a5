"""One iteration of EM in a latent-option model against hmmlearn and against the same recursion in JAX; two cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
from hmmlearn.hmm import CategoricalHMM

from benchmarks.timing import Row, pair, table, versions
from ra3sim.abstraction import TemporalPrior
from ra3sim.latent import Expectation, LatentModel, Trajectories, expect, jax_inference

TRAJECTORIES, STEPS, LATENTS, ACTIONS, KEEP, SEED, RUNS = 10_000, 50, 16, 32, 0.9, 0, 5
EXACT = 1e-10


def report() -> Iterator[str]:
    """Lines of Markdown, each as soon as it is known."""
    model, trajectories = task()
    worst = check(model, trajectories)
    yield from table(rows(model, trajectories))
    yield ""
    yield (
        f"One iteration: forward-backward, expected counts, M-step of the emissions. {TRAJECTORIES:,} trajectories of "
        f"{STEPS} steps, Z={LATENTS}, A={ACTIONS}, α={KEEP}; {cores()} cores, of which hmmlearn uses one. hmmlearn "
        "gets the same prior as its transition matrix and learns the emissions alone (`params='e'`): the same "
        "iteration as ours. *All learnt* is not quite: its default, which learns start and transitions too, beside "
        "ours with a prior that is learnt (termination and choice). S=64: emissions by state, which hmmlearn does not "
        "have. The two sides in turn; compilation is not timed."
    )
    yield ""
    yield (
        "Largest relative differences of log-likelihoods, expected counts and new emissions from log space (JAX; "
        f"hmmlearn `log`, where it has them): {worst['log_likelihood']:.0e}, {worst['counts']:.0e}, "
        f"{worst['policy']:.0e}; all must be below {EXACT:g}. Seed {SEED}. "
        f"{versions('numpy', 'numba', 'jax', 'hmmlearn')}. Made by `make bench`."
    )


def task(states: int = 1) -> tuple[LatentModel, Trajectories]:
    """A model, and decisions drawn from another one, so that the posterior is neither flat nor certain."""
    rng = np.random.default_rng(SEED)
    latents = np.empty((TRAJECTORIES, STEPS), int)
    latents[:, 0] = rng.integers(LATENTS, size=TRAJECTORIES)
    for t in range(1, STEPS):
        anew = rng.random(TRAJECTORIES) >= KEEP
        latents[:, t] = np.where(anew, rng.integers(LATENTS, size=TRAJECTORIES), latents[:, t - 1])
    seen = rng.integers(states, size=latents.shape)
    truth = rng.dirichlet(np.full(ACTIONS, 0.3), (LATENTS, states)).cumsum(-1)
    actions = (truth[latents, seen] < rng.random(latents.shape)[..., None]).sum(-1).clip(0, ACTIONS - 1)
    offsets = np.arange(TRAJECTORIES + 1) * STEPS
    trajectories = Trajectories(seen.ravel(), actions.ravel(), offsets, states, ACTIONS)
    return LatentModel.random(LATENTS, states, ACTIONS, TemporalPrior(LATENTS, KEEP), SEED), trajectories


def rows(model: LatentModel, trajectories: Trajectories) -> Iterator[Row]:
    prior_too = model.with_option_prior()
    here, learnt = "EM, S=1", "EM, S=1, all learnt"
    scaling, log = hmmlearn(model, trajectories, "scaling"), hmmlearn(model, trajectories, "log")
    two, one = em(model, trajectories, 2), em(model, trajectories, 1)
    yield Row(here, "2 threads", "hmmlearn scaling", pair(two, scaling, RUNS), "5")
    yield Row(here, "1 thread", "hmmlearn scaling", pair(one, scaling, RUNS), "")
    yield Row(here, "2 threads", "hmmlearn log", pair(two, log, 3), "")
    yield Row(here, "2 threads", "ours in JAX, log space", pair(two, em_jax(model, trajectories), RUNS), "")
    all_scaling = hmmlearn(model, trajectories, "scaling", "ste")
    yield Row(learnt, "2 threads", "hmmlearn scaling", pair(em(prior_too, trajectories, 2), all_scaling, RUNS), "")
    other, others = task(states=64)
    timed = pair(em(other, others, 2), em_jax(other, others), RUNS)
    yield Row("EM, S=64", "2 threads", "ours in JAX, log space", timed, "")


def em(model: LatentModel, trajectories: Trajectories, threads: int) -> Callable[[], LatentModel]:
    return lambda: model.fit(expect(model, trajectories, threads=threads).statistics)


def em_jax(model: LatentModel, trajectories: Trajectories) -> Callable[[], LatentModel]:
    return lambda: model.fit(jax_inference.expect(model, trajectories).statistics)


def hmmlearn(
    model: LatentModel, trajectories: Trajectories, implementation: str, params: str = "e"
) -> Callable[[], CategoricalHMM]:
    """One iteration of the equivalent hidden Markov model, from the same parameters every time."""
    X, lengths = trajectories.actions[:, None], trajectories.lengths

    def call() -> CategoricalHMM:
        peer = CategoricalHMM(
            LATENTS, n_iter=1, params=params, init_params="", implementation=implementation, n_features=ACTIONS
        )
        peer.startprob_, peer.transmat_ = model.prior.first(), model.prior.matrix()
        peer.emissionprob_ = model.policy[:, 0].copy()
        return peer.fit(X, lengths)

    return call


def check(model: LatentModel, trajectories: Trajectories) -> dict[str, float]:
    """The largest relative differences between ours and log space; all iterations must be the same."""
    ours, exact = expect(model, trajectories), jax_inference.expect(model, trajectories)
    new = model.fit(ours.statistics).policy[:, 0]
    peers = {name: hmmlearn(model, trajectories, name)() for name in ("log", "scaling")}
    totals = [peer.monitor_.history[0] for peer in peers.values()]
    worst = {
        "log_likelihood": max(
            difference(ours.log_likelihood, exact.log_likelihood), difference(ours.log_likelihood.sum(), totals)
        ),
        "counts": counts_difference(ours, exact),
        "policy": max(difference(new, peer.emissionprob_) for peer in peers.values()),
    }
    learnt = model.with_option_prior()
    counts_difference(expect(learnt, trajectories), jax_inference.expect(learnt, trajectories))
    assert all(value <= EXACT for value in worst.values()), worst
    return worst


def counts_difference(ours: Expectation, exact: Expectation) -> float:
    names = ("counts", "arrived", "ended", "chosen")
    pairs = [(getattr(ours.statistics, name), getattr(exact.statistics, name)) for name in names]
    worst = max(difference(one, other) for one, other in pairs if one is not None)
    assert worst <= EXACT, worst
    return worst


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(np.divide(one, other) - 1).max())


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    for line in report():
        print(line, flush=True)
