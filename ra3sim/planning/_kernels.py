"""Compiled loops over decision models. One file, because Numba's disk cache does not see changes across files.

Conventions: rows of the outcome matrix as in `ra3sim.smdp.SMDP` (row = s * state_stride + z * option_stride), rewards
in row order with -inf where an option is not available; a state with no option is terminal, its value 0. Indices of
sparse matrices are unsigned: Numba then need not ask whether an index counts from the end, which halves the time.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import njit

# Sums may be reordered (so that they vectorise); NaN and infinity keep their meaning (-inf marks missing options).
REORDER = {"reassoc", "contract", "nsz"}
jit = njit(cache=True, error_model="numpy", nogil=True)
jit_sum = njit(cache=True, error_model="numpy", nogil=True, fastmath=REORDER)

SWEEPS_PER_STATE = 0.04
REDUCTION = 0.1
GUESS_SWEEPS, GUESS_REDUCTION = 10, 3e-3
ALWAYS_LU, NEVER_LU, CHOOSE_LU = 1, -1, 0


@jit
def certificate(low, high, mass_low, mass_high):
    """Bounds on V* - TV (and on V^π - TV, π greedy) from the range [low, high] of TV - V.

    W = TV + k satisfies T W <= W as soon as k >= mass * (high + k) for every row mass, and the mirror image from below
    (MacQueen 1966; Porteus 1971; here for rows of unequal mass). So the extreme masses give the extreme shifts.
    """
    mass = mass_high if high >= 0 else mass_low
    shift_high = mass * high / (1 - mass)
    mass = mass_high if low <= 0 else mass_low
    shift_low = mass * low / (1 - mass)
    return shift_low, shift_high


@jit_sum
def backup_dense(matrix, rewards, scale, state_stride, option_stride, V, TV, policy, Q):
    """TV = T V, its greedy policy and Q in row order; returns the range of TV - V and the changes of the policy."""
    states = V.shape[0]
    options = matrix.shape[0] // states
    low, high, changes = np.inf, -np.inf, 0
    for s in range(states):
        best, choice = -np.inf, -1
        # Two rows at a time share the loads of V: that keeps the sweep at the speed of memory.
        for z in range(0, options, 2):
            first = s * state_stride + z * option_stride
            second = first + option_stride if z + 1 < options else first
            sum_first, sum_second = 0.0, 0.0
            for t in range(states):
                sum_first += matrix[first, t] * V[t]
                sum_second += matrix[second, t] * V[t]
            Q[first] = rewards[first] + scale * sum_first
            if Q[first] > best:
                best, choice = Q[first], z
            Q[second] = rewards[second] + scale * sum_second
            if Q[second] > best:
                best, choice = Q[second], z + 1
        changes += policy[s] != choice
        policy[s] = choice
        if choice < 0:
            TV[s] = 0.0
        else:
            TV[s] = best
            low = min(low, best - V[s])
            high = max(high, best - V[s])
    return low, high, changes


@jit
def best_of_rows(products, rewards, scale, state_stride, option_stride, V, TV):
    """TV = T V from the products of all rows with V; returns the range of TV - V."""
    states = V.shape[0]
    low, high = np.inf, -np.inf
    for s in range(states):
        best = -np.inf
        for z in range(rewards.shape[0] // states):
            row = s * state_stride + z * option_stride
            q = rewards[row] + scale * products[row]
            best = q if q > best else best
        TV[s] = 0.0
        if best > -np.inf:
            TV[s] = best
            low = min(low, best - V[s])
            high = max(high, best - V[s])
    return low, high


@jit_sum
def later_backup_dense(matrix, rewards, scale, state_stride, option_stride, V, TV, policy, upper, margin):
    """`backup_dense` that skips rows whose ``upper`` bound on Q(s, z) shows that they cannot win."""
    states = V.shape[0]
    options = matrix.shape[0] // states
    low, high, changes = np.inf, -np.inf, 0
    for s in range(states):
        old = policy[s]
        best, choice = -np.inf, old
        TV[s] = 0.0
        if old < 0:
            continue
        for k in range(options):
            # The old choice goes first: it sets the mark that the others have to reach.
            z = old if k == 0 else (k - 1 if k <= old else k)
            row = s * state_stride + z * option_stride
            if upper[row] >= best - margin:
                total = 0.0
                for t in range(states):
                    total += matrix[row, t] * V[t]
                upper[row] = rewards[row] + scale * total
                if upper[row] > best:
                    best, choice = upper[row], z
        changes += choice != old
        policy[s] = choice
        TV[s] = best
        low = min(low, best - V[s])
        high = max(high, best - V[s])
    return low, high, changes


@jit_sum
def sweep_policy_dense(matrix, rewards, scale, state_stride, option_stride, policy, V, TV):
    """TV = T_π V; returns the range of TV - V."""
    states = V.shape[0]
    low, high = np.inf, -np.inf
    for s in range(0, states, 2):
        other = min(s + 1, states - 1)
        # A terminal state reads row 0 in vain: cheaper than a branch around the loop.
        first = s * state_stride + policy[s] * option_stride if policy[s] >= 0 else 0
        second = other * state_stride + policy[other] * option_stride if policy[other] >= 0 else 0
        sum_first, sum_second = 0.0, 0.0
        for t in range(states):
            sum_first += matrix[first, t] * V[t]
            sum_second += matrix[second, t] * V[t]
        TV[s], TV[other] = 0.0, 0.0
        if policy[s] >= 0:
            TV[s] = rewards[first] + scale * sum_first
            low, high = min(low, TV[s] - V[s]), max(high, TV[s] - V[s])
        if policy[other] >= 0:
            TV[other] = rewards[second] + scale * sum_second
            low, high = min(low, TV[other] - V[other]), max(high, TV[other] - V[other])
    return low, high


@jit
def values_of_policy_dense(matrix, rewards, scale, state_stride, option_stride, policy):
    """V^π by LAPACK: (I - P^π) V = R^π."""
    states = policy.shape[0]
    system, right = np.zeros((states, states)), np.zeros(states)
    for s in range(states):
        if policy[s] >= 0:
            row = s * state_stride + policy[s] * option_stride
            right[s] = rewards[row]
            for t in range(states):
                system[s, t] = -scale * matrix[row, t]
        system[s, s] += 1.0
    return np.linalg.solve(system, right)


@jit
def evaluate_dense(
    matrix, rewards, scale, state_stride, option_stride, policy, masses, tolerance, width, sweeps, lu, may_shift,
    V, work,
):  # fmt: skip
    """Improve V towards V^π, by sweeps until the shift bounds are narrow, or by LAPACK where that is cheaper.

    A policy that is not yet the best deserves no more than a tenth of its ``width``, unless sweeps are quick (each a
    third of the one before). LAPACK costs as much as S/25 sweeps and more, but leaves no error. Returns whether it ran.
    """
    states = V.shape[0]
    aim = REDUCTION * width
    exact = lu == ALWAYS_LU
    for sweep in range(0 if exact else sweeps):
        low, high = sweep_policy_dense(matrix, rewards, scale, state_stride, option_stride, policy, V, work)
        V[:] = work
        shift_low, shift_high = certificate(low, high, masses[0], masses[1])
        new = shift_high - shift_low
        if width == np.inf:
            # The first policy is a guess, which the first backup will change in many states.
            width, aim = new, REDUCTION * new
            tolerance = max(tolerance, GUESS_REDUCTION * new)
        quick = new < width / 3
        # The backup that follows is one sweep more, which will shrink the range as much as this one did.
        if new <= tolerance or (quick and new * new <= tolerance * width) or (new <= aim and not quick):
            break
        if lu == CHOOSE_LU and sweep >= 2 and not quick:
            exact = new >= width or np.log(aim / new) < states * SWEEPS_PER_STATE * np.log(new / width)
            if exact:
                break
        width = new
    if exact:
        V[:] = values_of_policy_dense(matrix, rewards, scale, state_stride, option_stride, policy)
    elif may_shift and new <= aim:
        # A wide range says too little of where V^π lies; then the sweeps alone are the safe step.
        middle = (shift_low + shift_high) / 2
        for s in range(states):
            V[s] = V[s] + middle if policy[s] >= 0 else 0.0
    return exact


@jit
def greedy_on_rewards(rewards, state_stride, option_stride, policy):
    """The greedy policy of V_0 = 0, which costs no backup; -1 in terminal states."""
    for s in range(policy.shape[0]):
        best, policy[s] = -np.inf, -1
        for z in range(rewards.shape[0] // policy.shape[0]):
            reward = rewards[s * state_stride + z * option_stride]
            if reward > best:
                best, policy[s] = reward, z


@jit
def solve_dense(
    matrix, rewards, scale, state_stride, option_stride, masses, rounding_unit, tolerance, sweeps, lu, limit,
    free_start, V, policy,
):  # fmt: skip
    """Policy iteration with evaluations as exact as they pay: by sweeps with shift bounds, or by LAPACK.

    V is V_0 on entry and the result on return; with ``free_start`` (V_0 = 0 was nobody's wish) the policy greedy
    on the rewards is evaluated before the first backup. ``sweeps`` limits those of one evaluation; ``rounding_unit``
    times the magnitude of a backup bounds its error.

    Returns backups, residual, value bound, policy loss bound, evaluations by LAPACK.
    """
    states = V.shape[0]
    TV, last, upper = V.copy(), V.copy(), np.empty(rewards.shape[0])
    if free_start:
        greedy_on_rewards(rewards, state_stride, option_stride, policy)
    reward_size = 0.0
    for reward in rewards:
        if reward > -np.inf:
            reward_size = max(reward_size, abs(reward))
    low, high, shift_low, shift_high, rounding, width = 0.0, 0.0, 0.0, 0.0, 0.0, np.inf
    backups, solved, stalls, best_width = 0, 0, 0, np.inf
    while True:
        if backups > 0 or free_start:
            # A few sweeps are worth it for the first policy, a factorisation is not.
            guess = backups == 0 and lu == CHOOSE_LU
            exact = evaluate_dense(
                matrix, rewards, scale, state_stride, option_stride, policy, masses, tolerance / 2, width,
                min(sweeps, GUESS_SWEEPS) if guess else sweeps, NEVER_LU if guess else lu, stalls < 3, TV, V,
            )  # fmt: skip
            V[:] = TV
            solved += exact
            if exact and lu == CHOOSE_LU:
                lu = ALWAYS_LU
        if backups == 0:
            low, high, changes = backup_dense(matrix, rewards, scale, state_stride, option_stride, V, TV, policy, upper)
        else:
            # Q changes by P (V - last): no more than the largest change times the mass of a row (MacQueen 1967).
            largest = -np.inf
            for s in range(states):
                if policy[s] >= 0:
                    largest = max(largest, V[s] - last[s])
            upper += largest * (masses[1] if largest >= 0 else masses[0])
            margin = 8 * rounding_unit * (reward_size + masses[1] * max(np.abs(V).max(), np.abs(last).max()))
            low, high, changes = later_backup_dense(
                matrix, rewards, scale, state_stride, option_stride, V, TV, policy, upper, margin
            )
        last[:] = V
        backups += 1
        if low > high:  # every state is terminal
            low, high = 0.0, 0.0
        shift_low, shift_high = certificate(low, high, masses[0], masses[1])
        rounding = rounding_unit * (reward_size + masses[1] * np.abs(V).max()) / (1 - masses[1])
        width = shift_high - shift_low
        # Counted, not forgiven: shifting is a heuristic, without it modified policy iteration is known to converge.
        stalls = stalls + 1 if width >= best_width else stalls
        best_width = min(width, best_width)
        if stalls > 3 and lu == CHOOSE_LU:
            lu = ALWAYS_LU
        # The floor of rounding, where nothing improves any more; an unchanged exact policy is the last.
        stuck = width <= 2 * rounding or (lu == ALWAYS_LU and solved > 0 and changes == 0)
        if width / 2 + rounding <= tolerance or stuck or backups >= limit:
            break
    middle = (shift_low + shift_high) / 2
    for s in range(states):
        V[s] = TV[s] + middle if policy[s] >= 0 else 0.0
    return backups, max(-low, high), width / 2 + rounding, width + 2 * rounding, solved


@jit
def solve_batch_dense(
    matrices, rewards, scales, state_stride, option_stride, masses, rounding_unit, tolerance, sweeps, lu, limit,
    V, policy, counts, numbers,
):  # fmt: skip
    """`solve_dense` for each of B tasks, one at a time so that a task stays in cache."""
    for b in range(rewards.shape[0]):
        backups, residual, bound, loss, solved = solve_dense(
            matrices[b], rewards[b], scales[b], state_stride, option_stride, (masses[b, 0], masses[b, 1]),
            rounding_unit, tolerance, sweeps, lu, limit, True, V[b], policy[b],
        )  # fmt: skip
        counts[b, 0], counts[b, 1] = backups, solved
        numbers[b, 0], numbers[b, 1], numbers[b, 2] = residual, bound, loss


@jit
def backup_sparse(data, indices, indptr, rewards, scale, state_stride, option_stride, V, TV, policy):
    """As `backup_dense`, over a CSR matrix."""
    states = V.shape[0]
    options = rewards.shape[0] // states
    low, high, changes = np.inf, -np.inf, 0
    one, two, three, four = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
    for s in range(states):
        best, choice = -np.inf, -1
        for z in range(options):
            row = np.uint64(s * state_stride + z * option_stride)
            j, end = np.uint64(indptr[row]), np.uint64(indptr[row + one])
            total = 0.0
            while j + four <= end:
                total += (data[j] * V[indices[j]] + data[j + one] * V[indices[j + one]]) + (
                    data[j + two] * V[indices[j + two]] + data[j + three] * V[indices[j + three]]
                )
                j += four
            while j < end:
                total += data[j] * V[indices[j]]
                j += one
            q = rewards[row] + scale * total
            # Selections, not branches: which option wins is unpredictable.
            choice = z if q > best else choice
            best = q if q > best else best
        changes += policy[s] != choice
        policy[s] = choice
        best = best if choice >= 0 else 0.0
        TV[s] = best
        change = best - V[s] if choice >= 0 else np.nan
        low = change if change < low else low
        high = change if change > high else high
    return low, high, changes


@cache
def backup_padded(width):
    """As `backup_sparse`, without a policy, over state-major rows of exactly ``width`` entries (compiled per width)."""

    @njit(cache=True, error_model="numpy", nogil=True)
    def backup(data, indices, rewards, scale, V, TV):
        states = V.shape[0]
        options = rewards.shape[0] // states
        low, high = np.inf, -np.inf
        j, row, one = np.uint64(0), np.uint64(0), np.uint64(1)
        for s in range(states):
            best = -np.inf
            for _ in range(options):
                total = 0.0
                for _ in range(width):
                    total += data[j] * V[indices[j]]
                    j += one
                q = rewards[row] + scale * total
                row += one
                best = q if q > best else best
            live = best > -np.inf
            best = best if live else 0.0
            TV[s] = best
            change = best - V[s] if live else np.nan
            low = change if change < low else low
            high = change if change > high else high
        return low, high

    return backup


@jit
def pad_rows(indptr, data, indices, states, state_stride, option_stride, width, out_data, out_indices):
    """Rows in state-major order, filled up with zeros (at column 0) to a common width."""
    k = 0
    for s in range(states):
        for z in range((indptr.shape[0] - 1) // states):
            row = s * state_stride + z * option_stride
            for j in range(indptr[row], indptr[row + 1]):
                out_data[k] = data[j]
                out_indices[k] = indices[j]
                k += 1
            for _ in range(width - (indptr[row + 1] - indptr[row])):
                out_data[k] = 0.0
                out_indices[k] = 0
                k += 1


@jit
def backup_in_place(data, indices, indptr, rewards, scale, state_stride, option_stride, V, policy, backward):
    """A Gauss-Seidel sweep of V <- T V, in the order of the states or against it: news crosses the model in one."""
    states = V.shape[0]
    options = rewards.shape[0] // states
    one = np.uint64(1)
    for i in range(states):
        s = states - 1 - i if backward else i
        best, choice = -np.inf, -1
        for z in range(options):
            row = np.uint64(s * state_stride + z * option_stride)
            total = 0.0
            for j in range(indptr[row], indptr[row + one]):
                total += data[j] * V[indices[j]]
            q = rewards[row] + scale * total
            choice = z if q > best else choice
            best = q if q > best else best
        policy[s] = choice
        V[s] = best if choice >= 0 else 0.0


@jit
def gather_residual(
    data,
    indices,
    indptr,
    rewards,
    scale,
    state_stride,
    option_stride,
    V,
    policy,
    out,
    columns,
    ends,
    before,
    after,
    right,
):
    """The system d = (T_π V - V) + P^π d of the correction of V, with the diagonal divided out.

    The residual is taken in double precision, the system is written in the precision of its arrays. The coefficients of
    the neighbours s - 1 and s + 1 are kept apart from the other entries (CSR: out, columns, ends): a sweep holds the
    neighbour that it has just updated in a register, where a load would have to wait for the store.
    """
    n, one = np.uint64(0), np.uint64(1)
    for s in range(policy.shape[0]):
        ends[s] = n
        right[s], before[s], after[s] = 0.0, 0.0, 0.0
        if policy[s] < 0:
            continue
        row = np.uint64(s * state_stride + policy[s] * option_stride)
        diagonal, total = 0.0, 0.0
        for j in range(indptr[row], indptr[row + one]):
            total += data[j] * V[indices[j]]
            if np.int64(indices[j]) == s:
                diagonal += scale * data[j]
        factor = 1 / (1 - diagonal)
        right[s] = (rewards[row] + scale * total - V[s]) * factor
        for j in range(indptr[row], indptr[row + one]):
            column, entry = np.int64(indices[j]), factor * scale * data[j]
            if column == s - 1:
                before[s] = entry
            elif column == s + 1:
                after[s] = entry
            elif column != s:
                out[n] = entry
                columns[n] = indices[j]
                n += one
    ends[policy.shape[0]] = n


@jit
def sweep_forward(out, columns, ends, before, after, right, x):
    """One Gauss-Seidel sweep of x <- right + P x in place, in the order of the states."""
    states, end = x.shape[0], ends[0]
    last = x.dtype.type(0)
    for s in range(states):
        begin, end = end, ends[np.uint64(s + 1)]
        total = right[s]
        for j in range(begin, end):
            total += out[j] * x[columns[j]]
        if s + 1 < states:
            total += after[s] * x[s + 1]
        last = total + before[s] * last
        x[s] = last


@jit
def sweep_backward(out, columns, ends, before, after, right, x):
    """The same against the order of the states."""
    states = x.shape[0]
    last = x.dtype.type(0)
    begin = ends[np.uint64(states)]
    for i in range(states):
        s = states - 1 - i
        begin, end = ends[np.uint64(s)], begin
        total = right[s]
        for j in range(begin, end):
            total += out[j] * x[columns[j]]
        if s > 0:
            total += before[s] * x[s - 1]
        last = total + after[s] * last
        x[s] = last


@jit_sum
def orthogonalise(basis, count, h):
    """Make basis[count] orthogonal to the ones before it (classical Gram-Schmidt, one pass); returns its norm."""
    size, block = basis.shape[1], 1024  # a block of the vector stays in the first-level cache
    zero = basis.dtype.type(0)
    h[: count + 1] = 0.0
    for first in range(0, size, block):
        last = min(first + block, size)
        for k in range(count):
            total = zero
            for i in range(first, last):
                total += basis[k, i] * basis[count, i]
            h[k] += total
    norm = 0.0
    for first in range(0, size, block):
        last = min(first + block, size)
        for k in range(count):
            weight = zero + basis.dtype.type(h[k])
            for i in range(first, last):
                basis[count, i] -= weight * basis[k, i]
        total = zero
        for i in range(first, last):
            total += basis[count, i] * basis[count, i]
        norm += total
    return np.sqrt(norm)


@jit_sum
def scale_and_copy(basis, row, factor):
    """basis[row] *= factor, and the same to basis[row + 1]."""
    factor = basis.dtype.type(factor)
    for i in range(basis.shape[1]):
        basis[row, i] *= factor
        basis[row + 1, i] = basis[row, i]


@jit_sum
def subtract_from_row_before(basis, row):
    """basis[row] = basis[row - 1] - basis[row]."""
    for i in range(basis.shape[1]):
        basis[row, i] = basis[row - 1, i] - basis[row, i]


@jit
def correct_by_krylov(out, columns, ends, before, after, right, x, basis, reduction):
    """Add to x the solution of d = right + P d, nearly: a cycle of GMRES (Saad & Schultz 1986).

    Preconditioned by a double Gauss-Seidel sweep. ``basis`` is work space ``(m + 1, S)``; the cycle ends early once the
    residual is ``reduction`` of the first. Returns the number of double sweeps.
    """
    m, states = basis.shape[0] - 1, x.shape[0]
    basis[0] = 0.0
    sweep_forward(out, columns, ends, before, after, right, basis[0])
    sweep_backward(out, columns, ends, before, after, right, basis[0])
    length = orthogonalise(basis, 0, np.zeros(1))
    norm = length
    if norm == 0:
        return 1
    nothing = np.zeros_like(right)
    triangle = np.zeros((m + 1, m))
    cosine, sine, target = np.zeros(m), np.zeros(m), np.zeros(m + 1)
    target[0] = norm
    size = 0
    while size < m:
        scale_and_copy(basis, size, 1 / length)
        sweep_forward(out, columns, ends, before, after, nothing, basis[size + 1])
        sweep_backward(out, columns, ends, before, after, nothing, basis[size + 1])
        subtract_from_row_before(basis, size + 1)
        column = np.zeros(m + 1)
        length = orthogonalise(basis, size + 1, column)
        # Givens rotations keep the least-squares problem triangular.
        for k in range(size):
            above = cosine[k] * column[k] + sine[k] * column[k + 1]
            column[k + 1] = cosine[k] * column[k + 1] - sine[k] * column[k]
            column[k] = above
        radius = np.hypot(column[size], length)
        if radius == 0:
            break
        cosine[size], sine[size] = column[size] / radius, length / radius
        column[size] = radius
        target[size + 1] = -sine[size] * target[size]
        target[size] = cosine[size] * target[size]
        triangle[:, size] = column
        size += 1
        if abs(target[size]) <= reduction * norm or length == 0:
            break
    for k in range(size - 1, -1, -1):
        for later in range(k + 1, size):
            target[k] -= triangle[k, later] * target[later]
        target[k] /= triangle[k, k]
    correction = basis[0]
    for i in range(states):
        correction[i] *= target[0]
    for k in range(1, size):
        for i in range(states):
            correction[i] += target[k] * basis[k, i]
    # The least squares leave single states far off; one more double sweep evens them out.
    sweep_forward(out, columns, ends, before, after, right, correction)
    sweep_backward(out, columns, ends, before, after, right, correction)
    for i in range(states):
        x[i] += correction[i]
    return 2 + size
