from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.runs.combinations import Combinations, HeldOut, combine
from analysis.selection import Selection, select
from analysis.selection.criteria import Constrained
from rkd_core.errors import UserError
from tests.analysis import worlds

IMAGES = 10
OBJECTIVES: tuple[Any, ...] = ("standard", "balanced", 0.0, 0.5, 1.0, "robust")


def choose(rows: list[worlds.Row], **options: Any) -> Selection:
    return select(combine(worlds.table(rows)), Constrained(**options))


def selected_runs(selection: Selection) -> list[str]:
    return selection.combinations.run_ids(selection.selected)


@st.composite
def grids(draw: st.DrawFn) -> list[worlds.Row]:
    """Draw cells of a small grid with some seeds each, and few images, so that ties are common."""
    cells = draw(
        st.lists(
            st.tuples(
                st.sampled_from(OBJECTIVES),
                st.sampled_from(OBJECTIVES),
                st.sampled_from((1.0, 2.0, 4.0)),
            ),
            unique=True,
            max_size=12,
        )
    )
    if not any(cell[:2] == ("standard", "standard") for cell in cells):
        cells.append(("standard", "standard", draw(st.sampled_from((1.0, 2.0)))))
    rows = []
    for teacher, student, temperature in cells:
        for seed in draw(st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True)):
            correct = draw(st.lists(st.integers(5, IMAGES), min_size=3, max_size=3))
            run_id = f"{teacher}|{student}|{temperature}|{seed}"
            rows.append(
                worlds.student(
                    run_id, teacher, student, temperature, seed=seed, val_class_correct=correct
                )
            )
    return draw(st.permutations(rows))


def by_hand(rows: list[worlds.Row], worst_k: int, margin: float | None) -> tuple[set[str], bool]:
    """Apply the rule in exact arithmetic to plain lists from the records."""
    cells: dict[tuple, list[worlds.Row]] = {}
    for row in rows:
        names = ("teacher_objective", "alpha_t", "student_objective", "alpha_s", "temperature")
        cells.setdefault(tuple(row[name] for name in names), []).append(row)

    def average(row: worlds.Row) -> Fraction:
        return Fraction(sum(row["val_class_correct"]), sum(row["val_class_total"]))

    def worst(row: worlds.Row) -> Fraction:
        pairs = zip(row["val_class_correct"], row["val_class_total"], strict=True)
        return sum(sorted(Fraction(c, n) for c, n in pairs)[:worst_k]) / Fraction(worst_k)

    def mean(values: list[Fraction]) -> Fraction:
        return sum(values) / Fraction(len(values))

    def variance_of_mean(runs: list[worlds.Row]) -> Fraction:
        values = [average(run) for run in runs]
        if len(values) == 1:
            images = sum(runs[0]["val_class_total"])
            none_or_all = values[0] in (0, 1)
            return (
                Fraction(1, 2 * (images + 1)) ** 2
                if none_or_all
                else values[0] * (1 - values[0]) / images
            )
        squares = sum((v - mean(values)) ** 2 for v in values)
        return squares / (len(values) - 1) / len(values)

    averages = {key: mean([average(r) for r in runs]) for key, runs in cells.items()}
    worsts = {key: mean([worst(r) for r in runs]) for key, runs in cells.items()}

    def rank(key: tuple) -> tuple:
        def alpha(objective: str, value: float | None) -> float:
            return {"standard": -1.0, "balanced": 0.0, "robust": 1.0}.get(objective, value)

        order = ["standard", "balanced", "tradeoff", "robust"]
        names = (order.index(key[0]), order.index(key[2]))
        alphas = (alpha(key[0], key[1]), alpha(key[2], key[3]))
        return (key[4], *alphas, *names)

    def first(keys: list[tuple]) -> tuple:
        return min(keys, key=lambda k: (-worsts[k], -averages[k], rank(k)))

    reference = first([k for k in cells if k[0] == "standard" and k[2] == "standard"])
    feasible = []
    for key, runs in cells.items():
        if margin is not None:
            given_up = Fraction(margin).limit_denominator(1000)
        else:
            both = variance_of_mean(runs) + variance_of_mean(cells[reference])
            given_up = Fraction(math.sqrt(both)) + Fraction(1, 10**12)
        if averages[key] >= averages[reference] - given_up:
            feasible.append(key)
    best = first(feasible) if feasible else min(cells, key=lambda k: (-averages[k], rank(k)))
    return {run["run_id"] for run in cells[best]}, bool(feasible)


