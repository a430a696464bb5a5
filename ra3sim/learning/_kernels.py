"""Compiled loops of online learning. One file, because Numba's disk cache does not see changes across files."""

from __future__ import annotations

import numpy as np
from numba import njit

jit = njit(cache=True, error_model="numpy", nogil=True)

# Unsigned, as the words are: mixed with a signed shift they would become floating point.
DROP, LEFT, RIGHT, FINAL = np.uint64(11), np.uint64(23), np.uint64(17), np.uint64(26)


@jit
def uniform(stream):
    """A number in [0, 1) from a stream of two 64-bit words (xorshift128+; Vigna 2017): 53 bits of it."""
    x, y = stream[0], stream[1]
    stream[0] = y
    x ^= x << LEFT
    x ^= x >> RIGHT
    x ^= y ^ (y >> FINAL)
    stream[1] = x
    return ((x + y) >> DROP) * 2.0**-53


@jit
def draw(cumulated, low, high, number):
    """The place in ``cumulated[low:high]``, a running sum that ends at 1, that a number in [0, 1) falls on."""
    for i in range(low, high - 1):
        if number < cumulated[i]:
            return i
    return high - 1


@jit
def best_option(Q, initiation, s, number):
    """An available option with the largest Q; among equals one by a number in [0, 1)."""
    best, ties = -np.inf, 0
    for z in range(Q.shape[0]):
        if initiation[z, s]:
            if Q[z, s] > best:
                best, ties = Q[z, s], 1
            elif Q[z, s] == best:
                ties += 1
    pick = int(number * ties)
    for z in range(Q.shape[0]):
        if initiation[z, s] and Q[z, s] == best:
            if pick == 0:
                return z
            pick -= 1
    return -1


@jit
def q_learning(
    indptr, indices, cumulated, rewards, terminal, start, policy, termination, next_node, start_node, initiation,
    discount, episodes, max_steps, step_size, epsilon, Q, visits, stream,
):  # fmt: skip
    """SMDP Q-learning, in place; returns the primitive steps taken, or -1 - s for a state s without an option.

    ``start`` and ``policy[n, s]`` are running sums; transitions are rows s A + a of a matrix with running sums.
    """
    actions = rewards.shape[1]
    steps = 0
    for _ in range(episodes):
        s = draw(start, 0, start.shape[0], uniform(stream))
        taken = 0
        while not terminal[s] and taken < max_steps:
            count = 0
            for z in range(Q.shape[0]):
                count += initiation[z, s]
            if count == 0:
                return -1 - s
            if uniform(stream) < epsilon:
                pick, option = int(uniform(stream) * count), -1
                for z in range(Q.shape[0]):
                    if initiation[z, s]:
                        if pick == 0:
                            option = z
                            break
                        pick -= 1
            else:
                option = best_option(Q, initiation, s, uniform(stream))
            first, node, total, faded, ended = s, start_node[option], 0.0, 1.0, False
            while taken < max_steps:
                a = draw(policy[node, s], 0, actions, uniform(stream))
                row = s * actions + a
                total += faded * rewards[s, a]
                faded *= discount
                s = indices[draw(cumulated, indptr[row], indptr[row + 1], uniform(stream))]
                taken += 1
                if terminal[s] or uniform(stream) < termination[node, s]:
                    ended = True
                    break
                node = next_node[node]
            # What an option that the end of the episode's budget cut short would have brought is not known.
            if not ended:
                break
            value = -np.inf
            for z in range(Q.shape[0]):
                if initiation[z, s]:
                    value = max(value, Q[z, s])
            if terminal[s]:
                value = 0.0
            elif value == -np.inf:
                return -1 - s
            visits[option, first] += 1
            Q[option, first] += step_size * (total + faded * value - Q[option, first])
        steps += taken
    return steps
