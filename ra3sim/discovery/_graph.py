"""The state graph of an MDP, and what its spectrum and its paths say."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from scipy.sparse import csgraph

from ra3sim.mdp import MDP

# Eigenvalues and entries of eigenvectors closer than this count as equal: what rounding decides differs by machine.
SPECTRAL_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class StateGraph:
    """The states that can be visited, and an edge from each to every other one that some action may lead to.

    Attributes:
        states: the n nodes, numbers of states ``(n,)``, ascending.
        edges: ``(n, n)``, CSR, 1 where an edge leads from row to column; no loops.
        names: of the nodes, for people.
    """

    states: np.ndarray
    edges: sp.csr_array
    names: tuple[str, ...]

    @staticmethod
    def of(mdp: MDP, threshold: float = 0.0) -> StateGraph:
        """The graph of an MDP; terminal states are nodes without an edge that leads on.

        Args:
            threshold: transitions of a probability up to this do not count. Above 0 it can drop what slipping does.

        Raises:
            ValueError: a threshold outside [0, 1).
        """
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold: must be a probability below 1, got {threshold!r}")
        steps = sp.coo_array(sp.csr_array(mdp.rows()))
        source, action = steps.row // mdp.num_actions, steps.row % mdp.num_actions
        used = (steps.data > threshold) & mdp.available[source, action] & (source != steps.col)
        shape = (mdp.num_states, mdp.num_states)
        edges = sp.csr_array((np.ones(used.sum()), (source[used], steps.col[used])), shape=shape)
        edges.sum_duplicates()
        edges.data[:] = 1
        states = np.flatnonzero(mdp.reachable())
        return StateGraph(states, edges[states][:, states], tuple(mdp.state_names[s] for s in states))

    def __len__(self) -> int:
        return len(self.states)

    def undirected(self) -> sp.csr_array:
        """Adjacency ``(n, n)`` that forgets directions: 1 where an edge leads either way."""
        return sp.csr_array(self.edges.maximum(self.edges.T))

    def lengths(self) -> np.ndarray:
        """Number of edges on a shortest path from row to column, ``(n, n)``; infinite where there is none."""
        return csgraph.shortest_path(self.edges, unweighted=True)

    def check_connected(self, method: str) -> None:
        """Whether the undirected graph is in one piece.

        Raises:
            ValueError: it is not; names states of the smaller parts.
        """
        count, part = csgraph.connected_components(self.edges, directed=False)
        if count > 1:
            main = np.argmax(np.bincount(part))
            apart = [name for name, p in zip(self.names, part, strict=True) if p != main]
            shown = ", ".join(apart[:3]) + (", ..." if len(apart) > 3 else "")
            raise ValueError(
                f"mdp: its state graph falls into {count} parts, {len(apart)} states outside the largest ({shown}); "
                f"{method} needs one part: choose a start that does not reach them, or a lower threshold"
            )


def laplacian(adjacency: sp.csr_array | np.ndarray, normalised: bool) -> np.ndarray:
    """Of an undirected graph, dense ``(n, n)``: D - A, or I - D^(-1/2) A D^(-1/2) (Chung 1997, section 1.2)."""
    dense = sp.csr_array(adjacency).toarray()
    return csgraph.laplacian(dense, normed=normalised)


def eigenvectors(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues ``(n,)``, ascending, and unit eigenvectors, columns ``(n, n)``, of a symmetric matrix.

    Eigenvectors of equal eigenvalues are no more defined than the sign of a single one, and libraries differ. Here the
    eigenspace settles both: the first vector is the one with the largest entry that the space has (the first such
    state, if several do), that entry being positive; the next is the same for what is orthogonal to the first. All are
    found by LAPACK: meant for some thousands of states.
    """
    values, vectors = np.linalg.eigh(matrix)
    gap = np.diff(values) > SPECTRAL_TOLERANCE * max(1.0, abs(values[-1]))
    edges = np.concatenate([[0], np.flatnonzero(gap) + 1, [len(values)]])
    for first, last in pairwise(edges):
        space = vectors[:, first:last].copy()
        for column in range(first, last):
            # The rows' squares are the diagonal of the projector: how large an entry can be there.
            peak = first_largest((space**2).sum(1))
            vectors[:, column] = space @ space[peak] / np.linalg.norm(space[peak])
            space -= np.outer(vectors[:, column], vectors[:, column] @ space)
    return values, vectors


def first_largest(values: np.ndarray) -> int:
    """The first index whose value is the largest, up to rounding."""
    return int(np.argmax(values >= values.max() - SPECTRAL_TOLERANCE))