def test_runners_up_are_the_next_best_admitted_ones() -> None:
    counts = {"standard": [8, 8], 0.0: [9, 9], 0.5: [9, 8], 1.0: [5, 10]}
    rows = [worlds.student(str(s), student=s, val_class_correct=n) for s, n in counts.items()]
    selection = choose(rows, margin=0.0)  # the last one is not admitted
    assert selected_runs(selection) == ["0.0"]
    found = [selection.combinations.run_ids(place) for place in selection.runners_up]
    assert found == [["0.5"], ["standard"]]
    assert selection.runner_up == selection.runners_up[0]
    alone = choose(rows[:1])
    assert (alone.runners_up, alone.runner_up) == ((), None)


@settings(deadline=None, max_examples=300)
@given(grids(), st.integers(1, 3), st.sampled_from((None, 0.0, 0.05, 0.2, -0.05, -0.5)))
def test_it_is_what_the_rule_gives_by_hand(
    rows: list[worlds.Row], worst_k: int, margin: float | None
) -> None:
    selection = choose(rows, worst_k=worst_k, margin=margin)
    runs, feasible = by_hand(rows, worst_k, margin)
    assert set(selected_runs(selection)) == runs
    assert selection.feasible == feasible
    assert bool(selection.admitted[selection.selected]) == feasible


@settings(deadline=None, max_examples=50)
@given(grids(), st.data())
def test_no_test_column_can_change_the_choice(rows: list[worlds.Row], data: st.DataObject) -> None:
    before = choose(rows)
    changed = []
    for row in rows:
        correct = data.draw(st.lists(st.integers(0, IMAGES), min_size=3, max_size=3))
        columns = {"test_class_correct": correct, "test_average_accuracy": 1.0}
        changed.append({**row, **columns, "test_worst_class_accuracy": 0.0})
    after = choose(changed)
    assert selected_runs(after) == selected_runs(before)
    assert after.frontier.tolist() == before.frontier.tolist()
    # It does not even need the columns to be there.
    table = worlds.table(rows)
    blind = table.drop_columns([name for name in table.column_names if "test" in name])
    assert selected_runs(select(combine(blind))) == selected_runs(before)


def test_the_input_of_the_selection_has_no_test_column() -> None:
    names = {field.name for kind in (Combinations, Selection) for field in dataclasses.fields(kind)}
    assert not [name for name in names if "test" in name or "held" in name]
    rows = [worlds.student("a", test_class_correct=[3, 3], test_class_total=[777, 777])]
    combinations = combine(worlds.table(rows))
    values = [getattr(combinations, field.name) for field in dataclasses.fields(combinations)]
    assert not any(isinstance(value, HeldOut | pa.Table) for value in values)
    assert not any("777" in str(value) for value in values)


def test_the_order_of_the_records_does_not_matter() -> None:
    rows = worlds.sweep(seeds=3, images=40)
    students = [row for row in rows if row["stage"] == "student"]
    assert selected_runs(choose(students)) == selected_runs(choose(students[::-1]))


def test_standard_distillation_is_taken_at_its_best_temperature() -> None:
    rows = [
        worlds.student("high", temperature=1.0, val_class_correct=[10, 6]),
        worlds.student("low", temperature=3.0, val_class_correct=[8, 7]),
        worlds.student("other", student=0.5, val_class_correct=[9, 8]),
    ]
    selection = choose(rows, margin=0.0)
    assert selection.combinations.run_ids(selection.reference) == ["low"]
    assert selected_runs(selection) == ["other"]


