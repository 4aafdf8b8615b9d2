from __future__ import annotations

import math
import statistics

import numpy as np
import pyarrow as pa
import pytest

from analysis.runs.columns import objective_names
from analysis.runs.combinations import Combinations, HeldOut, combine
from rkd_core.errors import UserError
from tests.analysis import worlds


def describe(c: Combinations, index: int) -> tuple[str, float, str, float, float]:
    return (
        objective_names()[c.teacher_objective[index]],
        c.alpha_t[index],
        objective_names()[c.student_objective[index]],
        c.alpha_s[index],
        c.temperature[index],
    )


def test_runs_are_grouped_by_settings_and_ordered_by_seed() -> None:
    rows = [
        worlds.student("d", 0.5, "standard", 2.0, seed=3, teacher_id="t3"),
        worlds.student("a", "standard", "standard", 2.0, seed=1, teacher_id="t1"),
        worlds.student("c", 0.5, "standard", 2.0, seed=1, teacher_id="t1"),
        worlds.student("b", "standard", "standard", 1.0, seed=1),
        worlds.student("e", 0.5, 0.5, 2.0, seed=1),
    ]
    c = combine(worlds.table(rows))
    assert [c.run_ids(i) for i in range(len(c))] == [["b"], ["a"], ["c", "d"], ["e"]]
    assert c.seed[c.runs(2)].tolist() == [1, 3]
    assert c.teacher_id[c.runs(2)].to_pylist() == ["t1", "t3"]
    assert describe(c, 3) == ("tradeoff", 0.5, "tradeoff", 0.5, 2.0)
    assert math.isnan(describe(c, 0)[1])
    assert c.only(2).run_ids(0) == ["c", "d"]


def test_combinations_are_listed_by_teacher_then_student_then_temperature() -> None:
    settings = [
        ("standard", "standard", 4.0),
        ("standard", 0.5, 1.0),
        ("standard", 0.5, 4.0),
        ("standard", "robust", 2.0),
        ("balanced", "standard", 1.0),
        (0.25, "standard", 9.0),
        (0.25, 1.0, 1.0),
        (0.5, "balanced", 0.5),
        ("robust", "standard", 0.5),
    ]
    rows = [worlds.student(str(i), *setting) for i, setting in enumerate(settings)]
    c = combine(worlds.table(rows[::-1]))
    assert c.run_id.to_pylist() == [str(i) for i in range(len(settings))]


def test_means_and_errors_over_seeds_against_the_statistics_module() -> None:
    counts = [[7, 3, 9], [8, 4, 10], [5, 5, 5]]
    rows = [
        worlds.student(str(i), seed=i, val_class_correct=counts[i], val_class_total=[10, 5, 20])
        for i in range(3)
    ]
    averages = [sum(c) / 35 for c in counts]
    recalls = [sorted(c / n for c, n in zip(row, (10, 5, 20), strict=True)) for row in counts]
    for k in (1, 2, 3):
        means = combine(worlds.table(rows)).means(k)
        worst = [sum(r[:k]) / k for r in recalls]
        assert means.average[0] == pytest.approx(statistics.mean(averages))
        assert means.average_se[0] == pytest.approx(statistics.stdev(averages) / 3**0.5)
        assert means.worst_k[0] == pytest.approx(statistics.mean(worst))
        assert means.worst_k_se[0] == pytest.approx(statistics.stdev(worst) / 3**0.5)


def test_a_single_seed_has_the_binomial_error_even_beside_several() -> None:
    rows = [
        worlds.student("a", val_class_correct=[8, 4], val_class_total=[10, 10]),
        worlds.student("b", student=0.5, seed=0, val_class_correct=[9, 4]),
        worlds.student("c", student=0.5, seed=1, val_class_correct=[9, 6]),
    ]
    means = combine(worlds.table(rows)).means()
    assert means.average_se[0] == pytest.approx(math.sqrt(0.6 * 0.4 / 20))
    assert math.isnan(means.worst_k_se[0])
    assert means.average_se[1] == pytest.approx(0.05)
    assert means.worst_k_se[1] == pytest.approx(0.1)


def test_an_absent_class_takes_no_part() -> None:
    rows = [
        worlds.student("a", val_class_correct=[8, 0, 6], val_class_total=[10, 0, 10]),
        worlds.student("b", seed=1, val_class_correct=[8, 0, 4], val_class_total=[10, 0, 10]),
    ]
    c = combine(worlds.table(rows))
    assert c.means().worst_k[0] == pytest.approx(0.5)
    np.testing.assert_allclose(c.mean_recalls(), [0.8, np.nan, 0.5])
    with pytest.raises(UserError, match="from 1 to the 2 classes present, not 3"):
        c.means(3)


