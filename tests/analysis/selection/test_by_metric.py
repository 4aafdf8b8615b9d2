"""Selection by other metrics than accuracy, from predictions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from analysis import select
from analysis.report.__main__ import main as report
from analysis.runs.combinations import combine
from analysis.runs.loading import load
from analysis.selection.by_metric import ByMetric, bootstrap, with_scores
from analysis.selection.rule_options import Rule
from rkd_core.errors import UserError
from rkd_core.metrics.per_class import Sample, find
from rkd_core.records import predictions
from tests.analysis import worlds

CLASSES, IMAGES = 3, 240
STUDENTS = ("standard", 0.0, 0.5, 1.0)
LABELS = np.random.default_rng(0).permutation(np.arange(IMAGES) % CLASSES)


def logits_of(student: object, seed: int, split: str) -> np.ndarray:
    rng = np.random.default_rng(sum(map(ord, f"{student}{seed}{split}")))
    shift = {"standard": [0.9, 0, -0.9], 0.0: [0.4, 0, -0.4], 0.5: [0, 0, 0], 1.0: [-0.5, 0, 0.5]}
    scores = rng.standard_normal((IMAGES, CLASSES)) + 1.5 * np.eye(CLASSES)[LABELS]
    return (scores + np.array(shift[student])).astype(np.float16).astype(np.float32)


def world(
    out: Path, kept: predictions.Kept = "full", seeds: int = 1, fingerprint: str = "data"
) -> Path:
    rows = []
    for student in STUDENTS:
        for seed in range(seeds):
            name, counts = f"{student}-{seed}", {}
            for split in predictions.SPLITS:
                logits = logits_of(student, seed, split)
                named = logits.argmax(1)
                right = [int((named[k == LABELS] == k).sum()) for k in range(CLASSES)]
                counts[f"{split}_class_correct"] = right
                counts[f"{split}_class_total"] = [IMAGES // CLASSES] * CLASSES
                given = np.arange(IMAGES), LABELS, logits, named
                content = predictions.serialize(name, split, fingerprint, *given, kept)
                predictions.publish(out, name, {split: content})
            rows.append(
                worlds.student(name, student=student, seed=seed, data_fingerprint="data", **counts)
            )
    return worlds.write(out, rows)


def figure(name: str, student: object, seed: int, split: str = "val") -> np.ndarray:
    logits = logits_of(student, seed, split).astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    one = Sample(LABELS, CLASSES, logits.argmax(1), None, log_p)
    return find(name).evaluate(one, np.ones((1, IMAGES)))[0]


@pytest.mark.parametrize("name", ["precision", "f1", "auroc", "average_precision", "ece", "top-2"])
@pytest.mark.parametrize("k", [1, 2])
def test_the_selected_student_has_the_best_of_the_worst_classes(
    tmp_path: Path, name: str, k: int
) -> None:
    world(tmp_path, seeds=2)
    sign = -1 if name == "ece" else 1
    scores = [
        np.mean([np.sort(sign * figure(name, s, seed))[:k].mean() for seed in range(2)])
        for s in STUDENTS
    ]
    outcome = Rule(metric=name, worst_k=k, margin="1").assess(load(tmp_path))
    chosen = STUDENTS[int(np.argmax(scores))]
    assert outcome.selection.combinations.run_ids(outcome.selection.selected)[0] == f"{chosen}-0"
    found = outcome.measured
    assert found is not None
    for split, own in (("val", found.val), ("test", found.test)):
        of_seeds = [figure(name, chosen, seed, split) for seed in range(2)]
        expected = [*np.mean(of_seeds, axis=0)]
        expected += [np.mean([sign * np.sort(sign * f)[:k].mean() for f in of_seeds])]
        np.testing.assert_allclose(own.selected, [*expected, np.mean(of_seeds)], atol=1e-12)
        assert (own.interval[0] <= own.selected + 1e-9).all()
        assert (own.selected <= own.interval[1] + 1e-9).all()


def test_the_constraint_is_that_of_the_default_rule(tmp_path: Path) -> None:
    world(tmp_path)
    runs = load(tmp_path)
    default = Rule(shifts=False, margin="0.01").assess(runs).selection
    other = Rule(metric="f1", margin="0.01").assess(runs).selection
    assert default.admitted.tolist() == other.admitted.tolist()
    np.testing.assert_array_equal(default.shortfall, other.shortfall)


def test_recall_is_the_default_rule(tmp_path: Path) -> None:
    assert Rule(metric="recall").resolve(["a", "b"]) == Rule().resolve(["a", "b"])


def test_images_are_drawn_within_classes_and_the_same_for_all_students(tmp_path: Path) -> None:
    weights = bootstrap(LABELS, 50)
    for label in range(CLASSES):
        assert (weights[:, label == LABELS].sum(axis=1) == IMAGES // CLASSES).all()
    assert weights.min() == 0
    np.testing.assert_array_equal(weights, bootstrap(LABELS, 50))
    world(tmp_path, seeds=2)
    rule = Rule(metric="f1").resolve(["0", "1", "2"])
    assert isinstance(rule, ByMetric)
    scores = with_scores(combine(load(tmp_path).students), load(tmp_path), rule).scores
    assert scores is not None
    weights = bootstrap(LABELS, len(scores.drawn))
    place = [0, 1, 2, 3].index(2)
    drawn = []
    for seed in range(2):
        rows = []
        for weight in weights[:3]:
            taken = np.repeat(np.arange(IMAGES), weight.astype(int))
            named = logits_of(0.5, seed, "val").argmax(1)[taken]
            one = Sample(LABELS[taken], CLASSES, named)
            rows.append(find("f1").evaluate(one, np.ones((1, len(taken))))[0].min())
        drawn.append(rows)
    c = combine(load(tmp_path).students)
    place = [c.run_ids(i)[0] for i in range(4)].index("0.5-0")
    np.testing.assert_allclose(scores.drawn[:3, place], np.mean(drawn, axis=0), rtol=1e-5)
    np.testing.assert_allclose(scores.centered.mean(axis=0), scores.values)


def test_the_choice_does_not_depend_on_test_predictions(tmp_path: Path) -> None:
    world(tmp_path)
    before = select(tmp_path, metric="auroc")
    for path in (tmp_path / "predictions" / "test").iterdir():
        path.unlink()
    after = select(tmp_path, metric="auroc")
    assert before.selected == after.selected


def run(results: Path, *options: str) -> int:
    return select.main([str(results), "--no-figures", *options])


def test_the_command_prints_and_writes_the_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world(tmp_path)
    (tmp_path / "costs.csv").write_text("0,1,5\n1,0,5\n9,9,0\n")
    options = "--cost-matrix", str(tmp_path / "costs.csv"), "--margin", "1"
    assert run(tmp_path, *options, "--tables", str(tmp_path / "tables")) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Worst-class cost" in printed
    assert "lower is better" in printed
    content = json.loads((tmp_path / "selection.json").read_bytes())
    assert content["criterion"]["metric"] == "cost"
    assert len(content["criterion"]["cost_matrix_sha256"]) == 64
    assert content["metric"]["lower_is_better"] is True
    assert content["metric"]["rows"] == ["airplane", "automobile", "bird", "worst", "average"]
    table = (tmp_path / "tables" / "metric.md").read_text()
    assert "cost (lower is better)" in table
    assert report([str(tmp_path), *options]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "<strong>lower is better</strong>" in page
    assert "By cost" in page
    # other costs, another answer
    (tmp_path / "costs.csv").write_text("0,1,1\n1,0,1\n1,1,0\n")
    assert run(tmp_path, *options) == 0
    again = json.loads((tmp_path / "selection.json").read_bytes())
    assert again["criterion"]["cost_matrix_sha256"] != content["criterion"]["cost_matrix_sha256"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metric", "precison"], "unknown --metric 'precison': did you mean precision"),
        (["--metric", "top-3"], "needs more than 3 classes"),
        (["--metric", "top-0"], "unknown --metric"),
        (["--metric", "cost"], "--metric cost needs --cost-matrix FILE"),
        (["--metric", "f1", "--cost-matrix", "c.csv"], "is for --metric cost"),
        (["--metric", "f1", "--weight", "0.5"], "exclude each other"),
        (["--metric", "f1", "--tolerance", "0.1"], "--metric excludes --tolerance"),
        (["--metric", "f1", "--target-regret", "0.01"], "leave out --metric"),
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
    assert not (tmp_path / "selection.json").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.csv", "0,1\n1,0\n", "is 2 x 2, and there are 3 classes"),
        ("c.csv", "0,1,2\n1,0,2\n", "must have as many rows as columns, not 2 x 3"),
        ("c.csv", "0,1,nan\n1,0,2\n1,1,0\n", "row 1, column 3 must be a finite number"),
        ("c.csv", "0,a,1\n1,0,2\n1,1,0\n", "must hold numbers only"),
        ("c.json", "[[0, 1], [1]]", "must hold numbers only"),
        ("c.json", "{", "must hold numbers only"),
        ("c.npy", "no array", "must hold numbers only"),
        ("c.txt", "0", "must end in .csv, .json or .npy"),
    ],
)
def test_wrong_costs_end_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str,
    message: str,
) -> None:
    world(tmp_path)
    (tmp_path / name).write_text(content)
    assert run(tmp_path, "--metric", "cost", "--cost-matrix", str(tmp_path / name)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("kind", ["json", "npy"])
def test_costs_of_other_files(tmp_path: Path, kind: str) -> None:
    world(tmp_path)
    matrix, path = 1 - np.eye(3), tmp_path / f"c.{kind}"
    if kind == "npy":
        np.save(path, matrix)
    else:
        path.write_text(json.dumps(matrix.tolist()))
    found = Rule(cost_matrix=path).assess(load(tmp_path)).measured
    recall = Rule(metric="f1").assess(load(tmp_path)).selection.combinations.recalls()
    assert found is not None
    reference = found.val.standard[:3]
    np.testing.assert_allclose(reference, 1 - recall[0])  # with costs of 1, the error rate


def test_top_predictions_suffice_for_some_metrics_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world(tmp_path, kept="top")
    assert run(tmp_path, "--metric", "f1") == 0
    assert run(tmp_path, "--metric", "top-2") == 0
    capsys.readouterr()
    assert run(tmp_path, "--metric", "auroc") == 2
    error = capsys.readouterr().err
    assert "needs the logits of all classes" in error
    assert f"python -m sweeps.predict {tmp_path} --keep-predictions full" in error


def test_missing_and_foreign_predictions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world(tmp_path / "a")
    (tmp_path / "a" / "predictions" / "val" / "0.5-0.parquet").unlink()
    assert run(tmp_path / "a", "--metric", "f1") == 2
    assert f"python -m sweeps.predict {tmp_path / 'a'}" in capsys.readouterr().err
    world(tmp_path / "b", fingerprint="other data")
    assert run(tmp_path / "b", "--metric", "f1") == 2
    assert "predictions for another data set" in capsys.readouterr().err


def test_metrics_need_a_results_folder(tmp_path: Path) -> None:
    world(tmp_path)
    table = pq.read_table(next((tmp_path / "records").glob("*.parquet")))
    with pytest.raises(UserError, match="give the results folder"):
        select(table, metric="f1")
    with pytest.raises(UserError, match="metric excludes criterion"):
        select(tmp_path, Rule().resolve(["a", "b", "c"]), metric="f1")
