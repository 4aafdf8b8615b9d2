"""Reported uncertainty of a selection."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import analysis.select
from analysis.runs.combinations import Combinations, combine
from analysis.selection import effects, posterior, select, uncertainty
from analysis.selection.criteria import Constrained, Lexicographic, WeightedSum
from analysis.selection.uncertainty import choose, decide
from tests.analysis import worlds


def grid(**options: object) -> pa.Table:
    rows = worlds.sweep(**options)  # type: ignore[arg-type]
    return worlds.table(row for row in rows if row["stage"] == "student")


def sure_of(
    c: Combinations, **options: object
) -> tuple[uncertainty.Selection, uncertainty.Uncertainty]:
    selection, sure, unsaid = decide(c, **options)  # type: ignore[arg-type]
    assert unsaid == ""
    assert sure is not None
    return selection, sure


def test_it_is_the_same_each_time_and_adds_up() -> None:
    c = combine(grid(seeds=2, images=60))
    selection, sure = sure_of(c)
    again, same = sure_of(c)
    assert again.selected == selection.selected
    assert same.expected_regret == sure.expected_regret
    assert (same.probability_best == sure.probability_best).all()
    assert sure.probability_best.sum() == pytest.approx(1)
    assert sure.expected_regret >= 0
    low, high = sure.worst_k_interval
    assert ((low < sure.expected.worst_k) & (sure.expected.worst_k < high)).all()
    assert sure.worst_k_gain[:, selection.reference].tolist() == [0, 0]
    raw = selection.means.worst_k[selection.selected]
    assert raw - sure.optimism == pytest.approx(sure.corrected)


def test_expected_recalls_make_up_the_expected_average() -> None:
    c = combine(grid(seeds=2, images=60))
    selection, _ = sure_of(c)
    assert selection.seen.recalls @ c.share == pytest.approx(selection.seen.means.average)


def test_a_certain_selection_is_reported_as_certain() -> None:
    counts = {"standard": [8000, 5000], 0.5: [8000, 7000], 1.0: [7900, 3000]}
    total = {"val_class_total": [10000, 10000]}
    rows = [
        worlds.student(str(s), student=s, val_class_correct=correct, **total)
        for s, correct in counts.items()
    ]
    selection, sure = sure_of(combine(worlds.table(rows)), criterion=Constrained(margin=0.0))
    assert selection.combinations.run_ids(selection.selected) == ["0.5"]
    assert sure.probability_best[selection.selected] == 1
    assert sure.expected_regret == 0
    assert sure.corrected == pytest.approx(0.7, abs=0.01)
    low, high = sure.worst_k_gain[:, selection.selected]
    assert 0.18 < low < 0.2 < high < 0.22


def test_the_largest_of_many_that_are_alike_is_known_to_flatter() -> None:
    rng = np.random.default_rng(0)
    rows = [
        worlds.student(
            f"{t}-{s}", t, s, val_class_total=[200] * 5,
            val_class_correct=rng.binomial(200, 0.8, 5).tolist(),
        )
        for t in ("standard", *np.linspace(0, 1, 7)) for s in ("standard", *np.linspace(0, 1, 7))
    ]  # fmt: skip
    c = combine(worlds.table(rows))
    selection, sure = sure_of(c, estimate="raw")
    raw = selection.means.worst_k[selection.selected]
    assert sure.optimism > 0.3 * (raw - 0.8) > 0
    assert sure.corrected == pytest.approx(0.8, abs=0.025)
    low, high = sure.worst_k_interval
    assert ((low <= 0.8) & (high >= 0.77)).mean() > 0.9


@pytest.mark.parametrize(("untold", "least", "most"), [(0.0, 0.85, 0.95), (None, 0.9, 1.0)])
def test_intervals_have_the_stated_coverage(
    untold: float | None, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coverage holds for independent images; noise that one seed cannot reveal widens them."""
    if untold is not None:
        monkeypatch.setattr(posterior, "_UNTOLD", untold)
    covered = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        level = rng.normal(1.5, 0.5, 6)
        logits = level + 0.2 * rng.standard_normal((36, 1)) + 0.2 * rng.standard_normal((36, 6))
        recall = 1 / (1 + np.exp(-logits))
        rows = [
            worlds.student(
                str(i), ("standard", 0.0, 0.25, 0.5, 0.75, 1.0)[i // 6],
                ("standard", 0.0, 0.25, 0.5, 0.75, 1.0)[i % 6],
                val_class_total=[200] * 6, val_class_correct=rng.binomial(200, p).tolist(),
            )
            for i, p in enumerate(recall)
        ]  # fmt: skip
        c = combine(worlds.table(rows))
        _, sure = sure_of(c)
        truth = recall[[int(c.run_ids(i)[0]) for i in range(36)]].min(axis=1)
        low, high = sure.worst_k_interval
        covered.append(((low <= truth) & (truth <= high)).mean())
    assert least < np.mean(covered) < most


def test_nothing_of_the_size_of_all_classes_is_decomposed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Time grows with the number of classes, not with its cube."""
    decomposed: list[int] = []

    def watched(matrix: np.ndarray) -> Any:
        decomposed.append(matrix.shape[-1])
        return np.linalg.eigh(matrix)

    for module in (effects, posterior):
        monkeypatch.setattr(module, "eigh", watched)
    c = combine(grid(images=20, classes=60))
    _, sure = sure_of(c)
    assert decomposed
    assert max(decomposed) <= len(c) < 60
    assert np.isfinite(sure.corrected)


def test_with_one_seed_only_intervals_of_accuracies_are_widened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    c = combine(grid(images=60))
    _, wide = sure_of(c)
    monkeypatch.setattr(posterior, "_UNTOLD", 0.0)
    _, described = sure_of(c)
    assert wide.corrected == described.corrected
    assert wide.optimism == described.optimism
    assert (wide.worst_k_gain == described.worst_k_gain).all()
    assert (wide.probability_best == described.probability_best).all()
    # half of the noise of 600 images, beside what is not known of the average anyway
    common = 1.645 * np.sqrt(
        0.5 * described.expected.average * (1 - described.expected.average) / 600
    )
    half = [(each[1] - each[0]) / 2 for each in (wide.average_interval, described.average_interval)]
    assert half[0] == pytest.approx(np.hypot(half[1], common), rel=0.15)
    assert np.mean(wide.worst_k_interval[1] - wide.worst_k_interval[0]) > 1.1 * np.mean(
        described.worst_k_interval[1] - described.worst_k_interval[0]
    )
    assert ((wide.worst_k_interval >= 0) & (wide.worst_k_interval <= 1)).all()


@pytest.mark.parametrize("criterion", [WeightedSum(1, 0.3), Lexicographic(1, tolerance=0.01)])
def test_any_criterion_will_do(criterion: uncertainty.Criterion) -> None:
    selection, sure = sure_of(combine(grid(images=60)), criterion=criterion)
    assert sure.probability_admitted.tolist() == [1] * len(selection.combinations)
    assert 0 < sure.corrected < 1


def test_too_many_combinations_get_no_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uncertainty, "MOST", 10)
    selection, sure, unsaid = decide(combine(grid()))
    assert sure is None
    assert unsaid == "no intervals for 32 combinations, more than 10"
    assert selection.seen.estimated is None


def test_the_module_is_the_function_it_is_named_for() -> None:
    table = grid(images=60)
    shrunk = analysis.select(table)  # type: ignore[operator]
    assert shrunk.seen.estimated is not None
    raw = analysis.select(table, Constrained(2, 0.01), "raw")  # type: ignore[operator]
    assert raw.criterion.worst_k == 2
    assert raw.seen.estimated is None


def test_where_nothing_will_do_nothing_is_best() -> None:
    selection, sure = sure_of(
        combine(grid(images=60)), criterion=Constrained(margin=0.0, reference=1.0)
    )
    assert not selection.feasible
    assert sure.probability_best.sum() == 0
    assert sure.expected_regret == 0


@pytest.mark.parametrize("combinations", [1, 2, 3, 12])
@pytest.mark.parametrize("classes", [1, 2])
def test_few_classes_and_few_combinations(classes: int, combinations: int) -> None:
    random = np.random.default_rng(0)
    rows = []
    for place in range(combinations):
        correct = random.integers(30, 50, classes).tolist()
        alpha = place / 12
        columns: dict[str, Any] = {
            "val_class_total": [50] * classes,
            "val_class_correct": correct,
        }
        student = "standard" if place == 0 else alpha
        rows.append(worlds.student(f"run-{place}", "standard", student, **columns))
    selection, sure, reason = decide(combine(worlds.table(rows)))
    assert (sure is not None) == (reason == "")
    if sure is not None:
        assert np.isfinite(sure.corrected)
        assert sure.interval[0] <= sure.corrected <= sure.interval[1]
        assert sure.probability_best.sum() == pytest.approx(1)
    assert 0 <= selection.selected < combinations


@pytest.mark.parametrize("estimate", ["raw", "shrunk"])
def test_the_choice_alone_is_the_same(estimate: uncertainty.Estimate) -> None:
    c = combine(grid(seeds=2, images=60))
    chosen, decided = choose(c, estimate=estimate), decide(c, estimate=estimate)[0]
    assert chosen.selected == decided.selected
    assert (chosen.shortfall == decided.shortfall).all()


def test_chances_and_regret_of_four_draws_by_hand() -> None:
    """The first combination, standard, has the lowest average; the second one is selected."""
    recalls = np.array(
        [
            [[0.8, 0.6], [0.9, 0.7], [0.6, 0.6]],  # the third is not admitted; the second is best
            [[0.8, 0.8], [0.9, 0.5], [0.9, 0.9]],  # the third is, with 0.9 rather than 0.5
            [[0.7, 0.5], [0.7, 0.6], [0.65, 0.65]],  # all are; the third has 0.65, not 0.6
            [[0.9, 0.8], [0.87, 0.82], [0.7, 0.7]],  # the first alone, with less than the second
        ]
    )
    counts = ("standard", [70, 60]), (0.5, [90, 80]), (1.0, [80, 70])
    rows = [
        worlds.student(str(s), student=s, val_class_total=[100] * 2, val_class_correct=correct)
        for s, correct in counts
    ]
    c = combine(worlds.table(rows))
    selection = select(c, Constrained(margin=0.0))
    assert (selection.reference, selection.selected) == (0, 1)
    fitted = posterior.fit(c)
    assert fitted is not None
    worst_k, average = recalls.min(axis=2), recalls.mean(axis=2)

    described = dataclasses.replace(fitted, untold=np.zeros(2))
    given = selection, selection.seen, selection.means, worst_k, average
    sure = uncertainty._assess(described, *given, [posterior.Draw(recalls, worst_k)])
    assert sure.probability_best.tolist() == [0.25, 0.25, 0.5]
    assert sure.probability_admitted.tolist() == [1, 0.5, 0.5]
    assert sure.probability_lower.tolist() == [0.75, 0, 0.5]  # than 0.7, 0.5, 0.6 and 0.82
    assert sure.expected_regret == pytest.approx((0 + 0.4 + 0.05 + 0) / 4)
    assert sure.corrected == pytest.approx((0.7 + 0.5 + 0.6 + 0.82) / 4)
    assert sure.optimism == pytest.approx(0.8 - 0.655)
    assert sure.expected.worst_k_se == pytest.approx(worst_k.std(axis=0))
    assert sure.expected.average_se == pytest.approx(average.std(axis=0))
    ends = [0.05, 0.95]
    assert sure.interval == pytest.approx(np.quantile(worst_k[:, 1], ends))
    gain = np.quantile(average - average[:, :1], ends, axis=0)
    assert sure.average_gain == pytest.approx(gain)
    gain = np.quantile(worst_k - worst_k[:, :1], ends, axis=0)
    assert sure.worst_k_gain == pytest.approx(gain)


def test_noise_that_one_seed_cannot_tell_widens_draws_and_leaves_their_means() -> None:
    c = combine(grid(images=60))
    selection = select(c)
    fitted = posterior.fit(c)
    assert fitted is not None
    assert fitted.untold.any()
    _, worst_k, average = uncertainty.expected_accuracies(
        fitted, selection.seen, selection.criterion
    )
    objective, recalls = worst_k[:, selection.selected], np.empty((len(worst_k), 10))
    described = uncertainty._Draws(worst_k, average, objective, recalls)
    wide = uncertainty._widened(fitted, selection, selection.seen, described)
    for name in ("worst_k", "average", "objective"):
        before, after = getattr(described, name), getattr(wide, name)
        assert after.mean(axis=0) == pytest.approx(before.mean(axis=0))
        assert (after.std(axis=0) > before.std(axis=0)).all()
    assert wide.objective == pytest.approx(wide.worst_k[:, selection.selected])
    assert wide.recalls.min(axis=1).mean() == pytest.approx(wide.objective.mean(), abs=0.05)
