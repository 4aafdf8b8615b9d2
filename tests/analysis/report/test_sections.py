"""Sections of the report against plain loops over the rows, also for older records."""

from __future__ import annotations

import json
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from analysis.report.buckets import buckets, gains, models, regularization
from analysis.report.grids import group_rows, nine
from analysis.report.history import history
from analysis.report.per_class import per_class
from analysis.report.teachers import teaching
from analysis.runs.loading import Runs, load
from analysis.selection.outcome import Outcome, assess
from tests.analysis import worlds
from tests.analysis.report.test_page import Reader, page_of, runs_of


def world(classes: int = 12) -> list[worlds.Row]:
    rows = worlds.sweep(
        ("standard", 0.0, 1.0), ("standard", 0.0, 1.0), (1.0, 3.0),
        seeds=2, images=100, classes=classes, recall=worlds.trading,
    )  # fmt: skip
    rows += [
        worlds.variant(f"alone-{seed}", "one_hot", None, teacher_id=None, seed=seed,
                       val_class_correct=[7] * classes, test_class_correct=[6] * classes)
        for seed in (0, 1)
    ]  # fmt: skip
    return worlds.measured(rows)


def assessed(rows: list[worlds.Row]) -> tuple[Outcome, Runs]:
    runs = runs_of(rows)
    return assess(runs), runs


def rows_of(outcome: Outcome, rows: list[worlds.Row], index: int) -> list[worlds.Row]:
    wanted = outcome.selection.combinations.run_ids(index)
    return [row for row in rows if row["run_id"] in wanted]


def recall(row: worlds.Row, split: str, k: int) -> float:
    return float(row[f"{split}_class_correct"][k] / row[f"{split}_class_total"][k])


def test_buckets_are_of_the_teachers_validation_and_show_test() -> None:
    rows = world()
    outcome, runs = assessed(rows)
    found = buckets(models(outcome, runs))
    assert found is not None
    taught = [
        row for row in rows if row["stage"] == "teacher" and row["teacher_objective"] == "standard"
    ]
    by_accuracy = sorted(
        range(12), key=lambda k: (-np.mean([recall(row, "val", k) for row in taught]), k)
    )
    assert found["sizes"] == [2, 2, 1, 1, 1, 1, 1, 1, 1, 1]
    selected = rows_of(outcome, rows, outcome.selection.selected)
    for key, value in (
        ("accuracy", lambda row, k: 100 * recall(row, "test", k)),
        ("log_loss", lambda row, k: row["test_class_log_loss"][k]),
        ("margin", lambda row, k: row["test_class_margin"][k]),
    ):
        lines = {line["key"]: line["y"] for line in found["figures"][key]["lines"]}
        assert set(lines) == {"selected", "standard", "teacher", "one_hot"}
        start = 0
        for place, size in enumerate(found["sizes"]):
            labels = by_accuracy[start : start + size]
            start += size
            wanted = np.mean([value(row, k) for k in labels for row in selected])
            assert lines["selected"][place] == pytest.approx(wanted, abs=1e-3)


def test_gains_are_of_each_ones_own_worst_classes() -> None:
    rows = world()
    outcome, runs = assessed(rows)
    found = gains(models(outcome, runs))
    assert found is not None
    lines = {line["key"]: line["y"] for line in found["lines"]}
    sides = [
        rows_of(outcome, rows, index)
        for index in (outcome.selection.selected, outcome.selection.reference)
    ]
    for k in range(1, 13):
        means = []
        for side in sides:
            worst = [sorted(recall(row, "test", c) for c in range(12))[:k] for row in side]
            means.append(np.mean(worst))
        assert lines["selected"][k - 1] == pytest.approx(100 * (means[0] - means[1]), abs=1e-2)
    assert len(lines["standard"]) == 12


def test_students_without_a_teacher_of_other_objectives_are_in_no_line() -> None:
    rows = world()
    more = [
        worlds.variant(f"other-{seed}", "one_hot", None, teacher_id=None, seed=seed, alpha_s=1.0,
                       student_objective="tradeoff", val_class_correct=[9] * 12,
                       test_class_correct=[9] * 12)
        for seed in (0, 1)
    ]  # fmt: skip
    before, after = (
        {model.key: model.table["run_id"].to_pylist() for model in models(*assessed(found))}
        for found in (rows, [*rows, *worlds.measured(more)])
    )
    assert before == after
    assert before["one_hot"] == ["alone-0", "alone-1"]


