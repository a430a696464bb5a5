"""Betweenness: go to the states that most shortest paths run through (Şimşek & Barto 2009)."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import scipy.sparse as sp
from scipy.sparse import csgraph

from ra3sim.discovery._graph import SPECTRAL_TOLERANCE, StateGraph
from ra3sim.discovery._points import join
from ra3sim.discovery.method import Method
from ra3sim.mdp import MDP
from ra3sim.options import OptionSet, drop_rows, reaching, way_to


def find(
    mdp: MDP, num_options: int, *, seed: Any = 0, initiation_size: int | None = None, threshold: float = 0.0
) -> OptionSet:
    """Options to the local maxima of betweenness, the highest first.

    An option can begin in the states that are nearest to its subgoal, counted in edges; it maximises E[γ^τ] and ends
    in the subgoal and outside of the states where it can begin.

    Args:
        seed: not used.
        initiation_size: how many states an option can begin in; all that are as far as the last of them are taken, and
            those from which it might be stuck for ever are not. None: a quarter of the states.
        threshold: see `StateGraph.of`.

    Raises:
        ValueError: initiation_size below 1; no local maximum.
    """
    if initiation_size is not None and initiation_size < 1:
        raise ValueError(f"initiation_size: at least one state, got {initiation_size}")
    graph = StateGraph.of(mdp, threshold)
    size = -(-len(graph) // 4) if initiation_size is None else initiation_size
    lengths = graph.lengths()
    found: list[OptionSet] = []
    for node in local_maxima(graph):
        option = _to_subgoal(mdp, graph, lengths[:, node], node, size)
        found += [option] if option is not None else []
        if len(found) == num_options:
            break
    return join(found, "betweenness")


def centrality(graph: StateGraph) -> np.ndarray:
    """Betweenness ``(n,)``: the share of shortest directed paths, over all pairs of other nodes, through each node."""
    directed = nx.from_scipy_sparse_array(graph.edges, create_using=nx.DiGraph)
    between = nx.betweenness_centrality(directed)
    return np.array([between[n] for n in range(len(graph))])


def local_maxima(graph: StateGraph) -> list[int]:
    """Nodes of higher betweenness than all their neighbours (an edge either way), the highest first.

    Neighbours of equal betweenness count as one node, represented by its first; the whole graph is no maximum.
    """
    between = centrality(graph)
    adjacent = graph.undirected().tocoo()
    equal = np.abs(between[adjacent.row] - between[adjacent.col]) <= SPECTRAL_TOLERANCE
    level_edges = (np.ones(equal.sum()), (adjacent.row[equal], adjacent.col[equal]))
    level = csgraph.connected_components(sp.csr_array(level_edges, shape=adjacent.shape), directed=False)[1]
    beaten = np.zeros(level.max() + 1, bool)
    beaten[level[adjacent.row[between[adjacent.col] > between[adjacent.row] + SPECTRAL_TOLERANCE]]] = True
    first = np.unique(level, return_index=True)[1]
    maxima = [n for n in first if not beaten[level[n]] and len(first) > 1 and between[n] > SPECTRAL_TOLERANCE]
    return sorted(maxima, key=lambda n: (-round(float(between[n]) / SPECTRAL_TOLERANCE), n))


def _to_subgoal(mdp: MDP, graph: StateGraph, lengths: np.ndarray, node: int, size: int) -> OptionSet | None:
    """The option to a node from the nearest states; None if it can be relied on from none of them."""
    target = graph.states[node]
    others = np.sort(lengths[lengths > 0])
    near = (lengths > 0) & (lengths <= others[min(size, len(others)) - 1]) & np.isfinite(lengths)
    inside = np.zeros(mdp.num_states, bool)
    inside[graph.states[near]] = True
    inside &= ~mdp.terminal
    if not inside.any():
        return None
    policy, pays = way_to(mdp, int(target), inside)
    step = drop_rows(mdp.under(policy)[0], ~inside)
    begin = inside & pays & ~reaching(step, inside & ~reaching(step, ~inside))
    if not begin.any():
        return None
    name = f"nearby to {mdp.state_names[target]}"
    return OptionSet.from_policy(policy, (~inside).astype(float), begin, name)


METHOD = Method(
    name="betweenness",
    title="local maxima of betweenness",
    source="Şimşek & Barto 2009, Skill Characterization Based on Betweenness, NIPS 21",
    needs="mdp",
    find=find,
    deviations=(
        "Edges have equal weights, and every pair of states counts alike.",
        "The size of the initiation set, which the authors chose for each task, is a quarter of the states.",
        "Neighbours of equal betweenness give one subgoal together.",
    ),
)
