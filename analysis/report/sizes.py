"""Rows and figure of the report's section on the size of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from analysis.selection.outcome import Outcome, combination_name
from analysis.selection.sizes import BestOfNetwork
from rkd_core.text.numbers import interval, percent

__all__ = ["Size", "size_figure", "sizes"]


@dataclass(frozen=True)
class Size:
    """The best student of a network, as text."""

    name: str
    selected: bool
    parameters: str
    multiply_adds: str
    latency: str
    student: str
    expected: str
    """Worst-k accuracy on other images, with its interval."""
    test_worst: str
    test_average: str
    feasible: bool


def sizes(outcome: Outcome) -> list[Size]:
    """Return a row for each network, the smallest first; empty for a single network."""
    if len(outcome.best_per_network) < 2:
        return []
    return [_row(outcome, one) for one in outcome.best_per_network]


def _row(outcome: Outcome, one: BestOfNetwork) -> Size:
    s, sure, network, place = outcome.selection, outcome.uncertainty, one.network, one.selected
    name = combination_name(s.combinations, place).replace(f", {network.name}", "", 1)
    expected = "–"
    if sure is not None:
        ends = interval(*sure.worst_k_interval[:, place])
        expected = f"{percent(sure.expected.worst_k[place])} ({ends})"
    return Size(
        name=network.name,
        selected=network.name == outcome.setting.student_architecture,
        parameters=_count(network.parameters),
        multiply_adds=_count(network.multiply_adds),
        latency="–" if network.latency is None else f"{1000 * network.latency:.3g}",
        student=name,
        expected=expected,
        test_worst=percent(outcome.test.worst_k[place]),
        test_average=percent(outcome.test.average[place]),
        feasible=one.feasible,
    )


def _count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"


def size_figure(outcome: Outcome) -> dict[str, Any] | None:
    """Return worst-k accuracy on other images by parameters; None without sizes or estimates."""
    sure, best = outcome.uncertainty, outcome.best_per_network
    known = [one for one in best if one.network.parameters is not None]
    if len(best) < 2 or sure is None or not known:
        return None
    places = [one.selected for one in known]
    low, high = sure.worst_k_interval[:, places].round(5).tolist()
    return {
        "names": [one.network.name for one in known],
        "parameters": [one.network.parameters for one in known],
        "worst": sure.expected.worst_k[places].round(5).tolist(),
        "low": low,
        "high": high,
        "selected": [one.network.name == outcome.setting.student_architecture for one in known],
    }
