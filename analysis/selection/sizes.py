"""Best student of each network of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.runs.combinations import Means
from analysis.runs.networks import Network
from analysis.selection import Selection, select
from analysis.selection.criteria import Accuracies

__all__ = ["BestOfNetwork", "best_per_network"]


@dataclass(frozen=True)
class BestOfNetwork:
    """The student that the rule would select if its network were the only one."""

    network: Network
    selected: int
    """Index of the student among all combinations."""
    reference: int
    """Index of standard distillation of this network."""
    feasible: bool
    """Whether the student satisfies the constraint against that reference."""


def best_per_network(
    selection: Selection, networks: Mapping[str, Network]
) -> tuple[BestOfNetwork, ...]:
    """Return the best student of each network, in the order of ``networks``.

    Networks without standard distillation, which the rule compares with, are left out.
    """
    c, found = selection.combinations, []
    if len(c.networks) < 2:
        ends = selection.selected, selection.reference, selection.feasible
        return tuple(BestOfNetwork(network, *ends) for network in networks.values())
    for name, network in networks.items():
        rows = np.flatnonzero(c.of_network(name))
        if not (c.of_network(name) & selection.standard).any():
            continue
        own, m = c.take(rows), selection.seen.means
        chosen = (column[rows] for column in (m.average, m.average_se, m.worst_k, m.worst_k_se))
        given = selection.seen.estimated, selection.seen.scored
        seen = Accuracies(own, Means(*chosen), *(g if g is None else g[rows] for g in given))
        best = select(own, selection.criterion, seen)
        ends = int(rows[best.selected]), int(rows[best.reference]), best.feasible
        found.append(BestOfNetwork(network, *ends))
    return tuple(found)
