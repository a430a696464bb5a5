"""Compiled loops of latent-option models. One file, because Numba's disk cache does not see changes across files.

Tables have the latent last, so that the loops over latents run through memory: ``emission[s, a, z] = π(a|s, z)``,
``ends[s, z]`` the probability that latent z is drawn anew on arriving in s, ``choice[s, z]`` the distribution of the
new one. ``start`` is the latent before the first step, or -1: the first is drawn from ``choice``. With this prior,

    p(z|s, z') = (1 - ends[s, z']) 1{z = z'} + ends[s, z'] choice[s, z],

one step costs O(Z) instead of O(Z²).
"""

from __future__ import annotations

import numpy as np
from numba import njit

jit = njit(cache=True, error_model="numpy", nogil=True)
jit_sum = njit(cache=True, error_model="numpy", nogil=True, fastmath={"reassoc", "contract", "nsz"})

# A positive weight below this share of a step's total is treated in log space: what scaling loses is then below 1e-100.
TINY = 1e-200
LARGE = 1e250
FINE, HARD, IMPOSSIBLE = 0, 1, 2


@jit_sum
def filter_scaled(states, actions, emission, ends, choice, start, F):
    """Forward pass: ``F[t, z] = P(z_t = z | a_0..a_t)``. Returns log-likelihood, status, step.

    HARD: a weight became so small that scaling may lose it; IMPOSSIBLE: no latent explains the step.
    """
    Z = ends.shape[1]
    log_likelihood, product = 0.0, 1.0
    for t in range(states.shape[0]):
        s, a = states[t], actions[t]
        total, small, ended = 0.0, False, True
        if t == 0 and start < 0:
            for z in range(Z):
                F[0, z] = choice[s, z]
        else:
            drawn = 0.0
            if t == 0:
                for z in range(Z):
                    F[0, z] = 0.0
                F[0, start] = 1 - ends[s, start]
                drawn = ends[s, start]
                ended = drawn > 0
            else:
                ended = False
                for z in range(Z):
                    drawn += F[t - 1, z] * ends[s, z]
                    ended |= (F[t - 1, z] > 0) & (ends[s, z] > 0)
                for z in range(Z):
                    F[t, z] = F[t - 1, z] * (1 - ends[s, z])
            for z in range(Z):
                F[t, z] += drawn * choice[s, z]
        for z in range(Z):
            weight = F[t, z] * emission[s, a, z]
            # Asked of the factors, as a product of tiny ones is 0.
            possible = (F[t, z] > 0) | (ended & (choice[s, z] > 0))
            small |= (weight < TINY) & possible & (emission[s, a, z] > 0)
            F[t, z] = weight
            total += weight
        if small:
            return 0.0, HARD, t
        if total == 0:
            return 0.0, IMPOSSIBLE, t
        scale = 1 / total
        for z in range(Z):
            F[t, z] *= scale
        product *= total
        if product < 1e-90:
            log_likelihood += np.log(product)
            product = 1.0
    return log_likelihood + np.log(product), FINE, 0


@jit_sum
def smooth_scaled(
    states, actions, emission, ends, choice, start, F, b, eb, counts, arrived, ended, chosen, learn_prior
):
    """Backward pass over what `filter_scaled` filled: adds the expected counts, returns the expected switches.

    F becomes the posterior P(z_t = z | a_0..a_T). ``counts (S, A, Z)``; with ``learn_prior`` also ``arrived``,
    ``ended`` and ``chosen`` ``(S, Z)``: arrivals in s with latent z, how many drew anew, and what was drawn.
    """
    Z = ends.shape[1]
    switches = 0.0
    for z in range(Z):
        b[z] = 1.0
    for t in range(states.shape[0] - 1, -1, -1):
        s, a = states[t], actions[t]
        drawn_value = 0.0
        for z in range(Z):
            eb[z] = emission[s, a, z] * b[z]
            drawn_value += choice[s, z] * eb[z]
            F[t, z] *= b[z]
            counts[s, a, z] += F[t, z]
        if t > 0:
            norm, drawn, same = 0.0, 0.0, 0.0
            for z in range(Z):
                value = (1 - ends[s, z]) * eb[z] + ends[s, z] * drawn_value
                weight = F[t - 1, z] * ends[s, z]
                norm += F[t - 1, z] * value
                drawn += weight
                same += weight * choice[s, z] * eb[z]
                b[z] = value
            scale = 1 / norm
            switches += (drawn * drawn_value - same) * scale
            if learn_prior:
                for z in range(Z):
                    arrived[s, z] += F[t - 1, z] * b[z] * scale
                    ended[s, z] += F[t - 1, z] * ends[s, z] * drawn_value * scale
                    chosen[s, z] += drawn * choice[s, z] * eb[z] * scale
            for z in range(Z):
                # Only latents that the past excludes can grow without limit; nothing depends on their value.
                b[z] = min(b[z] * scale, LARGE)
        elif start < 0:
            if learn_prior:
                for z in range(Z):
                    chosen[s, z] += F[0, z]
        else:
            value = (1 - ends[s, start]) * eb[start] + ends[s, start] * drawn_value
            switches += ends[s, start] * (drawn_value - choice[s, start] * eb[start]) / value
            if learn_prior:
                arrived[s, start] += 1
                ended[s, start] += ends[s, start] * drawn_value / value
                for z in range(Z):
                    chosen[s, z] += ends[s, start] * choice[s, z] * eb[z] / value
    return switches