@pytest.mark.parametrize("worst_k", [0, -1, 3])
def test_worst_k_out_of_range(worst_k: int) -> None:
    with pytest.raises(UserError, match=f"1 to the 2 classes present, not {worst_k}"):
        combine(worlds.table([worlds.student("a")])).means(worst_k)


def test_two_runs_of_one_combination_and_seed_are_named() -> None:
    rows = [worlds.student("one", 0.5, 0.5), worlds.student("two", 0.5, 0.5)]
    with pytest.raises(UserError, match="runs one and two have the same combination and seed"):
        combine(worlds.table(rows))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"val_class_correct": None}, "record b is completed but has no val_class_correct"),
        ({"seed": None}, "record b is completed but has no seed"),
        ({"val_class_correct": [1], "val_class_total": [2]}, "record b has 1 classes"),
        ({"val_class_correct": [11, 1]}, "record b is not sound"),
        ({"val_class_correct": [None, 1]}, "record b is not sound"),
        ({"val_class_total": [0, 0], "val_class_correct": [0, 0]}, "record b is not sound"),
        ({"teacher_objective": "robsut"}, "record b has teacher_objective robsut"),
    ],
)
def test_a_record_that_is_not_sound_is_named(columns: dict, message: str) -> None:
    broken = {**worlds.student("b", student=0.5), **columns}
    with pytest.raises(UserError, match=message):
        combine(worlds.table([worlds.student("a"), broken]))


@pytest.mark.parametrize(
    "columns",
    [
        {"temperature": float("inf")},
        {"temperature": float("nan")},
        {"alpha_s": -1.0},
        {"val_class_correct": [0], "val_class_total": [2**62]},
        {"val_class_correct": [], "val_class_total": []},
    ],
)
def test_numbers_that_no_run_can_have(columns: dict) -> None:
    row = worlds.student("a") | columns
    with pytest.raises(UserError, match="record a "):
        combine(worlds.table([row]))


def test_held_out_figures_are_found_by_run_id_in_any_order() -> None:
    rows = [
        worlds.student("a", seed=0, test_class_correct=[1, 9]),
        worlds.student("b", seed=1, test_class_correct=[3, 9]),
        worlds.student("c", student=0.5, test_class_correct=[6, 7]),
    ]
    c = combine(worlds.table(rows))
    held_out = HeldOut.of(worlds.table(reversed(rows)))
    means = held_out.means(c)
    np.testing.assert_allclose(means.worst_k, [0.2, 0.6])
    np.testing.assert_allclose(means.average, [0.55, 0.65])
    np.testing.assert_allclose(held_out.mean_recalls(c.only(0)), [0.2, 0.9])
    with pytest.raises(KeyError):
        HeldOut.of(worlds.table(rows[:1])).means(c)


def test_methods_are_grouped_by_what_they_are_called() -> None:
    rows = [
        worlds.variant("d1", "kd", seed=1),
        worlds.variant("b", "dkd (others_weight 8)"),
        worlds.variant("a", "dkd (others_weight 2)"),
        worlds.variant("d0", "kd", seed=0),
        worlds.variant("e", "one_hot", None, teacher_id=None),
        worlds.student("grid", 0.5, 0.5),
    ]
    c = combine(worlds.table(rows))
    assert [c.run_ids(i) for i in range(len(c))] == [["grid"], ["a"], ["b"], ["d0", "d1"], ["e"]]
    assert c.variant.to_pylist()[:2] == [None, "dkd (others_weight 2)"]
    with pytest.raises(UserError, match="same combination and seed"):
        combine(worlds.table([rows[0], worlds.variant("again", "kd", seed=1)]))


def test_grouping_copies_the_columns_once() -> None:
    counts = {"val_class_total": [50] * 200, "val_class_correct": [40] * 200}
    rows = [worlds.student(f"{i}", 0.5, 0.5, seed=i) | counts for i in range(500)]
    table = worlds.table(rows)
    table = pa.concat_tables([table.slice(0, 250), table.slice(250)])
    size = table.select(list(counts)).nbytes
    pool, before = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        assert len(combine(table)) == 1
    finally:
        pa.set_memory_pool(before)
    assert size < pool.max_memory() < 1.5 * size


