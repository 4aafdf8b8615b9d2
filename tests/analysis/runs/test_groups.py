"""Accuracies of head, medium and tail, in the file and in the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.report.grids import group_rows
from analysis.views.selection_json import document, write_json
from analysis.views.tables import sheets
from rkd_core.metrics.class_groups import DEFINITION
from tests.analysis import worlds
from tests.analysis.views.test_figures_and_tables import outcome_of, printed, runs_of, small_world


def long_tailed(rows: list[worlds.Row], counts: list[int]) -> list[worlds.Row]:
    return [row | {"train_class_total": counts} for row in rows]


def test_the_file_has_the_accuracies_of_groups_of_classes() -> None:
    """Compare with loops over the records: a group's accuracy is the mean recall of its classes."""
    counts = [5, 1280, 19, 100, 101, 20, 7, 30, 300, 9]
    rows = long_tailed(worlds.sweep(("standard", 0.5), ("standard", 0.5), (1.0,), seeds=3), counts)
    for row in rows:  # the last class has no validation image
        for column in ("val_class_total", "val_class_correct"):
            row[column] = [*row[column][:9], 0]
    content = document(outcome_of(rows))
    names = worlds.NAMES
    wanted = {
        "head_medium_tail": {"head": [1, 8, 4], "medium": [3, 7, 5, 2], "tail": [9, 6, 0]},
        "many_medium_few": {"many": [1, 8, 4], "medium": [3, 7, 5], "few": [2, 9, 6, 0]},
    }
    assert content["class_groups"] == {
        grouping: {group: [names[label] for label in labels] for group, labels in groups.items()}
        for grouping, groups in wanted.items()
    }
    for which in ("selected", "standard_distillation"):
        figures = content[which]
        runs = [row for row in rows if row["run_id"] in figures["run_ids"]]
        assert len(runs) == 3
        for split in ("val", "test"):
            for grouping, groups in wanted.items():
                for group, labels in groups.items():
                    recalls = [
                        row[f"{split}_class_correct"][label] / row[f"{split}_class_total"][label]
                        for row in runs
                        for label in labels
                        if row[f"{split}_class_total"][label]
                    ]
                    shown = figures[f"{split}_group_accuracies"][grouping][group]
                    assert shown == pytest.approx(sum(recalls) / len(recalls), abs=1e-12)


def test_an_absent_group_is_null_in_the_file_and_a_dash_in_the_table(tmp_path: Path) -> None:
    counts = {"val_class_total": [10, 10, 10, 0], "val_class_correct": [9, 9, 7, 0]}
    counts |= {"test_class_total": [10] * 4, "test_class_correct": [9, 9, 7, 5]}
    better = counts | {"val_class_correct": [9, 9, 8, 0]}
    rows = [worlds.student("plain", **counts), worlds.student("other", student=0.5, **better)]
    outcome = outcome_of(long_tailed(rows, [500, 90, 50, 5]))
    content = document(outcome)
    write_json(tmp_path / "selection.json", content)
    by_group = content["selected"]["val_group_accuracies"]
    assert by_group["head_medium_tail"] == pytest.approx(
        {"head": 0.9, "medium": 0.85, "tail": None}
    )
    assert by_group["many_medium_few"]["few"] is None
    (tail,) = [line for line in printed(outcome).splitlines() if line.startswith("  tail")]
    assert tail.split() == ["tail", "1", "5", "—", "50.0", "→", "50.0", "(±0.0)"]


def test_the_table_shows_groups_where_the_training_set_is_long_tailed() -> None:
    all_or_nothing = [
        {f"{split}_class_correct": [correct] * 10 for split in ("val", "test")}
        for correct in (0, 10)
    ]
    rows = [
        worlds.student("plain", **all_or_nothing[0]),
        worlds.student("better", student=0.5, **all_or_nothing[1]),
    ]
    counts = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    lines = printed(outcome_of(long_tailed(rows, counts))).splitlines()
    assert max(len(line) for line in lines) <= 80
    at = next(i for i, line in enumerate(lines) if line.startswith("  group"))
    change = ["0.0", "→", "100.0", "(+100.0)"]
    assert [line.split() for line in lines[at + 1 : at + 4]] == [
        ["head", "3", "5,000", "to", "1,796", *change, *change],
        ["medium", "4", "1,077", "to", "232", *change, *change],
        ["tail", "3", "139", "to", "50", *change, *change],
    ]


def test_the_table_shows_no_groups_without_a_long_tail_or_counts() -> None:
    rows = small_world()
    plain = printed(outcome_of(rows))
    for counts in ([10, 7, 5], [10, 5], [10, 5, None], None):
        assert printed(outcome_of([row | {"train_class_total": counts} for row in rows])) == plain
    two = [worlds.student("plain", val_class_correct=[9, 8], train_class_total=[100, 5])]
    assert "group" not in printed(outcome_of(two))
    assert group_rows(outcome_of(two)) == []
    assert [s.name for s in sheets(runs_of(two), outcome_of(two)) if s.name == "groups"] == []
    found = document(outcome_of(two))
    names = [["airplane", "automobile"][k : k + 1] for k in (0, 1)]
    few = {"medium": names[0], "few": names[1]}
    assert found["class_groups"] == {"head_medium_tail": {}, "many_medium_few": few}
    assert found["selected"]["test_group_accuracies"]["head_medium_tail"] == {}
    assert document(outcome_of(rows))["class_groups"] == {}
    assert document(outcome_of(rows))["selected"]["test_group_accuracies"] == {}
    assert "  medium" in printed(outcome_of(long_tailed(rows, [11, 7, 5])))


def test_three_classes_are_a_group_each_everywhere_with_the_definition() -> None:
    plain = worlds.student("plain", val_class_correct=[9, 8, 7], train_class_total=[150, 40, 6])
    outcome = outcome_of([plain])
    text = printed(outcome)
    lines = [line.split() for line in text.splitlines() if line.startswith(("  head", "  medium"))]
    assert lines == [["head", "1", "150", "90.0", "90.0"], ["medium", "1", "40", "80.0", "80.0"]]
    assert DEFINITION.split(";")[0][:70] in " ".join(text.split())
    content = document(outcome)
    names = worlds.NAMES
    wanted = {"head": [names[0]], "medium": [names[1]], "tail": [names[2]]}
    assert content["class_groups"]["head_medium_tail"] == wanted
    assert content["class_groups"]["many_medium_few"] == {
        "many": [names[0]],
        "medium": [names[1]],
        "few": [names[2]],
    }
    assert content["class_groups_definition"]["head_medium_tail"] == DEFINITION
    assert [row.name for row in group_rows(outcome)] == list(wanted)
    (sheet,) = [s for s in sheets(runs_of([plain]), outcome) if s.name == "groups"]
    assert [row[:2] for row in sheet.rows] == [("head", 1), ("medium", 1), ("tail", 1)]
    assert DEFINITION in sheet.caption


def test_groups_without_a_class_are_left_out_of_the_file() -> None:
    rows = [row | {"train_class_total": [500, 400, 300]} for row in small_world()]
    groups = document(outcome_of(rows))["class_groups"]
    assert list(groups["many_medium_few"]) == ["many"]


def test_groups_of_standard_distillation_alone() -> None:
    rows = long_tailed([worlds.student("plain", val_class_correct=[9, 8, 7, 6])], [50, 9, 8, 4])
    text = printed(outcome_of(rows))
    (medium,) = [line for line in text.splitlines() if line.startswith("  medium")]
    assert medium.split() == ["medium", "2", "9", "to", "8", "75.0", "75.0"]
