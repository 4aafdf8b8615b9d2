"""Figures, tables and files that the analysis shows."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from rich.console import Console

from analysis.runs.loading import Runs
from analysis.selection.criteria import Constrained
from analysis.selection.outcome import Outcome, assess
from analysis.selection.rule_options import Rule
from analysis.views.figure import draw, save
from analysis.views.selection_json import document, write_json
from analysis.views.tables import nine_combinations
from analysis.views.terminal import print_outcome
from rkd_core.storage.files import replace_file
from tests.analysis import worlds


def runs_of(rows: list[worlds.Row]) -> Runs:
    students = worlds.table(row for row in rows if row["stage"] == "student" and not row["variant"])
    variants = worlds.table(row for row in rows if row["variant"])
    teachers = worlds.table(row for row in rows if row["stage"] == "teacher")
    return Runs(students, variants, teachers, ())


def outcome_of(rows: list[worlds.Row], **options: Any) -> Outcome:
    return assess(runs_of(rows), Constrained(**options))


def printed(outcome: Outcome, *, verbose: bool = True, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_outcome(outcome, console, ["1 failed run left out"], verbose=verbose)
    return console.file.getvalue()  # type: ignore[attr-defined]


def small_world() -> list[worlds.Row]:
    """Return standard distillation, a better student, and a class without images."""
    total = [10, 10, 0]
    common = {
        "val_class_total": total,
        "test_class_total": total,
        "class_names": ["crane", "crane", "x"],
    }
    return [
        worlds.student(
            "plain",
            val_class_correct=[10, 6, 0],
            test_class_correct=[9, 7, 0],
            **common,
        ),
        worlds.student(
            "better",
            0.5,
            0.25,
            2.0,
            teacher_id="t",
            val_class_correct=[9, 8, 0],
            test_class_correct=[9, 5, 0],
            **common,
        ),
    ]


def test_classes_with_a_missing_name_are_called_by_their_labels() -> None:
    rows = [row | {"class_names": ["crane", None, "x"]} for row in small_world()]
    outcome = Rule().assess(runs_of(rows))
    assert outcome.setting.class_names == ("0", "1", "2")
    assert "Ship" in printed(outcome)


def twins() -> list[worlds.Row]:
    """Two points that all but coincide, so that their labels want the same place."""
    rows = []
    for student, correct in (("standard", [90000, 50000]), (0.5, [90000, 50001])):
        counts = {"val_class_correct": correct, "val_class_total": [100000, 100000]}
        counts |= {name.replace("val", "test"): value for name, value in counts.items()}
        rows.append(worlds.student(str(student), student=student, **counts))
    far = {**counts, "val_class_correct": [20000, 20000], "test_class_correct": [20000, 20000]}
    return [*rows, worlds.student("far", student=1.0, **far)]


def test_the_file_holds_the_whole_selection_in_strict_json(tmp_path: Path) -> None:
    write_json(tmp_path / "selection.json", document(outcome_of(small_world(), margin=0.0)))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    text = (tmp_path / "selection.json").read_text(encoding="utf-8")
    content = json.loads(text, parse_constant=refuse)
    selected = content["selected"]
    assert selected["run_ids"] == ["better"]
    assert selected["teacher_ids"] == ["t"]
    assert selected["seeds"] == [0]
    assert (selected["alpha_t"], selected["alpha_s"], selected["temperature"]) == (0.5, 0.25, 2)
    assert (selected["teacher_objective"], selected["student_objective"]) == ("tradeoff",) * 2
    assert selected["val_average_accuracy"] == pytest.approx(0.85)
    assert selected["val_worst_class_accuracy"] == pytest.approx(0.8)
    assert selected["val_worst_class_accuracy_se"] is None
    assert selected["test_average_accuracy"] == pytest.approx(0.7)
    assert selected["test_worst_class_accuracy"] == pytest.approx(0.5)
    assert selected["val_recalls"] == pytest.approx({"crane (0)": 0.9, "crane (1)": 0.8, "x": None})
    assert selected["test_recalls"]["crane (1)"] == pytest.approx(0.5)
    plain = content["standard_distillation"]
    assert plain["alpha_s"] is None
    assert plain["test_worst_class_accuracy"] == pytest.approx(0.7)
    assert content["constraint"]["reference_run_ids"] == ["plain"]
    assert content["constraint"]["reference_val_average_accuracy"] == pytest.approx(0.8)
    assert content["constraint"]["margin"] == 0
    assert content["feasible"] is True
    assert content["schema_version"] == 1
    assert [c["run_ids"] for c in content["combinations"]] == [["plain"], ["better"]]
    assert [c["feasible"] for c in content["combinations"]] == [True, True]
    assert not [name for c in content["combinations"] for name in c if name.startswith("test")]
    assert content["frontier"] == [1]


def test_worst_class_stays_the_single_worst_when_k_is_larger() -> None:
    content = document(outcome_of(small_world(), worst_k=2, margin=0.0))
    assert content["selected"]["val_worst_class_accuracy"] == pytest.approx(0.8)
    assert content["selected"]["val_worst_k_accuracy"] == pytest.approx(0.85)
    assert content["criterion"]["worst_k"] == 2


def test_a_file_is_replaced_whole_or_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "selection.json"
    replace_file(path, b"before")
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"value": float("nan")})
    assert path.read_bytes() == b"before"
    write_json(path, {"value": 1})
    assert json.loads(path.read_bytes()) == {"value": 1}
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        replace_file(tmp_path / "folder", b"")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "folder", path]


def test_the_nine_combinations_at_their_best_temperature() -> None:
    objectives = ("standard", "balanced", 0.5, 1.0)
    outcome = outcome_of(worlds.sweep(objectives, objectives, (1.0, 2.0, 3.0), seeds=2, images=60))
    nine = list(nine_combinations(outcome).values())
    assert len(nine) == 9
    c, worst = outcome.selection.combinations, outcome.selection.seen.means.worst_k
    for index in nine:
        cell = [
            i
            for i in range(len(c))
            if c.teacher_objective[i] == c.teacher_objective[index]
            and c.student_objective[i] == c.student_objective[index]
            and np.array_equal(c.alpha_t[i], c.alpha_t[index], equal_nan=True)
            and np.array_equal(c.alpha_s[i], c.alpha_s[index], equal_nan=True)
        ]
        assert len(cell) == 3
        assert worst[index] == max(worst[cell])
    assert not (c.alpha_t[nine] == 0.5).any()
    assert not (c.alpha_s[nine] == 0.5).any()


def test_balanced_and_trade_off_zero_are_one_cell() -> None:
    rows = [
        worlds.student("plain"),
        worlds.student("named", student="balanced", val_class_correct=[6, 6]),
        worlds.student("alpha", student=0.0, temperature=2.0, val_class_correct=[7, 7]),
    ]
    outcome = outcome_of(rows)
    c = outcome.selection.combinations
    assert [c.run_ids(i) for i in nine_combinations(outcome).values()] == [["plain"], ["alpha"]]


def test_the_table_starts_with_the_selection() -> None:
    text = printed(outcome_of(small_world(), margin=0.0))
    first = text.split("\n")[1]
    assert first == "Ship  α_t = 0.5, α_s = 0.25, T = 2   (digits, resnet20)"
    assert "validation  worst-class 60.0 → 80.0 (+20.0)   average 80.0 → 85.0 (+5.0)" in text
    assert "test        worst-class 70.0 → 50.0 (−20.0)   average 80.0 → 70.0 (−10.0)" in text
    assert "1 failed run left out" in text
    assert "the teacher alone" not in text
    assert "\x1b" not in text  # plain text where there is no terminal


def with_teachers(parameters: int | None = 4000) -> list[worlds.Row]:
    """The small world with a teacher of the selected student, and a runner-up."""
    rows = [row | {"parameters": 1000} for row in small_world()]
    total = [10, 10, 0]
    counts = {"val_class_total": total, "test_class_total": total}
    second = {"val_class_correct": [10, 7, 0], "test_class_correct": [8, 8, 0], **counts}
    rows.append(worlds.student("second", 1.0, 0.0, parameters=1000, **second))
    taught = {"val_class_correct": [9, 9, 0], "test_class_correct": [9, 8, 0], **counts}
    teacher = worlds.row(
        run_id="t",
        stage="teacher",
        teacher_id=None,
        teacher_objective="tradeoff",
        alpha_t=0.5,
        parameters=parameters,
        **taught,
    )
    return [*rows, teacher]


def test_the_answer_is_four_lines_with_their_own_intervals() -> None:
    outcome = outcome_of(with_teachers(), margin=0.0)
    lines = printed(outcome, verbose=False, width=200).splitlines()
    alone = outcome.prospects.test_alone
    worst, average = (
        f"{100 * one.low:.1f} to {100 * one.high:.1f}" for one in (alone.worst_k, alone.average)
    )
    assert lines[1:4] == [
        "Ship  α_t = 0.5, α_s = 0.25, T = 2   (digits, resnet20, 1,000 parameters)",
        f"Worst class 70.0% → 50.0% on test (90% interval {worst}, 10 images), "
        f"average 80.0% → 70.0% ({average}), against standard distillation",
        "Its teacher: worst class 80.0%, average 85.0% on test, with 4 times the parameters",
    ]
    assert re.fullmatch(
        r"Runner-up: α_t = 1, α_s = 0, T = 1; average [\d.]+ points \w+, worst class lower with "
        r"probability \d\d%: [+−][\d.]+ points \([+−][\d.]+ to [+−][\d.]+\), "
        r"estimated from validation",
        lines[4],
    )
    assert lines[5].startswith("Third: ")
    assert lines[6:] == ["1 failed run left out"]


def test_the_long_form_begins_with_the_answer() -> None:
    outcome = outcome_of(with_teachers(), margin=0.0)
    short, long = (printed(outcome, verbose=verbose) for verbose in (False, True))
    assert long.startswith(short.removesuffix("1 failed run left out\n"))
    assert "gain in" in long
    assert "gain in" not in short


def test_unknown_figures_are_left_out_of_the_answer() -> None:
    text = printed(outcome_of(with_teachers(None), margin=0.0), verbose=False, width=200)
    assert "Its teacher: worst class 80.0%, average 85.0% on test\n" in text
    rows = [row for row in with_teachers() if row["stage"] == "student"][:2]
    text = printed(outcome_of(rows, margin=0.0), verbose=False, width=200)
    assert "Its teacher" not in text
    rows = [worlds.student("alone")]
    text = printed(outcome_of(rows), verbose=False, width=200)
    assert "Runner-up" not in text
    assert "→" not in text


def test_without_estimates_the_runner_up_is_compared_as_counted() -> None:
    outcome = replace(outcome_of(with_teachers(), margin=0.0), uncertainty=None)
    lines = printed(outcome, verbose=False, width=200).splitlines()
    assert lines[4].startswith("Runner-up: α_t = 1, α_s = 0, T = 1; average ")
    assert lines[4].endswith(" on validation, as counted")


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_table_fits_eighty_columns(seeds: int) -> None:
    levels = ("standard", 0.0, 0.333, 1.0)
    rows = worlds.sweep(levels, levels, (1.0, 2.5), seeds=seeds)
    if seeds > 1:
        rows = [row for row in rows if row["run_id"] != "student-0.0-0.0-1-1"]
    text = printed(outcome_of(rows))
    lines = text.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert "…" not in text
    assert sum(line.startswith("▸") for line in lines) == 2  # the row and the legend
    assert sum(line.startswith("○") for line in lines) == 1
    assert sum("—" in line for line in lines) == len(levels) + 1
    assert ("±" in "".join(line for line in lines if line[:1] in "▸○")) == (seeds > 1)
    for shown in (text, printed(outcome_of(rows), verbose=False)):
        assert ("1 of 32 combinations lack some seeds" in shown) == (seeds > 1)


def test_the_table_reports_that_nothing_is_better_or_feasible() -> None:
    plain = worlds.student("plain", val_class_correct=[9, 8])
    assert "This is standard distillation" in printed(outcome_of([plain]))
    text = printed(outcome_of(small_world(), margin=-0.5))
    assert "No combination has an average of" in text
    assert "The nearest one is α_t = 0.5, α_s = 0.25, T = 2, which" in text.replace("\n", " ")
    assert "points; loosen it by that much" in text.replace("\n", " ")


def test_the_figure_is_the_same_bytes_twice_and_leaves_nothing_else(tmp_path: Path) -> None:
    outcome = outcome_of(worlds.sweep(images=100))
    (tmp_path / "again").mkdir()
    first, second = save(outcome, tmp_path), save(outcome, tmp_path / "again")
    assert [path.name for path in first] == ["pareto.png", "pareto.svg"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"pareto.png", "pareto.svg", "again"}
    width = int.from_bytes(first[0].read_bytes()[16:20], "big")
    assert width == 10 * 200


@pytest.mark.parametrize(
    "rows",
    [
        worlds.sweep(seeds=2, images=100),
        worlds.sweep(temperatures=(3.0,), recall=lambda *_: (0.9, 0.9), images=5),
        [worlds.student("alone")],
        small_world(),
        twins(),
        worlds.sweep(("standard", *np.linspace(0, 1, 15)), ("standard", 0.5), (1.0,)),
    ],
    ids=["seeds", "ties", "alone", "absent-class", "twins", "many-teachers"],
)
def test_labels_lie_inside_the_axes_and_apart(rows: list[worlds.Row]) -> None:
    outcome = outcome_of(rows)
    figure = draw(outcome)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    for axes, means in zip(figure.axes[:2], (outcome.selection.means, outcome.test), strict=True):
        boxes = [_box(text, renderer) for text in axes.texts]
        s = outcome.selection
        assert len(boxes) == len({s.selected, s.reference, s.runner_up} - {None})
        for box in boxes:
            assert axes.bbox.x0 <= box.x0 < box.x1 <= axes.bbox.x1
            assert axes.bbox.y0 <= box.y0 < box.y1 <= axes.bbox.y1
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
        for text, box in product(axes.texts, boxes):  # no line to a label crosses another label
            own = _box(text, renderer)
            start, end = axes.transData.transform(text.xy), (own.p0 + own.p1) / 2
            along = start + np.linspace(0, 1, 50)[:, None] * (end - start)
            inside = ((along > box.p0) & (along < box.p1)).all(axis=1).any()
            assert not inside or np.allclose(box.p0, own.p0)
        points = np.concatenate([c.get_offsets() for c in axes.collections if len(c.get_offsets())])
        expected = {(round(x, 6), round(y, 6)) for x, y in _percent(means)}
        assert {(round(x, 6), round(y, 6)) for x, y in points} >= expected


def _box(text: Text, renderer: Any) -> Bbox:
    """The label's box with its padding, without the line to its point."""
    text.update_positions(renderer)  # type: ignore[attr-defined]
    return Text.get_window_extent(text, renderer).padded(0.3 * 9.5 * 100 / 72)