def test_counted_averages_take_the_images_of_all_seeds_as_independent() -> None:
    """Two seeds of 20 images at 0.6 and 0.7; three that are all correct; one that is at 0.35."""
    seeds = {
        "standard": ([8, 4], [9, 5]),
        0.0: ([10, 10], [10, 10], [10, 10]),
        0.5: ([5, 2],),
    }
    rows = [
        worlds.student(f"{alpha}-{seed}", student=alpha, seed=seed, val_class_correct=correct)
        for alpha, runs in seeds.items()
        for seed, correct in enumerate(runs)
    ]
    average, error = combine(worlds.table(rows)).counted_average()
    assert average == pytest.approx([0.65, 1.0, 0.35])
    expected = [math.sqrt(0.65 * 0.35 / 40), 0.0, math.sqrt(0.35 * 0.65 / 20)]
    assert error == pytest.approx(expected)


def test_recalls_and_their_balanced_error_over_seeds() -> None:
    total = [10, 5, 20]
    counts = [[7, 3, 9], [8, 4, 10]]
    rows = [
        worlds.student(str(i), seed=i, val_class_correct=c, val_class_total=total)
        for i, c in enumerate(counts)
    ]
    c = combine(worlds.table(rows))
    np.testing.assert_allclose(c.share, [10 / 35, 5 / 35, 20 / 35])
    np.testing.assert_allclose(c.recalls(), [[0.75, 0.7, 0.475]])
    np.testing.assert_allclose(c.mean_recalls(), [0.75, 0.7, 0.475])
    balanced = [(0.7 + 0.6 + 0.45) / 3, (0.8 + 0.8 + 0.5) / 3]
    assert c.balanced_error() == pytest.approx([statistics.stdev(balanced) / 2**0.5])


def test_a_single_run_has_its_own_recalls_as_means() -> None:
    row = worlds.student("a", val_class_correct=[8, 0, 6], val_class_total=[10, 0, 10])
    np.testing.assert_allclose(combine(worlds.table([row])).mean_recalls(), [0.8, np.nan, 0.6])


def test_no_records_are_no_combinations() -> None:
    c = combine(worlds.table([]))
    assert len(c) == 0
    assert c.seeds.tolist() == []
    means = c.means()
    assert [means.average.size, means.average_se.size, means.worst_k.size] == [0, 0, 0]


def test_recipes_of_their_own_come_after_the_sweeps_in_alphabetical_order() -> None:
    tuned = ["c", None, "a", "d", "b"]
    rows = [worlds.student(str(name), 0.5, 0.5, tuned=name) for name in tuned]
    c = combine(worlds.table(rows))
    assert c.tuned.to_pylist() == [None, "a", "b", "c", "d"]
    assert c.run_id.to_pylist() == ["None", "a", "b", "c", "d"]


def test_a_method_with_and_without_a_temperature_is_two_combinations() -> None:
    rows = [worlds.variant("with", "kd", 1.0), worlds.variant("without", "kd", None)]
    c = combine(worlds.table(rows))
    assert [c.run_ids(i) for i in range(len(c))] == [["without"], ["with"]]


def test_of_many_runs_the_two_that_are_the_same_are_named() -> None:
    rows = [worlds.student(str(i), 0.5, 0.5, seed=i) for i in range(5)]
    rows[3] = worlds.student("again", 0.5, 0.5, seed=2)
    with pytest.raises(UserError, match="runs 2 and again have the same combination and seed"):
        combine(worlds.table(rows))


def test_the_frontier_is_what_no_other_beats_in_both() -> None:
    """Draw low, wide and tied points of (average, worst class), each of 10 images a class."""
    points = {
        "standard": [10, 6],  # 0.8, 0.6
        0.0: [7, 7],  # 0.7, 0.7
        0.25: [7, 6],  # 0.65, 0.6: beaten by both
        0.5: [9, 7],  # 0.8, 0.7: beats both
        0.75: [10, 8],  # 0.9, 0.8: beats all
        1.0: [9, 9],  # 0.9, 0.9: beats that
    }
    rows = [worlds.student(str(a), student=a, val_class_correct=p) for a, p in points.items()]
    c = combine(worlds.table(rows))
    found = [c.run_ids(int(i))[0] for i in c.means().frontier()]
    assert found == ["1.0"]
    c = combine(
        worlds.table([*rows[:2], worlds.student("b", student=1.0, val_class_correct=[5, 8])])
    )
    found = [c.run_ids(int(i))[0] for i in c.means().frontier()]
    assert found == ["0.0", "standard"]  # from low average to high
