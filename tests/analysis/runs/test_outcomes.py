"""Outcomes of students on validation images, and selections that use them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from analysis import select
from analysis.runs import outcomes
from analysis.runs.combinations import combine
from analysis.runs.loading import load
from analysis.runs.outcomes import with_outcomes
from rkd_core.metrics.shift_family import ALPHAS
from rkd_core.records import predictions, shifts
from tests.analysis import worlds

IMAGES, CLASSES = 120, 3
LABELS = np.arange(IMAGES) % CLASSES
SHIFTS = [[0.8 * alpha, 0.1, -0.9 * alpha] for alpha in ALPHAS]
STUDENTS = ("standard", 0.0, 0.25, 0.5, 0.75, 1.0)


def logits_of(run_id: str, split: str = "val") -> np.ndarray:
    rng = np.random.default_rng(sum(map(ord, run_id + split)))
    own = rng.standard_normal((IMAGES, CLASSES))
    hard = np.random.default_rng(1).standard_normal((IMAGES, CLASSES))
    scores = hard + 0.5 * own + 2 * np.eye(CLASSES)[LABELS]
    return scores.astype(np.float16).astype(np.float32)


def correct_of(run_id: str, shift: list[float] | None = None) -> np.ndarray:
    scores = logits_of(run_id) + np.array(shift or [0.0] * CLASSES, np.float32)
    return np.asarray(scores.argmax(axis=1) == LABELS)


def by_class(correct: np.ndarray) -> list[int]:
    return [int(correct[label == LABELS].sum()) for label in range(CLASSES)]


def write(out: Path, kept: predictions.Kept = "full", seeds: int = 1) -> Path:
    rows = []
    for student in STUDENTS:
        for seed in range(seeds):
            run_id = f"{student}-{seed}"
            row = worlds.student(
                run_id,
                student=student,
                seed=seed,
                val_class_correct=by_class(correct_of(run_id)),
                val_class_total=[IMAGES // CLASSES] * CLASSES,
                test_class_total=[IMAGES // CLASSES] * CLASSES,
                data_fingerprint="data",
            )
            rows.append(row)
            for split in predictions.SPLITS:
                given = logits_of(run_id, split)
                content = predictions.serialize(
                    run_id, split, "data", np.arange(IMAGES), LABELS, given, given.argmax(1), kept
                )
                predictions.publish(out, run_id, {split: content})
            strengths = [
                {
                    "run_id": f"{run_id}-{alpha}",
                    "base_run_id": run_id,
                    "version": 1,
                    "alpha": alpha,
                    "shift": shift,
                    "val_class_total": row["val_class_total"],
                    "val_class_correct": by_class(correct_of(run_id, shift)),
                    "val_class_correct_in_sample": by_class(correct_of(run_id, shift)),
                    "test_class_total": row["test_class_total"],
                    "test_class_correct": row["test_class_correct"],
                }
                for alpha, shift in zip(ALPHAS, SHIFTS, strict=True)
            ]
            shifts.write(out, pa.Table.from_pylist(strengths, shifts.SCHEMA))
    worlds.write(out, rows)
    return out


@pytest.mark.parametrize("kept", ["full", "top"])
def test_outcomes_are_those_of_every_student_and_shift(
    tmp_path: Path, kept: predictions.Kept
) -> None:
    runs = load(write(tmp_path, kept, seeds=2))
    c, why = with_outcomes(combine(runs.candidates), runs)
    assert why == ""
    assert c.outcomes is not None
    found = c.outcomes.correct()
    assert found.shape == (2 * len(STUDENTS) * (1 + len(ALPHAS)), IMAGES)
    assert c.outcomes.images.tolist() == [IMAGES // CLASSES] * CLASSES
    order = np.argsort(LABELS, kind="stable")
    for i in range(len(c)):
        shift = None if np.isnan(c.shift[i]) else SHIFTS[ALPHAS.index(c.shift[i])]
        for place, run_id in enumerate(c.run_ids(i)):
            assert (found[c.runs(i)][place] == correct_of(run_id, shift)[order]).all()
    part = c.part(slice(3, 9))
    assert part.outcomes is not None
    assert (part.outcomes.correct() == found[6:18]).all()


def test_of_many_images_a_sample_of_each_class(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs = load(write(tmp_path))
    monkeypatch.setattr(outcomes, "_MOST", 60)
    c, _ = with_outcomes(combine(runs.students), runs)
    assert c.outcomes is not None
    assert c.outcomes.images.tolist() == [20] * 3
    monkeypatch.setattr(outcomes, "_MOST", 1)
    c, _ = with_outcomes(combine(runs.students), runs)
    assert c.outcomes is not None
    assert c.outcomes.images.tolist() == [10] * 3


def test_outcomes_are_cached_and_shifts_that_change_are_read_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("rkd_core.storage.local._YOUNG", -1.0)
    runs, read = load(write(tmp_path)), []
    parse = predictions.parse
    monkeypatch.setattr(predictions, "parse", lambda *a: read.append(a[0].stem) or parse(*a))
    first, _ = with_outcomes(combine(runs.candidates), runs)
    assert len({*read}) == len(STUDENTS)
    read.clear()
    again, _ = with_outcomes(combine(runs.candidates), runs)
    assert read == []
    assert first.outcomes is not None
    assert again.outcomes is not None
    assert (first.outcomes.bits == again.outcomes.bits).all()
    path = shifts.path_of(tmp_path, "0.5-0")
    rows = shifts.read(tmp_path, ["0.5-0"]).to_pylist()
    path.unlink()
    moved = [row | {"shift": [9.0, 0.0, 0.0]} for row in rows]
    shifts.write(tmp_path, pa.Table.from_pylist(moved, shifts.SCHEMA))
    runs = load(tmp_path)
    changed, _ = with_outcomes(combine(runs.candidates), runs)
    assert {*read} == {"0.5-0"}
    assert changed.outcomes is not None
    assert (changed.outcomes.bits != again.outcomes.bits).any(axis=1).sum() == 1


def select_in(out: Path, *options: str) -> dict[str, object]:
    assert select.main([str(out), "--no-figures", *options]) == 0
    return dict(json.loads((out / "selection.json").read_text()))


def test_the_command_uses_predictions_and_counts_alone_without_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = write(tmp_path)
    paired = select_in(out)
    assert paired["paired"] is True
    counts = select_in(out, "--estimate", "counts")
    assert counts["paired"] is False
    assert counts["combinations"] != paired["combinations"]
    capsys.readouterr()
    for path in (out / "predictions" / "val").iterdir():
        if path.stem == "0.5-0":
            path.unlink()
    without = select_in(out)
    said = "estimates from counts alone: 1 student without predictions, which python -m sweeps.pre"
    assert said in " ".join(capsys.readouterr().out.split())
    assert without["paired"] is False
    assert without["combinations"] == counts["combinations"]
    select_in(out, "--estimate", "counts")
    assert "counts alone" not in capsys.readouterr().out


def test_test_predictions_have_no_effect(tmp_path: Path) -> None:
    out = write(tmp_path)
    before = select_in(out)
    for path in (out / "predictions" / "test").iterdir():
        path.write_bytes(b"not predictions")
    assert select_in(out) == before


@pytest.mark.parametrize("damage", ["bytes", "data"])
def test_damaged_or_foreign_predictions_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    out = write(tmp_path)
    path = predictions.file_of(out, "val", "0.5-0")
    content = path.read_bytes()
    path.unlink()
    if damage == "bytes":
        path.write_bytes(content[:200] + bytes(40) + content[240:])
    else:
        given = logits_of("0.5-0")
        args = np.arange(IMAGES), LABELS, given, given.argmax(axis=1)
        path.write_bytes(predictions.serialize("0.5-0", "val", "other", *args, "full"))
    assert select.main([str(out), "--no-figures"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(path) in error
    assert not (out / "selection.json").exists()
    select_in(out, "--estimate", "counts")


def test_selection_from_python_is_that_of_the_command(tmp_path: Path) -> None:
    out = write(tmp_path, seeds=2)
    chosen = select(out)
    found = select_in(out)
    selected = found["selected"]
    assert isinstance(selected, dict)
    assert selected["run_ids"] == chosen.combinations.run_ids(chosen.selected)
    assert chosen.combinations.outcomes is not None
    assert select(out, estimate="counts").combinations.outcomes is None


def test_without_a_results_folder_there_are_no_outcomes(tmp_path: Path) -> None:
    runs = replace(load(write(tmp_path)), results=None)
    c = combine(runs.candidates)
    assert with_outcomes(c, runs) == (c, "")


def test_runners_up_have_paired_differences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = write(tmp_path)
    widths = {}
    for estimate in ("shrunk", "counts"):
        found = select_in(out, "--estimate", estimate, "--no-shifts")
        runners = found["runners_up"]
        assert isinstance(runners, list)
        assert [*runners[0]] == ["combination", "gain"]
        widths[estimate] = [
            g["gain"]["average"]["high"] - g["gain"]["average"]["low"] for g in runners
        ]
        text = " ".join(capsys.readouterr().out.split())
        assert "Runner-up: " in text
        assert "Third: " in text
    assert np.mean(widths["shrunk"]) < np.mean(widths["counts"])