@jit
def log_sum(x):
    high = x.max()
    if high == -np.inf:
        return high
    total = 0.0
    for i in range(x.shape[0]):
        total += np.exp(x[i] - high)
    return high + np.log(total)


@jit
def log_add(x, y):
    high, low = max(x, y), min(x, y)
    return high if low == -np.inf else high + np.log1p(np.exp(low - high))


@jit
def filter_log(states, actions, emission, ends, choice, start, F):
    """As `filter_scaled` in log space: ``F[t, z] = log P(z_t = z, a_0..a_t)``; never HARD."""
    Z = ends.shape[1]
    for t in range(states.shape[0]):
        s, a = states[t], actions[t]
        if t == 0 and start < 0:
            for z in range(Z):
                F[0, z] = np.log(choice[s, z])
        else:
            if t == 0:
                drawn = np.log(ends[s, start])
                F[0, :] = -np.inf
                F[0, start] = np.log1p(-ends[s, start])
            else:
                drawn = -np.inf
                for z in range(Z):
                    drawn = log_add(drawn, F[t - 1, z] + np.log(ends[s, z]))
                    F[t, z] = F[t - 1, z] + np.log1p(-ends[s, z])
            for z in range(Z):
                F[t, z] = log_add(F[t, z], drawn + np.log(choice[s, z]))
        for z in range(Z):
            F[t, z] += np.log(emission[s, a, z])
        if F[t].max() == -np.inf:
            return 0.0, IMPOSSIBLE, t
    return log_sum(F[states.shape[0] - 1]), FINE, 0


@jit
def smooth_log(states, actions, emission, ends, choice, start, F, b, eb, counts, arrived, ended, chosen, learn_prior):
    """As `smooth_scaled` for what `filter_log` filled."""
    Z = ends.shape[1]
    # Taken anew at every step, so that what the sums of logarithms lose on long ways cancels.
    total = log_sum(F[states.shape[0] - 1])
    switches = 0.0
    b[:] = 0.0
    for t in range(states.shape[0] - 1, -1, -1):
        s, a = states[t], actions[t]
        drawn_value = -np.inf
        for z in range(Z):
            eb[z] = np.log(emission[s, a, z]) + b[z]
            drawn_value = log_add(drawn_value, np.log(choice[s, z]) + eb[z])
            F[t, z] = np.exp(F[t, z] + b[z] - total)
            counts[s, a, z] += F[t, z]
        if t == 0 and start < 0:
            if learn_prior:
                for z in range(Z):
                    chosen[s, z] += F[0, z]
            break
        drawn, total = -np.inf, -np.inf
        for z in range(Z):
            b[z] = log_add(np.log1p(-ends[s, z]) + eb[z], np.log(ends[s, z]) + drawn_value)
            before = F[t - 1, z] if t > 0 else (0.0 if z == start else -np.inf)
            total = log_add(total, before + b[z])
        for z in range(Z):
            before = F[t - 1, z] if t > 0 else (0.0 if z == start else -np.inf)
            end = before + np.log(ends[s, z])
            drawn = log_add(drawn, end)
            here = np.exp(end + drawn_value - total)
            switches += here - np.exp(end + np.log(choice[s, z]) + eb[z] - total)
            if learn_prior:
                arrived[s, z] += np.exp(before + b[z] - total)
                ended[s, z] += here
        if learn_prior:
            for z in range(Z):
                chosen[s, z] += np.exp(drawn + np.log(choice[s, z]) + eb[z] - total)
    return switches


