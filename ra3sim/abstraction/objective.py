"""The bound of action abstractions and what is learnt from it, as pure functions of arrays.

A latent z_t is drawn before every expert action a_t: q either keeps it or thinks of a new one, and

    log π(a | s) >= E_q[Σ_t log π(a_t | s_t, z_t) - KL(q(z_t | ·) ‖ p(z_t | s_t, z_{t-1}))]

(Zhang et al. 2025, arXiv 2509.25810, sections 4 and 5). One implementation serves NumPy, JAX and torch; it works under
`jax.jit`, `jax.vmap` and both libraries' gradients, and keeps the dtype.

Arrays are ``(..., G, T)``: T steps of G rollouts that explain the same trajectory. ``mask`` is boolean, broadcasts to
that, and is True where a step exists (None: everywhere). What stands elsewhere, NaN and infinity included, has no
influence on results or gradients, and results are 0 there. Logarithms are natural.

Every function raises ValueError for what is no array, of two libraries, not of floats (or not boolean), of a shape that
does not fit, or for a Python number out of range; values inside arrays are not looked at.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ra3sim.abstraction import _arrays
from ra3sim.abstraction.prior import TemporalPrior


class SplitAdvantages(NamedTuple):
    """Advantages of the two decisions of a step, each ``(..., G, T)``."""

    whether: Any
    what: Any


class ElboParts(NamedTuple):
    """The bound ``elbo`` = ``likelihood`` - ``kl``, each ``(...,)``, in nats."""

    elbo: Any
    likelihood: Any
    kl: Any


class ImportanceWeights(NamedTuple):
    """``weights (..., G)``, which sum to 1, and ``log_mean (...,)``."""

    weights: Any
    log_mean: Any


class SMCStep(NamedTuple):
    """``ancestors (..., G)``, normalised ``log_weights (..., G)``, ``log_evidence (...,)``, ``resampled (...,)``."""

    ancestors: Any
    log_weights: Any
    log_evidence: Any
    resampled: Any


def step_rewards(log_likelihood: Any, think: Any, price: Any, *, length: Any = None, mask: Any = None) -> Any:
    """r_t = log π(a_t | s_t, z_t) / n_t - c 1{a new thought} (Zhang et al. 2025, section 5).

    Args:
        log_likelihood: of the whole action of the expert, ``(..., T)``.
        think: boolean, ``(..., T)``.
        price: c >= 0 in nats, `ThoughtPrice.price`: a number or an array.
        length: n_t, the tokens of the action, so that its mean over tokens counts, as this project reads the paper;
            None: 1, the sum, which is what the bound needs.
        mask: ``(..., T)``.

    Returns:
        ``(..., T)``.

    >>> import numpy as np
    >>> step_rewards(np.array([-4.0, -1.0]), np.array([True, False]), 0.5, length=np.array([2, 1]))
    array([-2.5, -1. ])
    """
    price_array = None if _arrays.is_number(price) else price
    length_array = None if length is None or _arrays.is_number(length) else length
    arrays = {"log_likelihood": log_likelihood, "think": think, "price": price_array, "length": length_array}
    xp = _arrays.namespace(**arrays, mask=mask)
    _arrays.check_floating(xp, "log_likelihood", log_likelihood, "T")
    _arrays.check_boolean(xp, "think", think, log_likelihood.shape)
    if price_array is None:
        price = _arrays.check_not_negative("price", price)
    else:
        _arrays.check_shape("price", price, log_likelihood.shape)
    _check_mask(xp, mask, log_likelihood.shape)
    rewards = _inside(xp, log_likelihood, mask)
    if length_array is not None:
        _arrays.check_shape("length", length, log_likelihood.shape)
        rewards = rewards / _inside(xp, xp.astype(length, log_likelihood.dtype), mask, 1.0)
    elif length is not None:
        if not length > 0:
            raise ValueError(f"length: must be positive, got {length!r}")
        rewards = rewards / float(length)
    # Chosen, not multiplied: c = inf costs nothing where nothing is thought.
    return xp.where(think if mask is None else think & mask, rewards - price, rewards)


def elbo_rewards(log_likelihood: Any, log_prior: Any, log_q: Any, mask: Any = None) -> Any:
    """r_t = log π(a_t | s_t, z_t) + log p(z_t | z_{t-1}) - log q(z_t | ·) at the latents that were drawn.

    Its sum over steps is an unbiased estimate of the bound, and its exponential is the importance weight of the rollout
    (Zhang et al. 2025, section 4).

    Args:
        log_likelihood: ``(..., T)``; the other arrays broadcast to that.

    Returns:
        ``(..., T)``.

    >>> import numpy as np
    >>> elbo_rewards(np.array([-1.0, np.nan]), np.array([-2.0, 0.0]), np.array([-0.5, 0.0]), np.array([True, False]))
    array([-2.5,  0. ])
    """
    xp = _steps(log_likelihood, log_prior, log_q, mask)
    return _inside(xp, log_likelihood, mask) + _inside(xp, log_prior, mask) - _inside(xp, log_q, mask)


def returns_to_go(rewards: Any, mask: Any = None, *, discount: float = 1.0, until: Any = None) -> Any:
    """R_t = Σ_{k >= t} γ^{k-t} r_k, to the end or up to the next thought.

    Credit up to the next thought has less variance. It is exact where neither what follows that thought nor its time
    depends on the latent before; otherwise it is biased.

    Sums are made by doubling: after round i, R_t covers 2^i steps, so that log2 T vector operations do, and a segment
    never sees another's sum, as differences of cumulative sums would.

    Args:
        rewards: ``(..., T)``.
        discount: γ in [0, 1].
        until: boolean, True where a new thought came: the sum for t stops before the next one after t.

    Returns:
        ``(..., T)``.

    >>> import numpy as np
    >>> rewards, think = np.array([1.0, 2.0, 4.0]), np.array([True, False, True])
    >>> returns_to_go(rewards), returns_to_go(rewards, until=think)
    (array([7., 6., 4.]), array([3., 2., 4.]))
    """
    xp = _arrays.namespace(rewards=rewards, mask=mask, until=until)
    _arrays.check_floating(xp, "rewards", rewards, "T")
    _check_mask(xp, mask, rewards.shape)
    discount = _arrays.check_fraction("discount", discount)
    total = _inside(xp, rewards, mask)
    joined = None
    if until is not None:
        _arrays.check_boolean(xp, "until", until, rewards.shape)
        starts = xp.broadcast_to(until if mask is None else until & mask, rewards.shape)
        joined = _ahead(xp, ~starts, 1)  # step t + 1 belongs to the sum of t
    steps, shift, factor = rewards.shape[-1], 1, discount
    while shift < steps and factor > 0:
        ahead = _ahead(xp, total, shift) * factor
        total = total + (ahead if joined is None else xp.where(joined, ahead, 0.0))
        if joined is not None:
            joined = joined & _ahead(xp, joined, shift)
        shift, factor = 2 * shift, factor * factor
    return _inside(xp, total, mask)


def group_advantages(
    returns: Any, mask: Any = None, *, leave_one_out: bool = True, normalise: bool = False, eps: float = 1e-8
) -> Any:
    """A_g = R_g - mean of R over the other rollouts that have this step (Kool, van Hoof & Welling 2019).

    That baseline does not depend on the rollout's own choices, so the policy gradient stays unbiased; where there is no
    other, it is 0. With ``leave_one_out=False`` the mean is over all rollouts, which shrinks the gradient by
    (G - 1) / G. ``normalise`` divides by the group's standard deviation (divisor G) plus ``eps``, as in GRPO (Shao et
    al. 2024); that is not unbiased.

    Args:
        returns: ``(..., G, T)`` with G >= 2, finite.
        mask: ``(..., G, T)``.

    Returns:
        ``(..., G, T)``.

    Raises:
        ValueError: also if G = 1.

    >>> import numpy as np
    >>> group_advantages(np.array([[1.0], [2.0], [6.0]]))[:, 0]
    array([-3. , -1.5,  4.5])
    """
    xp, there = _group(returns, mask, eps)
    advantages = _centred(xp, returns, there, leave_one_out)
    return advantages / _spread(xp, returns, there, eps) if normalise else advantages


def split_advantages(
    returns: Any,
    think: Any,
    mask: Any = None,
    *,
    leave_one_out: bool = True,
    normalise: bool = False,
    eps: float = 1e-8,
) -> SplitAdvantages:
    """Advantages of whether to think and of what, for q(z) = κ(think) ν(z | think) (this project).

    ``whether`` compares thinking and acting on the same line: `group_advantages`. ``what`` compares thoughts: its
    baseline is the mean over the other rollouts that thought on this step, or over all others if none did, and it is 0
    where the rollout did not think. Either baseline is free of the rollout's own choices, so that
    E[whether ∇log κ + what ∇log ν] is the policy gradient, with κ the probability of what was decided. Arguments as
    `group_advantages`; with ``normalise``, both are divided by the standard deviation of the group.

    Args:
        think: boolean, broadcasts to ``(..., G, T)``.

    >>> import numpy as np
    >>> split = split_advantages(np.array([[1.0], [2.0], [6.0]]), np.array([[False], [True], [True]]))
    >>> split.whether[:, 0], split.what[:, 0]
    (array([-3. , -1.5,  4.5]), array([ 0., -4.,  4.]))
    """
    _arrays.namespace(returns=returns, think=think)
    xp, there = _group(returns, mask, eps)
    _arrays.check_boolean(xp, "think", think, returns.shape)
    thinkers = think & there
    whether = _centred(xp, returns, there, leave_one_out)
    what = _centred(xp, returns, thinkers, leave_one_out)
    several = xp.sum(xp.astype(thinkers, returns.dtype), axis=-2, keepdims=True) > 1
    what = xp.where(thinkers & ~several, whether, what)
    if normalise:
        spread = _spread(xp, returns, there, eps)
        whether, what = whether / spread, what / spread
    return SplitAdvantages(whether, what)


def temporal_kl(log_q: Any, log_p: Any) -> Any:
    """KL(q ‖ p) = Σ_z q(z) (log q(z) - log p(z)) over the last axis; 0 log 0 = 0, and inf where q > 0 = p.

    Args:
        log_q: ``(..., Z)``, normalised.
        log_p: broadcasts to that.

    Returns:
        ``(...,)``, in nats.

    >>> import numpy as np
    >>> with np.errstate(divide="ignore"):
    ...     float(temporal_kl(np.log([1.0, 0.0]), np.log([0.25, 0.75])).round(6))
    1.386294
    """
    xp = _arrays.namespace(log_q=log_q, log_p=log_p)
    _arrays.check_floating(xp, "log_q", log_q, "Z")
    _arrays.check_floating(xp, "log_p", log_p)
    _arrays.check_shape("log_p", log_p, log_q.shape)
    drawn = log_q > -xp.inf
    possible = log_p > -xp.inf
    both = drawn & possible
    safe_q = xp.where(both, log_q, 0.0)
    terms = xp.where(both, xp.exp(safe_q) * (safe_q - xp.where(both, log_p, 0.0)), 0.0)
    return xp.sum(xp.where(drawn & ~possible, xp.inf, terms), axis=-1)


def thinking_kl(think_prob: Any, what_entropy: Any, prior: TemporalPrior) -> Any:
    """KL(q ‖ p) = kl_Bernoulli(κ ‖ ρ) + κ (log(Z - 1) - H(ν)) (Zhang et al. 2025, proposition 5.1).

    Equal to `temporal_kl`. Computed as κ log κ + (1 - κ) log(1 - κ) - κ (log p_think + H(ν)) - (1 - κ) log p_keep, in
    which the limits are plain: with ρ = 0 it is 0 at κ = 0 and inf above.

    Args:
        think_prob: κ in [0, 1], an array.
        what_entropy: H(ν) over the Z - 1 other latents, in nats: an array or a number. Not looked at where κ = 0.
        prior: α and Z.

    Returns:
        As the arguments broadcast, in nats.

    >>> import numpy as np
    >>> thinking_kl(np.array([0.0, 1.0]), 0.0, TemporalPrior(num_latents=4, keep=0.5)).round(6)
    array([0.470004, 2.079442])
    """
    xp, what_entropy = _entropy("think_prob", think_prob, what_entropy, prior)
    some, all_ = think_prob > 0, think_prob < 1
    new = xp.where(some, think_prob, 1.0)
    same = xp.where(all_, 1.0 - think_prob, 1.0)
    if prior.log_think == -math.inf:
        thought = xp.where(some, xp.inf, xp.zeros_like(new + what_entropy))
    else:
        thought = xp.where(some, new * (xp.log(new) - what_entropy - prior.log_think), 0.0)
    return thought + xp.where(all_, same * (xp.log(same) - prior.log_keep), 0.0)


def think_rule(gain: Any, what_entropy: Any, prior: TemporalPrior) -> Any:
    """κ* = sigmoid(g - log((1 - ρ) / ρ) - log(Z - 1) + H(ν)), which maximises κ g - `thinking_kl` (this project).

    With the price c of `TemporalPrior.price` that is sigmoid(g - c + H(ν)).

    Args:
        gain: g, what a new thought is worth over keeping, in nats: an array.
        what_entropy: H(ν): an array or a number.

    Returns:
        As the arguments broadcast; 0 where nothing new can come.

    >>> import numpy as np
    >>> think_rule(np.array([0.0, 5.0]), 0.0, TemporalPrior(num_latents=2, keep=0.0)).round(6)
    array([0.5     , 0.993307])
    """
    xp, what_entropy = _entropy("gain", gain, what_entropy, prior)
    logit = gain + what_entropy
    # No overflow on either side, small κ keep their digits, and an infinite price gives 0.
    return xp.exp(-xp.logaddexp(xp.zeros_like(logit), prior.price - logit))


def elbo_parts(log_likelihood: Any, log_prior: Any, log_q: Any, mask: Any = None, weights: Any = None) -> ElboParts:
    """Σ_g w_g Σ_t (log π - (log q - log p)), the sampled bound, and its two parts (Zhang et al. 2025, section 4).

    Args:
        log_likelihood: ``(..., G, T)``; ``log_prior`` and ``log_q`` broadcast to that.
        weights: ``(..., G)``, as `importance_weights` gives them; None: 1 / G. What has weight 0 may be infinite.

    >>> import numpy as np
    >>> parts = elbo_parts(np.array([[-1.0, -1.0], [-2.0, -2.0]]), np.full((2, 2), -0.5), np.full((2, 2), -0.25))
    >>> float(parts.elbo), float(parts.likelihood), float(parts.kl)
    (-3.5, -3.0, 0.5)
    """
    xp = _steps(log_likelihood, log_prior, log_q, mask, axes="GT")
    shape = log_likelihood.shape[:-1]
    likelihood = xp.sum(_inside(xp, log_likelihood, mask), axis=-1)
    ratio = _inside(xp, log_q, mask) - _inside(xp, log_prior, mask)
    kl = xp.sum(xp.broadcast_to(ratio, log_likelihood.shape), axis=-1)
    if weights is None:
        likelihood, kl = xp.mean(likelihood, axis=-1), xp.mean(kl, axis=-1)
    else:
        _arrays.namespace(log_likelihood=log_likelihood, weights=weights)
        _arrays.check_floating(xp, "weights", weights)
        _arrays.check_shape("weights", weights, shape)
        used = weights != 0
        likelihood, kl = (xp.sum(weights * xp.where(used, part, 0.0), axis=-1) for part in (likelihood, kl))
    return ElboParts(likelihood - kl, likelihood, kl)


def importance_weights(log_weights: Any) -> ImportanceWeights:
    """W_g = w_g / Σ w and log((1/G) Σ w), over the last axis.

    With log w_g the sum of a rollout's `elbo_rewards`, the mean of w is an unbiased estimate of the marginal
    likelihood, and its logarithm a bound tighter than the ELBO (Burda, Grosse & Salakhutdinov 2016). Where all w are 0,
    the weights are uniform and ``log_mean`` is -inf.

    Args:
        log_weights: ``(..., G)``, below inf.

    >>> import numpy as np
    >>> weights, log_mean = importance_weights(np.array([0.0, np.log(3.0), -np.inf]))
    >>> weights.round(6), float(log_mean.round(6))
    (array([0.25, 0.75, 0.  ]), 0.287682)
    """
    xp = _arrays.namespace(log_weights=log_weights)
    _arrays.check_floating(xp, "log_weights", log_weights, "G")
    normalised, log_total = _log_normalised(xp, log_weights)
    return ImportanceWeights(xp.exp(normalised), log_total - math.log(log_weights.shape[-1]))


def effective_sample_size(weights: Any) -> Any:
    """1 / Σ_g W_g², from 1 (one rollout has all the weight) to G (all the same), but for rounding.

    Kong, Liu & Wong 1994.

    Args:
        weights: ``(..., G)``, normalised.

    Returns:
        ``(...,)``.

    >>> import numpy as np
    >>> float(effective_sample_size(np.array([0.5, 0.5, 0.0])))
    2.0
    """
    xp = _arrays.namespace(weights=weights)
    _arrays.check_floating(xp, "weights", weights, "G")
    return 1 / xp.sum(weights * weights, axis=-1)


def smc_step(log_weights: Any, increments: Any, uniform: Any, *, threshold: float = 0.5) -> SMCStep:
    """One step of sequential Monte Carlo: reweight, and resample where too few rollouts carry the weight.

    The evidence of the step is log Σ_g W_g exp(inc_g); the exponential of its sum over steps is an unbiased estimate of
    the marginal likelihood (Del Moral, Doucet & Jasra 2006). Where the effective sample size is below ``threshold`` ·
    G, ancestors are drawn systematically: a rollout of weight W has ⌊G W⌋ or ⌈G W⌉ children, all from one uniform
    number (Kitagawa 1996). The caller then goes on with ``rollouts[ancestors]``.

    Args:
        log_weights: ``(..., G)``, up to a constant; zeros at the start.
        increments: `elbo_rewards` of the step, broadcasts to that; 0 for a rollout that has ended.
        uniform: in [0, 1), shape ``(...,)``: an array, or a number for a single group.
        threshold: 0 never resamples, 1 and more always.

    Returns:
        Ancestors in ascending order, each itself where nothing was resampled; log weights that are -log G after
        resampling, and whose exponentials sum to 1 always. Where all weights are 0 the evidence is -inf and the weights
        are uniform. It takes memory of G² for each group.

    >>> import numpy as np
    >>> step = smc_step(np.zeros(4), np.log([8.0, 4.0, 2.0, 2.0]), 0.5, threshold=1.0)
    >>> step.ancestors, step.log_weights.round(3), float(np.exp(step.log_evidence).round(6))
    (array([0, 0, 1, 3]), array([-1.386, -1.386, -1.386, -1.386]), 4.0)
    """
    number = _arrays.is_number(uniform)
    xp = _arrays.namespace(log_weights=log_weights, increments=increments, uniform=None if number else uniform)
    _arrays.check_floating(xp, "log_weights", log_weights, "G")
    _arrays.check_floating(xp, "increments", increments)
    _arrays.check_shape("increments", increments, log_weights.shape)
    batch, size = tuple(log_weights.shape[:-1]), log_weights.shape[-1]
    threshold = _arrays.check_not_negative("threshold", threshold)
    if number:
        uniform = _arrays.check_fraction("uniform", uniform, open_end=True)
        uniform = xp.asarray(uniform, dtype=log_weights.dtype, device=_arrays.device(log_weights))
    if tuple(uniform.shape) != batch:
        raise ValueError(f"uniform: shape {tuple(uniform.shape)}, must be {batch}: one number for each group")

    before, total_before = _log_normalised(xp, log_weights)
    after, log_evidence = _log_normalised(xp, before + increments)
    log_evidence = xp.where(total_before > -xp.inf, log_evidence, -xp.inf)
    weights = xp.exp(after)
    sample_size = effective_sample_size(weights)
    # By itself, a comparison could miss "always": the sample size of equal weights may be rounded above G.
    always = threshold >= 1
    resampled = xp.ones_like(sample_size, dtype=xp.bool) if always else sample_size < threshold * size

    # Divided by its last entry, the sum ends at exactly 1, from the last rollout with any weight on; and a position is
    # below 1. So nothing without weight is drawn, whatever the rounding.
    cumulative = xp.cumulative_sum(weights, axis=-1)
    cumulative = cumulative / cumulative[..., -1:]
    device = _arrays.device(log_weights)
    positions = (xp.arange(size, dtype=weights.dtype, device=device) + uniform[..., None]) / size
    positions = xp.clip(positions, None, 1 - float(xp.finfo(weights.dtype).eps) / 2)
    drawn = xp.sum(cumulative[..., None, :] <= positions[..., :, None], axis=-1)
    ancestors = xp.where(resampled[..., None], drawn, xp.arange(size, device=device))
    after = xp.where(resampled[..., None], -math.log(size), after)
    return SMCStep(ancestors, after, log_evidence, resampled)


def _inside(xp: Any, values: Any, mask: Any, fill: float = 0.0) -> Any:
    """``values`` where the mask is True: chosen first, so that nothing computed afterwards sees the rest."""
    return values if mask is None else xp.where(mask, values, fill)


def _check_mask(xp: Any, mask: Any, shape: Any) -> None:
    if mask is not None:
        _arrays.check_boolean(xp, "mask", mask, shape)


def _steps(log_likelihood: Any, log_prior: Any, log_q: Any, mask: Any, axes: str = "T") -> Any:
    """The library of the three logarithms of a step, checked."""
    arrays = {"log_likelihood": log_likelihood, "log_prior": log_prior, "log_q": log_q}
    xp = _arrays.namespace(**arrays, mask=mask)
    for name, value in arrays.items():
        _arrays.check_floating(xp, name, value, axes if name == "log_likelihood" else "")
        _arrays.check_shape(name, value, log_likelihood.shape)
    _check_mask(xp, mask, log_likelihood.shape)
    return xp


def _ahead(xp: Any, values: Any, shift: int) -> Any:
    """Entry t + ``shift`` at t, and 0 (False) where there is none."""
    return xp.concat([values[..., shift:], xp.zeros_like(values[..., :shift])], axis=-1)


def _group(returns: Any, mask: Any, eps: float) -> tuple[Any, Any]:
    """The library, and a mask of full shape."""
    xp = _arrays.namespace(returns=returns, mask=mask)
    _arrays.check_floating(xp, "returns", returns, "GT")
    _check_mask(xp, mask, returns.shape)
    if not _arrays.check_not_negative("eps", eps, finite=True) > 0:
        raise ValueError(f"eps: must be positive, got {eps!r}")
    if returns.shape[-2] < 2:
        raise ValueError(f"returns: a group of {returns.shape[-2]} has no baseline; draw at least 2 rollouts")
    there = xp.ones_like(returns, dtype=xp.bool)
    return xp, there if mask is None else there & mask


def _mean(xp: Any, values: Any, members: Any) -> tuple[Any, Any]:
    """The mean over the members of a group and their number, with the axis kept; 0 for none."""
    count = xp.sum(xp.astype(members, values.dtype), axis=-2, keepdims=True)
    return xp.sum(xp.where(members, values, 0.0), axis=-2, keepdims=True) / xp.where(count > 0, count, 1.0), count


def _centred(xp: Any, values: Any, members: Any, leave_one_out: bool) -> Any:
    mean, count = _mean(xp, values, members)
    values = xp.where(members, values, 0.0)
    centred = xp.where(members, values - mean, 0.0)
    if not leave_one_out:
        return centred
    # R - mean of the others = (R - mean of all) n / (n - 1): no difference of two sums that could lose digits.
    others = count - 1
    return xp.where(others > 0, centred * (count / xp.where(others > 0, others, 1.0)), values)


def _spread(xp: Any, returns: Any, there: Any, eps: float) -> Any:
    """Standard deviation plus ``eps``; infinite for one alone, which has nothing to be measured by."""
    mean, count = _mean(xp, returns, there)
    variance, _ = _mean(xp, (xp.where(there, returns, 0.0) - mean) ** 2, there)
    # The gradient of a root at 0 is infinite.
    positive = variance > 0
    deviation = xp.where(positive, xp.sqrt(xp.where(positive, variance, 1.0)), 0.0) + eps
    return xp.where(count > 1, deviation, xp.inf)


def _entropy(name: str, value: Any, what_entropy: Any, prior: TemporalPrior) -> tuple[Any, Any]:
    """The library, and H(ν) as an array or a Python float, which leaves dtypes alone."""
    if not isinstance(prior, TemporalPrior):
        raise ValueError(f"prior: must be a TemporalPrior, got {type(prior).__name__} (ThoughtPrice has `temporal()`)")
    number = _arrays.is_number(what_entropy)
    xp = _arrays.namespace(**{name: value, "what_entropy": None if number else what_entropy})
    _arrays.check_floating(xp, name, value)
    if number:
        return xp, float(what_entropy)
    _arrays.check_floating(xp, "what_entropy", what_entropy)
    _arrays.check_together("what_entropy", what_entropy, name, value)
    return xp, what_entropy


def _log_normalised(xp: Any, log_weights: Any) -> tuple[Any, Any]:
    """log W (..., G), uniform where all weights are 0, and the logarithm (...,) of their sum."""
    top = xp.max(log_weights, axis=-1, keepdims=True)
    alive = top > -xp.inf
    log_weights, top = xp.where(alive, log_weights, 0.0), xp.where(alive, top, 0.0)
    log_total = top + xp.log(xp.sum(xp.exp(log_weights - top), axis=-1, keepdims=True))
    return log_weights - log_total, xp.where(alive, log_total, -xp.inf)[..., 0]