def test_the_default_margin_is_the_error_of_the_difference_of_each_candidate() -> None:
    rows = [
        worlds.student(f"s{seed}", seed=seed, val_class_correct=correct)
        for seed, correct in enumerate(([8, 6], [9, 7]))
    ]
    rows.append(worlds.student("one", student=1.0, val_class_correct=[8, 7]))
    selection = choose(rows)
    reference_se, single_se = 0.05, math.sqrt(0.75 * 0.25 / 20)
    assert selection.margin == pytest.approx(
        [math.hypot(reference_se, reference_se), math.hypot(reference_se, single_se)]
    )
    assert choose(rows, margin=0.01).margin == pytest.approx([0.01, 0.01])


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (("standard", 0.5, 1.0, [9, 7]), ("standard", 0.5, 2.0, [8, 7])),  # higher average
        ((1.0, 1.0, 1.0, [8, 7]), (0.0, 0.0, 2.0, [8, 7])),  # then lower temperature
        ((0.0, 1.0, 1.0, [8, 7]), (0.5, 0.0, 1.0, [8, 7])),  # then smaller alpha_t
        ((0.5, 0.0, 1.0, [8, 7]), (0.5, 0.5, 1.0, [8, 7])),  # then smaller alpha_s
        (("standard", 0.5, 1.0, [8, 7]), ("balanced", 0.5, 1.0, [8, 7])),  # standard first
        ((0.5, "standard", 1.0, [8, 7]), (0.5, 0.0, 1.0, [8, 7])),
        ((0.5, "balanced", 1.0, [8, 7]), (0.5, 0.25, 1.0, [8, 7])),  # balanced is alpha 0
        ((0.5, 0.5, 1.0, [8, 7]), (0.5, "robust", 1.0, [8, 7])),
    ],
)
def test_ties(better: tuple, worse: tuple) -> None:
    rows = [worlds.student("plain", val_class_correct=[6, 6])]
    for name, (t, s, temperature, correct) in (("z", better), ("a", worse)):
        rows.append(worlds.student(name, t, s, temperature, val_class_correct=correct))
    assert selected_runs(choose(rows)) == ["z"]


def test_a_tie_is_a_tie_however_the_seeds_are_added_up() -> None:
    values = ([7, 8, 9], [6, 6, 9], [9, 7, 8])
    rows = [worlds.student("plain", val_class_correct=[5, 5, 5])]
    for temperature, order in ((2.0, values), (1.0, values[::-1])):
        for seed, correct in enumerate(order):
            run_id = f"{temperature}-{seed}"
            rows.append(
                worlds.student(run_id, 0.5, 0.5, temperature, seed=seed, val_class_correct=correct)
            )
    assert selected_runs(choose(rows))[0] == "1.0-0"


def test_without_a_feasible_combination_the_highest_average_is_selected() -> None:
    rows = [
        worlds.student("plain", val_class_correct=[9, 7]),
        worlds.student("robust", student=1.0, val_class_correct=[7, 8]),
    ]
    selection = choose(rows, margin=-0.3)
    assert not selection.feasible
    assert not selection.admitted.any()
    assert selected_runs(selection) == ["plain"]


@pytest.mark.parametrize("cell", [("standard", 0.5), (0.5, "standard"), ("standard", "balanced")])
def test_without_standard_distillation_there_is_no_measure(cell: tuple) -> None:
    with pytest.raises(UserError, match="no completed run is standard distillation"):
        choose([worlds.student("a", *cell)])


def test_a_tuned_student_is_a_combination_and_never_what_is_measured_against() -> None:
    rows = [
        worlds.student("plain", val_class_correct=[6, 8]),
        worlds.student("tuned", val_class_correct=[9, 9], tuned="learning_rate 0.3"),
        worlds.student("robust", student=1.0, val_class_correct=[7, 7]),
        worlds.student("again", student=1.0, val_class_correct=[7, 9], tuned="learning_rate 0.3"),
    ]
    rows = [row | {"val_class_total": [10, 10]} for row in rows]
    found = select(combine(worlds.table(rows)))
    c = found.combinations
    assert len(c) == 4
    assert c.run_ids(found.reference) == ["plain"]
    assert c.run_ids(found.selected) == ["tuned"]
    assert c.aside(found.selected) == " (learning_rate 0.3)"
    assert c.aside(found.reference) == ""
