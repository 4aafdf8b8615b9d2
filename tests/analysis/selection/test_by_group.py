"""Selection by the accuracy of the worst group of images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.report.__main__ import main as report
from analysis.runs import image_groups
from analysis.runs.loading import load
from analysis.selection.rule_options import Rule
from rkd_core.errors import UserError
from tests.analysis.selection.test_by_metric import (
    CLASSES,
    IMAGES,
    LABELS,
    STUDENTS,
    logits_of,
    run,
    world,
)

NAMES = ("dim", "night", "sun")


def group_of(split: str) -> np.ndarray:
    """A rare group, a common one and one in between, in an order of their own on each split."""
    rng = np.random.default_rng(len(split))
    return rng.choice(3, IMAGES, p=[0.03, 0.27, 0.7])


def correct(student: object, split: str) -> np.ndarray:
    return np.asarray(logits_of(student, 0, split).argmax(1) == LABELS)


def csv_of(path: Path) -> Path:
    lines = ["image,group,split"]
    for split in ("val", "test"):
        lines += [f"{i},{NAMES[g]},{split}" for i, g in enumerate(group_of(split))]
    path.write_text("\n".join(lines) + "\n")
    return path


def accuracies(student: object, split: str) -> np.ndarray:
    right, groups = correct(student, split), group_of(split)
    return np.array([right[groups == g].mean() for g in range(3)])


def test_the_worst_group_decides_and_every_figure_is_counted(tmp_path: Path) -> None:
    world(tmp_path)
    rule = Rule(worst_group=True, image_groups=csv_of(tmp_path / "g.csv"), margin="1")
    outcome = rule.assess(load(tmp_path))
    best = max(STUDENTS, key=lambda s: accuracies(s, "val").min())
    assert outcome.selection.combinations.run_ids(outcome.selection.selected) == [f"{best}-0"]
    found, pairs = outcome.measured, outcome.by_class_and_group
    assert found is not None
    assert pairs is not None
    assert found.rows == (*NAMES, "worst", "average")
    for split, own, crossed in (("val", found.val, pairs.val), ("test", found.test, pairs.test)):
        expected = accuracies(best, split)
        rows = [*expected, expected.min(), expected.mean()]
        np.testing.assert_allclose(own.selected, rows)
        groups = group_of(split)
        counts = np.bincount(groups, minlength=3)
        assert own.images.tolist() == [*counts, IMAGES, IMAGES]
        # few images: a wide interval even if all of them are right
        widths = own.interval[1, :3] - own.interval[0, :3]
        assert widths[0] > widths[2]
        assert widths[0] > 0.2
        right = correct(best, split)
        for place, name in enumerate(pairs.rows[:-2]):
            mask = (place // 3 == LABELS) & (groups == place % 3)
            assert name.endswith(NAMES[place % 3])
            assert crossed.images[place] == mask.sum()
            if mask.any():
                assert crossed.selected[place] == pytest.approx(right[mask].mean())
            else:
                assert np.isnan(crossed.selected[place])


def test_small_groups_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world(tmp_path)
    line = "--worst-group", "--image-groups", str(csv_of(tmp_path / "g.csv")), "--margin", "1"
    assert run(tmp_path, *line, "--min-group", "20") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "groups with fewer than 20 validation images left out: dim" in printed
    content = json.loads((tmp_path / "selection.json").read_bytes())
    assert content["metric"]["rows"] == ["night", "sun", "worst", "average"]
    assert content["metric"]["rows_are"] == "group"
    best = max(STUDENTS, key=lambda s: accuracies(s, "val")[1:].min())
    assert content["selected"]["run_ids"] == [f"{best}-0"]
    assert run(tmp_path, *line, "--min-group", "1000") == 2
    assert "the largest group has" in capsys.readouterr().err


def test_groups_are_kept_in_the_results_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world(tmp_path)
    path = csv_of(tmp_path / "g.csv")
    assert run(tmp_path, "--worst-group", "--min-group", "20", "--image-groups", str(path)) == 0
    path.unlink()
    assert run(tmp_path, "--worst-group", "--tables", str(tmp_path / "t")) == 0
    content = json.loads((tmp_path / "selection.json").read_bytes())
    assert content["metric"]["rows"] == [*NAMES, "worst", "average"]  # the small one, too
    assert content["criterion"]["name"] == "worst_group"
    assert len(content["class_and_group"]["rows"]) == 3 * CLASSES + 2
    assert "night" in (tmp_path / "t" / "metric.csv").read_text()
    assert run(tmp_path, "--worst-group", "--min-group", "20") == 0
    content = json.loads((tmp_path / "selection.json").read_bytes())
    assert content["metric"]["rows"] == ["night", "sun", "worst", "average"]
    assert report([str(tmp_path), "--worst-group"]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "By group of images" in page
    assert "worst-group accuracy" in page
    capsys.readouterr()
    (tmp_path / image_groups.NAME).write_bytes(b"no table")
    assert run(tmp_path, "--worst-group") == 2
    assert "is damaged: give --image-groups again" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["parquet", "npy"])
def test_other_files_with_a_group_for_each_row(tmp_path: Path, kind: str) -> None:
    names = np.array(NAMES)[group_of("val")]
    path = tmp_path / f"g.{kind}"
    if kind == "npy":
        np.save(path, names)
        found = image_groups.read(path)
    else:
        pictures = pa.array([b"png"] * IMAGES)
        pq.write_table(pa.table({"image": pictures, "light": names}), path)
        found = image_groups.read(path, "light")
    alone = found.only({"val": np.arange(0, IMAGES, 2), "test": np.arange(1, IMAGES, 2)})
    expected = group_of("val")
    assert [alone.names[g] for g in alone.groups["val"]] == [NAMES[g] for g in expected[::2]]
    assert [alone.names[g] for g in alone.groups["test"]] == [NAMES[g] for g in expected[1::2]]
    with pytest.raises(UserError, match="is an image of validation and one of test; add a column"):
        found.only({"val": np.arange(5), "test": np.arange(3, 9)})
    with pytest.raises(UserError, match="lacks 1 image of val, such as row 240"):
        found.only({"val": np.array([IMAGES]), "test": np.array([0])})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,group,split\n0,a,val\n", "lacks 239 images of val, such as row 1"),
        ("image,group\n0,a\n0,b\n", "image 0 is in two groups, a and b"),
        ("image,group\nx,a\n", "image must be the row of an image, such as 17, not x"),
        ("image,group\n-1,a\n", "image must be the row of an image, such as 17, not -1"),
        ("image,group\n1,\n", "row 0 has no group"),
        ("image,group,split\n1,a,train\n", "split must be val or test, not 'train'"),
        ("image,groop\n1,a\n", "unknown column of --image-groups"),
        ("", "has no rows"),
    ],
)
def test_wrong_groups_end_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    world(tmp_path)
    (tmp_path / "g.csv").write_text(content)
    assert run(tmp_path, "--worst-group", "--image-groups", str(tmp_path / "g.csv")) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "selection.json").exists()
    assert not (tmp_path / image_groups.NAME).exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--worst-group"], "--worst-group needs --image-groups FILE"),
        (["--worst-group", "--metric", "f1"], "exclude each other"),
        (["--worst-group", "--group", "g=bird"], "--worst-group excludes --group"),
        (["--min-group", "0"], "--min-group must be 1 or more"),
        (["--group-column", "a"], "--group-column names a column of --image-groups"),
        (["--image-groups", "no.csv"], "--image-groups no.csv cannot be read"),
        (["--image-groups", "g.txt"], "must end in .csv, .parquet or .npy"),
    ],
)
def test_wrong_options_end_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    world(tmp_path)
    assert run(tmp_path, *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