def _percent(means: Any) -> list[tuple[float, float]]:
    return [
        (100 * float(x), 100 * float(y)) for x, y in zip(means.average, means.worst_k, strict=True)
    ]


def with_methods() -> list[worlds.Row]:
    """Return a sweep and methods that are better than all of its combinations."""
    good = {"val_class_correct": [498] * 10, "test_class_correct": [497] * 10}
    bad = {"val_class_correct": [490] * 10, "test_class_correct": [489] * 10}
    totals = {"val_class_total": [500] * 10, "test_class_total": [500] * 10}
    rows = worlds.sweep(("standard", 0.5), ("standard", 0.0, 0.5), (1.0, 3.0), seeds=2)
    for seed in (0, 1):
        common = {"seed": seed, "dataset": "cifar10", **totals}
        rows += [
            worlds.variant(f"weak-{seed}", "dkd (others_weight 2)", **common, **bad),
            worlds.variant(f"dkd-{seed}", "dkd (others_weight 8)", **common, **good),
            worlds.variant(f"kd-{seed}", "kd", **common, **(good if seed else bad)),
        ]
    rows.append(worlds.variant("dro", "group_dro", None, teacher_id=None, **totals, **bad))
    return rows


def test_methods_are_shown_and_never_selected() -> None:
    rows = with_methods()
    outcome, grid = outcome_of(rows), outcome_of([row for row in rows if not row["variant"]])
    content, without = document(outcome), document(grid)
    methods = content.pop("methods")
    assert without.pop("methods") == []
    assert content == without
    assert [row["variant"] for row in methods] == [
        *("dkd (others_weight 2)", "dkd (others_weight 8)", "group_dro", "kd")
    ]
    assert methods[3]["run_ids"] == ["kd-0", "kd-1"]
    assert methods[3]["val_average_accuracy"] == pytest.approx((0.98 + 0.996) / 2)
    assert methods[3]["test_worst_class_accuracy"] == pytest.approx((0.978 + 0.994) / 2)
    assert (methods[2]["teacher_objective"], methods[2]["temperature"]) == (None, None)
    assert (methods[2]["seeds"], methods[2]["test_average_accuracy"]) == ([0], 0.978)
    assert json.loads(json.dumps(methods, allow_nan=False)) == methods


