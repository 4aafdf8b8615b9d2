"""Mistakes image by image, against plain loops over the predictions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.report.__main__ import main
from analysis.report.mistakes import Mistakes, mistakes
from analysis.report.page import render
from analysis.selection.outcome import assess
from rkd_core.records import predictions, shifts, thumbnails
from tests.analysis import worlds
from tests.analysis.report.test_page import Reader, runs_of

IMAGES = 300
STUDENTS = ("plain", "better")
PNG = b"\x89PNG picture "


def rows(classes: int) -> list[worlds.Row]:
    total = [50] * classes
    made = [
        worlds.student(
            name,
            student="standard" if name == "plain" else 0.5,
            seed=0,
            class_names=[f"class {k}" for k in range(classes)],
            val_class_total=total,
            val_class_correct=[right] * classes,
            test_class_total=total,
            test_class_correct=[right] * classes,
        )
        for name, right in (("plain", 20), ("better", 40))
    ]
    return made


def drawn(name: str, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows, the labels and the logits of a student's test images."""
    random = np.random.default_rng(len(name))
    labels = np.arange(IMAGES) % classes
    logits = random.standard_normal((IMAGES, classes)).astype(np.float32)
    logits[np.arange(IMAGES), labels] += 1.5
    return 7 + 3 * np.arange(IMAGES), labels, logits


def world(results: Path, classes: int = 4, kept: predictions.Kept = "full") -> Any:
    """Write records and predictions; return the runs and the outcome."""
    made = rows(classes)
    worlds.write(results, made)
    for name in STUDENTS:
        where, labels, logits = drawn(name, classes)
        given = where, labels, logits, logits.argmax(axis=1)
        content = predictions.serialize(name, "test", "data", *given, kept)
        predictions.publish(results, name, {"test": content})
    runs = runs_of(made)
    return runs, assess(runs)


def found_in(results: Path, classes: int = 4, kept: predictions.Kept = "full") -> Mistakes:
    _, outcome = world(results, classes, kept)
    c = outcome.selection.combinations
    chosen = (outcome.selection.selected, outcome.selection.reference)
    assert [c.run_ids(index) for index in chosen] == [["better"], ["plain"]]
    found = mistakes(outcome, results)
    assert found is not None
    return found


def counted(name: str, classes: int) -> Counter[tuple[int, int]]:
    _, labels, logits = drawn(name, classes)
    pairs = zip(labels.tolist(), logits.argmax(axis=1).tolist(), strict=True)
    return Counter(pairs)


@pytest.mark.parametrize("kept", ["full", "top"])
def test_confusion_matrices_and_pairs(tmp_path: Path, kept: predictions.Kept) -> None:
    found = found_in(tmp_path, kept=kept)
    for matrix, name in zip(found.matrices, ("better", "plain"), strict=True):
        counts = counted(name, 4)
        for label, (shown, cells) in enumerate(matrix.rows):
            assert shown == f"class {label}"
            for predicted, (count, percent, _) in enumerate(cells):
                assert count == counts[label, predicted]
                assert percent == f"{100 * count / 75:.0f}%"
    wrong = {pair: n for pair, n in counted("better", 4).items() if pair[0] != pair[1]}
    assert len(found.pairs) == min(20, len(wrong))
    shown_counts = [int(pair.selected.split()[0]) for pair in found.pairs]
    assert shown_counts == sorted(wrong.values(), reverse=True)[:20]
    where, labels, logits = drawn("better", 4)
    for pair in found.pairs:
        label, predicted = int(pair.label[-1]), int(pair.predicted[-1])
        assert pair.standard.split()[0] == str(counted("plain", 4)[label, predicted])
        images = where[(labels == label) & (logits.argmax(axis=1) == predicted)]
        assert {picture.image for picture in pair.pictures} <= set(images.tolist())
        assert len(pair.pictures) == min(len(images), 12)


def test_many_classes_have_their_most_confused_pairs_only(tmp_path: Path) -> None:
    found = found_in(tmp_path, classes=15)
    assert found.matrices == ()
    assert len(found.pairs) == 20


