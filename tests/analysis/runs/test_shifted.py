"""Shifted students as candidates beside the trained ones."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from analysis.runs.combinations import HeldOut, combine
from analysis.runs.loading import load
from analysis.select import main
from analysis.selection.outcome import Outcome, combination_name
from analysis.selection.rule_options import Rule
from analysis.views.answer import answer
from analysis.views.shift_gain import shift_gain
from rkd_core.errors import UserError
from rkd_core.metrics.shift_family import ALPHAS
from rkd_core.records import shifts
from tests.analysis import shifted_worlds, worlds

MANY = {"val_class_total": [40, 40, 40], "test_class_total": [30, 30, 30]}


def grid(images: int = 40, seeds: int = 1) -> list[worlds.Row]:
    """Return students whose first class is the worst, with noise of seeds."""
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        for alpha in ("standard", 0.0, 0.5, 1.0):
            correct = rng.binomial(images, [0.4, 0.7, 0.9])
            rows.append(
                worlds.student(
                    f"{alpha}-{seed}",
                    student=alpha,
                    seed=seed,
                    val_class_total=[images] * 3,
                    val_class_correct=correct.tolist(),
                    test_class_total=[images] * 3,
                    test_class_correct=correct.tolist(),
                )
            )
    return rows


def test_each_student_is_a_candidate_at_every_strength(tmp_path: Path) -> None:
    rows = grid(seeds=2)
    runs = load(shifted_worlds.write(tmp_path, rows))
    assert len(runs.students) == len(rows)
    c = combine(runs.candidates)
    assert len(c) == 4 * (1 + len(ALPHAS))
    assert c.students == len(rows)
    assert c.count == "4 combinations, shifted or not"
    assert [len(range(*level.indices(len(c)))) for level in c.levels()] == [4] * 6
    plain = combine(runs.students)
    first = c.part(c.levels()[0])
    assert first.run_id.equals(plain.run_id)
    assert (first.class_correct == plain.class_correct).all()
    held_out = HeldOut.of(runs.candidates)
    by_key = {
        (row["base_run_id"], row["alpha"]): row
        for one in rows
        for row in shifted_worlds.shift_rows(one)
    }
    for i in range(4, len(c)):
        correct, total = held_out.counts(c.only(i))
        for place, run_id in enumerate(c.run_ids(i)):
            row = by_key[run_id, c.shift[i]]
            assert c.class_correct[c.runs(i)][place].tolist() == row["val_class_correct"]
            assert correct[place].tolist() == row["test_class_correct"]
            assert total[place].tolist() == row["test_class_total"]
    assert combination_name(c, 5).endswith("T = 1, shifted 0")
    assert combination_name(c, 1).endswith("T = 1")


def test_strong_shifts_need_enough_validation_images(tmp_path: Path) -> None:
    runs = load(shifted_worlds.write(tmp_path, grid(images=20)))
    assert sorted(set(runs.candidates["shift"].to_pylist()) - {None}) == [0.0, 0.25, 0.5]


def test_no_shifts_with_few_validation_images(tmp_path: Path) -> None:
    runs = load(shifted_worlds.write(tmp_path, grid(images=9)))
    assert runs.shifted is None
    assert runs.notes == ()


def test_students_without_shifts_are_counted(tmp_path: Path) -> None:
    shifted_worlds.write(tmp_path, grid())
    shifts.path_of(tmp_path, "0.5-0").unlink()
    runs = load(tmp_path)
    assert runs.notes == ("1 student without shifts: the same sweep computes them",)
    assert len(combine(runs.candidates)) == 4 + 3 * len(ALPHAS)
    for row in grid():
        shifts.path_of(tmp_path, row["run_id"]).unlink(missing_ok=True)
    runs = load(tmp_path)
    assert runs.shifted is None
    assert runs.notes == ()


@pytest.mark.parametrize("split", ["val", "test"])
def test_shifts_of_other_data_are_refused(
    tmp_path: Path, split: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = grid()
    shifted_worlds.write(tmp_path, rows)
    path = shifts.path_of(tmp_path, "0.5-0")
    path.unlink()
    other = shifted_worlds.shift_rows(rows[2])
    for row in other:
        row[f"{split}_class_total"] = [41, 40, 40]
    shifts.write(tmp_path, pa.Table.from_pylist(other, shifts.SCHEMA))
    with pytest.raises(UserError, match=f"{path.name} has other numbers of {split} images"):
        load(tmp_path)
    assert main([str(tmp_path), "--no-figures"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def select(folder: Path, *options: str) -> dict[str, object]:
    assert main([str(folder), "--no-figures", *options]) == 0
    content: dict[str, object] = json.loads((folder / "selection.json").read_text())
    return content


@pytest.mark.parametrize("estimate", ["raw", "shrunk"])
def test_the_best_candidate_may_be_shifted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], estimate: str
) -> None:
    shifted_worlds.write(tmp_path, grid(), gain=8)
    found = select(tmp_path, "--estimate", estimate, "--margin", "0.05", "--verbose")
    assert found["selected"]["shift"] is not None  # type: ignore[index]
    assert found["standard_distillation"]["shift"] is None  # type: ignore[index]
    assert found["selected"]["run_ids"][0] in {row["run_id"] for row in grid()}  # type: ignore[index]
    said = capsys.readouterr().out
    assert f"shifted {found['selected']['shift']:g}" in said  # type: ignore[index]
    assert "4 combinations, shifted or not" in " ".join(said.split())


def test_without_shifts_the_selection_is_as_before(tmp_path: Path) -> None:
    with_shifts = shifted_worlds.write(tmp_path / "with", grid(), gain=8)
    before = worlds.write(tmp_path / "before", grid())
    assert select(with_shifts, "--no-shifts") == select(before)


def test_test_counts_do_not_enter_the_selection(tmp_path: Path) -> None:
    rows = grid()
    one = select(shifted_worlds.write(tmp_path / "one", rows, gain=8))
    for row in rows:
        row["test_class_correct"] = row["test_class_correct"][::-1]
    other = select(shifted_worlds.write(tmp_path / "other", rows, gain=8))
    assert one["combinations"] == other["combinations"]
    assert one["selected"]["shift"] == other["selected"]["shift"]  # type: ignore[index]


def test_new_shifts_change_the_answer(tmp_path: Path) -> None:
    rows = grid()
    before = select(worlds.write(tmp_path, rows))
    after = select(shifted_worlds.write(tmp_path, rows, gain=8))
    assert before["selected"]["shift"] is None  # type: ignore[index]
    assert len(after["combinations"]) == 6 * len(before["combinations"])  # type: ignore[arg-type]


def test_further_seeds_are_proposed_for_trained_students(tmp_path: Path) -> None:
    rows = grid(seeds=2)
    found = select(
        shifted_worlds.write(tmp_path, rows, gain=8), "--target-regret", "0.0001", "--margin", "0.1"
    )
    settling = found["settling"]
    assert settling["students_so_far"] == len(rows)  # type: ignore[index]
    assert settling["combinations"]  # type: ignore[index]
    assert not any("shifted" in name for name in settling["combinations"])  # type: ignore[index]


def test_every_table_figure_and_report_is_written(tmp_path: Path) -> None:
    shifted_worlds.write(tmp_path, grid(), gain=8)
    assert main([str(tmp_path), "--margin", "0.05", "--tables", str(tmp_path / "tables")]) == 0
    assert "shifted" in (tmp_path / "report.html").read_text()
    assert "shifted" in (tmp_path / "pareto.svg").read_text()
    text = (tmp_path / "tables" / "combinations.csv").read_text()
    assert len(text.splitlines()) == 1 + 4 * 6


def test_the_gain_beyond_a_shift_of_standard_distillation(tmp_path: Path) -> None:
    rows = grid()
    rows[0]["val_class_correct"] = [4, 28, 36]  # of standard distillation
    shifted_worlds.write(tmp_path, rows, gain=8)
    found = select(tmp_path, "--margin", "0.05")
    beyond, candidates = found["beyond_shift"], found["combinations"]
    place = beyond["combination"]  # type: ignore[index]
    other = candidates[place]  # type: ignore[index]
    assert other["teacher_objective"] == other["student_objective"] == "standard"
    assert other["shift"] is not None
    gain = beyond["gain"]["worst_k"]  # type: ignore[index]
    assert gain["low"] <= gain["value"] <= gain["high"]
    outcome = rule(tmp_path)
    assert outcome.selection.shifted_standard == place
    expected = outcome.uncertainty.expected.worst_k  # type: ignore[union-attr]
    difference = expected[outcome.selection.selected] - expected[place]
    assert gain["value"] == pytest.approx(difference, abs=1e-9)
    said = shift_gain(outcome)
    assert "Training with trade-offs gains" in said
    assert ("one teacher and one student are cheaper" in said) == (gain["low"] <= 0)


def rule(folder: Path) -> Outcome:
    return Rule(margin="0.05").assess(load(folder))


def test_a_shift_of_standard_distillation_may_be_all_that_is_needed(tmp_path: Path) -> None:
    rows = [row | {"val_class_correct": [10, 20, 30]} for row in grid()]
    rows[0]["val_class_correct"] = [16, 30, 36]
    outcome = rule(shifted_worlds.write(tmp_path, rows, gain=6))
    assert outcome.selection.shifted_standard == outcome.selection.selected
    assert "trade-offs gains nothing beyond it" in shift_gain(outcome)
    assert any("trade-offs gain nothing" in line.plain for line in answer(outcome))


def test_without_shifts_they_are_not_mentioned(tmp_path: Path) -> None:
    outcome = rule(worlds.write(tmp_path, grid()))
    assert shift_gain(outcome) == ""
    assert outcome.uncertainty is not None
    assert outcome.uncertainty.beyond_shift is None