def test_methods_are_rows_of_the_table() -> None:
    lines = printed(outcome_of(with_methods())).splitlines()
    (line,) = [line for line in lines if line.split()[:1] == ["kd"]]
    assert line.split() == ["kd", "98.8±0.8", "98.8±0.8", "98.6±0.8", "98.6±0.8"]
    assert any(line.split()[:1] == ["group_dro"] for line in lines)
    assert not any("fitted" in line for line in lines)


def test_parts_fitted_to_validation_are_labeled() -> None:
    rows = with_methods()
    rows[-1] |= {"method": "post_shift", "variant": "post_shift", "epochs": 0}
    lines = printed(outcome_of(rows)).splitlines()
    assert "post_shift is fitted to validation: compare it on test" in lines


def test_each_methods_best_has_a_letter_in_the_figure() -> None:
    outcome = outcome_of(with_methods())
    figure = draw(outcome)
    for axes, means in zip(
        figure.axes[:2], (outcome.methods.val, outcome.methods.test), strict=True
    ):
        texts = [text.get_text() for text in axes.texts]
        assert sorted(t for t in texts if "\n" not in t) == ["a", "b", "c"]
        points = np.concatenate([c.get_offsets() for c in axes.collections if len(c.get_offsets())])
        shown = {(round(x, 6), round(y, 6)) for x, y in points}
        assert shown >= {(round(x, 6), round(y, 6)) for x, y in _percent(means)}
        # The letter points at the better of the two.
        (dkd,) = [text for text in axes.texts if text.get_text() == "a"]
        assert dkd.xy == _percent(means)[1]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[-4:] == ["other methods", "a  dkd", "b  group_dro", "c  kd"]
