"""The selected student against the best one without a teacher."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from analysis.selection import undistilled as module
from analysis.selection.criteria import Constrained, Criterion, Floors, Lexicographic, WeightedSum
from analysis.selection.outcome import Outcome, assess
from analysis.selection.undistilled import Undistilled
from analysis.views.distillation_gain import distillation_gain
from analysis.views.selection_json import document
from analysis.views.tables import methods, undistilled
from tests.analysis import worlds
from tests.analysis.views.test_figures_and_tables import printed, runs_of

CLASSES = 6


def grid(seeds: int = 2, images: int = 200) -> list[worlds.Row]:
    sweep = {"seeds": seeds, "images": images, "classes": CLASSES, "recall": worlds.trading}
    return worlds.sweep(("standard", 0.0, 1.0), ("standard", 0.0, 1.0), (1.0, 3.0), **sweep)  # type: ignore[arg-type]


def alone(
    accuracies: dict[float | None, tuple[float, float]], seeds: int = 2, images: int = 200
) -> list[worlds.Row]:
    """Students without a teacher by alpha, with these average and worst-class accuracies."""
    rng, rows = np.random.default_rng(7), []
    for alpha, of_alpha in accuracies.items():
        objective = {} if alpha is None else {"student_objective": "tradeoff", "alpha_s": alpha}
        for seed in range(seeds):
            counts = worlds.draw(rng, *of_alpha, images, CLASSES)
            rows.append(
                worlds.variant(f"alone-{alpha}-{seed}", "one_hot", None, teacher_id=None, seed=seed,
                               dataset="cifar10", **objective, **counts)
            )  # fmt: skip
    return rows


def truth(accuracies: tuple[float, float]) -> tuple[float, float]:
    """The average and worst-class accuracy that counts are drawn with."""
    many = worlds.draw(np.random.default_rng(0), *accuracies, 10**9, CLASSES)
    recalls = np.array(many["val_class_correct"]) / 10**9
    return float(recalls.mean()), float(recalls.min())


WORSE = {None: (0.75, 0.5), 0.0: (0.8, 0.65), 1.0: (0.7, 0.6)}
BETTER = {None: (0.95, 0.6), 0.0: (0.96, 0.9), 1.0: (0.9, 0.9)}


def compared(
    rows: list[worlds.Row], rule: Criterion | None = None, **options: Any
) -> tuple[Outcome, Undistilled]:
    outcome = assess(runs_of(rows), rule, **options)
    assert outcome.undistilled is not None
    return outcome, outcome.undistilled


def test_the_gain_of_distillation_has_an_interval() -> None:
    outcome, found = compared([*grid(), *alone(WORSE)])
    s = outcome.selection
    assert found.combinations.alpha_s[found.best] == 0.0
    assert (found.admitted, found.preferred) == (False, False)  # its average is too low
    assert found.gain is not None
    setting = [
        worlds.amount("standard" if np.isnan(alpha[s.selected]) else alpha[s.selected])
        for alpha in (s.combinations.alpha_t, s.combinations.alpha_s)
    ]
    reached = truth(worlds.trading(*setting, s.combinations.temperature[s.selected]))
    for gain, here, there in zip(
        (found.gain.average, found.gain.worst_k), reached, truth(WORSE[0.0]), strict=True
    ):
        assert gain.low < gain.value < gain.high
        assert gain.low < here - there < gain.high
    text = distillation_gain(outcome)
    assert text.startswith("Training without a teacher (α_s = 0) reaches ")
    assert "less than the rule demands. Distillation gains +" in text
    screen = printed(outcome)
    assert " ".join(text.split()) in " ".join(screen.split())
    (row,) = [line for line in screen.splitlines() if " none " in line]
    assert "α 0 " in row
    assert "one_hot" not in screen
    m, i = found.test, found.best
    figures = f"worst class {m.worst_k[i]:.1%}, average {m.average[i]:.1%} on test"
    line = f"Without a teacher, the same network (α_s = 0): {figures}, but violates the constraint"
    gain = f"; distillation gains +{100 * found.gain.worst_k.value:.1f} points (+"
    (shown,) = [
        shown
        for shown in printed(outcome, verbose=False, width=250).splitlines()
        if shown.startswith(line + gain)
    ]
    assert shown.endswith(", estimated from validation)")


def test_a_better_one_is_said_to_be() -> None:
    rows = [*grid(), *alone(BETTER)]
    outcome, found = compared(rows)
    assert (found.admitted, found.preferred) == (True, True)
    assert found.combinations.run_ids(found.best) == ["alone-0.0-0", "alone-0.0-1"]
    short = printed(outcome, verbose=False)
    assert "\nTraining without a teacher is as good or better by this rule" in short
    assert "violates" not in short
    assert "(α_s = 0) is as good or better by this rule: it reaches" in distillation_gain(outcome)
    content = document(outcome)["undistilled"]
    assert (content["best"], content["feasible"], content["preferred"]) == (1, True, True)
    assert content["gain"]["worst_k"]["high"] < 0
    assert content["expected"]["worst_k"] == pytest.approx(0.9, abs=0.03)
    students = [(row["student_objective"], row["alpha_s"]) for row in content["students"]]
    assert students == [("standard", None), ("tradeoff", 0.0), ("tradeoff", 1.0)]
    means = [row["test_worst_class_accuracy"] for row in content["students"]]
    for row, mean in zip(alone(BETTER)[::2], means, strict=True):
        seeds = [
            r for r in rows if r["run_id"].rpartition("-")[0] == row["run_id"].rpartition("-")[0]
        ]
        assert mean == pytest.approx(np.mean([r["test_worst_class_accuracy"] for r in seeds]))
    # As before, the standard one is listed with the other methods.
    assert [row["variant"] for row in document(outcome)["methods"]] == ["one_hot"]
    assert [row["method"] for row in methods(outcome).by_key()] == ["one_hot"]
    notes = [row["note"] for row in undistilled(outcome).by_key()]
    assert notes == ["", "best", ""]


@pytest.mark.parametrize(("average", "preferred"), [(0.98, True), (0.5, False)])
def test_if_none_is_feasible_the_nearer_one_is_preferred(average: float, preferred: bool) -> None:
    rows = [*grid(), *alone({None: (average, average - 0.02)})]
    outcome, found = compared(rows, Constrained(margin=-0.3))  # 30 points above the standard one
    assert not outcome.selection.feasible
    assert (found.admitted, found.preferred) == (False, preferred)


def test_the_selection_does_not_depend_on_it() -> None:
    before = assess(runs_of(grid()))
    after, _ = compared([*grid(), *alone(BETTER)])
    assert before.undistilled is None
    assert document(before)["undistilled"] is None
    assert distillation_gain(before) == ""
    for name in ("selected", "combinations", "prospects", "recommendation"):
        assert document(before)[name] == document(after)[name]
    assert " none " not in printed(before)


RULES: tuple[Criterion, ...] = (
    Constrained(margin=0.01),
    Constrained(keep="balanced", reference="best", margin=0.02),
    WeightedSum(weight=0.5),
    Lexicographic(tolerance=0.01),
    Floors({0: 0.5}, worlds.NAMES[:CLASSES]),
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.describe()["name"])
@pytest.mark.parametrize("estimate", ["raw", "shrunk"])
def test_every_rule(rule: Criterion, estimate: str) -> None:
    _, better = compared([*grid(), *alone(BETTER)], rule, estimate=estimate)
    assert (better.best, better.admitted, better.preferred) == (1, True, True)
    _, worse = compared(
        [*grid(), *alone({None: (0.7, 0.3), 1.0: (0.6, 0.2)})], rule, estimate=estimate
    )
    assert (worse.best, worse.preferred) == (0, False)


def test_without_an_estimate_the_counts_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 5)
    outcome, found = compared([*grid(), *alone(BETTER)])
    assert (found.gain, found.gain_on_standard, found.preferred) == (None, None, True)
    assert found.worst_k == pytest.approx(found.val.worst_k[found.best])
    assert distillation_gain(outcome).endswith("average accuracy.")
    assert document(outcome)["undistilled"]["gain"] is None
    assert " none " in printed(outcome)


def test_a_single_student_without_a_teacher_of_an_earlier_version() -> None:
    outcome, found = compared([*grid(seeds=1), *alone({None: (0.92, 0.5)}, seeds=1)])
    assert (len(found.combinations), found.best) == (1, 0)
    assert "(standard student) reaches" in distillation_gain(outcome)


def test_equal_counts_are_as_good() -> None:
    rows = grid()
    outcome = assess(runs_of(rows), estimate="raw")
    s = outcome.selection
    twins = []
    for seed, run_id in enumerate(s.combinations.run_ids(s.selected)):
        (row,) = [row for row in rows if row["run_id"] == run_id]
        counts = {name: row[name] for name in row if "_class_" in name and "accuracy" not in name}
        twins.append(
            worlds.variant(f"twin-{seed}", "one_hot", None, teacher_id=None, seed=seed, **counts)
        )
    _, found = compared([*rows, *twins], estimate="raw")
    assert (found.admitted, found.preferred) == (True, True)


def shifted(rows: list[worlds.Row], gain: int) -> pa.Table:
    """The students with a shift by which the first class has more correct images."""
    moved = []
    for row in rows:
        if row["stage"] == "student":
            counts = {
                f"{s}_class_correct": list(row[f"{s}_class_correct"]) for s in ("val", "test")
            }
            for correct in counts.values():
                correct[0] += gain
            moved.append({**row, **counts})
    table = worlds.table(moved)
    return table.append_column("shift", pa.array(np.full(len(table), 0.5)))


def test_both_may_be_shifted() -> None:
    own, rows = alone({None: (0.93, 0.6), 1.0: (0.93, 0.6)}), grid()
    table = pa.concat_tables([shifted(rows, 4), shifted(own, 50)])
    runs = replace(runs_of([*rows, *own]), shifted=table)
    before, outcome = assess(replace(runs_of(rows), shifted=shifted(rows, 4))), assess(runs)
    found = outcome.undistilled
    assert found is not None
    assert document(before)["selected"] == document(outcome)["selected"]
    assert len(found.combinations) == 4
    assert found.combinations.shift[found.best] == 0.5
    run_ids = found.combinations.run_ids(found.best)
    tests = [row for row in shifted(own, 50).to_pylist() if row["run_id"] in run_ids]
    worst = [min(c / t for c, t in zip(r["test_class_correct"], r["test_class_total"], strict=True))
             for r in tests]  # fmt: skip
    assert found.test.worst_k[found.best] == pytest.approx(np.mean(worst))
    assert found.gain is not None
    value = outcome.selection.seen.means.worst_k[outcome.selection.selected] - found.worst_k
    assert value == pytest.approx(found.gain.worst_k.value)
    assert ", shifted 0.5) " in distillation_gain(outcome)
    students = document(outcome)["undistilled"]["students"]
    assert [row["shift"] for row in students] == [None, None, 0.5, 0.5]
    (row,) = [line for line in printed(outcome).splitlines() if " none " in line]
    assert "†" in row
    plain = assess(replace(runs, shifted=None)).undistilled
    assert plain is not None
    assert len(plain.combinations) == 2