@jit
def expect(
    states, actions, offsets, low, high, emission, ends, choice, start, counts, arrived, ended, chosen, learn_prior,
    log_likelihood, switches, posterior,
):  # fmt: skip
    """Forward-backward over trajectories ``low`` to ``high``. Returns status, trajectory, step of the first failure.

    ``posterior (N, Z)`` is filled if it has rows.
    """
    Z = ends.shape[1]
    longest = 0
    for i in range(low, high):
        longest = max(longest, offsets[i + 1] - offsets[i])
    F, b, eb = np.empty((longest, Z)), np.empty(Z), np.empty(Z)
    for i in range(low, high):
        s, a = states[offsets[i] : offsets[i + 1]], actions[offsets[i] : offsets[i + 1]]
        value, status, step = filter_scaled(s, a, emission, ends, choice, start, F)
        if status == FINE:
            switches[i] = smooth_scaled(
                s, a, emission, ends, choice, start, F, b, eb, counts, arrived, ended, chosen, learn_prior
            )
        else:
            value, status, step = filter_log(s, a, emission, ends, choice, start, F)
            if status == IMPOSSIBLE:
                return status, i, step
            switches[i] = smooth_log(
                s, a, emission, ends, choice, start, F, b, eb, counts, arrived, ended, chosen, learn_prior
            )
        log_likelihood[i] = value
        if posterior.shape[0]:
            posterior[offsets[i] : offsets[i + 1]] = F[: s.shape[0]]
    return FINE, 0, 0


@jit
def likelihood(states, actions, offsets, low, high, emission, ends, choice, start, log_likelihood):
    """Forward pass alone, trajectories ``low`` to ``high``."""
    longest = 0
    for i in range(low, high):
        longest = max(longest, offsets[i + 1] - offsets[i])
    F = np.empty((longest, ends.shape[1]))
    for i in range(low, high):
        s, a = states[offsets[i] : offsets[i + 1]], actions[offsets[i] : offsets[i + 1]]
        value, status, step = filter_scaled(s, a, emission, ends, choice, start, F)
        if status != FINE:
            value, status, step = filter_log(s, a, emission, ends, choice, start, F)
            if status == IMPOSSIBLE:
                return status, i, step
        log_likelihood[i] = value
    return FINE, 0, 0


@jit
def draw(weights, uniform):
    """The entry that ``uniform`` in [0, 1) falls on; never one of weight 0."""
    total = 0.0
    for z in range(weights.shape[0]):
        total += weights[z]
    goal, reached, last = uniform * total, 0.0, 0
    for z in range(weights.shape[0]):
        reached += weights[z]
        if weights[z] > 0:
            last = z
            if goal < reached:
                return z
    return last


@jit
def sample(states, actions, offsets, emission, ends, choice, start, uniforms, latents):
    """Posterior samples: filter forward, draw backward; ``uniforms`` and ``latents`` are ``(K, N)``."""
    Z = ends.shape[1]
    F, weights = np.empty((np.diff(offsets).max(), Z)), np.empty(Z)
    for i in range(offsets.shape[0] - 1):
        first = offsets[i]
        s, a = states[first : offsets[i + 1]], actions[first : offsets[i + 1]]
        # In log space throughout: a draw needs ratios within a step only, and speed is not what this is for.
        _, status, step = filter_log(s, a, emission, ends, choice, start, F)
        if status == IMPOSSIBLE:
            return status, i, step
        last = s.shape[0] - 1
        for k in range(latents.shape[0]):
            for t in range(last, -1, -1):
                high = F[t].max()
                if t < last:
                    next_z, next_s = latents[k, first + t + 1], s[t + 1]
                    high = -np.inf
                    for z in range(Z):
                        step_prior = ends[next_s, z] * choice[next_s, next_z]
                        if z == next_z:
                            step_prior += 1 - ends[next_s, z]
                        weights[z] = F[t, z] + np.log(step_prior)
                        high = max(high, weights[z])
                else:
                    weights[:] = F[t]
                for z in range(Z):
                    weights[z] = np.exp(weights[z] - high)
                latents[k, first + t] = draw(weights, uniforms[k, first + t])
    return FINE, 0, 0


