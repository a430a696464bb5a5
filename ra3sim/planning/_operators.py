"""One face for the compiled backups, dense or sparse: arrays prepared once, a Bellman backup on call."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ra3sim.planning import _kernels
from ra3sim.planning.batch import SMDPBatch
from ra3sim.smdp import SMDP


def row_rewards(model: SMDP | SMDPBatch) -> np.ndarray:
    """Rewards in row order, -inf where an option is not available."""
    return np.where(model.row_available, model.row_rewards, -np.inf)


def kernel_arrays(model: SMDP) -> tuple:
    """The leading arguments of the kernels of this model's kind."""
    shared = (row_rewards(model), model.scale, model.state_stride, model.option_stride)
    if not model.is_sparse:
        return (model.matrix, *shared)
    matrix = model.matrix
    unsigned = np.uint32 if matrix.indices.dtype == np.int32 else np.uint64
    return (matrix.data, matrix.indices.view(unsigned), matrix.indptr.view(unsigned), *shared)


def backup(model: SMDP, arrays: tuple) -> Callable:
    """``(V, TV, policy) -> (low, high, changes)`` with TV = T V and its greedy policy."""
    if model.is_sparse:
        return lambda V, TV, policy: _kernels.backup_sparse(*arrays, V, TV, policy)
    Q = np.empty(len(model.row_rewards))
    return lambda V, TV, policy: _kernels.backup_dense(*arrays, V, TV, policy, Q)


def plain_backup(model: SMDP, arrays: tuple) -> Callable:
    """``(V, TV) -> (low, high)`` with TV = T V, at the speed of memory: for many sweeps."""
    if not model.is_sparse:
        products = np.empty(len(model.row_rewards))

        def by_blas(V: np.ndarray, TV: np.ndarray) -> tuple[float, float]:
            np.dot(model.matrix, V, out=products)
            return _kernels.best_of_rows(products, *arrays[1:], V, TV)

        return by_blas
    lengths = np.diff(model.matrix.indptr)
    width = int(lengths.max(initial=1))
    # Rows of one width need no bookkeeping per row; worth it if few zeros are added.
    if width > _WIDEST or width * len(lengths) > _MOST_PADDING * model.matrix.nnz:
        full = backup(model, arrays)
        policy = np.empty(model.num_states, np.int64)
        return lambda V, TV: full(V, TV, policy)[:2]
    data = np.empty(len(lengths) * width)
    indices = np.empty(data.size, arrays[1].dtype)
    strides = (model.num_states, model.state_stride, model.option_stride)
    _kernels.pad_rows(arrays[2], arrays[0], arrays[1], *strides, width, data, indices)
    by_state = np.arange(model.num_states)[:, None] * model.state_stride
    rewards = arrays[3][by_state + np.arange(model.num_options) * model.option_stride].ravel()
    kernel = _kernels.backup_padded(width)
    return lambda V, TV: kernel(data, indices, rewards, model.scale, V, TV)


_WIDEST, _MOST_PADDING = 16, 1.15