def test_galleries_match_their_captions(tmp_path: Path) -> None:
    found = found_in(tmp_path)
    lost, won, confident = found.galleries
    where, labels, one = drawn("better", 4)
    other = drawn("plain", 4)[2]
    right, other_right = one.argmax(axis=1) == labels, other.argmax(axis=1) == labels
    sets = (~right & other_right, right & ~other_right, ~right)
    for gallery, mask in zip((lost, won, confident), sets, strict=True):
        images = [picture.image for picture in gallery.pictures]
        assert set(images) <= set(where[mask].tolist())
        assert len(images) == len(set(images)) == 12
    powers = np.exp(one.astype(np.float64))
    shares = powers.max(axis=1) / powers.sum(axis=1)
    order = sorted(np.flatnonzero(~right), key=lambda k: -shares[k])[:12]
    assert [picture.image for picture in confident.pictures] == where[order].tolist()
    first = confident.pictures[0].caption
    label, predicted = labels[order[0]], one.argmax(axis=1)[order[0]]
    assert first == f"class {label} → class {predicted}, {100 * shares[order[0]]:.0f}%"
    assert "standard distillation (class " in lost.title
    assert {*found.images()} >= {p.image for g in found.galleries for p in g.pictures}


def test_pictures_are_embedded_as_far_as_they_fit(tmp_path: Path) -> None:
    runs, outcome = world(tmp_path)
    found = mistakes(outcome, tmp_path)
    assert found is not None
    assert "<img" not in render(runs, outcome, tmp_path)
    images = found.images()
    thumbnails.write(tmp_path, {image: PNG + str(image).encode() for image in images})
    page = render(runs, outcome, tmp_path)
    assert page.count('src="data:image/png;base64,') >= len(images)
    assert "The mistakes" in Reader(page).text
    assert "<img" not in render(runs, outcome, tmp_path, images=False)
    thumbnails.write(tmp_path, {image: PNG + bytes(200_000) for image in images})
    large = found.with_pictures(tmp_path)
    shown = [*(g.pictures for g in large.galleries), *(pair.pictures for pair in large.pairs)]
    text = sum(len(picture.source) for pictures in shown for picture in pictures)
    assert 1_000_000 < text <= 2_000_000
    (tmp_path / thumbnails.NAME).write_bytes(b"damaged")
    assert not found.with_pictures(tmp_path).illustrated


def test_without_predictions_there_is_no_section(tmp_path: Path) -> None:
    runs, outcome = world(tmp_path)
    path = tmp_path / "predictions" / "test" / "plain.parquet"
    whole = path.read_bytes()
    for content in (None, whole[:-9], b""):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        assert mistakes(outcome, tmp_path) is None
        assert "The mistakes" not in Reader(render(runs, outcome, tmp_path)).text


def test_a_shifted_student_is_shown_with_its_shift(tmp_path: Path) -> None:
    _, outcome = world(tmp_path)
    _, labels, logits = drawn("better", 4)
    shifts.write(tmp_path, shifts.table("better", (logits, labels), (logits, labels)))
    row = shifts.read(tmp_path, ["better"]).to_pylist()[0]
    c = outcome.selection.combinations
    c.shift[outcome.selection.selected] = row["alpha"]
    found = mistakes(outcome, tmp_path)
    assert found is not None
    diagonal = [cells[k][0] for k, (_, cells) in enumerate(found.matrices[0].rows)]
    assert np.abs(np.subtract(diagonal, row["test_class_correct"])).max() <= 1


def test_the_command_leaves_pictures_out(tmp_path: Path) -> None:
    _, outcome = world(tmp_path)
    found = mistakes(outcome, tmp_path)
    assert found is not None
    thumbnails.write(tmp_path, dict.fromkeys(found.images(), PNG))
    for options, shown in (([], True), (["--no-images"], False)):
        assert main([str(tmp_path), *options]) == 0
        page = (tmp_path / "report.html").read_text()
        assert ("<img" in page) == shown
