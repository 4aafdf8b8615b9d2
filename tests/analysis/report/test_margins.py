"""The steps of the slider are those of the selection."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.report.slider import asked, choices, slider
from analysis.runs.combinations import Combinations, combine
from analysis.selection import select
from analysis.selection.criteria import Constrained, Group, WeightedSum
from analysis.selection.uncertainty import decide
from tests.analysis import worlds


def combinations_of(counts: list[list[int]]) -> Combinations:
    """Few images, so that ties abound; the first is standard distillation."""
    levels = ["standard", *(k / 16 for k in range(16))]
    return combine(
        worlds.table(
            worlds.student(str(k), "standard", level, val_class_correct=correct)
            for k, (level, correct) in enumerate(zip(levels, counts, strict=False))
        )
    )


@settings(max_examples=150, deadline=None)
@given(
    counts=st.lists(st.lists(st.integers(0, 10), min_size=3, max_size=3), min_size=1, max_size=12),
    worst_k=st.integers(1, 3),
    margin=st.floats(-0.5, 1),
)
def test_a_margin_selects_what_the_selection_selects(
    counts: list[list[int]], worst_k: int, margin: float
) -> None:
    c = combinations_of(counts)
    selection = select(c, Constrained(worst_k))
    found = choices(selection)
    ends = [choice.margin for choice in found]
    for m in (margin, 0.0, 1.0, *ends, *(end - 1e-6 for end in ends)):
        chosen = [choice.index for choice in found if choice.margin <= m + 1e-12]
        wanted = select(c, Constrained(worst_k, max(-1.0, min(1.0, m))))
        assert wanted.feasible == bool(chosen)
        assert wanted.selected == chosen[-1] if chosen else m < found[0].margin


def test_there_is_no_step_that_changes_nothing() -> None:
    rows = worlds.sweep(seeds=2, images=200, recall=worlds.trading)
    c = combine(worlds.table(row for row in rows if row["stage"] == "student"))
    found = choices(select(c))
    indices = [choice.index for choice in found]
    assert len(indices) > 2
    assert len(set(indices)) == len(indices)
    margins = [choice.margin for choice in found]
    assert margins == sorted(margins)


def test_the_slider_reaches_every_step() -> None:
    rows = worlds.sweep(seeds=2, images=200, recall=worlds.trading)
    c = combine(worlds.table(row for row in rows if row["stage"] == "student"))
    selection = select(c)
    found = choices(selection)
    positions = slider(selection, found)
    at = positions.step / 100 * np.arange(positions.first, positions.last + 1)
    assert (found[0].margin <= at + 1e-12).all()
    assert found[-1].margin <= at[-1] + 1e-12
    assert at[-1] >= selection.margin[selection.selected]
    assert at[0] <= 0 < at[-1]
    assert at[0] < found[0].margin + positions.step / 100


@pytest.mark.parametrize(
    "rule",
    [
        Constrained(2, errors=2.0),
        Constrained(keep="balanced", reference="best"),
        Constrained(reference=0.9, group=Group("rare", (0, 1))),
        Constrained(tolerance=0.02),
    ],
    ids=["worst-2", "balanced", "group", "tolerance"],
)
def test_the_slider_has_the_selections_own_objective_and_constraint(rule: Constrained) -> None:
    rows = worlds.sweep(seeds=2, images=200, recall=worlds.trading)
    students = worlds.table(row for row in rows if row["stage"] == "student")
    selection, _, _ = decide(combine(students), rule)
    found = choices(selection)
    assert len(found) > 1
    positions = slider(selection, found)
    for place in np.linspace(positions.first, positions.last, 8).round():
        margin = float(place) * positions.step / 100
        wanted, _, _ = decide(combine(students), replace(rule, margin=margin))
        chosen = [choice.index for choice in found if choice.margin <= margin + 1e-12]
        assert wanted.selected == chosen[-1]
        if rule.keep == "average":
            assert wanted.least_average == pytest.approx(asked(selection) - margin)
    assert (asked(selection) is None) == (rule.keep == "balanced")


def test_a_rule_without_a_margin_has_the_default_one_on_the_slider() -> None:
    rows = worlds.sweep(images=200, recall=worlds.trading)
    c = combine(worlds.table(row for row in rows if row["stage"] == "student"))
    selection = select(c, WeightedSum(1, 0.5))
    positions = slider(selection, choices(selection))
    assert positions.own is None
    assert positions.against == "standard distillation’s average"
    assert choices(selection) == choices(select(c, Constrained()))