@jit
def best_path(states, actions, offsets, emission, log_keep, log_end, log_choice, start, latents, value):
    """Most probable latents (Viterbi), with scores ``(S, Z)`` for keeping, ending, and choosing another.

    Among equals the latent is kept. The score of a change z' -> z, z != z', is log_end[s, z'] + log_choice[s, z].
    """
    Z = emission.shape[2]
    longest = np.diff(offsets).max()
    came, score, new = np.empty((longest, Z), np.int32), np.empty(Z), np.empty(Z)
    for i in range(offsets.shape[0] - 1):
        first, length = offsets[i], offsets[i + 1] - offsets[i]
        score[:] = -np.inf
        if start >= 0:
            score[start] = 0.0
        for t in range(length):
            s, a = states[first + t], actions[first + t]
            # The best latent to leave, and the best one but for it: a change goes to another latent.
            best, second = -1, -1
            for z in range(Z):
                if best < 0 or score[z] + log_end[s, z] > score[best] + log_end[s, best]:
                    second, best = best, z
                elif second < 0 or score[z] + log_end[s, z] > score[second] + log_end[s, second]:
                    second = z
            for z in range(Z):
                here = np.log(emission[s, a, z])
                if t == 0 and start < 0:
                    new[z], came[t, z] = log_choice[s, z] + here, -1
                    continue
                origin = best if best != z else second
                new[z], came[t, z] = score[z] + log_keep[s, z], z
                if origin >= 0:
                    change = score[origin] + log_end[s, origin] + log_choice[s, z]
                    if change > new[z]:
                        new[z], came[t, z] = change, origin
                new[z] += here
            score[:] = new
            if score.max() == -np.inf:
                return IMPOSSIBLE, i, t
        z = score.argmax()
        value[i] = score[z]
        for t in range(length - 1, -1, -1):
            latents[first + t] = z
            z = came[t, z]
    return FINE, 0, 0


@jit
def policy_value(
    states, actions, offsets, contexts, log_emission, log_p, start, q, value, kl, gradient, entropy
):  # fmt: skip
    """Exact value of a policy over latents, trajectory by trajectory, and its gradient with respect to ``q``.

    ``q[c, z', z]``, z' = Z: no latent yet; ``log_p[s, z', z]`` likewise. ``value`` and ``kl (M,)`` are the bound and
    its KL part; ``gradient`` (the shape of q, or no rows) gets d value / d q, summed over trajectories. With
    ``entropy`` False, - log q is left out of the value.
    """
    Z = q.shape[2]
    longest = np.diff(offsets).max()
    mass, later, now = np.empty((longest, Z + 1)), np.empty(Z + 1), np.empty(Z + 1)
    later_kl, now_kl = np.empty(Z + 1), np.empty(Z + 1)
    for i in range(offsets.shape[0] - 1):
        first, length = offsets[i], offsets[i + 1] - offsets[i]
        origin = Z if start < 0 else start
        mass[0] = 0.0
        mass[0, origin] = 1.0
        for t in range(length - 1):
            c = contexts[first + t]
            mass[t + 1] = 0.0
            for y in range(Z + 1):
                if mass[t, y] > 0:
                    for z in range(Z):
                        mass[t + 1, z] += mass[t, y] * q[c, y, z]
        later[:], later_kl[:] = 0.0, 0.0
        for t in range(length - 1, -1, -1):
            c, s, a = contexts[first + t], states[first + t], actions[first + t]
            for y in range(Z + 1):
                now[y], now_kl[y] = 0.0, 0.0
                if mass[t, y] == 0:
                    continue
                for z in range(Z):
                    if q[c, y, z] == 0:
                        continue
                    cost = -log_p[s, y, z]
                    if entropy:
                        cost += np.log(q[c, y, z])
                    gain = log_emission[s, a, z] + later[z] - cost
                    now[y] += q[c, y, z] * gain
                    now_kl[y] += q[c, y, z] * (cost + later_kl[z])
                    if gradient.shape[0]:
                        gradient[c, y, z] += mass[t, y] * (gain - entropy)
            later[:], later_kl[:] = now, now_kl
        value[i], kl[i] = now[origin], now_kl[origin]