def test_regularization_samples_are_shares_by_training_images() -> None:
    rows = world()
    outcome, runs = assessed(rows)
    found = regularization(models(outcome, runs), outcome.setting.train_counts)
    train = rows[1]["train_class_total"]
    assert train == sorted(train, reverse=True)  # classes are in order of their buckets already
    cuts = [place * 12 // 10 for place in range(11)]
    for split, total in (("train", train), ("val", rows[1]["val_class_total"])):
        lines = {line["key"]: line["y"] for line in found[split]["lines"]}
        samples = rows[1][f"{split}_regularization_samples"]
        for place, (start, stop) in enumerate(pairwise(cuts)):
            wanted = 100 * sum(samples[start:stop]) / sum(total[start:stop])
            assert lines["standard"][place] == pytest.approx(wanted, abs=1e-3)


def test_the_nine_combinations_and_the_thirds() -> None:
    rows = world()
    outcome, _ = assessed(rows)
    tables = nine(outcome)
    assert [table.split for table in tables] == ["validation", "test"]
    assert tables[0].teachers == ("standard", "balanced", "robust")
    cells = [cell for _, line in tables[0].rows for cell in line if cell]
    assert len(cells) == 9
    assert (min(c.shade for c in cells), max(c.shade for c in cells)) == (0, 1)
    standard = tables[1].rows[0][1][0]
    assert standard is not None
    assert standard.worst == f"{100 * outcome.test.worst_k[outcome.selection.reference]:.1f}"
    thirds = group_rows(outcome)
    assert [(g.name, g.classes) for g in thirds] == [("head", 3), ("medium", 6), ("tail", 3)]
    plain = rows_of(outcome, rows, outcome.selection.reference)
    tail = np.mean([recall(row, "test", k) for row in plain for k in (9, 10, 11)])
    assert thirds[2].figures[3] == f"{100 * tail:.1f}"
    balanced = [{**row, "train_class_total": [50] * 12} for row in rows]
    assert group_rows(assessed(balanced)[0]) == []


def test_a_students_teacher_stands_beside_it() -> None:
    rows = world()
    outcome, _ = assessed(rows)
    found = per_class(outcome, [0, 3])
    selected = outcome.selection.selected
    teachers = {row["teacher_id"] for row in rows_of(outcome, rows, selected)}
    taught = [row for row in rows if row["run_id"] in teachers]
    shown = found["teachers"][str(found["teacher_of"][str(selected)])]
    for k in range(12):
        wanted = np.mean([recall(row, "test", k) for row in taught])
        assert shown["test"][k] == pytest.approx(wanted, abs=1e-4)


def test_the_teachers_table_has_what_records_have() -> None:
    full = teaching(*assessed(world()))
    assert full is not None
    assert full.calibrated
    assert {"lowest margin", "calibration error", "its noise floor", "in class"} <= {*full.columns}
    assert len(full.rows) == 3
    assert full.students == ("standard", "αₛ\u00a00", "αₛ\u00a01", "all")
    older = worlds.sweep(("standard", 0.0), ("standard",), (1.0,), images=100)
    short = teaching(*assessed(older))
    assert short is not None
    assert not short.calibrated
    assert short.columns[-1] == "average, test, %"
    assert short.correlated == ()
    assert teaching(*assessed([worlds.student("plain")])) is None


def test_the_sweep_is_identified_by_its_records_and_plan(tmp_path: Path) -> None:
    rows = worlds.measured(worlds.sweep(("standard",), ("standard", 0.5), (1.0,), images=50))
    for row in rows:
        row["versions"] = json.dumps({"python": "3.11.7", "torch": "2.11", "own": None})
    rows += [
        worlds.student(f"lost-{k}", 0.5, 0.5, status="failed", cause="CUDA out of memory")
        for k in range(3)
    ]
    worlds.write(tmp_path, rows)
    written = (worlds.EPOCH + timedelta(seconds=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    plan = {
        "command": ["sweeps/pareto.py", "--out", "a b"],
        "written_at": written,
        "run_ids": [row["run_id"] for row in rows],
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    found = history(load(tmp_path), tmp_path)
    assert found.command == "python sweeps/pareto.py --out 'a b'"
    facts = dict(found.lines)
    assert facts["Trained"] == "1 teacher and 2 students"
    assert facts["Did not complete"] == "3 runs"
    assert facts["Reused from before the last command"] == "1"
    assert facts["Training time, all together"] == "6 s"
    assert [(f.count, f.status, f.cause) for f in found.failures] == [
        (3, "failed", "CUDA out of memory")
    ]
    assert found.versions == ("python 3.11.7, torch 2.11",)


@pytest.mark.parametrize("plan", [None, "{", "[]", '{"command": 3, "written_at": "today"}'])
def test_an_unreadable_plan_is_ignored(tmp_path: Path, plan: str | None) -> None:
    if plan is not None:
        (tmp_path / "plan.json").write_text(plan, encoding="utf-8")
    runs = runs_of(worlds.sweep(("standard",), ("standard",), (1.0,)))
    found = history(runs, tmp_path)
    assert found.command == ""


def test_older_records_leave_sections_out(tmp_path: Path) -> None:
    older = worlds.sweep(("standard",), ("standard", 0.5), (1.0,))
    text = " ".join(Reader(page_of(older, tmp_path)).text)
    assert "The k worst classes" in text
    for words in (
        "Regularization samples",
        "Head, medium and tail",
        "calibration",
        "predict the worst-class",
    ):
        assert words not in text
    text = " ".join(Reader(page_of(world(), tmp_path)).text)
    for words in ("Regularization samples", "Head, medium and tail", "calibration error"):
        assert words in text
